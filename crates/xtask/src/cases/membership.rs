//! Brokers that lose their disk, join, are drained, emptied and replaced while an idempotent
//! client writes: nothing acknowledged is lost, nothing is there twice, and every partition ends
//! with as many replicas in sync as before, each led by the broker that should lead it. At the end
//! a majority is lost for good, and the survivor goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clients::{self, Client};
use crate::cluster::Cluster;
use crate::cluster::kafka::Partition;
use crate::job::Job;
use crate::oracle;
use crate::tally::Tally;
use crate::workspace;

const TOPIC: &str = "members";
const PARTITIONS: i32 = 3;
/// As many as the story lasts, and then some: it proves little without load.
const RECORDS: u64 = 60_000;
const RATE: u64 = 1_000;
/// A change has to be finished in this time.
const SETTLE_LIMIT: Duration = Duration::from_secs(40);
const PRODUCE_LIMIT: Duration = Duration::from_secs(150);
/// Preferred replicas lead again after so long; the default would take most of the phase.
const EXTRA: [&str; 1] = ["leader.imbalance.check.interval.seconds = 2"];
const DRAINED: i32 = 1;
const WIPED: i32 = 2;
const LEAVING: i32 = 3;
const FIRST_JOINED: i32 = 4;

/// Runs the story.
pub fn run(tally: &mut Tally) {
    if let Err(why) = clients::prepare(Client::Rdkafka) {
        return tally.skip("membership", &why);
    }
    let mut cluster = None;
    tally.check("three brokers and a topic of 3 replicas", || {
        let started = Cluster::start_with("membership", &EXTRA)?;
        started.create_topic(TOPIC, PARTITIONS)?;
        cluster = Some(started);
        Ok(String::new())
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    story(tally, &mut cluster);
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

fn story(tally: &mut Tally, cluster: &mut Cluster) {
    let producing =
        Client::Rdkafka.produce(&cluster.bootstrap(), TOPIC, RECORDS, RATE, cluster.dir());
    let mut producing = match producing {
        Ok(producing) => producing,
        Err(why) => return tally.fail("a client that writes all the while", &why),
    };
    std::thread::sleep(Duration::from_secs(2));
    if !changes(tally, cluster) {
        return;
    }
    let mut told = None;
    tally.check("nothing acknowledged is lost, nothing is there twice", || {
        if !producing.is_running() {
            return Err("the client had ended before the changes did: it proved little".to_owned());
        }
        let acked = producing.finish(PRODUCE_LIMIT)?;
        let seen = read(cluster, &acked)?;
        cluster.assert_alive()?;
        told = Some(acked);
        Ok(seen)
    });
    let Some(acked) = told else { return };
    let left = [DRAINED, FIRST_JOINED, FIRST_JOINED + 1];
    tally.check("a majority is lost for good: the survivor says what it has, and goes on", || {
        recovered(cluster, left)?;
        read(cluster, &acked)
    });
}

/// Every record is there, once.
fn read(cluster: &Cluster, acked: &[oracle::Acked]) -> Result<String, String> {
    let seen = Client::Rdkafka.consume(&cluster.bootstrap(), TOPIC, cluster.dir())?;
    oracle::judge(acked, &seen, &[])?;
    match seen.len() as u64 {
        RECORDS => Ok(format!("{} acknowledged", acked.len())),
        other => Err(format!("{other} records, not {RECORDS}")),
    }
}

/// Two of three brokers are gone with their disks; the third goes on alone until new ones joined.
fn recovered(cluster: &mut Cluster, [survivor, lost, also]: [i32; 3]) -> Result<(), String> {
    cluster.kill(lost)?;
    cluster.kill(also)?;
    cluster.kill(survivor)?;
    let ids = format!("{lost},{also}");
    let config = cluster.config_file(survivor).display().to_string();
    let recover = |cluster: &Cluster, words: &[&str]| -> Result<String, String> {
        let mut command = Command::new(workspace::program("glasslog"));
        command.args(["recover", "--config", &config, "--lost", &ids]).args(words);
        Job::spawn("recover", command, cluster.dir())?.wait(SETTLE_LIMIT)
    };
    let before = recover(cluster, &[])?;
    let each = (0..PARTITIONS).all(|index| before.contains(&format!("{TOPIC}-{index}: goes on")));
    if !each || !before.contains("nothing was changed") || recover(cluster, &[])? != before {
        return Err(before);
    }
    let done = recover(cluster, &["--accept-data-loss"])?;
    if !done.contains("Start this broker now") {
        return Err(done);
    }
    cluster.launch(survivor)?;
    until(cluster, "led by the survivor", |all| all.iter().all(|p| p.leader == survivor))?;
    let joined = [cluster.add(&EXTRA)?, cluster.add(&EXTRA)?];
    for id in joined {
        cluster.wait_ready_one(id)?;
    }
    decommission(cluster, lost)?;
    decommission(cluster, also)?;
    settled(cluster, &[survivor, joined[0], joined[1]]).map(drop)
}

/// One change after the other, as long as they succeed.
fn changes(tally: &mut Tally, cluster: &mut Cluster) -> bool {
    tally.check("a wiped disk returns as a new replica and is filled", || wiped(cluster))
        && tally.check("another broker dies: the new replica counts", || {
            cluster.kill(LEAVING)?;
            cluster.wait_led(TOPIC, PARTITIONS)?;
            // Two of three are left, and one of them is the new one: it acknowledges.
            grows(cluster)?;
            cluster.launch(LEAVING)?;
            cluster.wait_ready_one(LEAVING)?;
            settled(cluster, &[1, 2, 3])
        })
        && tally.check("leaders spread over the brokers again", || spread(cluster))
        && tally.check("a drained broker leads nothing until it is undrained", || drained(cluster))
        && tally.check("without room a broker is not emptied, and says why", || match decommission(
            cluster, LEAVING,
        ) {
            Err(why) if why.contains("add a broker first") => Ok(String::new()),
            other => Err(format!("{other:?}")),
        })
        && tally.check("a fourth broker joins, and one is decommissioned", || {
            let joined = cluster.add(&EXTRA)?;
            cluster.wait_ready_one(joined)?;
            decommission(cluster, LEAVING)?;
            let time = settled(cluster, &[1, 2, joined])?;
            cluster.stop_one(LEAVING, 1)?;
            Ok(time)
        })
        && tally.check("a dead broker is replaced", || {
            cluster.kill(WIPED)?;
            let joined = cluster.add(&EXTRA)?;
            cluster.wait_ready_one(joined)?;
            decommission(cluster, WIPED)?;
            settled(cluster, &[1, joined - 1, joined])
        })
        && tally.check("leaders spread over those that are left", || spread(cluster))
}

fn wiped(cluster: &mut Cluster) -> Result<String, String> {
    let before = replicas_on(cluster, WIPED)?;
    cluster.kill(WIPED)?;
    cluster.wipe(WIPED)?;
    cluster.launch(WIPED)?;
    cluster.wait_ready_one(WIPED)?;
    let time = settled(cluster, &[1, 2, 3])?;
    let after = replicas_on(cluster, WIPED)?;
    match before.iter().find(|(name, id)| after.get(*name).is_none_or(|new| new == *id)) {
        None => Ok(time),
        Some((name, id)) => Err(format!("{name}: replica {id} was to be replaced: {after:?}")),
    }
}

/// The ids of the replicas on a broker, by group.
fn replicas_on(cluster: &Cluster, broker: i32) -> Result<BTreeMap<String, u64>, String> {
    let all = cluster.groups()?;
    let groups = all.iter().filter(|(id, _)| *id == broker).flat_map(|(_, groups)| groups);
    let named =
        |group: &Value| Some((group["name"].as_str()?.to_owned(), group["replica"].as_u64()?));
    let found: BTreeMap<String, u64> = groups.filter_map(named).collect();
    if found.is_empty() { Err(format!("broker {broker} has no replicas")) } else { Ok(found) }
}

/// Waits until every partition has committed more than it had.
fn grows(cluster: &Cluster) -> Result<(), String> {
    let start = Instant::now();
    let before = cluster.high_watermarks(TOPIC)?;
    loop {
        let now = cluster.high_watermarks(TOPIC);
        if let Ok(now) = &now
            && now.len() == before.len()
            && now.iter().zip(&before).all(|(now, before)| now > before)
        {
            return Ok(());
        }
        if start.elapsed() > SETTLE_LIMIT {
            return Err(format!("nothing is committed: {before:?}, then {now:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Ends when the broker is forgotten.
fn decommission(cluster: &Cluster, broker: i32) -> Result<(), String> {
    let id = broker.to_string();
    let words = ["decommission", "--broker", id.as_str()];
    cluster.order(DRAINED, &words, SETTLE_LIMIT).map(drop)
}

fn drained(cluster: &mut Cluster) -> Result<String, String> {
    cluster.order(DRAINED, &["drain"], SETTLE_LIMIT)?;
    let time = until(cluster, "drained", |all| all.iter().all(|p| p.leader != DRAINED))?;
    // Longer than a preferred replica waits: it must not be asked to lead.
    std::thread::sleep(Duration::from_secs(4));
    let found = cluster.partitions(TOPIC)?;
    if found.iter().any(|partition| partition.leader == DRAINED) {
        return Err(format!("it leads again: {found:?}"));
    }
    cluster.order(DRAINED, &["undrain"], SETTLE_LIMIT)?;
    spread(cluster)?;
    Ok(time)
}

/// Waits until every partition lives on exactly these brokers, and so does its membership.
fn settled(cluster: &Cluster, brokers: &[i32]) -> Result<String, String> {
    let start = Instant::now();
    // What was committed by now has to be on every replica at the end.
    let mut floor = None;
    loop {
        let found = cluster.groups().and_then(|groups| {
            let floor = floor.get_or_insert_with(|| committed(&groups));
            members(&groups, brokers, floor)
        });
        let told = cluster.partitions(TOPIC)?;
        let same =
            told.iter().all(|p| BTreeSet::from_iter(&p.replicas) == BTreeSet::from_iter(brokers));
        match found {
            Ok(()) if same => return Ok(format!("{:.1} s", start.elapsed().as_secs_f64())),
            found if start.elapsed() > SETTLE_LIMIT => {
                return Err(format!("not on {brokers:?}: {found:?}; {told:?}"));
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// The highest commit index known, by group.
fn committed(groups: &[(i32, Vec<Value>)]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for group in groups.iter().flat_map(|(_, groups)| groups) {
        let name = group["name"].as_str().unwrap_or_default().to_owned();
        let index = group["commit"].as_u64().unwrap_or(0);
        all.entry(name).and_modify(|known: &mut u64| *known = index.max(*known)).or_insert(index);
    }
    all
}

/// The voters of each partition, and of the metadata, are those metadata wants, no learner and
/// no joint state is left, and each voter is on one of these brokers and has applied its floor.
fn members(
    groups: &[(i32, Vec<Value>)],
    brokers: &[i32],
    floor: &BTreeMap<String, u64>,
) -> Result<(), String> {
    let partitions = (0..PARTITIONS).map(|index| format!("{TOPIC}-{index}"));
    for name in partitions.chain(["metadata".to_owned()]) {
        let here: Vec<(i32, &Value)> = groups
            .iter()
            .flat_map(|(broker, groups)| groups.iter().map(|group| (*broker, group)))
            .filter(|(_, group)| group["name"] == name.as_str())
            .collect();
        let serving = here.iter().filter(|(_, group)| group["serving"] == true);
        let leader = serving.max_by_key(|(_, group)| group["term"].as_u64());
        let (_, leader) = leader.ok_or_else(|| format!("{name}: nobody serves"))?;
        let ids = |key: &str| -> BTreeSet<u64> {
            leader[key].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
        };
        let voters = ids("voters");
        if voters != ids("target") || !ids("learners").is_empty() || !ids("outgoing").is_empty() {
            return Err(format!("{name}: membership and target differ: {leader}"));
        }
        let least = floor.get(&name).copied().unwrap_or(0);
        let full = here.iter().filter(|(_, group)| {
            let member = group["replica"].as_u64().is_some_and(|id| voters.contains(&id));
            member && group["applied"].as_u64().is_some_and(|applied| applied >= least)
        });
        let full: BTreeSet<i32> = full.map(|(broker, _)| *broker).collect();
        if full != BTreeSet::from_iter(brokers.iter().copied()) || voters.len() != brokers.len() {
            return Err(format!("{name}: filled up to {least} on {full:?} only: {leader}"));
        }
    }
    Ok(())
}

/// Waits until each partition is led by its first replica, and every broker leads.
fn spread(cluster: &Cluster) -> Result<String, String> {
    until(cluster, "led by the first replica, one per broker", |all| {
        let leaders: BTreeSet<i32> = all.iter().map(|partition| partition.leader).collect();
        let preferred = all.iter().all(|p| p.replicas.first() == Some(&p.leader));
        preferred && leaders.len() == all.len()
    })
}

/// Waits until it holds for the partitions; how long it took.
fn until(
    cluster: &Cluster,
    what: &str,
    holds: impl Fn(&[Partition]) -> bool,
) -> Result<String, String> {
    let start = Instant::now();
    loop {
        let found = cluster.partitions(TOPIC);
        if let Ok(found) = &found
            && found.len() == usize::try_from(PARTITIONS).expect("a count")
            && holds(found)
        {
            return Ok(format!("{:.1} s", start.elapsed().as_secs_f64()));
        }
        if start.elapsed() > SETTLE_LIMIT {
            return Err(format!("not {what}: {found:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
