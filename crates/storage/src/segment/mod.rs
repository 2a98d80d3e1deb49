//! Segments: the committed part of a group's log, as files of Kafka batches back to back.
//!
//! [`SegmentLog`] is the writer half, one per group; [`SegmentList`] an immutable view for any
//! number of readers. A sidecar beside each segment holds a sparse index and every entry that
//! is not a batch, so the raft log can be rebuilt from both.
//!
//! Invariants: indices are contiguous across segments and sidecars; a batch's offset is the
//! sum of the records before it; a file is removed only when no view holds it; bytes beyond
//! the checkpointed position are never trusted; an empty group has no files.

mod batch;
mod draft;
mod list;
mod log;
mod position;
mod sidecar;
mod walk;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod transfer_tests;

use bytes::Bytes;
use model::{EntryKind, LogEntry};

pub use list::{SegmentList, SegmentSummary};
pub use log::{SegmentLog, delete_segments, home_dir, home_of, names};
pub use position::{SegmentMark, SegmentPosition, TermStart};

/// One committed entry on its way to a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    pub entry: LogEntry,
    pub kind: EntryKind,
    /// Batches only: offsets of the first and last record; else ignored.
    pub base_offset: i64,
    pub last_offset: i64,
    /// Batches only: milliseconds since the Unix epoch, -1 for none.
    pub max_timestamp: i64,
}

/// The first batch whose newest record is not older than a timestamp. Which record of it is
/// the one, only a decoder of the (possibly compressed) batch can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampHit {
    pub base_offset: i64,
    pub last_offset: i64,
    pub max_timestamp: i64,
    pub leader_epoch: i32,
    pub batch: Bytes,
}
