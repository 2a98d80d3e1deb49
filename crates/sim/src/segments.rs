//! Segments and checkpoints of one process: what the segment thread does, step by step.
//!
//! Invariants: work of a group is done in order; while a checkpoint is written nothing else is;
//! segments are synced before promises are read, both before the checkpoint is written, and only
//! then may the journal forget.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use consensus::EntryFetch;
use consensus::eraftpb::Snapshot;
use model::{GroupId, Lsn};
use node::shard::{GroupMark, Input, Install, Installed, PlacedMark, SegmentWork};
use storage::testing::SimDisk;
use storage::{
    Checkpoint, DiskError, DiskPath, Manifest, SegmentList, SegmentLog, StorageError,
    delete_segments,
};

use crate::broker::Process;
use crate::filling::Fetches;
use crate::plant::Plant;
use crate::report::Reach;
use crate::trace::Who;
use crate::world::{MS, US, What, World, group_of};

/// Between two attempts on a full disk.
const RETRY_NS: u64 = 200 * MS;

/// Small segments, so that a short life rolls them.
pub const SEGMENT_BYTES: u64 = 32 << 10;

/// What a synced checkpoint covers: (group, applied index, LSN of its promises).
type Covered = Vec<(GroupId, u64, Lsn)>;

/// Where a checkpoint stands.
#[derive(Default)]
enum Stage {
    #[default]
    None,
    /// Marks are on their way.
    Marking(Vec<PlacedMark>),
    /// All marks are there: the segments are to be synced ...
    Sync(Vec<PlacedMark>),
    /// ... then the checkpoint written ...
    Write(Vec<PlacedMark>),
    /// ... then the journal may forget.
    Forget,
}

pub struct SegmentWorker {
    pub disk: SimDisk,
    logs: BTreeMap<GroupId, SegmentLog>,
    /// What readers see.
    pub views: BTreeMap<GroupId, Arc<SegmentList>>,
    checkpoint: Checkpoint,
    stage: Stage,
    next_checkpoint: u64,
    queue: VecDeque<SegmentWork>,
    called: bool,
    /// Removed groups, until a checkpoint without them is synced and their files are gone.
    deleted: BTreeSet<GroupId>,
    /// Groups whose removal was asked for.
    going: BTreeSet<GroupId>,
    /// Snapshots for followers behind the log start.
    pub offers: BTreeMap<GroupId, (Manifest, Arc<SegmentList>)>,
    pub fetches: Fetches,
}

/// What a piece of work was, for the world around it.
enum Worked {
    Done,
    /// All marks of a checkpoint are there.
    Marked,
    Offered(GroupId, Box<Snapshot>),
    Install(Box<Install>),
    Deleted,
}

/// What a checkpoint's last step frees.
struct Freed {
    covered: Covered,
    forgotten: BTreeSet<GroupId>,
}

/// Where all segments lie.
fn partitions() -> DiskPath {
    DiskPath::new("partitions")
}

/// Where a group's segments lie.
pub fn dir_of(group: GroupId) -> DiskPath {
    partitions().join(&group.to_string())
}

impl SegmentWorker {
    pub fn new(
        disk: SimDisk,
        logs: BTreeMap<GroupId, SegmentLog>,
        checkpoint: Checkpoint,
        removed: BTreeSet<GroupId>,
    ) -> SegmentWorker {
        let views = logs.iter().map(|(group, log)| (*group, log.view())).collect();
        SegmentWorker {
            disk,
            logs,
            views,
            checkpoint,
            stage: Stage::None,
            next_checkpoint: 1,
            queue: VecDeque::new(),
            called: false,
            going: removed.clone(),
            deleted: removed,
            offers: BTreeMap::new(),
            fetches: Fetches::new(),
        }
    }

    /// A removal is on its way.
    pub fn expect_gone(&mut self, group: GroupId) {
        self.going.insert(group);
    }

    pub fn is_going(&self, group: GroupId) -> bool {
        self.going.contains(&group)
    }

