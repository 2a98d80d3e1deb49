//! The second pass: applying every record up to the cut, per group.
//!
//! Invariants: truncate, then append: an `Append` or `Truncate` removes whatever lies at or above its index,
//! also when its own entry is covered or unreadable; a `Moved` only fills; what a checkpoint
//! covers is never applied again; entries are handed out contiguous or not at all; of the entries
//! before a gap in a group's records only those are handed out that were known to be committed.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{GroupId, HardState, LogEntry, Lsn};

use super::files::{GroupPins, JournalFile};
use super::frame::{Header, Kind, OWN};
use super::recovery::HeadedFile;
use super::scan::{Body, Found, Mark};
use super::{Damage, GroupBirth, RecoveredGroup};
use crate::checkpoint::{Checkpoint, GroupCheckpoint};

/// One group while its records are applied.
#[derive(Debug, Default)]
struct Building {
    birth: Option<GroupBirth>,
    hard_state: HardState,
    /// By index, with the LSN of the latest record.
    entries: BTreeMap<u64, (LogEntry, Lsn)>,
    suspect: Option<Damage>,
    removed: bool,
    sequence: u64,
    pins: GroupPins,
}

/// All groups while records are applied.
#[derive(Debug)]
pub(super) struct Replay {
    cut: Lsn,
    dead_above: Lsn,
    groups: BTreeMap<GroupId, Building>,
    files: Vec<JournalFile>,
    /// Last sequences according to marks.
    marked: BTreeMap<GroupId, u64>,
    last_lsn: Lsn,
    pub torn_records: u64,
    pub torn_bytes: u64,
    pub own_sequence: u64,
}

impl Building {
    fn from_checkpoint(group: &GroupCheckpoint) -> Building {
        let pins = GroupPins {
            applied: group.applied_index,
            covered: group.as_of_lsn,
            last_index: group.applied_index,
            ..GroupPins::default()
        };
        Building {
            birth: Some(group.group_birth()),
            hard_state: group.hard_state,
            suspect: group.suspect,
            pins,
            ..Building::default()
        }
    }

    /// Forgets an earlier life. A checkpoint that lists the group was made in the later one.
    fn begin_again(&mut self, lsn: Lsn) {
        self.entries.clear();
        self.removed = false;
        let covered = self.pins.covered;
        let mut applied = self.pins.applied;
        if lsn > covered {
            (self.birth, self.suspect, self.hard_state) = (None, None, HardState::default());
            applied = 0;
        }
        self.pins = GroupPins { applied, covered, last_index: applied, ..GroupPins::default() };
        self.pins.fences.push((0, lsn));
    }

    /// Records are missing before the one at `lsn`. They may have replaced entries, and what comes
    /// behind them would seem to follow upon the old ones, and its commit index to cover them:
    /// only what was known to be committed cannot have been replaced.
    fn doubt_uncommitted(&mut self, lsn: Lsn) {
        let certain = self.pins.applied.max(self.hard_state.commit);
        if !self.entries.split_off(&(certain + 1)).is_empty() {
            self.suspect = self.suspect.or(Some(Damage::RecordLost));
        }
        self.pins.truncate(certain + 1, lsn);
        self.pins.last_index = self.last_index();
    }

    fn last_index(&self) -> u64 {
        let last = self.entries.last_key_value().map_or(0, |(index, _)| *index);
        last.max(self.pins.applied)
    }

    fn append(&mut self, header: &Header, entry: Option<LogEntry>) {
        self.entries.split_off(&header.index);
        self.pins.truncate(header.index, header.lsn);
        if header.index > self.pins.applied
            && let Some(entry) = entry
        {
            self.entries.insert(header.index, (owned(entry), header.lsn));
        }
        self.pins.last_index = self.pins.last_index.max(self.pins.applied);
    }

