//! The workload of the crash test, and what each group may look like after a crash.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{EntryKind, GroupId, HardState, LogEntry, PrefixChecksum, ReplicaId, SyncPolicy};

use super::super::*;
use crate::checkpoint::{Checkpoint, GroupCheckpoint};
use crate::disk::Disk;
use crate::testing::{Dice, SimDisk, World};

pub(super) const FILE_BYTES: u64 = 12 * 4096;
pub(super) const STRAGGLER: GroupId = GroupId(3);
/// It is removed and created again.
pub(super) const REBORN: GroupId = GroupId(4);

pub(super) fn config() -> JournalConfig {
    config_with(SyncPolicy::Group)
}

fn config_with(sync: SyncPolicy) -> JournalConfig {
    JournalConfig {
        dir: DiskPath::new("journal"),
        file_bytes: FILE_BYTES,
        bytes_max: 6 * FILE_BYTES,
        sync,
        sync_bytes_max: 16 << 10,
    }
}

pub(super) fn meta() -> DiskPath {
    DiskPath::new("meta")
}

/// A step of one group's history, as small as recovery may cut.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Birth,
    /// Whatever lies at or above the index goes.
    Cut(u64),
    Entry(LogEntry),
    State(HardState),
    Remove,
}

/// What one group may look like after a crash: the state after any prefix of its steps that
/// includes the durable ones.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// The state before the first step, after an earlier crash.
    pub base_log: Vec<LogEntry>,
    pub base_state: HardState,
    pub steps: Vec<Step>,
    pub durable: usize,
    pub commit_max: u64,
    /// Tokens under way and the step each one ends at.
    pub tokens: BTreeMap<u64, usize>,
    pub next_token: u64,
    /// An earlier life was removed; its records may still be there.
    pub again: bool,
}

