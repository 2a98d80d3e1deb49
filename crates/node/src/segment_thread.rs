//! The thread that writes committed batches to segments and takes checkpoints: off the ack path.
//!
//! Invariants: work of a group is done in order; a checkpoint carries a segment position only
//! after those segments were synced; a file is removed only after a synced checkpoint no longer
//! needs it; a full disk holds work back and is retried, any other failure ends the broker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use model::{GroupId, limits};
use storage::{
    Checkpoint, DiskPath, RealDisk, SegmentLog, StorageError, delete_segments, sweep_homes,
};
use telemetry::Beat;
use telemetry::labels::{CheckpointOutcome, FatalReason, Loop, Phase};
use telemetry::{clock, flight, metrics};

use crate::journal_thread::JournalMail;
use crate::mailbox::Shards;
use crate::plumbing::Plumbing;
use crate::shard::{GroupMark, Input, Install, Installed, PlacedMark, SegmentWork};

/// What the segment thread is asked to do.
pub enum SegmentMail {
    Work(Vec<SegmentWork>),
    /// The journal is filling up.
    CheckpointWanted,
    /// Take a checkpoint, then tell: `true` if it is synced.
    CheckpointNow(SyncSender<bool>),
    Stop,
}

/// A checkpoint at least this often while anything changes: it bounds a restart's replay.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// One that forgets removed groups comes sooner: their files go, and they may come back.
const FORGET_AFTER: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(200);

struct Open {
    log: SegmentLog,
    /// The number of segments last told to the shard.
    told_segments: usize,
    dirty: bool,
}

/// A checkpoint in the making.
struct Making {
    id: u64,
    started: Instant,
    waiting: BTreeSet<usize>,
    marks: Vec<PlacedMark>,
    tell: Vec<SyncSender<bool>>,
}

pub struct SegmentThread {
    disk: RealDisk,
    dir: DiskPath,
    checkpoint_dir: DiskPath,
    mail: Receiver<SegmentMail>,
    journal: SyncSender<JournalMail>,
    shards: Shards,
    plumbing: Arc<Plumbing>,
    logs: BTreeMap<GroupId, Open>,
    checkpoint: Checkpoint,
    making: Option<Making>,
    next_checkpoint: u64,
    deleted: BTreeSet<GroupId>,
    touched: BTreeSet<GroupId>,
    /// Work that a full disk holds back.
    held: VecDeque<SegmentWork>,
    changed: bool,
    checkpointed_at: Instant,
}

/// What a broker's start hands to the segment thread.
pub struct SegmentParts {
    pub disk: RealDisk,
    pub dir: DiskPath,
    pub checkpoint_dir: DiskPath,
    pub mail: Receiver<SegmentMail>,
    pub journal: SyncSender<JournalMail>,
    pub shards: Shards,
    pub plumbing: Arc<Plumbing>,
    pub logs: BTreeMap<GroupId, SegmentLog>,
    pub checkpoint: Checkpoint,
    pub removed: BTreeSet<GroupId>,
}

impl SegmentThread {
    pub fn new(parts: SegmentParts) -> SegmentThread {
        let logs = parts
            .logs
            .into_iter()
            .map(|(group, log)| (group, Open { log, told_segments: usize::MAX, dirty: false }));
        SegmentThread {
            disk: parts.disk,
            dir: parts.dir,
            checkpoint_dir: parts.checkpoint_dir,
            mail: parts.mail,
            journal: parts.journal,
            shards: parts.shards,
            plumbing: parts.plumbing,
            logs: logs.collect(),
            checkpoint: parts.checkpoint,
            making: None,
            next_checkpoint: 1,
            touched: BTreeSet::new(),
            held: VecDeque::new(),
            changed: !parts.removed.is_empty(),
            deleted: parts.removed,
            checkpointed_at: Instant::now(),
        }
    }

