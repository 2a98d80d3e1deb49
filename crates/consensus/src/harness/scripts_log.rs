//! Scripts a reader can follow: conflicts, forgetting, laggards, slow disks, restores.

use model::{HardState, LogEntry, RaftEntryType};

use super::*;
use crate::eraftpb::{ConfState, Entry};
use crate::{ConsensusError, GroupConfig, ReplicationState, Restored, Timing};

fn entry(index: u64, term: u64) -> LogEntry {
    let data = Bytes::from(format!("{index}@{term}"));
    let entry_type = RaftEntryType::Normal;
    LogEntry { index, term, entry_type, context: Bytes::new(), data }
}

fn conf() -> ConfState {
    ConfState { voters: vec![1, 2, 3], ..ConfState::default() }
}

fn config() -> GroupConfig {
    let (group, replica) = (model::GroupId(7), ReplicaId(3));
    GroupConfig { group, replica, seed: 1, timing: Timing::default() }
}

fn message(kind: MessageType, term: u64) -> Message {
    let mut msg = Message::default();
    msg.set_msg_type(kind);
    (msg.from, msg.to, msg.term) = (1, 3, term);
    msg
}

pub(super) fn append(
    term: u64,
    prev: (u64, u64),
    commit: u64,
    entries: Vec<(u64, u64)>,
) -> Message {
    let mut msg = message(MessageType::MsgAppend, term);
    (msg.index, msg.log_term, msg.commit) = (prev.0, prev.1, commit);
    let entries = entries.into_iter().map(|(i, t)| crate::convert::to_raft(entry(i, t)));
    msg.set_entries(entries.collect::<Vec<Entry>>().into());
    msg
}

/// Failure F0, seed 000: the log 601..=624 of term 1; a leader of term 3 replaces 619, one of
/// term 4 then sends 620..=622.
pub(super) fn seed_000() -> (Group, Now) {
    let restored = Restored {
        hard_state: HardState { term: 1, vote: 0, commit: 600 },
        conf_state: conf(),
        applied: 600,
        start_index: 600,
        terms: vec![(1, 1)],
        entries: (601..=624).map(|index| entry(index, 1)).collect(),
        ..Restored::default()
    };
    let now = Now { boot_ns: 5_000 * MS, wall_ms: 0 };
    (Group::new(config(), restored, now).unwrap(), now)
}

fn seed_000_messages(group: &mut Group, now: Now) -> GroupOut {
    let mut out = GroupOut::default();
    let messages = [
        append(3, (618, 1), 610, vec![(619, 3)]),
        append(4, (619, 3), 610, vec![(620, 3), (621, 3), (622, 4)]),
    ];
    for msg in messages {
        group.receive(now, ReplicaId(1), msg);
        group.flush(now, now.boot_ns, &mut out);
    }
    out
}

#[test]
fn f0_a_conflict_truncates_the_tail_before_it_appends() {
    let (mut group, now) = seed_000();
    let out = seed_000_messages(&mut group, now);
    assert_eq!((group.last_index(), group.term_of(619)), (622, Some(3)));
    let truncated: Vec<_> = out.events.iter().filter(|e| e.as_str() == "log_truncated").collect();
    assert_eq!(truncated, [&Event::LogTruncated { from: 619, removed: 6, term: 3 }]);
    assert_eq!(out.writes[0].entries, [entry(619, 3)]);
    assert_eq!(out.committed.len(), 10, "601..=610");
}

/// Planted: the stale tail stays. The invariant names it; nothing panics, nothing goes on.
#[test]
fn f0_a_stale_tail_is_named_before_raft_panics_on_it() {
    let (mut group, now) = seed_000();
    group.raw.mut_store().keeps_stale_tail = true;
    let out = seed_000_messages(&mut group, now);
    let invariant = crate::Invariant::LogViewMismatch;
    assert!(out.events.contains(&Event::InvariantViolated { invariant }));
    assert!(group.is_broken());
}

