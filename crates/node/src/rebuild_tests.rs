//! A panic inside one group: the broker and its other groups live, the group is rebuilt from the
//! journal once, and the second time it stays out, named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use machine::BatchBuilder;
use machine::metadata::{CreateTopic, Listener, Request, Response};
use model::{BrokerId, ErrorCode, GroupId, TopicId};
use telemetry::metrics;

use crate::shard::Input;
use crate::{InitialBroker, Node, NodeConfig};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn until(what: &str, look: impl Fn() -> bool) {
    let started = Instant::now();
    while !look() {
        assert!(started.elapsed() < DEADLINE, "{what} did not happen in {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn alone(dir: &std::path::Path) -> Arc<Node> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let mut cfg = NodeConfig::new(BrokerId(1), dir.join("1"), address.clone());
    cfg.peers = vec![InitialBroker { id: BrokerId(1), address }];
    cfg.listeners =
        vec![Listener { name: "PLAINTEXT".into(), host: "127.0.0.1".into(), port: 9092 }];
    cfg.disk_reserve_bytes = 0;
    cfg.journal_bytes_max = 160 << 20;
    Node::start(cfg).unwrap()
}

pub(crate) async fn create(node: &Node) -> Vec<GroupId> {
    create_topic(node, "panics", 7, 2).await
}

pub(crate) async fn create_topic(node: &Node, name: &str, id: u8, partitions: i32) -> Vec<GroupId> {
    let request = Request::CreateTopic(CreateTopic {
        name: name.into(),
        id: TopicId([id; 16]),
        partitions,
        replication_factor: 1,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
        validate_only: false,
        default_partitions: 1,
        default_replication_factor: 1,
        internal_replication_factor: 1,
    });
    let response = node.metadata(request, DEADLINE).await.unwrap();
    assert!(matches!(response, Response::TopicCreated { .. }), "{response:?}");
    let image = node.image();
    image.topic(name).unwrap().partitions.iter().map(|partition| partition.group).collect()
}

pub(crate) async fn produce(node: &Node, group: GroupId) -> Result<i64, ErrorCode> {
    let batch = BatchBuilder::new(1).value(b"x").build();
    let ask = node.produce(group, batch, None, -1, DEADLINE).await;
    ask.answer().await.map(|produced| produced.base_offset).map_err(|refusal| refusal.code)
}

pub(crate) async fn serving(node: &Node, group: GroupId) {
    let serves = || node.view(group).is_some_and(|view| view.state().serving);
    until("serving", serves).await;
}

#[test]
fn a_panic_stays_in_its_group_which_is_rebuilt_once() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = alone(dir.path());
    runtime.block_on(async {
        until("readiness", || node.readiness().ready).await;
        let groups = create(&node).await;
        for group in &groups {
            serving(&node, *group).await;
            for offset in 0..5 {
                assert_eq!(produce(&node, *group).await, Ok(offset));
            }
        }
        let plant = |group| async move { Input::Panic { group } };
        let shard = node.plumbing.shards.of(groups[0]);
        let rebuilt_before = metrics().groups_rebuilt_total.get();
        shard.tell(plant(groups[0]).await).await;
        // Counted, for the time out of service may be shorter than any look at it.
        until("a rebuild", || metrics().groups_rebuilt_total.get() > rebuilt_before).await;
        assert_eq!(produce(&node, groups[1]).await, Ok(5), "the other group never noticed");
        serving(&node, groups[0]).await;
        assert_eq!(produce(&node, groups[0]).await, Ok(5), "nothing was lost or repeated");
        shard.tell(plant(groups[0]).await).await;
        until("quarantine", || {
            node.status().quarantined.iter().any(|trouble| trouble.why.contains("a planted panic"))
        })
        .await;
        assert_eq!(produce(&node, groups[0]).await, Err(ErrorCode::KafkaStorageError));
        assert_eq!(produce(&node, groups[1]).await, Ok(6));
        assert!(node.shutdown(DEADLINE, |_| ()).await);
    });
}
