//! The watchdog: an OS thread of its own that reads every loop's slot ten times a second and
//! says which loop stays where, since when, and what it waits for.
//!
//! Invariants: it reads atomics and takes no lock a broker thread ever holds while working;
//! a stall is told once when it begins and once when it ends; when the watchdog itself woke
//! late, the host stood still and no loop is blamed for that look. Who is to blame,
//! [`crate::stall`] says.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use model::limits;

use crate::beat::{self, IoInFlight, LoopView};
use crate::flight::{self, DumpReason};
use crate::labels::{IoOp, LockClass, LogEvent, Loop, Phase};
use crate::stall::Explainer;
use crate::{clock, inflight, lock, metrics, silence};

const MS: u64 = 1_000_000;
/// Further than this from where it was beside the clock that never steps, the wall clock was set.
const STEP_NS: u64 = 1_000 * MS;
/// Later than this beyond its period, the watchdog was not running: the host was paused.
const PAUSE_NS: u64 = 1_000 * MS;

/// How long a loop may stay in a phase, nanoseconds; `None`: for ever.
pub fn threshold_ns(kind: Loop, phase: Phase) -> Option<u64> {
    let ms = match phase {
        Phase::Idle if !kind.never_rests() => return None,
        Phase::Apply => limits::STALL_APPLY_MS,
        Phase::Recover => limits::STALL_RECOVER_MS,
        Phase::Maintain | Phase::Connect => limits::STALL_MAINTAIN_MS,
        _ => limits::STALL_MS,
    };
    Some(ms * MS)
}

/// A loop that stays in one phase beyond its threshold.
#[derive(Clone, Debug)]
pub struct Stall {
    pub view: LoopView,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoopView { kind, index, phase, input, age_ns, .. } = &self.view;
        write!(f, "{kind}/{index} in {phase} for {:.1} s (input {input})", seconds(*age_ns))?;
        if let Some(group) = self.view.group {
            write!(f, ", group {group}")?;
        }
        if let Some(io) = self.view.io {
            write!(f, "; {io}")?;
        }
        let Some(wait) = &self.view.lock else { return Ok(()) };
        let class = wait.lock.class().map_or("unknown", LockClass::as_str);
        write!(f, "; waits for lock {class}")?;
        if let Some(site) = wait.site {
            write!(f, " at {site}")?;
        }
        let Some(held) = wait.lock.held() else { return Ok(()) };
        write!(f, "; it is held [{}] by thread {}", held.mode.as_str(), thread_name(held.thread))?;
        if let Some(site) = held.site {
            write!(f, ", taken at {site}")?;
        }
        write!(f, ", for {:.1} s", seconds(held.held_ns))
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Name and kernel id of a thread of this process.
pub fn thread_name(thread: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm"));
    name.map_or_else(|_| thread.to_string(), |name| format!("{} ({thread})", name.trim()))
}

/// What one look found.
#[derive(Clone, Debug)]
pub enum Finding {
    Began(Stall),
    /// The stall as it was when last seen.
    Ended(Stall),
    /// The watchdog woke this much late.
    HostPaused {
        late_ns: u64,
    },
    /// A disk operation of the journal is beyond [`limits::DISK_BUDGET_MS`].
    DiskSlow(IoInFlight),
    /// It is over.
    DiskAgain,
    /// It is beyond [`limits::DISK_FENCE_MS`].
    DiskStuck(IoInFlight),
}

/// How far an operation of the journal has got over its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Overdue {
    #[default]
    No,
    Slow,
    Stuck,
}

/// The judgement, without thread and clock. One per process counts into the metrics.
#[derive(Default)]
pub struct Watchdog {
    /// By slot: the stay that is being reported.
    stalled: BTreeMap<usize, Stall>,
    /// What was told of the journal's disk last.
    overdue: Overdue,
    last_look_ns: Option<u64>,
}