#[test]
fn f1_a_follower_that_forgot_what_it_acknowledged_turns_suspect_instead_of_panicking() {
    let mut world = World::formed(3, 1);
    world.nodes.get_mut(&3).unwrap().forgets_writes = true;
    for n in 0..22 {
        world.propose(1, &format!("{n}"));
    }
    world.run_ms(200);
    world.crash(3, 9);
    world.start(3, false);
    world.log.clear();
    world.run_ms(1_000);
    let text = world.text();
    assert!(text.contains("n3 suspect: commit_beyond_log, commit 23, last index 1"), "{text}");
    assert!(world.group(3).is_suspect() && !world.group(3).is_broken());
    // It neither votes nor leads: with the other follower gone too, nobody does.
    world.crash(1, 9);
    world.turn(3, |group, now, _| group.peer_died(now, ReplicaId(1)));
    world.run_ms(6_000);
    assert_eq!(world.leader(), None);
    assert!(world.text().contains("refused MsgRequestPreVote of n2: suspect"));
    // A healthy majority goes on.
    world.start(1, false);
    world.run_ms(4_000);
    let leader = world.leader().unwrap();
    assert!(leader != 3);
    world.propose(leader, "on").unwrap();
    world.run_ms(200);
    assert_eq!(world.nodes[&leader].applied.last().unwrap().data, "on");
}

#[test]
fn a_lagging_follower_is_fed_from_segments() {
    let mut world = World::formed(3, 1);
    for node in world.nodes.values_mut() {
        node.releases_log = true;
    }
    world.isolate(3);
    let block = "x".repeat(256 << 10);
    for n in 0..40 {
        world.propose(1, &format!("{n} {block}")).unwrap();
        world.run_ms(10);
    }
    let status = world.group(1).status(world.now(1));
    assert!(status.memory_first_index > 30, "{} in memory", status.memory_first_index);
    assert!(status.memory_bytes <= model::limits::LOG_VIEW_KEEP_BYTES);
    assert_eq!(world.group(1).isr(world.now(1), 100), [ReplicaId(1), ReplicaId(2)]);
    world.cut.clear();
    let target = world.group(1).last_index();
    let took = world.run_until(5_000, |world| world.group(3).applied_index() >= target).unwrap();
    assert!(took < 1_200, "took {took}");
    world.run_ms(10);
    assert_eq!(world.nodes[&1].applied, world.nodes[&3].applied);
    let status = world.group(1).status(world.now(1));
    assert_eq!((status.fetches_in_flight, status.peers[1].matched), (0, target));
    assert_eq!(status.peers[1].state, ReplicationState::Replicate);
    assert_eq!(world.group(1).copies(target), 3);
    assert_eq!(world.group(1).isr(world.now(1), 1_000).len(), 3);
    world.expect_sound();
}

#[test]
fn a_replica_whose_process_died_is_in_sync_no_more() {
    const LAG_MS: u64 = 30_000;
    let mut world = World::formed(3, 1);
    world.run_ms(200);
    let isr = |world: &World| world.group(1).isr(world.now(1), LAG_MS).len();
    world.crash(3, 0);
    assert_eq!(isr(&world), 3, "silence alone is not death");
    world.turn(1, |group, now, _| group.peer_died(now, ReplicaId(3)));
    assert_eq!(isr(&world), 2);
    world.start(3, false);
    world.run_ms(200);
    assert_eq!(isr(&world), 2, "until its connection is back");
    world.turn(1, |group, now, _| group.peer_alive(now, ReplicaId(3)));
    assert_eq!(isr(&world), 3);
    world.expect_sound();
}

#[test]
fn bytes_in_flight_to_a_slow_follower_are_bounded() {
    let mut world = World::formed(3, 1);
    for node in world.nodes.values_mut() {
        node.releases_log = true;
    }
    world.isolate(3);
    let block = "x".repeat(512 << 10);
    for n in 0..100 {
        world.propose(1, &format!("{n} {block}")).unwrap();
        world.run_ms(10);
    }
    world.cut.clear();
    world.disk_ms = (40, 60);
    let target = world.group(1).last_index();
    let (mut most, mut closed) = (0, false);
    while world.group(3).applied_index() < target {
        world.run_ms(1);
        let peer = &world.group(1).progress()[1];
        most = most.max(peer.inflight_bytes);
        closed |= peer.state == ReplicationState::Replicate && peer.paused;
        assert!(world.ms() < 20_000, "{most} {}", world.text());
    }
    let turn = model::limits::CATCH_UP_BYTES_MAX + model::limits::APPEND_BYTES_MAX;
    assert!(most > model::limits::INFLIGHT_APPEND_BYTES_MAX / 2 && closed, "{most}");
    assert!(most <= model::limits::INFLIGHT_APPEND_BYTES_MAX + turn, "{most}");
    // The window opens again, also for a new leader's term.
    world.disk_ms = (1, 1);
    world.run_ms(1_000);
    let peer = &world.group(1).progress()[1];
    assert_eq!((peer.inflight_bytes, peer.paused), (0, false));
    world.expect_sound();
}

