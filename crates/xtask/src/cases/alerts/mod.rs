//! The alerts and dashboards as an engineer on call has them: rules and routes judged by their own
//! tools, then Prometheus and Alertmanager beside three brokers under load, of which one is
//! frozen in part, one killed, one stopped, and two killed. Each time a page must come that says which.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cluster::Cluster;
use crate::dashboards;
use crate::job::{self, Job};
use crate::lab::freezer::{self, Frozen};
use crate::observers::pager::Pager;
use crate::observers::{self, Observers};
use crate::tally::Tally;
use crate::workspace;

const TOPIC: &str = "watched";
const PARTITIONS: i32 = 6;
const RECORD_BYTES: &str = "1024";
const RECORDS_PER_SECOND: &str = "500";
/// Longer than the whole story.
const LOAD_SECONDS: &str = "120";
/// What must be seen before anybody is harmed.
const CALM: Duration = Duration::from_secs(20);
/// From a broker's death to a page about it.
const PAGE_LIMIT: Duration = Duration::from_secs(15);
/// Alerts that a machine busy with other things may cause.
const OF_THE_MACHINE: [&str; 6] =
    ["DeadMan", "LoopStalled", "JournalDiskStalled", "TicksLate", "BufferBacklog", "LeaseExpiring"];
/// Panels' expressions that may have nothing to show: what they show is trouble that this story
/// does not make, beside those that ask for values above 0.
const MAY_BE_EMPTY: [&str; 3] =
    ["ALERTS{", "glasslog_lock_wait_seconds_bucket", "glasslog_stall_active_seconds"];
/// Share of the expressions of which some series must have moved.
const MOVING_MIN: f64 = 0.5;

/// Runs the story.
pub fn run(tally: &mut Tally) {
    let tools = ["promtool", "amtool", "prometheus", observers::alertmanager(), "kcat"];
    if let Some(missing) = tools.into_iter().find(|tool| !job::exists(tool)) {
        return tally.skip("alerts", &format!("there is no {missing}"));
    }
    tally.check("the rules' own tests", tested);
    tally.check("routes lead to the receivers they should", routed);
    let mut world = None;
    tally.check("three brokers under load, Prometheus and Alertmanager", || {
        let (started, text) = World::start()?;
        world = Some(started);
        Ok(text)
    });
    let Some(mut world) = world else { return };
    let failed = tally.failed;
    let all = &mut world;
    tally.check("causes silence their symptoms, and nothing else", || silenced(&all.observers));
    tally.check("every rule is evaluated, and no page comes while all is well", || calm(all));
    let name = "a shard that stands still: a page with its broker, loop and cause";
    match freezer::usable() {
        Ok(()) => drop(tally.check(name, || frozen(all))),
        Err(why) => tally.cannot(name, &why),
    }
    tally.check("kill -9: a page with the broker's name", || killed(all));
    tally.check("a broker that is stopped: a page with its name", || stopped(all));
    tally.check("two of three gone: the third pages that nobody leads", || deserted(all));
    tally
        .check("every panel's expression has data, and most of it moves", || shown(&all.observers));
    if tally.failed == failed {
        let World { cluster, observers, load, .. } = world;
        drop((load, observers));
        cluster.remove();
    } else {
        println!("      kept: {}", world.cluster.dir().display());
    }
}

/// Everything that runs.
struct World {
    cluster: Cluster,
    observers: Observers,
    pager: Pager,
    since: Instant,
    /// A producer, and a member of a consumer group.
    load: [Job; 2],
}