impl History {
    /// The log and the vote after the first `count` steps.
    pub fn after(&self, count: usize) -> (Vec<LogEntry>, HardState) {
        let (mut log, mut state) = (self.base_log.clone(), self.base_state);
        for step in &self.steps[..count] {
            match step {
                Step::Birth | Step::Remove => {}
                Step::Cut(from) => log.truncate(*from as usize - 1),
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
    pub fn now(&self) -> (Vec<LogEntry>, HardState) {
        let (log, state) = self.after(self.steps.len());
        (log, HardState { commit: self.commit_max, ..state })
    }

    /// `None` when `found` is one of the states a crash may leave.
    pub fn refuse(&self, applied: u64, found: &RecoveredGroup) -> Option<String> {
        if found.removed && self.again && self.durable == 0 {
            return None;
        }
        for count in self.durable..=self.steps.len() {
            let removed = matches!(self.steps[..count].last(), Some(Step::Remove));
            if removed != found.removed {
                continue;
            }
            if removed {
                return None;
            }
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
pub(super) struct Point {
    pub world: World,
    pub histories: BTreeMap<GroupId, History>,
}

/// A journal on a simulated disk, and the histories of its groups.
pub(super) struct Stage {
    pub disk: SimDisk,
    pub journal: Journal,
    pub histories: BTreeMap<GroupId, History>,
    pub points: Vec<Point>,
    sync: SyncPolicy,
    /// Reported and, at intervals, not yet synced.
    reported: Vec<(GroupId, usize)>,
    pub record: bool,
    pub straggler_applied: u64,
    pub moved: u64,
    pub recycled: u64,
    pub truncated: u64,
    pub cuts: u64,
    pub rebirths: u64,
    pub writes: u64,
}

impl Stage {
    pub fn open(
        world: World,
        histories: BTreeMap<GroupId, History>,
        key: u64,
        sync: SyncPolicy,
    ) -> Stage {
        let mut disk = SimDisk::open(world);
        let recovered = recover(&mut disk, &meta(), &config().dir).expect("the disk works");
        let journal = Journal::open(&recovered, config_with(sync), key);
        let points = Vec::new();
        Stage {
            disk,
            journal,
            histories,
            points,
            sync,
            reported: Vec::new(),
            record: false,
            straggler_applied: 0,
            moved: 0,
            recycled: 0,
            truncated: 0,
            cuts: 0,
            rebirths: 0,
            writes: 0,
        }
    }

    pub fn take(&mut self, events: Vec<JournalEvent>) {
        for event in events {
            match event {
                JournalEvent::Durable { done, .. } => {
                    for (group, token) in done {
                        let history = self.histories.get_mut(&group).expect("a known group");
                        let step = history.tokens.remove(&token).expect("each token once");
                        self.reported.push((group, step));
                    }
                }
                JournalEvent::Synced { .. } if self.sync == SyncPolicy::Interval => self.keep(),
                JournalEvent::Moved { records, .. } => self.moved += records,
                JournalEvent::FileRecycled { .. } => self.recycled += 1,
                JournalEvent::Written { .. } => self.writes += 1,
                JournalEvent::MoveFailed { .. } | JournalEvent::Poisoned { .. } => {
                    panic!("{event:?} on a sound disk")
                }
                _ => {}
            }
        }
        if self.sync == SyncPolicy::Group {
            self.keep();
        }
    }

    /// What was reported so far survives any crash from now on.
    fn keep(&mut self) {
        for (group, step) in self.reported.drain(..) {
            let history = self.histories.get_mut(&group).expect("a known group");
            history.durable = history.durable.max(step);
        }
    }

    /// Runs until the journal has nothing to do, or `ops` operations were done.
    pub fn run(&mut self, ops: usize) {
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

    pub fn create(&mut self, group: GroupId) {
        let birth = GroupBirth { replica: ReplicaId(group.0 * 10), body: Bytes::from_static(b"x") };
        self.histories.entry(group).or_default().steps.push(Step::Birth);
        self.enqueue(JournalWrite { group, create: Some(birth), ..JournalWrite::default() });
    }

    pub fn enqueue(&mut self, mut write: JournalWrite) {
        let history = self.histories.get_mut(&write.group).expect("a known group");
        history.next_token += 1;
        write.token = history.next_token;
        history.steps.extend(write.truncate_from.map(Step::Cut));
        history.steps.extend(write.entries.iter().cloned().map(Step::Entry));
        let bare = write.entries.is_empty() && write.truncate_from.is_none();
        let note = bare && !write.urgent && !write.remove && write.create.is_none();
        history.steps.extend(write.remove.then_some(Step::Remove));
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

    pub fn append(&mut self, dice: &mut Dice, group: GroupId) {
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
        self.enqueue(JournalWrite {
            group,
            entries,
            hard_state,
            urgent,
            ..JournalWrite::default()
        });
    }

    /// A snapshot is about to take the log's place: its tail goes without a new entry.
    pub fn cut(&mut self, dice: &mut Dice, group: GroupId) {
        let (log, state) = self.histories[&group].now();
        let last = log.len() as u64;
        if last > state.commit + 1 {
            let from = state.commit + 1 + dice.below(last - state.commit);
            let truncate_from = Some(from);
            self.cuts += 1;
            self.enqueue(JournalWrite { group, truncate_from, ..JournalWrite::default() });
        }
    }

    pub fn vote(&mut self, dice: &mut Dice, group: GroupId) {
        let (_, state) = self.histories[&group].now();
        let hard_state = Some(HardState { term: state.term + 1, vote: dice.below(3) + 1, ..state });
        self.enqueue(JournalWrite { group, hard_state, urgent: true, ..JournalWrite::default() });
    }

    pub fn note(&mut self, group: GroupId) {
        let (log, state) = self.histories[&group].now();
        let hard_state = Some(HardState { commit: log.len() as u64, ..state });
        if state.commit < log.len() as u64 {
            self.enqueue(JournalWrite { group, hard_state, ..JournalWrite::default() });
        }
    }

    pub fn remove(&mut self, group: GroupId) {
        self.enqueue(JournalWrite { group, remove: true, ..JournalWrite::default() });
    }

    pub fn lives(&self, group: GroupId) -> bool {
        !matches!(self.histories[&group].steps.last(), Some(Step::Remove))
    }

    /// A group that a checkpoint has just forgotten begins again.
    fn rebirth(&mut self, group: GroupId) {
        let Some(history) = self.histories.get_mut(&group) else { return };
        let over = matches!(history.steps.last(), Some(Step::Remove));
        if over && history.durable == history.steps.len() {
            let next_token = history.next_token;
            *history = History { next_token, again: true, ..History::default() };
            self.rebirths += 1;
            self.create(group);
        }
    }

    /// A checkpoint in which the straggler applied nothing of late.
    pub fn checkpoint(&mut self, straggler_too: bool) {
        let mut checkpoint = Checkpoint::default();
        let mut covered = Vec::new();
        for synced in self.journal.synced_states() {
            let (log, _) =
                self.histories[&synced.group].after(self.histories[&synced.group].durable);
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
        self.rebirth(REBORN);
    }
}

pub(super) fn entry(dice: &mut Dice, index: u64, term: u64) -> LogEntry {
    let len = if dice.chance(5) { 600 + dice.below(2600) } else { 10 + dice.below(200) };
    LogEntry {
        index,
        term,
        entry_type: model::RaftEntryType::Normal,
        context: LogEntry::encode_context(EntryKind::Batch, PrefixChecksum(dice.roll() as u32)),
        data: dice.bytes(len as usize),
    }
}

/// The recorded workload: at least 200 writes of 3 groups, truncations, recycled files, entries
/// of a straggling group written forward, and a fourth group that is removed and comes again.
pub(super) fn workload(seed: u64, sync: SyncPolicy) -> Stage {
    let mut dice = Dice(seed);
    let mut stage = Stage::open(World::new(512), BTreeMap::new(), dice.roll(), sync);
    stage.record = true;
    stage.run(usize::MAX);
    for group in 1..=3 {
        stage.create(GroupId(group));
    }
    stage.create(REBORN);
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
            match dice.below(10) {
                0 => stage.vote(&mut dice, group),
                1 => stage.note(group),
                2 => stage.cut(&mut dice, group),
                _ => stage.append(&mut dice, group),
            }
            if dice.chance(4) {
                stage.run(1);
            }
        }
        stage.run(usize::MAX);
        match round % 24 {
            0..18 if round % 3 == 0 && stage.lives(REBORN) => stage.append(&mut dice, REBORN),
            18 if stage.lives(REBORN) => stage.remove(REBORN),
            _ => {}
        }
        stage.run(usize::MAX);
        if dice.chance(9) {
            stage.journal.sync_due();
        }
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
