//! Lives of simulated clusters: promises over many seeds, the same life twice, planted bugs.
//!
//! A failing seed is printed with its violations; `glasslog-sim --seed N --verbose` tells it.

use sim::{Invariant, Plant, Profile, Reach, Reached, Report};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=100;

fn tell(report: &Report) -> String {
    let lines: Vec<String> = report
        .violations
        .iter()
        .map(|v| format!("{} ms {}: {}", v.at_ns / 1_000_000, v.invariant.as_str(), v.text))
        .collect();
    format!("seed {}: {}", report.seed, lines.join("; "))
}

#[test]
fn a_hundred_lives_keep_every_promise() {
    let profile = Profile::default();
    let mut reached = Reached::default();
    for seed in SEEDS {
        let report = sim::run(seed, &profile);
        println!("seed {seed} hash {:016x}", report.hash);
        assert!(report.is_sound(), "{}", tell(&report));
        let fired = report.faults_fired;
        assert!(fired >= profile.faults_min, "seed {seed}: only {fired} faults had an effect");
        assert!(report.simulated_ms >= profile.fault_seconds * 1_000, "seed {seed} ended early");
        reached.merge(&report.reached);
    }
    let rare = [Reach::Suspect, Reach::JournalFull, Reach::ReadWithoutLease];
    for (what, count) in reached.iter() {
        println!("{} {count}", what.as_str());
        // In this world nothing rots, so nobody is suspect; the others come with more seeds.
        assert!(count > 0 || rare.contains(&what), "no seed reached {}", what.as_str());
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
    println!("{}", tell(&report.expect("caught within 100 seeds")));
}

/// ... and so would somebody who only compares what brokers said with what they say later.
#[test]
fn sending_before_persisting_loses_what_was_acknowledged() {
    let visible =
        [Invariant::OneValue, Invariant::AckedIsKept, Invariant::OneLeader, Invariant::FreshReads];
    let report = caught_by(Plant::SendBeforePersist, &visible);
    println!("{}", tell(&report.expect("caught within 100 seeds")));
}

#[test]
fn acknowledging_before_the_commit_is_caught() {
    let report = caught_by(Plant::AckBeforeCommit, &[Invariant::AckedIsCommitted]);
    println!("{}", tell(&report.expect("caught within 100 seeds")));
}

#[test]
fn acknowledging_before_the_commit_loses_what_was_acknowledged() {
    let report = caught_by(Plant::AckBeforeCommit, &[Invariant::AckedIsKept]);
    println!("{}", tell(&report.expect("caught within 100 seeds")));
}
