//! One broker of the world: its clock, its disk and, while it runs, its process.
//!
//! Invariants: a clock runs at its own rate from its own beginning and nobody else reads it;
//! what a process holds in memory dies with it; the disk's world outlives every process.

use std::collections::{BTreeSet, VecDeque};

use model::{BrokerId, DirectoryId, GroupId, Now, ReplicaId};
use node::shard::{Input, Out, Shard};
use storage::testing::{Dice, SimDisk, SyncDoes};
use storage::{Disk, DiskPath, Op};

use crate::journal::JournalWorker;
use crate::plant::Plant;
use crate::segments::SegmentWorker;
use crate::world::{MS, SECOND};

/// Wall clock at the world's beginning, milliseconds.
pub const WALL_MS: i64 = 1_700_000_000_000;

/// A broker's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Rate against true time, parts per million: within +-0.1 %.
    rate_ppm: i64,
    boot_ns: u64,
    wall_ms: i64,
    /// What somebody set it wrong by.
    wrong_ms: i64,
    /// Planted: boot time that did not count.
    stood_ns: u64,
}

impl Clock {
    fn new(dice: &mut Dice) -> Clock {
        Clock {
            rate_ppm: dice.below(2_001) as i64 - 1_000,
            boot_ns: SECOND + dice.below(100_000) * SECOND,
            wall_ms: WALL_MS + dice.below(2_000) as i64 - 1_000,
            wrong_ms: 0,
            stood_ns: 0,
        }
    }

    /// Planted: so much time does not count.
    pub fn stand_still(&mut self, ns: u64) {
        self.stood_ns += ns;
    }

    /// Somebody sets the wall clock; the boot clock knows nothing of it.
    pub fn set_wrong(&mut self, ms: i64) {
        self.wrong_ms = ms;
    }

    pub fn read(&self, true_ns: u64) -> Now {
        let true_ns = true_ns.saturating_sub(self.stood_ns);
        let own = true_ns as i128 * (1_000_000 + self.rate_ppm as i128) / 1_000_000;
        Now {
            boot_ns: self.boot_ns + own as u64,
            wall_ms: self.wall_ms + self.wrong_ms + (own as u64 / MS) as i64,
        }
    }

    /// `own_ns` by this clock, in true time.
    pub fn span(&self, own_ns: u64) -> u64 {
        (own_ns as i128 * 1_000_000 / (1_000_000 + self.rate_ppm as i128)) as u64
    }
}

/// What syncs do with this bug planted.
pub fn sync_does(plant: Option<Plant>) -> SyncDoes {
    match plant {
        Some(Plant::LazyFsync) => SyncDoes::Nothing,
        Some(Plant::RetriedFsync) => SyncDoes::Retry,
        _ => SyncDoes::Sync,
    }
}

/// How long the device takes, nanoseconds: (least, most).
#[derive(Clone, Copy, Debug)]
pub struct DiskPace {
    pub write_ns: (u64, u64),
    pub sync_ns: (u64, u64),
}

impl DiskPace {
    pub const USUAL: DiskPace =
        DiskPace { write_ns: (30_000, 300_000), sync_ns: (300_000, 4 * MS) };
    pub const SLOW: DiskPace = DiskPace { write_ns: (MS, 20 * MS), sync_ns: (30 * MS, 250 * MS) };
    pub const STUCK: DiskPace =
        DiskPace { write_ns: (MS, 50 * MS), sync_ns: (600 * MS, 2_500 * MS) };
}

pub struct Broker {
    pub clock: Clock,
    /// One door to the disk's world; processes open their own.
    pub disk: SimDisk,
    /// Counts disks that were lost.
    pub disk_no: u8,
    sector_bytes: usize,
    pub pace: DiskPace,
    pub process: Option<Box<Process>>,
    /// Processes so far.
    pub lives: u32,
    pub stopped_until_ns: u64,
}

impl Broker {
    pub fn new(dice: &mut Dice) -> Broker {
        let sector_bytes = if dice.chance(2) { 512 } else { 4096 };
        Broker {
            clock: Clock::new(dice),
            disk: empty_disk(sector_bytes),
            disk_no: 0,
            sector_bytes,
            pace: DiskPace::USUAL,
            process: None,
            lives: 0,
            stopped_until_ns: 0,
        }
    }

    pub fn new_disk(&mut self) {
        let sync = self.disk.world().sync;
        self.disk = empty_disk(self.sector_bytes);
        self.disk.world().sync = sync;
        self.disk_no += 1;
    }
}

/// As a data directory is when a broker has made it.
fn empty_disk(sector_bytes: usize) -> SimDisk {
    let mut disk = SimDisk::new(sector_bytes);
    let path = DiskPath::new("partitions");
    for op in [Op::MakeDir { path }, Op::SyncDir { path: DiskPath::new("") }] {
        disk.submit(op);
        let done = disk.complete().expect("submitted just now");
        done.result.expect("a new disk works");
    }
    disk
}

pub fn broker_id(b: usize) -> BrokerId {
    BrokerId(b as i32 + 1)
}

pub fn broker_index(id: BrokerId) -> usize {
    id.0 as usize - 1
}

/// The n-th disk of a broker.
pub fn directory(b: usize, disk_no: u8) -> DirectoryId {
    let mut id = [b as u8 + 1; 16];
    id[15] = disk_no;
    DirectoryId(id)
}

/// Where a shard's turn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnState {
    Idle,
    Called,
    /// Inputs are taken, outputs not yet handed out.
    Stepped,
}

/// One life of a broker.
pub struct Process {
    pub life: u32,
    pub shard: Shard<u64>,
    pub out: Out<u64>,
    pub raft_lane: VecDeque<Input<u64>>,
    pub client_lane: VecDeque<Input<u64>>,
    pub turn: TurnState,
    pub tick_due: bool,
    pub slot: u64,
    pub journal: JournalWorker,
    pub segments: SegmentWorker,
    /// Groups that could not be put together at the start.
    pub out_of_service: BTreeSet<GroupId>,
    /// The journal has a hole: replicas below this one may have been here, and are not formed anew.
    pub hidden_below: Option<ReplicaId>,
    /// Dies in the next turn, after this many of the seam's steps.
    pub dies_after: Option<u32>,
    /// Was told to hand over, and ends when it has.
    pub stopping: bool,
}

impl Process {
    pub fn is_out_of_service(&self, group: GroupId) -> bool {
        let quarantined = self.shard.quarantined().contains_key(&group);
        quarantined || self.out_of_service.contains(&group)
    }

    pub fn has_work(&self) -> bool {
        let inputs = !(self.raft_lane.is_empty() && self.client_lane.is_empty());
        inputs || self.tick_due || self.shard.is_dirty()
    }
}