    /// Runs until [`SegmentMail::Stop`]; call it on its own thread.
    pub fn run(mut self) {
        let beat = Beat::thread(Loop::Segment, 0);
        let mut checkpoint_at = Instant::now() + CHECKPOINT_EVERY;
        loop {
            beat.idle();
            let wait = if self.held.is_empty() { Duration::from_secs(1) } else { RETRY };
            match self.mail.recv_timeout(wait) {
                Ok(mail) => {
                    beat.phase(Phase::Write);
                    if self.take(mail, &beat) {
                        return;
                    }
                    // Bounded: readers hear of what was written at least every so many works.
                    for _ in 0..limits::TURN_INPUTS_MAX {
                        let Ok(mail) = self.mail.try_recv() else { break };
                        if self.take(mail, &beat) {
                            return;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.retry_held();
            beat.phase(Phase::Publish);
            self.publish();
            let age = self.checkpointed_at.elapsed().as_nanos() as i64;
            metrics().checkpoint_age_seconds.set(age);
            if !self.deleted.is_empty() {
                checkpoint_at = checkpoint_at.min(Instant::now() + FORGET_AFTER);
            }
            if Instant::now() >= checkpoint_at {
                checkpoint_at = Instant::now() + CHECKPOINT_EVERY;
                if self.changed {
                    self.begin_checkpoint(None);
                }
            }
        }
    }

    /// True when this was the last mail.
    fn take(&mut self, mail: SegmentMail, beat: &Beat) -> bool {
        match mail {
            SegmentMail::Work(work) => {
                let (works, began_ns) = (work.len() as u32, clock::mono_ns());
                #[cfg(feature = "planted")]
                crate::planted::segments();
                self.held.extend(work);
                self.run_held(beat);
                let took_ns = clock::mono_ns().saturating_sub(began_ns);
                if flight::ordinary(crate::observe::UNSAMPLED)
                    || took_ns >= limits::FLIGHT_SLOW_WORK_NS
                {
                    flight::kinds::segments_written(took_ns, works);
                }
            }
            SegmentMail::CheckpointWanted => self.begin_checkpoint(None),
            SegmentMail::CheckpointNow(tell) => self.begin_checkpoint(Some(tell)),
            SegmentMail::Stop => return true,
        }
        false
    }

    fn run_held(&mut self, beat: &Beat) {
        while let Some(work) = self.held.pop_front() {
            match self.work(&work, beat) {
                Ok(()) => {}
                Err(StorageError::Disk(error)) if !error.poisons() => {
                    telemetry::metrics().disk_full.set(1);
                    self.held.push_front(work);
                    return;
                }
                Err(error) => self.plumbing.fatal(
                    FatalReason::SegmentFailed,
                    &format!("writing segments failed: {error}"),
                ),
            }
        }
    }

    fn retry_held(&mut self) {
        if !self.held.is_empty() {
            let beat = Beat::task(Loop::Disk, 1);
            self.run_held(&beat);
        }
    }

    fn work(&mut self, work: &SegmentWork, beat: &Beat) -> Result<(), StorageError> {
        match work {
            SegmentWork::Append { group, entries } => {
                beat.group(*group);
                let open = open_log(&mut self.logs, &mut self.disk, &self.dir, *group)?;
                // After a full disk part of it may be written already.
                let from = entries.partition_point(|e| e.entry.index <= open.log.last_index());
                open.log.append(&mut self.disk, &entries[from..])?;
                open.dirty = true;
                let bytes: usize = entries.iter().map(|entry| entry.entry.data.len()).sum();
                metrics().segment_write_bytes_total.add(bytes as u64);
                self.touched.insert(*group);
                self.changed = true;
            }
            SegmentWork::LogStart { group, offset } => {
                let open = open_log(&mut self.logs, &mut self.disk, &self.dir, *group)?;
                open.log.set_log_start(*offset);
                self.touched.insert(*group);
            }
            SegmentWork::SegmentBytes { group, bytes } => {
                let open = open_log(&mut self.logs, &mut self.disk, &self.dir, *group)?;
                open.log.set_segment_bytes(*bytes);
            }
            SegmentWork::Mark { checkpoint, mark } => self.mark(*checkpoint, mark),
            SegmentWork::Marked { checkpoint, shard } => self.marked(*checkpoint, *shard, beat),
            SegmentWork::Manifest { mark } => {
                let open = open_log(&mut self.logs, &mut self.disk, &self.dir, mark.group)?;
                let position = open.log.position();
                behind_its_entries(mark, position.last_index);
                self.plumbing.make_offer(GroupMark::clone(mark), position, open.log.view());
            }
            SegmentWork::Install { install } => self.install(install)?,
            SegmentWork::Delete { group } => {
                self.plumbing.transfers.cancel(*group);
                self.deleted.insert(*group);
                self.changed = true;
            }
        }
        Ok(())
    }

    /// Readers and shards hear of what can be read now.
    fn publish(&mut self) {
        for group in std::mem::take(&mut self.touched) {
            let Some(open) = self.logs.get_mut(&group) else { continue };
            let list = open.log.view();
            let (index, start_index) = (list.last_index(), list.first_index().saturating_sub(1));
            let segments = list.segments();
            // Sizes change with every write; retention only needs them now and then, and
            // always when a segment was cut.
            let told = segments.len() != open.told_segments || segments.len() <= 2;
            open.told_segments = segments.len();
            self.plumbing.set_segments(group, list);
            let segments = told.then_some(segments);
            let input = Input::Readable { group, index, start_index, segments };
            self.shards.of(group).tell_blocking(input);
        }
    }

    fn begin_checkpoint(&mut self, tell: Option<SyncSender<bool>>) {
        if let Some(making) = &mut self.making {
            making.tell.extend(tell);
            return;
        }
        let id = self.next_checkpoint;
        self.next_checkpoint += 1;
        self.making = Some(Making {
            id,
            started: Instant::now(),
            waiting: (0..self.shards.all().len()).collect(),
            marks: Vec::new(),
            tell: tell.into_iter().collect(),
        });
        for shard in self.shards.all() {
            shard.tell_blocking(Input::Checkpoint { id });
        }
    }

    fn mark(&mut self, checkpoint: u64, mark: &GroupMark) {
        let Some(open) = self.logs.get(&mark.group) else { return };
        let position = open.log.position();
        behind_its_entries(mark, position.last_index);
        let term_starts = open.log.view().term_starts();
        if let Some(making) = self.making.as_mut().filter(|making| making.id == checkpoint) {
            making.marks.push((mark.clone(), position, term_starts));
        }
    }

    fn marked(&mut self, checkpoint: u64, shard: usize, beat: &Beat) {
        let Some(making) = self.making.as_mut().filter(|making| making.id == checkpoint) else {
            return;
        };
        making.waiting.remove(&shard);
        if !making.waiting.is_empty() {
            return;
        }
        let Some(making) = self.making.take() else { return };
        beat.phase(Phase::Sync);
        let (started, tell) = (making.started, making.tell);
        let done = self.finish(making.marks);
        let outcome = match &done {
            Ok(()) => CheckpointOutcome::Ok,
            Err(StorageError::Disk(error)) if !error.poisons() => CheckpointOutcome::Failed,
            Err(error) => self
                .plumbing
                .fatal(FatalReason::CheckpointFailed, &format!("checkpoint failed: {error}")),
        };
        metrics().checkpoints_total.at(outcome).inc();
        metrics().checkpoint_seconds.observe(started.elapsed().as_nanos() as u64);
        for asker in tell {
            // Nobody waits any more: the broker is shutting down without it.
            let _ = asker.send(done.is_ok());
        }
        beat.phase(Phase::Write);
    }

    /// Segments, then promises, then the checkpoint, then what it frees: in that order.
    fn finish(&mut self, marks: Vec<PlacedMark>) -> Result<(), StorageError> {
        for (mark, ..) in &marks {
            if let Some(open) = self.logs.get_mut(&mark.group)
                && open.dirty
            {
                open.log.sync(&mut self.disk)?;
                open.dirty = false;
            }
        }
        let (ask, answer) = sync_channel(1);
        if self.journal.send(JournalMail::SyncedStates(ask)).is_err() {
            return Ok(());
        }
        let Ok(states) = answer.recv() else { return Ok(()) };
        GroupMark::merge(&mut self.checkpoint, marks, states);
        self.checkpoint.groups.retain(|group, _| !self.deleted.contains(group));
        // While something is still fetched for a group its directories are not touched. Whatever
        // fails from here on is done again with the next checkpoint: a full disk needs it most.
        let transfers = &self.plumbing.transfers;
        let done = self.deleted.iter().filter(|group| !transfers.is_running(**group));
        let gone: BTreeSet<GroupId> = done.copied().collect();
        self.checkpoint.write(&mut self.disk, &self.checkpoint_dir)?;
        self.checkpointed_at = Instant::now();
        let covered = self.checkpoint.groups.iter();
        let covered = covered.map(|(id, group)| (*id, group.applied_index, group.as_of_lsn));
        // A stopping journal keeps its files; the next start recycles them.
        let _ = self.journal.send(JournalMail::Checkpointed(covered.collect()));
        if !gone.is_empty() {
            // Groups whose removal a death cut short were not opened by this life.
            self.logs.retain(|group, _| !gone.contains(group));
            delete_segments(&mut self.disk, &self.dir, &gone)?;
            self.deleted.retain(|group| !gone.contains(group));
            gone.iter().for_each(|group| self.plumbing.forget(*group));
        }
        self.changed = !self.deleted.is_empty();
        for (group, open) in &mut self.logs {
            let start = self.checkpoint.groups.get(group).map_or(0, |kept| kept.start_index);
            open.log.reap(&mut self.disk, start)?;
        }
        Ok(())
    }

    /// A fetched snapshot becomes the group's log: a checkpoint names it, and only then is it
    /// published and what it replaces removed. May be done again after a full disk.
    fn install(&mut self, install: &Install) -> Result<(), StorageError> {
        let Install { mark, position, segment_bytes } = install;
        let (group, index) = (mark.group, mark.applied_index);
        behind_its_entries(mark, position.last_index);
        // Nothing writes to its home any more, and a crash before the checkpoint finds the old
        // log untouched.
        let dir = self.dir.join(&group.to_string());
        let log =
            SegmentLog::open(&mut self.disk, dir.clone(), Some(position.clone()), *segment_bytes)?;
        let list = log.view();
        self.plumbing.transfers.set_home(group, position.home);
        if let Some(making) = &mut self.making {
            // They stand behind entries of the old log.
            making.marks.retain(|(mark, ..)| mark.group != group);
        }
        self.logs.insert(group, Open { log, told_segments: usize::MAX, dirty: false });
        self.finish(vec![(mark.clone(), position.clone(), list.term_starts())])?;
        let start_index = list.first_index().saturating_sub(1);
        let segments = list.segments();
        self.touched.remove(&group);
        self.plumbing.replace_segments(group, list);
        sweep_homes(&mut self.disk, &dir, position.home, index)?;
        let news = Installed { index, start_index, segments };
        self.shards.of(group).tell_blocking(Input::Installed { group, news });
        Ok(())
    }
}

fn behind_its_entries(mark: &GroupMark, last_index: u64) {
    assert_eq!(
        last_index, mark.applied_index,
        "group {}: a mark must stand exactly behind its entries",
        mark.group
    );
}

fn open_log<'a>(
    logs: &'a mut BTreeMap<GroupId, Open>,
    disk: &mut RealDisk,
    dir: &DiskPath,
    group: GroupId,
) -> Result<&'a mut Open, StorageError> {
    use std::collections::btree_map::Entry;
    match logs.entry(group) {
        Entry::Occupied(open) => Ok(open.into_mut()),
        Entry::Vacant(slot) => {
            let path = dir.join(&group.to_string());
            let log = SegmentLog::open(disk, path, None, limits::SEGMENT_BYTES)?;
            Ok(slot.insert(Open { log, told_segments: usize::MAX, dirty: false }))
        }
    }
}
