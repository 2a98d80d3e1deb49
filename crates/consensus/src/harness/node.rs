//! One replica of the test world: its clock, its disk and its applied log.

use std::collections::{BTreeMap, VecDeque};

use model::{GroupId, HardState, LogEntry, Now, ReplicaId, limits};

use crate::eraftpb::ConfState;
use crate::harness::Planted;
use crate::{Beat, EntryFetch, Group, GroupConfig, ReadIndexed, ReadyWrite, Restored, Timing};

pub(crate) struct Node {
    pub id: u64,
    pub life: u32,
    pub group: Option<Group>,
    /// The membership behind every applied index a turn ended at.
    confs: BTreeMap<u64, ConfState>,
    /// Clock rate against true time, parts per million, and offset.
    pub rate_ppm: i64,
    pub offset_ns: u64,
    pub paused_until_ns: u64,
    ticks: u64,
    /// On disk.
    pub hard_state: HardState,
    pub entries: Vec<LogEntry>,
    /// Index and term of the last entry below `entries`, which came by snapshot.
    pub base: (u64, u64),
    /// Snapshots stepped, with the machine each brings, by index.
    pub arrived: std::collections::BTreeMap<u64, Vec<LogEntry>>,
    /// Handed to the disk, not synced.
    pub unsynced: VecDeque<ReadyWrite>,
    pub disk_free_ns: u64,
    /// Defect F1: reports Readys durable and writes nothing.
    pub forgets_writes: bool,
    pub releases_log: bool,
    /// What the machine has seen, index i at position i - 1. Survives as segments would.
    pub applied: Vec<LogEntry>,
    /// Applied index the next start claims.
    pub checkpoint: u64,
    pub reads: Vec<ReadIndexed>,
    pub planted: Planted,
}

impl Node {
    pub fn new(id: u64, voters: Vec<u64>) -> Node {
        Node {
            id,
            life: 0,
            group: None,
            confs: [(0, ConfState { voters, ..ConfState::default() })].into(),
            rate_ppm: 0,
            offset_ns: id * 7_000_000_000,
            paused_until_ns: 0,
            ticks: 0,
            hard_state: HardState::default(),
            entries: Vec::new(),
            base: (0, 0),
            arrived: Default::default(),
            unsynced: VecDeque::new(),
            disk_free_ns: 0,
            forgets_writes: false,
            releases_log: false,
            applied: Vec::new(),
            checkpoint: 0,
            reads: Vec::new(),
            planted: Planted::default(),
        }
    }

    pub fn clock(&self, true_ns: u64) -> Now {
        let boot = true_ns as i128 * (1_000_000 + self.rate_ppm as i128) / 1_000_000;
        Now { boot_ns: boot as u64 + self.offset_ns, wall_ms: 0 }
    }

    /// Heartbeats keep step with the ticks, as those of a broker do.
    pub fn next_beat(&mut self) -> Beat {
        self.ticks += 1;
        Beat::of(self.ticks, limits::HEARTBEAT_TICKS)
    }

    /// A tick by this replica's own clock, in true time.
    pub fn tick_ns(&self) -> u64 {
        (50_000_000i128 * 1_000_000 / (1_000_000 + self.rate_ppm as i128)) as u64
    }

    pub fn lives(&self, life: u32) -> bool {
        self.group.is_some() && self.life == life
    }

    pub fn paused_until(&self, life: u32, now_ns: u64) -> Option<u64> {
        (self.lives(life) && self.paused_until_ns > now_ns).then_some(self.paused_until_ns)
    }

    pub fn restored(&self, new_group: bool) -> Restored {
        // A checkpoint is of a turn's end: there the membership is known.
        let base = self.base.0;
        let claimed = self.checkpoint.clamp(base, base + self.entries.len() as u64);
        let known = self.confs.range(..=claimed).next_back().expect("the birth is there");
        let (applied, conf_state) = ((*known.0).max(base), known.1.clone());
        let kept = (applied - base) as usize;
        let below = self.applied[..base as usize].iter().chain(&self.entries[..kept]);
        Restored {
            hard_state: self.hard_state,
            conf_state,
            applied,
            start_index: 0,
            terms: below.map(|e| (e.index, e.term)).collect(),
            entries: self.entries[kept..].to_vec(),
            suspect: false,
            new_group,
        }
    }

