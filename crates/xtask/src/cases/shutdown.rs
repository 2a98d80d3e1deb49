//! Ends of every kind under load: a broker that is told to stop, killed, restarted, cycled. An
//! idempotent producer writes numbered records all the while; afterwards each one acknowledged is
//! there once, in order, and every start after an orderly end found what that end wrote down.
//!
//! Rolling restarts are also watched from outside: how long a partition acknowledged nothing.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clients::{Client, Producing};
use crate::cluster::Cluster;
use crate::job::Job;
use crate::oracle;
use crate::segments;
use crate::tally::Tally;
use crate::workspace;

const PARTITIONS: i32 = 3;
/// Records a second; each passes every codec, so a slice of it goes with a producer of its own.
const RATE: u64 = 1_000;
const PRODUCE_LIMIT: Duration = Duration::from_secs(150);
const SETTLE: Duration = Duration::from_millis(1_500);
/// Between two SIGTERMs of the rapid cycles.
const CYCLE: Duration = Duration::from_millis(1_500);
const CYCLES: usize = 8;
/// An orderly restart may silence a partition for so long, seen by an attentive client.
const GAP_LIMIT_MS: f64 = 2_000.0;
const GAP_AIM_MS: f64 = 500.0;
const PROBE_SECONDS: u64 = 16;

/// Every scenario, on one broker and on three.
pub fn run(tally: &mut Tally) {
    cluster(
        tally,
        "shutdown-alone",
        || Cluster::start_alone("shutdown-alone"),
        |tally, cluster| {
            tally.check("one broker: SIGTERM in mid-flight", || restart_alone(cluster));
            tally.check("one broker: rapid cycles of SIGTERM and start", || {
                cycles(cluster, "cycled")
            });
            tally
                .check("one broker: a second SIGTERM ends it at once, and well", || twice(cluster));
        },
    );
    let any_order = || Cluster::start_slowly("shutdown-three", [2, 3, 1]);
    cluster(tally, "three brokers, started in any order", any_order, |tally, cluster| {
        tally.check("each broker's listener takes a producer", || listeners(cluster));
        tally.check("a leader killed during produce", || {
            written(cluster, "leader", 6, |cluster| killed(cluster, "leader", true))
        });
        tally.check("a follower killed and rejoined", || {
            written(cluster, "follower", 6, |cluster| killed(cluster, "follower", false))
        });
        tally.check("a topic is made by producing to it while nobody leads the metadata", || {
            made_meanwhile(cluster)
        });
        tally.check("rolling restarts under load", || rolling(cluster));
        tally.check("rapid cycles of SIGTERM and start", || cycles(cluster, "cycled"));
        tally.check("replicas are byte-identical after all that", || identical(cluster));
    });
}

