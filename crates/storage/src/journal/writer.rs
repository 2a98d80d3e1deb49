//! The journal's writer: what is enqueued, what is under way, what has become durable.
//!
//! Invariants: one write or one sync of records is under way at a time; a token is reported
//! only when its records keep their promise under the policy; a failed write or sync poisons:
//! from then on nothing is submitted and nothing reported.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use model::{GroupId, HardState, Lsn, SyncPolicy};

use super::files::{FilePool, Run};
use super::frame::{BLOCK, DATA_START};
use super::group::{Forward, GroupState, Part, Promise, Unsynced, Waiting, split};
use super::moving::Moving;
use super::{FullReason, JournalConfig, JournalEvent, JournalWrite, Recovered};
use crate::disk::{Completion, Disk, DiskError, Op, OpId, OpKind, Outcome};

/// The writer. Feed it with `enqueue`, then call `submit`, and `complete` for each completion
/// followed by `submit` again.
#[derive(Debug)]
pub struct Journal {
    pub(super) config: JournalConfig,
    pub(super) run: Run,
    pub(super) pool: FilePool,
    /// This run has a file to write to.
    pub(super) active: bool,
    /// That file is the one kept for votes while the disk is full.
    pub(super) reserve_taken: bool,
    pub(super) started: bool,
    pub(super) poisoned: bool,
    pub(super) groups: BTreeMap<GroupId, GroupState>,
    pub(super) queue: VecDeque<Part>,
    pub(super) queued_bytes: u64,
    pub(super) queued_urgent: usize,
    /// Commit indices that ride along with the next write.
    pub(super) notes: BTreeMap<GroupId, HardState>,
    pub(super) moving: Option<Moving>,
    /// Files before this one may be moved: they are older than the last checkpoint.
    pub(super) move_below_seq: u64,
    pub(super) forward: VecDeque<Forward>,
    pub(super) next_lsn: Lsn,
    pub(super) written_lsn: Lsn,
    pub(super) synced_lsn: Lsn,
    pub(super) durable_lsn: Lsn,
    pub(super) own_sequence: u64,
    /// The mark before, and who wrote since.
    pub(super) marked_lsn: Lsn,
    pub(super) since_mark: BTreeSet<GroupId>,
    pub(super) mark_wanted: bool,
    pub(super) sync_wanted: bool,
    /// Tokens that wait for the next sync.
    pub(super) awaiting: Vec<(GroupId, u64)>,
    pub(super) unsynced: Unsynced,
    pub(super) under_way: Option<UnderWay>,
    /// A write the disk had no room for, to be repeated byte by byte.
    pub(super) refused: Option<Written>,
    /// Files wait to be freed until the newest one has begun.
    pub(super) free_deferred: bool,
    pub(super) retry_refused: bool,
    pub(super) events: Vec<JournalEvent>,
}

#[derive(Debug)]
pub(super) enum UnderWay {
    Write(OpId, Written),
    Sync(OpId, Lsn),
}

/// A write and what it stands for.
#[derive(Debug)]
pub(super) struct Written {
    pub op: Op,
    pub bytes: u64,
    pub payload_bytes: u64,
    pub records: u64,
    pub last_lsn: Lsn,
    pub done: Vec<(GroupId, u64)>,
    /// To be synced whatever the policy.
    pub sync: bool,
    pub mark: bool,
    /// The disk had no room for it the first time.
    pub refused: bool,
}

/// What assembling came to.
pub(super) enum Assembled {
    Write(Box<Written>),
    /// Earlier writes must be synced first.
    SyncFirst,
    Nothing,
}

