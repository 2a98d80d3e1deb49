//! Probes of segments, checkpoints and reads.

use crate::beat::Beat;
use crate::family::Local;
use crate::labels::{CheckpointOutcome, IoOp, ReadSource};
use crate::metric::LocalHistogram;
use crate::metrics;

/// One per segment thread.
pub struct SegmentProbe {
    ops: Local<IoOp>,
}

impl Default for SegmentProbe {
    fn default() -> SegmentProbe {
        SegmentProbe::new()
    }
}

impl SegmentProbe {
    pub fn new() -> SegmentProbe {
        SegmentProbe { ops: metrics().segment_op_seconds.local() }
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

    pub fn wrote(&self, bytes: u64) {
        metrics().segment_write_bytes_total.add(bytes);
    }

    /// Committed bytes not written yet.
    pub fn lag(&self, bytes: u64) {
        metrics().segment_lag_bytes.set(bytes as i64);
    }

    /// Retention removed a segment.
    pub fn deleted(&self, bytes: u64) {
        metrics().segments_deleted_total.inc();
        metrics().segment_deleted_bytes_total.add(bytes);
    }
}

/// A fetch read these bytes.
#[inline]
pub fn fetch_read(source: ReadSource, bytes: u64) {
    metrics().fetch_reads_total.at(source).inc();
    metrics().fetch_read_bytes_total.at(source).add(bytes);
}

/// Whoever writes checkpoints has one.
pub struct CheckpointProbe {
    times: LocalHistogram,
}

impl Default for CheckpointProbe {
    fn default() -> CheckpointProbe {
        CheckpointProbe::new()
    }
}

impl CheckpointProbe {
    pub fn new() -> CheckpointProbe {
        CheckpointProbe { times: metrics().checkpoint_seconds.local() }
    }

    pub fn done(&self, outcome: CheckpointOutcome, ns: u64) {
        metrics().checkpoints_total.at(outcome).inc();
        if outcome != CheckpointOutcome::Skipped {
            self.times.observe(ns);
        }
    }
}
