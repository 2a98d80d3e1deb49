//! The journal's crash test: a recorded workload, and after every one of its operations the
//! power goes, with every choice of what the disk had kept (all subsets of few sectors, a
//! systematic sample of many).
//!
//! Held: what was reported durable is recovered exactly; nothing that was never enqueued
//! appears; a tear is cut and suspects nobody; a flipped bit below what was synced is named;
//! all of it again after a second life on top of the first crash. Bugs planted by the
//! switches in [`planted`] must be caught.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{EntryKind, GroupId, HardState, LogEntry, Lsn, PrefixChecksum, ReplicaId, SyncPolicy};

use super::recovery::{HeadedFile, all_records};
use super::*;
use crate::checkpoint::{Checkpoint, GroupCheckpoint};
use crate::disk::Disk;
use crate::testing::{Dice, SimDisk, Unsynced, World};

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

const FILE_BYTES: u64 = 12 * 4096;
const STRAGGLER: GroupId = GroupId(3);

fn config() -> JournalConfig {
    JournalConfig {
        dir: DiskPath::new("journal"),
        file_bytes: FILE_BYTES,
        bytes_max: 6 * FILE_BYTES,
        sync: SyncPolicy::Group,
        sync_bytes_max: 16 << 10,
    }
}

fn meta() -> DiskPath {
    DiskPath::new("meta")
}

/// A step of one group's history, as small as recovery may cut.
#[derive(Clone, Debug)]
enum Step {
    Birth,
    Entry(LogEntry),
    State(HardState),
}

/// What one group may look like after a crash: the state after any prefix of its steps that
/// includes the durable ones.
#[derive(Clone, Debug, Default)]
struct History {
    /// The state before the first step, after an earlier crash.
    base_log: Vec<LogEntry>,
    base_state: HardState,
    steps: Vec<Step>,
    durable: usize,
    commit_max: u64,
    /// Tokens under way and the step each one ends at.
    tokens: BTreeMap<u64, usize>,
    next_token: u64,
}

impl History {
    /// The log and the vote after the first `count` steps.
    fn after(&self, count: usize) -> (Vec<LogEntry>, HardState) {
        let (mut log, mut state) = (self.base_log.clone(), self.base_state);
        for step in &self.steps[..count] {
            match step {
                Step::Birth => {}
                Step::Entry(entry) => {
                    log.truncate(entry.index as usize - 1);
                    log.push(entry.clone());
                }
                Step::State(next) => state = *next,
            }
        }
        (log, state)
    }

    /// With everything enqueued, notes included.
    fn now(&self) -> (Vec<LogEntry>, HardState) {
        let (log, state) = self.after(self.steps.len());
        (log, HardState { commit: self.commit_max, ..state })
    }

    /// `None` when `found` is one of the states a crash may leave.
    fn refuse(&self, applied: u64, found: &RecoveredGroup) -> Option<String> {
        for count in self.durable..=self.steps.len() {
            let (log, state) = self.after(count);
            let expected = &log[(applied as usize).min(log.len())..];
            let vote = (state.term, state.vote) == (found.hard_state.term, found.hard_state.vote);
            if vote && expected == found.entries.as_slice() {
                let commit = found.hard_state.commit;
                let fine = commit <= self.commit_max.max(applied) && commit >= applied;
                return (!fine).then(|| format!("commit {commit} was never enqueued"));
            }
        }
        let (log, state) = self.after(self.durable);
        let (have, want) = (found.entries.len(), log.len() as u64 - applied.min(log.len() as u64));
        Some(format!(
            "durable: {want} entries above {applied}, {state:?}; recovered: {have}, {:?}",
            found.hard_state
        ))
    }
}

/// The disk after one operation, and what was promised by then.
struct Point {
    world: World,
    histories: BTreeMap<GroupId, History>,
}

/// A journal on a simulated disk, and the histories of its groups.
struct Stage {
    disk: SimDisk,
    journal: Journal,
    histories: BTreeMap<GroupId, History>,
    points: Vec<Point>,
    record: bool,
    straggler_applied: u64,
    moved: u64,
    recycled: u64,
    truncated: u64,
    writes: u64,
}