    /// Where the group's segments are.
    pub fn home_of(&self, group: GroupId) -> u64 {
        self.logs.get(&group).map_or(0, |log| log.home())
    }

    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && matches!(self.stage, Stage::None)
    }

    /// A reader of the same disk, for checks and lagging followers.
    pub fn reader(&self) -> storage::testing::SimReader {
        self.disk.reader()
    }

    fn log(&mut self, group: GroupId) -> Result<&mut SegmentLog, StorageError> {
        if !self.logs.contains_key(&group) {
            let log = SegmentLog::open(&mut self.disk, dir_of(group), None, SEGMENT_BYTES)?;
            self.logs.insert(group, log);
        }
        Ok(self.logs.get_mut(&group).expect("there now"))
    }

    /// One piece of work.
    fn work(&mut self, work: &SegmentWork) -> Result<Worked, StorageError> {
        match work {
            SegmentWork::Append { group, entries } => {
                self.log(*group)?;
                let log = self.logs.get_mut(group).expect("opened just now");
                let from = entries.partition_point(|e| e.entry.index <= log.last_index());
                log.append(&mut self.disk, &entries[from..])?;
            }
            SegmentWork::LogStart { group, offset } => {
                self.log(*group)?.set_log_start(*offset);
            }
            SegmentWork::Mark { mark, .. } => {
                let Some(log) = self.logs.get(&mark.group) else { return Ok(Worked::Done) };
                let (position, terms) = (log.position(), log.view().term_starts());
                assert_eq!(position.last_index, mark.applied_index, "a mark behind its entries");
                if let Stage::Marking(marks) = &mut self.stage {
                    marks.push((GroupMark::clone(mark), position, terms));
                }
            }
            SegmentWork::Marked { .. } => {
                if let Stage::Marking(marks) = std::mem::take(&mut self.stage) {
                    self.stage = Stage::Sync(marks);
                    return Ok(Worked::Marked);
                }
            }
            SegmentWork::Manifest { mark } => {
                let log = self.log(mark.group)?;
                let (position, view) = (log.position(), log.view());
                assert_eq!(position.last_index, mark.applied_index, "a mark behind its entries");
                let sums = view.checksums(&self.disk.reader())?;
                let made = GroupMark::clone(mark).manifest(position, sums);
                let (manifest, snapshot) = made.expect("what this process encoded");
                self.offers.insert(mark.group, (manifest, view));
                return Ok(Worked::Offered(mark.group, Box::new(snapshot)));
            }
            SegmentWork::Install { install } => {
                let Install { mark, position, .. } = &**install;
                let group = mark.group;
                let log = SegmentLog::open(
                    &mut self.disk,
                    dir_of(group),
                    Some(position.clone()),
                    SEGMENT_BYTES,
                )?;
                self.logs.insert(group, log);
                if let Stage::Marking(marks) = &mut self.stage {
                    // They stand behind entries of the old log.
                    marks.retain(|(mark, ..)| mark.group != group);
                }
                let install =
                    Install { mark: mark.clone(), position: position.clone(), segment_bytes: 0 };
                return Ok(Worked::Install(Box::new(install)));
            }
            SegmentWork::Delete { group } => {
                self.fetches.remove(group);
                self.deleted.insert(*group);
                return Ok(Worked::Deleted);
            }
            // They are small here whatever is configured.
            SegmentWork::SegmentBytes { .. } => {}
        }
        Ok(Worked::Done)
    }

    /// The checkpoint that names an installed snapshot, in one piece; what the shard hears.
    fn install(
        &mut self,
        install: &Install,
        states: Vec<storage::SyncedState>,
    ) -> Result<(Freed, Installed), StorageError> {
        let Install { mark, position, .. } = install;
        let (group, index) = (mark.group, mark.applied_index);
        let list = self.logs[&group].view();
        let marks = vec![(mark.clone(), position.clone(), list.term_starts())];
        self.write(marks, states)?;
        let freed = self.forget()?;
        storage::sweep_homes(&mut self.disk, &dir_of(group), position.home, index)?;
        Ok((freed, self.announce(install)))
    }

    /// The installed snapshot's segments, as readers and the shard see them from now on.
    fn announce(&mut self, install: &Install) -> Installed {
        let (group, index) = (install.mark.group, install.mark.applied_index);
        let list = self.logs[&group].view();
        let start_index = list.first_index().saturating_sub(1);
        let segments = list.segments();
        self.views.insert(group, list);
        Installed { index, start_index, segments }
    }

    fn write(
        &mut self,
        marks: Vec<PlacedMark>,
        states: Vec<storage::SyncedState>,
    ) -> Result<(), StorageError> {
        GroupMark::merge(&mut self.checkpoint, marks, states);
        self.checkpoint.groups.retain(|group, _| !self.deleted.contains(group));
        self.checkpoint.write(&mut self.disk, &DiskPath::new(""))
    }

    /// What a synced checkpoint no longer needs goes.
    fn forget(&mut self) -> Result<Freed, StorageError> {
        let forgotten = std::mem::take(&mut self.deleted);
        if !forgotten.is_empty() {
            self.logs.retain(|group, _| !forgotten.contains(group));
            self.views.retain(|group, _| !forgotten.contains(group));
            if let Err(error) = delete_segments(&mut self.disk, &partitions(), &forgotten) {
                self.deleted = forgotten;
                return Err(error);
            }
            self.going.retain(|group| !forgotten.contains(group));
        }
        for (group, log) in &mut self.logs {
            let kept = self.checkpoint.groups.get(group);
            log.reap(&mut self.disk, kept.map_or(0, |kept| kept.start_index))?;
        }
        let groups = self.checkpoint.groups.iter();
        let covered = groups.map(|(id, g)| (*id, g.applied_index, g.as_of_lsn)).collect();
        Ok(Freed { covered, forgotten })
    }

    /// One step of a checkpoint. `Some`: what the journal may forget.
    fn step(
        &mut self,
        states: impl FnOnce() -> Vec<storage::SyncedState>,
    ) -> Result<Option<Freed>, StorageError> {
        match std::mem::take(&mut self.stage) {
            Stage::Sync(marks) => {
                for (mark, ..) in &marks {
                    if let Some(log) = self.logs.get_mut(&mark.group)
                        && log.is_dirty()
                    {
                        log.sync(&mut self.disk)?;
                    }
                }
                self.stage = Stage::Write(marks);
            }
            Stage::Write(marks) => {
                self.write(marks, states())?;
                self.stage = Stage::Forget;
            }
            Stage::Forget => return Ok(Some(self.forget()?)),
            other => self.stage = other,
        }
        Ok(None)
    }

    /// What became readable: (group, last index, start index, segments).
    fn publish(&mut self, touched: BTreeSet<GroupId>) -> Vec<Input<u64>> {
        let mut news = Vec::new();
        for group in touched {
            let Some(log) = self.logs.get(&group) else { continue };
            let list = log.view();
            news.push(Input::Readable {
                group,
                index: list.last_index(),
                start_index: list.first_index().saturating_sub(1),
                segments: Some(list.segments()),
            });
            self.views.insert(group, list);
        }
        news
    }
}

