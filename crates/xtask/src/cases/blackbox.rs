//! The flight recorder of real brokers: one that leads is killed with `kill -9` under load, and
//! what its files say is read at once; then the timeline of all three must tell its death's
//! election, causes before effects.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::job::{self, Job};
use crate::tally::Tally;
use crate::workspace;

const TOPIC: &str = "recorded";
const PARTITIONS: i32 = 3;
/// The producer: records a second, and for how long.
const RATE: &str = "500";
const SECONDS: &str = "7";
/// From its start to the kill.
const SETTLE: Duration = Duration::from_millis(2_500);
/// The last event of a killed broker may be this old.
const AGE_US_MAX: i64 = 10_000;
const LIMIT: Duration = Duration::from_secs(30);

pub fn run(tally: &mut Tally) {
    let mut cluster = None;
    tally.check("a cluster whose last moments are read", || {
        let started = Cluster::start("blackbox")?;
        started.create_topic(TOPIC, PARTITIONS)?;
        cluster = Some(started);
        Ok(String::new())
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    let mut death = None;
    tally.check("blackbox: the last event of a killed leader is at most 10 ms old", || {
        let (killed, text) = kill(&mut cluster)?;
        death = Some(killed);
        Ok(text)
    });
    if let Some(death) = death {
        tally.check("blackbox: the survivors' election, causes before effects", || {
            election(&cluster, &death)
        });
        tally.check("blackbox: by group, term, request, loop and time", || {
            filters(&cluster, &death)
        });
        tally.check("blackbox: an election and SIGUSR1 leave dumps", || dumps(&cluster, &death));
        tally.check("blackbox: rotten records are left out and counted", || rot(&cluster, &death));
        tally.check("blackbox: a restart keeps the life before", || restart(&mut cluster, &death));
    }
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

/// A broker that was killed, and when.
struct Death {
    victim: i32,
    killed_us: i64,
    /// A group it led, and the term of that.
    group: u64,
    term: u64,
    load: std::cell::Cell<Option<Job>>,
}

fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// How late this machine lets a thread run that sleeps for a millisecond: the latest of the last
/// tenth of a second.
struct Lateness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    worst_us: Arc<AtomicU64>,
}

impl Lateness {
    fn watch() -> Lateness {
        let (stop, worst_us) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, told) = (stop.clone(), worst_us.clone());
        let thread = std::thread::spawn(move || {
            let mut seen: Vec<(Instant, u64)> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                std::thread::sleep(Duration::from_millis(1));
                let us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                seen.push((start, us.saturating_sub(1_000)));
                seen.retain(|(at, _)| at.elapsed() < Duration::from_millis(100));
                told.store(seen.iter().map(|(_, us)| *us).max().unwrap_or(0), Ordering::Relaxed);
            }
        });
        Lateness { stop, thread, worst_us }
    }

    fn end(self) -> i64 {
        let worst = self.worst_us.load(Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        // It only sleeps and notes.
        let _ = self.thread.join();
        i64::try_from(worst).unwrap_or(i64::MAX)
    }
}

/// What `glasslog blackbox` prints: the first object, and an object per event.
struct Told {
    about: Value,
    events: Vec<Value>,
}

fn blackbox(cluster: &Cluster, dirs: &[PathBuf], words: &[&str]) -> Result<Told, String> {
    let mut command = Command::new(workspace::program("glasslog"));
    command.arg("blackbox").args(dirs).arg("--json").args(words);
    let text = Job::spawn("blackbox", command, cluster.dir())?.wait(LIMIT)?;
    let mut lines = text.lines().map(|line| {
        serde_json::from_str::<Value>(line).map_err(|error| format!("{error}: {line}"))
    });
    let first = lines.next().ok_or("blackbox prints nothing")??;
    Ok(Told { about: first["about"].clone(), events: lines.collect::<Result<_, _>>()? })
}

fn all(cluster: &Cluster) -> Vec<PathBuf> {
    cluster.ids().into_iter().map(|id| cluster.data_dir(id)).collect()
}

fn torn(told: &Told) -> u64 {
    let brokers = told.about["brokers"].as_array();
    brokers.into_iter().flatten().filter_map(|broker| broker["torn"].as_u64()).sum()
}

fn kill(cluster: &mut Cluster) -> Result<(Death, String), String> {
    let mut load = Command::new(workspace::program("client-rdkafka"));
    load.args(["load", &cluster.bootstrap(), TOPIC, "100", RATE, SECONDS]);
    let load = Job::spawn("load", load, cluster.dir())?;
    std::thread::sleep(SETTLE);
    let victim = cluster.leader(TOPIC, 0)?;
    let page = cluster.page(victim)?;
    let groups = page["groups"].as_array().ok_or("no groups")?;
    let led = groups.iter().find(|group| {
        group["role"] == "leader" && group["name"].as_str().is_some_and(|n| n.starts_with(TOPIC))
    });
    let led = led.ok_or_else(|| format!("broker {victim} leads nothing of {TOPIC}: {page}"))?;
    let (group, term) = (led["group"].as_u64(), led["term"].as_u64());
    let (group, term) = group.zip(term).ok_or_else(|| format!("no group and term: {led}"))?;
    let late = Lateness::watch();
    std::thread::sleep(Duration::from_millis(200));
    let killed_us = wall_us();
    cluster.kill(victim)?;
    let late_us = late.end();
    let told = blackbox(cluster, &[cluster.data_dir(victim)], &[])?;
    let newest = told.events.last().and_then(|event| event["wall_us"].as_i64());
    let age_us = killed_us - newest.ok_or("no events")?;
    let text = format!(
        "{:.1} ms old among {} events; this machine was up to {:.1} ms late",
        age_us as f64 / 1e3,
        told.events.len(),
        late_us as f64 / 1e3
    );
    if age_us > AGE_US_MAX + late_us {
        return Err(text);
    }
    if torn(&told) != 0 {
        return Err(format!("{} torn records: {}", torn(&told), told.about));
    }
    let load = std::cell::Cell::new(Some(load));
    Ok((Death { victim, killed_us, group, term, load }, text))
}

/// Position of the first event at or after `from` that suits.
fn first(events: &[Value], from: usize, suits: impl Fn(&Value) -> bool) -> Option<usize> {
    (from..events.len()).find(|at| suits(&events[*at]))
}

fn election(cluster: &Cluster, death: &Death) -> Result<String, String> {
    cluster.wait_led(TOPIC, PARTITIONS)?;
    if let Some(load) = death.load.take() {
        load.wait(LIMIT)?;
    }
    let told = blackbox(cluster, &all(cluster), &[])?;
    let events = &told.events;
    let killed = first(events, 0, |e| e["wall_us"].as_i64() >= Some(death.killed_us));
    let killed = killed.ok_or("nothing after the kill")?;
    let of = |event: &Value, kind: &str| {
        event["event"] == kind
            && event["fields"]["group"] == death.group
            && event["broker"] != death.victim
    };
    let vote = |event: &Value, message: &str| {
        of(event, "message_received") && event["fields"]["message"] == message
    };
    let died = first(events, killed, |e| e["event"] == "peer" && e["broker"] != death.victim);
    let began = died.and_then(|at| first(events, at, |e| of(e, "election_started")));
    let asked = began.and_then(|at| first(events, at, |e| vote(e, "vote") || vote(e, "pre_vote")));
    let answered = asked.and_then(|at| {
        first(events, at, |e| vote(e, "vote_response") || vote(e, "pre_vote_response"))
    });
    let served = answered.and_then(|at| {
        first(events, at, |e| of(e, "serving") && e["fields"]["term"].as_u64() > Some(death.term))
    });
    let steps = [died, began, asked, answered, served];
    let Some(served) = served else {
        return Err(format!("death, election, vote, answer, serving: {steps:?}"));
    };
    let matched = causes(events)?;
    let shifted = told.about["brokers"].as_array().into_iter().flatten();
    let shifted: Vec<i64> = shifted.filter_map(|broker| broker["shift_us"].as_i64()).collect();
    if shifted.iter().any(|us| us.abs() > 1_000) {
        return Err(format!("brokers of one machine, and their clocks shifted: {shifted:?} us"));
    }
    let took = events[served]["wall_us"].as_i64().unwrap_or(0) - death.killed_us;
    Ok(format!(
        "serving again {:.0} ms after the kill; {matched} messages received after they were sent, \
         of {} events",
        took as f64 / 1e3,
        events.len()
    ))
}

/// No message is received before it was sent, by position and by time; how many were compared.
fn causes(events: &[Value]) -> Result<usize, String> {
    let mut known: BTreeMap<String, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        let sent = event["event"] == "message_sent";
        if !sent && event["event"] != "message_received" {
            continue;
        }
        let mut fields = event["fields"].clone();
        let (own, peer) = (event["broker"].clone(), fields["peer"].take());
        let (from, to) = if sent { (own, peer) } else { (peer, own) };
        let sides = known.entry(format!("{from} {to} {fields}")).or_default();
        if sent { sides.0.push(at) } else { sides.1.push(at) }
    }
    let mut compared = 0;
    for (name, (sent, received)) in known {
        let ([sent], [received]) = (&sent[..], &received[..]) else { continue };
        let time = |at: &usize| events[*at]["wall_us"].as_i64();
        if sent > received || time(sent) > time(received) {
            return Err(format!("received before it was sent: {name}"));
        }
        compared += 1;
    }
    if compared < 100 { Err(format!("only {compared} messages to compare")) } else { Ok(compared) }
}