#[test]
fn a_failed_or_wrong_read_for_a_laggard_is_asked_for_again() {
    let mut world = World::formed(3, 1);
    world.nodes.get_mut(&1).unwrap().releases_log = true;
    world.isolate(3);
    let block = "x".repeat(300 << 10);
    for n in 0..12 {
        world.propose(1, &format!("{n} {block}")).unwrap();
        world.run_ms(10);
    }
    world.cut.clear();
    // The first reads find nothing, the next finds entries of another log.
    let good = std::mem::take(&mut world.nodes.get_mut(&1).unwrap().applied);
    world.run_ms(400);
    let forged = good.iter().map(|e| LogEntry { term: e.term + 1, ..e.clone() }).collect();
    world.nodes.get_mut(&1).unwrap().applied = forged;
    world.run_ms(400);
    assert!(world.text().contains("BROKEN fetched_entries_mismatch"), "{}", world.text());
    assert!(world.group(3).applied_index() < 5);
    world.nodes.get_mut(&1).unwrap().applied = good;
    world.run_ms(1_000);
    assert_eq!(world.group(3).applied_index(), world.group(1).applied_index());
    world.expect_sound();
}

#[test]
fn a_peer_behind_the_log_start_is_named_and_costs_nobody_else() {
    let mut world = World::formed(3, 1);
    world.makes_snapshots = false;
    world.isolate(3);
    for n in 0..10 {
        world.propose(1, &format!("{n}")).unwrap();
    }
    world.run_ms(200);
    world.turn(1, |group, _, _| {
        group.release_log(8);
        group.set_start_index(8);
    });
    let group = world.group(1);
    assert_eq!((group.first_index(), group.term_of(8), group.term_of(7)), (9, Some(1), None));
    world.cut.clear();
    world.log.clear();
    world.run_ms(1_000);
    world.expect("604 n1 n3 needs a snapshot: it is behind 9");
    assert!(world.group(1).progress()[1].snapshot_needed);
    world.propose(1, "goes on").unwrap();
    world.run_ms(100);
    assert_eq!(world.nodes[&1].applied.last().unwrap().data, "goes on");
}

#[test]
fn a_slow_disk_holds_acks_back_but_not_heartbeat_responses() {
    let mut world = World::formed(3, 1);
    world.crash(3, 9);
    world.disk_ms = (1_000, 1_000);
    world.propose(1, "slow").unwrap();
    world.run_ms(900);
    let group = world.group(1);
    assert_eq!((group.commit_index(), group.last_index()), (1, 2));
    let lease = group.lease_remaining_ms(world.now(1)).unwrap();
    assert!(lease > 250, "the follower kept answering: {lease}");
    world.run_ms(200);
    assert_eq!(world.group(1).commit_index(), 2);
    world.expect_sound();
}

#[test]
fn a_crash_between_two_records_is_fitted_and_what_cannot_be_is_refused() {
    let now = Now { boot_ns: 5_000 * MS, wall_ms: 0 };
    let restored = |state: (u64, u64, u64), applied, entries: Vec<LogEntry>| Restored {
        hard_state: HardState { term: state.0, vote: state.1, commit: state.2 },
        conf_state: conf(),
        applied,
        entries,
        terms: (applied > 0).then_some((1, 1)).into_iter().collect(),
        ..Restored::default()
    };
    let build = |restored| Group::new(config(), restored, now);
    // Entries of term 4 reached the disk, the hard state that followed them did not.
    let group = build(restored((3, 2, 9), 1, vec![entry(2, 2), entry(3, 4)])).unwrap();
    assert_eq!(group.hard_state(), HardState { term: 4, vote: 0, commit: 3 });
    // Applied is committed, whatever the hard state still says.
    let group = build(restored((2, 1, 0), 2, vec![entry(3, 2)])).unwrap();
    assert_eq!((group.commit_index(), group.applied_index()), (2, 2));
    let refused = |restored| build(restored).err().unwrap();
    assert_eq!(
        refused(restored((1, 0, 0), 0, vec![entry(2, 1)])),
        ConsensusError::EntriesMissing { first: 2, applied: 0 }
    );
    assert_eq!(
        refused(restored((1, 0, 0), 0, vec![entry(1, 1), entry(3, 1)])),
        ConsensusError::EntryGap { expected: 2, found: 3 }
    );
    assert_eq!(
        refused(restored((1, 0, 0), 0, vec![entry(1, 2), entry(2, 1)])),
        ConsensusError::TermFalls { index: 2 }
    );
    let mut unknown = restored((1, 0, 5), 5, vec![]);
    unknown.start_index = 4;
    unknown.terms = vec![(5, 1)];
    assert_eq!(refused(unknown), ConsensusError::TermUnknown { index: 4 });
    let mut early = restored((1, 0, 5), 5, vec![]);
    early.start_index = 6;
    assert_eq!(refused(early), ConsensusError::AppliedBeforeStart { applied: 5, start: 6 });
}

