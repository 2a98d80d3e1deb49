//! What the writer knows about one group, and the parts its work is cut into.
//!
//! Invariants: a group's tokens are reported in the order they were enqueued; what a record
//! supersedes stays pinned until that record is synced.

use std::collections::VecDeque;

use bytes::Bytes;
use model::{GroupId, HardState, LogEntry, Lsn};

use super::files::GroupPins;
use super::frame::{HEADER_BYTES, entry_stride};
use super::{Damage, GroupBirth, JournalWrite, RecoveredGroup};

/// A piece of work that goes into one write.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub group: GroupId,
    /// On the last part of an enqueued write.
    pub token: Option<u64>,
    pub birth: Option<GroupBirth>,
    pub truncate_from: Option<u64>,
    pub entries: Vec<LogEntry>,
    pub hard_state: Option<HardState>,
    pub suspect: Option<Damage>,
    pub remove: bool,
    pub urgent: bool,
    /// File bytes of its records.
    pub bytes: u64,
}

impl Part {
    /// True when it may use the last spare of a full disk.
    pub fn is_vital(&self) -> bool {
        self.entries.is_empty() && self.truncate_from.is_none()
    }
}

fn small_record(payload: usize) -> u64 {
    ((HEADER_BYTES + payload) as u64).next_multiple_of(8)
}

/// File bytes of a hard state's record.
pub(super) fn hard_state_stride() -> u64 {
    small_record(24)
}

/// Cuts a write into parts of at most `part_bytes` or one entry, the promises and the token
/// on the last.
///
/// # Panics
/// When one entry alone is larger than `entry_bytes`.
pub(super) fn split(write: JournalWrite, part_bytes: u64, entry_bytes: u64) -> Vec<Part> {
    let group = write.group;
    // A group's birth, end and suspicion are promises like its vote.
    let promise = write.create.is_some() || write.remove || write.suspect.is_some();
    let urgent = write.urgent || promise;
    let new_part = || Part { group, urgent, ..Part::default() };
    let mut parts = Vec::new();
    let mut part = new_part();
    if let Some(birth) = write.create {
        part.bytes += small_record(8 + birth.body.len());
        part.birth = Some(birth);
    }
    if write.truncate_from.is_some() {
        part.bytes += small_record(0);
        part.truncate_from = write.truncate_from;
    }
    for entry in write.entries {
        let bytes = entry_stride(&entry);
        assert!(bytes <= entry_bytes, "an entry of {bytes} bytes, at most {entry_bytes} fit");
        assert!(entry.context.len() <= usize::from(u8::MAX), "a context has a byte for its length");
        if part.bytes + bytes > part_bytes && part.bytes > 0 {
            parts.push(std::mem::replace(&mut part, new_part()));
        }
        part.bytes += bytes;
        part.entries.push(entry);
    }
    if let Some(state) = write.hard_state {
        part.bytes += hard_state_stride();
        part.hard_state = Some(state);
    }
    part.bytes += write.suspect.map_or(0, |_| small_record(1));
    part.suspect = write.suspect;
    part.bytes += if write.remove { small_record(0) } else { 0 };
    part.remove = write.remove;
    part.token = Some(write.token);
    parts.push(part);
    parts
}

/// An enqueued write whose token was not reported yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub token: u64,
    /// It promises nothing of its own and follows the one before.
    pub note: bool,
}

/// One group as the writer sees it.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    /// Of its last record.
    pub sequence: u64,
    pub last_lsn: Lsn,
    pub pins: GroupPins,
    /// As written last, and as synced last.
    pub hard_state: HardState,
    pub synced_state: HardState,
    /// Kept until a checkpoint has it.
    pub birth: Option<GroupBirth>,
    pub suspect: Option<Damage>,
    /// Its birth is synced or in the checkpoint.
    pub established: bool,
    /// Its removal was enqueued.
    pub removed: bool,
    pub waiting: VecDeque<Waiting>,
    /// Parts in the queue, and those of them that are urgent.
    pub queued: usize,
    pub queued_urgent: usize,
}

impl GroupState {
    pub fn recovered(group: &RecoveredGroup) -> GroupState {
        GroupState {
            sequence: group.sequence,
            pins: group.pins.clone(),
            hard_state: group.hard_state,
            synced_state: group.hard_state,
            birth: group.birth.clone(),
            suspect: group.suspect,
            established: true,
            removed: group.removed,
            ..GroupState::default()
        }
    }

    /// Reports `token` and whatever may be reported with it.
    pub fn settle(&mut self, group: GroupId, token: u64, done: &mut Vec<(GroupId, u64)>) {
        while let Some(waiting) = self.waiting.front().copied() {
            if waiting.token > token && !waiting.note {
                break;
            }
            self.waiting.pop_front();
            done.push((group, waiting.token));
        }
    }
}

/// What takes effect when the records that say so are synced.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    pub states: Vec<(GroupId, HardState, Lsn)>,
    pub promises: Vec<(GroupId, Promise, Lsn)>,
    /// Entries at or above the index, in files before this one, are replaced.
    pub truncations: Vec<(GroupId, u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    Birth,
    Suspect,
    Remove,
}

/// An entry on its way out of the oldest file.
#[derive(Debug)]
pub(super) struct Forward {
    pub group: GroupId,
    pub what: ForwardWhat,
    pub bytes: u64,
}

#[derive(Debug)]
pub(super) enum ForwardWhat {
    /// The entry recorded at this LSN, if it still lives when its turn comes.
    Entry(LogEntry, Lsn),
    /// Promises that lie at or below this LSN.
    Promises(Lsn),
}

impl Forward {
    /// A copy, so that it does not hold on to the buffer it was found in.
    pub fn entry(group: GroupId, found: LogEntry, lsn: Lsn) -> Forward {
        let bytes = entry_stride(&found);
        let entry = LogEntry {
            context: Bytes::copy_from_slice(&found.context),
            data: Bytes::copy_from_slice(&found.data),
            ..found
        };
        Forward { group, what: ForwardWhat::Entry(entry, lsn), bytes }
    }

    pub fn promises(group: GroupId, birth_len: usize, up_to: Lsn) -> Forward {
        let bytes = hard_state_stride() + small_record(8 + birth_len) + 2 * small_record(8);
        Forward { group, what: ForwardWhat::Promises(up_to), bytes }
    }
}
