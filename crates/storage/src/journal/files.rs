//! The journal's files: those in use, those prepared, those free, and the preparing of one.
//!
//! Invariants: a file gets its header (a new life's key, twice) and a sync before any record
//! goes into it; free files are given a new header oldest first, so the files that still carry
//! an old one are always the newest of the past; a spare exists or is being made, also above
//! the journal's cap, so votes always find room unless the disk itself is full.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use model::{GroupId, Lsn};

use super::frame::{BLOCK, DATA_START, FileHeader};
use super::{FullReason, JournalConfig, JournalEvent};
use crate::disk::{DiskError, DiskPath, Op, OpId};

/// One life of the writer: from a start to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub first_lsn: Lsn,
    /// Records above it in files of earlier runs are dead.
    pub cut_lsn: Lsn,
}

/// A file that holds records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JournalFile {
    pub path: DiskPath,
    pub seq: u64,
    pub key: u64,
    pub bytes: u64,
    /// Records live between these, inclusive; `last_lsn` grows while the file is written.
    pub first_lsn: Lsn,
    pub last_lsn: Lsn,
    /// Where the next write goes.
    pub end: u64,
    /// Per group, the highest entry index recorded here that may still be needed.
    pub max_index: BTreeMap<GroupId, u64>,
    /// Recovery named damage in it and judged every group: LSNs may be missing.
    pub damaged: bool,
    /// Its entries could not be read back for moving.
    pub unmovable: bool,
}

/// Where a group's promises lie, as far as they are synced; LSN 0 for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupPins {
    pub hard_state: Lsn,
    pub birth: Lsn,
    pub remove: Lsn,
    pub suspect: Lsn,
    /// The checkpoint covers entries up to this index ...
    pub applied: u64,
    /// ... and all else up to this LSN.
    pub covered: Lsn,
    /// Truncations: a record below the LSN and at or above the index is dead.
    pub fences: Vec<(u64, Lsn)>,
    /// Where entries that were written forward lie now: an older record of theirs is dead.
    pub moved: BTreeMap<u64, Lsn>,
    /// Of entries, written or synced.
    pub last_index: u64,
}

impl GroupPins {
    /// True when a promise that no checkpoint covers lies in `file`.
    pub fn promises_lie_in(&self, file: &JournalFile) -> bool {
        [self.hard_state, self.birth, self.remove, self.suspect]
            .into_iter()
            .any(|lsn| lsn > self.covered && file.first_lsn <= lsn && lsn <= file.last_lsn)
    }

    /// True when the entry recorded at `lsn` is part of the group's log and not covered.
    pub fn entry_lives(&self, index: u64, lsn: Lsn) -> bool {
        index > self.applied
            && index <= self.last_index
            && self.moved.get(&index).is_none_or(|latest| lsn >= *latest)
            && !self.fences.iter().any(|(from, fence)| lsn < *fence && index >= *from)
    }

    /// Notes that the entry recorded at `lsn` replaces everything at or above `index`.
    pub fn truncate(&mut self, index: u64, lsn: Lsn) {
        if index <= self.last_index {
            self.fences.retain(|(from, _)| *from < index);
            self.fences.push((index, lsn));
            self.moved.split_off(&index);
        }
        self.last_index = index;
    }

    /// A checkpoint covers entries up to `applied` and all else up to `covered`.
    pub fn cover(&mut self, applied: u64, covered: Lsn) {
        self.applied = self.applied.max(applied);
        self.last_index = self.last_index.max(applied);
        self.covered = self.covered.max(covered);
        self.moved = self.moved.split_off(&(self.applied + 1));
    }
}

/// A prepared file: synced header, no records.
#[derive(Clone, Debug)]
struct Spare {
    path: DiskPath,
    seq: u64,
    key: u64,
    bytes: u64,
}

/// A file without use: its header, if any, is of a life that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FreeFile {
    pub path: DiskPath,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Allocate,
    Zero {
        from: u64,
    },
    SyncZeroes {
        to: u64,
    },
    Header,
    Sync,
    SyncDir,
    /// The disk has no room for it: what there is of it goes.
    Discard,
}

/// The preparing of one spare.
#[derive(Debug)]
struct Preparing {
    spare: Spare,
    step: Step,
    new: bool,
    /// Zero-filled ahead: overwriting is faster than growing. Not when someone waits for it.
    zero: bool,
    under_way: Option<OpId>,
}

/// All files of one journal.
#[derive(Debug)]
pub(super) struct FilePool {
    dir: DiskPath,
    file_bytes: u64,
    bytes_max: u64,
    run: Run,
    run_key: u64,
    next_seq: u64,
    next_slot: u64,
    /// With records, oldest first; the last one is written to.
    pub live: VecDeque<JournalFile>,
    spares: VecDeque<Spare>,
    free: VecDeque<FreeFile>,
    preparing: Option<Preparing>,
    pub full: Option<FullReason>,
    /// Someone thinks that the disk has room again.
    retry: bool,
}

