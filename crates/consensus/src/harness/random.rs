//! Random schedules over a seed: crashes that lose unsynced writes, partitions, stalls, drops,
//! slow disks, clocks 0.1 % apart. The world checks its promises all the while; at the end
//! everything heals and the group must make progress on every replica.

use super::*;

fn chaos(n: u64, seed: u64, plant: impl Fn(&mut Planted)) -> World {
    let mut world = World::new(n, seed);
    world.net_ms = (0, 12);
    world.disk_ms = (0, 25);
    for (id, node) in world.nodes.iter_mut() {
        node.rate_ppm = [1_000, -1_000, 0][(id + seed) as usize % 3];
        node.releases_log = seed.is_multiple_of(2);
        plant(&mut node.planted);
    }
    (1..=n).for_each(|id| world.start(id, true));
    for round in 0..60 {
        let n = world.nodes.len() as u64;
        world.drop_per_mille = [0, 0, 30, 150][world.random(4) as usize];
        fault(&mut world, n);
        for proposal in 0..world.random(6) {
            let id = world.leader().unwrap_or(1);
            world.propose(id, &format!("{round}.{proposal}"));
            let pause = world.random(60);
            world.run_ms(pause);
        }
        if seed % 4 < 2 {
            cut_a_log(&mut world, n);
        }
        let pause = world.random(400);
        world.run_ms(pause);
        if !world.violations.is_empty() {
            return world;
        }
    }
    world
}

/// Retention strikes: whoever lags is fed by snapshots from now on, some of which fail.
fn cut_a_log(world: &mut World, n: u64) {
    let (id, kept) = (1 + world.random(n), world.random(4));
    world.transfers_fail = world.random(2);
    world.reported = world.random(2) == 0;
    world.transfer_ms = [(1, 30), (20, 400)][world.random(2) as usize];
    world.turn(id, |group, _, _| {
        let start = group.applied_index().saturating_sub(kept);
        group.set_start_index(start);
    });
}

fn fault(world: &mut World, n: u64) {
    let id = 1 + world.random(n);
    match world.random(16) {
        0 | 1 if world.nodes[&id].group.is_some() => {
            let keep = world.random(3) as usize;
            world.crash(id, keep);
            evidence(world, n, id, true);
        }
        2..=4 => {
            let down: Vec<u64> =
                world.nodes.values().filter(|n| n.group.is_none()).map(|n| n.id).collect();
            for id in down {
                restart(world, id);
                evidence(world, n, id, false);
            }
        }
        5 => world.isolate(id),
        6 | 7 => world.cut.clear(),
        8 => {
            let ms = world.random(1_500);
            let until = world.now_ns + ms * MS;
            world.nodes.get_mut(&id).unwrap().paused_until_ns = until;
        }
        9 => {
            let leader = world.leader().unwrap_or(id);
            world.turn(leader, |group, now, _| group.transfer_leader(now, Some(ReplicaId(id))));
        }
        10 => {
            // A false alarm: somebody believes that a living replica is dead.
            let who = 1 + world.random(n);
            world.turn(who, |group, now, _| group.peer_died(now, ReplicaId(id)));
        }
        11 => {
            let to = ReplicaId(1 + world.random(n));
            world.turn(id, |group, _, _| group.report_unreachable(to));
        }
        12..=14 => change_membership(world),
        _ => world.disk_ms = [(0, 25), (0, 2), (50, 300)][world.random(3) as usize],
    }
}

/// A replica joins, votes, or leaves; at most five come on top of the founders. A removed one
/// stays around and never hears of it.
fn change_membership(world: &mut World) {
    let Some(leader) = world.leader() else { return };
    let group = world.group(leader);
    let born = group.conf_state();
    let (voters, learners) = (group.voters().to_vec(), group.learners().to_vec());
    let others: Vec<u64> = voters.iter().copied().filter(|id| *id != leader).collect();
    let pick = |world: &mut World, ids: &[u64]| match ids.len() as u64 {
        0 => Vec::new(),
        some => vec![ReplicaId(ids[world.random(some) as usize])],
    };
    let change = match world.random(4) {
        0 | 1 if learners.is_empty() && world.nodes.len() < world.founders as usize + 5 => {
            let id = world.nodes.len() as u64 + 1;
            world.join(id, world.founders);
            crate::MembershipChange::AddLearner(ReplicaId(id))
        }
        3 if !learners.is_empty() => {
            crate::MembershipChange::RemoveLearner(pick(world, &learners)[0])
        }
        kind => {
            let add = pick(world, &learners);
            let shrinks = born.voters.len() > 3 && kind == 2;
            let remove = if add.is_empty() && !shrinks { Vec::new() } else { pick(world, &others) };
            crate::MembershipChange::Swap { add, remove }
        }
    };
    if world.change(&change) {
        world.changes += 1;
    }
}

fn restart(world: &mut World, id: u64) {
    let applied = world.nodes[&id].applied.len() as u64;
    world.nodes.get_mut(&id).unwrap().checkpoint = 0;
    let checkpoint = world.random(applied + 1);
    world.nodes.get_mut(&id).unwrap().checkpoint = checkpoint;
    world.start(id, false);
    world.turn(id, |group, now, _| group.majority_connected(now, true));
}

