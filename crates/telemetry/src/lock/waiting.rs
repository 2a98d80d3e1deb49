//! Threads that wait for a lock right now, loops or not: the edges of the wait-for graph.
//!
//! Invariants: a place is written by the waiting thread only; waiting is the cold path, so looking
//! for a free place costs nothing that matters. The table is fixed: who finds no place waits
//! unseen, and is counted.

use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use model::limits;

use super::LockCell;
use crate::labels::DropKind;
use crate::{clock, metrics};

struct Place {
    /// Kernel thread id; 0: free.
    thread: AtomicU32,
    lock: AtomicPtr<LockCell>,
    site: AtomicPtr<Location<'static>>,
    since_ns: AtomicU64,
}

static PLACES: [Place; limits::LOCK_WAITERS_SEEN_MAX] = [const {
    Place {
        thread: AtomicU32::new(0),
        lock: AtomicPtr::new(ptr::null_mut()),
        site: AtomicPtr::new(ptr::null_mut()),
        since_ns: AtomicU64::new(0),
    }
}; limits::LOCK_WAITERS_SEEN_MAX];

/// This thread waits until the value is dropped.
pub(super) struct Seen(Option<&'static Place>);

impl Seen {
    pub(super) fn begin(lock: &'static LockCell, site: &'static Location<'static>) -> Seen {
        let thread = clock::thread_id();
        let free = |place: &&Place| {
            place.thread.compare_exchange(0, u32::MAX, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let Some(place) = PLACES.iter().find(free) else {
            metrics().telemetry_dropped_total.at(DropKind::LockWaiter).inc();
            return Seen(None);
        };
        place.lock.store(ptr::from_ref(lock).cast_mut(), Ordering::Relaxed);
        place.site.store(ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
        place.since_ns.store(clock::mono_ns(), Ordering::Relaxed);
        place.thread.store(thread, Ordering::Release);
        Seen(Some(place))
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            place.thread.store(0, Ordering::Release);
        }
    }
}

/// A thread and the lock it waits for.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Kernel thread id.
    pub thread: u32,
    pub lock: &'static LockCell,
    /// Where it is being taken.
    pub site: Option<&'static Location<'static>>,
    pub waited_ns: u64,
}

/// Every thread that waits for a lock at `now_ns` ([`clock::mono_ns`]).
#[allow(unsafe_code)]
pub fn waiting(now_ns: u64) -> Vec<Waiting> {
    let seen = PLACES.iter().filter_map(|place| {
        let thread = place.thread.load(Ordering::Acquire);
        if thread == 0 || thread == u32::MAX {
            return None;
        }
        // SAFETY: only pointers to `'static` values are ever stored, or null.
        let (lock, site) = unsafe {
            (
                place.lock.load(Ordering::Relaxed).as_ref::<'static>()?,
                place.site.load(Ordering::Relaxed).as_ref::<'static>(),
            )
        };
        let waited_ns = now_ns.saturating_sub(place.since_ns.load(Ordering::Relaxed));
        Some(Waiting { thread, lock, site, waited_ns })
    });
    seen.collect()
}
