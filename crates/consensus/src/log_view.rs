//! The part of a group's log that raft sees at once, as raft's `Storage`.
//!
//! Everything above raft's applied index is in memory, always: raft slices (applied, committed]
//! synchronously when it campaigns and when it hands out committed entries. Older entries may
//! have been released to the segments; a read of those for a lagging follower is answered
//! `LogTemporarilyUnavailable`, asked for through [`EntryFetch`], and found on the second call.
//!
//! Invariants: in-memory entries are contiguous and end at `last_index`; an append first
//! truncates from its own first index (failure F0: a stale tail left behind made the storage run
//! ahead of raft); `start_index <= raft's applied index`; nothing here is durable.

use std::cell::RefCell;
use std::collections::VecDeque;

use model::{HardState, LogEntry, limits};
use raft::eraftpb::{ConfState, Entry, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use crate::config::Restored;
use crate::convert;
use crate::error::ConsensusError;
use crate::snapshot::SnapshotLog;
use crate::terms::TermTable;
use crate::truth::stamp_of;

/// Entries of raft's own between two of the machine that are looked past.
const STAMP_LOOK_MAX: u64 = 8;

/// Entries [lo, hi) that must be read from segments, at most about `max_bytes` of them, the
/// first in any case. Answer with `Group::entries_fetched`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryFetch {
    pub fetch: u64,
    pub lo: u64,
    pub hi: u64,
    pub max_bytes: u64,
}

#[derive(Default)]
struct Fetches {
    next_id: u64,
    pending: Vec<(EntryFetch, Vec<GetEntriesContext>)>,
    /// Asked for since the last `take_fetches`.
    asked: Vec<EntryFetch>,
    /// The last answer, until its end has been sent or leadership is lost.
    block: VecDeque<Entry>,
    snapshot_wanted: Vec<u64>,
    /// What a peer behind the start is sent.
    offer: Option<Snapshot>,
}

pub(crate) struct LogView {
    start_index: u64,
    terms: TermTable,
    entries: VecDeque<Entry>,
    /// Index of the first entry in memory, or one past the last index.
    memory_first: u64,
    /// The checksum that the last entry before `memory_first` was stamped with, if known.
    stamp_before: Option<u32>,
    bytes: usize,
    initial: (HardState, ConfState),
    /// Where the log starts once an installed snapshot is applied.
    start_then: Option<u64>,
    fetches: RefCell<Fetches>,
    /// Planted defect F0: leave a conflicting tail in place.
    #[cfg(test)]
    pub keeps_stale_tail: bool,
}

fn weight(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 24
}

impl LogView {
    /// Checks and takes what was restored. The hard state is fitted to the log by the caller.
    pub fn restore(restored: Restored) -> Result<LogView, ConsensusError> {
        let Restored { applied, start_index: start, terms, entries, conf_state, .. } = restored;
        if applied < start {
            return Err(ConsensusError::AppliedBeforeStart { applied, start });
        }
        let first = entries.first().map_or(applied + 1, |entry| entry.index);
        if first > applied + 1 || first <= start {
            return Err(ConsensusError::EntriesMissing { first, applied });
        }
        let mut view = LogView {
            start_index: start,
            terms: TermTable::restore(&terms, first)?,
            entries: VecDeque::with_capacity(entries.len()),
            memory_first: first,
            stamp_before: None,
            bytes: 0,
            initial: (HardState::default(), conf_state),
            start_then: None,
            fetches: RefCell::default(),
            #[cfg(test)]
            keeps_stale_tail: false,
        };
        for entry in entries {
            let expected = view.last_index() + 1;
            if entry.index != expected {
                return Err(ConsensusError::EntryGap { expected, found: entry.index });
            }
            if entry.term == 0 || !view.terms.push(entry.index, entry.term) {
                return Err(ConsensusError::TermFalls { index: entry.index });
            }
            view.push(convert::to_raft(entry));
        }
        if view.last_index() < applied {
            return Err(ConsensusError::EntriesMissing { first: view.last_index() + 1, applied });
        }
        if view.terms.term(start).is_none() {
            return Err(ConsensusError::TermUnknown { index: start });
        }
        // With nothing before the start, index 1 must be covered as soon as it exists.
        if view.last_index() > start && view.terms.term(start + 1).is_none() {
            return Err(ConsensusError::TermUnknown { index: start + 1 });
        }
        Ok(view)
    }

