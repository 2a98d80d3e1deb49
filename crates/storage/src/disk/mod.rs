//! The door to files: operations are submitted, completions delivered.
//!
//! Writers are steppers over [`Disk`]: they decide what to do and in which order, a disk only
//! executes. So the simulator can hold, tear, reorder and fail every write and sync of the
//! code that ships. Invariants: operations may be executed in any order until they complete,
//! hence a stepper submits an operation only when all it builds on has completed; only `Sync`
//! makes bytes durable and only `SyncDir` makes names durable; a failed sync is never retried.

mod real;

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

pub use real::{RealDisk, RealReader};

/// A path below a disk's root, `/` between its parts, never absolute, never `..`.
/// Cheap to clone: operations carry it by value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskPath(Arc<str>);

impl DiskPath {
    /// `path` relative to the disk's root; the empty path is the root itself.
    ///
    /// # Panics
    /// When the path could leave the root.
    pub fn new(path: &str) -> DiskPath {
        let clean = path.is_empty()
            || path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        assert!(clean, "not a path below the root: {path:?}");
        DiskPath(path.into())
    }

    /// This path extended by one part.
    pub fn join(&self, name: &str) -> DiskPath {
        if self.0.is_empty() {
            DiskPath::new(name)
        } else {
            DiskPath::new(&format!("{}/{name}", self.0))
        }
    }

    /// The directory that holds this path's name; the root's parent is the root.
    pub fn parent(&self) -> DiskPath {
        DiskPath(self.0.rsplit_once('/').map_or("", |(dir, _)| dir).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DiskPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

impl fmt::Debug for DiskPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskPath({})", self.0)
    }
}

/// One operation. Offsets and lengths are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new empty file, replacing one of that name. Durable only after `SyncDir` of its parent.
    Create { path: DiskPath },
    /// Writes all buffers, one behind the other. Extends the file where needed.
    Write { path: DiskPath, at: u64, bufs: Vec<Bytes> },
    /// fdatasync: all completed writes of this file, and its length, are durable on success.
    Sync { path: DiskPath },
    /// fsync of a directory: its names are durable on success.
    SyncDir { path: DiskPath },
    /// Starts write-back of a range without waiting: a hint that promises nothing.
    WriteBack { path: DiskPath, at: u64, len: u64 },
    /// Replaces `to` in one step. Durable only after `SyncDir` of both parents.
    Rename { from: DiskPath, to: DiskPath },
    /// Removes a file; not finding it is success.
    Remove { path: DiskPath },
    /// Removes a directory and all in it; not finding it is success.
    RemoveDir { path: DiskPath },
    /// Extends a file with zeroes up to `len` and reserves the space, so that a later write
    /// below `len` does not find the disk full.
    Allocate { path: DiskPath, len: u64 },
    /// Cuts or zero-extends a file.
    Truncate { path: DiskPath, len: u64 },
    /// Up to `len` bytes; fewer only at the end of the file.
    Read { path: DiskPath, at: u64, len: usize },
    /// Names in a directory, sorted; a missing directory is `NotFound`.
    List { path: DiskPath },
    /// A file's length.
    Len { path: DiskPath },
    /// Makes a directory and those above it; one that exists is success.
    MakeDir { path: DiskPath },
    /// Bytes this process may still write to the file system below the root.
    FreeSpace,
}

/// An operation's name: what errors and metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    Create,
    Write,
    Sync,
    SyncDir,
    WriteBack,
    Rename,
    Remove,
    RemoveDir,
    Allocate,
    Truncate,
    Read,
    List,
    Len,
    MakeDir,
    FreeSpace,
}

impl OpKind {
    pub fn as_str(self) -> &'static str {
        match self {
            OpKind::Create => "create",
            OpKind::Write => "write",
            OpKind::Sync => "sync",
            OpKind::SyncDir => "sync_dir",
            OpKind::WriteBack => "write_back",
            OpKind::Rename => "rename",
            OpKind::Remove => "remove",
            OpKind::RemoveDir => "remove_dir",
            OpKind::Allocate => "allocate",
            OpKind::Truncate => "truncate",
            OpKind::Read => "read",
            OpKind::List => "list",
            OpKind::Len => "len",
            OpKind::MakeDir => "make_dir",
            OpKind::FreeSpace => "free_space",
        }
    }
}

