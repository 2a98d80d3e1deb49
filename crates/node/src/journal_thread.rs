//! The thread that writes the journal: one write and one sync serve everything that waits.
//!
//! Invariants: it waits for the disk and may wait for a shard, never the other way round; a
//! failed write or sync is never retried, the broker ends itself instead.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use model::{GroupId, Lsn, SyncPolicy};
use storage::{Completion, Disk, Journal, JournalEvent, JournalWrite, OpId, RealDisk, SyncedState};
use telemetry::Beat;
use telemetry::labels::{FatalReason, Loop, Phase};
use tokio::sync::oneshot;

use crate::mailbox::Shards;
use crate::observe::JournalObserver;
use crate::plumbing::Plumbing;
use crate::segment_thread::SegmentMail;
use crate::shard::Input;

/// What the journal thread is asked to do.
pub enum JournalMail {
    Writes(Vec<JournalWrite>),
    /// The synced promises of all groups, for a checkpoint.
    SyncedStates(SyncSender<Vec<SyncedState>>),
    /// Tell when everything handed over before is on disk.
    Barrier(oneshot::Sender<()>),
    /// A checkpoint is synced.
    Checkpointed(Vec<(GroupId, u64, Lsn)>),
    /// Sync all there is, then end.
    Stop,
}

/// Nothing was written for so long: the time for a sync mark.
const IDLE: Duration = Duration::from_millis(50);
/// How often space that was missing is asked for again.
const RETRY_SPACE: Duration = Duration::from_millis(500);

pub struct JournalThread {
    pub journal: Journal,
    pub disk: RealDisk,
    pub mail: Receiver<JournalMail>,
    pub shards: Shards,
    pub segments: SyncSender<SegmentMail>,
    pub plumbing: Arc<Plumbing>,
    pub sync: SyncPolicy,
    pub sync_interval: Duration,
    /// Boot time of the last completed write.
    pub written_ns: u64,
    /// Who waits until all is on disk.
    pub barriers: Vec<oneshot::Sender<()>>,
    /// Highest durable token of each group in this life.
    pub durable: HashMap<GroupId, u64>,
}

/// What the journal's thread leaves behind.
pub struct JournalEnd {
    /// Nothing waits: all that was handed over is on disk.
    pub quiet: bool,
    pub durable: HashMap<GroupId, u64>,
}

impl JournalThread {
    /// Runs until [`JournalMail::Stop`]; call it on its own thread.
    pub fn run(mut self) -> JournalEnd {
        let beat = Beat::thread(Loop::Journal, 0);
        let mut observer = JournalObserver::default();
        let mut stopping = false;
        let mut last_sync = Instant::now();
        let mut space_at = Instant::now();
        let mut full = false;
        while !(stopping && self.journal.is_quiet()) {
            beat.idle();
            match self.mail.recv_timeout(IDLE) {
                Ok(mail) => {
                    stopping |= self.take(mail);
                    self.drain(&mut stopping);
                }
                Err(RecvTimeoutError::Timeout) => self.journal.idle(),
                Err(RecvTimeoutError::Disconnected) => stopping = true,
            }
            let due = last_sync.elapsed() >= self.sync_interval;
            if self.sync == SyncPolicy::Interval && (due || stopping) {
                self.journal.sync_due();
                last_sync = Instant::now();
            }
            if full && space_at.elapsed() >= RETRY_SPACE {
                self.journal.retry_space();
                space_at = Instant::now();
            }
            self.work(&beat, &mut observer, &mut stopping, &mut full);
            if self.journal.is_quiet() {
                // Whoever gave up waiting needs no answer.
                for tell in self.barriers.drain(..) {
                    let _ = tell.send(());
                }
            }
            observer.gauges(&self.journal);
            if stopping && full {
                // What waits for space was never acknowledged.
                break;
            }
        }
        JournalEnd { quiet: self.journal.is_quiet(), durable: self.durable }
    }

    /// True for the last mail.
    fn take(&mut self, mail: JournalMail) -> bool {
        match mail {
            JournalMail::Writes(writes) => {
                self.plumbing.journal_queue.take(&writes);
                writes.into_iter().for_each(|write| self.journal.enqueue(write));
            }
            JournalMail::SyncedStates(answer) => {
                // The asker waits; if it is gone, so is the checkpoint.
                let _ = answer.send(self.journal.synced_states());
            }
            JournalMail::Barrier(tell) => self.barriers.push(tell),
            JournalMail::Checkpointed(groups) => self.journal.checkpointed(&groups),
            JournalMail::Stop => return true,
        }
        false
    }

