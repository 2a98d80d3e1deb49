//! Replicas whose next entry the others have dropped: filled by a snapshot, byte by byte the same,
//! whatever happens on the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use machine::BatchBuilder;
use model::{BrokerId, GroupId, TopicId};
use node::metadata::{CreateTopic, Listener, Request, Response};
use node::{InitialBroker, Node, NodeConfig, TransferView};

const DEADLINE: Duration = Duration::from_secs(40);
const SEGMENT_BYTES: usize = 1 << 20;
const BATCH_BYTES: usize = 200 << 10;

/// Three brokers in one process, each of which may be absent.
struct Trio {
    dir: tempfile::TempDir,
    ports: Vec<u16>,
    bytes_per_second: u64,
    nodes: Vec<Option<Arc<Node>>>,
}

impl Trio {
    fn new() -> Trio {
        let bind = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let held: Vec<_> = (0..3).map(bind).collect();
        let ports = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let dir = tempfile::tempdir().unwrap();
        Trio { dir, ports, bytes_per_second: 1 << 30, nodes: vec![None, None, None] }
    }

    fn data_dir(&self, at: usize) -> PathBuf {
        self.dir.path().join((at + 1).to_string())
    }

    fn start(&mut self, at: usize) {
        let id = BrokerId(at as i32 + 1);
        let listen = format!("127.0.0.1:{}", self.ports[at]);
        let mut cfg = NodeConfig::new(id, self.data_dir(at), listen);
        cfg.disk_reserve_bytes = 0;
        cfg.journal_bytes_max = 160 << 20;
        cfg.retention_check_ms = 100;
        cfg.retention_waits_ms = 1_000;
        cfg.snapshot_bytes_per_second = self.bytes_per_second;
        let defaults =
            [("log.segment.bytes", SEGMENT_BYTES), ("log.retention.bytes", 3 * SEGMENT_BYTES)];
        cfg.defaults = defaults.map(|(name, value)| (name.into(), value.to_string())).into();
        let host = "127.0.0.1".into();
        cfg.listeners = vec![Listener { name: "PLAINTEXT".into(), host, port: 9092 }];
        let brokers = self.ports.iter().enumerate();
        cfg.peers = brokers
            .map(|(at, port)| InitialBroker {
                id: BrokerId(at as i32 + 1),
                address: format!("127.0.0.1:{port}"),
            })
            .collect();
        self.nodes[at] = Some(Node::start(cfg).unwrap());
    }

    fn node(&self, at: usize) -> &Arc<Node> {
        self.nodes[at].as_ref().expect("it runs")
    }

    fn running(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().flatten()
    }

    async fn stop(&mut self, at: usize) {
        let node = self.nodes[at].take().expect("it runs");
        let clean = node.shutdown(DEADLINE, |line| eprintln!("{}: {line}", node.broker_id())).await;
        assert!(clean, "broker {} did not stop in order", node.broker_id());
    }

    async fn stop_all(&mut self) {
        for at in 0..3 {
            if self.nodes[at].is_some() {
                self.stop(at).await;
            }
        }
    }

    async fn ready(&self) {
        for node in self.running() {
            until("readiness", || node.readiness().ready.then_some(())).await;
        }
    }

    async fn leader(&self, group: GroupId) -> Arc<Node> {
        let leads = |node: &&Arc<Node>| node.view(group).is_some_and(|view| view.state().serving);
        until("a leader", || self.running().find(leads).cloned()).await
    }

    async fn create(&self) -> GroupId {
        let request = Request::CreateTopic(CreateTopic {
            name: "t".into(),
            id: TopicId([7; 16]),
            partitions: 1,
            replication_factor: 3,
            assignments: Vec::new(),
            configs: BTreeMap::new(),
            validate_only: false,
            default_partitions: 1,
            default_replication_factor: 3,
            internal_replication_factor: 3,
        });
        let node = self.running().next().unwrap();
        let response = node.metadata(request, DEADLINE).await.unwrap();
        let Response::TopicCreated { id, .. } = response else { panic!("{response:?}") };
        node.image().topic_by_id(id).unwrap().partitions[0].group
    }

