//! Faults planted in running brokers, chosen at run time: what each broker says of itself must
//! name them. The brokers are those of a build of their own, with the feature `planted`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cases::blackbox::dumps_of;
use crate::cluster::Cluster;
use crate::job::Job;
use crate::tally::Tally;
use crate::workspace::{self, cargo};
use crate::{job, test};

const TOPIC: &str = "planted";
/// The inversion must be named so many times of as many.
const INVERSIONS: usize = 10;
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// A broker that ends itself serves its metrics for ten seconds, and its disk may take one.
const END_LIMIT: Duration = Duration::from_secs(30);
/// What a stall must have lasted when it is told; and with it the page, at a scrape a second.
const NAMED_WITHIN: Duration = Duration::from_secs(5);
/// How much longer each piece of work takes, on all brokers, and how long that is watched.
const SLOW_MS: u64 = 250;
const STRETCH: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_secs(2);
/// Of 1,000 ticks, late by more than 75 ms: a machine that others use too may be late now and then.
const LATE_MAX: f64 = 30.0;
/// Of the heartbeats that left in as much time before, under the same load.
const LEFT_MIN: f64 = 0.95;

/// Runs the stories.
pub fn run(tally: &mut Tally) {
    if !tally.check("a broker with faults to choose from builds", build) {
        return;
    }
    tally.check("two locks in opposite order: both threads, locks and places, 10 of 10", || {
        told(Cluster::prepare_planted("inversion", 1)?, inversions)
    });
    tally.check("a slow apply: the stall, the late ticks and the election say so", || {
        told(Cluster::prepare_planted("slow-apply", 3)?, slow_apply)
    });
    tally.check("slow writing to segments delays no heartbeat, a slow raft loop does", || {
        told(Cluster::prepare_planted("slow-segments", 3)?, slow_segments)
    });
    tally.check("a panic in apply holds one replica of one group, and is named", || {
        told(Cluster::prepare_planted("held", 3)?, panic_in_apply)
    });
    tally.check("a panic in a loop: sockets close, metrics stay, the next start knows", || {
        told(Cluster::prepare_planted("panicked", 3)?, panic_in_loop)
    });
    tally.check("a sync that hangs: leaderships leave, then the broker fences itself", || {
        told(Cluster::prepare_planted("fenced", 3)?, stuck_sync)
    });
}

/// The brokers with faults, built unless they are newer than every source.
pub fn ensure() -> Result<String, String> {
    let time = |path: &Path| fs::metadata(path).and_then(|found| found.modified());
    let mut sources = Vec::new();
    crate::verify::sources(&mut sources)?;
    // It shares no code with them.
    let own = workspace::root().join("crates/xtask");
    let theirs = sources.iter().filter(|path| !path.starts_with(&own));
    let newest = theirs.filter_map(|path| time(path).ok()).max();
    match (time(&program()), newest) {
        (Ok(built), Some(newest)) if built > newest => Ok("as built before".to_owned()),
        _ => build(),
    }
}

/// The brokers with faults, set aside; and what ships put back in its place.
pub fn build() -> Result<String, String> {
    let words = ["build", "--quiet", "--release", "--workspace", "--exclude", "sim", "--bins"];
    let mut planted = cargo(&words);
    planted.args(["--features", "server/planted"]);
    job::run("cargo build", &mut planted)?;
    let (from, to) = (workspace::program("glasslog"), program());
    let folder = to.parent().expect("it lies in a folder");
    let copied = fs::create_dir_all(folder).and_then(|()| fs::copy(&from, &to));
    copied.map_err(|error| format!("{}: {error}", to.display()))?;
    test::programs()?;
    Ok(String::new())
}

/// Where the broker with faults is.
pub fn program() -> std::path::PathBuf {
    workspace::target().join("planted").join("glasslog")
}

/// Plays `story` on a running cluster, whose folder stays when it fails.
fn told(
    mut cluster: Cluster,
    story: fn(&mut Cluster) -> Result<String, String>,
) -> Result<String, String> {
    cluster.launch_all()?;
    cluster.wait_ready()?;
    match story(&mut cluster) {
        Ok(text) => {
            cluster.remove();
            Ok(text)
        }
        Err(why) => Err(format!("{why}\nkept: {}", cluster.dir().display())),
    }
}

/// Waits for something that is there; what was there instead when time is up.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let started = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(why) if started.elapsed() > limit => {
                return Err(format!("{what}: not within {limit:?}: {why}"));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// The first stall that lasts and whose cause is this.
fn stall(cluster: &Cluster, id: i32, cause: &str) -> Result<Value, String> {
    let page = cluster.debug(id, "stalls")?;
    let stalls = page["stalls"].as_array().cloned().unwrap_or_default();
    let found = stalls.iter().find(|stall| stall["cause"] == cause && stall["ended_ms"].is_null());
    found.cloned().ok_or_else(|| format!("{stalls:#?}"))
}

