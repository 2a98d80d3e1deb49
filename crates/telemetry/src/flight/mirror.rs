//! Who brings what is new in the rings to the files, and when.
//!
//! A *light* pass writes what is new in all rings to one file ([`recent`](super::recent)), a *full*
//! one each ring's own. Waking a thread costs more than such a write, so a light pass is made by a
//! thread that is awake anyway where there is one: the journal's, which waits for this disk as it is,
//! once it has told what is durable ([`lend`]). The mirror's own thread sleeps on a timer that each pass
//! puts off; it makes the light passes that nobody else makes, and all full ones.
//!
//! Invariants: whoever records never waits; only these two threads wait for a disk that hangs; what
//! was recorded is in a file [`limits::FLIGHT_MIRROR_MS`] and one scheduling later; nobody is woken
//! while nothing is recorded; an error loses records and is counted, nothing else.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use model::limits;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::flight::RINGS;
use crate::flight::files::{Life, file_name, life};
use crate::flight::recent::{self, Passed, Recent};
use crate::flight::ring::{HEADER_BYTES, RECORD_BYTES, Ring};
use crate::labels::DropKind;
use crate::{clock, metrics, silence};

const PERIOD: Duration = Duration::from_millis(limits::FLIGHT_MIRROR_MS);
const LEND_NS: u64 = limits::FLIGHT_LEND_MS * 1_000_000;
const FULL_NS: u64 = limits::FLIGHT_FULL_MS * 1_000_000;
/// A mirror that nobody woke looks all the same.
const REST: Duration = Duration::from_secs(1);
const AT_ONCE: Duration = Duration::from_nanos(1);
/// After an error a file is left alone for so long.
const RETRY_NS: u64 = 1_000_000_000;

/// Nothing is new, and nobody looks.
static ASLEEP: AtomicBool = AtomicBool::new(true);
/// Passes of the mirror's own thread.
static PASSES: AtomicU64 = AtomicU64::new(0);
/// The time from which on another thread may make the next light pass.
static DUE_NS: AtomicU64 = AtomicU64::new(0);
/// Full passes: when one is due, and that one is wanted at once.
static FULL_DUE_NS: AtomicU64 = AtomicU64::new(0);
static FULL_WANTED: AtomicBool = AtomicBool::new(false);
/// After an error there are no light passes before this.
static RETRY_AT_NS: AtomicU64 = AtomicU64::new(0);
static TIMER: OnceLock<OwnedFd> = OnceLock::new();
static RECENT: Mutex<Option<Recent>> = Mutex::new(None);

/// Starts the mirror's thread.
pub(super) fn spawn(life: &'static Life) -> io::Result<()> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let Ok(()) = TIMER.set(timer) else { return Ok(()) };
    thread::Builder::new().name("flight".into()).spawn(move || run(life))?;
    Ok(())
}

/// The mirror's thread wakes so much later, whatever was set before.
fn arm(after: Duration) {
    let Some(timer) = TIMER.get() else { return };
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let secs = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
    let value = Timespec { tv_sec: secs, tv_nsec: after.subsec_nanos().into() };
    let when = Itimerspec { it_interval: zero, it_value: value };
    // It fails for times that are none, and for what is no timer.
    let _ = timerfd_settime(timer, TimerfdTimerFlags::empty(), &when);
}

fn wait() {
    let Some(timer) = TIMER.get() else { return };
    // Interrupted, it is a pass too many.
    if rustix::io::read(timer, &mut [0; 8]).is_err() {
        thread::sleep(PERIOD);
    }
}

/// Something was written: the mirror may not sleep.
#[inline]
pub(super) fn wake() {
    if ASLEEP.load(Ordering::Relaxed) && silence::is_on(silence::Part::Mirror) {
        wake_it();
    }
}

#[cold]
fn wake_it() {
    // One of many writers does it.
    if ASLEEP.swap(false, Ordering::AcqRel) {
        arm(PERIOD);
    }
}

/// For a thread that is awake and may wait for the disk: sees to what is new, if it is time.
#[inline]
pub fn lend() {
    if !silence::is_on(silence::Part::Mirror) {
        return;
    }
    if !ASLEEP.load(Ordering::Relaxed) && clock::mono_ns() >= DUE_NS.load(Ordering::Relaxed) {
        lent();
    }
}

fn lent() {
    let Some(life) = life() else { return };
    if light(life) == Some(Passed::Written)
        && clock::mono_ns() < FULL_DUE_NS.load(Ordering::Relaxed)
    {
        arm(PERIOD);
    }
}