/// Zeroes are written and synced in steps of this, so a write of records waits for one step.
const ZERO_STEP_BYTES: u64 = 256 << 10;
static ZERO_STEP: [u8; ZERO_STEP_BYTES as usize] = [0; ZERO_STEP_BYTES as usize];

impl FilePool {
    pub fn new(
        config: &JournalConfig,
        run: Run,
        run_key: u64,
        next_seq: u64,
        live: Vec<JournalFile>,
        free: Vec<FreeFile>,
    ) -> FilePool {
        let paths = live.iter().map(|file| &file.path).chain(free.iter().map(|file| &file.path));
        let next_slot = paths.filter_map(slot_of).max().map_or(1, |slot| slot + 1);
        FilePool {
            dir: config.dir.clone(),
            file_bytes: config.file_bytes,
            bytes_max: config.bytes_max,
            run,
            run_key,
            next_seq,
            next_slot,
            live: live.into(),
            spares: VecDeque::new(),
            free: free.into(),
            preparing: None,
            full: None,
            retry: false,
        }
    }

    pub fn spares(&self) -> usize {
        self.spares.len()
    }

    pub fn live_bytes(&self) -> u64 {
        self.live.iter().map(|file| file.bytes).sum()
    }

    /// Something of a spare is under way, or would be at the next occasion.
    pub fn is_preparing(&self) -> bool {
        self.preparing.as_ref().is_some_and(|it| it.under_way.is_some() || self.is_due(it))
    }

    /// Zeroes keep pace with the records that are written meanwhile, so that they are there in time
    /// and delay few of them: those of the only spare until the file is half full, those of the
    /// second until it is full. Nobody waits for what has time: an entry is at most half a file, so
    /// whatever lacks room finds the file half full, and the only spare due to its end.
    fn is_due(&self, preparing: &Preparing) -> bool {
        let Step::Zero { from } = preparing.step else { return true };
        let Some(file) = self.live.back() else { return true };
        let begun = if self.spares.is_empty() { 0 } else { file.bytes / 2 };
        from <= 2 * file.end.saturating_sub(begun)
    }

    fn total_bytes(&self) -> u64 {
        let prepared = self.spares.iter().map(|spare| spare.bytes);
        let free = self.free.iter().map(|file| file.bytes);
        self.live_bytes() + prepared.chain(free).sum::<u64>()
    }

    /// Makes the next spare the file that is written to.
    ///
    /// # Panics
    /// Without a spare.
    pub fn roll(&mut self, first_lsn: Lsn) {
        let spare = self.spares.pop_front().expect("the caller has seen a spare");
        self.live.push_back(JournalFile {
            path: spare.path,
            seq: spare.seq,
            key: spare.key,
            bytes: spare.bytes,
            first_lsn,
            last_lsn: Lsn(first_lsn.0 - 1),
            end: DATA_START,
            max_index: BTreeMap::new(),
            damaged: false,
            unmovable: false,
        });
    }

    /// The oldest file is needed no more.
    pub fn free_oldest(&mut self) {
        let file = self.live.pop_front().expect("the caller has looked at it");
        assert!(!self.live.is_empty(), "the file that is written to is never freed");
        self.free.push_back(FreeFile { path: file.path, bytes: file.bytes });
    }

    /// Begins to prepare a spare when one is wanted and may be made. `written_to`: this run
    /// has a file to write to; without one, whoever starts is waiting.
    pub fn prepare(&mut self, written_to: bool, events: &mut Vec<JournalEvent>) {
        let disk_is_full = self.full == Some(FullReason::Disk);
        if self.preparing.is_some() || (disk_is_full && !self.retry && self.free.is_empty()) {
            return;
        }
        let half_full = self.live.back().is_some_and(|file| file.end * 2 >= file.bytes);
        let wanted = if written_to && half_full { 2 } else { 1 };
        if self.spares.len() >= wanted {
            return;
        }
        let at_cap = self.total_bytes() + self.file_bytes > self.bytes_max;
        if self.free.is_empty() && at_cap && !self.spares.is_empty() {
            self.set_full(Some(FullReason::Cap), events);
            return;
        }
        self.retry = false;
        let (path, new) = match self.free.pop_front() {
            // A file of another size (the configuration changed) is made anew in its place.
            Some(file) => (file.path, file.bytes != self.file_bytes),
            None => (self.next_path(), true),
        };
        let seq = self.next_seq;
        self.next_seq += 1;
        let key = life_key(self.run_key, seq);
        let spare = Spare { path, seq, key, bytes: self.file_bytes };
        let step = if new { Step::Create } else { Step::Header };
        self.preparing = Some(Preparing { spare, step, new, zero: written_to, under_way: None });
    }