impl Watchdog {
    /// One look at all loops, as [`beat::loops`] saw them at `now_ns`.
    pub fn look(&mut self, now_ns: u64, views: Vec<LoopView>) -> Vec<Finding> {
        let period_ns = limits::WATCHDOG_PERIOD_MS * MS;
        let since_ns =
            self.last_look_ns.replace(now_ns).map_or(0, |last| now_ns.saturating_sub(last));
        if since_ns > period_ns + PAUSE_NS {
            return vec![Finding::HostPaused { late_ns: since_ns - period_ns }];
        }
        let mut findings: Vec<Finding> = self.disk(&views).into_iter().collect();
        let mut before = std::mem::take(&mut self.stalled);
        for view in views {
            let Some(threshold) = threshold_ns(view.kind, view.phase) else { continue };
            if view.age_ns < threshold {
                continue;
            }
            let known = before.get(&view.slot).is_some_and(|stall| stall.view.token == view.token);
            let (slot, stall) = (view.slot, Stall { view });
            if known {
                before.remove(&slot);
            } else {
                findings.push(Finding::Began(stall.clone()));
            }
            self.stalled.insert(slot, stall);
        }
        findings.extend(before.into_values().map(Finding::Ended));
        findings
    }

    /// News of the journal's disk.
    fn disk(&mut self, views: &[LoopView]) -> Option<Finding> {
        let journals = views.iter().filter(|view| view.kind == Loop::Journal);
        let oldest = journals.filter_map(|view| view.io).max_by_key(|io| io.age_ns);
        let age_ms = oldest.map_or(0, |io| io.age_ns / MS);
        let now = match age_ms {
            limits::DISK_FENCE_MS.. => Overdue::Stuck,
            limits::DISK_BUDGET_MS.. => Overdue::Slow,
            _ => Overdue::No,
        };
        let before = std::mem::replace(&mut self.overdue, now);
        match (before, now, oldest) {
            (Overdue::Slow | Overdue::Stuck, Overdue::No, _) => Some(Finding::DiskAgain),
            (Overdue::No, Overdue::Slow, Some(io)) => Some(Finding::DiskSlow(io)),
            (Overdue::No | Overdue::Slow, Overdue::Stuck, Some(io)) => Some(Finding::DiskStuck(io)),
            _ => None,
        }
    }

    /// Stalls that last.
    pub fn active(&self) -> impl Iterator<Item = &Stall> {
        self.stalled.values()
    }
}

/// The running watchdog; dropping it ends the thread.
pub struct Handle {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panicking watchdog has already said so.
            let _ = thread.join();
        }
    }
}

/// After a silence: until every loop, also one that only waits, has been through its turn.
const LOOKS_LEFT_OUT: u32 = 12;

static LAST_LOOK_NS: AtomicU64 = AtomicU64::new(0);

/// Starts the watchdog. `on_finding` runs on its thread and must not block.
pub fn spawn(mut on_finding: impl FnMut(&Finding) + Send + 'static) -> io::Result<Handle> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let run = move || {
        let (mut watchdog, mut explainer) = (Watchdog::default(), Explainer::default());
        let (mut cpu_ns, mut wall, mut stale) = (0, WallClock::default(), 0u32);
        while !stopped.load(Ordering::Relaxed) {
            // What was not noted is no stall: the slots are as old as the silence was long.
            if !silence::is_on(silence::Part::Watchdog) {
                stale = LOOKS_LEFT_OUT;
                thread::park_timeout(Duration::from_millis(limits::WATCHDOG_PERIOD_MS));
                continue;
            }
            let now_ns = clock::mono_ns();
            let views = beat::loops(now_ns);
            if stale > 0 {
                stale -= 1;
                // It costs what a look costs, and is believed by nobody.
                let _ = Watchdog::default().look(now_ns, views);
                thread::park_timeout(Duration::from_millis(limits::WATCHDOG_PERIOD_MS));
                continue;
            }
            let findings = watchdog.look(now_ns, views.clone());
            explainer.look(now_ns, &views, watchdog.active());
            for finding in findings {
                tell(&finding, &explainer);
                on_finding(&finding);
            }
            count_active(&watchdog);
            wall.look(clock::wall_ns(), clock::boot_ns());
            LAST_LOOK_NS.store(now_ns, Ordering::Relaxed);
            let used_ns = clock::thread_cpu_ns();
            metrics().telemetry_cpu_seconds_total.add(used_ns - cpu_ns);
            cpu_ns = used_ns;
            thread::park_timeout(Duration::from_millis(limits::WATCHDOG_PERIOD_MS));
        }
    };
    let thread = thread::Builder::new().name("watchdog".into()).spawn(run)?;
    Ok(Handle { stop, thread: Some(thread) })
}

/// How far the wall clock is ahead of the one that never steps.
#[derive(Default)]
struct WallClock {
    ahead_ns: Option<i64>,
}