    /// Writes so many segments.
    async fn produce(&self, group: GroupId, segments: usize) {
        let leader = self.leader(group).await;
        for n in 0..segments * SEGMENT_BYTES / BATCH_BYTES {
            let value: Vec<u8> = (0..BATCH_BYTES).map(|at| (at * 31 + n) as u8).collect();
            let batch = BatchBuilder::new(now_ms()).value(&value).build();
            leader.produce(group, batch, None, -1, DEADLINE).await.answer().await.unwrap();
        }
    }

    /// Produces until the leader has dropped what `below` is.
    async fn pass(&self, group: GroupId, below: i64) {
        let leader = self.leader(group).await;
        let started = Instant::now();
        while leader.view(group).unwrap().state().log_start <= below {
            assert!(started.elapsed() < DEADLINE, "the log start does not move");
            self.produce(group, 1).await;
        }
    }

    /// Waits until a broker's replica is in sync and has all.
    async fn in_sync(&self, group: GroupId, at: usize) {
        let id = BrokerId(at as i32 + 1);
        until("a replica in sync", || {
            let leader = self.running().find(|node| {
                let view = node.view(group);
                view.is_some_and(|view| view.state().serving)
            })?;
            let known = leader.leader(group)?;
            let end = |node: &Node| Some(node.view(group)?.state().high_watermark);
            (known.isr.contains(&id) && end(self.node(at)) == end(leader)).then_some(())
        })
        .await;
    }

    fn transfer(&self, at: usize, group: GroupId) -> Option<TransferView> {
        self.node(at).status().transfers.into_iter().find(|transfer| transfer.group == group.0)
    }

    /// Every replica has the same files from the newest log start on.
    fn expect_same(&self, group: GroupId) {
        let all: Vec<_> = (0..3).map(|at| segments(&self.data_dir(at), group)).collect();
        for (at, files) in all.iter().enumerate() {
            let sizes: Vec<_> = files.iter().map(|(name, bytes)| (name, bytes.len())).collect();
            eprintln!("{} {:?} {sizes:?}", at + 1, self.homes(at, group));
        }
        let newest = all.iter().map(|files| files.keys().next().unwrap()).max().unwrap().clone();
        assert!(all[0].len() > 1, "{:?}", all[0].keys());
        for files in &all[1..] {
            let names: Vec<_> = files.keys().filter(|name| **name >= newest).collect();
            let first: Vec<_> = all[0].keys().filter(|name| **name >= newest).collect();
            assert_eq!(names, first);
            assert!(names.iter().all(|name| files[*name] == all[0][*name]), "bytes differ");
        }
    }

    /// Where a group's segments are.
    fn homes(&self, at: usize, group: GroupId) -> Vec<String> {
        let names = std::fs::read_dir(self.data_dir(at).join("partitions")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let id = group.0.to_string();
        let mut homes: Vec<String> = names.filter(|n| n.split(".s").next() == Some(&id)).collect();
        homes.sort();
        homes
    }
}

/// Contents of a group's batches by file name, in whatever home.
fn segments(data_dir: &Path, group: GroupId) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for home in std::fs::read_dir(data_dir.join("partitions")).unwrap() {
        let home = home.unwrap();
        let name = home.file_name().into_string().unwrap();
        if name.split(".s").next() != Some(group.0.to_string().as_str()) {
            continue;
        }
        for file in std::fs::read_dir(home.path()).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            if name.ends_with(".log") {
                found.insert(name, std::fs::read(file.path()).unwrap());
            }
        }
    }
    found
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "{what} did not happen in {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

/// A runtime of the test's own.
fn on_runtime(story: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(story);
}

