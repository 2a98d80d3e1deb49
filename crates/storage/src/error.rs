//! The crate's one error: what could not be done with which file, as a value.

use crate::disk::{DiskError, DiskPath};

/// Why storage could not do what was asked. Operating errors only: a broken precondition
/// panics where it is found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The disk refused; [`DiskError::poisons`] tells whether anything may still be trusted.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file that must be whole is not: the bytes are there and wrong, or missing.
    #[error("{path} is damaged: {what}")]
    Damaged { path: DiskPath, what: &'static str },
    /// Written by a format this program does not know.
    #[error("{path} has format version {found}, this program knows {known}")]
    Version { path: DiskPath, found: u32, known: u32 },
    /// The entry or offset lies below the retained log.
    #[error("{wanted} lies below the log start {start}")]
    BelowStart { wanted: u64, start: u64 },
    /// The entry or offset lies above what the segments hold.
    #[error("{wanted} lies above the segments' end {end}")]
    AboveEnd { wanted: u64, end: u64 },
}
