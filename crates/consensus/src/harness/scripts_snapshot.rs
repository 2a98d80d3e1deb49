//! Scripts a reader can follow: a follower behind the log start is filled by a snapshot, whatever
//! happens on the way.

use super::*;

/// A group whose followers 1 and 2 have cut their log behind what replica 3 has.
fn left_behind(seed: u64) -> World {
    let mut world = World::formed(3, seed);
    for node in world.nodes.values_mut() {
        node.releases_log = true;
    }
    world.isolate(3);
    for n in 0..10 {
        world.propose(1, &format!("{n}")).unwrap();
        world.run_ms(10);
    }
    world.run_ms(400);
    for id in [1, 2] {
        world.turn(id, |group, _, _| group.set_start_index(8));
    }
    world.log.clear();
    world
}

fn is_filled(world: &World) -> bool {
    let leader = world.leader().unwrap();
    let target = world.group(leader).last_index();
    let filled = world.nodes[&3].group.as_ref();
    filled.is_some_and(|group| group.applied_index() >= target && !group.is_installing())
}

/// What replica 3 applied is what the leader applied, and it goes on with the others.
fn expect_filled(world: &mut World) {
    let took = world.run_until(30_000, is_filled);
    assert!(took.is_some(), "{}", world.text());
    let leader = world.leader().unwrap();
    world.propose(leader, "after").unwrap();
    world.run_ms(400);
    assert_eq!(world.nodes[&3].applied, world.nodes[&leader].applied);
    assert_eq!(world.nodes[&3].applied.last().unwrap().data, "after");
    world.expect_sound();
}

#[test]
fn a_follower_behind_the_log_start_is_filled_by_a_snapshot() {
    let mut world = left_behind(1);
    world.cut.clear();
    expect_filled(&mut world);
    let text = world.text();
    let told = |line: &str| text.lines().filter(|said| said.contains(line)).count();
    assert_eq!(told("n1 n3 needs a snapshot: it is behind 9"), 1, "{text}");
    assert_eq!(told("n1 sends n3 a snapshot of 11"), 1, "{text}");
    assert_eq!(told("n3 restored from a snapshot of 11 in term 1"), 1, "{text}");
    assert_eq!(told("n1 snapshot for n3: finished"), 1, "{text}");
    // It can serve what came with the snapshot, and knows the terms of it.
    assert_eq!((world.group(3).first_index(), world.group(3).term_of(8)), (9, Some(1)));
    // And it is a whole member: with the leader gone it votes, and may lead.
    world.crash(1, 9);
    world.run_ms(6_000);
    assert!(world.leader().is_some(), "{}", world.text());
    world.expect_sound();
}

#[test]
fn a_transfer_that_fails_and_is_reported_is_tried_again_at_once() {
    let mut world = left_behind(2);
    world.transfers_fail = 3;
    world.cut.clear();
    let began = world.ms();
    expect_filled(&mut world);
    assert_eq!(world.text().matches("snapshot for n3: failed").count(), 3, "{}", world.text());
    assert_eq!(world.transfers, 4);
    assert!(world.ms() - began < 3_000, "{}", world.text());
}

/// Planted in effect: nobody reports. Without a time-out the peer would be paused for ever.
#[test]
fn a_transfer_that_dies_in_silence_is_given_up_and_tried_again() {
    let mut world = left_behind(3);
    (world.transfers_fail, world.reported) = (1, false);
    world.cut.clear();
    expect_filled(&mut world);
    let text = world.text();
    assert_eq!(text.matches("snapshot for n3: timed_out").count(), 1, "{text}");
    assert_eq!(world.transfers, 2);
}

#[test]
fn a_transfer_that_shows_signs_of_life_is_waited_for() {
    let mut world = left_behind(4);
    world.transfer_ms = (25_000, 25_000);
    world.cut.clear();
    for _ in 0..24 {
        world.run_ms(1_000);
        world.turn(1, |group, now, _| group.snapshot_lives(now, ReplicaId(3)));
    }
    expect_filled(&mut world);
    assert_eq!((world.transfers, world.text().matches("timed_out").count()), (1, 0));
}

#[test]
fn a_snapshot_older_than_what_the_follower_has_is_answered_and_ignored() {
    let mut world = left_behind(5);
    let old = world.nodes[&1].snapshot().unwrap();
    world.cut.clear();
    expect_filled(&mut world);
    let mut msg = Message { from: 1, to: 3, term: 1, ..Message::default() };
    msg.set_msg_type(MessageType::MsgSnapshot);
    msg.set_snapshot(old);
    let before = world.group(3).last_index();
    assert_eq!(
        world.group(3).judge_snapshot(ReplicaId(1), &msg),
        crate::SnapshotVerdict::Step,
        "nothing is fetched for it"
    );
    world.log.clear();
    world.turn(3, |group, now, _| group.step_snapshot(now, ReplicaId(1), msg));
    assert!(world.text().contains("n3 ignored a snapshot of 11"), "{}", world.text());
    assert_eq!(world.group(3).last_index(), before);
    expect_filled(&mut world);
}

