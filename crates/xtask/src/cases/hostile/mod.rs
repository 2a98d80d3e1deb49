//! Bytes and clients that mean harm, all at once, against real brokers: memory stays within its
//! bound, a producer beside them does not suffer, and each refusal is counted by its reason.

mod attacks;
mod bytes;

use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::job::Job;
use crate::tally::Tally;
use crate::workspace;

use attacks::Attacks;
pub use attacks::send_bomb;

/// What the producer beside the attackers writes to.
const TOPIC: &str = "beside";
/// What the attackers write to, and read without reading.
const VICTIM: &str = "victim";
const PARTITIONS: i32 = 3;
const VICTIM_RECORDS: u64 = 1_000;
const VICTIM_RECORD_BYTES: u64 = 10_000;
const RECORD_BYTES: u64 = 1_024;
const RATE: u64 = 500;
/// Longer than every attack, and than the broker's patience with each of them.
const SECONDS: u64 = 32;
const LIMIT: Duration = Duration::from_secs(90);
/// How long a client may be silent, or not read: so short that it shows within the phase.
const IDLE_MS: &str = "connections.max.idle.ms = 8000";
/// A record's way to its acknowledgement while 2,000 others mean harm. Measured on two cores that
/// also compiled: 106 ms. The bound tells harm from noise, not fast from slow.
const P99_MS_MAX: f64 = 1_000.0;
const SLOWEST_MS_MAX: f64 = 10_000.0;
/// A broker's largest resident size: its budget of 64 MiB, two open batches with a block of 32 MiB
/// each, and what it is made of, 2,000 connections included. Measured: 71 MiB.
const RESIDENT_MIB_MAX: u64 = 192;

/// What must have been refused, and where that is counted.
const REFUSALS: [(&str, &str); 11] = [
    ("glasslog_frames_refused_total", "why=\"too_large\""),
    ("glasslog_frames_refused_total", "why=\"negative_length\""),
    ("glasslog_frames_refused_total", "why=\"truncated\""),
    ("glasslog_frames_refused_total", "why=\"malformed\""),
    ("glasslog_frames_refused_total", "why=\"unknown_api\""),
    ("glasslog_frames_refused_total", "why=\"unsupported_version\""),
    ("glasslog_frames_refused_total", "why=\"too_many_elements\""),
    ("glasslog_frames_refused_total", "why=\"late\""),
    ("glasslog_connections_total", "outcome=\"idle\""),
    ("glasslog_connections_total", "outcome=\"not_reading\""),
    ("glasslog_kafka_errors_total", "code=\"INVALID_RECORD\""),
];

