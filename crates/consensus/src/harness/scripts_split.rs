//! Votes that split, or are lost: replicas that know that nobody leads do not wait out an election
//! time-out (1.5 s and more) for it.

use super::*;

fn plant(world: &mut World, waits: bool) {
    for node in world.nodes.values_mut() {
        node.planted.waits_for_split_votes = waits;
    }
}

/// Replica 1 of three dies, and the two others know it. They are kept apart until both their
/// pre-votes leave in the same tick: both win them, and each votes for itself.
fn split(waits: bool) -> (World, u64) {
    let mut world = World::new(3, 1);
    plant(&mut world, waits);
    (1..=3).for_each(|id| world.start(id, true));
    world.run_ms(400);
    leaderless(&mut world, 1);
    world.cut.extend([(2, 3), (3, 2)]);
    world.run_until(1_000, |world| world.group(2).role() == Role::PreCandidate).unwrap();
    world.run_ms(75);
    world.cut.clear();
    let split = |world: &World| [2, 3].iter().all(|id| world.group(*id).role() == Role::Candidate);
    world.run_until(100, split).expect("both won their pre-votes");
    let took = world.run_until(5_000, |world| world.leader().is_some()).unwrap();
    world.expect_sound();
    (world, took)
}

fn leaderless(world: &mut World, dead: u64) {
    world.crash(dead, 0);
    let others: Vec<u64> = world.nodes.keys().copied().filter(|id| *id != dead).collect();
    for id in others {
        world.turn(id, |group, now, _| group.peer_died(now, ReplicaId(dead)));
    }
}

#[test]
fn two_survivors_whose_votes_split_agree_before_a_time_out() {
    let (mut world, took) = split(false);
    assert!(took <= 60, "elected only after a whole time-out: {took} ms\n{}", world.text());
    let died = world.log.iter().position(|line| line.contains("n1 crashed")).unwrap();
    world.log.drain(..=died);
    world.expect(
        "
        850 n2 follows nobody in term 1: death_evidence
        850 n2 begins an election in term 1: death_evidence
        850 n2 follower -> pre_candidate in term 1: campaign
        850 n3 follows nobody in term 1: death_evidence
        950 n3 begins an election in term 1: death_evidence
        950 n3 follower -> pre_candidate in term 1: campaign
        952 n2 pre_candidate -> candidate in term 2: pre_vote_won
        952 n3 pre_candidate -> candidate in term 2: pre_vote_won
        1000 n2 candidate -> pre_candidate in term 2: campaign
        1002 n2 pre_candidate -> candidate in term 3: pre_vote_won
        1004 n3 candidate -> follower in term 3: higher_term
        1004 n3 election superseded after 1 rounds: n1 silent, n2 already_voted, n3 granted
        1006 n2 candidate -> leader in term 3: election_won
        1006 n2 election won after 3 rounds: n1 silent, n2 granted, n3 granted
        ",
    );
    let (_, took) = split(true);
    assert!(took >= 1_700, "planted: {took}");
}

/// Deaths at any moment, with every phase between the survivors' ticks. Milliseconds from death
/// to leader, sorted.
fn takeovers(n: u64, net_ms: (u64, u64), disk_ms: (u64, u64), waits: bool) -> Vec<u64> {
    let one = |seed| {
        let mut world = World::new(n, seed);
        plant(&mut world, waits);
        for id in 1..=n {
            world.start(id, true);
            let apart = world.random(50);
            world.run_ms(apart);
        }
        world.run_ms(600);
        (world.net_ms, world.disk_ms) = (net_ms, disk_ms);
        let later = 300 + world.random(300);
        world.run_ms(later);
        let dead = world.leader().expect("formed");
        leaderless(&mut world, dead);
        let led = |world: &World| world.leader().is_some();
        let took = world.run_until(9_000, led).expect("a majority is left");
        world.expect_sound();
        took
    };
    let mut took: Vec<u64> = (0..400).map(one).collect();
    took.sort_unstable();
    took
}

#[test]
fn no_takeover_waits_for_a_time_out_however_the_survivors_meet() {
    let late = |took: &[u64]| took.iter().filter(|ms| **ms > 1_000).count();
    for (n, net_ms, disk_ms) in [(3, (0, 2), (1, 3)), (3, (1, 20), (1, 30)), (5, (1, 20), (1, 30))]
    {
        let took = takeovers(n, net_ms, disk_ms, false);
        assert_eq!(late(&took), 0, "{n} replicas, net {net_ms:?}: {:?}", &took[380..]);
        let planted = takeovers(n, net_ms, disk_ms, true);
        assert!(late(&planted) >= 4, "planted: {:?}", &planted[380..]);
    }
}

/// Whoever asks again gives up the votes that are under way: slow disks are waited for.
#[test]
fn slow_disks_do_not_make_takeovers_slower() {
    let run = |waits| takeovers(3, (1, 5), (150, 200), waits);
    let (took, planted) = (run(false), run(true));
    let (half, most) = (took[200], took[399]);
    assert!(half <= planted[200] && most < 1_500 && planted[399] > 2_000, "{half} {most}");
}

/// A vote that is lost on its way is asked for again after a while.
#[test]
fn a_candidate_that_hears_nothing_stands_again() {
    let run = |waits| {
        let mut world = World::new(3, 1);
        plant(&mut world, waits);
        (1..=3).for_each(|id| world.start(id, true));
        world.run_ms(400);
        leaderless(&mut world, 1);
        world.run_until(1_000, |world| world.group(2).role() == Role::Candidate).unwrap();
        world.isolate(2);
        world.run_ms(100);
        world.cut.clear();
        let took = world.run_until(5_000, |world| world.leader().is_some()).unwrap();
        world.expect_sound();
        took
    };
    let (took, planted) = (run(false), run(true));
    assert!(took <= 500 && planted >= 1_500, "{took}, planted {planted}");
}

/// A preferred replica that starts and one that timed out vote for themselves at the same time.
#[test]
fn a_preferred_replica_whose_start_splits_the_vote_does_not_wait_for_a_time_out() {
    let start = |waits| {
        let mut world = World::formed(3, 1);
        plant(&mut world, waits);
        world.propose(1, "before");
        world.run_ms(200);
        (1..=3).for_each(|id| world.crash(id, 9));
        // In step: the one asks every 100 ms, the other when it times out.
        world.start(3, false);
        world.run_ms(50);
        world.start(1, false);
        world.cut.extend([(1, 3), (3, 1)]);
        world.turn(1, |group, now, _| group.majority_connected(now, true));
        world
    };
    let ripe = |world: &mut World| {
        world.run_until(5_000, |world| world.group(3).role() == Role::PreCandidate).unwrap()
    };
    let timed_out = ripe(&mut start(false));
    let run = |waits| {
        let mut world = start(waits);
        world.run_ms(timed_out - 2);
        world.cut.clear();
        let both =
            |world: &World| [1, 3].iter().all(|id| world.group(*id).role() == Role::Candidate);
        world.run_until(300, both).expect("both won their pre-votes");
        let took = world.run_until(5_000, |world| world.leader().is_some()).unwrap();
        world.expect_sound();
        took
    };
    let (took, planted) = (run(false), run(true));
    assert!(took <= 600 && planted >= 1_200, "{took}, planted {planted}");
}
