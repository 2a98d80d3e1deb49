//! Three shards, one group, every write and message in the test's hands: when a producer hears
//! of its batch, and when producers are forgotten.

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

impl Trio {
    fn ask(&mut self, at: usize, reply: u32, ask: AdminAsk, within_ms: u64) {
        let now = self.now();
        let deadline_ns = now.boot_ns + within_ms * 1_000_000;
        let mut out = Out::default();
        self.shards[at].step(now, Input::Admin { group: GROUP, ask, deadline_ns, reply }, &mut out);
        self.take(at, &mut out, &mut Vec::new());
        self.settle();
    }

    fn told(&self, reply: u32) -> Option<Result<AdminAnswer, ErrorCode>> {
        Some(match self.answers.get(&reply)? {
            Answer::Admin(answer) => Ok(answer.clone()),
            Answer::Refused(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        })
    }

    fn log_start(&self, at: usize) -> i64 {
        self.shards[at].member(GROUP).unwrap().machine().log_start()
    }

    /// The first shard's segments begin at these (index, offset).
    fn cut_segments(&mut self, starts: &[(u64, i64)]) {
        let segments = starts.iter().map(|(base_index, base_offset)| storage::SegmentSummary {
            base_index: *base_index,
            base_offset: *base_offset,
            next_offset: i64::MAX,
            log_bytes: 1,
            side_bytes: 0,
            max_timestamp: -1,
        });
        let segments = Some(segments.collect());
        let readable = Input::Readable { group: GROUP, index: 1, start_index: 0, segments };
        let now = self.now();
        self.shards[0].step(now, readable, &mut Out::default());
    }
}

#[test]
fn a_log_start_is_answered_once_it_is_committed_and_applied_and_holds_everywhere() {
    let mut trio = Trio::new(1);
    trio.serve();
    (0..3).for_each(|n| trio.produce(0, n, 70, n as i32, -1));
    let delete = |offset| AdminAsk::DeleteRecords { offset };
    trio.ask(0, 10, delete(4), 9_000);
    assert_eq!(trio.told(10), Some(Err(ErrorCode::OffsetOutOfRange)), "above the high watermark");
    trio.ask(1, 11, delete(1), 9_000);
    assert_eq!(trio.told(11), Some(Err(ErrorCode::NotLeaderOrFollower)));
    trio.slow[0] = true;
    trio.ask(0, 12, delete(2), 9_000);
    assert_eq!((trio.told(12), trio.log_start(0)), (None, 0), "committed, not applied here");
    trio.slow[0] = false;
    trio.settle();
    assert_eq!(trio.told(12), Some(Ok(AdminAnswer::LogStart(2))));
    trio.pass(200);
    assert!((0..3).all(|at| trio.log_start(at) == 2), "a new leader begins there too");
    trio.ask(0, 13, delete(1), 9_000);
    assert_eq!(trio.told(13), Some(Ok(AdminAnswer::LogStart(2))), "nothing comes back");
    trio.ask(0, 14, delete(-1), 9_000);
    assert_eq!(trio.told(14), Some(Ok(AdminAnswer::LogStart(3))));
}

#[test]
fn a_log_start_waits_for_a_voter_that_would_lose_its_only_source() {
    let mut trio = Trio::new(1);
    trio.serve();
    trio.produce(0, 0, 70, 0, -1);
    trio.cut[2] = true;
    (1..6).for_each(|n| trio.produce(0, n, 70, n as i32, -1));
    let applied = trio.shards[0].member(GROUP).unwrap().machine().applied();
    // Offsets 0 and 1 are a segment, 2 to 3 another, the rest the one that grows.
    trio.cut_segments(&[(1, 0), (applied - 3, 2), (applied - 1, 4)]);
    let delete = |offset| AdminAsk::DeleteRecords { offset };
    trio.ask(0, 10, delete(1), 9_000);
    assert_eq!(trio.told(10), Some(Ok(AdminAnswer::LogStart(1))), "no segment leaves");
    trio.ask(0, 11, delete(3), 1_000);
    assert_eq!(trio.told(11), None, "the first segment would leave, and one voter lacks it");
    trio.pass(2_000);
    assert_eq!(trio.told(11), Some(Err(ErrorCode::RequestTimedOut)));
    assert_eq!(trio.log_start(0), 1, "a time-out here means that nothing moved");
    trio.ask(0, 12, delete(3), 60_000);
    trio.cut[2] = false;
    trio.pass(3_000);
    assert_eq!(trio.told(12), Some(Ok(AdminAnswer::LogStart(3))), "it has caught up");
    assert!((0..3).all(|at| trio.log_start(at) == 3));
}

#[test]
fn a_log_start_waits_for_nobody_who_is_silent_for_long() {
    let mut trio = Trio::new(1);
    trio.serve();
    trio.produce(0, 0, 70, 0, -1);
    trio.cut[2] = true;
    (1..6).for_each(|n| trio.produce(0, n, 70, n as i32, -1));
    let applied = trio.shards[0].member(GROUP).unwrap().machine().applied();
    trio.cut_segments(&[(1, 0), (applied - 3, 2), (applied - 1, 4)]);
    trio.ask(0, 10, AdminAsk::DeleteRecords { offset: 3 }, 300_000);
    trio.pass(limits::RETENTION_WAITS_MS - 5_000);
    assert_eq!(trio.told(10), None, "a restart takes so long");
    trio.pass(6_000);
    assert_eq!(trio.told(10), Some(Ok(AdminAnswer::LogStart(3))), "a snapshot can fill it");
}

#[test]
fn the_preferred_replica_takes_over_if_it_is_there() {
    let mut trio = Trio::new(1);
    trio.serve();
    trio.ask(0, 1, AdminAsk::ElectPreferred, 9_000);
    assert_eq!(trio.told(1), Some(Err(ErrorCode::ElectionNotNeeded)));
    let now = trio.now();
    let member = trio.shards[0].members.get_mut(&GROUP).unwrap();
    member.group.transfer_leader(now, Some(ReplicaId(2)));
    trio.shards[0].dirty.insert(GROUP);
    trio.settle();
    assert!(trio.serves(1) && !trio.serves(0));
    trio.cut[0] = true;
    trio.pass(5_000);
    trio.ask(1, 2, AdminAsk::ElectPreferred, 9_000);
    assert_eq!(trio.told(2), Some(Err(ErrorCode::PreferredLeaderNotAvailable)));
    assert!(trio.serves(1), "nobody is left without a leader for it");
    trio.cut[0] = false;
    trio.pass(3_000);
    trio.ask(1, 3, AdminAsk::ElectPreferred, 9_000);
    assert_eq!(trio.told(3), Some(Ok(AdminAnswer::ElectionBegun)));
    trio.pass(200);
    assert!(trio.serves(0) && !trio.serves(1));
    trio.ask(0, 4, AdminAsk::Quorum, 9_000);
    let Some(Ok(AdminAnswer::Quorum(quorum))) = trio.told(4) else { panic!("no quorum") };
    assert_eq!((quorum.leader, quorum.voters.len(), quorum.observers.len()), (1, 3, 0));
    assert!(quorum.voters.iter().all(|voter| voter.log_end >= quorum.high_watermark));
    assert!(quorum.voters.iter().all(|voter| voter.last_caught_up_ms > 0));
}

/// Metadata in which a topic `t` has so many partitions.
#[test]
fn a_replica_is_given_up_only_if_a_majority_is_sound_without_it() {
    let mut trio = Trio::new(1);
    trio.serve();
    trio.produce(0, 0, 70, 0, -1);
    let mut asked = 100;
    let mut replaceable = |trio: &mut Trio, replica| {
        asked += 1;
        trio.ask(0, asked, AdminAsk::Replace { replica }, 9_000);
        trio.told(asked) == Some(Ok(AdminAnswer::Replaceable))
    };
    assert!(!replaceable(&mut trio, 1), "the leader itself");
    assert!(!replaceable(&mut trio, 3), "the other may say the same in a moment");
    trio.pass(limits::RENEW_AFTER_MS + 500);
    assert!(replaceable(&mut trio, 3));
    assert!(!replaceable(&mut trio, 2), "it would be the second of three");
    trio.pass(5_000);
    assert!(!replaceable(&mut trio, 2) && !replaceable(&mut trio, 3), "neither, from now on");
    // Another leadership begins without hearsay; whoever is silent counts for nobody.
    let mut trio = Trio::new(1);
    trio.serve();
    assert!(!replaceable(&mut trio, 3));
    trio.pass(limits::RENEW_AFTER_MS + 500);
    trio.cut[1] = true;
    trio.pass(limits::HEARD_LATELY_MS + 200);
    assert!(trio.serves(0) && !replaceable(&mut trio, 3), "the other one is gone");
    trio.cut[1] = false;
    trio.pass(1_000);
    assert!(replaceable(&mut trio, 3));
    trio.shards[0].members.get_mut(&GROUP).unwrap().distrust();
    assert!(!replaceable(&mut trio, 3), "the leader may have forgotten what that one holds");
}

#[test]
fn a_leader_that_lost_its_lease_to_a_suspect_heir_hands_over_before_that_one_is_replaced() {
    let mut trio = Trio::new(1);
    trio.serve();
    trio.pass(1_000);
    trio.shards[2].members.get_mut(&GROUP).unwrap().distrust();
    let now = trio.now();
    let member = trio.shards[0].members.get_mut(&GROUP).unwrap();
    member.group.transfer_leader(now, Some(ReplicaId(3)));
    trio.shards[0].dirty.insert(GROUP);
    trio.settle();
    trio.pass(4_000);
    let lease = |trio: &Trio, at: usize| {
        trio.shards[at].member(GROUP).unwrap().group.lease_remaining_ms(trio.now())
    };
    assert!(trio.serves(0) && lease(&trio, 0).is_none(), "it refused, and the lease is gone");
    let ask = AdminAsk::Replace { replica: 3 };
    trio.ask(0, 100, ask, 9_000);
    trio.pass(limits::RENEW_AFTER_MS + 100);
    trio.ask(0, 101, ask, 9_000);
    trio.pass(500);
    assert!(trio.serves(1) && lease(&trio, 1).is_some(), "another sound one leads");
    trio.ask(1, 102, ask, 9_000);
    trio.pass(limits::RENEW_AFTER_MS + 100);
    trio.ask(1, 103, ask, 9_000);
    assert_eq!(trio.told(103), Some(Ok(AdminAnswer::Replaceable)));
}

fn image_of(id: TopicId, partitions: usize) -> Arc<metadata::Image> {
    use metadata::{BrokerRegistration, Command, MetadataMachine, PlacedTopic};
    let mut machine = MetadataMachine::new();
    let mut lead = machine.lead();
    let broker = Command::RegisterBroker(BrokerRegistration {
        id: BrokerId(1),
        directory: DirectoryId([1; 16]),
        incarnation: model::Incarnation(1),
        listeners: Vec::new(),
        peer_address: None,
        rack: None,
        features: Default::default(),
    });
    let topic = Command::CreateTopic(PlacedTopic {
        name: "t".into(),
        id,
        assignments: vec![vec![BrokerId(1)]; partitions],
        configs: Default::default(),
        created_ms: 0,
    });
    for (index, command) in (1..).zip([broker, topic]) {
        let (context, data) = lead.stamp(&command);
        let entry_type = RaftEntryType::Normal;
        let entry = LogEntry { index, term: 1, context, data, entry_type };
        machine.apply(&entry).unwrap();
    }
    machine.image()
}

/// Of somebody who is no member, for these partitions, each with so many bytes of metadata.
fn commit_of(
    group: &str,
    topic: TopicId,
    partitions: std::ops::Range<i32>,
    metadata: usize,
) -> machine::groups::Request {
    let mut request = machine::groups::Request::Commit(Default::default());
    if let machine::groups::Request::Commit(commit) = &mut request {
        commit.group_id = group.into();
        commit.generation_id_or_member_epoch = -1;
        commit.topics.push(Default::default());
        commit.topics[0].name = "t".into();
        commit.topics[0].topic_id = topic;
        commit.topics[0].partitions.resize_with(partitions.len(), Default::default);
        for (index, partition) in partitions.zip(&mut commit.topics[0].partitions) {
            partition.partition_index = index;
            partition.committed_metadata = Some("m".repeat(metadata));
        }
    }
    request
}

#[test]
fn a_commit_no_batch_can_hold_is_refused_and_the_coordinator_goes_on() {
    use machine::groups::Response;
    let mut trio = Trio::of(GroupKind::Coordinator, 1);
    trio.serve();
    let topic = TopicId([7; 16]);
    let image = image_of(topic, 400);
    // Alone in its turn, and beside one that fits.
    for (first_reply, sizes) in [(1, vec![400]), (2, vec![400, 1]), (4, vec![1])] {
        let now = trio.now();
        for (reply, partitions) in (first_reply..).zip(sizes) {
            let request = Box::new(commit_of("g", topic, 0..partitions, 4_000));
            let image = Arc::clone(&image);
            let input = Input::Coordinate { group: GROUP, request, image, reply };
            trio.shards[0].step(now, input, &mut Out::default());
        }
        trio.pass(200);
    }
    let code = |reply: u32| match trio.answers.get(&reply) {
        Some(Answer::Group(response)) => match response.as_ref() {
            Response::Commit(commit) => commit.topics[0].partitions[0].error_code,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let (large, fine) = (ErrorCode::InvalidCommitOffsetSize, ErrorCode::None);
    assert_eq!([1, 2, 3, 4].map(code), [large, large, fine, fine]);
    assert!(trio.serves(0) && trio.shards[0].quarantined().is_empty());
}

#[test]
fn a_group_that_leaves_more_than_a_batch_holds_is_deleted() {
    use machine::groups::{Request, Response};
    let mut trio = Trio::of(GroupKind::Coordinator, 1);
    trio.serve();
    let topic = TopicId([7; 16]);
    let image = image_of(topic, 400);
    // 400 tombstones of 4 KB each are 1.6 MB.
    let group = "g".repeat(4_000);
    let ask = |trio: &mut Trio, reply: u32, request: Request| {
        let (request, image) = (Box::new(request), Arc::clone(&image));
        trio.tell(0, Input::Coordinate { group: GROUP, request, image, reply });
        trio.pass(200);
        match trio.answers.remove(&reply) {
            Some(Answer::Group(response)) => *response,
            other => panic!("{other:?}"),
        }
    };
    for at in 0..4 {
        let request = commit_of(&group, topic, at * 100..(at + 1) * 100, 0);
        match ask(&mut trio, at as u32, request) {
            Response::Commit(commit) => {
                let code = |at: usize| commit.topics[0].partitions[at].error_code;
                assert_eq!((code(0), code(99)), (ErrorCode::None, ErrorCode::None));
            }
            other => panic!("{other:?}"),
        }
    }
    let told = ask(&mut trio, 10, Request::Delete { group: group.clone() });
    assert_eq!(told, Response::Delete(ErrorCode::None));
    match ask(&mut trio, 11, Request::Describe { group }) {
        Response::Describe(described) => assert_eq!(described.group_state, "Dead"),
        other => panic!("{other:?}"),
    }
    assert!(trio.serves(0) && trio.shards[0].quarantined().is_empty());
}

impl Trio {
    /// One input, its turn and all that follows.
    fn tell(&mut self, at: usize, input: Input<u32>) {
        let now = self.now();
        let (mut out, mut mail) = (Out::default(), Vec::new());
        self.shards[at].step(now, input, &mut out);
        self.take(at, &mut out, &mut mail);
        self.deliver(mail);
    }

    /// The third replica misses what the others have dropped; the snapshot that the first offers.
    fn left_behind(&mut self) -> storage::Manifest {
        self.serve();
        self.produce(0, 100, 70, 0, -1);
        self.pass(500);
        self.cut[2] = true;
        (1..6).for_each(|n| self.produce(0, 100 + n, 70, n as i32, -1));
        self.pass(500);
        for at in 0..2 {
            let index = self.shards[at].member(GROUP).unwrap().group.applied_index();
            let (group, start_index) = (GROUP, index - 2);
            self.tell(at, Input::Readable { group, index, start_index, segments: None });
        }
        self.segments.iter_mut().for_each(Vec::clear);
        self.cut[2] = false;
        for _ in 0..100 {
            self.pass(50);
            let made = self.segments[0].iter().find_map(|work| match work {
                SegmentWork::Manifest { mark } => Some(mark.clone()),
                _ => None,
            });
            if let Some(mark) = made {
                return self.offer(*mark);
            }
        }
        panic!("no snapshot is asked for");
    }

    fn offer(&mut self, mark: GroupMark) -> storage::Manifest {
        let group = &self.shards[0].member(GROUP).unwrap().group;
        let (start_index, index) = (group.first_index() - 1, mark.applied_index);
        let term_starts = group.term_runs().iter().map(|(first_index, term)| storage::TermStart {
            first_index: *first_index,
            term: *term,
            start_offset: 0,
        });
        let position = storage::SegmentPosition {
            last_index: index,
            start_index,
            terms: term_starts.collect(),
            home: index,
            ..Default::default()
        };
        let conf_state = conf_state_from(&mark.conf_state).unwrap();
        let mut snapshot = consensus::eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (index, mark.applied_term);
        metadata.set_conf_state(conf_state);
        self.tell(0, Input::Offer { group: GROUP, offer: Some(Box::new(snapshot)) });
        storage::Manifest {
            group: GROUP,
            term: mark.applied_term,
            conf_state: mark.conf_state,
            machine: mark.machine,
            position,
            sums: Vec::new(),
        }
    }

    fn arrived(&mut self) -> SnapshotIn {
        for _ in 0..100 {
            if let Some(snapshot) = self.snapshots.pop() {
                return snapshot;
            }
            self.pass(50);
        }
        panic!("no snapshot arrived");
    }

    fn fetched(&mut self, snapshot: SnapshotIn, manifest: &storage::Manifest, reply: u32) {
        let SnapshotIn { group, sender, message, .. } = snapshot;
        let manifest = Box::new(manifest.clone());
        self.tell(2, Input::Fetched { group, sender, message, manifest, reply });
    }

    /// How far the leader believes the third replica to be.
    fn matched(&self) -> u64 {
        let progress = self.shards[0].member(GROUP).unwrap().group.progress();
        progress.iter().find(|peer| peer.replica == ReplicaId(3)).unwrap().matched
    }

    fn installs(&self) -> usize {
        let installs = |work: &&SegmentWork| matches!(work, SegmentWork::Install { .. });
        self.segments[2].iter().filter(installs).count()
    }

    fn installed(&mut self, index: u64) {
        let news = Installed { index, start_index: index - 2, segments: Vec::new() };
        self.tell(2, Input::Installed { group: GROUP, news });
    }
}

#[test]
fn a_snapshot_is_durable_for_raft_once_a_checkpoint_names_it_and_not_before() {
    let mut trio = Trio::new(1);
    let manifest = trio.left_behind();
    let index = manifest.index();
    let snapshot = trio.arrived();
    assert_eq!((snapshot.broker, snapshot.replica), (BrokerId(1), ReplicaId(3)));
    let before = trio.shards[2].closing(&HashMap::from([(GROUP, u64::MAX)])).remove(0);
    trio.slow[2] = true;
    trio.fetched(snapshot, &manifest, 1);
    assert_eq!(trio.truncated_from, Some(index + 1), "what lies above it in the journal is dead");
    assert_eq!(trio.installs(), 0, "its write is not durable");
    trio.slow[2] = false;
    trio.settle();
    assert_eq!(trio.installs(), 1);
    trio.segments[2].clear();
    // The journal has it, and a term of its own, for all that follows.
    trio.pass(3_000);
    trio.tell(2, Input::Durable { done: vec![(GROUP, u64::MAX)], written_ns: 0 });
    assert!(trio.matched() < index, "a restart would find the old log");
    assert_eq!((trio.installs(), trio.answers.contains_key(&1)), (0, false));
    let member = trio.shards[2].member(GROUP).unwrap();
    assert!(member.machine().applied() < index && member.published_offset() < 6);
    trio.tell(2, Input::Checkpoint { id: 9 });
    let marked = trio.segments[2].iter().any(|work| matches!(work, SegmentWork::Mark { .. }));
    assert!(!marked, "a mark of the old log would go back behind the snapshot");
    let end = trio.shards[2].closing(&HashMap::from([(GROUP, u64::MAX)])).remove(0);
    assert_eq!((end.last_index, end.durable), (before.last_index, before.last_index));

    trio.installed(index);
    assert!(trio.matched() >= index);
    assert!(matches!(trio.answers.get(&1), Some(Answer::Done)));
    let member = trio.shards[2].member(GROUP).unwrap();
    assert_eq!((member.machine().applied(), member.published_offset()), (index, 6));
    assert_eq!(member.group.first_index(), index - 1);
    // It goes on with entries, is in sync and may lead.
    trio.produce(0, 200, 70, 6, -1);
    trio.pass(500);
    let applied = |at: usize| trio.shards[at].member(GROUP).unwrap().machine().applied();
    assert_eq!(applied(2), applied(0));
    let now = trio.now();
    trio.shards[0].members.get_mut(&GROUP).unwrap().group.transfer_leader(now, Some(ReplicaId(3)));
    trio.shards[0].dirty.insert(GROUP);
    trio.pass(500);
    assert!(trio.serves(2));
    trio.produce(2, 201, 70, 7, -1);
    assert_eq!(trio.offset(201), Some(7), "dedupe came with the machine");
}

#[test]
fn a_panic_between_a_snapshot_and_its_checkpoint_is_left_to_a_restart() {
    let mut trio = Trio::new(1);
    let manifest = trio.left_behind();
    let snapshot = trio.arrived();
    trio.fetched(snapshot, &manifest, 1);
    let now = trio.now();
    let mut out = Out::default();
    trio.shards[2].step(now, Input::Panic { group: GROUP }, &mut out);
    trio.shards[2].flush(now, now.boot_ns, &mut out);
    assert!(trio.shards[2].quarantined().contains_key(&GROUP));
    assert!(out.rebuilds.is_empty(), "neither the old machine nor the new one fits the journal");
}

#[test]
fn a_snapshot_that_is_not_what_it_says_is_refused_and_the_replica_is_filled_by_the_next() {
    let mut trio = Trio::new(1);
    let manifest = trio.left_behind();
    let snapshot = trio.arrived();
    let no_machine = storage::Manifest { machine: Bytes::from_static(b"?"), ..manifest.clone() };
    trio.fetched(snapshot.clone(), &no_machine, 1);
    assert_eq!(trio.refused(1), Some(ErrorCode::InvalidRequest));
    let mut no_terms = manifest.clone();
    no_terms.position.terms.clear();
    trio.fetched(snapshot.clone(), &no_terms, 2);
    assert_eq!(trio.refused(2), Some(ErrorCode::InvalidRequest));
    assert!(!trio.shards[2].member(GROUP).unwrap().group.is_installing());
    trio.fetched(snapshot.clone(), &manifest, 3);
    trio.installed(manifest.index());
    assert!(matches!(trio.answers.get(&3), Some(Answer::Done)));
    // Once it has it, raft answers the same message by itself.
    let SnapshotIn { group, sender, replica, broker, message, .. } = snapshot;
    let items = vec![RaftIn { group, from: sender, to: replica, message: *message }];
    trio.tell(2, Input::Raft { from: broker, items });
    assert!(trio.snapshots.is_empty());
}

#[test]
fn a_transfer_that_is_given_up_is_sent_again_and_only_its_own_replica_says_so() {
    let mut trio = Trio::new(1);
    trio.left_behind();
    trio.arrived();
    trio.pass(1_000);
    let (group, peer) = (GROUP, ReplicaId(3));
    trio.tell(0, Input::SnapshotFailed { group, peer, from: BrokerId(2) });
    trio.pass(1_000);
    assert!(trio.snapshots.is_empty(), "another broker speaks for it");
    trio.tell(0, Input::SnapshotFailed { group, peer, from: BrokerId(3) });
    trio.arrived();
    // A transfer that shows signs of life is waited for.
    for _ in 0..30 {
        trio.pass(1_000);
        trio.tell(0, Input::SnapshotRead { group, peer, from: BrokerId(3) });
    }
    assert!(trio.snapshots.is_empty());
    trio.pass(limits::SNAPSHOT_SILENCE_MS);
    trio.arrived();
}

#[test]
fn what_a_leader_offers_goes_when_nobody_needs_it() {
    let mut trio = Trio::new(1);
    let manifest = trio.left_behind();
    let snapshot = trio.arrived();
    let asked = |trio: &Trio| {
        let asked = |work: &&SegmentWork| matches!(work, SegmentWork::Manifest { .. });
        trio.segments[0].iter().filter(asked).count()
    };
    assert_eq!(asked(&trio), 1, "one is made, however often raft asks");
    trio.fetched(snapshot, &manifest, 1);
    trio.installed(manifest.index());
    let offered =
        |trio: &Trio| trio.shards[0].member(GROUP).unwrap().group.snapshot_offered().is_some();
    assert!(offered(&trio));
    trio.pass(limits::SNAPSHOT_IDLE_MS + 1_000);
    assert!(!offered(&trio));
    assert_eq!(asked(&trio), 1);
}

#[test]
fn a_leader_that_lacks_a_majority_offers_a_snapshot_to_who_would_make_one() {
    let mut trio = Trio::new(1);
    trio.left_behind();
    trio.cut[0] = true;
    trio.snapshots.clear();
    trio.pass(20_000);
    let second = &trio.shards[1].member(GROUP).unwrap().group;
    assert_eq!(second.role(), consensus::Role::Leader, "the third one votes for it");
    assert!(!trio.serves(1), "and has not what it would need to follow");
    let asked = |work: &SegmentWork| matches!(work, SegmentWork::Manifest { .. });
    assert!(trio.segments[1].iter().any(asked), "nobody would ever serve again");
}

/// The journal still has its records: removed without its knowing, the group's next life on this
/// broker would end the broker.
#[test]
fn the_removal_of_a_group_that_is_out_of_service_is_for_the_journal_to_know() {
    let removed = |out: &Out<u32>| out.journal.iter().filter(|write| write.remove).count();
    let mut trio = Trio::new(1);
    trio.pass(2_000);
    let now = trio.now();
    // It fell over while it ran ...
    let mut out = Out::default();
    trio.shards[2].step(now, Input::Panic { group: GROUP }, &mut out);
    trio.shards[2].flush(now, now.boot_ns, &mut out);
    assert!(trio.shards[2].quarantined().contains_key(&GROUP));
    trio.shards[2].step(now, Input::Remove { group: GROUP }, &mut out);
    assert_eq!(removed(&out), 1);
    // ... or could not be put together at the start.
    let (other, mut out) = (GroupId(77), Out::default());
    trio.shards[2].keep_out(other);
    trio.shards[2].step(now, Input::Remove { group: other }, &mut out);
    assert_eq!(removed(&out), 1);
    // One that the journal never heard of has only files.
    let mut out = Out::default();
    trio.shards[2].step(now, Input::Remove { group: GroupId(78) }, &mut out);
    assert_eq!(removed(&out), 0);
    assert!(matches!(out.segments[..], [SegmentWork::Delete { group: GroupId(78) }]));
}

/// All the journal had of it is lost: formed anew under its old id it could vote a second time.
#[test]
fn a_group_that_a_hole_in_the_journal_may_hide_is_not_formed_anew_and_is_suspect_on_disk() {
    let mut trio = Trio::new(1);
    trio.pass(2_000);
    let (now, mut out) = (trio.now(), Out::default());
    let shard = &mut trio.shards[2];
    let mut spec = shard.member(GROUP).expect("it was created").spec().clone();
    spec.group = GroupId(77);
    shard.step(now, Input::KeepOut { group: spec.group }, &mut out);
    shard.step(now, Input::Create { spec: Box::new(spec.clone()) }, &mut out);
    assert!(shard.member(spec.group).is_none());
    let [JournalWrite { suspect: Some(_), create: None, .. }] = &out.journal[..] else {
        panic!("{:?}", out.journal);
    };
    // Removed, it makes room for a replica with a new id.
    shard.step(now, Input::Remove { group: spec.group }, &mut out);
    assert!(out.journal[1].remove);
    shard.step(now, Input::Create { spec: Box::new(spec.clone()) }, &mut out);
    assert!(shard.member(spec.group).is_some());
}

/// Metadata says a placement once per change, and a new replica may hear it before it begins: a
/// leader without one would never report who left.
#[test]
fn a_placement_that_comes_before_its_replica_begins_is_kept_for_it() {
    let mut trio = Trio::new(1);
    trio.pass(2_000);
    let (now, mut out) = (trio.now(), Out::default());
    let shard = &mut trio.shards[2];
    let spec = shard.member(GROUP).expect("it was created").spec().clone();
    let placement =
        Placement { replicas: spec.replicas.clone(), voters: 3, epoch: 5, ..Default::default() };
    shard.step(now, Input::Remove { group: GROUP }, &mut out);
    shard.step(now, Input::Place { group: GROUP, placement: Box::new(placement) }, &mut out);
    shard.step(now, Input::Create { spec: Box::new(spec) }, &mut out);
    let placed = shard.member(GROUP).and_then(|member| member.placement.as_ref());
    assert_eq!(placed.map(|placement| placement.epoch), Some(5));
}
