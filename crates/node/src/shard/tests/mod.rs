//! Three shards, one group, every write and message in the test's hands: when a producer hears
//! of its batch, and when producers are forgotten.

mod admin;
mod groups;
mod replicas;
mod snapshots;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use machine::BatchBuilder;
use machine::config::TopicConfig;
use model::{DirectoryId, LogEntry, RaftEntryType, TopicId};

use super::*;

const GROUP: GroupId = GroupId(7);
const EXPIRATION_MS: u64 = 60_000;
/// Producers below wrote to a deleted topic of the same name, perhaps.
const PRODUCERS_BEFORE: i64 = 60;

struct Trio {
    shards: Vec<Shard<u32>>,
    /// Writes that are not durable yet, by shard.
    unsynced: Vec<Vec<u64>>,
    /// Shards whose disk hangs; shards that nobody reaches.
    slow: Vec<bool>,
    cut: Vec<bool>,
    now_ms: u64,
    answers: BTreeMap<u32, Answer>,
    /// Kinds of the entries the first shard wrote.
    written: Vec<model::EntryKind>,
    /// What the segment threads were given, by shard, and the snapshots that arrived.
    segments: Vec<Vec<SegmentWork>>,
    snapshots: Vec<SnapshotIn>,
    truncated_from: Option<u64>,
    /// Records that the shards say were committed.
    counted: u64,
}

impl Trio {
    fn new(min_insync: usize) -> Trio {
        Trio::of(GroupKind::Partition, min_insync)
    }

    fn of(kind: GroupKind, min_insync: usize) -> Trio {
        let replicas: Vec<ReplicaRef> = (1..=3)
            .map(|id| ReplicaRef {
                replica: ReplicaId(id),
                broker: BrokerId(id as i32),
                directory: DirectoryId([id as u8; 16]),
            })
            .collect();
        let mut config = TopicConfig::resolve(&BTreeMap::new(), &Default::default()).unwrap();
        config.min_insync_replicas = min_insync;
        let mut trio = Trio {
            shards: Vec::new(),
            unsynced: vec![Vec::new(); 3],
            slow: vec![false; 3],
            cut: vec![false; 3],
            now_ms: 10_000,
            answers: BTreeMap::new(),
            written: Vec::new(),
            segments: (0..3).map(|_| Vec::new()).collect(),
            snapshots: Vec::new(),
            counted: 0,
            truncated_from: None,
        };
        for own in &replicas {
            let mut shard = Shard::new(ShardConfig {
                shard: 0,
                broker: own.broker,
                directory: own.directory,
                seed: 5,
                timing: Timing::default(),
                replica_lag_ms_max: 3_600_000,
                retention_check_ms: 1_000,
                retention_waits_ms: model::limits::RETENTION_WAITS_MS,
                groups: Default::default(),
                producer_expiration_ms: EXPIRATION_MS,
                leader_rebalance: false,
                leader_rebalance_ms: 0,
            });
            let spec = GroupSpec {
                group: GROUP,
                kind,
                name: "t-0".into(),
                topic: TopicId([7; 16]),
                partition: 0,
                replica: own.replica,
                replicas: replicas.clone(),
                founders: Vec::new(),
                learners: Vec::new(),
                producers_before: PRODUCERS_BEFORE,
                config: config.clone(),
            };
            shard.step(trio.now(), Input::Create { spec: Box::new(spec) }, &mut Out::default());
            for other in replicas.iter().filter(|other| other.broker != own.broker) {
                let connected = Input::PeerConnected { broker: other.broker };
                shard.step(trio.now(), connected, &mut Out::default());
            }
            trio.shards.push(shard);
        }
        trio
    }

    fn now(&self) -> Now {
        Now { boot_ns: self.now_ms * 1_000_000, wall_ms: self.now_ms as i64 }
    }

    /// Turns and messages until nothing moves.
    fn settle(&mut self) {
        self.deliver(Vec::new());
    }

    fn deliver(&mut self, mut mail: Vec<(usize, BrokerId, RaftIn)>) {
        loop {
            for at in 0..3 {
                self.turn(at, &mut mail);
            }
            if mail.is_empty() && self.shards.iter().all(|shard| !shard.is_dirty()) {
                return;
            }
            let now = self.now();
            for (to, from, item) in std::mem::take(&mut mail) {
                let input = Input::Raft { from, items: vec![item] };
                let mut out = Out::default();
                self.shards[to].step(now, input, &mut out);
                self.take(to, &mut out, &mut mail);
            }
        }
    }