impl World {
    fn start() -> Result<(World, String), String> {
        let since = Instant::now();
        let cluster = Cluster::start("alerts")?;
        cluster.create_topic(TOPIC, PARTITIONS)?;
        let pager = Pager::start()?;
        let observers = Observers::start(&cluster, &pager)?;
        let bootstrap = cluster.bootstrap();
        let mut produce = Command::new(workspace::program("client-rdkafka"));
        produce.args(["load", &bootstrap, TOPIC, RECORD_BYTES, RECORDS_PER_SECOND, LOAD_SECONDS]);
        let mut consume = Command::new("kcat");
        consume.args(["-b", &bootstrap, "-q", "-f", "%o\n", "-G", "readers", TOPIC]);
        let load = [
            Job::spawn("produce", produce, cluster.dir())?,
            Job::spawn("consume", consume, cluster.dir())?,
        ];
        std::thread::sleep(CALM);
        let text = format!("{RECORDS_PER_SECOND} records/s");
        Ok((World { cluster, observers, pager, since, load }, text))
    }

    /// Waits for a page about `instance`: how long after `since` Prometheus said so, and the pager
    /// heard it, and its words.
    fn paged(&self, alert: &str, instance: &str, since: Instant) -> Result<String, String> {
        let mut fired = None;
        loop {
            let firing = self.observers.firing()?;
            let is_it = |labels: &serde_json::Value| {
                labels["alertname"] == alert && labels["instance"] == instance
            };
            if fired.is_none() && firing.iter().any(|found| is_it(&found["labels"])) {
                fired = Some(since.elapsed());
            }
            let page = self.pager.find("page", alert, instance, since);
            if let (Some(fired), Some(page)) = (fired, page) {
                let summary = page.alert["annotations"]["summary"].as_str().unwrap_or_default();
                let paged = page.at.duration_since(since).as_secs_f64();
                let fired = fired.as_secs_f64();
                return Ok(format!(
                    "fires after {fired:.1} s, paged after {paged:.1} s: {summary}"
                ));
            }
            if since.elapsed() > PAGE_LIMIT {
                let names: Vec<&serde_json::Value> = firing.iter().map(|a| &a["labels"]).collect();
                return Err(format!("no page within {PAGE_LIMIT:?}; fired: {fired:?}; {names:?}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
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

fn calm(world: &World) -> Result<String, String> {
    let data = world.observers.ask("rules", &[])?;
    let groups = data["groups"].as_array().cloned().unwrap_or_default();
    let rules: Vec<&serde_json::Value> =
        groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
    let sick = rules.iter().filter(|rule| rule["health"] != "ok");
    let sick: Vec<String> =
        sick.map(|rule| format!("{}: {}", rule["name"], rule["lastError"])).collect();
    if !sick.is_empty() || rules.is_empty() {
        return Err(format!("{} rules, not well: {}", rules.len(), sick.join("; ")));
    }
    let firing = world.observers.firing()?;
    let names: Vec<&str> =
        firing.iter().filter_map(|alert| alert["labels"]["alertname"].as_str()).collect();
    if let Some(wrong) = names.iter().find(|name| !OF_THE_MACHINE.contains(name)) {
        return Err(format!("{wrong} fires with nothing wrong: {firing:#?}"));
    }
    let start = Instant::now();
    while world.pager.find("deadman", "DeadMan", "", world.since).is_none() {
        if start.elapsed() > PAGE_LIMIT {
            return Err("the dead man was not heard".to_owned());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(format!("{} rules; fires: {}", rules.len(), names.join(", ")))
}

/// One thread of a leader is frozen; it must be told from a broker that is gone.
fn frozen(world: &mut World) -> Result<String, String> {
    let victim = world.cluster.leader(TOPIC, 2)?;
    let process = world.cluster.pid(victim).ok_or("the leader does not run")?;
    let name = format!("broker-{victim}");
    let since = Instant::now();
    let frozen = Frozen::thread(process, "shard-")?;
    let text = world.paged("LoopStalled", &name, since);
    drop(frozen);
    world.cluster.wait_ready()?;
    let text = text?;
    match text.contains("shard/0 stands still") && text.contains(": d_state") {
        true => Ok(text),
        false => Err(text),
    }
}

fn killed(world: &mut World) -> Result<String, String> {
    let victim = world.cluster.leader(TOPIC, 0)?;
    let since = Instant::now();
    world.cluster.kill(victim)?;
    let text = world.paged("BrokerDown", &format!("broker-{victim}"), since);
    world.cluster.launch(victim)?;
    world.cluster.wait_ready()?;
    text
}

fn stopped(world: &mut World) -> Result<String, String> {
    let victim = world.cluster.leader(TOPIC, 1)?;
    let since = Instant::now();
    world.cluster.signal(victim, "STOP")?;
    let text = world.paged("BrokerDown", &format!("broker-{victim}"), since);
    world.cluster.signal(victim, "CONT")?;
    world.cluster.wait_ready()?;
    text
}

/// The page of two dead brokers does not hide it.
fn deserted(world: &mut World) -> Result<String, String> {
    let survivor = world.cluster.leader(TOPIC, 0)?;
    let others = || [1, 2, 3].into_iter().filter(|id| *id != survivor);
    let since = Instant::now();
    for id in others() {
        world.cluster.kill(id)?;
    }
    let text = world.paged("NoLeader", &format!("broker-{survivor}"), since);
    for id in others() {
        world.cluster.launch(id)?;
    }
    world.cluster.wait_ready()?;
    text
}

/// Every expression of every panel over the last minute.
fn shown(observers: &Observers) -> Result<String, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let now = now.as_secs();
    let (from, to) = ((now - 60).to_string(), now.to_string());
    let (mut asked, mut moving, mut wrong) = (0, 0, Vec::new());
    for board in dashboards::boards() {
        for panel in board.rows.iter().flat_map(|row| &row.panels) {
            for query in &panel.queries {
                let expr = of_this_cluster(&query.expr);
                let parameters =
                    [("query", expr.as_str()), ("start", &from), ("end", &to), ("step", "2")];
                let at = format!("{}, panel `{}`", board.title, panel.title);
                match observers.ask("query_range", &parameters) {
                    Ok(data) if has_series(&data) => moving += usize::from(moves(&data)),
                    Ok(_) if may_be_empty(&expr) => {}
                    Ok(_) => wrong.push(format!("{at}: no series")),
                    Err(error) => wrong.push(format!("{at}: {error}")),
                }
                asked += 1;
            }
        }
    }
    let share = moving as f64 / f64::from(asked);
    if share < MOVING_MIN {
        wrong.push(format!("of {asked} expressions only {moving} moved"));
    }
    match wrong.is_empty() {
        true => Ok(format!("{asked} expressions, {moving} moved")),
        false => Err(wrong.join("\n      ")),
    }
}

/// As Grafana would fill in its variables.
fn of_this_cluster(expr: &str) -> String {
    expr.replace("$__rate_interval", "10s").replace("$cluster", "test").replace("$instance", ".*")
}

fn may_be_empty(expr: &str) -> bool {
    expr.ends_with("> 0") || MAY_BE_EMPTY.iter().any(|name| expr.contains(name))
}

fn has_series(data: &serde_json::Value) -> bool {
    data["result"].as_array().is_some_and(|series| !series.is_empty())
}

/// Whether some series has two different values.
fn moves(data: &serde_json::Value) -> bool {
    let differs = |series: &serde_json::Value| {
        let values = series["values"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut values = values.iter().map(|sample| &sample[1]).filter(|value| **value != "NaN");
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    data["result"].as_array().is_some_and(|series| series.iter().any(differs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_values_that_differ_move() {
        let with = |values| json!({ "result": [{ "values": values }] });
        assert!(moves(&with(json!([[1, "0"], [2, "3"]]))));
        assert!(!moves(&with(json!([[1, "3"], [2, "3"]]))));
        assert!(!moves(&with(json!([[1, "NaN"], [2, "3"]]))));
        assert!(!has_series(&json!({ "result": [] })));
    }

    #[test]
    fn only_trouble_may_be_missing() {
        assert!(may_be_empty("sum (rate(a[1s])) > 0"));
        assert!(may_be_empty("max by (x) (glasslog_stall_active_seconds)"));
        assert!(!may_be_empty("sum (rate(a[1s]))"));
    }
}
