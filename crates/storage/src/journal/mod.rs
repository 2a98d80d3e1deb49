//! One journal per broker: every group's entries and hard states, one sync for all that waits.
//!
//! [`Journal`] is a pure stepper: work is enqueued, operations go to a [`Disk`](crate::Disk),
//! completions come back and turn into [`JournalEvent`]s. [`recover`] reads it back.
//!
//! Invariants: a write starts on a fresh block, so synced bytes are never rewritten; one write
//! or sync of records is under way at a time; LSNs rise by one from record to record within a
//! run (one life of the writer); a group's records keep the order they were enqueued in; only
//! `Append` and `Truncate` truncate; nothing beyond the cut of a later run is ever read.

mod assemble;
mod evidence;
mod files;
mod frame;
mod group;
mod moving;
mod recovery;
mod replay;
mod scan;
mod start;
mod upkeep;
mod writer;

#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{GroupId, HardState, LogEntry, Lsn, ReplicaId, SyncPolicy};

use crate::checkpoint::Checkpoint;
use crate::disk::{DiskError, DiskPath, OpKind};

pub use recovery::recover;
pub use start::StartFailed;
pub use writer::Journal;

/// How the journal works. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// The directory that holds nothing but journal files.
    pub dir: DiskPath,
    /// One file; entries must fit a quarter of it (`limits::JOURNAL_FILE_BYTES`).
    pub file_bytes: u64,
    /// All files together; above it, entries wait until a checkpoint frees a file.
    pub bytes_max: u64,
    pub sync: SyncPolicy,
    /// What one write, and with `SyncPolicy::Group` one sync, covers
    /// (`limits::JOURNAL_SYNC_BYTES_MAX`).
    pub sync_bytes_max: usize,
}

/// Who a group is here, written when it is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupBirth {
    pub replica: ReplicaId,
    /// What the node needs to build the group again (its first ConfState and role); opaque here.
    pub body: Bytes,
}

/// One raft Ready of one group, or a step in the group's life.
#[derive(Clone, Debug, Default)]
pub struct JournalWrite {
    pub group: GroupId,
    /// Comes back in [`JournalEvent::Durable`]; rises within a group, from 1.
    pub token: u64,
    /// Whatever the group has at or above this index goes before anything else of this write.
    pub truncate_from: Option<u64>,
    /// In index order. The first one truncates whatever the group has at or above its index.
    pub entries: Vec<LogEntry>,
    pub hard_state: Option<HardState>,
    /// The term or the vote changed: synced under every policy, and first between groups.
    pub urgent: bool,
    pub create: Option<GroupBirth>,
    /// The group is gone; nothing may be enqueued for it any more.
    pub remove: bool,
    /// The group must not vote or lead any more, after a restart either.
    pub suspect: Option<Damage>,
}

/// Why a replica's log cannot be trusted: it neither votes nor leads and is healed by its peers.
/// The number is written to disk: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Damage {
    /// A record of this group, once synced, fails its checksum.
    RecordCorrupt = 1,
    /// A later record of this group shows that one before it is gone.
    RecordLost = 2,
    /// A synced record of an unknown group is unreadable and nothing proves it was another's.
    RecordMaybeLost = 3,
    /// The entries do not follow upon the checkpoint or upon each other.
    EntryGap = 4,
    /// The hard state commits entries that are not there.
    CommitBeyondLog = 5,
    /// A journal file that was in use has no readable header.
    FileUnreadable = 6,
    /// The segments are shorter than the checkpoint says.
    SegmentsDamaged = 7,
    /// A leader's heartbeat commits entries we must have acknowledged and do not have.
    CommitAheadOfLog = 8,
    /// The machine lost power while syncs were at intervals.
    UncleanInterval = 9,
    /// Less is there than the last shutdown wrote down.
    ShutdownManifest = 10,
}

impl Damage {
    pub const ALL: &'static [Damage] = &[
        Damage::RecordCorrupt,
        Damage::RecordLost,
        Damage::RecordMaybeLost,
        Damage::EntryGap,
        Damage::CommitBeyondLog,
        Damage::FileUnreadable,
        Damage::SegmentsDamaged,
        Damage::CommitAheadOfLog,
        Damage::UncleanInterval,
        Damage::ShutdownManifest,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Damage::RecordCorrupt => "record_corrupt",
            Damage::RecordLost => "record_lost",
            Damage::RecordMaybeLost => "record_maybe_lost",
            Damage::EntryGap => "entry_gap",
            Damage::CommitBeyondLog => "commit_beyond_log",
            Damage::FileUnreadable => "file_unreadable",
            Damage::SegmentsDamaged => "segments_damaged",
            Damage::CommitAheadOfLog => "commit_ahead_of_log",
            Damage::UncleanInterval => "unclean_interval",
            Damage::ShutdownManifest => "shutdown_manifest",
        }
    }

    pub fn from_u8(value: u8) -> Option<Damage> {
        Self::ALL.iter().copied().find(|damage| *damage as u8 == value)
    }
}

