//! The writer half of one group's segments.
use std::sync::Arc;

use super::{SegmentEntry, SegmentList, SegmentPosition};
use crate::disk::{Disk, DiskPath};
use crate::error::StorageError;

/// The writer half; owned by the segment thread.
pub struct SegmentLog {}

#[allow(unused_variables)]
impl SegmentLog {
    /// Cuts the files in `dir` to `position`; without one, nothing in `dir` is trusted and
    /// everything is discarded.
    pub fn open(
        disk: &mut dyn Disk,
        dir: DiskPath,
        position: Option<SegmentPosition>,
        segment_bytes: u64,
    ) -> Result<SegmentLog, StorageError> {
        unreachable!("lands with the segments' body")
    }
    /// Appends committed entries that follow upon `last_index()`. After an error, continue
    /// behind `last_index()`.
    pub fn append(
        &mut self,
        disk: &mut dyn Disk,
        entries: &[SegmentEntry],
    ) -> Result<(), StorageError> {
        unreachable!("lands with the segments' body")
    }
    /// Syncs everything appended so far: call before a checkpoint carries `position()`.
    pub fn sync(&mut self, disk: &mut dyn Disk) -> Result<(), StorageError> {
        unreachable!("lands with the segments' body")
    }
    pub fn position(&self) -> SegmentPosition {
        unreachable!("lands with the segments' body")
    }
    pub fn last_index(&self) -> u64 {
        unreachable!("lands with the segments' body")
    }
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        unreachable!("lands with the segments' body")
    }
    /// Raises the log start: whole segments below leave the view and the position. Their files
    /// stay until `reap`.
    pub fn set_log_start(&mut self, offset: i64) {
        unreachable!("lands with the segments' body")
    }
    /// As `set_log_start`, by index: for groups without offsets (metadata).
    pub fn set_start_index(&mut self, index: u64) {
        unreachable!("lands with the segments' body")
    }
    /// Removes files that left the view and that no reader holds. Only after a checkpoint
    /// that carries the new start is synced.
    pub fn reap(&mut self, disk: &mut dyn Disk) -> Result<usize, StorageError> {
        unreachable!("lands with the segments' body")
    }
    pub fn view(&self) -> Arc<SegmentList> {
        unreachable!("lands with the segments' body")
    }
    /// Removes the whole directory. Views that are still held fail to read.
    pub fn delete_all(self, disk: &mut dyn Disk) -> Result<(), StorageError> {
        unreachable!("lands with the segments' body")
    }
}
