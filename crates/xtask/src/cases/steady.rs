//! A quiet cluster stays quiet: forming it costs at most one election per group, and after that
//! nobody is elected, neither while it idles nor under load.

use std::process::Command;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::job::Job;
use crate::tally::Tally;
use crate::workspace;

const TOPIC: &str = "steady";
const PARTITIONS: i32 = 9;
const RECORDS_PER_SECOND: u64 = 10_000;
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

fn load(cluster: &Cluster, seconds: u64) -> Result<String, String> {
    let mut command = Command::new(workspace::program("client-rdkafka"));
    command.args(["load", &cluster.bootstrap(), TOPIC]);
    command.args([RECORD_BYTES, RECORDS_PER_SECOND, seconds].map(|number| number.to_string()));
    let limit = Duration::from_secs(seconds + 60);
    let counted = || cluster.metric_sum("glasslog_records_in_total");
    let before = counted()?;
    let text = Job::spawn("load", command, cluster.dir())?.wait(limit)?;
    let expected = format!("acked {} failed 0", RECORDS_PER_SECOND * seconds);
    if text.trim() != expected {
        return Err(format!("{}, not {expected}", text.trim()));
    }
    let counted = counted()? - before;
    // Post-mortems and the like come on top.
    if counted < (RECORDS_PER_SECOND * seconds) as f64 {
        return Err(format!("{expected}, but records_in_total rose by {counted}"));
    }
    Ok(format!("{expected}, "))
}