impl Stage {
    fn open(world: World, histories: BTreeMap<GroupId, History>, key: u64) -> Stage {
        let mut disk = SimDisk::open(world);
        let recovered = recover(&mut disk, &meta(), &config().dir).expect("the disk works");
        let journal = Journal::open(&recovered, config(), key);
        let points = Vec::new();
        Stage {
            disk,
            journal,
            histories,
            points,
            record: false,
            straggler_applied: 0,
            moved: 0,
            recycled: 0,
            truncated: 0,
            writes: 0,
        }
    }

    fn take(&mut self, events: Vec<JournalEvent>) {
        for event in events {
            match event {
                JournalEvent::Durable { done, .. } => {
                    for (group, token) in done {
                        let history = self.histories.get_mut(&group).expect("a known group");
                        let step = history.tokens.remove(&token).expect("each token once");
                        history.durable = history.durable.max(step);
                    }
                }
                JournalEvent::Moved { records, .. } => self.moved += records,
                JournalEvent::FileRecycled { .. } => self.recycled += 1,
                JournalEvent::Written { .. } => self.writes += 1,
                JournalEvent::MoveFailed { .. } | JournalEvent::Poisoned { .. } => {
                    panic!("{event:?} on a sound disk")
                }
                _ => {}
            }
        }
    }

    /// Runs until the journal has nothing to do, or `ops` operations were done.
    fn run(&mut self, ops: usize) {
        let events = self.journal.submit(&mut self.disk);
        self.take(events);
        for _ in 0..ops {
            let Some(done) = self.disk.complete() else { return };
            let events = self.journal.complete(done);
            self.take(events);
            if self.record {
                let world = self.disk.world().clone();
                self.points.push(Point { world, histories: self.histories.clone() });
            }
            let events = self.journal.submit(&mut self.disk);
            self.take(events);
        }
    }

    fn create(&mut self, group: GroupId) {
        let birth = GroupBirth { replica: ReplicaId(group.0 * 10), body: Bytes::from_static(b"x") };
        self.histories.entry(group).or_default().steps.push(Step::Birth);
        self.enqueue(JournalWrite { group, create: Some(birth), ..JournalWrite::default() });
    }

    fn enqueue(&mut self, mut write: JournalWrite) {
        let history = self.histories.get_mut(&write.group).expect("a known group");
        history.next_token += 1;
        write.token = history.next_token;
        history.steps.extend(write.entries.iter().cloned().map(Step::Entry));
        let note = write.entries.is_empty() && !write.urgent && write.create.is_none();
        if let Some(state) = write.hard_state {
            history.commit_max = history.commit_max.max(state.commit);
            if !note {
                history.steps.push(Step::State(state));
            }
        }
        // A note promises nothing: its commit index may or may not be there.
        let step = if note { 0 } else { history.steps.len() };
        history.tokens.insert(write.token, step);
        self.journal.enqueue(write);
    }

    fn append(&mut self, dice: &mut Dice, group: GroupId) {
        let (log, mut state) = self.histories[&group].now();
        let last = log.len() as u64;
        let mut first = last + 1;
        let mut urgent = false;
        if last > state.commit + 1 && dice.chance(6) {
            // A new leader replaces what was never committed.
            first = state.commit + 1 + dice.below(last - state.commit);
            (state.term, state.vote, urgent) = (state.term + 1, dice.below(3) + 1, true);
            self.truncated += 1;
        }
        let count = 1 + dice.below(4);
        let entries = (first..first + count).map(|index| entry(dice, index, state.term)).collect();
        state.commit = state.commit.max((first + count - 1).saturating_sub(3 + dice.below(3)));
        let hard_state = (urgent || dice.chance(2)).then_some(state);
        self.enqueue(JournalWrite { group, entries, hard_state, urgent, ..JournalWrite::default() });
    }

    fn vote(&mut self, dice: &mut Dice, group: GroupId) {
        let (_, state) = self.histories[&group].now();
        let hard_state =
            Some(HardState { term: state.term + 1, vote: dice.below(3) + 1, ..state });
        self.enqueue(JournalWrite { group, hard_state, urgent: true, ..JournalWrite::default() });
    }

    fn note(&mut self, group: GroupId) {
        let (log, state) = self.histories[&group].now();
        let hard_state = Some(HardState { commit: log.len() as u64, ..state });
        if state.commit < log.len() as u64 {
            self.enqueue(JournalWrite { group, hard_state, ..JournalWrite::default() });
        }
    }

