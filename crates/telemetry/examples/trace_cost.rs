//! What traces cost a request that nobody keeps, in nanoseconds: its share of the waterfall, its
//! judgement, and a shard's marks.
//!
//! `cargo run --release -p telemetry --example trace_cost`

use std::hint::black_box;

use telemetry::labels::ProduceStage;
use telemetry::trace::{self, Caller, Mark, MarkKind, Setup, Way};
use telemetry::{Stamps, clock};

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

fn produced() -> Way {
    let mut stamps = Stamps::<ProduceStage>::new(clock::mono_ns());
    let start_ns = stamps.start_ns();
    for (stage, at) in ProduceStage::ALL.iter().zip([1, 3, 4, 9, 7, 30, 31, 32, 40]) {
        stamps.mark(*stage, start_ns + at * 20_000);
    }
    Way::Produce(stamps)
}

fn main() -> Result<(), String> {
    let way = produced();
    measure("its share of the waterfall", |_| trace::record(black_box(&way)));
    let judge = |_| {
        black_box(trace::judge(black_box(&way), false, None));
    };
    measure("its judgement, nothing exported", judge);
    // Nobody listens there; nothing is ever sent, since nothing is kept.
    let endpoint = Some("http://127.0.0.1:9".to_owned());
    trace::start(&Setup { broker: 1, endpoint, slow_ns: u64::MAX - 1, one_in: 1_000_000_000 })?;
    measure("its judgement, exported if worth it", judge);
    let header = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    measure("a caller's header read", |_| {
        black_box(Caller::parse(black_box(header)));
    });
    let ring = trace::ring();
    measure("a mark of a shard", |number| {
        let (kind, at_ns) = (MarkKind::Handed, number);
        ring.mark(black_box(Mark { kind, at_ns, group: 7, index: number, a: 1, b: 2 }));
    });
    Ok(())
}