impl WallClock {
    /// Counts a step of more than [`STEP_NS`]; slewing is none.
    fn look(&mut self, wall_ns: u64, boot_ns: u64) {
        let ahead_ns = wall_ns.cast_signed().wrapping_sub(boot_ns.cast_signed());
        let before_ns = self.ahead_ns.replace(ahead_ns).unwrap_or(ahead_ns);
        if ahead_ns.abs_diff(before_ns) > STEP_NS {
            metrics().clock_steps_total.inc();
            let step_ms = ahead_ns.wrapping_sub(before_ns) / MS.cast_signed();
            crate::log_limited!(warn, LogEvent::ClockStepped, step_ms, "the wall clock was set");
        }
    }
}

/// Counts a finding and writes its line.
fn tell(finding: &Finding, explainer: &Explainer) {
    match finding {
        Finding::Began(stall) => {
            metrics().stalls_total.at(stall.view.kind, stall.view.phase).inc();
            recorded(stall, flight::kinds::stall_began);
            flight::dump(DumpReason::Stall);
            match explainer.says(stall) {
                Some(says) => crate::log_limited!(warn, LogEvent::StallBegan, "{says}"),
                None => crate::log_limited!(warn, LogEvent::StallBegan, "{stall}"),
            }
        }
        Finding::Ended(stall) => {
            recorded(stall, flight::kinds::stall_ended);
            crate::log_limited!(info, LogEvent::StallEnded, "was stalled: {stall}")
        }
        // Told by whoever acts on it.
        Finding::DiskSlow(_) | Finding::DiskAgain | Finding::DiskStuck(_) => {}
        Finding::HostPaused { late_ns } => {
            metrics().host_pauses_total.inc();
            let late_ms = u32::try_from(late_ns / MS).unwrap_or(u32::MAX);
            flight::from_anywhere(|| flight::kinds::host_paused(late_ms));
            crate::log_limited!(
                warn,
                LogEvent::HostPaused,
                late_ms = late_ns / MS,
                "the host stood still"
            );
        }
    }
}

/// A stall for the flight recorder.
fn recorded(stall: &Stall, say: fn(u64, u32, u16, Loop, Phase)) {
    let LoopView { kind, index, phase, age_ns, .. } = stall.view;
    let group = stall.view.group.map_or(0, |group| group.0);
    let age_ms = u32::try_from(age_ns / MS).unwrap_or(u32::MAX);
    flight::from_anywhere(|| say(group, age_ms, index, kind, phase));
}

fn count_active(watchdog: &Watchdog) {
    let mut active = [0; Loop::ALL.len()];
    watchdog.active().for_each(|stall| active[stall.view.kind.index()] += 1);
    for kind in Loop::ALL {
        metrics().stalls_active.at(*kind).set(active[kind.index()]);
    }
}

/// CPU time of the thread in each slot when last read, so that the counters only grow.
static CPU_SEEN: [AtomicU64; limits::BEATS_MAX] = [const { AtomicU64::new(0) }; limits::BEATS_MAX];

/// Sets every gauge that is an age or a count of loops, requests or locks. Part of a scrape, so
/// that the numbers are right even when the watchdog is dead.
pub(crate) fn publish() {
    let now_ns = clock::mono_ns();
    let mut age = [0i64; Loop::ALL.len()];
    let mut count = [0i64; Loop::ALL.len()];
    let mut io_age = [0i64; IoOp::ALL.len()];
    for view in beat::loops(now_ns) {
        let kind = view.kind.index();
        count[kind] += 1;
        if view.phase != Phase::Idle || view.kind.never_rests() {
            age[kind] = age[kind].max(view.age_ns as i64);
        }
        if let Some(io) = view.io.filter(|_| view.kind == Loop::Journal) {
            io_age[io.op.index()] = io_age[io.op.index()].max(io.age_ns as i64);
        }
        count_cpu(&view);
    }
    for kind in Loop::ALL {
        metrics().loop_heartbeat_age_seconds.at(*kind).set(age[kind.index()]);
        metrics().loops.at(*kind).set(count[kind.index()]);
    }
    for op in IoOp::ALL {
        metrics().journal_inflight_seconds.at(*op).set(io_age[op.index()]);
    }
    let mut held = [0i64; LockClass::ALL.len()];
    for lock in lock::held(0) {
        held[lock.class.index()] = held[lock.class.index()].max(lock.held_ns as i64);
    }
    for class in LockClass::ALL {
        metrics().lock_held_oldest_seconds.at(*class).set(held[class.index()]);
    }
    let last_look_ns = LAST_LOOK_NS.load(Ordering::Relaxed);
    let look_age = if last_look_ns == 0 { 0 } else { now_ns.saturating_sub(last_look_ns) };
    metrics().watchdog_heartbeat_age_seconds.set(look_age as i64);
    inflight::publish(now_ns);
}