    /// Planted: nothing says that these bytes are no entry.
    #[cfg(feature = "planted")]
    fn take_for_entry(&mut self, header: &Header, state: model::HardState) {
        (self.hard_state, self.pins.hard_state) = (state, header.lsn);
        let last = self.entries.last_key_value().map_or(self.pins.applied, |(index, _)| *index);
        let entry = LogEntry {
            index: last + 1,
            term: state.term,
            entry_type: model::RaftEntryType::Normal,
            context: bytes::Bytes::new(),
            data: bytes::Bytes::from_static(b"a hard state"),
        };
        self.entries.insert(last + 1, (entry, header.lsn));
        self.pins.last_index = self.pins.last_index.max(last + 1);
    }

    fn fill(&mut self, header: &Header, entry: Option<LogEntry>) {
        self.pins.last_index = self.pins.last_index.max(header.index);
        if header.index > self.pins.applied
            && let Some(entry) = entry
        {
            let kept = self.entries.entry(header.index);
            kept.or_insert_with(|| (owned(entry), header.lsn)).1 = header.lsn;
            self.pins.moved.insert(header.index, header.lsn);
        }
    }

    fn finish(self, judged: Option<Damage>) -> RecoveredGroup {
        let applied = self.pins.applied;
        let count = self.entries.len();
        let expected = self.entries.into_values().zip(applied + 1..);
        let whole = expected.take_while(|((entry, _), index)| entry.index == *index);
        let entries: Vec<LogEntry> = whole.map(|((entry, _), _)| entry).collect();
        let last = applied + entries.len() as u64;
        let mut hard_state = self.hard_state;
        let mut suspect = self.suspect.or(judged);
        if entries.len() < count {
            suspect = suspect.or(Some(Damage::EntryGap));
        }
        if hard_state.commit > last {
            suspect = suspect.or(Some(Damage::CommitBeyondLog));
        }
        if self.birth.is_none() {
            suspect = suspect.or(Some(Damage::RecordLost));
        }
        hard_state.commit = hard_state.commit.clamp(applied, last);
        RecoveredGroup {
            birth: self.birth,
            hard_state,
            entries,
            suspect: suspect.filter(|_| !self.removed),
            removed: self.removed,
            sequence: self.sequence,
            pins: GroupPins { last_index: last.max(self.pins.last_index), ..self.pins },
        }
    }
}

/// A copy: the buffer it was found in is far larger.
fn owned(entry: LogEntry) -> LogEntry {
    LogEntry {
        context: Bytes::copy_from_slice(&entry.context),
        data: Bytes::copy_from_slice(&entry.data),
        ..entry
    }
}

impl Replay {
    pub fn new(checkpoint: Option<&Checkpoint>, cut: Lsn) -> Replay {
        let groups = checkpoint.iter().flat_map(|checkpoint| &checkpoint.groups);
        Replay {
            cut,
            dead_above: Lsn(u64::MAX),
            groups: groups.map(|(id, group)| (*id, Building::from_checkpoint(group))).collect(),
            files: Vec::new(),
            marked: BTreeMap::new(),
            last_lsn: Lsn(0),
            torn_records: 0,
            torn_bytes: 0,
            own_sequence: 0,
        }
    }