impl Op {
    pub fn kind(&self) -> OpKind {
        match self {
            Op::Create { .. } => OpKind::Create,
            Op::Write { .. } => OpKind::Write,
            Op::Sync { .. } => OpKind::Sync,
            Op::SyncDir { .. } => OpKind::SyncDir,
            Op::WriteBack { .. } => OpKind::WriteBack,
            Op::Rename { .. } => OpKind::Rename,
            Op::Remove { .. } => OpKind::Remove,
            Op::RemoveDir { .. } => OpKind::RemoveDir,
            Op::Allocate { .. } => OpKind::Allocate,
            Op::Truncate { .. } => OpKind::Truncate,
            Op::Read { .. } => OpKind::Read,
            Op::List { .. } => OpKind::List,
            Op::Len { .. } => OpKind::Len,
            Op::MakeDir { .. } => OpKind::MakeDir,
            Op::FreeSpace => OpKind::FreeSpace,
        }
    }

    /// What the operation is about; the root for `FreeSpace`, the source of a rename.
    pub fn path(&self) -> DiskPath {
        match self {
            Op::Create { path }
            | Op::Write { path, .. }
            | Op::Sync { path }
            | Op::SyncDir { path }
            | Op::WriteBack { path, .. }
            | Op::Remove { path }
            | Op::RemoveDir { path }
            | Op::Allocate { path, .. }
            | Op::Truncate { path, .. }
            | Op::Read { path, .. }
            | Op::List { path }
            | Op::Len { path }
            | Op::MakeDir { path } => path.clone(),
            Op::Rename { from, .. } => from.clone(),
            Op::FreeSpace => DiskPath::new(""),
        }
    }
}

/// Names one submitted operation of one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// What a successful operation answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Bytes(Bytes),
    Names(Vec<String>),
    Len(u64),
    Free(u64),
}

/// The end of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    pub id: OpId,
    pub result: Result<Outcome, DiskError>,
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space or quota left. Nothing that was there before is lost.
    #[error("no space left to {} {path}", op.as_str())]
    Full { op: OpKind, path: DiskPath },
    #[error("{path} does not exist")]
    NotFound { path: DiskPath },
    /// Anything else the system says, in its words.
    #[error("cannot {} {path}: {message}", op.as_str())]
    Io { op: OpKind, path: DiskPath, message: String },
    /// The simulated machine lost its power.
    #[error("the disk is gone")]
    Crashed,
}

impl DiskError {
    /// True when earlier writes may be lost although they once succeeded: whoever wrote must
    /// acknowledge nothing more (a retried sync may say Ok without the data).
    pub fn poisons(&self) -> bool {
        !matches!(self, DiskError::Full { .. } | DiskError::NotFound { .. })
    }
}

/// Takes operations, delivers their ends.
pub trait Disk {
    /// Takes an operation. It may run now, later, or in another order than others that have
    /// not completed.
    fn submit(&mut self, op: Op) -> OpId;
    /// The next completion. `None`: nothing has completed (a real disk works until something
    /// has, and answers `None` only when nothing was submitted).
    fn complete(&mut self) -> Option<Completion>;
}

/// Submits one operation and waits for its end: for code that does one thing after another
/// (recovery, checkpoint, segments).
///
/// # Panics
/// When the disk has other operations under way or does not complete by itself.
pub fn call(disk: &mut dyn Disk, op: Op) -> Result<Outcome, DiskError> {
    let id = disk.submit(op);
    let done = disk.complete().expect("a disk used sequentially completes each operation");
    assert_eq!(done.id, id, "a disk used sequentially has one operation under way");
    done.result
}

/// Reads by many threads at once, apart from the writer.
pub trait ReadAt: Send + Sync {
    /// Up to `len` bytes from byte `at`; fewer only at the end of the file.
    fn read_at(&self, file: &FileHandle, at: u64, len: usize) -> Result<Bytes, DiskError>;
}

/// A file that readers share. Its descriptor is opened by the first read and closed when the
/// last holder lets go.
pub struct FileHandle {
    path: DiskPath,
    slot: OnceLock<real::CachedFile>,
}

impl FileHandle {
    pub fn new(path: DiskPath) -> FileHandle {
        FileHandle { path, slot: OnceLock::new() }
    }

    pub fn path(&self) -> &DiskPath {
        &self.path
    }
}

impl fmt::Debug for FileHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileHandle({})", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_join_split_and_stay_below_the_root() {
        let path = DiskPath::new("journal").join("0001.log");
        assert_eq!(path.as_str(), "journal/0001.log");
        assert_eq!(path.parent(), DiskPath::new("journal"));
        assert_eq!(path.parent().parent(), DiskPath::new(""));
        for bad in ["/etc", "a//b", "..", "a/../b", "a/"] {
            assert!(std::panic::catch_unwind(|| DiskPath::new(bad)).is_err(), "{bad}");
        }
    }
}