    /// What raft starts with; set once, before raft reads it.
    pub fn set_initial(&mut self, hard_state: HardState) {
        self.initial.0 = hard_state;
    }

    pub fn start_index(&self) -> u64 {
        self.start_index
    }

    pub fn last_index(&self) -> u64 {
        self.memory_first + self.entries.len() as u64 - 1
    }

    /// First index still in memory.
    pub fn memory_first(&self) -> u64 {
        self.memory_first
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn term_runs(&self) -> &[(u64, u64)] {
        self.terms.runs()
    }

    /// The term of an index of the retained log or the one below it.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        #[cfg(test)]
        if self.keeps_stale_tail && index >= self.memory_first {
            // The table of terms cannot hold a term that falls.
            return self.entries.get((index - self.memory_first) as usize).map(|entry| entry.term);
        }
        let known = index >= self.start_index && index <= self.last_index();
        known.then(|| self.terms.term(index)).flatten()
    }

    /// Truncates, then appends. Returns how many older entries were replaced.
    ///
    /// # Panics
    /// When `entries` do not follow one another, would leave a gap, or reach below the start:
    /// raft would not hand them out.
    pub fn append(&mut self, entries: &[Entry]) -> u64 {
        let Some(first) = entries.first().map(|entry| entry.index) else { return 0 };
        let last = self.last_index();
        assert!(first <= last + 1, "append at {first} leaves a gap behind {last}");
        assert!(first >= self.memory_first, "append at {first} below {}", self.memory_first);
        let removed = last + 1 - first;
        let keep = (first - self.memory_first) as usize;
        #[cfg(any(test, feature = "planted"))]
        if self.has_stale_tail() && removed > 0 {
            for entry in entries {
                let at = (entry.index - self.memory_first) as usize;
                match self.entries.get_mut(at) {
                    Some(slot) => *slot = entry.clone(),
                    None => self.push(entry.clone()),
                }
            }
            return removed;
        }
        while self.entries.len() > keep {
            self.bytes -= self.entries.pop_back().map_or(0, |entry| weight(&entry));
        }
        self.terms.truncate(first);
        #[cfg(feature = "planted")]
        let removed = removed + self.replaced_tail();
        for entry in entries {
            assert_eq!(entry.index, self.last_index() + 1, "entries must follow one another");
            assert!(self.terms.push(entry.index, entry.term), "the term falls at {}", entry.index);
            self.push(entry.clone());
        }
        removed
    }

    /// Entries it says were replaced though they were not.
    #[cfg(feature = "planted")]
    fn replaced_tail(&self) -> u64 {
        let has = model::planted::has(model::planted::Defect::ReplacedTail);
        u64::from(has && !self.entries.is_empty())
    }

    #[cfg(any(test, feature = "planted"))]
    fn has_stale_tail(&self) -> bool {
        #[cfg(test)]
        let here = self.keeps_stale_tail;
        #[cfg(not(test))]
        let here = model::planted::has(model::planted::Defect::StaleTail);
        here
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += weight(&entry);
        self.entries.push_back(entry);
    }

    /// The rolling checksum of the log up to `index`, as its entries were stamped. `None`: not
    /// known any more, or further back than it is worth looking.
    pub fn stamp_at(&self, index: u64) -> Option<u32> {
        if index >= self.memory_first + self.entries.len() as u64 {
            return None;
        }
        for back in 0..STAMP_LOOK_MAX {
            let at = index.checked_sub(back)?;
            if at < self.memory_first {
                return self.stamp_before.filter(|_| at + 1 == self.memory_first);
            }
            let stamp = stamp_of(&self.entries[(at - self.memory_first) as usize]);
            if stamp.is_some() {
                return stamp;
            }
        }
        None
    }

