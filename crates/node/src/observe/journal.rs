//! What the journal did, and what it has under way.

use std::collections::VecDeque;

use model::limits;
use storage::{Journal, JournalEvent, OpId, OpKind};
use telemetry::flight::{self, kinds};
use telemetry::labels::{IoOp, LogEvent};
use telemetry::{Local, LocalHistogram, log_limited, metrics};

use super::UNSAMPLED;

pub fn io_op(kind: OpKind) -> IoOp {
    match kind {
        OpKind::Write => IoOp::Write,
        OpKind::Sync => IoOp::Sync,
        // No others come by the thousand.
        _ => IoOp::from_name(kind.as_str()).unwrap_or(IoOp::Other),
    }
}

/// What the journal thread observes with.
pub struct JournalObserver {
    operations: Local<IoOp>,
    batches: LocalHistogram,
    under_way: VecDeque<(OpId, OpKind, u64)>,
    /// Bytes of writes since the last sync was handed to the disk.
    unsynced: u64,
}

impl Default for JournalObserver {
    fn default() -> Self {
        JournalObserver {
            operations: metrics().journal_op_seconds.local(),
            batches: metrics().journal_group_commit_batches.local(),
            under_way: VecDeque::new(),
            unsynced: 0,
        }
    }
}

impl JournalObserver {
    pub fn submitted(&mut self, id: OpId, kind: OpKind, bytes: u64) {
        match kind {
            OpKind::Write => self.unsynced += bytes,
            OpKind::Sync => self.unsynced = 0,
            _ => {}
        }
        self.under_way.push_back((id, kind, bytes));
    }

    /// What the next sync has to make durable.
    pub fn unsynced_bytes(&self) -> u64 {
        self.unsynced
    }

    /// An operation for the flight recorder, before it runs; for [`JournalObserver::ended`].
    pub fn begins(&self, kind: OpKind, bytes: u64) -> bool {
        let told = flight::ordinary(UNSAMPLED);
        if told {
            kinds::journal_begun(bytes, io_op(kind));
        }
        told
    }

    /// It ran; `told`: its begin was recorded.
    pub fn ended(&self, told: bool, kind: OpKind, bytes: u64, took_ns: u64) {
        if told || took_ns >= limits::FLIGHT_SLOW_WORK_NS {
            kinds::journal_done(bytes, took_ns, io_op(kind));
        }
    }

    /// The operation the disk runs next; `None`: nothing was submitted.
    pub fn next_under_way(&self) -> Option<(OpKind, u64)> {
        self.under_way.front().map(|(_, kind, bytes)| (*kind, *bytes))
    }

    pub fn completed(&mut self, id: OpId, took_ns: u64) {
        let Some(at) = self.under_way.iter().position(|(known, ..)| *known == id) else { return };
        if let Some((_, kind, _)) = self.under_way.remove(at) {
            self.operations.observe(io_op(kind), took_ns);
        }
    }

    pub fn observe(&self, event: &JournalEvent) {
        match event {
            JournalEvent::Written { bytes, payload_bytes, .. } => {
                metrics().journal_write_bytes_total.add(*bytes);
                metrics().journal_payload_bytes_total.add(*payload_bytes);
            }
            JournalEvent::Durable { lsn, done } => {
                if flight::ordinary(UNSAMPLED) {
                    kinds::durable(lsn.0, done.len() as u32);
                }
                self.batches.observe(done.len() as u64);
            }
            JournalEvent::FileCreated { .. } => metrics().journal_files_created_total.inc(),
            JournalEvent::FileRecycled { .. } => metrics().journal_files_recycled_total.inc(),
            JournalEvent::Moved { bytes, .. } => metrics().journal_moved_bytes_total.add(*bytes),
            JournalEvent::MoveFailed { file, error } => {
                let error = error.as_ref().map(ToString::to_string);
                log_limited!(
                    error,
                    LogEvent::JournalDamage,
                    file,
                    ?error,
                    "a journal file does not read back"
                );
            }
            JournalEvent::Full(reason) => {
                metrics().journal_full.set(i64::from(reason.is_some()));
                let reason = reason.map_or("room again", |reason| reason.as_str());
                log_limited!(warn, LogEvent::JournalFull, reason, "journal space changed");
            }
            JournalEvent::Started { .. }
            | JournalEvent::Synced { .. }
            | JournalEvent::SyncMark { .. }
            | JournalEvent::CheckpointWanted { .. }
            | JournalEvent::Poisoned { .. } => {}
        }
    }

    pub fn gauges(&self, journal: &Journal) {
        metrics().journal_bytes.set(journal.bytes() as i64);
        metrics().journal_durable_lsn.set(journal.durable_lsn().0 as i64);
    }
}
