//! What lies on disk: one journal per broker, a segment log per group, one checkpoint.
//!
//! * [`journal`] - every group's entries and hard states in self-checking records, one sync
//!   for all that waits; its recovery tells a tear (cut) from corruption (named, suspect).
//! * [`segment`] - committed batches back to back, read by fetches and lagging followers.
//! * [`Manifest`], [`Transfer`] - a snapshot's contents, and their way into another replica.
//! * [`checkpoint`] - what recovery starts from: only what it covers leaves the journal.
//! * [`disk`] - the only door to files: operations in, completions out.
//! * [`testing`] - an in-memory disk that loses, tears and flips what a real one may.
//!
//! Invariants: no clock, no lock, no random number, no telemetry and no raft type in this
//! crate; random keys are arguments; nothing touches a file except through [`disk`].

pub mod checkpoint;
mod codec;
pub mod disk;
mod error;
pub mod journal;
mod manifest;
pub mod segment;
pub mod testing;
mod transfer;

pub use checkpoint::{Checkpoint, GroupCheckpoint};
pub use disk::{
    Completion, Disk, DiskError, DiskPath, FileHandle, Op, OpId, OpKind, Outcome, ReadAt, RealDisk,
    RealReader, call,
};
pub use error::StorageError;
pub use journal::{
    Damage, DamageReport, FullReason, GroupBirth, Journal, JournalConfig, JournalEvent,
    JournalWrite, Recovered, RecoveredGroup, StartFailed, SyncedState, recover,
};
pub use manifest::{Manifest, ManifestFile};
pub use segment::{
    SegmentEntry, SegmentList, SegmentLog, SegmentMark, SegmentPosition, SegmentSummary, TermStart,
    TimestampHit, delete_segments, home_dir, home_of,
};
pub use transfer::{Transfer, Wanted, sweep_homes};
