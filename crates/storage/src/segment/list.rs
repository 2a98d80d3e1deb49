//! The reader half: an immutable view of a group's segments.
use bytes::Bytes;
use model::LogEntry;

use super::TimestampHit;
use crate::disk::ReadAt;
use crate::error::StorageError;

/// An immutable view.
#[derive(Debug)]
pub struct SegmentList {}

/// One segment, for retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    pub base_index: u64,
    pub base_offset: i64,
    pub next_offset: i64,
    pub log_bytes: u64,
    pub side_bytes: u64,
    /// Milliseconds, -1 when no batch carries one.
    pub max_timestamp: i64,
}

#[allow(unused_variables)]
impl SegmentList {
    /// Whole batches from the one that contains `offset`, below `up_to_offset` (exclusive): the
    /// first one however large, then as many as fit `max_bytes` (KIP-74). Each element is a run
    /// of batches back to back. `offset` must lie in `log_start_offset()..=next_offset()`.
    pub fn read(
        &self,
        reader: &dyn ReadAt,
        offset: i64,
        max_bytes: usize,
        up_to_offset: i64,
    ) -> Result<Vec<Bytes>, StorageError> {
        unreachable!("lands with the segments' body")
    }
    /// The raft log again: entries `lo..hi`, at least one, then as many as fit `max_bytes`.
    pub fn entries(
        &self,
        reader: &dyn ReadAt,
        lo: u64,
        hi: u64,
        max_bytes: u64,
    ) -> Result<Vec<LogEntry>, StorageError> {
        unreachable!("lands with the segments' body")
    }
    pub fn offset_for_timestamp(
        &self,
        reader: &dyn ReadAt,
        timestamp: i64,
    ) -> Result<Option<TimestampHit>, StorageError> {
        unreachable!("lands with the segments' body")
    }
    /// OffsetForLeaderEpoch (KIP-101, KIP-279): the newest epoch at or below `epoch`, and where
    /// the next one starts. `None` below the retained log.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        unreachable!("lands with the segments' body")
    }
    /// The term of a retained index, and of the one just below the retained log.
    pub fn term(&self, index: u64) -> Option<u64> {
        unreachable!("lands with the segments' body")
    }
    pub fn first_index(&self) -> u64 {
        unreachable!("lands with the segments' body")
    }
    pub fn last_index(&self) -> u64 {
        unreachable!("lands with the segments' body")
    }
    pub fn log_start_offset(&self) -> i64 {
        unreachable!("lands with the segments' body")
    }
    /// The offset the next batch will have.
    pub fn next_offset(&self) -> i64 {
        unreachable!("lands with the segments' body")
    }
    /// Bytes of all batches and sidecars.
    pub fn bytes(&self) -> u64 {
        unreachable!("lands with the segments' body")
    }
    /// (first index, term), rising: what `GroupCheckpoint::term_starts` wants.
    pub fn term_starts(&self) -> Vec<(u64, u64)> {
        unreachable!("lands with the segments' body")
    }
    /// Oldest first; the last one is being written.
    pub fn segments(&self) -> Vec<SegmentSummary> {
        unreachable!("lands with the segments' body")
    }
}
