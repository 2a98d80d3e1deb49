//! What is known about a lock's holders and waiters, for whoever asks from outside.
//!
//! Invariant: cells are leaked and recycled, never freed, so a pointer to one may be followed at
//! any time; at worst it describes the next lock.

use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock;
use crate::labels::LockClass;

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    Exclusive = 1,
    Shared = 2,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Exclusive => "exclusive",
            Mode::Shared => "shared",
        }
    }
}

/// What is known about one lock's holders.
#[derive(Debug)]
#[repr(align(64))]
pub struct LockCell {
    /// A writer takes the first place, readers the one their thread id selects. Of two readers
    /// in one place the earlier is described.
    holders: [Holder; HOLDERS],
    waiters: AtomicU32,
    mode: AtomicU8,
    /// Class index plus one; 0: the cell waits to be used again.
    class: AtomicU8,
}

const HOLDERS: usize = 4;

#[derive(Debug)]
pub(super) struct Holder {
    /// [`clock::ticks`] when it was taken; 0: nobody.
    since: AtomicU64,
    site: AtomicPtr<Location<'static>>,
    thread: AtomicU32,
}

impl Holder {
    const fn nobody() -> Holder {
        Holder {
            since: AtomicU64::new(0),
            site: AtomicPtr::new(ptr::null_mut()),
            thread: AtomicU32::new(0),
        }
    }

    #[inline]
    fn describe(&self, since: u64, site: &'static Location<'static>, thread: u32) {
        self.site.store(ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
        self.thread.store(thread, Ordering::Relaxed);
        self.since.store(since, Ordering::Release);
    }

    /// The holder that came at `since` is gone; a reader may never have been described.
    #[inline]
    pub(super) fn left(&self, since: u64) {
        if self.since.load(Ordering::Relaxed) == since {
            self.since.store(0, Ordering::Relaxed);
        }
    }
}

/// A held lock, as the watchdog and `/debug` see it.
#[derive(Clone, Debug)]
pub struct HeldLock {
    pub class: LockClass,
    pub mode: Mode,
    pub held_ns: u64,
    /// Kernel thread id of the holder.
    pub thread: u32,
    /// Where it was taken.
    pub site: Option<&'static Location<'static>>,
    pub waiters: u32,
}

impl LockCell {
    /// A cell for a new lock.
    pub(super) fn claim(class: LockClass) -> &'static LockCell {
        let mut pool = pool();
        let cell = pool.free.pop().unwrap_or_else(|| {
            let cell: &'static LockCell = Box::leak(Box::new(LockCell {
                holders: [const { Holder::nobody() }; HOLDERS],
                waiters: AtomicU32::new(0),
                mode: AtomicU8::new(0),
                class: AtomicU8::new(0),
            }));
            pool.all.push(cell);
            cell
        });
        cell.class.store(class as u8 + 1, Ordering::Relaxed);
        cell
    }

    /// The lock is gone; another one may have the cell.
    pub(super) fn release(&'static self) {
        // A guard that was forgotten never let go.
        self.holders.iter().for_each(|holder| holder.since.store(0, Ordering::Relaxed));
        self.class.store(0, Ordering::Relaxed);
        pool().free.push(self);
    }

    /// Describes a new holder; the result is where it must say that it left.
    #[inline]
    pub(super) fn taken(
        &'static self,
        mode: Mode,
        since: u64,
        site: &'static Location<'static>,
        thread: u32,
    ) -> &'static Holder {
        let holder = match mode {
            Mode::Exclusive => &self.holders[0],
            Mode::Shared => &self.holders[thread as usize % HOLDERS],
        };
        if mode == Mode::Exclusive || holder.since.load(Ordering::Relaxed) == 0 {
            holder.describe(since, site, thread);
            self.mode.store(mode as u8, Ordering::Relaxed);
        }
        holder
    }

    /// One more waits, or one less.
    pub(super) fn waits(&self, more: i32) {
        self.waiters.fetch_add(more as u32, Ordering::Relaxed);
    }

    pub(crate) fn waiters(&self) -> u32 {
        self.waiters.load(Ordering::Relaxed)
    }

    /// Its oldest holder. `None`: free, or its holder is just changing.
    #[allow(unsafe_code)]
    pub fn held(&self) -> Option<HeldLock> {
        let held = self.holders.iter().map(|holder| (holder.since.load(Ordering::Acquire), holder));
        let (since, holder) =
            held.filter(|(since, _)| *since != 0).min_by_key(|(since, _)| *since)?;
        let held_ns = clock::ticks_to_ns(clock::ticks().saturating_sub(since));
        let mode = match self.mode.load(Ordering::Relaxed) {
            mode if mode == Mode::Shared as u8 => Mode::Shared,
            _ => Mode::Exclusive,
        };
        // SAFETY: only pointers to `'static` call sites are ever stored, or null.
        let site = unsafe { holder.site.load(Ordering::Relaxed).as_ref::<'static>() };
        let thread = holder.thread.load(Ordering::Relaxed);
        let waiters = self.waiters();
        Some(HeldLock { class: self.class()?, mode, held_ns, thread, site, waiters })
    }

    pub fn class(&self) -> Option<LockClass> {
        LockClass::from_index(usize::from(self.class.load(Ordering::Relaxed)).checked_sub(1)?)
    }
}

/// Every lock that is held for at least `held_ns_min`.
pub fn held(held_ns_min: u64) -> Vec<HeldLock> {
    let cells = pool().all.clone();
    cells.iter().filter_map(|cell| cell.held()).filter(|h| h.held_ns >= held_ns_min).collect()
}

pub(super) struct Pool {
    pub(super) all: Vec<&'static LockCell>,
    free: Vec<&'static LockCell>,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { all: Vec::new(), free: Vec::new() });

/// Held for a push, a pop or a copy, never while anything else is waited for.
pub(super) fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}
