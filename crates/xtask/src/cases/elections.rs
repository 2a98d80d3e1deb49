//! Post-mortems of elections: a leader that is killed, and one whose host stands still. Each must
//! be told at `/debug/elections` by those who saw it, and read back by a Kafka consumer.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clients::kcat;
use crate::cluster::Cluster;
use crate::tally::Tally;

const TOPIC: &str = "voted";
const RECORDS: &str = "__glasslog.elections";
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);
/// Longer than a time-out and all waits before another leads.
const STILL: Duration = Duration::from_secs(4);

/// Runs the story.
pub fn run(tally: &mut Tally) {
    let mut cluster = None;
    tally.check("three brokers with a topic of three partitions", || {
        let started = Cluster::start("elections")?;
        started.create_topic(TOPIC, 3)?;
        cluster = Some(started);
        Ok(String::new())
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    let all = &mut cluster;
    tally.check("a killed leader: its heir says who voted and how long it heard nothing", || {
        killed(all)
    });
    tally.check("a leader that stood still: it says itself that its ticks came late", || {
        stood_still(all)
    });
    tally.check("a consumer reads what every broker tells", || read_back(all));
    tally.check("clients may not write there", || {
        let leader = all.leader(RECORDS, 0)?;
        let at = all.socket(leader);
        let code = crate::cluster::kafka::Kafka::connect(at)
            .and_then(|mut kafka| kafka.produce(RECORDS, 0, b"not ours"))
            .map_err(|error| error.to_string())?;
        match code {
            17 => Ok("INVALID_TOPIC_EXCEPTION".into()),
            other => Err(format!("answered with {other}")),
        }
    });
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

/// Post-mortems of one broker, oldest first.
fn told_by(cluster: &Cluster, id: i32) -> Result<Vec<Value>, String> {
    let page = cluster.debug(id, "elections")?;
    Ok(page["elections"].as_array().cloned().unwrap_or_default())
}

/// The first record that fits among those `broker` tells beyond its first `after`.
fn find(
    cluster: &Cluster,
    (broker, after): (i32, usize),
    what: &str,
    fits: impl Fn(&Value) -> bool,
) -> Result<Value, String> {
    let started = Instant::now();
    loop {
        let told = told_by(cluster, broker)?;
        if let Some(found) = told.iter().skip(after).find(|record| fits(record)) {
            return Ok(found.clone());
        }
        if started.elapsed() > LIMIT {
            return Err(format!("broker {broker} does not tell of {what}: {told:#?}"));
        }
        std::thread::sleep(POLL);
    }
}

/// Whoever leads the partition now, and not `old`.
fn heir(cluster: &Cluster, partition: i32, old: i32) -> Result<i32, String> {
    let started = Instant::now();
    loop {
        match cluster.leader(TOPIC, partition) {
            Ok(leader) if leader != old => return Ok(leader),
            other if started.elapsed() > LIMIT => {
                return Err(format!("nobody leads after broker {old}: {other:?}"));
            }
            _ => std::thread::sleep(POLL),
        }
    }
}

fn killed(cluster: &mut Cluster) -> Result<String, String> {
    let victim = cluster.leader(TOPIC, 0)?;
    cluster.kill(victim)?;
    let heir = heir(cluster, 0, victim)?;
    let name = format!("{TOPIC}-0");
    let won = |record: &Value| {
        record["name"] == name.as_str()
            && record["outcome"] == "won"
            && record["reason"] != "new_group"
    };
    let record = find(cluster, (heir, 0), "the election it won", won)?;
    let answer = |broker: i32| {
        let ballots = record["ballots"].as_array().cloned().unwrap_or_default();
        let found = ballots.iter().find(|ballot| ballot["broker"] == broker).cloned();
        found.map(|ballot| ballot["answer"].as_str().unwrap_or_default().to_owned())
    };
    let third = cluster.ids().into_iter().find(|id| ![victim, heir].contains(id));
    let third = third.ok_or("three brokers")?;
    if answer(victim).as_deref() != Some("silent") || answer(heir).as_deref() != Some("granted") {
        return Err(format!("the dead cannot vote, the heir must have: {record:#}"));
    }
    if answer(third).as_deref() != Some("granted") {
        return Err(format!("nobody but broker {third} could have granted it: {record:#}"));
    }
    let silent_ms = record["ms_since_leader"].as_u64().unwrap_or_default();
    // The promise that its voters keep; a heartbeat may have been under way.
    if !(300..20_000).contains(&silent_ms)
        || record["term"].as_u64() <= record["term_before"].as_u64()
    {
        return Err(format!("{record:#}"));
    }
    cluster.launch(victim)?;
    cluster.wait_ready()?;
    Ok(format!("{}, {silent_ms} ms after the last sign", record["reason"]))
}

fn stood_still(cluster: &mut Cluster) -> Result<String, String> {
    let victim = cluster.leader(TOPIC, 1)?;
    let before = told_by(cluster, victim)?.len();
    cluster.signal(victim, "STOP")?;
    std::thread::sleep(STILL);
    cluster.signal(victim, "CONT")?;
    heir(cluster, 1, victim)?;
    let name = format!("{TOPIC}-1");
    let lost =
        |record: &Value| record["name"] == name.as_str() && record["what"] == "leadership_lost";
    let record = find(cluster, (victim, before), "its lost leadership", lost)?;
    let late_ms = record["loop"]["late_ms_max"].as_u64().unwrap_or_default();
    let by = record["loop"]["late_by"].as_str().unwrap_or_default();
    if late_ms < 1_000 || by != "cpu" {
        return Err(format!("it stood still for {STILL:?} and says: {record:#}"));
    }
    cluster.wait_ready()?;
    Ok(format!("{}: a tick {late_ms} ms late, by {by}", record["reason"]))
}

/// Every record of every page is in the topic, at least once.
fn read_back(cluster: &mut Cluster) -> Result<String, String> {
    let mut pages = Vec::new();
    for id in cluster.ids() {
        pages.extend(told_by(cluster, id)?);
    }
    let started = Instant::now();
    loop {
        let text = kcat::values(&cluster.bootstrap(), RECORDS, cluster.dir())?;
        let read: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect();
        let missing = pages.iter().filter(|record| !read.contains(record)).count();
        if missing == 0 {
            return Ok(format!("{} records of {} on the pages", read.len(), pages.len()));
        }
        if started.elapsed() > LIMIT {
            return Err(format!("{missing} of {} are not among {}", pages.len(), read.len()));
        }
        std::thread::sleep(POLL);
    }
}