/// Why new entries wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullReason {
    /// The file system has no room for another journal file.
    Disk,
    /// The journal has reached `bytes_max` and no file is free of pins.
    Cap,
}

impl FullReason {
    pub fn as_str(self) -> &'static str {
        match self {
            FullReason::Disk => "disk",
            FullReason::Cap => "cap",
        }
    }
}

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalEvent {
    /// The first record of this run, which names the cut of the runs before, is synced: only
    /// now may this broker vote, acknowledge or answer.
    Started {
        cut_lsn: Lsn,
    },
    /// A write has completed (not yet synced). `bytes` includes padding.
    Written {
        bytes: u64,
        payload_bytes: u64,
        records: u64,
    },
    /// A sync of records has completed; `lsn` and all below it are on the disk.
    Synced {
        lsn: Lsn,
    },
    /// These writes, and all before them in their group, keep their promise.
    Durable {
        lsn: Lsn,
        done: Vec<(GroupId, u64)>,
    },
    /// A sync mark was written: what lies below it is known to be synced.
    SyncMark {
        lsn: Lsn,
    },
    FileCreated {
        file: u64,
    },
    FileRecycled {
        file: u64,
    },
    /// Entries that pinned the oldest file were written forward.
    Moved {
        records: u64,
        bytes: u64,
    },
    /// A file that must be moved does not read back as written; it stays, and so does its pin.
    MoveFailed {
        file: u64,
        error: Option<DiskError>,
    },
    /// More than half of `bytes_max` is in use: a checkpoint would free files.
    CheckpointWanted {
        bytes: u64,
    },
    /// New entries wait (`Some`), or flow again (`None`). Votes go on either way.
    Full(Option<FullReason>),
    /// A write or sync failed: nothing more is acknowledged, ever. The broker must exit.
    Poisoned {
        op: OpKind,
        error: DiskError,
    },
}

/// A group's promises that are on the disk, for the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncedState {
    pub group: GroupId,
    /// As of `as_of_lsn`: every hard state at or below it is this one or older.
    pub hard_state: HardState,
    pub as_of_lsn: Lsn,
    pub suspect: Option<Damage>,
    /// Known to the journal since the checkpoint before; `None`: the checkpoint has it.
    pub birth: Option<GroupBirth>,
}

/// What [`recover`] found.
#[derive(Debug)]
pub struct Recovered {
    /// Records above it, written by earlier runs, are dead.
    pub cut_lsn: Lsn,
    /// The next record's LSN: above every LSN seen, dead ones included.
    pub next_lsn: Lsn,
    pub next_file_seq: u64,
    pub checkpoint: Option<Checkpoint>,
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    pub damage: DamageReport,
    pub(crate) files: Vec<files::JournalFile>,
    pub(crate) free: Vec<files::FreeFile>,
    /// Last sequence of the journal's own records.
    pub(crate) own_sequence: u64,
}

/// One group as checkpoint and journal have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// `None` only for a removed group, or one whose birth was lost (then it is suspect).
    pub birth: Option<GroupBirth>,
    /// `commit` is at least the checkpoint's applied index and at most the last entry.
    pub hard_state: HardState,
    /// Contiguous, from the checkpoint's applied index + 1 (or from 1).
    pub entries: Vec<LogEntry>,
    pub suspect: Option<Damage>,
    /// Its removal was recorded: only its files are left to delete.
    pub removed: bool,
    pub(crate) sequence: u64,
    pub(crate) pins: files::GroupPins,
}

/// What recovery had to leave out, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DamageReport {
    /// Records written but never synced when the machine stopped; harmless.
    pub torn_records: u64,
    pub torn_bytes: u64,
    /// Synced records that fail their payload checksum.
    pub corrupt: Vec<CorruptRecord>,
    /// LSNs that were synced and cannot be read, inclusive.
    pub unreadable: Vec<(Lsn, Lsn)>,
    /// Files in use whose header is gone.
    pub unreadable_files: Vec<DiskPath>,
    /// Every suspect group and why.
    pub groups: BTreeMap<GroupId, Damage>,
}

impl DamageReport {
    /// True when anything beyond a torn tail is wrong.
    pub fn is_damaged(&self) -> bool {
        !(self.corrupt.is_empty()
            && self.unreadable.is_empty()
            && self.unreadable_files.is_empty()
            && self.groups.is_empty())
    }

    /// Whether something is lost that may have been all there was of a group: one that is not
    /// known any more may have made promises here.
    pub fn may_hide_groups(&self) -> bool {
        !(self.unreadable.is_empty() && self.unreadable_files.is_empty())
    }
}

/// One record with a readable header and an unreadable payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptRecord {
    pub path: DiskPath,
    pub at: u64,
    pub lsn: Lsn,
    /// 0 for a record of the journal itself.
    pub group: GroupId,
}