    fn next_path(&mut self) -> DiskPath {
        let slot = self.next_slot;
        self.next_slot += 1;
        self.dir.join(&format!("{slot:08}{SUFFIX}"))
    }

    /// The next operation of the spare that is being prepared, unless one is under way or it has time.
    pub fn next_op(&self) -> Option<Op> {
        let idle = |it: &&Preparing| it.under_way.is_none() && self.is_due(it);
        let preparing = self.preparing.as_ref().filter(idle)?;
        let path = preparing.spare.path.clone();
        let bytes = preparing.spare.bytes;
        Some(match preparing.step {
            Step::Create => Op::Create { path },
            Step::Allocate => Op::Allocate { path, len: bytes },
            Step::Zero { from } => {
                let len = (bytes - from).min(ZERO_STEP_BYTES) as usize;
                Op::Write { path, at: from, bufs: vec![Bytes::from_static(&ZERO_STEP[..len])] }
            }
            Step::Header => {
                let spare = &preparing.spare;
                let header = FileHeader {
                    seq: spare.seq,
                    key: spare.key,
                    bytes: spare.bytes,
                    run: self.run,
                };
                Op::Write { path, at: 0, bufs: header.encode_copies() }
            }
            Step::SyncZeroes { .. } | Step::Sync => Op::Sync { path },
            Step::SyncDir => Op::SyncDir { path: self.dir.clone() },
            Step::Discard => Op::Remove { path },
        })
    }

    pub fn under_way(&mut self, id: OpId) {
        self.preparing.as_mut().expect("it has an operation").under_way = Some(id);
    }

    pub fn owns(&self, id: OpId) -> bool {
        self.preparing.as_ref().is_some_and(|it| it.under_way == Some(id))
    }

    /// Takes the end of the preparing's operation. `Err`: the journal must be poisoned.
    pub fn complete(
        &mut self,
        result: Result<(), DiskError>,
        events: &mut Vec<JournalEvent>,
    ) -> Result<(), DiskError> {
        let mut preparing = self.preparing.take().expect("it owns the operation");
        preparing.under_way = None;
        match result {
            Ok(()) => {}
            Err(DiskError::Full { .. }) if preparing.new => {
                preparing.step = Step::Discard;
                self.preparing = Some(preparing);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let bytes = preparing.spare.bytes;
        preparing.step = match preparing.step {
            Step::Create => Step::Allocate,
            Step::Allocate if preparing.zero => Step::Zero { from: 0 },
            Step::Allocate => Step::Header,
            Step::Zero { from } => Step::SyncZeroes { to: (from + ZERO_STEP_BYTES).min(bytes) },
            Step::SyncZeroes { to } if to < bytes => Step::Zero { from: to },
            Step::SyncZeroes { .. } => Step::Header,
            Step::Header => Step::Sync,
            Step::Sync if preparing.new => Step::SyncDir,
            Step::Sync | Step::SyncDir => {
                self.prepared(preparing, events);
                return Ok(());
            }
            Step::Discard => {
                self.set_full(Some(FullReason::Disk), events);
                return Ok(());
            }
        };
        self.preparing = Some(preparing);
        Ok(())
    }

    fn prepared(&mut self, preparing: Preparing, events: &mut Vec<JournalEvent>) {
        let file = preparing.spare.seq;
        events.push(if preparing.new {
            JournalEvent::FileCreated { file }
        } else {
            JournalEvent::FileRecycled { file }
        });
        self.spares.push_back(preparing.spare);
        self.set_full(None, events);
    }

    /// The disk may have room again: allows one more attempt.
    pub fn retry_space(&mut self) {
        self.retry = true;
    }

    pub fn set_full(&mut self, full: Option<FullReason>, events: &mut Vec<JournalEvent>) {
        if self.full != full {
            self.full = full;
            events.push(JournalEvent::Full(full));
        }
    }
}

/// Journal files end in this; anything else in the directory is not ours.
const SUFFIX: &str = ".log";

/// The number in a journal file's name; `None` for a foreign file.
pub(super) fn slot_of(path: &DiskPath) -> Option<u64> {
    let name = path.as_str().rsplit('/').next()?;
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// The key of one life of a file: a bijective mix, so that lives of one run never share one.
fn life_key(run_key: u64, seq: u64) -> u64 {
    let mut z = run_key.wrapping_add(seq.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const _: () = assert!(ZERO_STEP_BYTES.is_multiple_of(BLOCK));
