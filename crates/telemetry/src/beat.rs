//! One slot of atomics per loop: what it does, since when, and what it waits for. The loop
//! writes, the watchdog reads; neither ever waits for the other.
//!
//! Invariants: a slot is exactly one cache line and is written only by its loop; phase and the
//! moment it began travel in one word, so no reader sees the phase of one moment with the time
//! of another. The table is fixed ([`limits::BEATS_MAX`]): a loop beyond it runs unseen and is
//! counted.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use model::{GroupId, limits};

use crate::clock;
use crate::family::Local;
use crate::flight;
use crate::labels::{DropKind, InputKind, IoOp, Loop, Phase};
use crate::lock::LockCell;
use crate::{metrics, silence};

const PHASES: usize = Phase::ALL.len();

/// A loop's own handle on its slot; dropping it frees the slot. Belongs to one loop, which may
/// move between threads.
pub struct Beat {
    slot: &'static Slot,
    kind: Loop,
    phase: Cell<Phase>,
    since_ns: Cell<u64>,
    times: Local<Phase>,
    /// Time per phase since the last [`Beat::take_spent`].
    spent_ns: [Cell<u64>; PHASES],
    /// It gave its thread a ring of the flight recorder.
    records: bool,
}

impl Beat {
    /// For a loop with a thread of its own: call it on that thread, which gets a ring of the
    /// flight recorder, if there is one.
    pub fn thread(kind: Loop, index: u16) -> Beat {
        let mut beat = Beat::register(kind, index, clock::thread_id());
        CURRENT.set(Some(beat.slot));
        beat.records = flight::claim(kind.as_str(), index);
        beat
    }

    /// For a loop that is an async task.
    pub fn task(kind: Loop, index: u16) -> Beat {
        Beat::register(kind, index, 0)
    }