    pub fn start(&mut self, seed: u64, new_group: bool, true_ns: u64) {
        let restored = self.restored(new_group);
        self.applied.truncate(restored.applied as usize);
        let (group, replica) = (GroupId(7), ReplicaId(self.id));
        let cfg = GroupConfig { group, replica, seed, timing: Timing::default() };
        let mut group = Group::new(cfg, restored, self.clock(true_ns)).unwrap();
        group.planted = self.planted.clone();
        self.group = Some(group);
        self.life += 1;
        self.disk_free_ns = true_ns;
        self.paused_until_ns = 0;
    }

    /// A turn ended: what a checkpoint made now would say.
    pub fn note_membership(&mut self) {
        if let Some(group) = self.group.as_ref().filter(|group| !group.is_broken()) {
            self.confs.insert(group.applied_index(), group.conf_state());
        }
    }

    pub fn crash(&mut self, keep: usize) {
        for _ in 0..keep.min(self.unsynced.len()) {
            self.sync_one();
        }
        self.unsynced.clear();
        self.group = None;
    }

    /// The oldest write reaches the disk: truncate, append, hard state.
    pub fn sync_one(&mut self) -> u64 {
        let write = self.unsynced.pop_front().expect("a sync has a write");
        if self.forgets_writes {
            return write.ready;
        }
        if let Some(point) = write.snapshot {
            let machine = self.arrived.remove(&point.index).expect("stepped with its contents");
            assert_eq!(machine.len() as u64, point.index);
            assert_eq!(machine.last().map(|entry| entry.term), Some(point.term));
            (self.base, self.entries) = ((point.index, point.term), Vec::new());
            self.applied = machine;
            self.checkpoint = point.index;
            if let Some(group) = &self.group {
                self.confs.insert(point.index, group.conf_state());
            }
        }
        let base = self.base.0;
        if let Some(first) = write.entries.first() {
            self.entries.truncate((first.index - base) as usize - 1);
        }
        for entry in write.entries {
            assert_eq!(
                entry.index,
                base + self.entries.len() as u64 + 1,
                "the journal sees no gap"
            );
            self.entries.push(entry);
        }
        if let Some(state) = write.hard_state {
            assert!(state.term >= self.hard_state.term, "terms never fall");
            self.hard_state = state;
        }
        write.ready
    }

    pub fn holds(&self, entry: &LogEntry) -> bool {
        match entry.index.checked_sub(self.base.0 + 1) {
            None => true,
            Some(at) => self.entries.get(at as usize).is_some_and(|held| held.term == entry.term),
        }
    }

    pub fn apply(&mut self, entry: LogEntry) {
        assert_eq!(entry.index, self.applied.len() as u64 + 1, "applied in order");
        self.applied.push(entry);
    }

    /// Of what this replica has applied, for one that lacks it.
    pub fn snapshot(&self) -> Option<crate::eraftpb::Snapshot> {
        let group = self.group.as_ref()?;
        let last = self.applied.last()?;
        let mut snapshot = crate::eraftpb::Snapshot::default();
        snapshot.mut_metadata().index = last.index;
        snapshot.mut_metadata().term = last.term;
        snapshot.mut_metadata().set_conf_state(group.conf_state());
        snapshot.data = (group.first_index() - 1).to_le_bytes().to_vec().into();
        Some(snapshot)
    }

    pub fn read_segments(&self, fetch: EntryFetch) -> Result<Vec<LogEntry>, ()> {
        let hi = fetch.hi.min(self.applied.len() as u64 + 1);
        if fetch.lo >= hi {
            return Err(());
        }
        let mut size = 0;
        let fits = |entry: &&LogEntry| {
            size += entry.weight() as u64;
            size <= fetch.max_bytes || size == entry.weight() as u64
        };
        let range = &self.applied[fetch.lo as usize - 1..hi as usize - 1];
        Ok(range.iter().take_while(fits).cloned().collect())
    }
}
