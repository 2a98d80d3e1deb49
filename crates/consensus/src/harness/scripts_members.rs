//! Scripts about membership: replicas that come, catch up, vote and leave.

use super::*;
use crate::{ChangeRefused, MembershipChange};

fn ids(all: &[u64]) -> Vec<ReplicaId> {
    all.iter().copied().map(ReplicaId).collect()
}

fn swap(add: &[u64], remove: &[u64]) -> MembershipChange {
    MembershipChange::Swap { add: ids(add), remove: ids(remove) }
}

fn learner(id: u64) -> MembershipChange {
    MembershipChange::AddLearner(ReplicaId(id))
}

fn refused(world: &mut World, id: u64, change: &MembershipChange) -> Option<ChangeRefused> {
    let mut why = None;
    world.turn(id, |group, _, _| why = group.propose_change(change).err());
    why
}

/// A learner that holds everything.
fn fill(world: &mut World, id: u64, born: u64) {
    world.join(id, born);
    assert!(world.change(&learner(id)), "{}", world.text());
    let full = |world: &World| {
        let leader = world.leader().expect("somebody leads");
        let group = world.group(id);
        group.last_index() == world.group(leader).last_index() && group.learners().contains(&id)
    };
    assert!(world.run_until(3_000, full).is_some(), "{}", world.text());
}

fn settled(world: &mut World, voters: &[u64]) {
    let done = |world: &World| {
        let Some(leader) = world.leader() else { return false };
        let group = world.group(leader);
        group.voters() == voters && group.outgoing().is_empty() && group.may_change()
    };
    assert!(world.run_until(3_000, done).is_some(), "{}", world.text());
}

/// Failure F1: members join with empty logs, as learners first, and one of them takes over.
#[test]
fn f1_members_that_join_empty_receive_everything_and_can_take_over() {
    let mut world = World::new(1, 1);
    world.start(1, true);
    world.run_ms(50);
    for n in 0..22 {
        world.propose(1, &format!("{n}")).unwrap();
    }
    world.run_ms(50);
    for id in [2, 3] {
        fill(&mut world, id, 1);
    }
    assert!(world.group(2).last_index() >= 22 && world.group(3).last_index() >= 22);
    assert!(world.change(&swap(&[2, 3], &[])));
    settled(&mut world, &[1, 2, 3]);
    world.crash(1, 9);
    let leader = world.run_until(6_000, |world| world.leader().is_some());
    assert!(leader.is_some(), "{}", world.text());
    world.run_ms(300);
    let leader = world.leader().unwrap();
    let index = world.propose(leader, "goes on").unwrap();
    assert!(index >= 22);
    world.run_ms(300);
    assert_eq!(world.nodes[&2].applied, world.nodes[&3].applied);
    assert_eq!(world.nodes[&2].applied.last().unwrap().data, "goes on");
    world.expect_sound();
}

#[test]
fn a_dead_replica_is_replaced_and_its_vote_counts_no_more() {
    let mut world = World::formed(3, 1);
    world.propose(1, "before").unwrap();
    world.run_ms(200);
    world.crash(3, 9);
    fill(&mut world, 4, 3);
    assert!(world.change(&swap(&[4], &[3])));
    settled(&mut world, &[1, 2, 4]);
    // Two of the new three go on without the third; the removed one would not be enough.
    world.crash(2, 9);
    let index = world.propose(1, "after").unwrap();
    world.run_ms(300);
    assert!(world.group(1).commit_index() >= index, "{}", world.text());
    world.start(3, false);
    world.run_ms(5_000);
    // The removed one never hears of it; it asks in vain and deposes nobody.
    assert_eq!((world.leader(), world.group(1).term()), (Some(1), 1), "{}", world.text());
    world.expect_sound();
}

#[test]
fn changes_that_do_not_fit_are_refused_by_name() {
    let mut world = World::formed(3, 1);
    assert_eq!(refused(&mut world, 2, &learner(4)), Some(ChangeRefused::NotLeader));
    assert_eq!(refused(&mut world, 1, &learner(2)), Some(ChangeRefused::Unfit));
    assert_eq!(refused(&mut world, 1, &swap(&[4], &[])), Some(ChangeRefused::Unfit));
    assert_eq!(refused(&mut world, 1, &swap(&[], &[9])), Some(ChangeRefused::Unfit));
    assert_eq!(refused(&mut world, 1, &swap(&[], &[1])), Some(ChangeRefused::RemovesLeader));
    let gone = MembershipChange::RemoveLearner(ReplicaId(2));
    assert_eq!(refused(&mut world, 1, &gone), Some(ChangeRefused::Unfit));
    // One at a time: raft would turn the second into an empty entry and say Ok.
    world.join(4, 3);
    assert_eq!(refused(&mut world, 1, &learner(4)), None);
    assert_eq!(refused(&mut world, 1, &learner(5)), Some(ChangeRefused::Busy));
    world.run_ms(300);
    assert_eq!(refused(&mut world, 1, &MembershipChange::RemoveLearner(ReplicaId(4))), None);
    world.run_ms(300);
    assert_eq!(world.group(1).learners(), &[] as &[u64]);
    world.expect_sound();
}

/// Failure F1: raft itself would take the second change for an empty entry and say Ok.
#[test]
fn f1_a_change_waits_until_the_joint_state_before_it_is_left() {
    let mut world = World::formed(3, 1);
    fill(&mut world, 4, 3);
    world.run_ms(300);
    assert!(world.change(&swap(&[4], &[2])));
    // In the joint state no majority of the new half is left to end it.
    let joint = |world: &World| !world.group(1).outgoing().is_empty();
    world.run_until(100, joint).expect("the joint state is entered");
    for id in [3, 4] {
        world.cut.extend([(1, id), (id, 1)]);
    }
    for _ in 0..5 {
        world.run_ms(100);
        assert!(joint(&world), "{}", world.text());
        assert_eq!(refused(&mut world, 1, &learner(5)), Some(ChangeRefused::Busy));
    }
    world.cut.clear();
    settled(&mut world, &[1, 3, 4]);
    assert_eq!(refused(&mut world, 1, &learner(5)), None);
    world.expect_sound();
}

#[test]
fn a_leader_hands_over_before_it_is_removed() {
    let mut world = World::new(1, 1);
    world.start(1, true);
    world.run_ms(100);
    world.propose(1, "kept").unwrap();
    fill(&mut world, 2, 1);
    assert!(world.change(&swap(&[2], &[])));
    settled(&mut world, &[1, 2]);
    world.turn(1, |group, now, _| group.transfer_leader(now, Some(ReplicaId(2))));
    world.run_ms(300);
    assert_eq!(world.leader(), Some(2), "{}", world.text());
    assert!(world.change(&swap(&[], &[1])));
    settled(&mut world, &[2]);
    world.crash(1, 9);
    world.propose(2, "alone").unwrap();
    world.run_ms(200);
    assert_eq!(world.nodes[&2].applied.last().unwrap().data, "alone");
    world.expect_sound();
}

#[test]
fn the_preferred_replica_is_the_one_it_was_told() {
    let mut world = World::formed(3, 1);
    world.propose(1, "x").unwrap();
    world.run_ms(200);
    (1..=3).for_each(|id| world.crash(id, 9));
    for id in 1..=3 {
        world.start(id, false);
        world.turn(id, |group, now, _| {
            group.set_preferred(Some(ReplicaId(3)));
            group.majority_connected(now, true);
        });
    }
    world.run_ms(1_000);
    assert_eq!(world.leader(), Some(3), "{}", world.text());
    world.expect_sound();
}
