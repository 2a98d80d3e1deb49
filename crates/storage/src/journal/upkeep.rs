//! What keeps the journal small, and what can be asked of it.
//!
//! Invariants: a file is freed oldest first, only when no checkpoint-less record of a living
//! group lies in it, and only while the newest file has begun for good; what is asked answers
//! from what is synced wherever a promise depends on it.

use std::collections::BTreeSet;

use model::{GroupId, Lsn};

use super::SyncedState;
use super::files::JournalFile;
use super::writer::Journal;

impl Journal {
    /// Nothing was enqueued for a while: notes are written, and a sync mark, if anything lies
    /// behind the last one.
    pub fn idle(&mut self) {
        let unmarked = self.written_lsn > self.marked_lsn && !self.since_mark.is_empty();
        self.mark_wanted |= self.started && (unmarked || !self.notes.is_empty());
    }

    /// `SyncPolicy::Interval`: the interval is over.
    pub fn sync_due(&mut self) {
        self.sync_wanted |= self.written_lsn > self.synced_lsn;
    }

    /// A checkpoint is synced: (group, applied index, as-of LSN) of every group in it. Files
    /// that nothing pins any more are recycled; what still pins the oldest one is written
    /// forward once more than half of `bytes_max` is in use.
    pub fn checkpointed(&mut self, groups: &[(GroupId, u64, Lsn)]) {
        let mut listed = BTreeSet::new();
        for (group, applied, as_of) in groups {
            listed.insert(*group);
            if let Some(state) = self.groups.get_mut(group) {
                state.pins.cover(*applied, *as_of);
                if state.pins.birth <= state.pins.covered && state.established {
                    state.birth = None;
                }
            }
        }
        let over =
            self.groups.extract_if(.., |id, it| it.pins.remove > Lsn(0) && !listed.contains(id));
        let over: BTreeSet<GroupId> = over.map(|(group, _)| group).collect();
        self.let_go(&over);
        self.free_files();
        let oldest = self.pool.live.front().map_or(Lsn(0), |file| file.first_lsn);
        for state in self.groups.values_mut() {
            state.pins.fences.retain(|(_, lsn)| *lsn >= oldest);
        }
        self.move_below_seq = self.pool.live.back().map_or(0, |file| file.seq);
        self.begin_moving();
    }

    /// Nothing of these groups is needed any more; one of them may be created again.
    fn let_go(&mut self, over: &BTreeSet<GroupId>) {
        self.since_mark.retain(|group| !over.contains(group));
        self.forward.retain(|forward| !over.contains(&forward.group));
        for file in &mut self.pool.live {
            file.max_index.retain(|group, _| !over.contains(group));
        }
    }

    pub(super) fn free_files(&mut self) {
        // The newest file must have begun for good: else a tear of its first write could not be
        // told from the loss of an older file.
        let begun = self.pool.live.back().is_some_and(|file| file.first_lsn <= self.synced_lsn);
        self.free_deferred = !begun;
        while self.started && begun && self.pool.live.len() > 1 && self.moving.is_none() {
            if self.pins(&self.pool.live[0]).next().is_some() {
                break;
            }
            self.pool.free_oldest();
        }
    }

    /// The groups that still need something in `file`.
    pub(super) fn pins<'a>(
        &'a self,
        file: &'a JournalFile,
    ) -> impl Iterator<Item = GroupId> + use<'a> {
        self.groups.iter().filter_map(move |(id, state)| {
            let max = file.max_index.get(id).copied().unwrap_or(0);
            let entries = max > state.pins.applied && state.pins.remove == Lsn(0);
            (entries || state.pins.promises_lie_in(file)).then_some(*id)
        })
    }

    /// Room may be there again: tries once more what the disk refused.
    pub fn retry_space(&mut self) {
        self.pool.retry_space();
        self.retry_refused = true;
    }

    /// For the checkpoint: every living group's synced promises.
    pub fn synced_states(&self) -> Vec<SyncedState> {
        let living = self.groups.iter().filter(|(_, state)| state.established && !state.removed);
        living
            .map(|(group, state)| SyncedState {
                group: *group,
                hard_state: state.synced_state,
                as_of_lsn: self.synced_lsn,
                suspect: state.suspect,
                birth: state.birth.clone(),
            })
            .collect()
    }

    /// All at or below it keeps its promise under the sync policy.
    pub fn durable_lsn(&self) -> Lsn {
        self.durable_lsn
    }

    /// All at or below it is on the disk.
    pub fn synced_lsn(&self) -> Lsn {
        self.synced_lsn
    }

    /// LSN of the group's last record handed to the disk in this run.
    pub fn last_lsn_of(&self, group: GroupId) -> Option<Lsn> {
        self.groups.get(&group).map(|state| state.last_lsn).filter(|lsn| *lsn > Lsn(0))
    }

    /// File bytes of what waits.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Bytes of the files that hold records.
    pub fn bytes(&self) -> u64 {
        self.pool.live_bytes()
    }

    /// Its first record is synced ([`JournalEvent::Started`]).
    pub fn is_started(&self) -> bool {
        self.started
    }

    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// True when nothing is queued or under way.
    pub fn is_quiet(&self) -> bool {
        let busy = self.under_way.is_some() || self.refused.is_some() || self.sync_wanted;
        let more = self.pool.is_preparing() || self.moving.is_some() || !self.forward.is_empty();
        !(busy || more || self.mark_wanted || !self.queue.is_empty()) && self.started
    }

    /// The groups whose records keep the oldest file from being recycled.
    pub fn oldest_pinning_groups(&self) -> Vec<GroupId> {
        match self.pool.live.front() {
            Some(file) if self.pool.live.len() > 1 => self.pins(file).collect(),
            _ => Vec::new(),
        }
    }

    /// Forces a sync before what was moved is forgotten where it was.
    pub(super) fn want_sync(&mut self) {
        self.sync_wanted = true;
    }
}
