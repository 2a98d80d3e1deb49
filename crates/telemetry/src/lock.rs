//! Locks that can be asked who holds them: class, holder, call site, since when.
//!
//! Every lock has a [`LockClass`], whose position is its rank. Whoever takes a rank that is not
//! higher than all it holds on this thread could deadlock with somebody who does the opposite:
//! that panics in tests, debug builds and under [`set_strict`], and is counted otherwise.
//! Invariants: raw locks exist only here and in telemetry's own tables; what is noted about a
//! holder lives in leaked, recycled cells, so the watchdog may follow a pointer at any time.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::labels::{Invariant, LockClass, LogEvent};
use crate::metric::Local;
use crate::{beat, clock, metrics};

const _: () = assert!(LockClass::ALL.len() <= 64, "the held ranks are bits of one word");

/// A mutex with a class. Not reentrant; not poisoned by a panic.
pub struct Lock<T: ?Sized> {
    entry: Entry,
    inner: parking_lot::Mutex<T>,
}

/// A readers-writer lock with a class. Not reentrant, reading included.
pub struct RwLock<T: ?Sized> {
    entry: Entry,
    inner: parking_lot::RwLock<T>,
}

/// Unlocks when dropped. Cannot leave its thread.
pub struct LockGuard<'a, T: ?Sized> {
    // Dropped first: the time is taken and the holder forgotten while the lock is still held.
    _held: Held<'a>,
    inner: parking_lot::MutexGuard<'a, T>,
}

/// Unlocks when dropped. Cannot leave its thread.
pub struct RwLockReadGuard<'a, T: ?Sized> {
    _held: Held<'a>,
    inner: parking_lot::RwLockReadGuard<'a, T>,
}

/// Unlocks when dropped. Cannot leave its thread.
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    _held: Held<'a>,
    inner: parking_lot::RwLockWriteGuard<'a, T>,
}

impl<T> Lock<T> {
    pub fn new(class: LockClass, value: T) -> Lock<T> {
        Lock { entry: Entry::new(class), inner: parking_lot::Mutex::new(value) }
    }
}

impl<T: ?Sized> Lock<T> {
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> LockGuard<'_, T> {
        let site = Location::caller();
        self.entry.check_order(site);
        let inner = match self.inner.try_lock() {
            Some(inner) => inner,
            None => self.entry.wait(site, || self.inner.lock()),
        };
        LockGuard { _held: self.entry.taken(Mode::Exclusive, site), inner }
    }

    /// `None`: somebody holds it. Never waits, so it may be tried in any order.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        let inner = self.inner.try_lock()?;
        Some(LockGuard { _held: self.entry.taken(Mode::Exclusive, Location::caller()), inner })
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T> RwLock<T> {
    pub fn new(class: LockClass, value: T) -> RwLock<T> {
        RwLock { entry: Entry::new(class), inner: parking_lot::RwLock::new(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let site = Location::caller();
        self.entry.check_order(site);
        let inner = match self.inner.try_read() {
            Some(inner) => inner,
            None => self.entry.wait(site, || self.inner.read()),
        };
        RwLockReadGuard { _held: self.entry.taken(Mode::Shared, site), inner }
    }

    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let site = Location::caller();
        self.entry.check_order(site);
        let inner = match self.inner.try_write() {
            Some(inner) => inner,
            None => self.entry.wait(site, || self.inner.write()),
        };
        RwLockWriteGuard { _held: self.entry.taken(Mode::Exclusive, site), inner }
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

macro_rules! guard_deref {
    ($($guard:ident $($mutable:ident)?),+) => {$(
        impl<T: ?Sized> Deref for $guard<'_, T> {
            type Target = T;
            #[inline]
            fn deref(&self) -> &T {
                &self.inner
            }
        }
        $(guard_deref!(@ $mutable $guard);)?
    )+};
    (@ mutable $guard:ident) => {
        impl<T: ?Sized> DerefMut for $guard<'_, T> {
            #[inline]
            fn deref_mut(&mut self) -> &mut T {
                &mut self.inner
            }
        }
    };
}
guard_deref!(LockGuard mutable, RwLockReadGuard, RwLockWriteGuard mutable);

impl<T: ?Sized> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lock({})", self.entry.class)
    }
}

