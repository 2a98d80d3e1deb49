//! Scripts a reader can follow: elections, leases, hand-overs. Times are milliseconds.

use super::*;
use crate::{ElectionReason, Timing};

fn all_follow(world: &World, leader: u64) -> bool {
    let up = world.nodes.values().filter_map(|node| node.group.as_ref());
    up.into_iter().all(|group| group.leader() == Some(ReplicaId(leader)))
}

fn lease(world: &World, id: u64) -> Option<u64> {
    world.group(id).lease_remaining_ms(world.now(id))
}

fn die(world: &mut World, dead: u64, convinced: &[u64]) {
    world.crash(dead, 0);
    for id in convinced {
        world.turn(*id, |group, now, _| group.peer_died(now, ReplicaId(dead)));
    }
}

#[test]
fn a_new_group_s_first_replica_leads_at_once() {
    let mut world = World::new(3, 1);
    (1..=3).for_each(|id| world.start(id, true));
    world.run_ms(2_000);
    world.expect(
        "
        0 n1 formed
        0 n1 begins an election in term 0: new_group
        0 n1 follower -> pre_candidate in term 0: campaign
        0 n2 formed
        0 n3 formed
        2 n1 pre_candidate -> candidate in term 1: pre_vote_won
        6 n1 candidate -> leader in term 1: election_won
        6 n1 election won after 1 rounds: n1 granted, n2 granted, n3 silent
        7 n2 follows n1 in term 1: leader_found
        7 n3 follows n1 in term 1: leader_found
        8 n1 lease acquired in term 1
        ",
    );
}

#[test]
fn a_new_group_waits_for_late_members_by_asking_every_100_ms() {
    let mut world = World::new(3, 1);
    world.start(1, true);
    world.run_ms(430);
    assert_eq!(world.leader(), None);
    world.start(2, true);
    let took = world.run_until(1_000, |world| world.leader() == Some(1)).unwrap();
    assert!(took <= 110, "took {took}");
    assert!(world.text().contains("election won after 6 rounds"), "{}", world.text());
    world.expect_sound();
}

#[test]
fn death_has_a_sound() {
    // Without evidence the survivors wait out a time-out of 30 ticks and more.
    let mut world = World::formed(3, 1);
    die(&mut world, 1, &[]);
    let slow = world.run_until(5_000, |world| world.leader().is_some()).unwrap();
    assert!(slow > 1_500, "{slow}");
    // With it they wait for their own promise only.
    let mut world = World::formed(3, 1);
    world.run_ms(100);
    die(&mut world, 1, &[2, 3]);
    let fast = world.run_until(5_000, |world| world.leader().is_some()).unwrap();
    assert!(fast <= 650, "{fast}\n{}", world.text());
    world.run_ms(200);
    world.expect(
        "
        400 n1 crashed
        850 n2 follows nobody in term 1: death_evidence
        850 n2 begins an election in term 1: death_evidence
        850 n2 follower -> pre_candidate in term 1: campaign
        850 n3 follows nobody in term 1: death_evidence
        852 n2 pre_candidate -> candidate in term 2: pre_vote_won
        856 n2 candidate -> leader in term 2: election_won
        856 n2 election won after 1 rounds: n1 silent, n2 granted, n3 granted
        857 n3 follows n2 in term 2: leader_found
        858 n2 lease acquired in term 2
        ",
    );
}

#[test]
fn one_convinced_survivor_asks_in_vain_and_harms_nobody() {
    let mut world = World::formed(3, 1);
    die(&mut world, 1, &[2]);
    world.run_ms(1_000);
    assert_eq!(world.group(2).role(), Role::PreCandidate);
    assert_eq!((world.leader(), world.group(2).term()), (None, 1));
    // As soon as the other hears of it too, they agree.
    world.turn(3, |group, now, _| group.peer_died(now, ReplicaId(1)));
    let took = world.run_until(1_000, |world| world.leader() == Some(2)).unwrap();
    assert!(took <= 150, "{took}\n{}", world.text());
    world.expect_sound();
}