impl Journal {
    /// Opens the journal behind what was recovered. Writing goes to a new file whose first
    /// record names the cut. `file_key` is random: it seeds the checksums of this run's files.
    ///
    /// # Panics
    /// When the configured sizes are not usable.
    pub fn open(recovered: &Recovered, config: JournalConfig, file_key: u64) -> Journal {
        // A file is made of blocks.
        let config = JournalConfig { file_bytes: config.file_bytes & !(BLOCK - 1), ..config };
        assert!(config.file_bytes >= DATA_START + 8 * BLOCK, "a file holds some writes");
        assert!(config.bytes_max >= 4 * config.file_bytes, "four files are the least to recycle");
        let run = Run { first_lsn: recovered.next_lsn, cut_lsn: recovered.cut_lsn };
        let (live, free) = (recovered.files.clone(), recovered.free.clone());
        let pool = FilePool::new(&config, run, file_key, recovered.next_file_seq, live, free);
        let groups = recovered.groups.iter();
        let mut journal = Journal {
            run,
            pool,
            active: false,
            reserve_taken: false,
            started: false,
            poisoned: false,
            groups: groups.map(|(id, group)| (*id, GroupState::recovered(group))).collect(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            queued_urgent: 0,
            notes: BTreeMap::new(),
            moving: None,
            move_below_seq: 0,
            forward: VecDeque::new(),
            next_lsn: recovered.next_lsn,
            written_lsn: Lsn(recovered.next_lsn.0 - 1),
            synced_lsn: Lsn(recovered.next_lsn.0 - 1),
            durable_lsn: Lsn(recovered.next_lsn.0 - 1),
            own_sequence: recovered.own_sequence,
            marked_lsn: Lsn(0),
            since_mark: BTreeSet::new(),
            mark_wanted: false,
            sync_wanted: false,
            awaiting: Vec::new(),
            unsynced: Unsynced::default(),
            under_way: None,
            refused: None,
            free_deferred: false,
            retry_refused: false,
            events: Vec::new(),
            config,
        };
        journal.record_suspicions(recovered);
        journal
    }

    /// Suspicion outlives the damaged file: each is written forward with the first write.
    fn record_suspicions(&mut self, recovered: &Recovered) {
        for (id, group) in recovered.groups.iter().filter(|(_, group)| !group.removed) {
            if group.suspect.is_some() {
                let part =
                    Part { group: *id, suspect: group.suspect, urgent: true, ..Part::default() };
                self.push_part(Part { bytes: 128, ..part });
            }
        }
    }

    /// The largest entry (file bytes, header included) the journal takes.
    pub fn entry_bytes_max(&self) -> u64 {
        (self.config.file_bytes - DATA_START) / 2
    }

    fn part_bytes(&self) -> u64 {
        let share = (self.config.file_bytes - DATA_START) / 4;
        share.min((self.config.sync_bytes_max as u64).max(2 * BLOCK))
    }

    /// Takes one Ready of a group. A write that carries nothing but a newer commit index is a
    /// note: raft relearns a commit index, so it is reported as soon as all before it is
    /// durable, and its record rides along with the next write.
    ///
    /// # Panics
    /// When the group is unknown and neither created nor suspected here, or was removed; when an
    /// entry is larger than [`Journal::entry_bytes_max`].
    pub fn enqueue(&mut self, write: JournalWrite) {
        let group = write.group;
        assert_ne!(group, GroupId(0), "group 0 is the journal's own");
        if self.poisoned {
            return;
        }
        if let Some(birth) = &write.create {
            let state = GroupState { birth: Some(birth.clone()), ..GroupState::default() };
            assert!(self.groups.insert(group, state).is_none(), "group {group} is created twice");
        }
        if write.suspect.is_some() {
            // All of it may be lost: then it has no birth, as after a recovery that finds the same.
            let lost = || GroupState { established: true, ..GroupState::default() };
            self.groups.entry(group).or_insert_with(lost);
        }
        let (part_bytes, entry_bytes) = (self.part_bytes(), self.entry_bytes_max());
        let state = self.groups.get_mut(&group);
        let state = state.unwrap_or_else(|| panic!("group {group} was never created"));
        assert!(!state.removed, "group {group} was removed");
        state.removed = write.remove;
        state.suspect = state.suspect.or(write.suspect);
        let note = write.entries.is_empty()
            && write.truncate_from.is_none()
            && !(write.urgent || write.remove || write.create.is_some() || write.suspect.is_some());
        if note && state.waiting.is_empty() && self.started {
            let done = vec![(group, write.token)];
            self.events.push(JournalEvent::Durable { lsn: self.durable_lsn, done });
        } else {
            state.waiting.push_back(Waiting { token: write.token, note });
        }
        match (note, write.hard_state) {
            (true, Some(hard_state)) => drop(self.notes.insert(group, hard_state)),
            (false, Some(_)) => drop(self.notes.remove(&group)),
            (_, None) => {}
        }
        if write.remove {
            self.notes.remove(&group);
        }
        if !note {
            for part in split(write, part_bytes, entry_bytes) {
                self.push_part(part);
            }
        }
    }

    fn push_part(&mut self, part: Part) {
        let state = self.groups.get_mut(&part.group).expect("a part has its group");
        state.queued += 1;
        state.queued_urgent += usize::from(part.urgent);
        self.queued_urgent += usize::from(part.urgent);
        self.queued_bytes += part.bytes;
        self.queue.push_back(part);
    }

    /// Hands over whatever may run now.
    pub fn submit(&mut self, disk: &mut dyn Disk) -> Vec<JournalEvent> {
        if !self.poisoned {
            // The first write comes first: whoever starts should not wait for a spare too.
            if !self.active || self.written_lsn > self.run.first_lsn {
                self.pool.prepare(self.active, &mut self.events);
            }
            self.submit_records(disk);
            if let Some(op) = self.pool.next_op() {
                let id = disk.submit(op);
                self.pool.under_way(id);
            }
            self.submit_moving(disk);
        }
        std::mem::take(&mut self.events)
    }

    fn submit_records(&mut self, disk: &mut dyn Disk) {
        if self.under_way.is_some() {
            return;
        }
        if let Some(written) = self.refused.take() {
            if !self.retry_refused {
                self.refused = Some(written);
                return;
            }
            self.retry_refused = false;
            self.under_way = Some(UnderWay::Write(disk.submit(written.op.clone()), written));
            return;
        }
        let sync_due = self.sync_wanted && self.written_lsn > self.synced_lsn;
        let assembled = if sync_due { Assembled::SyncFirst } else { self.assemble() };
        match assembled {
            Assembled::Write(written) => {
                let id = disk.submit(written.op.clone());
                self.under_way = Some(UnderWay::Write(id, *written));
            }
            Assembled::SyncFirst => {
                let path = self.pool.live.back().expect("what was written has a file").path.clone();
                let id = disk.submit(Op::Sync { path });
                self.under_way = Some(UnderWay::Sync(id, self.written_lsn));
            }
            Assembled::Nothing => {}
        }
    }

    /// Takes one of its own completions.
    ///
    /// # Panics
    /// When the operation is not one of this journal.
    pub fn complete(&mut self, completion: Completion) -> Vec<JournalEvent> {
        let Completion { id, result } = completion;
        if self.poisoned {
            return Vec::new();
        }
        if self.pool.owns(id) {
            if let Err(error) = self.pool.complete(result.map(drop), &mut self.events) {
                self.poison(OpKind::Write, error);
            }
        } else if self.moving.as_ref().is_some_and(|moving| moving.owns(id)) {
            self.complete_moving(result);
        } else {
            self.complete_records(id, result);
        }
        std::mem::take(&mut self.events)
    }

    fn complete_records(&mut self, id: OpId, result: Result<Outcome, DiskError>) {
        match (self.under_way.take().expect("the journal has work under way"), result) {
            (UnderWay::Write(own, written), result) => {
                assert_eq!(own, id, "a completion of someone else");
                match result {
                    Ok(_) => self.has_written(written),
                    Err(DiskError::Full { .. }) => {
                        self.pool.set_full(Some(FullReason::Disk), &mut self.events);
                        self.refused = Some(Written { refused: true, ..written });
                    }
                    Err(error) => self.poison(OpKind::Write, error),
                }
            }
            (UnderWay::Sync(own, lsn), result) => {
                assert_eq!(own, id, "a completion of someone else");
                match result {
                    Ok(_) => self.has_synced(lsn),
                    Err(error) => self.poison(OpKind::Sync, error),
                }
            }
        }
    }

    fn poison(&mut self, op: OpKind, error: DiskError) {
        let op = if let DiskError::Io { op, .. } = &error { *op } else { op };
        self.poisoned = true;
        self.events.push(JournalEvent::Poisoned { op, error });
    }

    fn has_written(&mut self, written: Written) {
        let Written { bytes, payload_bytes, records, .. } = written;
        self.written_lsn = written.last_lsn;
        self.events.push(JournalEvent::Written { bytes, payload_bytes, records });
        if written.mark {
            self.events.push(JournalEvent::SyncMark { lsn: written.last_lsn });
        }
        if written.refused && self.pool.spares() > 0 {
            self.pool.set_full(None, &mut self.events);
        }
        self.awaiting.extend(written.done);
        if self.config.sync == SyncPolicy::Group || written.sync || !self.started {
            self.sync_wanted = true;
        } else {
            self.settle(written.last_lsn);
            self.finish_moving();
        }
    }

    fn has_synced(&mut self, lsn: Lsn) {
        self.sync_wanted = false;
        self.synced_lsn = lsn;
        if !self.started {
            self.started = true;
            self.events.push(JournalEvent::Started { cut_lsn: self.run.cut_lsn });
            self.settle_notes();
        }
        self.events.push(JournalEvent::Synced { lsn });
        self.take_effect();
        self.settle(lsn);
        self.finish_moving();
        if self.free_deferred {
            self.free_files();
        }
    }

    /// Notes that only waited for the start.
    fn settle_notes(&mut self) {
        let mut done = Vec::new();
        for (group, state) in &mut self.groups {
            while let Some(note) = state.waiting.pop_front_if(|waiting| waiting.note) {
                done.push((*group, note.token));
            }
        }
        if !done.is_empty() {
            self.events.push(JournalEvent::Durable { lsn: self.durable_lsn, done });
        }
    }

    /// Reports every token that waited, and raises the durable LSN.
    fn settle(&mut self, lsn: Lsn) {
        self.durable_lsn = self.durable_lsn.max(lsn);
        let mut done = Vec::new();
        for (group, token) in std::mem::take(&mut self.awaiting) {
            if let Some(state) = self.groups.get_mut(&group) {
                state.settle(group, token, &mut done);
            }
        }
        if !done.is_empty() {
            self.events.push(JournalEvent::Durable { lsn: self.durable_lsn, done });
        }
    }

    /// What was written is synced: older records that it supersedes pin nothing any more.
    fn take_effect(&mut self) {
        let unsynced = std::mem::take(&mut self.unsynced);
        for (group, index, before_seq) in unsynced.truncations {
            for file in self.pool.live.iter_mut().filter(|file| file.seq < before_seq) {
                if let Some(max) = file.max_index.get_mut(&group) {
                    *max = (*max).min(index - 1);
                }
            }
        }
        for (group, hard_state, lsn) in unsynced.states {
            let Some(state) = self.groups.get_mut(&group) else { continue };
            (state.synced_state, state.pins.hard_state) = (hard_state, lsn);
        }
        for (group, promise, lsn) in unsynced.promises {
            let Some(state) = self.groups.get_mut(&group) else { continue };
            match promise {
                Promise::Birth => (state.pins.birth, state.established) = (lsn, true),
                Promise::Suspect => state.pins.suspect = lsn,
                Promise::Remove => {
                    state.pins.remove = lsn;
                    (state.pins.hard_state, state.pins.birth) = (Lsn(0), Lsn(0));
                    state.pins.suspect = Lsn(0);
                }
            }
        }
    }
}

/// Nothing: for records without data.
pub(super) const NO_DATA: Bytes = Bytes::new();