/// Runs `scenarios` in a cluster, and looks at what the brokers say at the end.
fn cluster(
    tally: &mut Tally,
    name: &str,
    start: impl FnOnce() -> Result<Cluster, String>,
    scenarios: impl FnOnce(&mut Tally, &mut Cluster),
) {
    let mut started = None;
    tally.check(name, || {
        started = Some(start()?);
        Ok(String::new())
    });
    let Some(mut cluster) = started else { return };
    let failed = tally.failed;
    scenarios(tally, &mut cluster);
    tally.check("every start after an orderly end found what was left", || manifests(&cluster));
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

/// A producer writes to a new topic for `seconds` while `story` goes on; then the topic is judged.
fn written(
    cluster: &mut Cluster,
    topic: &str,
    seconds: u64,
    story: impl FnOnce(&mut Cluster) -> Result<String, String>,
) -> Result<String, String> {
    cluster.create_topic(topic, PARTITIONS)?;
    let count = RATE * seconds;
    let mut producing =
        Client::Rdkafka.produce(&cluster.bootstrap(), topic, count, RATE, cluster.dir())?;
    std::thread::sleep(SETTLE);
    if !producing.is_running() {
        return Err("the producer had ended before anything happened".to_owned());
    }
    let text = story(cluster)?;
    let judged = judge(cluster, topic, producing)?;
    Ok(format!("{text}{judged}"))
}

/// Everything acknowledged is read back, once, in order, and nothing failed.
fn judge(cluster: &mut Cluster, topic: &str, producing: Producing) -> Result<String, String> {
    let acked = producing.finish(PRODUCE_LIMIT)?;
    cluster.wait_ready()?;
    cluster.assert_alive()?;
    cluster.wait_led(topic, PARTITIONS)?;
    let seen = Client::Rdkafka.consume(&cluster.bootstrap(), topic, cluster.dir())?;
    oracle::judge(&acked, &seen, &[])?;
    if seen.len() != acked.len() {
        return Err(format!("{} acknowledged, {} read", acked.len(), seen.len()));
    }
    Ok(format!("{} acknowledged, 0 lost, 0 twice, in order", acked.len()))
}

fn restart_alone(cluster: &mut Cluster) -> Result<String, String> {
    written(cluster, "alone", 6, |cluster| {
        let took = cluster.stop_one(1, 1)?;
        cluster.launch(1)?;
        Ok(format!("stopped in {} ms; ", took.as_millis()))
    })
}

/// The second signal arrives while the first is being obeyed.
fn twice(cluster: &mut Cluster) -> Result<String, String> {
    let took = cluster.stop_one(1, 2)?;
    if !cluster.log(1).contains("asked again") {
        return Err("the second signal came too late to mean anything".to_owned());
    }
    cluster.launch(1)?;
    cluster.wait_ready()?;
    Ok(format!("stopped in {} ms", took.as_millis()))
}

fn listeners(cluster: &mut Cluster) -> Result<String, String> {
    for id in cluster.ids() {
        let topic = format!("listener-{id}");
        cluster.create_topic(&topic, PARTITIONS)?;
        let address = cluster.address(id);
        let producing = Client::Rdkafka.produce(&address, &topic, 500, RATE, cluster.dir())?;
        judge(cluster, &topic, producing)?;
    }
    Ok(String::new())
}

fn killed(cluster: &mut Cluster, topic: &str, leader: bool) -> Result<String, String> {
    let leads = cluster.leader(topic, 0)?;
    let victim = cluster.ids().into_iter().find(|id| (*id == leads) == leader);
    let victim = victim.expect("three brokers");
    cluster.kill(victim)?;
    std::thread::sleep(Duration::from_secs(1));
    cluster.launch(victim)?;
    cluster.wait_ready()?;
    Ok(String::new())
}

/// The metadata's leader dies, and the others are asked for a topic that is not there: the client
/// sees no failure, at most a delay.
fn made_meanwhile(cluster: &mut Cluster) -> Result<String, String> {
    const COUNT: u64 = 500;
    let groups = cluster.groups()?;
    let leads = |group: &Value| group["name"] == "metadata" && group["role"] == "leader";
    let leader = groups.iter().find(|(_, groups)| groups.iter().any(leads));
    let victim = leader.ok_or("nobody leads the metadata")?.0;
    cluster.kill(victim)?;
    let mut producing = Vec::new();
    for id in cluster.ids().into_iter().filter(|id| *id != victim) {
        let topic = format!("meanwhile-{id}");
        let address = cluster.address(id);
        let client = Client::Rdkafka.produce(&address, &topic, COUNT, RATE, cluster.dir())?;
        producing.push((topic, client));
    }
    std::thread::sleep(SETTLE);
    cluster.launch(victim)?;
    cluster.wait_ready()?;
    for (topic, producing) in producing {
        let acked = producing.finish(PRODUCE_LIMIT)?;
        let seen = Client::Rdkafka.consume(&cluster.bootstrap(), &topic, cluster.dir())?;
        oracle::judge(&acked, &seen, &[])?;
        if seen.len() as u64 != COUNT {
            return Err(format!("{topic}: {} of {COUNT} records", seen.len()));
        }
    }
    Ok(format!("broker {victim} led it"))
}

/// Every broker stops in order and starts again, one after the other; two watching clients tell
/// how long each partition was silent.
fn rolling(cluster: &mut Cluster) -> Result<String, String> {
    const WATCHED: &str = "watched";
    cluster.create_topic(WATCHED, PARTITIONS)?;
    written(cluster, "rolled", 12, |cluster| {
        let watchers = [probe(cluster, WATCHED, "attentive")?, probe(cluster, WATCHED, "stock")?];
        std::thread::sleep(SETTLE);
        let mut slowest = Duration::ZERO;
        for id in cluster.ids() {
            slowest = slowest.max(cluster.stop_one(id, 1)?);
            cluster.launch(id)?;
            cluster.wait_ready()?;
            std::thread::sleep(Duration::from_millis(500));
        }
        let limit = Duration::from_secs(PROBE_SECONDS + 60);
        let mut gaps = Vec::new();
        for watcher in watchers {
            gaps.push(longest_gap_ms(&watcher.wait(limit)?)?);
        }
        let text = format!(
            "longest silence of a partition {:.0} ms (attentive), {:.0} ms (stock); \
             slowest stop {} ms; ",
            gaps[0],
            gaps[1],
            slowest.as_millis()
        );
        match gaps[0] {
            gap if gap > GAP_LIMIT_MS => Err(format!("{text}the limit is {GAP_LIMIT_MS:.0} ms")),
            gap if gap > GAP_AIM_MS => Ok(format!("{text}above the aim of {GAP_AIM_MS:.0} ms; ")),
            _ => Ok(text),
        }
    })
}

/// SIGTERM and start again, with no wait for readiness in between, one broker after the other.
fn cycles(cluster: &mut Cluster, topic: &str) -> Result<String, String> {
    let ids = cluster.ids();
    written(cluster, topic, 14, |cluster| {
        let begun = Instant::now();
        for at in 0..CYCLES {
            let id = ids[at % ids.len()];
            cluster.stop_one(id, 1)?;
            cluster.launch(id)?;
            std::thread::sleep(CYCLE);
        }
        Ok(format!("{CYCLES} cycles in {:.0} s; ", begun.elapsed().as_secs_f64()))
    })
}

fn identical(cluster: &mut Cluster) -> Result<String, String> {
    // Followers that were down catch up before all end.
    std::thread::sleep(Duration::from_secs(2));
    let violations = cluster.metric_sum("glasslog_invariant_violations_total")?;
    if violations > 0.0 {
        return Err(format!("{violations} violations of invariants"));
    }
    cluster.stop()?;
    let dirs: Vec<_> = cluster.ids().iter().map(|id| cluster.data_dir(*id)).collect();
    Ok(format!("{} groups", segments::compare(&dirs)?.len()))
}

/// Orderly ends, and the starts that compared what they found with them.
fn manifests(cluster: &Cluster) -> Result<String, String> {
    let (mut compared, mut ended) = (0, 0);
    for id in cluster.ids() {
        let log = cluster.log(id);
        let of = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        compared += of("compared with the last shutdown's manifest");
        ended += of("stopping: all is on disk");
        let faults = ["a promise is broken", "acknowledged, and neither", "invariant violated"];
        if let Some(line) = log.lines().find(|line| faults.iter().any(|text| line.contains(text))) {
            return Err(format!("broker {id}: {line}"));
        }
    }
    // The last end of each broker may have had no start after it.
    if compared == 0 || compared + cluster.ids().len() < ended {
        return Err(format!("{ended} orderly ends, {compared} starts compared with one"));
    }
    Ok(format!("{ended} orderly ends, {compared} compared"))
}

fn probe(cluster: &Cluster, topic: &str, who: &str) -> Result<Job, String> {
    let mut command = Command::new(workspace::program("client-rdkafka"));
    command.args(["probe", &cluster.bootstrap(), topic]);
    command.args([PARTITIONS.to_string(), PROBE_SECONDS.to_string()]);
    command.arg(who);
    Job::spawn(&format!("probe-{who}"), command, cluster.dir())
}

/// The longest time between two acknowledgements of one partition, from the probe's lines
/// "partition sent_us acked_us".
fn longest_gap_ms(text: &str) -> Result<f64, String> {
    let mut acks: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split('\t');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (partition, _sent, acked) = (number(), number(), number());
        let (Some(partition), Some(acked)) = (partition, acked) else {
            return Err(format!("no acknowledgement: `{line}`"));
        };
        acks.entry(partition as u32).or_default().push(acked);
    }
    if acks.len() != PARTITIONS as usize {
        return Err(format!("{} partitions acknowledged anything", acks.len()));
    }
    let longest = acks.values_mut().flat_map(|acks| {
        acks.sort_unstable();
        acks.windows(2).map(|pair| pair[1] - pair[0]).max()
    });
    Ok(longest.max().unwrap_or(0) as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::longest_gap_ms;

    #[test]
    fn the_longest_silence_of_any_partition_counts() {
        let text = "0\t0\t1000\n1\t0\t1000\n0\t0\t3000\n1\t0\t9000\n2\t0\t4000\n0\t0\t5000\n";
        assert_eq!(longest_gap_ms(text), Ok(8.0));
        assert!(longest_gap_ms("0\t0\t1000\n").is_err(), "two partitions are silent");
        assert!(longest_gap_ms("junk\n").is_err());
    }
}