fn filters(cluster: &Cluster, death: &Death) -> Result<String, String> {
    let dirs = all(cluster);
    let whole = blackbox(cluster, &dirs, &[])?;
    let group = death.group.to_string();
    let told = blackbox(cluster, &dirs, &["--group", &group])?;
    let only = |told: &Told, field: &str, wanted: u64| {
        let odd = told.events.iter().find(|event| event["fields"][field] != wanted);
        match odd {
            Some(odd) => Err(format!("not of {field} {wanted}: {odd}")),
            None if told.events.is_empty() => Err(format!("nothing of {field} {wanted}")),
            None => Ok(told.events.len()),
        }
    };
    let of_group = only(&told, "group", death.group)?;
    let term = (death.term + 1).to_string();
    let told = blackbox(cluster, &dirs, &["--group", &group, "--term", &term])?;
    let of_term = only(&told, "group", death.group).and(only(&told, "term", death.term + 1))?;
    if of_term >= of_group || of_group >= whole.events.len() {
        return Err(format!("{} events, {of_group}, {of_term}", whole.events.len()));
    }
    let ended = whole.events.iter().rev().find(|e| e["event"] == "request_ended");
    let ended = &ended.ok_or("no request")?["fields"];
    let request = format!("{}:{}", ended["connection"], ended["correlation"]);
    let told = blackbox(cluster, &dirs, &["--request", &request])?;
    if told.events.is_empty()
        || told.events.iter().any(|e| e["fields"]["correlation"] != ended["correlation"])
    {
        return Err(format!("--request {request}: {:?}", told.events));
    }
    let since = ["--since", "-20s", "--loop", "journal", "--last", "5"];
    let told = blackbox(cluster, &dirs, &since)?;
    if told.events.is_empty()
        || told.events.len() > 5
        || told.events.iter().any(|event| event["loop"] != "journal")
    {
        return Err(format!("{since:?}: {:?}", told.events));
    }
    // Whoever stops reading ends it without a word.
    let mut pipe = Command::new("sh");
    let program = workspace::program("glasslog");
    let dir = cluster.data_dir(death.victim);
    let line = format!("'{}' blackbox '{}' | head -2", program.display(), dir.display());
    pipe.args(["-c", &line]);
    let (text, ended) = Job::spawn("pipe", pipe, cluster.dir())?.outcome(LIMIT);
    let said = fs::read_to_string(cluster.dir().join("pipe.err")).unwrap_or_default();
    ended?;
    if text.lines().count() != 2 || said.contains("panic") {
        return Err(format!("into a closed pipe: {text} {said}"));
    }
    Ok(format!("{} events, {of_group} of the group, {of_term} of the term", whole.events.len()))
}