    /// Drops entries up to `limit` while there are more than `keep_bytes` in memory.
    pub fn release(&mut self, limit: u64, keep_bytes: usize) {
        while let Some(front) = self.entries.front() {
            if front.index > limit || self.bytes <= keep_bytes {
                break;
            }
            self.bytes -= weight(front);
            self.stamp_before = stamp_of(front).or(self.stamp_before);
            self.memory_first += 1;
            self.entries.pop_front();
        }
        if self.entries.capacity() > 64 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// Moves the start of the log up; entries at or below it are gone for good.
    pub fn set_start_index(&mut self, index: u64) {
        assert!(index <= self.last_index(), "the log cannot start behind its end");
        if let Some(start) = &mut self.start_then {
            *start = (*start).max(index);
        }
        if index <= self.start_index {
            return;
        }
        self.start_index = index;
        self.release(index, 0);
        self.terms.forget_below(index);
    }

    /// The log begins anew behind a snapshot. The entries below it that came with the snapshot
    /// can be read only after [`LogView::open_start`]: until then raft believes in none.
    ///
    /// # Panics
    /// When `log` does not cover the snapshot's index with its term.
    pub fn restore_snapshot(&mut self, index: u64, term: u64, log: SnapshotLog) {
        let SnapshotLog { start_index, terms } = log;
        let terms = TermTable::restore(&terms, index + 1).expect("checked with its manifest");
        assert_eq!(terms.term(index), Some(term), "a snapshot knows its own term");
        assert!(start_index <= index && terms.term(start_index.max(1)).is_some());
        self.terms = terms;
        self.entries.clear();
        (self.memory_first, self.bytes, self.start_index) = (index + 1, 0, index);
        self.stamp_before = None;
        self.start_then = Some(start_index);
        // Nobody waits for these any more: only leaders fetch.
        *self.fetches.get_mut() =
            Fetches { next_id: self.fetches.get_mut().next_id, ..Fetches::default() };
    }

    /// The installed snapshot is durable and applied: what came with it is readable.
    pub fn open_start(&mut self) {
        if let Some(start) = self.start_then.take() {
            self.start_index = start;
            self.terms.forget_below(start);
        }
    }

    pub fn offer_snapshot(&mut self, snapshot: Option<Snapshot>) {
        self.fetches.get_mut().offer = snapshot;
    }

    /// Index of the offer, unless the log starts behind it by now.
    pub fn snapshot_offered(&self) -> Option<u64> {
        let fetches = self.fetches.borrow();
        let index = fetches.offer.as_ref().map(|offer| offer.get_metadata().index);
        index.filter(|index| *index >= self.start_index)
    }

    /// In-memory entries of [lo, hi), at most about `max_bytes`, but at least one if any is there.
    pub fn slice(&self, lo: u64, hi: u64, max_bytes: u64) -> Vec<Entry> {
        let from = lo.max(self.memory_first);
        let take = hi.min(self.last_index() + 1).saturating_sub(from) as usize;
        let skip = (from - self.memory_first) as usize;
        up_to(self.entries.iter().skip(skip).take(take), max_bytes)
    }

    /// Reads that raft asked for since the last call.
    pub fn take_fetches(&mut self, out: &mut Vec<EntryFetch>) {
        out.append(&mut self.fetches.get_mut().asked);
    }

    /// Peers for whom raft wanted a snapshot since the last call.
    pub fn take_snapshot_wanted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.fetches.get_mut().snapshot_wanted)
    }

    pub fn pending_fetches(&self) -> usize {
        self.fetches.borrow().pending.len()
    }

    /// Takes a fetch's waiting readers off the list.
    pub fn finish_fetch(&mut self, id: u64) -> Option<(EntryFetch, Vec<GetEntriesContext>)> {
        let pending = &mut self.fetches.get_mut().pending;
        let at = pending.iter().position(|(fetch, _)| fetch.fetch == id)?;
        Some(pending.swap_remove(at))
    }

    /// Keeps fetched entries for raft's second call. False: they are not this log's entries.
    pub fn offer(&mut self, lo: u64, entries: Vec<LogEntry>) -> bool {
        let matches = |(expected, entry): (u64, &LogEntry)| {
            entry.index == expected && self.term_of(expected) == Some(entry.term)
        };
        // A log start that moved meanwhile makes an answer useless, not wrong.
        let useful = lo > self.start_index;
        if useful && !(lo..).zip(&entries).all(matches) {
            return false;
        }
        if useful {
            self.fetches.get_mut().block = entries.into_iter().map(convert::to_raft).collect();
        }
        true
    }

    /// Leadership is lost: nobody will come for the block.
    pub fn forget_fetched(&mut self) {
        self.fetches.get_mut().block = VecDeque::new();
    }

    fn older(
        &self,
        lo: u64,
        hi: u64,
        max: u64,
        ctx: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if !ctx.can_async() {
            // Only a broken invariant gets here; raft panics and the caller contains it.
            return Err(Error::Store(StorageError::Unavailable));
        }
        let mut fetches = self.fetches.borrow_mut();
        let first = fetches.block.front().map_or(0, |entry| entry.index);
        let end = first + fetches.block.len() as u64;
        if first <= lo && lo < end {
            let skip = (lo - first) as usize;
            let take = (hi.min(end) - lo) as usize;
            let entries = up_to(fetches.block.iter().skip(skip).take(take), max);
            if lo + entries.len() as u64 == end {
                fetches.block = VecDeque::new();
            }
            return Ok(entries);
        }
        let known = fetches.pending.iter_mut().find(|(fetch, _)| fetch.lo == lo);
        if let Some((_, waiting)) = known {
            if waiting.len() < limits::FETCH_WAITERS_MAX {
                waiting.push(ctx);
            }
        } else if fetches.pending.len() < limits::GROUP_FETCHES_MAX {
            fetches.next_id += 1;
            let hi = hi.min(self.memory_first);
            let id = fetches.next_id;
            let fetch = EntryFetch { fetch: id, lo, hi, max_bytes: limits::CATCH_UP_BYTES_MAX };
            fetches.pending.push((fetch, vec![ctx]));
            fetches.asked.push(fetch);
        }
        // A reader that found no place asks again at the follower's next heartbeat response.
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }
}

