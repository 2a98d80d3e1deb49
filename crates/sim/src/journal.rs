//! The journal of one process over a disk that takes its time: what the journal thread does.
//!
//! Invariants: the oracle hears "durable" only from the journal itself, whatever a plant tells
//! the shard; operations that were submitted together may end in any order; a process whose disk
//! is gone dies at once.

use std::collections::BTreeSet;

use bytes::Bytes;
use model::{GroupId, SyncPolicy};
use node::shard::Input;
use storage::testing::SimDisk;
use storage::{
    Disk, DiskError, DiskPath, Journal, JournalConfig, JournalEvent, JournalWrite, OpId, OpKind,
};

use crate::plant::Plant;
use crate::report::Reach;
use crate::trace::Who;
use crate::world::{MS, What, World};

const IDLE_NS: u64 = 50 * MS;
const RETRY_SPACE_NS: u64 = 500 * MS;

pub struct JournalWorker {
    pub journal: Journal,
    pub disk: SimDisk,
    /// Operations whose end is scheduled.
    pub under_way: BTreeSet<OpId>,
    /// Boot time of the last completed write.
    written_ns: u64,
    /// True time of the last work.
    busy_ns: u64,
    full: bool,
}

impl JournalWorker {
    /// Takes over a journal that has started.
    pub fn new(journal: Journal, mut disk: SimDisk) -> JournalWorker {
        disk.hold(true);
        JournalWorker {
            journal,
            disk,
            under_way: BTreeSet::new(),
            written_ns: 0,
            busy_ns: 0,
            full: false,
        }
    }
}

/// Small files, so that a short life recycles, moves and fills them.
pub fn config() -> JournalConfig {
    JournalConfig {
        dir: DiskPath::new("journal"),
        file_bytes: 192 << 10,
        bytes_max: 1536 << 10,
        sync: SyncPolicy::Group,
        sync_bytes_max: 128 << 10,
    }
}

/// Entry data on its way to the journal: (group, index, bytes).
pub fn mail_of(writes: &[JournalWrite]) -> Vec<(GroupId, u64, Bytes)> {
    let entries = writes.iter().flat_map(|w| w.entries.iter().map(move |e| (w.group, e)));
    entries.map(|(group, entry)| (group, entry.index, entry.data.clone())).collect()
}

impl World {
    pub fn journal_writes(&mut self, b: usize, writes: Vec<JournalWrite>) {
        if writes.is_empty() {
            return;
        }
        let now_ns = self.now_ns;
        let early = self.has(Plant::SendBeforePersist);
        let forgets_vote = self.has(Plant::VoteNotPersisted);
        for mut write in writes {
            let (group, token) = (write.group, write.token);
            self.oracle.durable.enqueued(b, &write);
            if let Some(hard_state) = write.hard_state.as_mut().filter(|_| forgets_vote) {
                hard_state.vote = 0;
            }
            let numbers = [
                ("group", group.0),
                ("token", token),
                ("entries", write.entries.len() as u64),
                ("last", write.entries.last().map_or(0, |entry| entry.index)),
                ("urgent", u64::from(write.urgent)),
            ];
            self.note(Who::Broker(b), "write", &numbers);
            let worker = self.brokers[b].process.as_mut().map(|process| &mut process.journal);
            let Some(worker) = worker else { return };
            worker.busy_ns = now_ns;
            worker.journal.enqueue(write);
            if early {
                self.tell(b, Input::Durable { done: vec![(group, token)], written_ns: 0 });
            }
        }
        self.pump_journal(b);
    }

    /// Submits what may run, and schedules the ends.
    pub fn pump_journal(&mut self, b: usize) {
        let Some(process) = &mut self.brokers[b].process else { return };
        let life = process.life;
        let worker = &mut process.journal;
        let events = worker.journal.submit(&mut worker.disk);
        let fresh: Vec<(OpId, OpKind)> = worker
            .disk
            .held()
            .filter(|(id, _)| !worker.under_way.contains(id))
            .map(|(id, op)| (id, op.kind()))
            .collect();
        worker.under_way.extend(fresh.iter().map(|(id, _)| *id));
        for (id, kind) in fresh {
            let pace = self.brokers[b].pace;
            let (low, high) = match kind {
                OpKind::Sync | OpKind::SyncDir => pace.sync_ns,
                _ => pace.write_ns,
            };
            let took_ns = self.between(low, high);
            self.schedule(took_ns, What::DiskDone { b, life, id });
        }
        self.journal_events(b, events);
    }

