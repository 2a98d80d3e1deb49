//! The alerts and dashboards as an engineer on call has them: rules and routes judged by their own
//! tools, then Prometheus and Alertmanager beside three brokers under load to which a few of the
//! faults happen that `cargo xtask faults` knows. Each time a page must come that says which.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::cases::faults::{self, Fault, World, panels};
use crate::cases::planted;
use crate::job::Job;
use crate::observers::{self, Observers};
use crate::tally::Tally;
use crate::workspace;

/// Faults in the order in which they are made: who has died is not paged about for five minutes.
const CASES: [(&str, &str); 9] = [
    ("an ordinary day of clients and administrators: nobody hears of it", "day"),
    ("a shard that stands still: a page with its broker, loop and cause", "shard"),
    ("ticks late for want of a processor: a page with broker and cause", "late-cpu"),
    ("an apply that blocks: a page with its broker, loop and cause", "apply"),
    ("a broker that is stopped: a page with its name", "stop"),
    ("two locks in opposite order: a page with both places", "inversion"),
    ("kill -9: a page with the broker's name", "kill"),
    ("two of three gone: the third pages that nobody leads", "majority"),
    // Last: whoever sees it says so until its next start.
    ("a disk that lied: a page with broker and broken promise, and doctor says so", "lying-disk"),
];
/// From a fault to a page about it, on a machine with other things to do.
const PAGE_LIMIT: Duration = Duration::from_secs(15);
/// Until every rule was looked at: of some the first time is up to half a minute after the start, at a
/// moment that Prometheus chooses.
const LOOKED_AT_LIMIT: Duration = Duration::from_secs(60);
/// Alerts that a machine busy with other things may cause.
const OF_THE_MACHINE: [&str; 7] = [
    "DeadMan",
    "LoopStalled",
    "JournalDiskStalled",
    "JournalDiskSlow",
    "TicksLate",
    "BufferBacklog",
    "LeaseExpiring",
];
/// Share of the expressions of which some series must have moved; `cargo xtask faults` moves them all.
const MOVING_MIN: f64 = 0.75;

/// Runs the story.
pub fn run(tally: &mut Tally) {
    if let Some(missing) = observers::missing() {
        return tally.skip("alerts", &format!("there is no {missing}"));
    }
    tally.check("the rules' own tests", tested);
    tally.check("routes lead to the receivers they should", routed);
    if !tally.check("brokers with faults to choose from", planted::ensure) {
        return;
    }
    let named = CASES.map(|(_, name)| faults::named(name));
    let all: Vec<&Fault> = named.into_iter().flatten().collect();
    let mut world = None;
    tally.check("three brokers under load, Prometheus and Alertmanager", || {
        world = Some(World::start("alerts", &all, false, std::process::id())?);
        Ok(String::new())
    });
    let Some(mut world) = world else { return };
    let failed = tally.failed;
    tally.check("causes silence their symptoms, and nothing else", || silenced(&world.observers));
    tally.check("every rule is evaluated, and no page comes while all is well", || calm(&world));
    for ((name, _), fault) in CASES.iter().zip(&all) {
        match fault.needs.iter().try_for_each(|need| need.check()) {
            Err(missing) => tally.cannot(name, missing.why()),
            Ok(()) => drop(tally.check(name, || paged(&mut world, fault))),
        }
    }
    tally.check("every panel's expression has data, and most of it moves", || shown(&world));
    if tally.failed > failed {
        println!("      kept: {}", world.cluster.dir().display());
    }
    world.end(tally.failed > failed);
}

/// One fault; what was paged, and how fast.
fn paged(world: &mut World, fault: &Fault) -> Result<String, String> {
    world.settle()?;
    let row = faults::play(world, fault, PAGE_LIMIT);
    let told = format!("{} {} {}", row.alert, row.text, row.note);
    match (row.right, row.seconds) {
        (true, Some(seconds)) => Ok(format!("after {seconds:.1} s: {told}")),
        _ => Err(format!("{told}; others: {}", row.others.join("; "))),
    }
}

/// Runs a checking tool from the repository's top; what it printed.
fn tool(program: &str, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).args(words);
    let dir = workspace::target().join("test-output");
    Job::spawn(program, command, &dir)?.wait(Duration::from_secs(60))
}

fn tested() -> Result<String, String> {
    tool("promtool", &["check", "rules", "alerts/rules.yml"])?;
    tool("promtool", &["check", "config", "--syntax-only", "alerts/prometheus.yml"])?;
    tool("promtool", &["test", "rules", "alerts/rules_test.yml", "alerts/budget_test.yml"])?;
    Ok(String::new())
}