impl World {
    pub fn segment_work(&mut self, b: usize, work: SegmentWork) {
        self.oracle_applies(b, &work);
        self.with_process(b, |process| process.segments.queue.push_back(work));
        self.call_segments(b);
    }

    fn call_segments(&mut self, b: usize) {
        let delay_ns = self.between(100 * US, 5 * MS);
        let Some(process) = &mut self.brokers[b].process else { return };
        if !std::mem::replace(&mut process.segments.called, true) {
            let life = process.life;
            self.schedule(delay_ns, What::Segments { b, life });
        }
    }

    pub fn segments_turn(&mut self, b: usize, life: u32) {
        if !self.lives(b, life) {
            return;
        }
        if let Some(until) = self.stopped_until(b) {
            return self.schedule_at(until, What::Segments { b, life });
        }
        let worker = &mut self.brokers[b].process.as_mut().expect("it lives").segments;
        worker.called = false;
        let mut touched = BTreeSet::new();
        let (mut failed, mut full) = (None, false);
        let (mut marked, mut worked) = (false, None);
        while !marked && matches!(worker.stage, Stage::None | Stage::Marking(_)) {
            let Some(work) = worker.queue.pop_front() else { break };
            touched.insert(group_of(&work));
            match worker.work(&work) {
                Ok(Worked::Done) => {}
                Ok(Worked::Marked) => marked = true,
                Ok(other) => {
                    worked = Some(other);
                    break;
                }
                Err(StorageError::Disk(error)) if !error.poisons() => {
                    worker.queue.push_front(work);
                    worker.called = true;
                    full = true;
                    break;
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failed {
            return self.segments_failed(b, error);
        }
        if full {
            self.reach(Reach::DiskFull);
            self.faults.fired += 1;
            self.schedule(RETRY_NS, What::Segments { b, life });
        }
        let worker = &mut self.brokers[b].process.as_mut().expect("it lives").segments;
        for input in worker.publish(touched) {
            self.tell(b, input);
        }
        if marked {
            self.next_checkpoint_step(b, life);
        }
        if let Some(worked) = worked {
            self.worked(b, worked);
            self.call_segments(b);
        }
    }

    fn worked(&mut self, b: usize, worked: Worked) {
        match worked {
            Worked::Offered(group, snapshot) => {
                self.tell(b, Input::Offer { group, offer: Some(snapshot) });
            }
            Worked::Deleted => {
                if let Some(life) = self.with_process(b, |process| process.life) {
                    let soon_ns = self.between(100 * MS, 2_000 * MS);
                    self.schedule(soon_ns, What::CheckpointSoon { b, life });
                }
            }
            Worked::Install(install) => self.install(b, *install),
            Worked::Done | Worked::Marked => {}
        }
    }

    fn install(&mut self, b: usize, install: Install) {
        let (group, index) = (install.mark.group, install.mark.applied_index);
        let early = self.has(Plant::InstalledTooEarly);
        let process = self.brokers[b].process.as_mut().expect("it lives");
        if early {
            let news = process.segments.announce(&install);
            self.oracle.installed(b, group, index);
            return self.tell(b, Input::Installed { group, news });
        }
        let states = process.journal.journal.synced_states();
        match process.segments.install(&install, states) {
            Ok((freed, news)) => {
                self.oracle.installed(b, group, index);
                self.freed(b, freed);
                self.tell(b, Input::Installed { group, news });
            }
            Err(StorageError::Disk(error)) if !error.poisons() => {
                // Done again, from the log's opening on.
                self.with_process(b, |process| {
                    let install = Box::new(install);
                    process.segments.queue.push_front(SegmentWork::Install { install });
                });
            }
            Err(error) => self.segments_failed(b, error),
        }
    }

    /// The journal may forget, and groups that are gone may come back.
    fn freed(&mut self, b: usize, freed: Freed) {
        let Freed { covered, forgotten } = freed;
        self.reach(Reach::Checkpoint);
        self.note(Who::Broker(b), "checkpointed", &[("groups", covered.len() as u64)]);
        self.with_process(b, |process| process.journal.journal.checkpointed(&covered));
        self.pump_journal(b);
        for group in forgotten {
            self.create(b, group);
        }
    }

    pub fn checkpoint_soon(&mut self, b: usize, life: u32) {
        if self.lives(b, life) {
            self.begin_checkpoint(b);
        }
    }

    pub fn segments_failed(&mut self, b: usize, error: StorageError) {
        match error {
            StorageError::Disk(DiskError::Crashed) => return self.die_at_op(b),
            StorageError::Disk(DiskError::Io { op, .. }) => {
                return self.die_of_disk(b, op.as_str());
            }
            // A checkpoint that found no room: the next one does it again.
            StorageError::Disk(DiskError::Full { .. }) => return,
            _ => {}
        }
        let text = format!("b{}: segments: {error}", b + 1);
        self.oracle.unexpected(self.now_ns, text);
    }

    pub fn checkpoint_due(&mut self, b: usize, life: u32) {
        if !self.lives(b, life) {
            return;
        }
        self.begin_checkpoint(b);
        let next_ns = self.between(300 * MS, 4_000 * MS);
        self.schedule(next_ns, What::CheckpointDue { b, life });
    }

    pub fn begin_checkpoint(&mut self, b: usize) {
        let id = self.with_process(b, |process| {
            let worker = &mut process.segments;
            if !matches!(worker.stage, Stage::None) {
                return None;
            }
            worker.stage = Stage::Marking(Vec::new());
            worker.next_checkpoint += 1;
            Some(worker.next_checkpoint - 1)
        });
        if let Some(Some(id)) = id {
            self.note(Who::Broker(b), "checkpoint", &[("id", id)]);
            self.tell(b, Input::Checkpoint { id });
        }
    }

    fn next_checkpoint_step(&mut self, b: usize, life: u32) {
        let (low, high) = self.brokers[b].pace.sync_ns;
        let mut took_ns = self.between(low, 2 * high);
        if self.has(Plant::ForgottenTooEarly) {
            took_ns += self.between(0, 4_000 * MS);
        }
        self.schedule(took_ns, What::CheckpointStep { b, life });
    }

    pub fn checkpoint_step(&mut self, b: usize, life: u32) {
        if !self.lives(b, life) {
            return;
        }
        if let Some(until) = self.stopped_until(b) {
            return self.schedule_at(until, What::CheckpointStep { b, life });
        }
        self.spoil_checkpoint(b);
        let process = self.brokers[b].process.as_mut().expect("it lives");
        let journal = &process.journal.journal;
        match process.segments.step(|| journal.synced_states()) {
            Ok(None) => self.next_checkpoint_step(b, life),
            Ok(Some(freed)) => {
                self.freed(b, freed);
                self.call_segments(b);
            }
            Err(error) => self.segments_failed(b, error),
        }
    }

    /// What planted segment threads do before a checkpoint's next step.
    fn spoil_checkpoint(&mut self, b: usize) {
        let (early, unsynced) =
            (self.has(Plant::ForgottenTooEarly), self.has(Plant::UnsyncedSegments));
        let process = self.brokers[b].process.as_mut().expect("it lives");
        let Process { segments, journal, .. } = &mut **process;
        segments.stage = match std::mem::take(&mut segments.stage) {
            Stage::Sync(marks) if unsynced => Stage::Write(marks),
            Stage::Write(marks) if early => {
                let states = journal.journal.synced_states();
                let lsn = |group| {
                    states.iter().find(|s| s.group == group).map_or(Lsn(0), |s| s.as_of_lsn)
                };
                let covered = marks.iter().map(|(m, ..)| (m.group, m.applied_index, lsn(m.group)));
                let covered: Covered = covered.collect();
                journal.journal.checkpointed(&covered);
                Stage::Write(marks)
            }
            stage => stage,
        };
    }

    /// Older entries for a lagging follower, read off the shard.
    pub fn fetch_entries(&mut self, b: usize, group: GroupId, fetch: EntryFetch) {
        let delay_ns = self.between(200 * US, 8 * MS);
        if let Some(life) = self.with_process(b, |process| process.life) {
            self.schedule(delay_ns, What::Fetched { b, life, group, fetch });
        }
    }

    pub fn fetched(&mut self, b: usize, life: u32, group: GroupId, fetch: EntryFetch) {
        if !self.lives(b, life) {
            return;
        }
        let worker = &self.brokers[b].process.as_ref().expect("it lives").segments;
        let reader = worker.reader();
        let EntryFetch { fetch, lo, hi, max_bytes } = fetch;
        let list = worker.views.get(&group).ok_or(());
        let entries =
            list.and_then(|list| list.entries(&reader, lo, hi, max_bytes).map_err(|_| ()));
        let count = entries.as_ref().map_or(0, |entries| entries.len() as u64);
        self.note(Who::Broker(b), "fetched", &[("group", group.0), ("lo", lo), ("entries", count)]);
        if count > 0 {
            self.reach(Reach::CatchUpRead);
        }
        self.tell(b, Input::Entries { group, fetch, entries });
    }
}
