//! Log starts, preferred leaders and what a quorum says of itself.

use super::*;

impl Trio {
    pub(super) fn ask(&mut self, at: usize, reply: u32, ask: AdminAsk, within_ms: u64) {
        let now = self.now();
        let deadline_ns = now.boot_ns + within_ms * 1_000_000;
        let mut out = Out::default();
        self.shards[at].step(now, Input::Admin { group: GROUP, ask, deadline_ns, reply }, &mut out);
        self.take(at, &mut out, &mut Vec::new());
        self.settle();
    }

    pub(super) fn told(&self, reply: u32) -> Option<Result<AdminAnswer, ErrorCode>> {
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

/// The third replica is cut off and has the first of six records. Offsets 0 and 1 are a segment, 2 and 3
/// another, the rest the one that grows.
fn with_one_behind() -> Trio {
    let mut trio = Trio::new(1);
    trio.serve();
    trio.produce(0, 0, 70, 0, -1);
    trio.cut[2] = true;
    (1..6).for_each(|n| trio.produce(0, n, 70, n as i32, -1));
    let applied = trio.shards[0].member(GROUP).unwrap().machine().applied();
    trio.cut_segments(&[(1, 0), (applied - 3, 2), (applied - 1, 4)]);
    trio
}

#[test]
fn a_log_start_waits_for_a_voter_that_would_lose_its_only_source() {
    let mut trio = with_one_behind();
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
    let mut trio = with_one_behind();
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
