//! Faults that replicated logs have died of, planted into a running broker and chosen at run time:
//! so that tests see what it says about them.
//!
//! Only a build with the feature `planted` has this module and the places that ask it; no program
//! that ships does. Invariant: without an order it changes nothing but a relaxed load.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::planted::Defect;
use telemetry::labels::{LockClass, Phase};
use telemetry::{Beat, Lock, RwLock};

use crate::shard::Event;

static INVERSION: AtomicBool = AtomicBool::new(false);
static SLOW_APPLY_MS: AtomicU64 = AtomicU64::new(0);
static PANIC_IN_APPLY: AtomicU64 = AtomicU64::new(0);
static PANIC_IN_LOOP: AtomicBool = AtomicBool::new(false);
static SLOW_SYNC_MS: AtomicU64 = AtomicU64::new(0);
static SLOW_SEGMENTS_MS: AtomicU64 = AtomicU64::new(0);
static LOCK_HOLD_MS: AtomicU64 = AtomicU64::new(0);
/// The next reader of metadata is the one that holds the lock.
static LOCK_FREE: AtomicBool = AtomicBool::new(true);
static STALE_TAIL: AtomicBool = AtomicBool::new(false);
static CONFLICTS: AtomicBool = AtomicBool::new(false);
static TOPIC_ROWS: AtomicU64 = AtomicU64::new(0);
static EARLY_ACKS: AtomicU64 = AtomicU64::new(0);

/// The lock over raft and the one over the state machine, as the ancestor of failure F2 had them.
static RAFT: LazyLock<Lock<()>> = LazyLock::new(|| Lock::new(LockClass::TestOuter, ()));
static MACHINE: LazyLock<RwLock<()>> = LazyLock::new(|| RwLock::new(LockClass::TestInner, ()));
/// Between the two locks: how wide the window of the inversion is.
const WINDOW: Duration = Duration::from_millis(20);

/// How often a pause looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(10);

/// Every fault, and what its value means.
pub const FAULTS: [(&str, &str); 12] = [
    ("lock_inversion", "1: on"),
    ("slow_apply", "milliseconds that each turn with committed entries takes longer"),
    ("panic_in_apply", "the group whose next entry panics"),
    ("panic_in_loop", "1: the next turn of a shard panics"),
    ("slow_sync", "milliseconds that each sync of the journal takes longer"),
    ("slow_segments", "milliseconds that each piece of work of the segment thread takes longer"),
    ("silent", "parts of its telemetry that are silent, by bits, to measure what they cost"),
    ("lock_hold", "milliseconds for which a reader of metadata holds a lock that shards want"),
    ("stale_tail", "1: what replaces entries of a log leaves the tail behind them (failure F0)"),
    ("conflicts", "1: logs take each append for one that replaces their last entry"),
    ("topic_rows", "rows of topics that are not there, beyond any bound"),
    ("early_acks", "entries further that leaders acknowledge than what they were asked for"),
];

/// Turns a fault on, or off with 0.
pub fn plant(fault: &str, value: u64) -> Result<(), String> {
    match fault {
        "lock_inversion" => INVERSION.store(value != 0, Ordering::Relaxed),
        "slow_apply" => SLOW_APPLY_MS.store(value, Ordering::Relaxed),
        "panic_in_apply" => PANIC_IN_APPLY.store(value, Ordering::Relaxed),
        "panic_in_loop" => PANIC_IN_LOOP.store(value != 0, Ordering::Relaxed),
        "slow_sync" => SLOW_SYNC_MS.store(value, Ordering::Relaxed),
        "slow_segments" => SLOW_SEGMENTS_MS.store(value, Ordering::Relaxed),
        "silent" => telemetry::silence::set(value),
        "lock_hold" => {
            LOCK_HOLD_MS.store(value, Ordering::Relaxed);
            LOCK_FREE.store(true, Ordering::Relaxed);
        }
        "stale_tail" => STALE_TAIL.store(value != 0, Ordering::Relaxed),
        "conflicts" => CONFLICTS.store(value != 0, Ordering::Relaxed),
        "topic_rows" => TOPIC_ROWS.store(value, Ordering::Relaxed),
        "early_acks" => EARLY_ACKS.store(value, Ordering::Relaxed),
        _ => {
            let known: Vec<_> = FAULTS.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no fault `{fault}`; there are {}", known.join(", ")));
        }
    }
    Ok(())
}

/// A shard's turn, after its flush.
pub fn turn(beat: &Beat, events: &[Event]) {
    assert!(!PANIC_IN_LOOP.load(Ordering::Relaxed), "a planted panic in a loop");
    if INVERSION.load(Ordering::Relaxed) {
        let raft = RAFT.lock();
        std::thread::sleep(WINDOW);
        drop(MACHINE.write());
        drop(raft);
    }
    if LOCK_HOLD_MS.load(Ordering::Relaxed) > 0 {
        drop(MACHINE.read());
    }
    let planted = |on: &AtomicBool, defect| on.load(Ordering::Relaxed).then_some(defect);
    let defect = planted(&STALE_TAIL, Defect::StaleTail);
    // Of this thread, which is its shard's.
    model::planted::plant(defect.or_else(|| planted(&CONFLICTS, Defect::ReplacedTail)));
    let is_slow = SLOW_APPLY_MS.load(Ordering::Relaxed) > 0;
    if is_slow && events.iter().any(|event| matches!(event, Event::Applied { .. })) {
        beat.phase(Phase::Apply);
        pause(&SLOW_APPLY_MS);
    }
}

/// For so long, or until it is no longer wanted.
fn pause(ms: &AtomicU64) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(ms.load(Ordering::Relaxed)) {
        std::thread::sleep(LOOK);
    }
}

/// A reader of metadata.
pub fn metadata_query() {
    if INVERSION.load(Ordering::Relaxed) {
        let machine = MACHINE.read();
        std::thread::sleep(WINDOW);
        drop(RAFT.lock());
        drop(machine);
    }
    let wanted = LOCK_HOLD_MS.load(Ordering::Relaxed) > 0;
    if wanted && LOCK_FREE.swap(false, Ordering::Relaxed) {
        let machine = MACHINE.write();
        pause(&LOCK_HOLD_MS);
        drop(machine);
    }
}

/// An entry on its way into a state machine.
pub fn apply(group: model::GroupId, index: u64) {
    let planted = PANIC_IN_APPLY.load(Ordering::Relaxed);
    assert!(planted != group.0, "a planted panic at entry {index}");
}

/// How far an acknowledgement of this entry goes.
pub fn acknowledged(index: u64) -> u64 {
    index + EARLY_ACKS.load(Ordering::Relaxed)
}

/// A sync that has been handed to the disk.
pub fn sync() {
    match SLOW_SYNC_MS.load(Ordering::Relaxed) {
        0 => {}
        ms => std::thread::sleep(Duration::from_millis(ms)),
    }
}

/// What was committed, on its way into segments.
pub fn segments() {
    pause(&SLOW_SEGMENTS_MS);
}

/// Topics that are not there.
pub fn topic_rows() -> impl Iterator<Item = (String, u64)> {
    (0..TOPIC_ROWS.load(Ordering::Relaxed)).map(|number| (format!("planted-{number}"), number))
}
