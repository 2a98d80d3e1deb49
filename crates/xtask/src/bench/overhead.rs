//! `bench --telemetry`: what all that is always on costs, on one build: brokers that look at
//! themselves beside the same program told not to (no metrics, stamps, slots, records, notes of
//! locks). Pairs are interleaved and change places, since the machine is another one every minute;
//! what is told is the ratio within pairs.

use std::time::Duration;

use super::parts::flood;
use crate::cases::planted;
use crate::cluster::Cluster;

const PAIRS: u32 = 7;
const SECONDS: u64 = 4;
const PARTITIONS: i32 = 6;
/// Records of 1 KiB that a second of the flood is sized for, and requests a second at the rate.
const FLOOD: u64 = 40_000;
const RATE: u64 = 500;
/// Figures of one run.
const FIGURES: [&str; 5] = [
    "1 KiB, client defaults, 6 partitions, records/s",
    "the same, broker CPU us/record",
    "500 single-record requests/s, p50 ms",
    "the same, p99 ms",
    "the same, broker CPU us/record",
];

/// Measures `[--pairs N] [--seconds N]`.
pub fn run(args: &[&str]) -> Result<(), String> {
    let (mut pairs, mut seconds) = (PAIRS, SECONDS);
    for pair in args.chunks(2) {
        match *pair {
            ["--pairs", value] => pairs = value.parse().map_err(|_| super::USAGE)?,
            ["--seconds", value] => seconds = value.parse().map_err(|_| super::USAGE)?,
            _ => return Err(super::USAGE.to_owned()),
        }
    }
    planted::build()?;
    let mut runs: Vec<[[f64; FIGURES.len()]; 2]> = Vec::new();
    for pair in 0..pairs {
        let order = if pair % 2 == 0 { [false, true] } else { [true, false] };
        let mut both = [[0.0; FIGURES.len()]; 2];
        for silent in order {
            both[usize::from(silent)] = measure(silent, Duration::from_secs(seconds))?;
            println!("pair {}, {}: {:?}", pair + 1, side(silent), both[usize::from(silent)]);
        }
        runs.push(both);
    }
    println!("\njournal.sync = group, three brokers, {pairs} pairs of {seconds} s\n");
    println!("| | with telemetry | without | with / without, median of pairs | of all pairs |");
    println!("|---|---:|---:|---:|---:|");
    for (at, name) in FIGURES.iter().enumerate() {
        let of = |silent: usize| runs.iter().map(|pair| pair[silent][at]).collect::<Vec<f64>>();
        let ratios: Vec<f64> = runs.iter().map(|pair| pair[0][at] / pair[1][at]).collect();
        let low = ratios.iter().copied().fold(f64::MAX, f64::min);
        let high = ratios.iter().copied().fold(0.0, f64::max);
        println!(
            "| {name} | {:.2} | {:.2} | {:.3} | {low:.3} to {high:.3} |",
            median(of(0)),
            median(of(1)),
            median(ratios.clone())
        );
    }
    Ok(())
}

fn side(silent: bool) -> &'static str {
    if silent { "without" } else { "with" }
}

fn measure(silent: bool, seconds: Duration) -> Result<[f64; FIGURES.len()], String> {
    let mut cluster = Cluster::prepare_planted("overhead", 3)?;
    if silent {
        cluster.set_env("GLASSLOG_SILENT", "1");
    }
    cluster.launch_all()?;
    cluster.wait_ready()?;
    cluster.create_topic("flood", PARTITIONS)?;
    // What is met for the first time is not measured.
    flood(&cluster, "flood", [1024, 20_000, 0, 0])?;
    let records = FLOOD * seconds.as_secs();
    let cpu = cluster.cpu_seconds()?;
    let fast = flood(&cluster, "flood", [1024, records, 0, 0])?;
    let fast_cpu = cluster.cpu_seconds()? - cpu;
    let asked = RATE * seconds.as_secs() * 2;
    let cpu = cluster.cpu_seconds()?;
    let single = flood(&cluster, "flood", [1024, asked, RATE, 1])?;
    let single_cpu = cluster.cpu_seconds()? - cpu;
    cluster.assert_alive()?;
    cluster.remove();
    Ok([
        records as f64 / fast[1],
        fast_cpu * 1e6 / records as f64,
        single[2] / 1000.0,
        single[3] / 1000.0,
        single_cpu * 1e6 / asked as f64,
    ])
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
