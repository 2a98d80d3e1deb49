//! The journal's probe.

use model::Lsn;

use crate::beat::Beat;
use crate::family::Local;
use crate::labels::IoOp;
use crate::metric::LocalHistogram;
use crate::metrics;

/// One per journal thread.
pub struct JournalProbe {
    ops: Local<IoOp>,
    group_commits: LocalHistogram,
    durables: LocalHistogram,
}

impl Default for JournalProbe {
    fn default() -> JournalProbe {
        JournalProbe::new()
    }
}

impl JournalProbe {
    pub fn new() -> JournalProbe {
        JournalProbe {
            ops: metrics().journal_op_seconds.local(),
            group_commits: metrics().journal_group_commit_batches.local(),
            durables: metrics().journal_durable_seconds.local(),
        }
    }

    /// Runs one disk operation where the watchdog sees it.
    pub fn op<T>(&self, beat: &Beat, op: IoOp, bytes: u64, run: impl FnOnce() -> T) -> T {
        let started_ns = beat.io(op, bytes);
        let result = run();
        self.did(op, beat.io_done(started_ns));
        result
    }

    /// A disk operation took this long.
    pub fn did(&self, op: IoOp, ns: u64) {
        self.ops.at(op).observe(ns);
    }

    /// A write has completed; `bytes` includes padding.
    pub fn wrote(&self, bytes: u64, payload_bytes: u64) {
        metrics().journal_write_bytes_total.add(bytes);
        metrics().journal_payload_bytes_total.add(payload_bytes);
    }

    /// Everything up to `lsn` is handed to the file, not yet synced.
    pub fn written(&self, lsn: Lsn) {
        metrics().journal_written_lsn.set(lsn.0 as i64);
    }

    /// A sync has completed: `batches` writes of groups became durable with it.
    pub fn synced(&self, batches: u64, lsn: Lsn) {
        self.group_commits.observe(batches);
        metrics().journal_durable_lsn.set(lsn.0 as i64);
    }

    /// A write waited this long from its arrival to its durability.
    pub fn durable(&self, ns: u64) {
        self.durables.observe(ns);
    }

    /// Entries that pinned an old file were written forward.
    pub fn moved(&self, bytes: u64) {
        metrics().journal_moved_bytes_total.add(bytes);
    }

    pub fn file_created(&self) {
        metrics().journal_files_created_total.inc();
    }

    pub fn file_recycled(&self) {
        metrics().journal_files_recycled_total.inc();
    }

    /// Bytes that wait for the journal.
    pub fn queue(&self, bytes: u64) {
        metrics().journal_queue_bytes.set(bytes as i64);
    }

    /// Size, cap, and age of the oldest record.
    pub fn size(&self, bytes: u64, limit_bytes: u64, oldest_age_ns: u64) {
        metrics().journal_bytes.set(bytes as i64);
        metrics().journal_limit_bytes.set(limit_bytes as i64);
        metrics().journal_oldest_age_seconds.set(oldest_age_ns as i64);
    }

    /// New entries wait, or flow again.
    pub fn full(&self, full: bool) {
        metrics().journal_full.set(i64::from(full));
    }
}