    /// A checkpoint in which the straggler applied nothing of late.
    fn checkpoint(&mut self, straggler_too: bool) {
        let mut checkpoint = Checkpoint::default();
        let mut covered = Vec::new();
        for synced in self.journal.synced_states() {
            let (log, _) = self.histories[&synced.group].after(self.histories[&synced.group].durable);
            let commit = synced.hard_state.commit.min(log.len() as u64);
            let lazy = synced.group == STRAGGLER && !straggler_too;
            let applied = if lazy { self.straggler_applied } else { commit };
            if synced.group == STRAGGLER {
                self.straggler_applied = applied;
            }
            covered.push((synced.group, applied, synced.as_of_lsn));
            let group = GroupCheckpoint {
                replica: ReplicaId(synced.group.0 * 10),
                birth: Bytes::from_static(b"x"),
                hard_state: synced.hard_state,
                as_of_lsn: synced.as_of_lsn,
                suspect: synced.suspect,
                applied_index: applied,
                ..GroupCheckpoint::default()
            };
            checkpoint.groups.insert(synced.group, group);
        }
        let mut door = self.disk.another();
        checkpoint.write(&mut door, &meta()).expect("the disk works");
        self.journal.checkpointed(&covered);
    }
}

fn entry(dice: &mut Dice, index: u64, term: u64) -> LogEntry {
    let len = if dice.chance(5) { 600 + dice.below(2600) } else { 10 + dice.below(200) };
    LogEntry {
        index,
        term,
        entry_type: model::RaftEntryType::Normal,
        context: LogEntry::encode_context(EntryKind::Batch, PrefixChecksum(dice.roll() as u32)),
        data: dice.bytes(len as usize),
    }
}

/// The recorded workload: at least 200 writes of 3 groups, truncations, recycled files, and
/// entries of a straggling group written forward.
fn workload(seed: u64) -> Stage {
    let mut dice = Dice(seed);
    let mut stage = Stage::open(World::new(512), BTreeMap::new(), dice.roll());
    stage.record = true;
    stage.run(usize::MAX);
    for group in 1..=3 {
        stage.create(GroupId(group));
    }
    stage.run(usize::MAX);
    let mut round = 0;
    while stage.writes < 220 {
        round += 1;
        for _ in 0..1 + dice.below(3) {
            let group = GroupId(1 + dice.below(3));
            // The straggler grows slowly, so that it pins without filling the journal.
            if group == STRAGGLER && round % 8 != 0 {
                stage.vote(&mut dice, group);
                continue;
            }
            match dice.below(8) {
                0 => stage.vote(&mut dice, group),
                1 => stage.note(group),
                _ => stage.append(&mut dice, group),
            }
            if dice.chance(4) {
                stage.run(1);
            }
        }
        stage.run(usize::MAX);
        if dice.chance(5) {
            stage.journal.idle();
            stage.run(usize::MAX);
        }
        if round % 12 == 0 {
            stage.checkpoint(round % 96 == 0);
            stage.run(usize::MAX);
        }
    }
    stage
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
fn second_life(world: World, recovered: &Recovered, point: &Point, seed: u64) -> Result<(), String> {
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
            ..History::default()
        };
        histories.insert(*group, history);
    }
    let groups: Vec<GroupId> = histories.keys().copied().collect();
    let mut stage = Stage::open(world, histories, dice.roll());
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
            let (world, recovered) = check(world, point).map_err(|why| format!("{why}; {}", at()))?;
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
    let stage = workload(1);
    assert!(stage.writes >= 200 && stage.truncated > 0, "{} writes", stage.writes);
    assert!(stage.recycled > 0 && stage.moved > 0, "{} {}", stage.recycled, stage.moved);
    let tally = crash_everywhere(&stage, 1, 8).unwrap_or_else(|why| panic!("seed 1: {why}"));
    println!("{} operations, {tally:?}, {} moved", stage.points.len(), stage.moved);
    assert!(tally.crashes > 10_000 && tally.second_lives > 100, "{tally:?}");
}

#[test]
fn a_flipped_bit_below_what_was_synced_is_named() {
    let stage = workload(2);
    let flips = flip_bits(&stage, 400).unwrap_or_else(|why| panic!("seed 2: {why}"));
    assert!(flips > 200, "{flips} flips");
}

/// The tests above have teeth: with a bug planted, they fail.
#[test]
fn planted_bugs_are_caught() {
    let stage = workload(1);
    for bug in [planted::Bug::KeepBeyondTears, planted::Bug::TrustPayloads, planted::Bug::ForgetCuts] {
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
