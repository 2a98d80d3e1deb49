//! Replicas that cannot be trusted or used are replaced without help, and only while a majority
//! is sound without them; a death at any point in between is gone on from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use machine::BatchBuilder;
use machine::metadata::{CreateTopic, Listener, Partition, Placing, Request, Response};
use model::{BrokerId, GroupId, ReplicaId, TopicId};

use crate::datadir::layout;
use crate::manifest::Manifest;
use crate::rebuild_tests::{DEADLINE, until};
use crate::shard::{Input, MemberStatus};
use crate::{InitialBroker, Node, NodeConfig};

struct Three {
    dir: tempfile::TempDir,
    ports: Vec<u16>,
    nodes: Vec<Option<Arc<Node>>>,
    group: GroupId,
    written: i64,
}

impl Three {
    async fn new() -> Three {
        let bind = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let held: Vec<_> = (0..3).map(bind).collect();
        let ports = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(held);
        let dir = tempfile::tempdir().unwrap();
        let group = GroupId(0);
        let mut three = Three { dir, ports, nodes: vec![None, None, None], group, written: 0 };
        for at in 0..3 {
            three.start(at, &three.home(at)).await;
        }
        for at in 0..3 {
            until("readiness", || three.node(at).readiness().ready).await;
        }
        let create = Request::CreateTopic(CreateTopic {
            name: "healed".into(),
            id: TopicId([9; 16]),
            partitions: 1,
            replication_factor: 3,
            assignments: Vec::new(),
            configs: BTreeMap::new(),
            validate_only: false,
            default_partitions: 1,
            default_replication_factor: 3,
            internal_replication_factor: 3,
        });
        let response = three.node(0).metadata(create, DEADLINE).await.unwrap();
        assert!(matches!(response, Response::TopicCreated { .. }), "{response:?}");
        three.group = three.placement().group;
        three.produce(20).await;
        three
    }

    fn home(&self, at: usize) -> PathBuf {
        self.dir.path().join((at + 1).to_string())
    }

    /// Node::start blocks on a runtime of its own, so it needs a thread without one.
    async fn start(&mut self, at: usize, home: &Path) {
        let id = BrokerId(at as i32 + 1);
        let address = |port: &u16| format!("127.0.0.1:{port}");
        let mut cfg = NodeConfig::new(id, home.to_owned(), address(&self.ports[at]));
        cfg.disk_reserve_bytes = 0;
        cfg.journal_bytes_max = 160 << 20;
        let (name, host) = ("PLAINTEXT".into(), "127.0.0.1".into());
        cfg.listeners = vec![Listener { name, host, port: 9092 }];
        let peers = self.ports.iter().enumerate();
        let peer =
            |(at, port)| InitialBroker { id: BrokerId(at as i32 + 1), address: address(port) };
        cfg.peers = peers.map(peer).collect();
        let start = move || Node::start(cfg).unwrap();
        let started = telemetry::task::spawn_blocking("start", start);
        self.nodes[at] = Some(started.await.unwrap());
    }

    async fn stop(&mut self, at: usize) {
        let node = self.nodes[at].take().unwrap();
        assert!(node.shutdown(DEADLINE, |_| ()).await);
    }

    async fn end(mut self) {
        for at in 0..3 {
            if self.nodes[at].is_some() {
                self.stop(at).await;
            }
        }
    }

    fn node(&self, at: usize) -> &Arc<Node> {
        self.nodes[at].as_ref().unwrap()
    }

    /// As the first broker that runs sees it.
    fn placement(&self) -> Partition {
        let node = self.nodes.iter().flatten().next().unwrap();
        node.image().topic("healed").unwrap().partitions[0].clone()
    }

    fn placed(&self, at: usize) -> ReplicaId {
        let replicas = self.placement().replicas;
        replicas.iter().find(|r| r.broker == BrokerId(at as i32 + 1)).unwrap().replica
    }

    fn status(&self, at: usize) -> MemberStatus {
        self.node(at).view(self.group).map(|view| view.status()).unwrap_or_default()
    }

    fn leads(&self, at: usize) -> bool {
        let serves = |node: &Arc<Node>| node.view(self.group).is_some_and(|v| v.state().serving);
        self.nodes[at].as_ref().is_some_and(serves)
    }

    async fn leader(&self) -> usize {
        until("a leader", || (0..3).any(|at| self.leads(at))).await;
        (0..3).find(|at| self.leads(*at)).unwrap()
    }

    async fn follower(&self) -> usize {
        (self.leader().await + 1) % 3
    }

    async fn distrust(&self, at: usize) {
        let group = self.group;
        self.node(at).plumbing.shards.of(group).tell(Input::Distrust { group }).await;
    }

    async fn produce(&mut self, count: i64) {
        for _ in 0..count {
            let leader = self.leader().await;
            let batch = BatchBuilder::new(1_000).value(&[7; 1_000]).build();
            let ask = self.node(leader).produce(self.group, batch, None, -1, DEADLINE).await;
            assert_eq!(ask.answer().await.unwrap().base_offset, self.written);
            self.written += 1;
        }
    }

