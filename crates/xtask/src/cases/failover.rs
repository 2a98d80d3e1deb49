//! How long a partition is deaf: from `kill -9` of its leader to the next acknowledgement, seen
//! from a stock client that sends a record to each partition every 10 ms. Of the partitions that
//! the dead broker led, the slowest counts.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cluster::Cluster;
use crate::job::Job;
use crate::tally::Tally;
use crate::workspace;

const TOPIC: &str = "failover";
const PARTITIONS: i32 = 9;
pub const ROUNDS: i32 = 10;
const AIM_MS: f64 = 1000.0;
const LIMIT_MS: f64 = 2000.0;
/// One round: the probe settles, the kill, the rest of the probe.
const SETTLE: Duration = Duration::from_millis(1500);
const PROBE_SECONDS: u64 = 5;

/// Ten rounds, each with another partition's leader.
pub fn run(tally: &mut Tally, rounds: i32) {
    let mut cluster = None;
    tally.check("a cluster to kill leaders in", || {
        let started = Cluster::start("failover")?;
        started.create_topic(TOPIC, PARTITIONS)?;
        cluster = Some(started);
        Ok(String::new())
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    let mut times = Vec::new();
    for number in 0..rounds {
        tally.check(&format!("failover {}", number + 1), || {
            let found = round(&mut cluster, number % PARTITIONS)?;
            times.push(found.slowest_ms);
            let text = format!(
                "{:.0} ms for the slowest of {} partitions",
                found.slowest_ms, found.partitions
            );
            if found.slowest_ms > LIMIT_MS {
                return Err(format!("{text}; the limit is {LIMIT_MS:.0} ms"));
            }
            Ok(text)
        });
    }
    summary(&mut times);
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

fn summary(times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    if let (Some(best), Some(worst)) = (times.first(), times.last()) {
        println!(
            "      kill -9 to the next acknowledgement, {} times: best {best:.0}, median {:.0}, \
             worst {worst:.0} ms; {} under the aim of {AIM_MS:.0} ms",
            times.len(),
            times[times.len() / 2],
            times.iter().filter(|time| **time < AIM_MS).count()
        );
    }
}

struct Round {
    slowest_ms: f64,
    partitions: usize,
}

fn round(cluster: &mut Cluster, partition: i32) -> Result<Round, String> {
    let mut command = Command::new(workspace::program("client-rdkafka"));
    command.args(["probe", &cluster.bootstrap(), TOPIC]);
    command.args([PARTITIONS.to_string(), PROBE_SECONDS.to_string()]);
    let probe = Job::spawn("probe", command, cluster.dir())?;
    std::thread::sleep(SETTLE);
    let leaders = cluster.partitions(TOPIC)?;
    let victim = cluster.leader(TOPIC, partition)?;
    let killed_us = wall_us();
    cluster.kill(victim)?;
    let lines = probe.wait(Duration::from_secs(PROBE_SECONDS + 30));
    cluster.launch(victim)?;
    cluster.wait_ready()?;
    cluster.wait_led(TOPIC, PARTITIONS)?;
    let acks = parse(&lines?)?;
    let affected = leaders.iter().filter(|p| p.leader == victim);
    let mut waits = Vec::new();
    for partition in affected {
        let wait = next_ack_us(&acks, partition.index, killed_us);
        let wait = wait.ok_or_else(|| format!("partition {}: no ack", partition.index))?;
        waits.push(wait as f64 / 1000.0);
    }
    Ok(Round { slowest_ms: waits.iter().copied().fold(0.0, f64::max), partitions: waits.len() })
}

#[derive(Debug, Clone, Copy)]
struct Ack {
    partition: i32,
    sent_us: u64,
    acked_us: u64,
}

fn parse(text: &str) -> Result<Vec<Ack>, String> {
    let parse = |line: &str| {
        let mut words = line.split('\t');
        Some(Ack {
            partition: words.next()?.parse().ok()?,
            sent_us: words.next()?.parse().ok()?,
            acked_us: words.next()?.parse().ok()?,
        })
    };
    text.lines()
        .map(|line| parse(line).ok_or_else(|| format!("no acknowledgement: `{line}`")))
        .collect()
}

/// From the kill to the first acknowledgement of a record that was sent after it: one that was
/// already on its way back proves nothing.
fn next_ack_us(acks: &[Ack], partition: i32, killed_us: u64) -> Option<u64> {
    acks.iter()
        .filter(|ack| ack.partition == partition && ack.sent_us >= killed_us)
        .map(|ack| ack.acked_us.saturating_sub(killed_us))
        .min()
}

fn wall_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("the clock is past 1970").as_micros()).expect("fits until 586,912")
}

#[cfg(test)]
mod tests {
    use super::{next_ack_us, parse};

    #[test]
    fn an_ack_that_was_on_its_way_does_not_count() {
        let acks = parse("0\t90\t105\n0\t101\t900\n1\t101\t102\n").expect("three lines");
        assert_eq!(next_ack_us(&acks, 0, 100), Some(800));
        assert_eq!(next_ack_us(&acks, 1, 100), Some(2));
        assert_eq!(next_ack_us(&acks, 2, 100), None);
    }
}