    pub fn disk_done(&mut self, b: usize, life: u32, id: OpId) {
        if !self.lives(b, life) {
            return;
        }
        if let Some(until) = self.stopped_until(b) {
            return self.schedule_at(until, What::DiskDone { b, life, id });
        }
        let worker = &mut self.brokers[b].process.as_mut().expect("it lives").journal;
        worker.under_way.remove(&id);
        assert!(worker.disk.release(id), "an operation ends once");
        let done = worker.disk.complete().expect("released just now");
        if done.result == Err(DiskError::Crashed) {
            return self.die_at_op(b);
        }
        let events = worker.journal.complete(done);
        self.journal_events(b, events);
        self.pump_journal(b);
    }

    fn journal_events(&mut self, b: usize, events: Vec<JournalEvent>) {
        for event in events {
            match event {
                JournalEvent::Durable { done, lsn } => self.durable(b, lsn.0, done),
                JournalEvent::Written { bytes, records, .. } => {
                    self.note(Who::Broker(b), "written", &[("bytes", bytes), ("records", records)]);
                    let now = self.brokers[b].clock.read(self.now_ns);
                    self.with_process(b, |process| process.journal.written_ns = now.boot_ns);
                }
                // Nothing may follow a failed write or sync: the process ends at once.
                JournalEvent::Poisoned { op, .. } => return self.die_of_disk(b, op.as_str()),
                JournalEvent::Full(reason) => self.journal_full(b, reason.is_some()),
                JournalEvent::CheckpointWanted { .. } => self.begin_checkpoint(b),
                JournalEvent::FileRecycled { .. } => self.reach(Reach::FileRecycled),
                JournalEvent::Moved { records, .. } => self.reached.add(Reach::Moved, records),
                JournalEvent::MoveFailed { file, .. } => {
                    let text = format!("b{}: journal file {file} does not read back", b + 1);
                    self.oracle.unexpected(self.now_ns, text);
                }
                JournalEvent::Started { .. }
                | JournalEvent::Synced { .. }
                | JournalEvent::SyncMark { .. }
                | JournalEvent::FileCreated { .. } => {}
            }
        }
    }

    fn durable(&mut self, b: usize, lsn: u64, done: Vec<(GroupId, u64)>) {
        for (group, token) in &done {
            self.oracle.durable.durable(b, *group, *token);
            self.note(
                Who::Broker(b),
                "durable",
                &[("group", group.0), ("token", *token), ("lsn", lsn)],
            );
        }
        if self.has(Plant::SendBeforePersist) {
            return;
        }
        let written_ns = self.with_process(b, |process| process.journal.written_ns).unwrap_or(0);
        self.tell(b, Input::Durable { done, written_ns });
    }

    fn journal_full(&mut self, b: usize, full: bool) {
        self.note(Who::Broker(b), "journal_full", &[("full", u64::from(full))]);
        if full {
            self.reach(Reach::JournalFull);
            self.begin_checkpoint(b);
        }
        let Some(life) = self.with_process(b, |process| {
            process.journal.full = full;
            process.life
        }) else {
            return;
        };
        self.tell(b, Input::DiskFull { full });
        if full {
            self.schedule(RETRY_SPACE_NS, What::JournalSpace { b, life });
        }
    }

    pub fn journal_space(&mut self, b: usize, life: u32) {
        if !self.lives(b, life) {
            return;
        }
        let still_full = self.with_process(b, |process| {
            if process.journal.full {
                process.journal.journal.retry_space();
            }
            process.journal.full
        });
        self.pump_journal(b);
        if still_full == Some(true) {
            self.begin_checkpoint(b);
            self.schedule(RETRY_SPACE_NS, What::JournalSpace { b, life });
        }
    }

    /// Nothing was written for a while: a sync mark.
    pub fn journal_idle(&mut self, b: usize, life: u32) {
        if !self.lives(b, life) {
            return;
        }
        let now_ns = self.now_ns;
        let stopped = self.stopped_until(b).is_some();
        self.with_process(b, |process| {
            if !stopped && now_ns - process.journal.busy_ns >= IDLE_NS {
                process.journal.journal.idle();
            }
        });
        self.pump_journal(b);
        self.schedule(IDLE_NS, What::JournalIdle { b, life });
    }
}