/// A light pass; `None` where it could not be made.
fn light(life: &Life) -> Option<Passed> {
    let mut recent = RECENT.try_lock().ok()?;
    let now_ns = clock::mono_ns();
    if now_ns < RETRY_AT_NS.load(Ordering::Relaxed) {
        return None;
    }
    DUE_NS.store(now_ns + LEND_NS, Ordering::Relaxed);
    let passed = recent.get_or_insert_default().pass(life, now_ns);
    if matches!(passed, Ok(Passed::TooMuch)) {
        FULL_WANTED.store(true, Ordering::Release);
        arm(AT_ONCE);
    }
    passed
        .inspect_err(|error| {
            RETRY_AT_NS.store(now_ns + RETRY_NS, Ordering::Relaxed);
            failed(error, recent::NAME);
        })
        .ok()
}

fn failed(error: &io::Error, ring: &str) {
    metrics().telemetry_dropped_total.at(DropKind::FlightRing).inc();
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        tracing::warn!(%error, ring, "the flight recorder cannot write; said once");
    }
}

/// Waits until what was written so far is in the files, for at most
/// [`limits::FLIGHT_SETTLE_MS`].
pub fn settle() {
    if TIMER.get().is_none() {
        return;
    }
    // The pass under way may have begun before.
    let wanted = PASSES.load(Ordering::Acquire) + 2;
    for _ in 0..limits::FLIGHT_SETTLE_MS {
        if PASSES.load(Ordering::Acquire) >= wanted {
            return;
        }
        FULL_WANTED.store(true, Ordering::Release);
        arm(AT_ONCE);
        thread::sleep(Duration::from_millis(1));
    }
}

fn run(life: &Life) {
    let mut files: Vec<Mirrored> = Vec::new();
    let mut buffer = Vec::new();
    loop {
        if !silence::is_on(silence::Part::Mirror) {
            ASLEEP.store(true, Ordering::Release);
            arm(REST);
            wait();
            continue;
        }
        let now_ns = clock::mono_ns();
        let wanted = FULL_WANTED.swap(false, Ordering::AcqRel);
        let due = wanted || now_ns >= FULL_DUE_NS.load(Ordering::Relaxed);
        let light = light(life);
        let mut moved = light == Some(Passed::Written);
        let rests = light == Some(Passed::Nothing) && ASLEEP.load(Ordering::Acquire);
        if due || rests || !matches!(light, Some(Passed::Written | Passed::Nothing)) {
            FULL_DUE_NS.store(now_ns + FULL_NS, Ordering::Relaxed);
            // What a light pass had seen to is nothing new.
            moved |= full(life, &mut files, &mut buffer) && light != Some(Passed::Nothing);
        }
        PASSES.fetch_add(1, Ordering::AcqRel);
        if moved || !ASLEEP.swap(true, Ordering::AcqRel) {
            // A writer that did not see it asleep has stored its record long before this ends.
            arm(PERIOD);
        } else {
            arm(REST);
        }
        wait();
    }
}

/// Brings each ring's own file up to date; true if there was something new.
fn full(life: &Life, files: &mut Vec<Mirrored>, buffer: &mut Vec<u8>) -> bool {
    // In order: one that is just being made, and those behind it, come with the next pass.
    let fresh = RINGS.iter().skip(files.len()).map_while(OnceLock::get);
    files.extend(fresh.map(|ring| Mirrored { ring, file: None, upto: 0, retry_ns: 0 }));
    let mut moved = false;
    for file in &mut *files {
        moved |= file.follow(life, buffer);
    }
    if moved
        && let Ok(mut recent) = RECENT.try_lock()
        && let Some(recent) = &mut *recent
    {
        recent.settled(files.iter().map(|file| file.upto));
    }
    moved
}

/// A ring's own file, as far as it goes.
struct Mirrored {
    ring: &'static Ring,
    file: Option<File>,
    upto: u64,
    retry_ns: u64,
}

impl Mirrored {
    /// True if there was something new.
    fn follow(&mut self, life: &Life, buffer: &mut Vec<u8>) -> bool {
        let head = self.ring.head();
        if head == self.upto || self.retry_ns > clock::mono_ns() {
            return false;
        }
        if let Err(error) = self.write(life, head, buffer) {
            self.file = None;
            self.retry_ns = clock::mono_ns() + RETRY_NS;
            failed(&error, &file_name(self.ring.name, self.ring.index));
            return false;
        }
        true
    }

    fn write(&mut self, life: &Life, head: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        if self.file.is_none() {
            self.file =
                Some(life.create(self.ring.name, self.ring.index, limits::FLIGHT_RECORDS)?);
            self.upto = 0;
        }
        let Some(file) = &self.file else { return Ok(()) };
        let capacity = limits::FLIGHT_RECORDS as u64;
        let mut from = self.upto.max(head.saturating_sub(capacity)) + 1;
        while from <= head {
            // As far as the file goes without turning round.
            let slot = from % capacity;
            let to = head.min(from + (capacity - 1 - slot));
            buffer.clear();
            self.ring.copy(from, to, buffer);
            file.write_all_at(buffer, HEADER_BYTES as u64 + slot * RECORD_BYTES as u64)?;
            from = to + 1;
        }
        self.upto = head;
        Ok(())
    }
}