#[test]
fn a_false_alarm_keeps_the_leader() {
    let mut world = World::formed(3, 1);
    for id in [2, 3] {
        world.turn(id, |group, now, _| group.peer_died(now, ReplicaId(1)));
    }
    world.run_ms(3_000);
    // Heartbeats renew the promise: nobody even asks.
    world.expect("");
    // Even a survivor that stops following is refused by the living leader's other follower.
    world.cut.insert((1, 2));
    world.run_ms(900);
    assert_eq!(world.group(2).role(), Role::PreCandidate, "{}", world.text());
    world.cut.clear();
    world.run_ms(400);
    assert!(all_follow(&world, 1) && world.group(1).term() == 1, "{}", world.text());
    world.expect_sound();
}

#[test]
fn after_a_cold_start_the_preferred_replica_leads_as_soon_as_a_majority_is_there() {
    let mut world = World::formed(3, 1);
    world.propose(1, "before");
    world.run_ms(200);
    (1..=3).for_each(|id| world.crash(id, 9));
    (1..=3).for_each(|id| world.start(id, false));
    world.log.clear();
    world.run_ms(800);
    assert_eq!(world.leader(), None, "nobody is connected");
    for id in 1..=3 {
        world.turn(id, |group, now, _| group.majority_connected(now, true));
    }
    let took = world.run_until(1_000, |world| world.leader() == Some(1)).unwrap();
    assert!(took <= 10, "{took}");
    world.run_ms(200);
    world.expect(
        "
        1300 n1 begins an election in term 1: preferred
        1300 n1 follower -> pre_candidate in term 1: campaign
        1302 n1 pre_candidate -> candidate in term 2: pre_vote_won
        1306 n1 candidate -> leader in term 2: election_won
        1306 n1 election won after 1 rounds: n1 granted, n2 granted, n3 silent
        1307 n2 follows n1 in term 2: leader_found
        1307 n3 follows n1 in term 2: leader_found
        1308 n1 lease acquired in term 2
        ",
    );
}

#[test]
fn a_restarted_replica_neither_votes_nor_campaigns_before_its_old_promise_can_have_lapsed() {
    let mut world = World::formed(3, 1);
    world.isolate(1);
    world.run_ms(300);
    world.crash(2, 9);
    world.start(2, false);
    // Replica 3 is convinced and asks replica 2, which may have promised in its former life.
    world.turn(3, |group, now, _| group.peer_died(now, ReplicaId(1)));
    let took = world.run_until(2_000, |world| world.leader() == Some(3)).unwrap();
    assert!(took >= Timing::default().vote_promise_ms, "{took}\n{}", world.text());
    assert!(world.text().contains("refused MsgRequestPreVote of n3: vote_promise"));
    world.expect_sound();
}

#[test]
fn a_single_voter_leads_at_once_and_again_after_a_restart() {
    let mut world = World::new(1, 1);
    world.disk_ms = (40, 40);
    world.start(1, true);
    assert_eq!(world.leader(), Some(1));
    assert_eq!(lease(&world, 1), Some(u64::MAX));
    world.propose(1, "one");
    assert_eq!(world.group(1).commit_index(), 0, "nothing is durable yet");
    world.run_ms(200);
    assert_eq!(world.group(1).applied_index(), 2);
    world.propose(1, "lost");
    world.crash(1, 0);
    world.start(1, false);
    world.run_ms(200);
    assert_eq!(world.nodes[&1].applied[1].data, "one");
    assert_eq!(world.group(1).applied_index(), 3, "the lost entry's index is a new no-op's");
    world.expect(
        "
        0 n1 formed
        0 n1 begins an election in term 0: single_voter
        0 n1 follower -> leader in term 1: election_won
        0 n1 election won after 1 rounds: n1 granted
        0 n1 lease acquired in term 1
        200 n1 crashed
        200 n1 started
        200 n1 begins an election in term 1: single_voter
        200 n1 follower -> leader in term 2: election_won
        200 n1 election won after 1 rounds: n1 granted
        200 n1 lease acquired in term 2
        ",
    );
}

