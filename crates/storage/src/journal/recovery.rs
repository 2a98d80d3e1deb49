//! Reading the journal back.
use super::Recovered;
use crate::disk::{Disk, DiskPath};
use crate::error::StorageError;

/// Reads the checkpoint in `checkpoint_dir` and the journal in `journal_dir` (both made when
/// missing), and syncs what it found, so that all it returns is durable.
pub fn recover(
    _disk: &mut dyn Disk,
    _checkpoint_dir: &DiskPath,
    _journal_dir: &DiskPath,
) -> Result<Recovered, StorageError> {
    unreachable!("lands with the journal's body")
}