fn inversions(cluster: &mut Cluster) -> Result<String, String> {
    let id = cluster.ids()[0];
    let mut slowest = Duration::ZERO;
    for round in 1..=INVERSIONS {
        let took = inversion(cluster, id).map_err(|why| format!("round {round}: {why}"))?;
        slowest = slowest.max(took);
        if round == 1 {
            let dir = cluster.data_dir(id);
            wait_for("a dump of the flight recorder", LIMIT, || {
                dumps_of(&dir, "stall").pop().ok_or_else(|| "none".to_owned())
            })?;
        }
        cluster.kill(id)?;
        cluster.launch(id)?;
        cluster.wait_ready()?;
    }
    Ok(format!("the slowest after {:.1} s", slowest.as_secs_f64()))
}

/// One deadlock, from the order that plants it to the page that names it.
fn inversion(cluster: &Cluster, id: i32) -> Result<Duration, String> {
    cluster.plant(id, "lock_inversion", 1)?;
    let at = cluster.socket(id);
    let asking = std::thread::spawn(move || {
        // Until the one that meets the raft loop in the middle; it is never answered.
        while crate::cluster::kafka::Kafka::connect(at)
            .and_then(|mut kafka| kafka.brokers())
            .is_ok()
        {}
    });
    let planted = Instant::now();
    let stall = wait_for("a deadlock", LIMIT, || stall(cluster, id, "deadlock"))?;
    let (took, stood_ms) = (planted.elapsed(), stall["stalled"]["age_ms"].as_u64());
    let links = stall["chain"].as_array().cloned().unwrap_or_default();
    let text = |link: &Value, key: &str| link[key].as_str().unwrap_or_default().to_owned();
    let names = |key: &str| links.iter().map(|link| text(link, key)).collect::<Vec<_>>();
    let places_named = |key: &str| names(key).iter().all(|at| at.contains("node/src/planted.rs:"));
    let held_ms: Vec<_> = links.iter().filter_map(|link| link["held_ms"].as_u64()).collect();
    let mut locks = names("lock");
    locks.sort();
    let threads = names("waiter");
    let has = |name: &str| threads.iter().any(|thread| thread.starts_with(name));
    let sound = links.len() == 2
        && locks == ["test_inner", "test_outer"]
        && has("shard-0")
        && has("kafka")
        && places_named("waits_at")
        && places_named("taken_at")
        && held_ms.len() == 2
        && held_ms.iter().all(|held| *held >= 900)
        && stood_ms.is_some_and(|ms| ms < NAMED_WITHIN.as_millis() as u64);
    if !sound {
        return Err(format!("{stall:#}"));
    }
    let metrics = cluster.metrics_of(id)?;
    if metrics.labelled("glasslog_stall_active_seconds", "cause=\"deadlock\"") < 0.9 {
        return Err("/metrics does not show the deadlock".to_owned());
    }
    // The broker is dead to it, and soon to everybody.
    drop(asking);
    Ok(took)
}

fn topic(cluster: &Cluster) -> Result<i32, String> {
    cluster.create_topic(TOPIC, 1)?;
    cluster.leader(TOPIC, 0)
}

/// One record, whatever becomes of it.
fn produce(cluster: &Cluster, id: i32) -> Result<i16, String> {
    let kafka = crate::cluster::kafka::Kafka::connect(cluster.socket(id));
    let produced = kafka.and_then(|mut kafka| kafka.produce(TOPIC, 0, b"x"));
    produced.map_err(|error| error.to_string())
}

/// Who leads the topic's partition now, and is not `old`.
fn heir(cluster: &Cluster, old: i32, limit: Duration) -> Result<i32, String> {
    let others: Vec<i32> = cluster.ids().into_iter().filter(|id| *id != old).collect();
    wait_for("another leader", limit, || {
        let told = cluster.partitions_of(others[0], TOPIC)?;
        let leader = told.first().map(|partition| partition.leader);
        leader.filter(|id| others.contains(id)).ok_or_else(|| format!("{told:?}"))
    })
}