    fn register(kind: Loop, index: u16, thread: u32) -> Beat {
        let now_ns = clock::mono_ns();
        let name = Name { kind, index, thread }.pack();
        let free = |slot: &&Slot| {
            slot.name.compare_exchange(0, RESERVED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let slot = SLOTS.iter().find(free).unwrap_or_else(|| {
            metrics().telemetry_dropped_total.at(DropKind::BeatSlot).inc();
            &SPARE
        });
        slot.doing.store(Doing::pack(Phase::Idle, InputKind::None, now_ns), Ordering::Relaxed);
        slot.io.store(0, Ordering::Relaxed);
        slot.group.store(0, Ordering::Relaxed);
        slot.lock.store(ptr::null_mut(), Ordering::Relaxed);
        if !ptr::eq(slot, &SPARE) {
            slot.name.store(name, Ordering::Release);
        }
        Beat {
            slot,
            kind,
            phase: Cell::new(Phase::Idle),
            since_ns: Cell::new(now_ns),
            times: metrics().loop_phase_seconds.local_row(kind),
            spent_ns: [const { Cell::new(0) }; PHASES],
            records: false,
        }
    }

    pub fn kind(&self) -> Loop {
        self.kind
    }

    /// Waits for input from here on.
    #[inline]
    pub fn idle(&self) {
        self.enter(Phase::Idle, InputKind::None, clock::mono_ns());
    }

    /// Works on this from here on; the phase before it ends.
    #[inline]
    pub fn phase(&self, phase: Phase) {
        self.enter(phase, InputKind::None, clock::mono_ns());
    }

    /// As [`Beat::phase`], with the input it works on and the time already known
    /// ([`clock::mono_ns`]).
    #[inline]
    pub fn enter(&self, phase: Phase, input: InputKind, now_ns: u64) {
        if !silence::is_on(silence::Part::Loops) {
            return;
        }
        self.slot.doing.store(Doing::pack(phase, input, now_ns), Ordering::Relaxed);
        let before = self.phase.replace(phase);
        let spent = now_ns.saturating_sub(self.since_ns.replace(now_ns));
        if before != Phase::Idle {
            self.times.observe(before, spent);
            let total = &self.spent_ns[before.index()];
            total.set(total.get() + spent);
        }
    }

    /// The group it works on; part of a stall's description.
    #[inline]
    pub fn group(&self, group: GroupId) {
        if !silence::is_on(silence::Part::Loops) {
            return;
        }
        self.slot.group.store(group.0, Ordering::Relaxed);
    }

    /// A disk operation begins; the result is for [`Beat::io_done`].
    pub fn io(&self, op: IoOp, bytes: u64) -> u64 {
        let now_ns = clock::mono_ns();
        self.slot.io_bytes.store(bytes, Ordering::Relaxed);
        self.slot.io.store(Io::pack(op, now_ns), Ordering::Relaxed);
        now_ns
    }

    /// The operation that began at `started_ns` is over; its duration in nanoseconds.
    pub fn io_done(&self, started_ns: u64) -> u64 {
        self.slot.io.store(0, Ordering::Relaxed);
        clock::mono_ns().saturating_sub(started_ns)
    }

    /// Nanoseconds spent per phase (by `Phase::index`) since the last call, the running phase
    /// included.
    pub fn take_spent(&self, now_ns: u64) -> [u64; PHASES] {
        let mut spent = [0; PHASES];
        for (out, total) in spent.iter_mut().zip(&self.spent_ns) {
            *out = total.take();
        }
        spent[self.phase.get().index()] += now_ns.saturating_sub(self.since_ns.get());
        spent
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        if CURRENT.get().is_some_and(|slot| ptr::eq(slot, self.slot)) {
            CURRENT.set(None);
            if self.records {
                flight::release();
            }
        }
        if !ptr::eq(self.slot, &SPARE) {
            self.slot.name.store(0, Ordering::Release);
        }
    }
}

thread_local! {
    static CURRENT: Cell<Option<&'static Slot>> = const { Cell::new(None) };
}

/// The slot of the loop that owns this thread.
pub(crate) fn current() -> Option<&'static Slot> {
    CURRENT.get()
}

#[repr(align(64))]
pub(crate) struct Slot {
    /// [`Name`]; 0 is free.
    name: AtomicU64,
    /// [`Doing`].
    doing: AtomicU64,
    /// [`Io`]; 0 is none.
    io: AtomicU64,
    io_bytes: AtomicU64,
    group: AtomicU64,
    /// The lock it waits for.
    lock: AtomicPtr<LockCell>,
    lock_site: AtomicPtr<Location<'static>>,
    lock_since_ns: AtomicU64,
}

const _: () = assert!(size_of::<Slot>() == 64, "a slot is one cache line");

/// Taken, not yet described.
const RESERVED: u64 = u64::MAX;

static SLOTS: [Slot; limits::BEATS_MAX] = [const { Slot::new() }; limits::BEATS_MAX];
/// Where loops without a slot write; nobody reads it.
static SPARE: Slot = Slot::new();

impl Slot {
    const fn new() -> Slot {
        Slot {
            name: AtomicU64::new(0),
            doing: AtomicU64::new(0),
            io: AtomicU64::new(0),
            io_bytes: AtomicU64::new(0),
            group: AtomicU64::new(0),
            lock: AtomicPtr::new(ptr::null_mut()),
            lock_site: AtomicPtr::new(ptr::null_mut()),
            lock_since_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn waits_for(&self, lock: &'static LockCell, site: &'static Location<'static>) {
        self.lock_site.store(ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
        self.lock_since_ns.store(clock::mono_ns(), Ordering::Relaxed);
        self.lock.store(ptr::from_ref(lock).cast_mut(), Ordering::Release);
    }

    pub(crate) fn waits_no_more(&self) {
        self.lock.store(ptr::null_mut(), Ordering::Relaxed);
    }
}

/// Microseconds of a kind (1024 ns): 48 bits of them last nine years.
const SHIFT: u32 = 10;

struct Name {
    kind: Loop,
    index: u16,
    thread: u32,
}

impl Name {
    fn pack(&self) -> u64 {
        u64::from(self.thread) << 32 | u64::from(self.index) << 16 | (self.kind as u64 + 1)
    }

    fn unpack(word: u64) -> Option<Name> {
        if word == RESERVED {
            return None;
        }
        let kind = Loop::from_index((word & 0xff).checked_sub(1)? as usize)?;
        Some(Name { kind, index: (word >> 16) as u16, thread: (word >> 32) as u32 })
    }
}

struct Doing;

impl Doing {
    #[inline]
    fn pack(phase: Phase, input: InputKind, now_ns: u64) -> u64 {
        (now_ns >> SHIFT) << 16 | (input as u64) << 8 | phase as u64
    }
}

struct Io;

impl Io {
    fn pack(op: IoOp, now_ns: u64) -> u64 {
        (now_ns >> SHIFT) << 16 | (op as u64 + 1)
    }
}

/// What a loop waits for.
#[derive(Clone, Debug)]
pub struct LockWait {
    pub(crate) lock: &'static LockCell,
    /// Where it is being taken.
    pub site: Option<&'static Location<'static>>,
    pub waited_ns: u64,
}

/// A disk operation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoInFlight {
    pub op: IoOp,
    pub bytes: u64,
    pub age_ns: u64,
}

impl fmt::Display for IoInFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.age_ns as f64 / 1e9;
        write!(f, "{} of {} bytes in flight for {seconds:.1} s", self.op, self.bytes)
    }
}

/// One loop as the watchdog sees it at one moment.
#[derive(Clone, Debug)]
pub struct LoopView {
    pub kind: Loop,
    pub index: u16,
    /// Kernel thread id; 0: an async task.
    pub thread: u32,
    pub phase: Phase,
    pub input: InputKind,
    /// How long it has been in this phase, on this input.
    pub age_ns: u64,
    pub group: Option<GroupId>,
    pub io: Option<IoInFlight>,
    pub lock: Option<LockWait>,
    /// Changes with every transition: the same token, the same stay.
    pub(crate) token: u64,
    pub(crate) slot: usize,
}

/// All loops at `now_ns` ([`clock::mono_ns`]).
pub fn loops(now_ns: u64) -> Vec<LoopView> {
    SLOTS.iter().enumerate().filter_map(|(position, slot)| view(slot, position, now_ns)).collect()
}

fn age(word: u64, now_ns: u64) -> u64 {
    now_ns.saturating_sub((word >> 16) << SHIFT)
}

fn view(slot: &'static Slot, position: usize, now_ns: u64) -> Option<LoopView> {
    let name = Name::unpack(slot.name.load(Ordering::Acquire))?;
    let doing = slot.doing.load(Ordering::Relaxed);
    let io = slot.io.load(Ordering::Relaxed);
    let op = (io & 0xff).checked_sub(1).and_then(|op| IoOp::from_index(op as usize));
    let group = slot.group.load(Ordering::Relaxed);
    Some(LoopView {
        kind: name.kind,
        index: name.index,
        thread: name.thread,
        phase: Phase::from_index((doing & 0xff) as usize)?,
        input: InputKind::from_index((doing >> 8 & 0xff) as usize)?,
        age_ns: age(doing, now_ns),
        group: (group != 0).then_some(GroupId(group)),
        io: op.map(|op| IoInFlight {
            op,
            bytes: slot.io_bytes.load(Ordering::Relaxed),
            age_ns: age(io, now_ns),
        }),
        lock: lock_wait(slot, now_ns),
        token: doing,
        slot: position,
    })
}

#[allow(unsafe_code)]
fn lock_wait(slot: &Slot, now_ns: u64) -> Option<LockWait> {
    let lock = slot.lock.load(Ordering::Acquire);
    let site = slot.lock_site.load(Ordering::Relaxed);
    // SAFETY: only pointers to `'static` values are ever stored, or null.
    let (lock, site) = unsafe { (lock.as_ref::<'static>()?, site.as_ref::<'static>()) };
    let waited_ns = now_ns.saturating_sub(slot.lock_since_ns.load(Ordering::Relaxed));
    Some(LockWait { lock, site, waited_ns })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A loop that just began a phase.
    pub(crate) fn view(kind: Loop, phase: Phase) -> LoopView {
        LoopView {
            kind,
            index: 0,
            thread: 0,
            phase,
            input: InputKind::None,
            age_ns: 0,
            group: None,
            io: None,
            lock: None,
            token: 0,
            slot: 0,
        }
    }

    fn find(kind: Loop, index: u16) -> Option<LoopView> {
        loops(clock::mono_ns()).into_iter().find(|v| v.kind == kind && v.index == index)
    }

    #[test]
    fn a_loop_is_seen_with_all_it_does_and_is_gone_when_dropped() {
        let beat = Beat::thread(Loop::Test, 901);
        beat.enter(Phase::Apply, InputKind::Durable, clock::mono_ns());
        beat.group(GroupId(42));
        let started = beat.io(IoOp::Sync, 4096);
        let seen = find(Loop::Test, 901).expect("registered");
        assert_eq!(
            (seen.phase, seen.input, seen.group),
            (Phase::Apply, InputKind::Durable, Some(GroupId(42)))
        );
        assert_eq!(seen.thread, clock::thread_id());
        assert_eq!(seen.io.map(|io| (io.op, io.bytes)), Some((IoOp::Sync, 4096)));
        assert!(seen.age_ns < 1_000_000_000);
        beat.io_done(started);
        assert!(find(Loop::Test, 901).is_some_and(|seen| seen.io.is_none()));
        drop(beat);
        assert!(find(Loop::Test, 901).is_none());
    }

    #[test]
    fn spent_time_is_told_per_phase_and_once() {
        let beat = Beat::task(Loop::Test, 902);
        let start = clock::mono_ns();
        beat.enter(Phase::Apply, InputKind::None, start);
        beat.enter(Phase::Send, InputKind::None, start + 500);
        let spent = beat.take_spent(start + 700);
        assert_eq!((spent[Phase::Apply.index()], spent[Phase::Send.index()]), (500, 200));
        assert_eq!(beat.take_spent(start + 700)[Phase::Apply.index()], 0);
    }
}