#[test]
fn two_voters_stop_when_one_is_gone() {
    let mut world = World::formed(2, 1);
    assert!(lease(&world, 1).is_some());
    world.crash(2, 9);
    world.run_ms(600);
    assert_eq!(lease(&world, 1), None);
    let index = world.propose(1, "unacknowledged").unwrap();
    world.run_ms(3_000);
    assert_eq!(world.leader(), None, "check quorum");
    world.start(2, false);
    world.run_ms(4_000);
    let leader = world.leader().unwrap();
    assert!(world.group(leader).commit_index() > index);
    assert!(all_follow(&world, leader));
    world.expect_sound();
}

/// The leader's process is stopped with a lease in hand; others take over; it wakes.
fn stopped_leader(plant: bool) -> (World, Option<u64>) {
    let mut world = World::new(3, 1);
    world.nodes.get_mut(&1).unwrap().rate_ppm = -1_000;
    for (id, node) in world.nodes.iter_mut() {
        node.rate_ppm = if *id == 1 { -1_000 } else { 1_000 };
        node.planted.lease_on_ticks = plant;
    }
    (1..=3).for_each(|id| world.start(id, true));
    world.run_ms(1_000);
    assert!(lease(&world, 1).is_some());
    let until = world.now_ns + 10_000 * MS;
    world.nodes.get_mut(&1).unwrap().paused_until_ns = until;
    for id in [2, 3] {
        world.turn(id, |group, now, _| group.peer_died(now, ReplicaId(1)));
    }
    world.run_until(2_000, |world| world.leader() != Some(1)).unwrap();
    let left = lease(&world, 1);
    (world, left)
}

#[test]
fn a_stopped_leader_wakes_without_a_lease() {
    let (world, left) = stopped_leader(false);
    assert_eq!((world.group(1).role(), left), (Role::Leader, None));
    world.expect_sound();
    // Planted: counted in its own ticks, the lease would still run.
    let (world, left) = stopped_leader(true);
    assert!(left.is_some());
    assert_eq!(world.violations[0], "n1 holds a lease beside a newer leader");
}

#[test]
fn a_hand_over_ends_the_lease_for_the_rest_of_the_term() {
    let mut world = World::formed(3, 1);
    assert!(lease(&world, 1).is_some());
    // MsgTimeoutNow is lost: raft gives the transfer up, the lease stays away.
    world.cut.insert((1, 3));
    world.turn(1, |group, now, _| group.transfer_leader(now, Some(ReplicaId(3))));
    assert_eq!(lease(&world, 1), None);
    world.run_ms(300);
    world.cut.clear();
    world.run_ms(2_000);
    assert_eq!((world.leader(), world.group(1).term()), (Some(1), 1));
    assert_eq!(lease(&world, 1), None);
    world.propose(1, "still leads").unwrap();
    world.turn(1, |group, _, _| group.read_index(5));
    world.run_ms(50);
    assert_eq!(world.nodes[&1].reads.len(), 1, "ReadIndex serves");
    // The next term is a new start, although the voters' promises still run.
    world.turn(1, |group, now, _| group.transfer_leader(now, None));
    let took = world.run_until(1_000, |world| world.leader() == Some(2)).unwrap();
    assert!(took <= 20, "{took}");
    world.run_ms(300);
    assert!(lease(&world, 2).is_some());
    world.expect_sound();
}

/// A draining broker asks in every turn: neither a turn without end nor an abort may come of it.
#[test]
fn a_hand_over_under_way_is_not_begun_again() {
    let mut world = World::formed(3, 1);
    world.cut.insert((1, 2));
    for _ in 0..5 {
        world.turn(1, |group, now, _| group.transfer_leader(now, None));
        world.run_ms(1);
    }
    let begun = world.log.iter().filter(|line| line.contains("TransferStarted")).count();
    assert_eq!(begun, 1, "{}", world.text());
    world.expect_sound();
}

#[test]
fn a_held_replica_hands_over_and_does_not_lead() {
    let mut world = World::formed(3, 1);
    world.turn(2, |group, _, _| group.hold());
    world.turn(1, |group, now, _| group.transfer_leader(now, Some(ReplicaId(2))));
    world.run_ms(1_700);
    assert_eq!(world.leader(), Some(1), "replica 2 does not obey");
    world.turn(1, |group, _, _| group.hold());
    world.run_ms(50);
    // With equal logs the lowest id would be asked first; but it was asked before, in vain.
    assert_eq!(world.leader(), Some(3), "{}", world.text());
    world.expect_sound();
}