/// The dumps of a broker whose name ends so.
/// The dumps in a data directory whose reason is this.
pub fn dumps_of(dir: &Path, reason: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("flight/dumps")).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().contains(reason)))
        .collect();
    paths.sort();
    paths
}

fn dumps(cluster: &Cluster, death: &Death) -> Result<String, String> {
    let survivors: Vec<i32> = cluster.ids().into_iter().filter(|id| *id != death.victim).collect();
    for pid in cluster.pids() {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("kill -USR1 {pid}")]);
        job::run("kill", &mut command)?;
    }
    let start = Instant::now();
    let mut counts = Vec::new();
    for id in survivors {
        let dir = cluster.data_dir(id);
        loop {
            let (elections, asked) = (dumps_of(&dir, "election"), dumps_of(&dir, "operator"));
            if let (Some(newest), Some(_)) = (elections.last(), asked.last()) {
                let told = blackbox(cluster, std::slice::from_ref(newest), &[])?;
                let votes = |e: &Value| {
                    let message = e["fields"]["message"].as_str().unwrap_or_default();
                    message.contains("vote") && e["wall_us"].as_i64() > Some(death.killed_us)
                };
                if told.events.iter().any(votes) {
                    counts.push(told.events.len());
                    break;
                }
            }
            if start.elapsed() > LIMIT {
                return Err(format!("dumps of broker {id}: {elections:?} {asked:?}"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(format!("{counts:?} events in those of the survivors"))
}

/// A copy of the dead broker's files with records that are not as they were written.
fn rot(cluster: &Cluster, death: &Death) -> Result<String, String> {
    let from = cluster.data_dir(death.victim).join("flight");
    let copy = cluster.dir().join("rotten");
    let failed = |error: std::io::Error| error.to_string();
    fs::create_dir_all(&copy).map_err(failed)?;
    for entry in fs::read_dir(&from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else { continue };
        // It has the youngest of them once more.
        if name != "recent-0.ring" {
            fs::copy(&path, copy.join(name)).map_err(failed)?;
        }
    }
    let sound = blackbox(cluster, std::slice::from_ref(&copy), &[])?;
    let shard = copy.join("shard-0.ring");
    let mut bytes = fs::read(&shard).map_err(failed)?;
    // The number of one, a field of another, the check of a third.
    for at in [4096 + 64 * 11, 4096 + 64 * 12 + 30, 4096 + 64 * 13 + 22] {
        bytes[at] ^= 0x10;
    }
    fs::write(shard, bytes).map_err(failed)?;
    let told = blackbox(cluster, &[copy], &[])?;
    let missing = sound.events.len() - told.events.len();
    if (torn(&told), missing) != (3, 3) {
        return Err(format!("3 spoilt, {} counted, {missing} left out", torn(&told)));
    }
    Ok("3 of 3".into())
}

fn restart(cluster: &mut Cluster, death: &Death) -> Result<String, String> {
    cluster.launch(death.victim)?;
    cluster.wait_ready()?;
    let dir = cluster.data_dir(death.victim);
    if !dir.join("flight/previous/shard-0.ring").exists() {
        return Err("no flight/previous/shard-0.ring".into());
    }
    let told = blackbox(cluster, &[dir], &[])?;
    let lives = told.about["brokers"][0]["lives"].as_u64();
    let before = told.events.iter().filter(|e| e["wall_us"].as_i64() < Some(death.killed_us));
    let (before, starts) =
        (before.count(), told.events.iter().filter(|e| e["event"] == "start").count());
    if lives != Some(2) || starts != 2 || before < 1_000 {
        return Err(format!("{lives:?} lives, {starts} starts, {before} events before the kill"));
    }
    let crash = cluster.debug(death.victim, "crash")?;
    let at_ms = crash["last"]["at_ms"].as_i64().ok_or("no time of the crash")?;
    let early_ms = death.killed_us / 1_000 - at_ms;
    if early_ms.abs() > 1_000 || crash["last"]["reason"] != "killed" {
        return Err(format!("killed at {} us; told: {crash}", death.killed_us));
    }
    Ok(format!(
        "{before} of its events, {} of the new life; its end told {early_ms} ms early",
        told.events.len() - before
    ))
}