    fn turn(&mut self, at: usize, mail: &mut Vec<(usize, BrokerId, RaftIn)>) {
        let now = self.now();
        let mut out = Out::default();
        self.shards[at].flush(now, now.boot_ns, &mut out);
        self.take(at, &mut out, mail);
        if !self.slow[at] {
            let done = self.unsynced[at].drain(..).map(|token| (GROUP, token)).collect();
            let durable = Input::Durable { done, written_ns: now.boot_ns };
            self.shards[at].step(now, durable, &mut out);
            self.take(at, &mut out, mail);
        }
        // An empty Durable makes the group dirty; the next flush has nothing to say.
        self.shards[at].flush(now, now.boot_ns, &mut out);
        self.take(at, &mut out, mail);
    }

    fn take(&mut self, at: usize, out: &mut Out<u32>, mail: &mut Vec<(usize, BrokerId, RaftIn)>) {
        for write in out.journal.drain(..) {
            if at == 0 {
                let normal = write.entries.iter().filter(|e| e.entry_type == RaftEntryType::Normal);
                self.written.extend(normal.filter_map(|e| e.kind()).map(|(kind, _)| kind));
            }
            self.truncated_from = write.truncate_from.or(self.truncated_from);
            self.unsynced[at].push(write.token);
        }
        for RaftOut { broker, group, from, to, message } in out.peers.drain(..) {
            let (own, target) = (BrokerId(at as i32 + 1), broker.0 as usize - 1);
            if !self.cut[at] && !self.cut[target] {
                mail.push((target, own, RaftIn { group, from, to, message }));
            }
        }
        self.answers.extend(out.replies.drain(..));
        for event in out.events.drain(..) {
            if let Event::Committed { records, .. } = event {
                self.counted += records;
            }
        }
        out.views.clear();
        self.segments[at].append(&mut out.segments);
        self.snapshots.append(&mut out.snapshots);
    }

    /// Half a second of ticks per step, until the shard serves.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(50) {
            self.now_ms += 50;
            let now = self.now();
            for at in 0..3 {
                // A lone group is in the first slot.
                let mut out = Out::default();
                self.shards[at].step(now, Input::Tick { slot: 0 }, &mut out);
                self.take(at, &mut out, &mut Vec::new());
            }
            self.settle();
        }
    }

    fn serve(&mut self) {
        self.settle();
        for _ in 0..200 {
            if self.serves(0) {
                return;
            }
            self.pass(50);
        }
        panic!("the preferred replica does not serve");
    }

    fn serves(&self, at: usize) -> bool {
        self.shards[at].member(GROUP).is_some_and(|member| member.is_serving())
    }

    fn produce(&mut self, at: usize, reply: u32, producer: i64, sequence: i32, acks: i16) {
        let now = self.now();
        let batch = BatchBuilder::new(now.wall_ms).producer(producer, 0, sequence).value(b"v");
        let request = ProduceInput {
            batch: batch.build(),
            charge: None,
            acks,
            reply: Some(reply),
            arrived_ns: now.boot_ns,
            deadline_ns: now.boot_ns + 3_600_000_000_000,
        };
        let input = Input::Produce { group: GROUP, request };
        self.shards[at].step(now, input, &mut Out::default());
        self.settle();
    }

    fn refused(&self, reply: u32) -> Option<ErrorCode> {
        match self.answers.get(&reply) {
            Some(Answer::Refused(refusal)) => Some(refusal.code),
            _ => None,
        }
    }

    fn offset(&self, reply: u32) -> Option<i64> {
        match self.answers.get(&reply) {
            Some(Answer::Produced(produced)) => Some(produced.base_offset),
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    }
}

#[test]
fn acks_1_waits_for_the_own_disk_also_when_the_others_are_faster() {
    let mut trio = Trio::new(1);
    trio.serve();
    trio.slow[0] = true;
    trio.produce(0, 1, 70, 0, 1);
    trio.produce(0, 2, 71, 0, -1);
    assert_eq!(trio.offset(2), Some(1), "two other disks are a majority");
    assert_eq!(trio.offset(1), None, "committed, and not on the leader's disk");
    trio.produce(0, 3, 70, 0, 1);
    assert_eq!(trio.offset(3), None, "nor for its retry");
    trio.slow[0] = false;
    trio.settle();
    assert_eq!((trio.offset(1), trio.offset(3)), (Some(0), Some(0)));
}