/// Three brokers, a topic of which the third one misses all that the others kept.
async fn left_behind() -> (Trio, GroupId) {
    let mut trio = Trio::new();
    (0..3).for_each(|at| tokio::task::block_in_place(|| trio.start(at)));
    trio.ready().await;
    let group = trio.create().await;
    trio.produce(group, 2).await;
    trio.in_sync(group, 2).await;
    let had = trio.node(2).view(group).unwrap().state().high_watermark;
    trio.stop(2).await;
    trio.pass(group, had).await;
    (trio, group)
}

#[test]
fn a_replica_behind_the_log_start_is_filled_by_a_snapshot() {
    on_runtime(async {
        let (mut trio, group) = left_behind().await;
        tokio::task::block_in_place(|| trio.start(2));
        trio.in_sync(group, 2).await;
        trio.produce(group, 2).await;
        trio.in_sync(group, 2).await;
        let homes = trio.homes(2, group);
        assert!(homes.len() == 1 && homes[0].contains(".s"), "{homes:?}");
        trio.stop_all().await;
        trio.expect_same(group);
        // What was filled is whole: it comes back, and goes on.
        (0..3).for_each(|at| tokio::task::block_in_place(|| trio.start(at)));
        trio.ready().await;
        trio.produce(group, 1).await;
        trio.in_sync(group, 2).await;
        trio.stop_all().await;
        trio.expect_same(group);
        assert_eq!(trio.homes(2, group), homes);
    });
}

#[test]
fn a_transfer_goes_on_where_a_restart_of_its_receiver_interrupted_it() {
    on_runtime(async {
        let (mut trio, group) = left_behind().await;
        trio.bytes_per_second = 1 << 20;
        tokio::task::block_in_place(|| trio.start(2));
        let half = |transfer: &TransferView| transfer.bytes > (1 << 20);
        until("half of a transfer", || trio.transfer(2, group).filter(half)).await;
        trio.stop(2).await;
        tokio::task::block_in_place(|| trio.start(2));
        let fetching = |transfer: &TransferView| transfer.stage == "fetching";
        let transfer = until("another one", || trio.transfer(2, group).filter(fetching)).await;
        assert!(transfer.resumed >= 1_000_000, "it began anew: {transfer:?}");
        trio.in_sync(group, 2).await;
        trio.stop_all().await;
        trio.expect_same(group);
        assert_eq!(trio.homes(2, group).len(), 1);
    });
}

#[test]
fn a_transfer_whose_source_goes_away_is_ended_by_the_next_leader() {
    on_runtime(async {
        let (mut trio, group) = left_behind().await;
        trio.bytes_per_second = 1 << 20;
        tokio::task::block_in_place(|| trio.start(2));
        // The next leader's retention may drop the oldest segment: two are to be there.
        let most = |transfer: &TransferView| transfer.bytes > (5 << 19);
        let transfer = until("most of it", || trio.transfer(2, group).filter(most)).await;
        let transfer_from = transfer.from_broker;
        let source = transfer_from as usize - 1;
        trio.stop(source).await;
        let other = |transfer: &TransferView| {
            transfer.from_broker != transfer_from && transfer.stage == "fetching"
        };
        let again = until("another source", || trio.transfer(2, group).filter(other)).await;
        assert!(again.resumed >= 1_000_000, "the same batches are fetched again: {again:?}");
        trio.in_sync(group, 2).await;
        trio.produce(group, 1).await;
        tokio::task::block_in_place(|| trio.start(source));
        trio.in_sync(group, source).await;
        trio.stop_all().await;
        trio.expect_same(group);
    });
}

#[test]
fn a_wiped_disk_behind_the_log_start_is_filled_as_a_new_replica() {
    on_runtime(async {
        let (mut trio, group) = left_behind().await;
        std::fs::remove_dir_all(trio.data_dir(2)).unwrap();
        tokio::task::block_in_place(|| trio.start(2));
        trio.in_sync(group, 2).await;
        trio.produce(group, 1).await;
        trio.in_sync(group, 2).await;
        trio.stop_all().await;
        trio.expect_same(group);
    });
}
