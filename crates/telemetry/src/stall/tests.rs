//! Stalls with a planted cause, and what is said about them.

use std::sync::{Arc, mpsc};
use std::thread;

use super::*;
use crate::beat::{self, Beat};
use crate::labels::{InputKind, IoOp, LockClass, Loop, Phase};
use crate::lock::{Lock, lenient_here};
use crate::watchdog::Watchdog;

const MS: u64 = 1_000_000;

/// What an explainer says about the loop `index`, `later_ms` from now.
fn explained(index: u16, later_ms: u64) -> StallRecord {
    let now_ns = clock::mono_ns() + later_ms * MS;
    let views = beat::loops(now_ns);
    let mut watchdog = Watchdog::default();
    let own = views.iter().filter(|view| view.index == index).cloned().collect();
    watchdog.look(now_ns, own);
    let (explainer, waiting) = (Explainer::default(), lock::waiting(now_ns));
    let stall = watchdog.active().next().expect("stalled").clone();
    explainer.explain(&stall.view, &views, &waiting, &mut BTreeMap::new())
}

/// Runs `f` on a thread of its own as loop `index`, in `phase`.
fn as_loop(
    index: u16,
    phase: Phase,
    f: impl FnOnce(&Beat) + Send + 'static,
) -> thread::JoinHandle<()> {
    let run = move || {
        lenient_here();
        let beat = Beat::thread(Loop::Test, index);
        beat.phase(phase);
        f(&beat);
    };
    thread::Builder::new().name(format!("loop-{index}")).spawn(run).expect("a thread")
}

fn until_waits(index: u16) {
    let waits =
        || beat::loops(clock::mono_ns()).iter().any(|v| v.index == index && v.lock.is_some());
    while !waits() {
        thread::yield_now();
    }
}

/// Two threads that take the same two locks in opposite order: the failure that froze an earlier
/// system after ninety seconds, every time. A try with a pause stands for the second lock, so that
/// the test can end.
#[test]
fn a_deadlock_is_named_with_both_threads_both_locks_and_all_four_places() {
    let one = Arc::new(Lock::new(LockClass::TestOuter, ()));
    let two = Arc::new(Lock::new(LockClass::TestInner, ()));
    let (first, other) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    // Held by loop 930 and by a thread that is no loop; each then wants the other's. They are
    // never freed: the two threads are leaked on purpose, with their locks.
    let (a, b) = (one.clone(), two.clone());
    let ready = first.0.clone();
    as_loop(930, Phase::Flush, move |_| {
        let _held = a.lock();
        ready.send(()).expect("the test listens");
        other.1.recv().expect("the test speaks");
        drop(b.lock());
    });
    first.1.recv().expect("it holds the first");
    let (a, b) = (one, two);
    let query = move || {
        lenient_here();
        let _held = b.lock();
        first.0.send(()).expect("the test listens");
        drop(a.lock());
    };
    thread::Builder::new().name("query".into()).spawn(query).expect("a thread");
    first.1.recv().expect("it holds the second");
    other.0.send(()).expect("the loop listens");
    until_waits(930);
    let record = loop {
        let record = explained(930, 1_100);
        if record.chain.len() == 2 {
            break record;
        }
        thread::yield_now();
    };
    assert_eq!(record.cause, "deadlock", "{record:?}");
    let says = &record.says;
    for part in [
        "loop-930 (",
        "query (",
        "waits for test_inner[exclusive] at crates/telemetry/src/stall/tests.rs:",
        "waits for test_outer[exclusive] at crates/telemetry/src/stall/tests.rs:",
        "taken at crates/telemetry/src/stall/tests.rs:",
    ] {
        assert!(says.contains(part), "{part} in {says}");
    }
    assert_eq!(says.matches("taken at").count(), 2, "{says}");
    let labels = record
        .sample()
        .get_label()
        .iter()
        .map(|l| format!("{}={}", l.name(), l.value()))
        .collect::<Vec<_>>();
    assert!(labels.contains(&"resource=test_inner".to_owned()), "{labels:?}");
    assert!(labels.contains(&"holder=query".to_owned()), "{labels:?}");
}