#[test]
fn a_crash_between_the_snapshot_and_its_durability_loses_the_snapshot_only() {
    let mut world = left_behind(6);
    world.disk_ms = (60, 60);
    world.cut.clear();
    world.run_until(5_000, |world| world.group(3).is_installing()).unwrap();
    let acked = |world: &World| {
        let status = world.group(1).status(world.now(1));
        status.peers.iter().find(|peer| peer.replica == ReplicaId(3)).unwrap().matched
    };
    world.run_ms(20);
    assert!(world.group(3).is_installing() && acked(&world) < 11, "acknowledged too early");
    world.crash(3, 0);
    assert_eq!(world.nodes[&3].base, (0, 0));
    world.start(3, false);
    assert!(!world.group(3).is_suspect());
    expect_filled(&mut world);
    // Again, but the crash comes behind it: nothing is fetched again.
    let transfers = world.transfers;
    world.crash(3, 0);
    assert!(world.nodes[&3].base.0 >= 11);
    world.start(3, false);
    expect_filled(&mut world);
    assert_eq!(world.transfers, transfers);
}

#[test]
fn a_follower_with_a_conflicting_tail_loses_it_to_the_snapshot() {
    let mut world = left_behind(7);
    // Replica 3 led once and kept what nobody else has.
    world.cut.clear();
    expect_filled(&mut world);
    world.turn(1, |group, now, _| group.transfer_leader(now, Some(ReplicaId(3))));
    world.run_ms(600);
    assert_eq!(world.leader(), Some(3), "{}", world.text());
    world.isolate(3);
    for n in 0..30 {
        world.propose(3, &format!("lost {n}"));
    }
    world.run_ms(6_000);
    let leader = world.leader().unwrap();
    assert!(leader != 3, "{}", world.text());
    for n in 0..10 {
        world.propose(leader, &format!("kept {n}")).unwrap();
        world.run_ms(20);
    }
    world.run_ms(400);
    let start = world.group(leader).applied_index() - 1;
    for id in [1, 2] {
        world.turn(id, |group, _, _| group.set_start_index(start));
    }
    assert!(world.group(3).last_index() > world.group(leader).last_index());
    world.cut.clear();
    expect_filled(&mut world);
    let lost = world.nodes[&3].applied.iter().any(|entry| entry.data.starts_with(b"lost"));
    assert!(!lost && world.nodes[&3].entries.iter().all(|e| !e.data.starts_with(b"lost")));
}

#[test]
fn a_snapshot_that_nobody_may_send_is_refused() {
    let mut world = left_behind(8);
    let mut msg = Message { from: 1, to: 3, term: 1, ..Message::default() };
    msg.set_msg_type(MessageType::MsgSnapshot);
    let good = world.nodes[&1].snapshot().unwrap();
    let judge = |world: &World, change: &dyn Fn(&mut Message)| {
        let mut msg = msg.clone();
        msg.set_snapshot(good.clone());
        change(&mut msg);
        world.group(3).judge_snapshot(ReplicaId(1), &msg)
    };
    use crate::SnapshotVerdict::{Fetch, Refuse};
    assert_eq!(judge(&world, &|_| ()), Fetch);
    let malformed = Refuse(crate::RefusedMessage::Malformed);
    assert_eq!(judge(&world, &|m| m.mut_snapshot().mut_metadata().index = 0), malformed);
    assert_eq!(judge(&world, &|m| m.mut_snapshot().mut_metadata().term = 9), malformed);
    let stranger = |m: &mut Message| {
        m.mut_snapshot().mut_metadata().mut_conf_state().voters = vec![1, 2];
    };
    assert_eq!(judge(&world, &stranger), malformed);
    // Terms that do not belong to it: as good as lost, and nothing is changed.
    let mut msg = msg.clone();
    msg.set_snapshot(good.clone());
    let log = crate::SnapshotLog { start_index: 8, terms: vec![(1, 1), (5, 4)] };
    world.turn(3, |group, now, _| {
        assert!(!group.install_snapshot(now, ReplicaId(1), msg, log));
    });
    assert!(!world.group(3).is_installing() && !world.group(3).is_broken());
    world.cut.clear();
    expect_filled(&mut world);
}

/// A new member refuses a snapshot in which it is no member: an offer made before it came is
/// withdrawn, and one that comes late is not taken.
#[test]
fn a_snapshot_of_an_older_membership_is_not_offered() {
    let mut world = left_behind(6);
    world.cut.clear();
    expect_filled(&mut world);
    let older = world.nodes[&1].snapshot();
    world.turn(1, |group, _, _| group.offer_snapshot(older.clone()));
    assert!(world.group(1).snapshot_offered().is_some());
    // Both ends of the log start behind the new one's: only a snapshot fills it.
    world.join(4, 3);
    assert!(world.change(&crate::MembershipChange::AddLearner(ReplicaId(4))));
    let joined = |world: &World| world.group(1).learners() == [4];
    assert!(world.run_until(1_000, joined).is_some(), "{}", world.text());
    world.turn(1, |group, _, _| {
        group.offer_snapshot(older);
        assert_eq!(group.snapshot_offered(), None);
    });
    world.run_ms(3_000);
    assert_eq!(world.nodes[&4].applied, world.nodes[&1].applied, "{}", world.text());
    assert!(world.text().contains("n4 restored from a snapshot"), "{}", world.text());
    world.expect_sound();
}
