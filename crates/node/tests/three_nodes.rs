//! Three brokers in one process: formed, a topic made, batches through raft, read back, all
//! after a restart again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use machine::BatchBuilder;
use model::{BrokerId, GroupId, TopicId};
use node::metadata::{CreateTopic, Listener, Request, Response};
use node::{InitialBroker, Node, NodeConfig};

const DEADLINE: Duration = Duration::from_secs(20);

fn free_ports(count: usize) -> Vec<u16> {
    let bind = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held: Vec<_> = (0..count).map(bind).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn start(dir: &Path, ports: &[u16], at: usize) -> Arc<Node> {
    let id = BrokerId(at as i32 + 1);
    let listen = format!("127.0.0.1:{}", ports[at]);
    let mut cfg = NodeConfig::new(id, dir.join(id.to_string()), listen);
    cfg.disk_reserve_bytes = 0;
    cfg.journal_bytes_max = 160 << 20;
    cfg.listeners =
        vec![Listener { name: "PLAINTEXT".into(), host: "127.0.0.1".into(), port: 9092 }];
    let brokers = ports.iter().enumerate();
    cfg.peers = brokers
        .map(|(at, port)| InitialBroker {
            id: BrokerId(at as i32 + 1),
            address: format!("127.0.0.1:{port}"),
        })
        .collect();
    Node::start(cfg).unwrap()
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "{what} did not happen in {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn serving(nodes: &[Arc<Node>], group: GroupId) -> Arc<Node> {
    until("a leader", || {
        let leads = |node: &&Arc<Node>| node.view(group).is_some_and(|view| view.state().serving);
        nodes.iter().find(leads).cloned()
    })
    .await
}

async fn produce(nodes: &[Arc<Node>], group: GroupId, count: i64) {
    let leader = serving(nodes, group).await;
    for n in 0..count {
        let batch = BatchBuilder::new(1_000).value(format!("value {n}").as_bytes()).build();
        let ask = leader.produce(group, batch, None, -1, DEADLINE).await;
        let produced = ask.answer().await.unwrap();
        assert!(produced.base_offset >= n);
    }
}

async fn read_all(nodes: &[Arc<Node>], group: GroupId, records: i64) {
    let leader = serving(nodes, group).await;
    let guarded = leader.guard(group, DEADLINE).await.unwrap();
    assert_eq!(guarded.high_watermark, records);
    let view = leader.view(group).unwrap();
    let mut offset = 0;
    while offset < records {
        let batches = leader.read(&view, offset, 1 << 20).await.unwrap();
        assert!(!batches.is_empty(), "nothing at {offset}");
        for run in batches {
            let mut rest = &run[..];
            while !rest.is_empty() {
                let end = machine::end_offset_of(rest);
                assert_eq!(end, offset + 1, "offsets follow each other");
                offset = end;
                let length = i32::from_be_bytes(rest[8..12].try_into().unwrap());
                rest = &rest[12 + length as usize..];
            }
        }
    }
}

async fn stop(nodes: Vec<Arc<Node>>) {
    for node in nodes {
        let clean = node.shutdown(DEADLINE, |line| eprintln!("{}: {line}", node.broker_id())).await;
        assert!(clean, "broker {} did not stop in order", node.broker_id());
    }
}

async fn create(node: &Arc<Node>, replication_factor: i16) -> Vec<GroupId> {
    let request = Request::CreateTopic(CreateTopic {
        name: format!("topic-{replication_factor}"),
        id: TopicId([replication_factor as u8; 16]),
        partitions: 3,
        replication_factor,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
        validate_only: false,
        default_partitions: 1,
        default_replication_factor: 3,
        internal_replication_factor: 3,
    });
    let response = node.metadata(request, DEADLINE).await.unwrap();
    let Response::TopicCreated { id, .. } = response else { panic!("{response:?}") };
    let image = node.image();
    image.topic_by_id(id).unwrap().partitions.iter().map(|partition| partition.group).collect()
}

#[test]
fn three_brokers_form_a_cluster_replicate_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let ports = free_ports(3);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begin = || (0..3).map(|at| start(dir.path(), &ports, at)).collect::<Vec<_>>();
    let nodes = begin();
    let groups = runtime.block_on(async {
        for node in &nodes {
            until("readiness", || node.readiness().ready.then_some(())).await;
        }
        let mut groups = create(&nodes[1], 3).await;
        groups.extend(create(&nodes[2], 1).await);
        for group in &groups {
            produce(&nodes, *group, 50).await;
            read_all(&nodes, *group, 50).await;
        }
        stop(nodes).await;
        groups
    });
    let nodes = begin();
    runtime.block_on(async {
        for group in &groups {
            read_all(&nodes, *group, 50).await;
            produce(&nodes, *group, 20).await;
            read_all(&nodes, *group, 70).await;
        }
        stop(nodes).await;
    });
}