    pub fn group_ids(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    /// The records that follow are of this file.
    pub fn enter(&mut self, file: &HeadedFile, damaged: bool) {
        self.dead_above = file.dead_above;
        self.files.push(JournalFile {
            path: file.path.clone(),
            seq: file.header.seq,
            key: file.header.key,
            bytes: file.ground.len,
            first_lsn: Lsn(0),
            last_lsn: Lsn(0),
            end: file.ground.len,
            max_index: BTreeMap::new(),
            damaged,
            unmovable: false,
        });
    }

    pub fn record(&mut self, found: Found) {
        let Found { header, payload, .. } = found;
        if header.lsn > self.dead_above || header.lsn <= self.last_lsn {
            return;
        }
        if header.lsn > self.cut {
            self.torn_records += 1;
            self.torn_bytes += header.stride();
            return;
        }
        self.last_lsn = header.lsn;
        let file = self.files.last_mut().expect("records lie in a file");
        if file.first_lsn == Lsn(0) {
            file.first_lsn = header.lsn;
        }
        file.last_lsn = header.lsn;
        let body = payload.and_then(|payload| Body::decode(&header, payload));
        if header.group == OWN {
            self.own_sequence = header.sequence;
            if let Some(Body::Mark(mark)) = body {
                self.mark(&mark);
            }
            return;
        }
        self.apply(&header, body);
    }

    /// A sequence a mark knows of is never given out again, even if its record is lost.
    fn mark(&mut self, mark: &Mark) {
        for (group, sequence) in &mark.sequences {
            let known = self.marked.entry(*group).or_default();
            *known = (*known).max(*sequence);
        }
    }

    fn apply(&mut self, header: &Header, body: Option<Body>) {
        let building = self.groups.entry(header.group).or_default();
        if header.sequence <= building.sequence {
            // The sequence begins anew: the group was removed and created again.
            building.begin_again(header.lsn);
            self.marked.remove(&header.group);
        } else if header.sequence > building.sequence + 1 {
            building.doubt_uncommitted(header.lsn);
        }
        building.sequence = header.sequence;
        let news = header.lsn > building.pins.covered;
        match (header.kind, body) {
            (Kind::Append, body) => {
                let entry = if let Some(Body::Append(entry)) = body { Some(entry) } else { None };
                building.append(header, entry);
            }
            (Kind::Moved, body) => {
                let entry = if let Some(Body::Moved(entry)) = body { Some(entry) } else { None };
                building.fill(header, entry);
            }
            (Kind::Truncate, _) if header.index > 0 => {
                building.append(header, None);
                building.pins.last_index = building.last_index();
            }
            #[cfg(feature = "planted")]
            (_, Some(Body::HardState(state)))
                if news && model::planted::has(model::planted::Defect::UntypedRecords) =>
            {
                building.take_for_entry(header, state);
            }
            (_, Some(Body::HardState(state))) if news => {
                (building.hard_state, building.pins.hard_state) = (state, header.lsn);
            }
            (_, Some(Body::Birth(birth))) if news => {
                (building.birth, building.pins.birth) = (Some(birth), header.lsn);
            }
            (_, Some(Body::Suspect(damage))) if news => {
                (building.suspect, building.pins.suspect) = (Some(damage), header.lsn);
            }
            (_, Some(Body::Remove)) if news => {
                building.removed = true;
                building.entries.clear();
                let covered = building.pins.covered;
                building.pins = GroupPins { remove: header.lsn, covered, ..GroupPins::default() };
            }
            _ => {}
        }
    }

    /// Each entry pins the file of its latest record, and no other.
    fn pin_files(&mut self) {
        for (group, building) in &self.groups {
            for (index, (_, lsn)) in &building.entries {
                let next = self.files.partition_point(|file| file.first_lsn <= *lsn);
                let file = &mut self.files[next.checked_sub(1).expect("its record lies in a file")];
                let max = file.max_index.entry(*group).or_default();
                *max = (*max).max(*index);
            }
        }
    }

    /// Every group, the files that hold records of theirs, and those that hold only dead ones.
    pub fn finish(
        mut self,
        judged: &BTreeMap<GroupId, Damage>,
    ) -> (BTreeMap<GroupId, RecoveredGroup>, Vec<JournalFile>, Vec<JournalFile>) {
        let files = std::mem::take(&mut self.files).into_iter();
        let (used, dead): (Vec<_>, Vec<_>) = files.partition(|file| file.first_lsn > Lsn(0));
        self.files = used;
        self.pin_files();
        // A group of which nothing is left but the knowledge that it wrote.
        for group in judged.keys() {
            self.groups.entry(*group).or_default();
        }
        for (group, sequence) in &self.marked {
            if let Some(building) = self.groups.get_mut(group) {
                building.sequence = building.sequence.max(*sequence);
            }
        }
        let groups = self.groups.into_iter();
        let groups = groups.map(|(id, group)| (id, group.finish(judged.get(&id).copied())));
        (groups.collect(), self.files, dead)
    }
}