fn routed() -> Result<String, String> {
    const CONFIG: &str = "alerts/alertmanager.yml";
    tool("amtool", &["check-config", CONFIG])?;
    let routes = [
        ("page", ["alertname=BrokerDown", "severity=page"]),
        ("ticket", ["alertname=UnderReplicated", "severity=ticket"]),
        ("ticket", ["alertname=Stranger", "severity=none"]),
        ("deadman", ["alertname=DeadMan", "severity=page"]),
    ];
    for (receiver, labels) in routes {
        let file = format!("--config.file={CONFIG}");
        let verify = format!("--verify.receivers={receiver}");
        tool("amtool", &["config", "routes", "test", &file, &verify, labels[0], labels[1]])?;
    }
    Ok(format!("{} routes", routes.len()))
}

/// Alerts as Prometheus would send them, of clusters that do not exist.
fn silenced(observers: &Observers) -> Result<String, String> {
    let (one, two) = ("instance=broker-1", "instance=broker-2");
    let disk = ["alertname=JournalDiskStalled", "cluster=p", one];
    let down = ["alertname=BrokerDown", "cluster=q", one];
    let waits = ["alertname=LoopStalled", "cluster=p", one, "cause=fsync_inflight"];
    let locked = ["alertname=LoopStalled", "cluster=p", one, "cause=deadlock"];
    let other = ["alertname=LoopStalled", "cluster=p", two, "cause=fsync_inflight"];
    let behind = ["alertname=UnderReplicated", "cluster=q", two];
    let elsewhere = ["alertname=UnderReplicated", "cluster=r", two];
    let deaf = ["alertname=NoLeader", "cluster=q", two];
    let broken = ["alertname=BrokerDurabilityViolation", "cluster=q", two];
    observers
        .plant(&[&disk, &down, &waits, &locked, &other, &behind, &elsewhere, &deaf, &broken])?;
    let expected: [(&[&str], bool); 9] = [
        (&waits, true),
        (&behind, true),
        (&disk, false),
        (&down, false),
        (&locked, false),
        (&other, false),
        (&elsewhere, false),
        (&deaf, false),
        (&broken, false),
    ];
    // Who is silenced is said once an alert has been through its route.
    let start = Instant::now();
    loop {
        let mut wrong = Vec::new();
        for (labels, inhibited) in expected {
            if observers.is_inhibited(labels)? != inhibited {
                wrong.push(format!("{labels:?} silenced: {}", !inhibited));
            }
        }
        match wrong.is_empty() {
            true => return Ok(format!("{} alerts", expected.len())),
            false if start.elapsed() > Duration::from_secs(10) => return Err(wrong.join("; ")),
            false => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// How many rules there are, and which are not well; one that was not looked at yet is not.
fn rules(observers: &Observers) -> Result<(usize, Vec<String>), String> {
    let data = observers.ask("rules", &[])?;
    let groups = data["groups"].as_array().cloned().unwrap_or_default();
    let rules: Vec<&serde_json::Value> =
        groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
    let sick = rules.iter().filter(|rule| rule["health"] != "ok");
    let told = |rule: &&serde_json::Value| {
        format!("{}: {} {}", rule["name"], rule["health"], rule["lastError"])
    };
    Ok((rules.len(), sick.map(told).collect()))
}

fn calm(world: &World) -> Result<String, String> {
    let start = Instant::now();
    let count = loop {
        match rules(&world.observers)? {
            (count @ 1.., sick) if sick.is_empty() => break count,
            (count, sick) if start.elapsed() > LOOKED_AT_LIMIT => {
                return Err(format!("{count} rules, not well: {}", sick.join("; ")));
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let firing = world.observers.firing()?;
    let names: Vec<&str> =
        firing.iter().filter_map(|alert| alert["labels"]["alertname"].as_str()).collect();
    if let Some(wrong) = names.iter().find(|name| !OF_THE_MACHINE.contains(name)) {
        return Err(format!("{wrong} fires with nothing wrong: {firing:#?}"));
    }
    let start = Instant::now();
    while world.dead_man() == 0 {
        if start.elapsed() > PAGE_LIMIT {
            return Err("the dead man was not heard".to_owned());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(format!("{count} rules; fires: {}", names.join(", ")))
}

/// Every expression of every panel over the whole story, faults included; panels in which nothing moved
/// are told.
fn shown(world: &World) -> Result<String, String> {
    let mut seen = panels::look(world)?;
    if (seen.moving as f64) < MOVING_MIN * seen.asked as f64 {
        seen.wrong.push(format!("of {} expressions only {} moved", seen.asked, seen.moving));
    }
    if !seen.wrong.is_empty() {
        return Err(seen.wrong.join("\n      "));
    }
    let all = panels::all();
    let still: Vec<&str> = all.difference(&seen.moved).map(String::as_str).collect();
    Ok(format!(
        "{} of {} expressions moved; in {} of {} panels none did: {}",
        seen.moving,
        seen.asked,
        still.len(),
        all.len(),
        still.join(", ")
    ))
}