#[test]
fn a_replica_whose_journal_is_damaged_stops_leading_and_voting() {
    let mut world = World::formed(3, 1);
    world.turn(1, |group, _, _| group.distrust());
    assert_eq!(lease(&world, 1), None);
    world.run_ms(200);
    let leader = world.leader().unwrap();
    assert!(leader != 1 && world.group(1).is_suspect());
    world.crash(leader, 9);
    world.run_ms(6_000);
    assert_eq!(world.leader(), None, "one healthy voter of three is no majority");
    world.expect_sound();
}

#[test]
fn reads_are_confirmed_by_a_majority_on_leaders_and_followers() {
    let mut world = World::formed(3, 1);
    let index = world.propose(1, "x").unwrap();
    world.run_ms(200);
    for id in [1, 2] {
        world.turn(id, |group, _, _| group.read_index(40 + id));
    }
    world.run_ms(20);
    for id in [1, 2] {
        let reads = std::mem::take(&mut world.nodes.get_mut(&id).unwrap().reads);
        assert_eq!(reads, [crate::ReadIndexed { ctx: 40 + id, index }], "replica {id}");
    }
    // Cut off from the majority nobody confirms.
    world.isolate(1);
    world.turn(1, |group, _, _| group.read_index(50));
    world.run_ms(400);
    assert!(world.nodes[&1].reads.is_empty());
    world.expect_sound();
}

#[test]
fn every_new_leader_leaves_a_joint_state_itself() {
    use crate::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};
    let mut world = World::formed(3, 1);
    let mut single = ConfChangeSingle::default();
    single.set_change_type(ConfChangeType::AddLearnerNode);
    single.node_id = 3;
    let mut change = ConfChangeV2::default();
    change.set_transition(ConfChangeTransition::Explicit);
    change.mut_changes().push(single);
    // The leader commits the entry that enters the joint state and dies at once.
    world.turn(1, |group, _, _| _ = group.test_propose_membership(&change));
    world.run_until(100, |world| world.group(1).conf_state().voters_outgoing.len() == 3).unwrap();
    die(&mut world, 1, &[2, 3]);
    world.start(1, false);
    world.run_ms(3_000);
    let leader = world.leader().unwrap();
    let state = world.group(leader).conf_state();
    assert!(state.voters_outgoing.is_empty(), "{state:?}\n{}", world.text());
    let mut voters = state.voters.clone();
    voters.sort_unstable();
    assert_eq!((voters, state.learners), (vec![1, 2], vec![3]));
    world.expect_sound();
}

#[test]
fn election_reasons_have_names_of_their_own() {
    let names: BTreeSet<_> = ElectionReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names.len(), ElectionReason::ALL.len());
}

/// One heartbeat in two is left out, and the lease never lapses for it.
#[test]
fn a_quiet_leader_keeps_its_lease_with_half_the_heartbeats() {
    let heard = |world: &mut World| {
        let before = world.heartbeats;
        for _ in 0..600 {
            world.run_ms(10);
            assert!(lease(world, 1).is_some(), "at {} ms\n{}", world.ms(), world.text());
        }
        world.heartbeats - before
    };
    let mut world = World::formed(3, 5);
    world.run_ms(2_000);
    // Two followers, one in 300 ms, and now and then one out of step.
    let quiet = heard(&mut world);
    assert!((40..=50).contains(&quiet), "{quiet}");
    let mut busy = 0;
    for number in 0..6 {
        world.propose(1, &format!("news {number}")).expect("it leads");
        let before = world.heartbeats;
        world.run_ms(1_000);
        busy += world.heartbeats - before;
    }
    assert!(busy >= 75, "{busy}");
    // A follower that lacks something hears of its leader as often as before.
    world.cut.insert((1, 3));
    world.propose(1, "not for 3").expect("it leads");
    world.run_ms(2_000);
    let lagging = heard(&mut world);
    assert!(lagging >= 75, "{lagging}");
}
