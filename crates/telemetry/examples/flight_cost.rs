//! What the flight recorder costs on this machine, in nanoseconds per record: without a recorder,
//! into a ring while its file is being mirrored, and the check before an ordinary event.
//!
//! `cargo run --release -p telemetry --example flight_cost`

use std::hint::black_box;

use telemetry::flight::{self, Setup, kinds};
use telemetry::labels::{Loop, MessageType};
use telemetry::{Beat, clock};

const ROUNDS: u64 = 1_000_000;
/// The best of so many: neighbours on a shared machine only ever add.
const TRIES: u32 = 9;

fn measure(name: &str, mut work: impl FnMut(u64)) {
    let mut best = f64::MAX;
    for _ in 0..TRIES {
        let start = clock::boot_ns();
        (0..ROUNDS).for_each(&mut work);
        best = best.min((clock::boot_ns() - start) as f64 / ROUNDS as f64);
    }
    println!("{name:<44} {best:>6.1} ns");
}

fn message(index: u64) {
    let index = black_box(index);
    kinds::message_sent(7, index, index, 2, 5, 5, 1, MessageType::Append, false);
}

fn main() {
    measure("a record, no recorder", message);
    let dir = std::env::temp_dir().join(format!("glasslog-flight-cost-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir_all(&dir) {
        println!("{}: {error}", dir.display());
        return;
    }
    let beside = move || {
        let _beat = Beat::thread(Loop::Test, 0);
        measure("clock::mono_ns", |_| {
            black_box(clock::mono_ns());
        });
        measure("a message", message);
        measure("a small one", |group| kinds::serving(black_box(group), 5));
        measure("is it one of many?", |index| {
            black_box(flight::ordinary(black_box(index)));
        });
    };
    flight::start(&Setup { data_dir: &dir, broker: 1, connection_threads: 0 });
    if std::thread::spawn(beside).join().is_err() {
        println!("it panicked");
    }
    let _ = std::fs::remove_dir_all(&dir);
}
