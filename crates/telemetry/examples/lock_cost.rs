//! What looking costs on this machine, in nanoseconds per call: the clock, a counter, a local
//! histogram, a timed step, and `Lock` beside the raw mutex it wraps.
//!
//! `cargo run --release -p telemetry --example lock_cost`

use std::hint::black_box;

use telemetry::labels::{InputKind, LockClass, Loop, Phase, ProduceStage};
use telemetry::{Beat, Lock, RwLock, Stamps, clock, metrics};

const ROUNDS: u64 = 2_000_000;
/// The best of so many: neighbours on a shared machine only ever add.
const TRIES: u32 = 7;

fn measure(name: &str, mut work: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..TRIES {
        let start = clock::boot_ns();
        for _ in 0..ROUNDS {
            work();
        }
        best = best.min((clock::boot_ns() - start) as f64 / ROUNDS as f64);
    }
    println!("{name:<44} {best:>6.1} ns");
    best
}

fn main() {
    let raw = parking_lot::Mutex::new(0u64);
    let lock = Lock::new(LockClass::TailCache, 0u64);
    let shared = RwLock::new(LockClass::Views, 0u64);
    measure("clock::boot_ns", || {
        black_box(clock::boot_ns());
    });
    measure("clock::mono_ns", || {
        black_box(clock::mono_ns());
    });
    measure("counter inc", || metrics().raft_ticks_total.inc());
    let local = metrics().turn_inputs.local();
    measure("local histogram observe", || local.observe(black_box(7)));
    let beat = Beat::thread(Loop::Shard, 0);
    measure("beat.phase", || beat.phase(Phase::Flush));
    measure("a step, timed", || {
        let start = clock::mono_ns();
        beat.enter(Phase::Step, InputKind::Message, start);
        let took = clock::mono_ns() - start;
        metrics().step_seconds.at(InputKind::Message).observe(took);
    });
    measure("nine stamps, observed", || {
        let mut stamps = Stamps::<ProduceStage>::new(1_000);
        for (at, stage) in ProduceStage::ALL.iter().enumerate() {
            stamps.mark(*stage, black_box(1_000 + at as u64 * 100));
        }
        telemetry::probe::produced(&stamps);
    });
    measure("parking_lot::Mutex lock and unlock", || *raw.lock() += 1);
    let own = measure("Lock lock and unlock", || *lock.lock() += 1);
    measure("RwLock read and unlock", || {
        black_box(*shared.read());
    });
    println!("Lock's budget is 60 ns: {}", if own <= 60.0 { "kept" } else { "BROKEN" });
}