fn count_cpu(view: &LoopView) {
    if view.thread == 0 {
        return;
    }
    let Ok(text) = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", view.thread))
    else {
        return;
    };
    let used_ns = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    let seen_ns = CPU_SEEN[view.slot].swap(used_ns, Ordering::Relaxed);
    // Less than before: a new loop, on a new thread, took the slot.
    let new_ns = if used_ns >= seen_ns { used_ns - seen_ns } else { used_ns };
    metrics().loop_cpu_seconds_total.at(view.kind).add(new_ns);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::Lock;
    use crate::beat::Beat;
    use crate::labels::InputKind;

    fn looked(watchdog: &mut Watchdog, now_ns: u64, index: u16) -> Vec<Finding> {
        let mut views = beat::loops(now_ns);
        views.retain(|view| view.kind == Loop::Test && view.index == index);
        watchdog.look(now_ns, views)
    }

    #[test]
    fn a_clock_that_is_set_is_counted_and_one_that_is_slewed_is_not() {
        let (mut clock, before) = (WallClock::default(), metrics().clock_steps_total.get());
        for (wall_ms, boot_ms) in [(90_000, 100), (90_150, 200), (90_300, 300)] {
            clock.look(wall_ms * MS, boot_ms * MS);
        }
        assert_eq!(metrics().clock_steps_total.get(), before);
        clock.look(3_690_400 * MS, 400 * MS);
        clock.look(90_500 * MS, 500 * MS);
        assert_eq!(metrics().clock_steps_total.get(), before + 2);
    }

    #[test]
    fn a_loop_that_hangs_is_named_once_and_cleared() {
        let (beat, mut watchdog) = (Beat::task(Loop::Test, 920), Watchdog::default());
        let start_ns = clock::mono_ns();
        beat.enter(Phase::Apply, InputKind::Durable, start_ns);
        beat.group(model::GroupId(17));
        assert!(looked(&mut watchdog, start_ns + 200 * MS, 920).is_empty());
        let found = looked(&mut watchdog, start_ns + 300 * MS, 920);
        let [Finding::Began(stall)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(stall.to_string(), "test/920 in apply for 0.3 s (input durable), group 17");
        assert!(looked(&mut watchdog, start_ns + 400 * MS, 920).is_empty(), "told once");
        assert_eq!(watchdog.active().count(), 1);
        beat.idle();
        let found = looked(&mut watchdog, start_ns + 500 * MS, 920);
        assert!(matches!(&found[..], [Finding::Ended(_)]), "{found:?}");
        assert_eq!(watchdog.active().count(), 0);
    }

    #[test]
    fn a_second_stay_in_the_same_phase_is_another_stall() {
        let (beat, mut watchdog) = (Beat::task(Loop::Test, 921), Watchdog::default());
        let start_ns = clock::mono_ns();
        beat.enter(Phase::Sync, InputKind::None, start_ns);
        assert_eq!(looked(&mut watchdog, start_ns + 1_100 * MS, 921).len(), 1);
        beat.enter(Phase::Sync, InputKind::None, start_ns + 1_150 * MS);
        let found = looked(&mut watchdog, start_ns + 2_190 * MS, 921);
        assert!(matches!(&found[..], [Finding::Began(_), Finding::Ended(_)]), "{found:?}");
    }

    #[test]
    fn a_paused_host_blames_nobody() {
        let (beat, mut watchdog) = (Beat::task(Loop::Test, 922), Watchdog::default());
        let start_ns = clock::mono_ns();
        beat.enter(Phase::Step, InputKind::Tick, start_ns);
        assert!(looked(&mut watchdog, start_ns, 922).is_empty());
        let found = looked(&mut watchdog, start_ns + 9_000 * MS, 922);
        assert!(matches!(&found[..], [Finding::HostPaused { .. }]), "{found:?}");
        let found = looked(&mut watchdog, start_ns + 9_100 * MS, 922);
        assert!(matches!(&found[..], [Finding::Began(_)]), "it hangs all the same: {found:?}");
    }

    #[test]
    fn a_slow_disk_is_told_once_a_stuck_one_once_more_and_its_end_too() {
        let mut watchdog = Watchdog::default();
        let start_ns = clock::mono_ns();
        let mut look = |after_ms: u64, age_ms: Option<u64>| {
            let (op, bytes) = (IoOp::Sync, 7);
            let io = age_ms.map(|ms| IoInFlight { op, bytes, age_ns: ms * MS });
            let mut view = beat::tests::view(Loop::Journal, Phase::Idle);
            view.io = io;
            watchdog.look(start_ns + after_ms * MS, vec![view])
        };
        let (budget, fence) = (limits::DISK_BUDGET_MS, limits::DISK_FENCE_MS);
        assert!(look(0, Some(budget - 1)).is_empty());
        let told = look(100, Some(budget));
        assert!(matches!(&told[..], [Finding::DiskSlow(io)] if io.bytes == 7), "{told:?}");
        assert!(look(200, Some(budget + 100)).is_empty(), "told once");
        assert!(matches!(&look(300, Some(5))[..], [Finding::DiskAgain]), "another operation");
        assert!(look(400, None).is_empty());
        let told = look(500, Some(fence));
        assert!(matches!(&told[..], [Finding::DiskStuck(_)]), "{told:?}");
        assert!(matches!(&look(600, None)[..], [Finding::DiskAgain]));
    }

    #[test]
    fn rest_is_no_stall_except_for_loops_that_tick() {
        assert_eq!(threshold_ns(Loop::Journal, Phase::Idle), None);
        assert!(threshold_ns(Loop::Shard, Phase::Idle).is_some());
    }

    #[test]
    fn a_waiter_is_shown_with_the_lock_its_holder_and_both_sites() {
        let lock = std::sync::Arc::new(Lock::new(LockClass::TestOuter, ()));
        let held = lock.lock();
        let (wanted, (done, finished)) = (lock.clone(), mpsc::channel::<()>());
        let waiter = thread::spawn(move || {
            let beat = Beat::thread(Loop::Test, 923);
            beat.phase(Phase::Publish);
            drop(wanted.lock());
            beat.idle();
            finished.recv().expect_err("the test is over");
        });
        let waiting = || {
            let seen = beat::loops(clock::mono_ns()).into_iter().find(|view| view.index == 923);
            seen.is_some_and(|view| view.lock.is_some())
        };
        while !waiting() {
            thread::yield_now();
        }
        let now_ns = clock::mono_ns() + 1_100 * MS;
        let found = looked(&mut Watchdog::default(), now_ns, 923);
        let [Finding::Began(stall)] = &found[..] else { panic!("{found:?}") };
        let line = stall.to_string();
        assert!(
            line.contains("waits for lock test_outer at crates/telemetry/src/watchdog.rs:"),
            "{line}"
        );
        let holder = format!("held [exclusive] by thread {}", thread_name(clock::thread_id()));
        assert!(line.contains(&holder) && line.contains("taken at crates/telemetry/src"), "{line}");
        drop(held);
        drop(done);
        waiter.join().expect("no panic");
    }

    #[test]
    fn the_running_watchdog_counts_a_hanging_loop_and_its_age_is_shown() {
        let told = std::sync::Arc::new(AtomicU64::new(0));
        let tell = told.clone();
        let watchdog = spawn(move |finding| {
            if let Finding::Began(stall) = finding
                && stall.view.index == 924
            {
                tell.fetch_add(1, Ordering::Relaxed);
            }
        });
        let watchdog = watchdog.expect("a thread");
        let beat = Beat::task(Loop::Test, 924);
        beat.phase(Phase::Apply);
        let until_ns = clock::mono_ns() + 10_000 * MS;
        while told.load(Ordering::Relaxed) == 0 && clock::mono_ns() < until_ns {
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(told.load(Ordering::Relaxed), 1);
        assert!(metrics().stalls_total.at(Loop::Test, Phase::Apply).get() >= 1);
        publish();
        assert!(metrics().loop_heartbeat_age_seconds.at(Loop::Test).get() >= 250 * MS as i64);
        drop(beat);
        drop(watchdog);
    }
}