impl<T: ?Sized> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RwLock({})", self.entry.class)
    }
}

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
struct Holder {
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
    /// Its oldest holder. `None`: free, or its holder is just changing.
    #[allow(unsafe_code)]
    pub fn held(&self) -> Option<HeldLock> {
        let held = self.holders.iter().map(|holder| (holder.since.load(Ordering::Acquire), holder));
        let (since, holder) = held.filter(|(since, _)| *since != 0).min_by_key(|(since, _)| *since)?;
        let held_ns = clock::ticks_to_ns(clock::ticks().saturating_sub(since));
        let mode = match self.mode.load(Ordering::Relaxed) {
            mode if mode == Mode::Shared as u8 => Mode::Shared,
            _ => Mode::Exclusive,
        };
        // SAFETY: only pointers to `'static` call sites are ever stored, or null.
        let site = unsafe { holder.site.load(Ordering::Relaxed).as_ref::<'static>() };
        let thread = holder.thread.load(Ordering::Relaxed);
        let waiters = self.waiters.load(Ordering::Relaxed);
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

struct Pool {
    all: Vec<&'static LockCell>,
    free: Vec<&'static LockCell>,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { all: Vec::new(), free: Vec::new() });

/// Held for a push, a pop or a copy, never while anything else is waited for.
fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lock's class and its cell.
struct Entry {
    class: LockClass,
    cell: &'static LockCell,
}

impl Entry {
    fn new(class: LockClass) -> Entry {
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
        Entry { class, cell }
    }

    #[inline]
    fn check_order(&self, site: &'static Location<'static>) {
        let held = HELD.get();
        if held >> self.class.rank() != 0 {
            order_broken(held, self.class, site);
        }
    }

    #[cold]
    fn wait<G>(&self, site: &'static Location<'static>, take: impl FnOnce() -> G) -> G {
        let slot = beat::current();
        let start_ns = clock::mono_ns();
        self.cell.waiters.fetch_add(1, Ordering::Relaxed);
        if let Some(slot) = slot {
            slot.waits_for(self.cell, site);
        }
        let guard = take();
        if let Some(slot) = slot {
            slot.waits_no_more();
        }
        self.cell.waiters.fetch_sub(1, Ordering::Relaxed);
        let waited_ns = clock::mono_ns().saturating_sub(start_ns);
        WAITED_NS.set(WAITED_NS.get() + waited_ns);
        metrics().lock_wait_seconds.at(self.class).observe(waited_ns);
        guard
    }

    #[inline]
    fn taken(&self, mode: Mode, site: &'static Location<'static>) -> Held<'_> {
        let bit = 1 << self.class.rank();
        HELD.set(HELD.get() | bit);
        let (since, thread) = (clock::ticks(), clock::thread_id());
        let cell = self.cell;
        let holder = match mode {
            Mode::Exclusive => &cell.holders[0],
            Mode::Shared => &cell.holders[thread as usize % HOLDERS],
        };
        if mode == Mode::Exclusive || holder.since.load(Ordering::Relaxed) == 0 {
            holder.describe(since, site, thread);
            cell.mode.store(mode as u8, Ordering::Relaxed);
        }
        Held { entry: self, holder, since }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // A guard that was forgotten never let go.
        self.cell.holders.iter().for_each(|holder| holder.since.store(0, Ordering::Relaxed));
        self.cell.class.store(0, Ordering::Relaxed);
        pool().free.push(self.cell);
    }
}

/// The part of a guard that knows when it was taken.
struct Held<'a> {
    entry: &'a Entry,
    holder: &'static Holder,
    since: u64,
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        let class = self.entry.class;
        if self.holder.since.load(Ordering::Relaxed) == self.since {
            self.holder.since.store(0, Ordering::Relaxed);
        }
        HELD.set(HELD.get() & !(1 << class.rank()));
        let held_ns = clock::ticks_to_ns(clock::ticks().saturating_sub(self.since));
        let own = HOLD_TIMES.try_with(|times| times.at(class).observe(held_ns));
        if own.is_err() {
            // The thread is ending and its own share is already gone.
            metrics().lock_hold_seconds.at(class).observe(held_ns);
        }
    }
}

thread_local! {
    /// Ranks held by this thread, one bit each.
    static HELD: Cell<u64> = const { Cell::new(0) };
    static WAITED_NS: Cell<u64> = const { Cell::new(0) };
    static HOLD_TIMES: Local<LockClass> = metrics().lock_hold_seconds.local();
}

/// Time this thread has waited for locks in its life.
pub fn waited_ns() -> u64 {
    WAITED_NS.get()
}

static STRICT: AtomicBool = AtomicBool::new(cfg!(any(test, debug_assertions)));

/// A broken lock order panics from now on (tests, simulation) instead of being counted.
pub fn set_strict(strict: bool) {
    STRICT.store(strict, Ordering::Relaxed);
}

#[cold]
fn order_broken(held: u64, wanted: LockClass, site: &'static Location<'static>) {
    let highest = LockClass::from_index(63 - held.leading_zeros() as usize);
    let holds = highest.map_or("a lock", LockClass::as_str);
    metrics().invariant_violations_total.at(Invariant::LockOrder).inc();
    assert!(
        !STRICT.load(Ordering::Relaxed),
        "lock order: {wanted} is taken at {site} while {holds} is held"
    );
    crate::log_limited!(error, LogEvent::LockOrder, %wanted, %site, holds, "locks taken against their order");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn outer() -> Lock<u32> {
        Lock::new(LockClass::TestOuter, 0)
    }

    fn inner() -> RwLock<u32> {
        RwLock::new(LockClass::TestInner, 0)
    }

    #[test]
    fn locks_are_taken_in_the_order_of_their_ranks() {
        let (outer, inner) = (outer(), inner());
        *outer.lock() += 1;
        let held = outer.lock();
        *inner.write() += *held;
        drop(held);
        assert_eq!((*outer.lock(), *inner.read()), (1, 1));
    }

    #[test]
    #[should_panic(expected = "lock order: test_outer is taken at")]
    fn a_lower_rank_under_a_higher_one_panics() {
        let (outer, inner) = (outer(), inner());
        let _held = inner.read();
        drop(outer.lock());
    }

    #[test]
    #[should_panic(expected = "while test_inner is held")]
    fn the_same_rank_twice_panics() {
        let (one, two) = (inner(), inner());
        let _held = one.read();
        drop(two.read());
    }

    #[test]
    fn trying_never_waits_and_so_never_breaks_the_order() {
        let (outer, inner) = (outer(), inner());
        let _held = inner.write();
        assert!(outer.try_lock().is_some());
    }

    #[test]
    fn holder_call_site_and_waiters_are_known() {
        let lock = Arc::new(outer());
        let guard = lock.lock();
        let line = line!() - 1;
        let (contender, (started, waits)) = (lock.clone(), mpsc::channel());
        let waiter = thread::spawn(move || {
            started.send(()).expect("the test listens");
            let before_ns = waited_ns();
            drop(contender.lock());
            waited_ns() - before_ns
        });
        waits.recv().expect("the waiter started");
        while lock.entry.cell.waiters.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        let held = lock.entry.cell.held().expect("held");
        assert_eq!((held.class, held.mode), (LockClass::TestOuter, Mode::Exclusive));
        assert_eq!((held.thread, held.waiters), (clock::thread_id(), 1));
        assert_eq!(held.site.map(Location::line), Some(line));
        assert!(super::held(0).iter().any(|other| other.site == held.site));
        drop(guard);
        assert!(waiter.join().expect("no panic") > 0);
        assert!(lock.entry.cell.held().is_none());
        let waits = metrics().lock_wait_seconds.at(LockClass::TestOuter).totals();
        assert!(waits.count >= 1);
    }

    #[test]
    fn readers_are_described_while_others_leave() {
        let lock = Arc::new(inner());
        let first = lock.read();
        let other = lock.clone();
        thread::spawn(move || drop(other.read())).join().expect("no panic");
        let held = lock.entry.cell.held().expect("held");
        assert_eq!((held.mode, held.thread), (Mode::Shared, clock::thread_id()));
        drop(first);
        assert!(lock.entry.cell.held().is_none());
    }

    #[test]
    fn cells_are_used_again() {
        let cell = { ptr::from_ref(outer().entry.cell) };
        let reused = (0..1_000).map(|_| outer()).collect::<Vec<_>>();
        let all = pool().all.len();
        assert!(reused.iter().any(|lock| ptr::eq(lock.entry.cell, cell)) || all < 2_000);
        drop(reused);
        drop((0..1_000).map(|_| outer()).collect::<Vec<_>>());
        assert!(pool().all.len() < all + 500, "freed cells are taken first");
    }
}
