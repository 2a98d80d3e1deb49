//! Brokers that come back when the others have dropped what they lack: filled by a snapshot, also
//! when the receiver or the sender is killed in the middle, and onto a wiped disk. Afterwards the
//! replicas are byte-identical from their common log start on.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::kafka::Kafka;
use crate::segments;
use crate::tally::Tally;

const TOPIC: &str = "filled";
/// Small segments, few of them kept, nobody waited for long, and transfers slow enough to be
/// interrupted.
pub const EXTRA: [&str; 6] = [
    "log.segment.bytes = 1048576",
    "log.retention.bytes = 3145728",
    "log.retention.check.interval.ms = 200",
    "log.retention.replica.wait.ms = 1000",
    "replica.fill.bytes.per.second = 1048576",
    "auto.leader.rebalance.enable = false",
];
const BATCH_BYTES: usize = 200_000;
/// Two segments and more of those a transfer brings: retention may drop the oldest one meanwhile.
const MOST: u64 = 5 << 19;
const KEPT: u64 = 1_000_000;
const LIMIT: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(20);

/// Runs the story.
pub fn run(tally: &mut Tally) {
    let mut cluster = None;
    tally.check("three brokers and a topic of small segments", || {
        let started = Cluster::start_with("snapshots", &EXTRA)?;
        started.create_topic(TOPIC, 1)?;
        cluster = Some(started);
        Ok(String::new())
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    let cluster_ref = &mut cluster;
    let _ =
        tally.check("a broker behind the log start is filled by a snapshot", || {
            let follower = left_behind(cluster_ref, false)?;
            cluster_ref.launch(follower)?;
            filled(cluster_ref, follower)
        }) && tally.check("its receiver killed in the middle goes on where it was", || {
            let follower = left_behind(cluster_ref, false)?;
            cluster_ref.launch(follower)?;
            fetched(cluster_ref, follower, MOST, |_| true)?;
            cluster_ref.kill(follower)?;
            cluster_ref.launch(follower)?;
            let transfer = fetched(cluster_ref, follower, 0, |_| true)?;
            resumed(&transfer)?;
            Ok(format!("{}, {}", resumed(&transfer)?, filled(cluster_ref, follower)?))
        }) && tally.check("its sender killed in the middle: the next leader ends it", || {
            let follower = left_behind(cluster_ref, false)?;
            cluster_ref.launch(follower)?;
            let transfer = fetched(cluster_ref, follower, MOST, |_| true)?;
            let sender = transfer["from_broker"].as_i64().and_then(|id| i32::try_from(id).ok());
            let sender = sender.ok_or_else(|| format!("from whom? {transfer}"))?;
            cluster_ref.kill(sender)?;
            let again = fetched(cluster_ref, follower, 0, |t| t["from_broker"] != sender)?;
            let text = format!("{}, {}", resumed(&again)?, filled(cluster_ref, follower)?);
            cluster_ref.launch(sender)?;
            filled(cluster_ref, sender)?;
            Ok(text)
        }) && tally.check("a wiped disk behind the log start is filled as a new replica", || {
            let follower = left_behind(cluster_ref, true)?;
            cluster_ref.launch(follower)?;
            filled(cluster_ref, follower)
        }) && tally.check("transfers were counted, and no replica was given up on", || {
            let counted = cluster_ref.metric_sum("glasslog_raft_snapshots_total")?;
            let bytes = cluster_ref.metric_sum("glasslog_raft_snapshot_bytes_total")?;
            match counted >= 1.0 && bytes >= 1.0 {
                true => Ok(format!("{counted} steps, {bytes} bytes by those that run")),
                false => Err(format!("{counted} steps, {bytes} bytes")),
            }
        }) && tally.check("replicas are byte-identical from their common start", || {
            cluster_ref.stop()?;
            let dirs: Vec<_> =
                cluster_ref.ids().iter().map(|id| cluster_ref.data_dir(*id)).collect();
            let compared = segments::compare_tails(&dirs)?;
            Ok(format!("{compared} files"))
        });
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

/// Kills a follower, writes until the others have dropped what it lacks, wipes its disk if asked.
fn left_behind(cluster: &mut Cluster, wiped: bool) -> Result<i32, String> {
    produce(cluster, TOPIC, 2)?;
    let leader = cluster.leader(TOPIC, 0)?;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).ok_or("no follower")?;
    cluster.kill(follower)?;
    if wiped {
        cluster.wipe(follower)?;
    }
    outrun(cluster, TOPIC)?;
    Ok(follower)
}

/// Writes until partition 0 begins behind all that it had, so that whoever is down now lacks what
/// nobody keeps.
pub fn outrun(cluster: &Cluster, topic: &str) -> Result<(), String> {
    let had = cluster.high_watermarks(topic)?[0];
    let start = Instant::now();
    loop {
        produce(cluster, topic, 1)?;
        let leader = cluster.leader(topic, 0)?;
        // Told once a second: at first there is nothing.
        let log_start = group_of(cluster, topic, leader).map(|group| group["log_start"].as_i64());
        let log_start = log_start.ok().flatten().unwrap_or(0);
        if log_start > had {
            return Ok(());
        }
        if start.elapsed() > LIMIT {
            return Err(format!("the log start stays at {log_start}, {had} was there"));
        }
    }
}

/// Writes so many segments.
fn produce(cluster: &Cluster, topic: &str, segments: usize) -> Result<(), String> {
    for n in 0..segments * (1 << 20) / BATCH_BYTES {
        let value: Vec<u8> = (0..BATCH_BYTES).map(|at| (at * 31 + n) as u8).collect();
        let start = Instant::now();
        loop {
            let wrote = cluster
                .leader(topic, 0)
                .and_then(|leader| {
                    Kafka::connect(cluster.socket(leader)).map_err(|e| e.to_string())
                })
                .and_then(|mut kafka| {
                    kafka.produce(topic, 0, &value).map_err(|error| error.to_string())
                });
            match wrote {
                Ok(0) => break,
                other if start.elapsed() > LIMIT => return Err(format!("Produce: {other:?}")),
                // An election, perhaps: what is written twice is no harm here.
                _ => std::thread::sleep(POLL),
            }
        }
    }
    Ok(())
}

/// The topic's group as a broker shows it.
fn group_of(cluster: &Cluster, topic: &str, broker: i32) -> Result<Value, String> {
    let page = cluster.page(broker)?;
    let groups = page["groups"].as_array().into_iter().flatten();
    let name = format!("{topic}-0");
    let found = groups.into_iter().find(|group| group["name"] == name.as_str());
    found.cloned().ok_or_else(|| format!("broker {broker} has no {name}"))
}

/// Waits for a transfer into `broker` that fetches and has so many bytes.
fn fetched(
    cluster: &Cluster,
    broker: i32,
    bytes: u64,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value, String> {
    let start = Instant::now();
    loop {
        let page = cluster.page(broker);
        let transfers = page.iter().flat_map(|page| page["transfers"].as_array()).flatten();
        let name = format!("{TOPIC}-0");
        let found = transfers.into_iter().find(|it| {
            let here = it["bytes"].as_u64().unwrap_or(0) >= bytes;
            it["name"] == name.as_str() && it["stage"] == "fetching" && here && wanted(it)
        });
        if let Some(found) = found {
            return Ok(found.clone());
        }
        if start.elapsed() > LIMIT {
            return Err(format!("no transfer into broker {broker}: {page:?}"));
        }
        std::thread::sleep(POLL);
    }
}

fn resumed(transfer: &Value) -> Result<String, String> {
    match (transfer["resumed"].as_u64(), transfer["total"].as_u64()) {
        (Some(resumed), Some(total)) if resumed >= KEPT => {
            Ok(format!("{resumed} of {total} bytes were there"))
        }
        _ => Err(format!("it began anew: {transfer}")),
    }
}

/// Waits until all three replicas are in sync, this one among them, and have the same end.
fn filled(cluster: &mut Cluster, broker: i32) -> Result<String, String> {
    let start = Instant::now();
    loop {
        let partitions = cluster.partitions(TOPIC);
        let leader = cluster.leader(TOPIC, 0);
        let ends = leader.clone().and_then(|leader| {
            let end = |id| Ok::<_, String>(group_of(cluster, TOPIC, id)?["next_offset"].as_i64());
            Ok((end(leader)?, end(broker)?))
        });
        let in_sync = partitions.iter().flatten().any(|p| p.isr.contains(&broker));
        if in_sync && ends.as_ref().is_ok_and(|(leader, own)| leader == own) {
            return Ok(format!("filled in {:.1} s", start.elapsed().as_secs_f64()));
        }
        if start.elapsed() > LIMIT {
            let text = format!("broker {broker} is not filled: {partitions:?}, ends {ends:?}");
            return Err(cluster.with_log(broker, &text));
        }
        cluster.assert_alive()?;
        std::thread::sleep(POLL);
    }
}
