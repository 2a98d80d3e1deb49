//! The journal's crash test: a recorded workload, and after every one of its operations the
//! power goes, with every choice of what the disk had kept (all subsets of few sectors, a
//! systematic sample of many).
//!
//! Held: what was reported durable is recovered exactly; nothing that was never enqueued
//! appears; a tear is cut and suspects nobody; a flipped bit below what was synced is named;
//! all of it again after a second life on top of the first crash. Bugs planted by the
//! switches in [`planted`] must be caught.

mod stage;

use std::collections::BTreeMap;

use model::{GroupId, Lsn, SyncPolicy};

use super::recovery::{HeadedFile, all_records};
use super::*;
use crate::testing::{Dice, SimDisk, Unsynced, World};
use stage::{History, Point, Stage, config, meta, workload};

/// Switches that break recovery on purpose, for one thread.
pub(super) mod planted {
    use std::cell::Cell;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Bug {
        TrustPayloads,
        KeepBeyondTears,
        ForgetCuts,
    }

    thread_local! {
        pub static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    fn is(bug: Bug) -> bool {
        BUG.get() == Some(bug)
    }

    /// Payload checksums are not compared.
    pub fn trust_payloads() -> bool {
        is(Bug::TrustPayloads)
    }

    /// The log is not cut at a tear.
    pub fn keep_beyond_tears() -> bool {
        is(Bug::KeepBeyondTears)
    }

    /// The cuts that later runs recorded are ignored.
    pub fn forget_cuts() -> bool {
        is(Bug::ForgetCuts)
    }
}
/// Recovers a crashed world and compares; the recovered groups, for a second life.
fn check(world: World, point: &Point) -> Result<(World, Recovered), String> {
    let mut disk = SimDisk::open(world);
    let recovered = recover(&mut disk, &meta(), &config().dir).map_err(|e| e.to_string())?;
    if recovered.damage.is_damaged() {
        return Err(format!("a mere tear was called damage: {:?}", recovered.damage));
    }
    compare(&recovered, &point.histories)?;
    let world = disk.world().clone();
    Ok((world, recovered))
}

fn compare(recovered: &Recovered, histories: &BTreeMap<GroupId, History>) -> Result<(), String> {
    for (group, history) in histories {
        let Some(found) = recovered.groups.get(group) else {
            if history.durable > 0 {
                return Err(format!("group {group} is gone"));
            }
            continue;
        };
        let applied = applied_of(recovered, *group);
        if let Some(why) = history.refuse(applied, found) {
            return Err(format!("group {group}: {why}"));
        }
    }
    match recovered.groups.keys().find(|group| !histories.contains_key(group)) {
        Some(ghost) => Err(format!("group {ghost} was never created")),
        None => Ok(()),
    }
}

fn applied_of(recovered: &Recovered, group: GroupId) -> u64 {
    let checkpoint = recovered.checkpoint.as_ref();
    checkpoint.and_then(|all| all.groups.get(&group)).map_or(0, |group| group.applied_index)
}

/// The choices of what survives: bit i of a choice keeps item i.
fn choices(count: usize, seed: u64, subsets_of: usize) -> Vec<Vec<bool>> {
    if count <= subsets_of {
        let all = 0..1u32 << count;
        return all.map(|set| (0..count).map(|i| set >> i & 1 == 1).collect()).collect();
    }
    let mut all = vec![vec![false; count], vec![true; count]];
    for one in 0..count {
        all.push((0..count).map(|i| i == one).collect());
        all.push((0..count).map(|i| i != one).collect());
    }
    let mut dice = Dice(seed);
    for _ in 0..64 {
        all.push((0..count).map(|_| dice.chance(2)).collect());
    }
    all
}

fn crashed(world: &World, items: &[Unsynced], choice: &[bool]) -> World {
    let mut world = world.clone();
    let mut at = 0;
    world.crash(|item| {
        assert_eq!(&items[at], item, "unsynced items come in a fixed order");
        at += 1;
        choice[at - 1]
    });
    world
}

/// A second life on top of a crash: more writes, another crash, the same promises.
fn second_life(
    world: World,
    recovered: &Recovered,
    point: &Point,
    seed: u64,
) -> Result<(), String> {
    let mut dice = Dice(seed);
    let mut histories = BTreeMap::new();
    for (group, found) in &recovered.groups {
        let applied = applied_of(recovered, *group) as usize;
        let (mut log, _) = point.histories[group].now();
        log.truncate(applied);
        // What the checkpoint covers was committed, so every later log has it.
        log.extend(found.entries.iter().cloned());
        let history = History {
            base_log: log,
            base_state: found.hard_state,
            commit_max: found.hard_state.commit,
            again: found.removed,
            ..History::default()
        };
        histories.insert(*group, history);
    }
    let living = recovered.groups.iter().filter(|(_, found)| !found.removed);
    let groups: Vec<GroupId> = living.map(|(group, _)| *group).collect();
    let mut stage = Stage::open(world, histories, dice.roll(), SyncPolicy::Group);
    stage.run(usize::MAX);
    for _ in 0..4 {
        for group in &groups {
            stage.append(&mut dice, *group);
            stage.run(dice.below(3) as usize);
        }
    }
    stage.run(dice.below(12) as usize);
    let world = stage.disk.world().clone();
    let items = world.unsynced();
    for _ in 0..4 {
        let choice: Vec<bool> = items.iter().map(|_| dice.chance(2)).collect();
        let mut disk = SimDisk::open(crashed(&world, &items, &choice));
        let again = recover(&mut disk, &meta(), &config().dir).map_err(|e| e.to_string())?;
        if again.damage.is_damaged() {
            return Err(format!("a tear after a cut was called damage: {:?}", again.damage));
        }
        compare(&again, &stage.histories).map_err(|why| format!("second life: {why}"))?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Tally {
    crashes: u64,
    second_lives: u64,
}

/// Every prefix of the workload's operations, every choice of what survived.
fn crash_everywhere(stage: &Stage, every: usize, subsets_of: usize) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for (number, point) in stage.points.iter().enumerate().step_by(every) {
        let items = point.world.unsynced();
        for (i, choice) in choices(items.len(), number as u64, subsets_of).iter().enumerate() {
            let world = crashed(&point.world, &items, choice);
            let at = || format!("operation {number}, kept {choice:?} of {items:?}");
            let (world, recovered) =
                check(world, point).map_err(|why| format!("{why}; {}", at()))?;
            tally.crashes += 1;
            if i % 37 == 0 {
                let seed = (number * 1000 + i) as u64;
                second_life(world, &recovered, point, seed)
                    .map_err(|why| format!("{why}; seed {seed}; {}", at()))?;
                tally.second_lives += 1;
            }
        }
    }
    Ok(tally)
}

/// Flips bits of synced records; every one must be named, and a readable header must keep
/// the suspicion to its group.
fn flip_bits(stage: &Stage, flips: u64) -> Result<u64, String> {
    let mut dice = Dice(99);
    let mut done = 0;
    for point in stage.points.iter().rev().step_by(1 + stage.points.len() / flips as usize) {
        let mut world = point.world.clone();
        world.crash(|_| true);
        let mut disk = SimDisk::open(world.clone());
        let records = all_records(&mut disk, &config().dir).map_err(|e| e.to_string())?;
        let Some((_, last)) = records.last() else { continue };
        let synced: Lsn = last.header.synced_lsn;
        let below: Vec<&(HeadedFile, scan::Found)> =
            records.iter().filter(|(_, found)| found.header.lsn <= synced).collect();
        if below.is_empty() {
            continue;
        }
        let (file, found) = below[dice.below(below.len() as u64) as usize];
        let length = 64 + u64::from(found.header.payload_len);
        let byte = dice.below(length);
        world.flip_bit(&file.path, found.at + byte, dice.below(8) as u8);
        let mut disk = SimDisk::open(world);
        let recovered = recover(&mut disk, &meta(), &config().dir).map_err(|e| e.to_string())?;
        let damage = &recovered.damage;
        let lsn = found.header.lsn;
        let named = damage.corrupt.iter().any(|it| it.lsn == lsn)
            || damage.unreadable.iter().any(|(a, b)| *a <= lsn && lsn <= *b);
        if !named {
            return Err(format!("byte {byte} of {lsn} was flipped and not named: {damage:?}"));
        }
        let others = damage.groups.keys().any(|group| *group != found.header.group);
        if byte >= 64 && others {
            return Err(format!("{lsn} of group {} accused {damage:?}", found.header.group));
        }
        done += 1;
    }
    Ok(done)
}

#[test]
fn no_crash_loses_a_promise_or_invents_one() {
    let stage = workload(1, SyncPolicy::Group);
    assert!(stage.cuts > 5, "{} cuts", stage.cuts);
    assert!(stage.rebirths > 1, "{} rebirths", stage.rebirths);
    assert!(stage.writes >= 200 && stage.truncated > 0, "{} writes", stage.writes);
    assert!(stage.recycled > 0 && stage.moved > 0, "{} {}", stage.recycled, stage.moved);
    let tally = crash_everywhere(&stage, 1, 8).unwrap_or_else(|why| panic!("seed 1: {why}"));
    println!("{} operations, {tally:?}, {} moved", stage.points.len(), stage.moved);
    assert!(tally.crashes > 10_000 && tally.second_lives > 100, "{tally:?}");
}

/// Several writes may be unsynced at once, across files too.
#[test]
fn at_intervals_a_crash_loses_only_what_was_not_synced() {
    let stage = workload(3, SyncPolicy::Interval);
    let tally = crash_everywhere(&stage, 2, 6).unwrap_or_else(|why| panic!("seed 3: {why}"));
    println!("{} operations, {tally:?}, {} moved", stage.points.len(), stage.moved);
    assert!(tally.crashes > 5_000, "{tally:?}");
}

/// One workload more than the ones above; Built with `GLASSLOG_CRASH_WORKLOADS=60` runs that many, in
/// minutes: for whoever changed the format or recovery.
#[test]
fn no_crash_of_other_workloads_loses_a_promise() {
    let more = option_env!("GLASSLOG_CRASH_WORKLOADS").and_then(|count| count.parse().ok());
    for seed in 100..100 + more.unwrap_or(1u64) {
        let stage = workload(seed, SyncPolicy::Group);
        let tally =
            crash_everywhere(&stage, 1, 5).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let flips = flip_bits(&stage, 300).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        println!("seed {seed}: {tally:?}, {flips} flips");
        let stage = workload(seed, SyncPolicy::Interval);
        let tally = crash_everywhere(&stage, 3, 5)
            .unwrap_or_else(|why| panic!("interval, seed {seed}: {why}"));
        println!("seed {seed} at intervals: {tally:?}");
    }
}

#[test]
fn a_flipped_bit_below_what_was_synced_is_named() {
    let stage = workload(2, SyncPolicy::Group);
    let flips = flip_bits(&stage, 400).unwrap_or_else(|why| panic!("seed 2: {why}"));
    assert!(flips > 200, "{flips} flips");
}

/// The tests above have teeth: with a bug planted, they fail.
#[test]
fn planted_bugs_are_caught() {
    let stage = workload(1, SyncPolicy::Group);
    for bug in
        [planted::Bug::KeepBeyondTears, planted::Bug::TrustPayloads, planted::Bug::ForgetCuts]
    {
        planted::BUG.set(Some(bug));
        let caught = crash_everywhere(&stage, 3, 6).err();
        planted::BUG.set(None);
        let caught = caught.unwrap_or_else(|| panic!("{bug:?} was not noticed"));
        println!("{bug:?}: {}", caught.split(';').next().unwrap_or(""));
    }
    planted::BUG.set(Some(planted::Bug::TrustPayloads));
    let flips = flip_bits(&stage, 400);
    planted::BUG.set(None);
    assert!(flips.is_err(), "a payload nobody checks hides a flipped bit");
}