#[test]
fn acks_all_hears_soon_that_a_replica_it_waits_for_is_gone() {
    let mut trio = Trio::new(3);
    trio.shards[0].cfg.replica_lag_ms_max = 5_000;
    trio.serve();
    trio.produce(0, 1, 70, 0, -1);
    assert_eq!(trio.offset(1), Some(0));
    trio.cut[2] = true;
    trio.produce(0, 2, 70, 1, -1);
    trio.produce(0, 3, 71, 0, 1);
    assert_eq!(
        (trio.offset(2), trio.offset(3)),
        (None, Some(2)),
        "committed, and on two disks of three"
    );
    trio.pass(10_000);
    assert_eq!(trio.refused(2), Some(ErrorCode::NotEnoughReplicasAfterAppend));
    trio.produce(0, 4, 70, 1, -1);
    assert_eq!(trio.refused(4), Some(ErrorCode::NotEnoughReplicas), "its retry");
    trio.cut[2] = false;
    trio.pass(10_000);
    trio.produce(0, 5, 70, 1, -1);
    assert_eq!(trio.offset(5), Some(1), "the retry finds what was appended");
}

#[test]
fn acks_all_hears_at_once_that_a_broker_it_waits_for_has_died() {
    let mut trio = Trio::new(3);
    trio.serve();
    trio.cut[2] = true;
    trio.produce(0, 1, 70, 0, -1);
    trio.pass(1_000);
    assert_eq!((trio.offset(1), trio.refused(1)), (None, None), "it may be slow");
    let died = Input::PeerDied { broker: BrokerId(3) };
    let now = trio.now();
    trio.shards[0].step(now, died, &mut Out::default());
    trio.pass(100);
    assert_eq!(trio.refused(1), Some(ErrorCode::NotEnoughReplicasAfterAppend));
    trio.produce(0, 2, 70, 0, -1);
    assert_eq!(trio.refused(2), Some(ErrorCode::NotEnoughReplicas), "its retry");
    trio.cut[2] = false;
    let back = Input::PeerConnected { broker: BrokerId(3) };
    let now = trio.now();
    trio.shards[0].step(now, back, &mut Out::default());
    trio.pass(1_000);
    trio.produce(0, 3, 70, 0, -1);
    assert_eq!(trio.offset(3), Some(0), "the retry finds what was appended");
}

/// Most batches are applied in the turn that commits them.
#[test]
fn every_committed_record_is_counted_once_whoever_publishes_it() {
    let mut trio = Trio::new(1);
    trio.serve();
    for sequence in 0..20 {
        trio.produce(0, sequence as u32, 70, sequence, -1);
    }
    assert_eq!(trio.offset(19), Some(19));
    assert_eq!(trio.counted, 20);
}

#[test]
fn a_retry_is_owed_as_many_copies_as_the_first() {
    let mut trio = Trio::new(3);
    trio.serve();
    trio.slow[2] = true;
    trio.produce(0, 1, 70, 0, 1);
    assert_eq!(trio.offset(1), Some(0));
    trio.produce(0, 2, 70, 0, -1);
    trio.pass(200);
    assert_eq!(trio.offset(2), None, "committed and applied, on two disks of three");
    trio.slow[2] = false;
    trio.pass(200);
    assert_eq!(trio.offset(2), Some(0));
}

#[test]
fn a_producer_lives_on_over_a_topic_that_was_created_again() {
    let mut trio = Trio::new(1);
    trio.serve();
    trio.produce(0, 1, PRODUCERS_BEFORE - 1, 5, -1);
    assert_eq!(trio.offset(1), Some(0), "it goes on where it was");
    trio.produce(0, 2, PRODUCERS_BEFORE, 5, -1);
    let overtaken = Some(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(trio.refused(2), overtaken, "it is new, and its first batch is missing");
    trio.produce(0, 3, PRODUCERS_BEFORE - 1, 6, -1);
    assert_eq!(trio.offset(3), Some(1));
}

#[test]
fn a_producer_silent_for_the_expiration_is_forgotten_by_an_entry() {
    let mut trio = Trio::new(1);
    trio.serve();
    trio.produce(0, 1, 70, 0, -1);
    let expired = |trio: &Trio| {
        trio.written.iter().filter(|kind| **kind == model::EntryKind::ExpireProducers).count()
    };
    trio.pass(EXPIRATION_MS - 5_000);
    assert_eq!(expired(&trio), 0);
    trio.produce(0, 2, 71, 0, -1);
    trio.pass(EXPIRATION_MS);
    assert_eq!(expired(&trio), 1, "70 went, 71 has been heard since");
    trio.pass(2 * EXPIRATION_MS);
    assert_eq!(expired(&trio), 2, "and nothing is proposed for nobody");
}