    fn drain(&mut self, stopping: &mut bool) {
        while let Ok(mail) = self.mail.try_recv() {
            *stopping |= self.take(mail);
        }
    }

    /// Executes operations until nothing more can run, taking new work between them.
    fn work(
        &mut self,
        beat: &Beat,
        observer: &mut JournalObserver,
        stopping: &mut bool,
        full: &mut bool,
    ) {
        loop {
            beat.phase(Phase::Write);
            let mut watched = Watched { disk: &mut self.disk, beat, observer };
            let events = self.journal.submit(&mut watched);
            self.plumbing.journal_queue.keep(self.journal.queued_bytes());
            let done = watched.complete();
            self.handle(events, observer, full);
            let Some(done) = done else { break };
            let events = self.journal.complete(done);
            let told = events.iter().any(|event| matches!(event, JournalEvent::Durable { .. }));
            self.handle(events, observer, full);
            if told {
                // Not between a write and its sync, for which somebody waits.
                telemetry::flight::lend();
            }
            self.drain(stopping);
        }
        telemetry::flight::lend();
    }

    fn handle(
        &mut self,
        events: Vec<JournalEvent>,
        observer: &mut JournalObserver,
        full: &mut bool,
    ) {
        for event in events {
            observer.observe(&event);
            match event {
                JournalEvent::Durable { done, .. } => {
                    self.durable.extend(done.iter().copied());
                    self.tell_durable(done);
                }
                JournalEvent::Poisoned { op, error } => self.plumbing.fatal(
                    FatalReason::JournalFailed,
                    &format!(
                        "journal {} failed: {error}; nothing more is acknowledged",
                        op.as_str()
                    ),
                ),
                JournalEvent::Full(reason) => {
                    *full = reason.is_some();
                    self.plumbing.set_journal_full(reason.map(|reason| reason.as_str()));
                    for shard in self.shards.all() {
                        shard.tell_blocking(Input::DiskFull { full: *full });
                    }
                }
                JournalEvent::CheckpointWanted { .. } => {
                    // A full queue means a checkpoint is being asked for already.
                    let _ = self.segments.try_send(SegmentMail::CheckpointWanted);
                }
                JournalEvent::Written { .. } => self.written_ns = telemetry::clock::boot_ns(),
                JournalEvent::Started { .. }
                | JournalEvent::Synced { .. }
                | JournalEvent::SyncMark { .. }
                | JournalEvent::FileCreated { .. }
                | JournalEvent::FileRecycled { .. }
                | JournalEvent::Moved { .. }
                | JournalEvent::MoveFailed { .. } => {}
            }
        }
    }

    fn tell_durable(&mut self, done: Vec<(GroupId, u64)>) {
        let written_ns = self.written_ns;
        if self.shards.all().len() == 1 {
            self.shards.all()[0].tell_blocking(Input::Durable { done, written_ns });
            return;
        }
        let mut by_shard: BTreeMap<usize, Vec<(GroupId, u64)>> = BTreeMap::new();
        for (group, token) in done {
            by_shard.entry(self.shards.index_of(group)).or_default().push((group, token));
        }
        for (index, done) in by_shard {
            self.shards.all()[index].tell_blocking(Input::Durable { done, written_ns });
        }
    }
}

/// A disk whose operations the watchdog sees while they run.
struct Watched<'a> {
    disk: &'a mut RealDisk,
    beat: &'a Beat,
    observer: &'a mut JournalObserver,
}

impl Disk for Watched<'_> {
    fn submit(&mut self, op: storage::Op) -> OpId {
        let kind = op.kind();
        let bytes = match &op {
            storage::Op::Write { bufs, .. } => bufs.iter().map(|buf| buf.len() as u64).sum(),
            _ if kind == storage::OpKind::Sync => self.observer.unsynced_bytes(),
            _ => 0,
        };
        let id = self.disk.submit(op);
        self.observer.submitted(id, kind, bytes);
        id
    }

    fn complete(&mut self) -> Option<Completion> {
        let (kind, bytes) = self.observer.next_under_way()?;
        let told = self.observer.begins(kind, bytes);
        let started = self.beat.io(crate::observe::io_op(kind), bytes);
        #[cfg(feature = "planted")]
        if kind == storage::OpKind::Sync {
            crate::planted::sync();
        }
        let done = self.disk.complete();
        let took = self.beat.io_done(started);
        self.observer.ended(told, kind, bytes, took);
        if let Some(done) = &done {
            self.observer.completed(done.id, took);
        }
        done
    }
}
