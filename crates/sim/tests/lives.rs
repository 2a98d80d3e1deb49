//! Lives of simulated clusters: promises over many seeds, the same life twice, planted bugs.
//!
//! A failing seed is printed with its violations; `glasslog-sim --seed N --verbose` tells it.

use sim::{Invariant, Plant, Profile, Report};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=20;

fn tell(report: &Report) -> String {
    let lines: Vec<String> = report
        .violations
        .iter()
        .map(|v| format!("{} ms {}: {}", v.at_ns / 1_000_000, v.invariant.as_str(), v.text))
        .collect();
    format!("seed {}: {}", report.seed, lines.join("; "))
}

/// All of them, on every processor.
fn lives(profile: &Profile) -> Vec<Report> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let share = move |thread| {
        let seeds = SEEDS.filter(move |seed| seed % threads == thread);
        seeds.map(|seed| sim::run(seed, profile)).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || share(thread))).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a life ends")).collect()
    })
}

/// A few; `cargo xtask sim --seeds N` lives more, and says which corners they reached.
#[test]
fn lives_keep_every_promise() {
    let profile = Profile::default();
    for report in lives(&profile) {
        let (seed, fired) = (report.seed, report.faults_fired);
        println!("seed {seed} hash {:016x}", report.hash);
        assert!(report.is_sound(), "{}", tell(&report));
        assert!(fired >= profile.faults_min, "seed {seed}: only {fired} faults had an effect");
        assert!(report.simulated_ms >= profile.fault_seconds * 1_000, "seed {seed} ended early");
        assert!(report.operations >= 2_000, "seed {seed} did too little");
    }
}

#[test]
fn the_same_seed_twice_gives_the_same_life() {
    let profile = Profile { record: true, ..Profile::default() };
    for seed in [1, 2, 3] {
        let (one, two) = (sim::run(seed, &profile), sim::run(seed, &profile));
        let differs = one.lines.iter().zip(&two.lines).position(|(a, b)| a != b);
        assert_eq!(differs.map(|at| &one.lines[at]), None, "seed {seed} told two lives");
        assert_eq!((one.hash, one.events), (two.hash, two.events));
        let silent = sim::run(seed, &Profile::default());
        assert_eq!(silent.hash, one.hash, "who listens changes nothing");
        assert_ne!(sim::run(seed + 100, &Profile::default()).hash, one.hash);
    }
}

/// The first seed in which `plant` breaks one of `promises`.
fn caught_by(plant: Plant, promises: &[Invariant]) -> Option<Report> {
    let profile = Profile { plant: Some(plant), ..Profile::default() };
    SEEDS
        .map(|seed| sim::run(seed, &profile))
        .find(|report| report.violations.iter().any(|v| promises.contains(&v.invariant)))
}

/// The oracle knows what is durable: it sees the defect itself.
#[test]
fn sending_before_persisting_is_caught() {
    let report = caught_by(Plant::SendBeforePersist, &[Invariant::CommittedIsDurable]);
    println!("{}", tell(&report.expect("caught within these seeds")));
}

/// ... and so would somebody who only compares what brokers said with what they say later.
#[test]
fn sending_before_persisting_loses_what_was_acknowledged() {
    let visible =
        [Invariant::OneValue, Invariant::AckedIsKept, Invariant::OneLeader, Invariant::FreshReads];
    let report = caught_by(Plant::SendBeforePersist, &visible);
    println!("{}", tell(&report.expect("caught within these seeds")));
}

#[test]
fn acknowledging_before_the_commit_is_caught() {
    let report = caught_by(Plant::AckBeforeCommit, &[Invariant::AckedIsCommitted]);
    println!("{}", tell(&report.expect("caught within these seeds")));
}

#[test]
fn acknowledging_before_the_commit_loses_what_was_acknowledged() {
    let report = caught_by(Plant::AckBeforeCommit, &[Invariant::AckedIsKept]);
    println!("{}", tell(&report.expect("caught within these seeds")));
}

/// Those that a few lives catch; `cargo xtask mutants` runs all of them.
#[test]
fn planted_bugs_are_caught() {
    for plant in Plant::ALL {
        if matches!(plant, Plant::LeaseOnTicks | Plant::InstalledTooEarly) || !plant.is_here() {
            continue;
        }
        let profile = Profile { plant: Some(*plant), ..Profile::default() };
        let caught = SEEDS.map(|seed| sim::run(seed, &profile)).find(|r| !r.is_sound());
        let report = caught.unwrap_or_else(|| panic!("{} is not caught", plant.as_str()));
        println!("{}: {}", plant.as_str(), tell(&report));
    }
}
