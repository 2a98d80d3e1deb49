//! A quiet cluster stays quiet: forming it costs at most one election per group, and after that
//! nobody is elected, neither while it idles nor under load, nor for want of a processor unnoticed.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::http::Metrics;
use crate::job::Job;
use crate::tally::Tally;
use crate::workspace;

const TOPIC: &str = "steady";
const PARTITIONS: i32 = 9;
const RECORDS_PER_SECOND: u64 = 10_000;
/// Beside processes that take every core, for so long.
const CROWDED_PER_SECOND: u64 = 1_000;
const CROWDED_SECONDS: u64 = 10;
const RECORD_BYTES: u64 = 1024;
/// Nine partitions of three replicas: one change of role each.
const ROLE_CHANGES_MAX: f64 = 27.0;
const TERM_MAX: f64 = 5.0;
const ELECTIONS: &str = "glasslog_raft_elections_total";
const ROLE_CHANGES: &str = "glasslog_raft_role_changes_total";
const TERM: &str = "glasslog_raft_term_max";

/// Formation, then `seconds` of idling, then `seconds` of load.
pub fn run(tally: &mut Tally, seconds: u64) {
    let mut cluster = None;
    tally.check("formation of 9 partitions x 3", || {
        let started = Cluster::start("steady")?;
        let text = formation(&started)?;
        cluster = Some(started);
        Ok(text)
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    tally.check(&format!("no election in {seconds} s of idling"), || {
        quiet(&mut cluster, |_| {
            std::thread::sleep(Duration::from_secs(seconds));
            Ok(String::new())
        })
    });
    let name = format!("no election in {seconds} s of {RECORDS_PER_SECOND} records/s");
    tally.check(&name, || quiet(&mut cluster, |cluster| load(cluster, seconds)));
    tally.check(
        "every core saturated by others: nobody is elected, or the record names cpu",
        || {
            let text = crowded(&cluster)?;
            cluster.assert_alive()?;
            Ok(text)
        },
    );
    tally.check("all three stop when told to", || cluster.stop().map(|()| String::new()));
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

fn formation(cluster: &Cluster) -> Result<String, String> {
    // The brokers make these themselves, at some time after they are ready.
    for topic in ["__glasslog.elections", "__glasslog.stalls"] {
        cluster.wait_led(topic, 1)?;
    }
    let before = cluster.metric_sum(ROLE_CHANGES)?;
    cluster.create_topic(TOPIC, PARTITIONS)?;
    // A second look after a moment: a late election must not slip through.
    std::thread::sleep(Duration::from_secs(3));
    let changes = cluster.metric_sum(ROLE_CHANGES)? - before;
    let terms: Result<Vec<f64>, String> = cluster.metrics()?.iter().map(|m| m.max(TERM)).collect();
    let term = terms?.into_iter().fold(0.0, f64::max);
    let text = format!("{changes} role changes, highest term {term}");
    if changes > ROLE_CHANGES_MAX || term > TERM_MAX || changes < 1.0 {
        return Err(text);
    }
    Ok(text)
}

/// An error if `meanwhile` saw an election anywhere.
fn quiet(
    cluster: &mut Cluster,
    meanwhile: impl FnOnce(&Cluster) -> Result<String, String>,
) -> Result<String, String> {
    let before = cluster.metric_sum(ELECTIONS)?;
    let cpu = cluster.cpu_seconds()?;
    let start = std::time::Instant::now();
    let text = meanwhile(cluster)?;
    cluster.assert_alive()?;
    let cores = (cluster.cpu_seconds()? - cpu) / start.elapsed().as_secs_f64();
    match cluster.metric_sum(ELECTIONS)? - before {
        0.0 => Ok(format!("{text}{:.0} % of a core for three brokers", cores * 100.0)),
        elections => Err(format!("{elections} elections")),
    }
}

/// Processes that do nothing but take processors, twice as many as there are.
fn spinners(cluster: &Cluster) -> Result<Vec<Job>, String> {
    let cores = std::thread::available_parallelism().map_err(|error| error.to_string())?;
    let spinner = |at: usize| {
        let mut command = Command::new("sh");
        // It ends by itself should nobody be left to end it.
        command.args(["-c", "ulimit -t 60; while :; do :; done"]);
        Job::spawn(&format!("spinner-{at}"), command, cluster.dir())
    };
    (0..2 * cores.get()).map(spinner).collect()
}

/// Brokers get the share of the processors that the kernel leaves them. On a machine that others use
/// as well nobody can promise that it suffices: an election is no defect if whoever began it, or led
/// before, had ticks that came late for want of a processor and its record says so.
fn crowded(cluster: &Cluster) -> Result<String, String> {
    let ended = |cluster: &Cluster| {
        let mut all = Vec::new();
        for id in cluster.ids() {
            let page = cluster.debug(id, "elections")?;
            let records = page["elections"].as_array().cloned().unwrap_or_default();
            all.extend(records.into_iter().map(|record| (id, record)));
        }
        Ok::<Vec<(i32, Value)>, String>(all)
    };
    let late = || {
        let of = |metrics: &Metrics| {
            metrics.labelled("glasslog_raft_ticks_late_total", "blocked_by=\"cpu\"")
        };
        Ok::<f64, String>(cluster.metrics()?.iter().map(of).sum())
    };
    let (before, elections) = (ended(cluster)?, cluster.metric_sum(ELECTIONS)?);
    let (late_before, spinners) = (late()?, spinners(cluster)?);
    let acked = load_of(cluster, CROWDED_PER_SECOND, CROWDED_SECONDS);
    let count = spinners.len();
    drop(spinners);
    let acked = acked?;
    let elections = cluster.metric_sum(ELECTIONS)? - elections;
    let text = format!(
        "{acked}beside {count} spinning processes; {} ticks late by cpu, {elections} elections",
        late()? - late_before
    );
    if elections == 0.0 {
        return Ok(text);
    }
    // Both sides of an election leave a record, each with what its own loop did.
    let named = |(_, record): &&(i32, Value)| record["loop"]["late_by"] == "cpu";
    let new: Vec<_> = ended(cluster)?.into_iter().filter(|one| !before.contains(one)).collect();
    let groups = |all: &[&(i32, Value)]| -> BTreeSet<String> {
        all.iter().map(|(_, record)| record["name"].to_string()).collect()
    };
    let all: Vec<&(i32, Value)> = new.iter().collect();
    let by_cpu: Vec<&(i32, Value)> = new.iter().filter(named).collect();
    let missing: Vec<String> = groups(&all).difference(&groups(&by_cpu)).cloned().collect();
    match missing.is_empty() && !all.is_empty() {
        true => Ok(format!("{text}, all named cpu")),
        false => Err(format!("{text}; not named cpu: {}", missing.join(", "))),
    }
}

fn load(cluster: &Cluster, seconds: u64) -> Result<String, String> {
    load_of(cluster, RECORDS_PER_SECOND, seconds)
}

fn load_of(cluster: &Cluster, rate: u64, seconds: u64) -> Result<String, String> {
    let mut command = Command::new(workspace::program("client-rdkafka"));
    command.args(["load", &cluster.bootstrap(), TOPIC]);
    command.args([RECORD_BYTES, rate, seconds].map(|number| number.to_string()));
    let limit = Duration::from_secs(seconds + 60);
    let counted = || cluster.metric_sum("glasslog_records_in_total");
    let before = counted()?;
    let text = Job::spawn("load", command, cluster.dir())?.wait(limit)?;
    let expected = format!("acked {} failed 0", rate * seconds);
    if text.trim() != expected {
        return Err(format!("{}, not {expected}", text.trim()));
    }
    let counted = counted()? - before;
    // Post-mortems and the like come on top.
    if counted < (rate * seconds) as f64 {
        return Err(format!("{expected}, but records_in_total rose by {counted}"));
    }
    Ok(format!("{expected}, "))
}
