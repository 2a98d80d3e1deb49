//! How long a partition is deaf: from `kill -9` of its leader to the next acknowledgement, seen
//! from clients that send a record to each partition every 10 ms. Of the partitions that the dead
//! broker led, the slowest counts.
//!
//! Two librdkafka clients watch. The one that is judged refreshes its metadata every 50 ms; beside
//! it one with stock settings, which looks for new leaders once a second, shows what users of that
//! client will see.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cluster::Cluster;
use crate::job::Job;
use crate::tally::Tally;
use crate::workspace;

const TOPIC: &str = "failover";
const PARTITIONS: i32 = 9;
pub const ROUNDS: u32 = 10;
const AIM_MS: f64 = 1000.0;
const LIMIT_MS: f64 = 2000.0;
/// One round in ten may pass the limit, by no more than this: a machine that others use too stands
/// still now and then.
const STRAY_MS: f64 = 10_000.0;
/// One round: the probe settles, the kill, the rest of the probe. Each round kills a little later,
/// because a stock client looks for leaders once a second, counted from its start.
const SETTLE_MS: u64 = 1_500;
const SETTLE_STEP_MS: u64 = 100;
const PROBE_SECONDS: u64 = 5;

/// Ten rounds, each with another partition's leader.
pub fn run(tally: &mut Tally, rounds: u32) {
    let mut cluster = None;
    tally.check("a cluster to kill leaders in", || {
        let started = Cluster::start("failover")?;
        started.create_topic(TOPIC, PARTITIONS)?;
        cluster = Some(started);
        Ok(String::new())
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    let (mut times, mut stock) = (Vec::new(), Vec::new());
    for number in 0..rounds {
        tally.check(&format!("failover {}", number + 1), || {
            let found = round(&mut cluster, number)?;
            times.push(found.slowest_ms);
            stock.push(found.stock_ms);
            let text = format!(
                "{:.0} ms for the slowest of {} partitions, {:.0} ms with stock librdkafka",
                found.slowest_ms, found.partitions, found.stock_ms
            );
            if found.slowest_ms > STRAY_MS {
                return Err(format!("{text}; the limit is {LIMIT_MS:.0} ms"));
            }
            Ok(text)
        });
    }
    tally.check("failover within the limit", || {
        let strays = times.iter().filter(|time| **time > LIMIT_MS).count();
        let text = format!("{strays} of {rounds} rounds above {LIMIT_MS:.0} ms");
        if strays > rounds.div_ceil(10) as usize { Err(text) } else { Ok(text) }
    });
    println!("      kill -9 to the next acknowledgement:");
    summary("attentive client", &mut times);
    summary("stock librdkafka", &mut stock);
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

fn summary(who: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    if let (Some(best), Some(worst)) = (times.first(), times.last()) {
        println!(
            "      {who}, {} times: best {best:.0}, median {:.0}, worst {worst:.0} ms; {} under \
             the aim of {AIM_MS:.0} ms",
            times.len(),
            times[times.len() / 2],
            times.iter().filter(|time| **time < AIM_MS).count()
        );
    }
}

struct Round {
    slowest_ms: f64,
    stock_ms: f64,
    partitions: usize,
}

fn round(cluster: &mut Cluster, number: u32) -> Result<Round, String> {
    let attentive = probe(cluster, "attentive")?;
    let stock = probe(cluster, "stock")?;
    let settle = SETTLE_MS + SETTLE_STEP_MS * u64::from(number);
    std::thread::sleep(Duration::from_millis(settle));
    let leaders = cluster.partitions(TOPIC)?;
    let partition = number % PARTITIONS.unsigned_abs();
    let victim = cluster.leader(TOPIC, partition.cast_signed())?;
    let killed_us = wall_us();
    cluster.kill(victim)?;
    let limit = Duration::from_secs(PROBE_SECONDS + 30);
    let (attentive, stock) = (attentive.wait(limit), stock.wait(limit));
    cluster.launch(victim)?;
    cluster.wait_ready()?;
    cluster.wait_led(TOPIC, PARTITIONS)?;
    let led = leaders.iter().filter(|p| p.leader == victim);
    let affected: Vec<i32> = led.map(|partition| partition.index).collect();
    Ok(Round {
        slowest_ms: slowest_ms(&parse(&attentive?)?, &affected, killed_us)?,
        stock_ms: slowest_ms(&parse(&stock?)?, &affected, killed_us)?,
        partitions: affected.len(),
    })
}

fn probe(cluster: &Cluster, who: &str) -> Result<Job, String> {
    let mut command = Command::new(workspace::program("client-rdkafka"));
    command.args(["probe", &cluster.bootstrap(), TOPIC]);
    command.args([PARTITIONS.to_string(), PROBE_SECONDS.to_string()]);
    command.arg(who);
    Job::spawn(&format!("probe-{who}"), command, cluster.dir())
}

/// From the kill to the next acknowledgement of the last affected partition.
pub fn slowest_ms(acks: &[Ack], affected: &[i32], killed_us: u64) -> Result<f64, String> {
    let mut slowest: f64 = 0.0;
    for partition in affected {
        let wait = next_ack_us(acks, *partition, killed_us);
        let wait = wait.ok_or_else(|| format!("partition {partition}: no acknowledgement"))?;
        slowest = slowest.max(wait as f64 / 1000.0);
    }
    Ok(slowest)
}

#[derive(Debug, Clone, Copy)]
pub struct Ack {
    pub partition: i32,
    pub sent_us: u64,
    pub acked_us: u64,
}

pub fn parse(text: &str) -> Result<Vec<Ack>, String> {
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
    use super::{next_ack_us, parse, slowest_ms};

    #[test]
    fn the_slowest_affected_partition_counts_and_silence_is_an_error() {
        let acks = parse("0\t101\t900\n1\t101\t2100\n").expect("two lines");
        assert_eq!(slowest_ms(&acks, &[0, 1], 100), Ok(2.0));
        assert_eq!(slowest_ms(&acks, &[0], 100), Ok(0.8));
        assert!(slowest_ms(&acks, &[0, 2], 100).is_err());
    }

    #[test]
    fn an_ack_that_was_on_its_way_does_not_count() {
        let acks = parse("0\t90\t105\n0\t101\t900\n1\t101\t102\n").expect("three lines");
        assert_eq!(next_ack_us(&acks, 0, 100), Some(800));
        assert_eq!(next_ack_us(&acks, 1, 100), Some(2));
        assert_eq!(next_ack_us(&acks, 2, 100), None);
    }
}