fn evidence(world: &mut World, n: u64, of: u64, dead: bool) {
    for id in (1..=n).filter(|id| *id != of) {
        world.turn(id, |group, now, _| match dead {
            true => group.peer_died(now, ReplicaId(of)),
            false => group.peer_alive(now, ReplicaId(of)),
        });
    }
}

fn heal(world: &mut World) {
    let n = world.nodes.len() as u64;
    world.cut.clear();
    world.drop_per_mille = 0;
    world.transfers_fail = 0;
    world.disk_ms = (0, 5);
    for id in 1..=n {
        if world.nodes[&id].group.is_none() {
            restart(world, id);
        }
        evidence(world, n, id, false);
    }
    // A transfer that died in silence is given up only after its time.
    world.run_ms(6_000 + model::limits::SNAPSHOT_SILENCE_MS);
    let leader = world.leader().unwrap_or_else(|| panic!("no leader\n{}", world.text()));
    let index = world.propose(leader, "healed").expect("the leader proposes");
    world.run_ms(1_500);
    let leads = world.group(leader);
    let members: Vec<u64> = leads.voters().iter().chain(leads.learners()).copied().collect();
    assert!(leads.outgoing().is_empty(), "a joint state was never left\n{}", world.text());
    for id in members {
        let group = world.group(id);
        assert!(
            group.applied_index() >= index,
            "n{id} at {}\n{}",
            group.applied_index(),
            world.text()
        );
        assert!(!group.is_suspect() && !group.is_broken());
    }
}

fn promises_hold(seeds: std::ops::Range<u64>) {
    let (mut committed, mut transfers, mut changes) = (0, 0, 0);
    let count = (seeds.end - seeds.start) as usize;
    for seed in seeds {
        let n = [3, 3, 5, 2][seed as usize % 4];
        let mut world = chaos(n, seed, |_| ());
        let broken = std::mem::take(&mut world.violations);
        assert!(broken.is_empty(), "seed {seed}: {broken:?}\n{}", world.text());
        heal(&mut world);
        assert!(world.violations.is_empty(), "seed {seed}: {:?}", world.violations);
        committed += world.chosen.len();
        transfers += world.transfers as usize;
        changes += world.changes;
    }
    assert!(changes > count, "only {changes} changes of membership were proposed");
    assert!(committed > count * 30, "only {committed} entries committed");
    assert!(transfers > count / 2, "only {transfers} snapshots");
}

/// Built with `GLASSLOG_SCHEDULES=10000` runs more of them: for whoever changed a promise.
#[test]
fn promises_hold_over_random_schedules_and_the_group_recovers() {
    let more = option_env!("GLASSLOG_SCHEDULES").and_then(|count| count.parse().ok());
    promises_hold(0..more.unwrap_or(300));
}

#[test]
fn the_same_seed_twice_gives_the_same_bytes() {
    for seed in [3, 4, 5] {
        let (one, two) = (chaos(3, seed, |_| ()), chaos(3, seed, |_| ()));
        assert_eq!(one.log, two.log);
        assert_eq!(one.hash(), two.hash());
        assert_ne!(one.hash(), chaos(3, seed + 100, |_| ()).hash());
    }
}

/// Planted: acks and votes leave before the disk has them.
#[test]
fn sending_before_persisting_is_caught() {
    let caught = (0..20)
        .filter(|seed| !chaos(3, *seed, |p| p.sends_before_persist = true).violations.is_empty())
        .count();
    assert!(caught >= 18, "caught in {caught} of 20 seeds");
}

/// Planted: voters answer heartbeats and vote against them at once. Two false alarms beside a
/// leader that is cut off: the schedule in which nothing but the promise protects its lease.
#[test]
fn a_forgotten_vote_promise_is_caught() {
    let run = |seed: u64, forgets: bool| {
        let mut world = World::formed(3, seed);
        for node in world.nodes.values_mut() {
            node.group.as_mut().expect("up").planted.forgets_promise = forgets;
        }
        // Promises made at the start have lapsed by then; the lease is renewed all the while.
        world.run_ms(5_000);
        world.isolate(1);
        for id in [2, 3] {
            world.turn(id, |group, now, _| group.peer_died(now, ReplicaId(1)));
        }
        world.run_ms(6_000);
        assert!(world.group(2).term() > 1, "somebody took over\n{}", world.text());
        world.violations
    };
    for seed in 0..20 {
        let caught = run(seed, true);
        assert!(caught.iter().any(|text| text.contains("lease")), "seed {seed}: {caught:?}");
        assert_eq!(run(seed, false), Vec::<String>::new(), "seed {seed}");
    }
}

/// Planted: a lease that counts own ticks since an echo arrived.
#[test]
fn a_lease_on_ticks_is_caught() {
    let seed = (0..200).find(|seed| {
        let world = chaos(3, *seed, |p| p.lease_on_ticks = true);
        world.violations.iter().any(|text| text.contains("lease"))
    });
    assert!(seed.is_some(), "no seed caught it");
}

/// The short ways of `quiet.rs` beside raft's own: the same bytes in every schedule.
#[test]
fn the_short_ways_change_nothing() {
    for seed in 0..100 {
        let n = [3, 5][seed as usize % 2];
        let (short, long) = (chaos(n, seed, |_| ()), chaos(n, seed, |p| p.long_way = true));
        assert_eq!(short.log, long.log, "seed {seed}");
        assert_eq!(short.hash(), long.hash(), "seed {seed}");
    }
}