    /// A replica other than `old` has its place, votes, and has all that was written.
    async fn healed(&self, at: usize, old: ReplicaId) {
        let new = || {
            let status = self.status(at);
            let placement = self.placement();
            let votes = status.voters.contains(&status.replica) && !status.suspect;
            let whole = status.next_offset == self.written;
            let own = self.placed(at);
            votes && whole && own != old && status.replica == own.0 && placement.removing.is_empty()
        };
        until("a new replica in its place", new).await;
        let voters = self.status(at).voters;
        assert!(voters.len() == 3 && !voters.contains(&old.0), "{voters:?}");
        assert_eq!(self.status(at).target.len(), 3, "it knows its placement, should it lead");
        assert_eq!(self.node(at).plumbing.gauges.suspects(), 0);
        assert!(self.node(at).status().quarantined.is_empty());
    }
}

fn run(story: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(story);
}

#[test]
fn a_suspect_replica_gets_a_new_id_catches_up_and_counts() {
    run(async {
        let mut three = Three::new().await;
        let at = three.follower().await;
        let old = three.placed(at);
        // As if its disk had forgotten the newest entries.
        three.stop(at).await;
        let path = three.home(at).join(layout::MANIFEST);
        let mut manifest = Manifest::decode(&std::fs::read(&path).unwrap()).unwrap();
        let end = manifest.groups.iter_mut().find(|end| end.group == three.group.0).unwrap();
        end.last_index += 2;
        end.durable += 2;
        end.acked = end.durable;
        std::fs::write(&path, manifest.encode()).unwrap();
        three.produce(10).await;
        three.start(at, &three.home(at)).await;
        three.healed(at, old).await;
        let placement = three.placement();
        assert_eq!(placement.epoch, 2, "one renewal, one departure: {placement:?}");
        // Asked again for what is gone, nothing moves.
        let renew = Placing::Renew { group: three.group, replica: old };
        let again = three.node(at).metadata(Request::Place(renew), DEADLINE).await.unwrap();
        assert!(again.rejection().is_some(), "{again:?}");
        assert_eq!(three.placement(), placement);
        // With one of the others gone it is of the majority that acknowledges.
        let gone = (0..3).find(|other| *other != at && three.leads(*other));
        three.stop(gone.unwrap_or((at + 1) % 3)).await;
        three.produce(5).await;
        three.end().await;
    });
}

#[test]
fn with_two_of_three_suspect_nothing_is_thrown_away() {
    run(async {
        let mut three = Three::new().await;
        let leader = three.leader().await;
        let before = three.placement();
        for at in (0..3).filter(|at| *at != leader) {
            three.distrust(at).await;
        }
        let suspects = |three: &Three| (0..3).filter(|at| three.status(*at).suspect).count();
        until("suspicion", || suspects(&three) == 2).await;
        // Long enough to be asked for three times.
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(three.placement(), before);
        assert_eq!(suspects(&three), 2, "named all the while");
        three.produce(5).await;
        three.end().await;
    });
}

#[test]
fn a_death_on_the_way_is_gone_on_from() {
    run(async {
        let mut three = Three::new().await;
        // Renewed, and the old one is on the disk still.
        let at = three.follower().await;
        let old = three.placed(at);
        three.stop(at).await;
        let renew = Placing::Renew { group: three.group, replica: old };
        let other = three.leader().await;
        for _ in 0..2 {
            let renew = Request::Place(renew.clone());
            let answer = three.node(other).metadata(renew, DEADLINE).await.unwrap();
            assert_eq!(answer, Response::Placed);
        }
        three.start(at, &three.home(at)).await;
        three.healed(at, old).await;
        three.produce(5).await;
        // Gone by the journal's word, and the new one has not begun: what a kill would leave is
        // what is on disk now, long before a checkpoint forgets the old one.
        let old = three.placed(at);
        let at_once = three.leader().await;
        let at = if at_once == at { (at + 1) % 3 } else { at };
        let old = if at_once == at { old } else { three.placed(at) };
        three.distrust(at).await;
        until("a renewal", || three.placed(at) != old).await;
        let renewed = || three.node(at).image().topic("healed").unwrap().partitions[0].epoch;
        until("the renewal here", || renewed() == three.placement().epoch).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let copy = three.dir.path().join("copy");
        copy_all(&three.home(at), &copy);
        assert!(three.placement().removing.iter().any(|r| r.replica == old), "too late to tell");
        three.stop(at).await;
        three.start(at, &copy).await;
        three.healed(at, old).await;
        three.produce(5).await;
        three.end().await;
    });
}

#[test]
fn a_replica_that_cannot_be_put_together_is_replaced() {
    run(async {
        let mut three = Three::new().await;
        let at = three.follower().await;
        let old = three.placed(at);
        three.stop(at).await;
        let dir = three.home(at).join(layout::PARTITIONS).join(three.group.to_string());
        let files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let log = files.into_iter().find(|path| path.extension().is_some_and(|e| e == "log"));
        std::fs::write(log.expect("a segment"), b"").unwrap();
        three.start(at, &three.home(at)).await;
        let named = three.node(at).status().quarantined;
        assert_eq!(named.len(), 1, "{named:?}");
        three.healed(at, old).await;
        three.produce(5).await;
        three.end().await;
    });
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &target),
            false => _ = std::fs::copy(entry.path(), &target).unwrap(),
        }
    }
}
