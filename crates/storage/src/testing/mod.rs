//! A disk in memory that loses, tears, refuses and flips what a real one may.
//!
//! [`SimDisk`] is one writer's door to a [`World`] that several doors and readers share.
//! Invariants: deterministic - the same operations and the same choices give the same bytes;
//! only `Sync` and `SyncDir` make anything survive [`SimDisk::crash`]; any subset of what is
//! unsynced may survive. Directories themselves survive from the moment they are made.

#![expect(clippy::disallowed_types, reason = "several doors and readers share one simulated world")]

mod content;
mod world;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

pub use world::{Fault, SyncDoes, Unsynced, World};

use crate::disk::{Completion, Disk, DiskError, DiskPath, FileHandle, Op, OpId, ReadAt};

/// One door to a world. Operations run when completions are asked for, in order; with
/// [`SimDisk::hold`] they wait until they are released one by one.
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    next_id: u64,
    queue: VecDeque<(OpId, Op)>,
    done: VecDeque<Completion>,
    hold: bool,
}

impl SimDisk {
    /// A door to an empty world whose device writes sectors of `sector_bytes` (512 or 4096)
    /// in one piece.
    pub fn new(sector_bytes: usize) -> SimDisk {
        SimDisk::open(World::new(sector_bytes))
    }

    /// A door to `world`.
    pub fn open(world: World) -> SimDisk {
        SimDisk::door(Arc::new(Mutex::new(world)))
    }

    fn door(world: Arc<Mutex<World>>) -> SimDisk {
        SimDisk { world, next_id: 0, queue: VecDeque::new(), done: VecDeque::new(), hold: false }
    }

    /// Another writer's door to the same world.
    pub fn another(&self) -> SimDisk {
        SimDisk::door(self.world.clone())
    }

    pub fn reader(&self) -> SimReader {
        SimReader { world: self.world.clone() }
    }

    /// The world itself: its faults, bits and unsynced sectors.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no operation of a simulated disk panics")
    }

    /// From now on operations wait for [`SimDisk::release`] (or run by themselves again).
    pub fn hold(&mut self, hold: bool) {
        self.hold = hold;
    }

    /// Operations that wait, in the order of submission.
    pub fn held(&self) -> impl Iterator<Item = (OpId, &Op)> {
        self.queue.iter().map(|(id, op)| (*id, op))
    }

    /// Runs one operation that waits; its completion comes next. `false`: it does not wait.
    pub fn release(&mut self, id: OpId) -> bool {
        let Some(at) = self.queue.iter().position(|(held, _)| *held == id) else { return false };
        let (id, op) = self.queue.remove(at).expect("found just now");
        let result = self.world().run(op);
        self.done.push_back(Completion { id, result });
        true
    }

    /// The machine of this door stops: writes that wait may be on the disk in part, everything
    /// else that waits never happens. Call on every door of a world before [`World::crash`].
    pub fn abandon(&mut self) {
        for (_, op) in std::mem::take(&mut self.queue) {
            if matches!(op, Op::Write { .. }) {
                // Its sectors join the unsynced ones; whether it could succeed is nobody's
                // business any more.
                let _ = self.world().run(op);
            }
        }
        self.done.clear();
    }
}

impl Disk for SimDisk {
    fn submit(&mut self, op: Op) -> OpId {
        self.next_id += 1;
        let id = OpId(self.next_id);
        self.queue.push_back((id, op));
        id
    }

    fn complete(&mut self) -> Option<Completion> {
        if let Some(done) = self.done.pop_front() {
            return Some(done);
        }
        if self.hold {
            return None;
        }
        let (id, op) = self.queue.pop_front()?;
        let result = self.world().run(op);
        Some(Completion { id, result })
    }
}

/// Reads of a world, from any thread.
#[derive(Clone)]
pub struct SimReader {
    world: Arc<Mutex<World>>,
}

impl ReadAt for SimReader {
    fn read_at(&self, file: &FileHandle, at: u64, len: usize) -> Result<Bytes, DiskError> {
        let world = self.world.lock().expect("no operation of a simulated disk panics");
        world.read(file.path(), at, len)
    }
}

/// A small generator for tests: SplitMix64. The same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Bytes {
        (0..len).map(|_| self.roll() as u8).collect::<Vec<u8>>().into()
    }
}

/// Shorthand for tests.
pub fn path(path: &str) -> DiskPath {
    DiskPath::new(path)
}