pub fn run(tally: &mut Tally) {
    let mut cluster = None;
    tally.check("a cluster to attack", || {
        let started = Cluster::start_with("hostile", &[IDLE_MS])?;
        started.create_topic(TOPIC, PARTITIONS)?;
        started.create_topic(VICTIM, 1)?;
        flood(&started, "fill", VICTIM, VICTIM_RECORD_BYTES, VICTIM_RECORDS, 0)?.wait(LIMIT)?;
        cluster = Some(started);
        Ok(String::new())
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    tally.check("a producer beside 10,000 malformed frames and 2,000 connections", || {
        attacked(&cluster)
    });
    tally.check("memory stays within its bound", || resident(&cluster));
    tally.check("each refusal is counted by its reason", || refusals(&cluster));
    tally.check("nothing was stored, nobody died", || {
        cluster.assert_alive()?;
        let stored: i64 = cluster.high_watermarks(VICTIM)?.iter().sum();
        // The flood's own warm-up is in it.
        let kept = stored as u64 - VICTIM_RECORDS;
        if kept < VICTIM_RECORDS { Ok(String::new()) } else { Err(format!("{stored} records")) }
    });
    tally.check("all three stop when told to", || cluster.stop().map(|()| String::new()));
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

fn flood(
    cluster: &Cluster,
    name: &str,
    topic: &str,
    bytes: u64,
    records: u64,
    rate: u64,
) -> Result<Job, String> {
    let mut command = Command::new(workspace::program("client-rdkafka"));
    command.args(["flood", &cluster.bootstrap(), topic]);
    command.args([bytes, records, rate, 0].map(|number| number.to_string()));
    Job::spawn(name, command, cluster.dir())
}

fn attacked(cluster: &Cluster) -> Result<String, String> {
    let before = flood(cluster, "before", TOPIC, RECORD_BYTES, RATE * 4, RATE)?.wait(LIMIT)?;
    let beside = flood(cluster, "beside", TOPIC, RECORD_BYTES, RATE * SECONDS, RATE)?;
    let began = Instant::now();
    let brokers = cluster.ids().into_iter().map(|id| cluster.address(id)).collect();
    let leader = cluster.address(cluster.leader(VICTIM, 0)?);
    let attacks = Attacks { brokers, leader, topic: VICTIM.to_owned() };
    let said = attacks.run(Duration::from_secs(SECONDS - 4))?;
    let lasted = began.elapsed().as_secs();
    let (quiet, loud) = (latencies(&before)?, latencies(&beside.wait(LIMIT)?)?);
    let text = format!(
        "{said}, {lasted} s; p50 {:.1}, p99 {:.1}, slowest {:.0} ms (without: {:.1}, {:.1}, {:.0})",
        loud[0], loud[1], loud[3], quiet[0], quiet[1], quiet[3]
    );
    if unharmed(quiet, loud) { Ok(text) } else { Err(text) }
}

/// On a machine that is slow without any attack, no slower than that explains.
fn unharmed(quiet: [f64; 4], loud: [f64; 4]) -> bool {
    loud[1] <= P99_MS_MAX.max(2.0 * quiet[1]) && loud[3] <= SLOWEST_MS_MAX.max(2.0 * quiet[3])
}

/// p50, p99, p99.9 and the slowest, milliseconds.
fn latencies(line: &str) -> Result<[f64; 4], String> {
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [_records, _seconds, p50, p99, p999, max] => {
            Ok([p50, p99, p999, max].map(|us| us / 1_000.0))
        }
        _ => Err(format!("not understood: `{line}`")),
    }
}

fn resident(cluster: &Cluster) -> Result<String, String> {
    let peaks: Result<Vec<u64>, String> = cluster.pids().into_iter().map(peak_mib).collect();
    let peaks = peaks?;
    let text = format!("peaks of {peaks:?} MiB, at most {RESIDENT_MIB_MAX}");
    if peaks.iter().any(|peak| *peak > RESIDENT_MIB_MAX) { Err(text) } else { Ok(text) }
}

/// The largest resident size a process ever had.
fn peak_mib(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib >> 10).ok_or_else(|| format!("{path}: no VmHWM"))
}

fn refusals(cluster: &Cluster) -> Result<String, String> {
    let pages = cluster.metrics()?;
    let mut missing = Vec::new();
    let mut counted = 0.0;
    for (name, label) in REFUSALS {
        let sum: f64 = pages.iter().map(|page| page.labelled(name, label)).sum();
        if sum < 1.0 {
            missing.push(format!("{name}{{{label}}}"));
        }
        counted += sum;
    }
    if missing.is_empty() {
        Ok(format!("{counted} refusals of {} kinds", REFUSALS.len()))
    } else {
        Err(format!("not counted: {}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::{latencies, unharmed};

    #[test]
    fn the_flood_says_microseconds() {
        assert_eq!(latencies("100 1.5 1000 2000 3000 4000\n"), Ok([1.0, 2.0, 3.0, 4.0]));
        assert!(latencies("nothing").is_err());
    }

    #[test]
    fn harm_is_told_from_a_slow_machine() {
        let (quick, slow) = ([1.0, 13.0, 20.0, 40.0], [120.0, 2_337.0, 2_400.0, 2_441.0]);
        assert!(unharmed(quick, [5.0, 900.0, 950.0, 3_000.0]));
        assert!(!unharmed(quick, [5.0, 1_100.0, 1_500.0, 3_000.0]));
        assert!(!unharmed(quick, [5.0, 900.0, 950.0, 11_000.0]));
        assert!(unharmed(slow, [74.6, 2_840.0, 3_000.0, 3_234.0]));
        assert!(!unharmed(slow, [74.6, 5_000.0, 5_100.0, 5_200.0]));
    }
}
