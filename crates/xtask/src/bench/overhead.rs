//! `bench --telemetry`: what all that is always on costs. One cluster, whose brokers are told to
//! look at themselves and not to, in turn (no metrics, stamps, slots, records, notes of locks, looks
//! of the watchdog): what is compared are the same processes, files and connections, seconds apart,
//! in pairs that change places, since the machine is another one every minute. What is told is the
//! ratio within pairs; and where the processor time goes, by thread, as the scheduler counts it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::parts::flood;
use crate::cases::planted;
use crate::cluster::Cluster;

const PAIRS: u32 = 15;
const SECONDS: u64 = 2;
const PARTITIONS: i32 = 6;
const TOPIC: &str = "flood";
/// Records of 1 KiB that a second of the flood is sized for, and requests a second at the rate.
const FLOOD: u64 = 40_000;
const RATE: u64 = 500;
/// After the turn: what was under way on the other side is over, and the watchdog looks again.
const TURNED: Duration = Duration::from_millis(1_500);
/// Figures of one run.
const FIGURES: [&str; 5] = [
    "1 KiB, client defaults, 6 partitions, records/s",
    "the same, broker CPU us/record",
    "500 single-record requests/s, p50 ms",
    "the same, p99 ms",
    "the same, broker CPU us/request",
];
/// What the time of threads is counted by: a record of the flood, a request at the rate.
const LOADS: [&str; 2] = ["us/1,000 records of the flood", "us/request at the rate"];
/// Threads that take less, in these units, are told as one.
const FEW_US: [f64; 2] = [50.0, 1.0];

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
    let mut cluster = Cluster::prepare_planted("overhead", 3)?;
    cluster.launch_all()?;
    cluster.wait_ready()?;
    cluster.create_topic(TOPIC, PARTITIONS)?;
    // What is met for the first time is not measured.
    [false, true].into_iter().try_for_each(|silent| measure(&cluster, silent, 1).map(drop))?;
    let mut runs = Vec::new();
    for pair in 0..pairs {
        let mut both = [Run::default(), Run::default()];
        let order = if pair % 2 == 0 { [false, true] } else { [true, false] };
        for silent in order {
            let ran = measure(&cluster, silent, seconds)?;
            println!("pair {}, {}: {:.2?}", pair + 1, side(silent), ran.figures);
            both[usize::from(silent)] = ran;
        }
        runs.push(both);
    }
    cluster.assert_alive()?;
    cluster.remove();
    println!("\njournal.sync = group, three brokers, {pairs} pairs of {seconds} s\n");
    println!("{}\n\n{}\n\n{}", figures(&runs), threads(&runs, 0), threads(&runs, 1));
    Ok(())
}

fn side(silent: bool) -> &'static str {
    if silent { "without" } else { "with" }
}

/// What was measured once, on one side.
#[derive(Default)]
struct Run {
    figures: [f64; FIGURES.len()],
    /// Microseconds of the threads of a name, under each of the [`LOADS`].
    threads_us: [BTreeMap<String, f64>; LOADS.len()],
}

/// With telemetry, and without.
type Pair = [Run; 2];

fn measure(cluster: &Cluster, silent: bool, seconds: u64) -> Result<Run, String> {
    let brokers = cluster.ids();
    brokers.iter().try_for_each(|id| cluster.plant(*id, "silent", silent.into()))?;
    std::thread::sleep(TURNED);
    let records = FLOOD * seconds;
    let (fast, fast_cpu) = measured(cluster, [1024, records, 0, 0])?;
    let asked = RATE * seconds * 2;
    let (single, single_cpu) = measured(cluster, [1024, asked, RATE, 1])?;
    let us = |ns: u64, of: u64| ns as f64 / 1e3 / of as f64;
    let each = |took: BTreeMap<String, u64>, of: f64| {
        took.into_iter().map(|(name, ns)| (name, ns as f64 / 1e3 / of)).collect()
    };
    Ok(Run {
        figures: [
            records as f64 / fast[1],
            us(fast_cpu.values().sum(), records),
            single[2] / 1000.0,
            single[3] / 1000.0,
            us(single_cpu.values().sum(), asked),
        ],
        threads_us: [each(fast_cpu, records as f64 / 1e3), each(single_cpu, asked as f64)],
    })
}

/// What the client says of a run, and what each of the brokers' threads took for it.
fn measured(
    cluster: &Cluster,
    shape: [u64; 4],
) -> Result<(Vec<f64>, BTreeMap<String, u64>), String> {
    let before = cluster.threads_cpu_ns()?;
    let told = flood(cluster, TOPIC, shape)?;
    let mut took = cluster.threads_cpu_ns()?;
    for (name, ns) in &mut took {
        *ns = ns.saturating_sub(before.get(name).copied().unwrap_or(0));
    }
    Ok((told, took))
}

fn figures(runs: &[Pair]) -> String {
    let mut lines = vec![
        "| | with telemetry | without | with / without, median of pairs | middle half |".to_owned(),
        "|---|---:|---:|---:|---:|".to_owned(),
    ];
    for (at, name) in FIGURES.iter().enumerate() {
        let of = |side: usize| runs.iter().map(|pair| pair[side].figures[at]).collect();
        let ratio = |pair: &Pair| pair[0].figures[at] / pair[1].figures[at];
        let ratios: Vec<f64> = runs.iter().map(ratio).collect();
        lines.push(format!(
            "| {name} | {:.2} | {:.2} | {:.3} | {:.3} to {:.3} |",
            quantile(of(0), 2),
            quantile(of(1), 2),
            quantile(ratios.clone(), 2),
            quantile(ratios.clone(), 1),
            quantile(ratios, 3),
        ));
    }
    lines.join("\n")
}

fn threads(runs: &[Pair], load: usize) -> String {
    let title = LOADS[load];
    let mut lines = vec![
        format!("| thread, {title} | with telemetry | without | more, median of pairs |"),
        "|---|---:|---:|---:|".to_owned(),
    ];
    let us = |run: &Run, name: &str| run.threads_us[load].get(name).copied().unwrap_or(0.0);
    let names = runs.first().into_iter().flat_map(|pair| pair[0].threads_us[load].keys());
    let median = |of: &dyn Fn(&Pair) -> f64| quantile(runs.iter().map(of).collect(), 2);
    let (many, few): (Vec<&String>, Vec<&String>) =
        names.partition(|name| median(&|pair| us(&pair[0], name)) >= FEW_US[load]);
    let mut line = |title: &str, sum: &dyn Fn(&Run) -> f64| {
        lines.push(format!(
            "| {title} | {:.1} | {:.1} | {:+.1} |",
            median(&|pair| sum(&pair[0])),
            median(&|pair| sum(&pair[1])),
            median(&|pair| sum(&pair[0]) - sum(&pair[1])),
        ));
    };
    many.into_iter().for_each(|name| line(name, &|run| us(run, name)));
    line("all others", &|run| few.iter().map(|name| us(run, name)).sum());
    lines.join("\n")
}

/// So many quarters of the way up.
fn quantile(mut all: Vec<f64>, quarters: usize) -> f64 {
    all.sort_by(f64::total_cmp);
    let last = all.len().saturating_sub(1);
    all.get((last * quarters + 2) / 4).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_readings_that_were_made() {
        let all = vec![5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!([1, 2, 3].map(|quarters| quantile(all.clone(), quarters)), [2.0, 3.0, 4.0]);
        assert_eq!(quantile(vec![7.0], 3), 7.0);
        assert!(quantile(Vec::new(), 2).is_nan());
    }
}