fn up_to<'a>(entries: impl Iterator<Item = &'a Entry>, max_bytes: u64) -> Vec<Entry> {
    let mut size = 0u64;
    let fits = |entry: &&Entry| {
        let first = size == 0;
        size = size.saturating_add(weight(entry) as u64);
        first || size <= max_bytes
    };
    entries.take_while(fits).cloned().collect()
}

impl Storage for LogView {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let (hard_state, conf_state) = &self.initial;
        Ok(RaftState::new(convert::hard_state_to_raft(*hard_state), conf_state.clone()))
    }

    fn entries(
        &self,
        lo: u64,
        hi: u64,
        max_size: impl Into<Option<u64>>,
        ctx: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let max = max_size.into().unwrap_or(u64::MAX);
        assert!(hi <= self.last_index() + 1, "entries up to {hi} asked of {}", self.last_index());
        if lo <= self.start_index {
            Err(Error::Store(StorageError::Compacted))
        } else if lo >= self.memory_first {
            Ok(self.slice(lo, hi, max))
        } else {
            self.older(lo, hi, max, ctx)
        }
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.start_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_of(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start_index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(LogView::last_index(self))
    }

    /// What is on offer; without one that helps, the peer is named so that one is made.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let helps = self.snapshot_offered().is_some_and(|index| index >= request_index);
        let mut fetches = self.fetches.borrow_mut();
        if let Some(offer) = fetches.offer.as_ref().filter(|_| helps) {
            return Ok(offer.clone());
        }
        if !fetches.snapshot_wanted.contains(&to) {
            fetches.snapshot_wanted.push(to);
        }
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