fn slow_apply(cluster: &mut Cluster) -> Result<String, String> {
    let victim = topic(cluster)?;
    cluster.plant(victim, "slow_apply", 4_000)?;
    let at = cluster.socket(victim);
    let asked = std::thread::spawn(move || {
        let kafka = crate::cluster::kafka::Kafka::connect(at);
        // Its answer may come from a leader that is none any more.
        let _ = kafka.and_then(|mut kafka| kafka.produce(TOPIC, 0, b"slow"));
    });
    let stall = wait_for("the stall", LIMIT, || stall(cluster, victim, "apply_slow"))?;
    heir(cluster, victim, LIMIT)?;
    cluster.plant(victim, "slow_apply", 0)?;
    asked.join().map_err(|_| "the client panicked".to_owned())?;
    let name = format!("{TOPIC}-0");
    let lost = wait_for("the lost leadership", LIMIT, || {
        let page = cluster.debug(victim, "elections")?;
        let told = page["elections"].as_array().cloned().unwrap_or_default();
        let lost = |record: &&Value| {
            record["what"] == "leadership_lost" && record["name"] == name.as_str()
        };
        told.iter().find(lost).cloned().ok_or_else(|| format!("{told:#?}"))
    })?;
    let late = cluster
        .metrics_of(victim)?
        .labelled("glasslog_raft_ticks_late_total", "blocked_by=\"apply\"");
    let late_ms = lost["loop"]["late_ms_max"].as_u64().unwrap_or_default();
    if late < 1.0 || lost["loop"]["late_by"] != "apply" || late_ms < 1_000 {
        return Err(format!("{late} ticks late by apply; {lost:#}"));
    }
    Ok(format!("{}; a tick {late_ms} ms late", stall["says"].as_str().unwrap_or_default()))
}

/// Raft loops in one stretch of load: how many of 1,000 ticks came late by half a heartbeat, how many
/// heartbeats left a second, and elections.
struct Pace {
    late: f64,
    left: f64,
    elections: f64,
}

/// What all brokers did for `length`.
fn pace(cluster: &Cluster, length: Duration) -> Result<Pace, String> {
    let count = || {
        let mut all = [0.0; 4];
        for metrics in cluster.metrics()? {
            let heartbeats = "type=\"heartbeat\",dir=\"sent\",outcome=\"ok\"";
            let of = [
                metrics.sum("glasslog_raft_ticks_total")?,
                metrics.sum("glasslog_raft_ticks_late_total")?,
                metrics.labelled("glasslog_raft_messages_total", heartbeats),
                metrics.sum("glasslog_raft_elections_total")?,
            ];
            all.iter_mut().zip(of).for_each(|(sum, one)| *sum += one);
        }
        Ok::<[f64; 4], String>(all)
    };
    let (before, begun) = (count()?, Instant::now());
    std::thread::sleep(length);
    let (after, took) = (count()?, begun.elapsed());
    let grew = |at: usize| after[at] - before[at];
    Ok(Pace {
        late: 1_000.0 * grew(1) / grew(0).max(1.0),
        left: grew(2) / took.as_secs_f64(),
        elections: grew(3),
    })
}

fn slow_segments(cluster: &mut Cluster) -> Result<String, String> {
    cluster.create_topic(TOPIC, 9)?;
    cluster.wait_led(TOPIC, 9)?;
    let mut load = Command::new(workspace::program("client-rdkafka"));
    load.args(["load", &cluster.bootstrap(), TOPIC, "1024", "2000", "60"]);
    let load = Job::spawn("load", load, cluster.dir())?;
    let all = |fault: &str, ms: u64| {
        cluster.ids().into_iter().try_for_each(|id| cluster.plant(id, fault, ms))
    };
    std::thread::sleep(WARM_UP);
    let usual = pace(cluster, STRETCH / 2)?;
    all("slow_segments", SLOW_MS)?;
    let beside = pace(cluster, STRETCH)?;
    all("slow_segments", 0)?;
    all("slow_apply", SLOW_MS)?;
    // The same look must see the defect that is looked for.
    let inside = pace(cluster, STRETCH / 2)?;
    all("slow_apply", 0)?;
    drop(load);
    let told = |pace: &Pace| {
        let Pace { late, left, elections } = pace;
        format!("{late:.1} of 1,000 ticks late, {left:.0} heartbeats/s, {elections} elections")
    };
    let (before, beside_it, inside_it) = (told(&usual), told(&beside), told(&inside));
    let text = format!("before: {before}; beside the loop: {beside_it}; inside it: {inside_it}");
    let left_min = LEFT_MIN * usual.left;
    let sound = beside.late <= LATE_MAX && beside.left >= left_min && beside.elections == 0.0;
    let seen = inside.late > LATE_MAX && inside.left < left_min;
    if sound && seen { Ok(text) } else { Err(text) }
}