/// Each of these would panic raft-rs, be forwarded silently, or be believed.
#[test]
fn what_no_correct_peer_sends_never_reaches_raft() {
    let forge = |change: &dyn Fn(&mut Message)| {
        let mut msg = append(4, (624, 1), 610, vec![(625, 4)]);
        change(&mut msg);
        msg
    };
    let misrouted = {
        let mut msg = append(9, (700, 1), 700, vec![]);
        msg.log_term = 0;
        msg
    };
    let mut stranger = message(MessageType::MsgAppendResponse, 4);
    stranger.from = 9;
    let mut heartbeat = message(MessageType::MsgHeartbeat, 4);
    heartbeat.commit = 625;
    let cases = [
        (forge(&|msg| msg.to = 2), "wrong_receiver"),
        (forge(&|msg| msg.from = 3), "wrong_sender"),
        (forge(&|msg| msg.term = 0), "malformed"),
        (forge(&|msg| msg.term = 3), "malformed"),
        (forge(&|msg| msg.index = 623), "malformed"),
        (misrouted, "malformed"),
        (stranger, "unknown_sender"),
        (message(MessageType::MsgPropose, 0), "local_kind"),
        (message(MessageType::MsgHup, 0), "local_kind"),
        (message(MessageType::MsgTransferLeader, 4), "local_kind"),
        (message(MessageType::MsgSnapshot, 4), "snapshot"),
        (message(MessageType::MsgReadIndex, 0), "not_leader"),
        (message(MessageType::MsgTimeoutNow, 1), "timeout_now"),
        (heartbeat, "commit_beyond_log"),
    ];
    for (msg, expected) in cases {
        let (mut group, now) = seed_000();
        let (kind, from) = (msg.get_msg_type(), if msg.from == 9 { 9 } else { 1 });
        group.receive(now, ReplicaId(from), msg);
        let mut out = GroupOut::default();
        group.flush(now, now.boot_ns, &mut out);
        let why = out.events.iter().find_map(|event| match event {
            Event::MessageRefused { why, .. } => Some(why.as_str()),
            _ => None,
        });
        assert_eq!(why, Some(expected), "{kind:?}");
        // Who is told aside, its leader, is told nothing that raft sees.
        let aside =
            |msg: &Message| msg.get_msg_type() == MessageType::MsgHeartbeatResponse && msg.reject;
        assert_eq!(out.messages.len(), usize::from(expected == "commit_beyond_log"), "{kind:?}");
        assert!(out.messages.iter().all(aside) && out.writes.is_empty(), "{kind:?}");
    }
}

#[test]
fn an_ack_of_what_the_leader_does_not_have_is_refused() {
    let mut world = World::formed(3, 1);
    let mut ack = message(MessageType::MsgAppendResponse, 1);
    (ack.from, ack.to, ack.index) = (3, 1, 99);
    world.turn(1, |group, now, _| group.receive(now, ReplicaId(3), ack));
    assert_eq!(world.group(1).progress()[1].matched, 1);
    world.expect("300 n1 refused MsgAppendResponse of n3: ack_beyond_log");
}

#[test]
fn a_proposal_is_taken_whole_or_not_at_all() {
    let mut world = World::formed(3, 1);
    let batch = |n: usize, size| vec![(Bytes::new(), Bytes::from(vec![0u8; size])); n];
    let (mut taken, mut dropped, mut follower) = (None, None, None);
    world.turn(1, |group, _, _| {
        taken = Some(group.propose(batch(3, 10 << 20)));
        dropped = Some(group.propose(batch(2, 10 << 20)));
    });
    world.turn(2, |group, _, _| follower = Some(group.propose(batch(1, 1))));
    assert_eq!(taken, Some(Ok(2)));
    let reason = crate::DropReason::UncommittedLimit;
    assert_eq!(dropped, Some(Err(crate::ProposeError::Dropped(reason))));
    let leader = Some(ReplicaId(1));
    assert_eq!(follower, Some(Err(crate::ProposeError::NotLeader { leader })));
    world.run_ms(100);
    assert_eq!(world.group(1).commit_index(), 4);
    assert_eq!(world.propose(1, "room again"), Some(5));
    world.expect_sound();
}