#[test]
fn who_waits_for_a_lock_learns_what_its_holder_waits_for() {
    let lock = Arc::new(Lock::new(LockClass::TestOuter, ()));
    let ((ready, is_ready), (done, is_done)) = (mpsc::channel(), mpsc::channel::<()>());
    let held = lock.clone();
    let disk = as_loop(931, Phase::Sync, move |beat| {
        let _held = held.lock();
        let started = beat.io(IoOp::Sync, 4096);
        ready.send(()).expect("the test listens");
        is_done.recv().expect_err("the test is over");
        beat.io_done(started);
    });
    is_ready.recv().expect("the lock is held");
    let wanted = lock.clone();
    let waiter = as_loop(932, Phase::Publish, move |_| drop(wanted.lock()));
    until_waits(932);
    let record = explained(932, 1_100);
    assert_eq!(record.cause, "fsync_inflight", "{record:?}");
    assert_eq!(record.root.as_ref().map(|root| root.name.as_str()), Some("test/931"));
    assert!(
        record.says.contains("; test/931 is in sync; sync of 4096 bytes in flight"),
        "{}",
        record.says
    );
    drop(done);
    disk.join().expect("no panic");
    waiter.join().expect("no panic");
}

#[test]
fn causes_without_locks_are_told_apart() {
    let cases = [(933, Phase::ChannelFull, "channel_full"), (934, Phase::Apply, "apply_slow")];
    for (index, phase, cause) in cases {
        let (done, is_done) = mpsc::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let sleeper = as_loop(index, phase, move |_| {
            ready.send(()).expect("the test listens");
            is_done.recv().expect_err("the test is over");
        });
        is_ready.recv().expect("it runs");
        assert_eq!(explained(index, 1_100).cause, cause);
        drop(done);
        sleeper.join().expect("no panic");
    }
    let spinning = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let spins = spinning.clone();
    let spinner = as_loop(935, Phase::Step, move |beat| {
        beat.enter(Phase::Step, InputKind::Tick, clock::mono_ns());
        while spins.load(std::sync::atomic::Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    while !beat::loops(clock::mono_ns()).iter().any(|v| v.index == 935 && v.phase == Phase::Step) {
        thread::yield_now();
    }
    let cause = explained(935, 1_100).cause;
    spinning.store(false, std::sync::atomic::Ordering::Relaxed);
    spinner.join().expect("no panic");
    assert_eq!(cause, "cpu_busy");
}

#[test]
fn a_stall_is_shown_while_it_lasts_and_kept_when_it_ended() {
    let beat = Beat::task(Loop::Test, 936);
    let start_ns = clock::mono_ns();
    beat.enter(Phase::Apply, InputKind::Durable, start_ns);
    let shown: &'static Mutex<Shown> = Box::leak(Box::default());
    let (mut watchdog, mut explainer) = (Watchdog::default(), Explainer::showing(shown));
    let mut look = |now_ns| {
        let own: Vec<LoopView> =
            beat::loops(now_ns).into_iter().filter(|view| view.index == 936).collect();
        watchdog.look(now_ns, own.clone());
        explainer.look(now_ns, &own, watchdog.active());
        shown.lock().expect("no panic").records()
    };
    let lasting = look(start_ns + 300 * MS);
    assert_eq!((lasting[0].cause, lasting[0].ended_ms), ("apply_slow", None));
    let family = super::family(lasting);
    let [metric] = family.get_metric() else { panic!("one series: {family:?}") };
    let has = |name, value| {
        metric.get_label().iter().any(|label| label.name() == name && label.value() == value)
    };
    assert!(has("loop", "test/936") && has("cause", "apply_slow") && has("tier", "background"));
    assert_eq!(metric.get_gauge().get_value(), 0.3);
    beat.idle();
    let after = look(start_ns + 400 * MS);
    assert!(after.len() == 1 && after[0].ended_ms.is_some(), "kept: {after:?}");
    assert!(super::family(after).get_metric().is_empty());
}