fn panic_in_apply(cluster: &mut Cluster) -> Result<String, String> {
    let victim = topic(cluster)?;
    let own = |cluster: &Cluster| {
        let page = cluster.page(victim)?;
        let groups = page["groups"].as_array().cloned().unwrap_or_default();
        let found = groups.iter().find(|group| group["name"] == format!("{TOPIC}-0").as_str());
        found.cloned().ok_or_else(|| format!("broker {victim} does not show it"))
    };
    // Pages about groups are as of a second ago.
    let shown = wait_for("its group", LIMIT, || own(cluster))?;
    let group = shown["group"].as_u64().ok_or("a group has a number")?;
    cluster.plant(victim, "panic_in_apply", group)?;
    // Acknowledged by the others or not at all; asked again there.
    let _ = produce(cluster, victim);
    let held = wait_for("the held replica", LIMIT, || {
        let group = own(cluster)?;
        group["held"].as_str().map(str::to_owned).ok_or_else(|| format!("{group:#}"))
    })?;
    if !held.contains("apply panicked: a planted panic at entry ") {
        return Err(held);
    }
    let heir = heir(cluster, victim, LIMIT)?;
    wait_for("an acknowledgement of the heir", LIMIT, || match produce(cluster, heir)? {
        0 => Ok(()),
        code => Err(format!("error {code}")),
    })?;
    let metrics = cluster.metrics_of(victim)?;
    let (held_groups, dead) = (metrics.sum("glasslog_groups_held")?, cluster.assert_alive());
    dead?;
    let panics = metrics.labelled("glasslog_panics_total", "room=\"apply\"");
    let log = cluster.log(victim);
    let placed = log.lines().any(|line| {
        line.contains("a planted panic at entry") && line.contains("node/src/planted.rs:")
    });
    if held_groups != 1.0 || panics != 1.0 || !placed {
        return Err(format!("{held_groups} held, {panics} panics, place in the log: {placed}"));
    }
    Ok(held)
}

fn panic_in_loop(cluster: &mut Cluster) -> Result<String, String> {
    let victim = topic(cluster)?;
    cluster.plant(victim, "panic_in_loop", 1)?;
    let planted = Instant::now();
    ending(cluster, victim, "panic")?;
    heir(cluster, victim, LIMIT)?;
    let took = planted.elapsed();
    let why = ended(cluster, victim, "panic")?;
    if !why.contains("thread shard-0: panic at crates/node/src/planted.rs:") {
        return Err(why);
    }
    Ok(format!("another leads {:.1} s after; {why}", took.as_secs_f64()))
}

fn stuck_sync(cluster: &mut Cluster) -> Result<String, String> {
    let victim = topic(cluster)?;
    let planted = Instant::now();
    cluster.plant(victim, "slow_sync", 60_000)?;
    let _ = produce(cluster, victim);
    heir(cluster, victim, LIMIT)?;
    let led = planted.elapsed();
    let log = cluster.log(victim);
    if !log.contains("the disk is slow: hands leaderships over") {
        return Err(format!("it did not step aside within {led:?}"));
    }
    let evidence = "journal: sync of ";
    if !log.lines().any(|line| line.contains("hands leaderships over") && line.contains(evidence)) {
        return Err("it does not say which operation is slow".to_owned());
    }
    ending(cluster, victim, "fenced")?;
    let why = ended(cluster, victim, "fenced")?;
    if !why.contains(evidence) {
        return Err(why);
    }
    Ok(format!("another leads {:.1} s after; {why}", led.as_secs_f64()))
}

/// The broker ends itself: clients are refused, and its metrics say why.
fn ending(cluster: &Cluster, victim: i32, reason: &str) -> Result<(), String> {
    let label = format!("reason=\"{reason}\"");
    wait_for("its metrics", LIMIT, || {
        let said = cluster.metrics_of(victim)?.labelled("glasslog_fatal_info", &label);
        if said == 1.0 { Ok(()) } else { Err(format!("fatal_info is {said}")) }
    })?;
    wait_for("a closed port", LIMIT, || match produce(cluster, victim) {
        Err(_) => Ok(()),
        Ok(code) => Err(format!("it answers a client with {code}")),
    })?;
    let said = cluster.metrics_of(victim)?.labelled("glasslog_fatal_info", &label);
    let page = cluster.debug(victim, "crash")?;
    match said == 1.0 && page["ending"]["reason"] == reason {
        true => Ok(()),
        false => Err(format!("fatal_info {said}, {page}")),
    }
}

/// It has ended, with the reason as its last line; the next start knows. The reason.
fn ended(cluster: &mut Cluster, victim: i32, reason: &str) -> Result<String, String> {
    let status = cluster.wait_end(victim, END_LIMIT)?;
    let log = cluster.log(victim);
    let last = log.lines().last().unwrap_or_default().to_owned();
    if status.code() != Some(70) || !last.starts_with("glasslog: fatal: ") {
        return Err(format!("ended with {status} and the last line `{last}`"));
    }
    cluster.launch(victim)?;
    cluster.wait_ready()?;
    let label = format!("reason=\"{reason}\"");
    let said = cluster.metrics_of(victim)?.labelled("glasslog_last_crash_info", &label);
    let page = cluster.debug(victim, "crash")?;
    let why = page["last"]["why"].as_str().unwrap_or_default().to_owned();
    if said != 1.0 || page["last"]["reason"] != reason || !last.ends_with(&why) {
        return Err(format!("last_crash_info {said}, {page}, last line `{last}`"));
    }
    Ok(why)
}
