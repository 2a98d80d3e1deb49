//! Locks that can be asked who holds them: class, holder, call site, since when.
//!
//! Every lock has a [`LockClass`], whose position is its rank. Whoever takes a rank that is not
//! higher than all it holds on this thread could deadlock with somebody who does the opposite:
//! that panics in tests, debug builds and under [`set_strict`], and is counted otherwise.
//! Invariants: raw locks exist only here and in telemetry's own tables; what is noted about a
//! holder lives in leaked, recycled cells, so the watchdog may follow a pointer at any time.

mod holder;
#[cfg(test)]
mod tests;
mod waiting;

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering};

pub use holder::{HeldLock, LockCell, Mode, held};
pub use waiting::{Waiting, waiting};

use holder::Holder;
use model::limits;

use crate::family::Local;
use crate::labels::{Invariant, LockClass, LogEvent};
use crate::{beat, clock, flight, metrics, silence};

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

/// A lock's class and its cell.
struct Entry {
    class: LockClass,
    cell: &'static LockCell,
}

impl Entry {
    fn new(class: LockClass) -> Entry {
        let cell = LockCell::claim(class);
        Entry { class, cell }
    }

    #[inline]
    fn check_order(&self, site: &'static Location<'static>) {
        if !silence::is_on(silence::Part::Locks) {
            return;
        }
        let held = HELD.get();
        if held >> self.class.rank() != 0 {
            order_broken(held, self.class, site);
        }
    }

    #[cold]
    fn wait<G>(&self, site: &'static Location<'static>, take: impl FnOnce() -> G) -> G {
        let slot = beat::current();
        let start_ns = clock::mono_ns();
        self.cell.waits(1);
        let seen = waiting::Seen::begin(self.cell, site);
        if let Some(slot) = slot {
            slot.waits_for(self.cell, site);
        }
        let guard = take();
        drop(seen);
        if let Some(slot) = slot {
            slot.waits_no_more();
        }
        self.cell.waits(-1);
        let waited_ns = clock::mono_ns().saturating_sub(start_ns);
        WAITED_NS.set(WAITED_NS.get() + waited_ns);
        metrics().lock_wait_seconds.at(self.class).observe(waited_ns);
        if waited_ns >= limits::FLIGHT_SLOW_LOCK_NS {
            flight::kinds::lock_wait(waited_ns, self.class);
        }
        guard
    }

    #[inline]
    fn taken(&self, mode: Mode, site: &'static Location<'static>) -> Held<'_> {
        if !silence::is_on(silence::Part::Locks) {
            return Held { entry: self, holder: None, since: 0 };
        }
        let bit = 1 << self.class.rank();
        HELD.set(HELD.get() | bit);
        let (since, thread) = (clock::ticks(), clock::thread_id());
        let holder = Some(self.cell.taken(mode, since, site, thread));
        Held { entry: self, holder, since }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.cell.release();
    }
}

/// The part of a guard that knows when it was taken.
struct Held<'a> {
    entry: &'a Entry,
    /// `None`: nothing was noted.
    holder: Option<&'static Holder>,
    since: u64,
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        let class = self.entry.class;
        let Some(holder) = self.holder else { return };
        holder.left(self.since);
        HELD.set(HELD.get() & !(1 << class.rank()));
        let held_ns = clock::ticks_to_ns(clock::ticks().saturating_sub(self.since));
        let own = HOLD_TIMES.try_with(|times| times.observe(class, held_ns));
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

#[cfg(test)]
thread_local! {
    static LENIENT: Cell<bool> = const { Cell::new(false) };
}

/// This thread breaks the order on purpose: its deadlock is what a test looks at.
#[cfg(test)]
pub(crate) fn lenient_here() {
    LENIENT.set(true);
}

fn is_lenient() -> bool {
    #[cfg(test)]
    return LENIENT.get();
    #[cfg(not(test))]
    false
}

#[cold]
fn order_broken(held: u64, wanted: LockClass, site: &'static Location<'static>) {
    let highest = LockClass::from_index(63 - held.leading_zeros() as usize);
    let holds = highest.map_or("a lock", LockClass::as_str);
    metrics().invariant_violations_total.at(Invariant::LockOrder).inc();
    assert!(
        !STRICT.load(Ordering::Relaxed) || is_lenient(),
        "lock order: {wanted} is taken at {site} while {holds} is held"
    );
    crate::log_limited!(error, LogEvent::LockOrder, %wanted, %site, holds, "locks taken against their order");
}
