//! One run of one scenario: the brokers and clients, the fault, and what came of it as JSON. It is
//! the whole life of a process that lives in namespaces of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::clients::{Load, PARTITIONS, TOPIC, Told};
use super::figures::{self, Elections};
use super::scenarios::{self, Scenario};
use crate::cases::failover;
use crate::cluster::Cluster;
use crate::history;
use crate::lab::Lab;
use crate::lab::disks::Disk;

/// From the end of a fault until every partition has acknowledged a record sent after it.
const HEAL_LIMIT: Duration = Duration::from_secs(30);
/// Load before and after the fault.
const SETTLE: Duration = Duration::from_millis(1_500);
const BROKERS: u8 = 3;
/// Violations of each kind that are written out.
const SHOWN_MAX: usize = 3;

/// Why a run came to no result.
pub enum Trouble {
    Failed(String),
    /// The kernel would not make the fault.
    Cannot(String),
}

impl From<String> for Trouble {
    fn from(text: String) -> Trouble {
        Trouble::Failed(text)
    }
}

/// What a scenario plays with.
pub struct World {
    pub cluster: Cluster,
    pub lab: Lab,
    pub disks: Vec<Disk>,
    load: Load,
    /// The broker that leads partition 0.
    pub victim: i32,
    /// How long a fault lasts.
    pub hold: Duration,
    /// The process id of whoever started the run.
    pub owner: u32,
    began_us: u64,
    ended_us: u64,
    notes: Vec<String>,
}

impl World {
    /// Says that the fault begins now. What can still be acknowledged as if nothing were wrong was
    /// sent before.
    pub fn begin(&mut self) {
        self.began_us = wall_us();
    }

    /// Says that the fault is over.
    pub fn end(&mut self) {
        self.ended_us = wall_us();
    }

    /// Everything goes on as it is for as long as a fault lasts.
    pub fn hold(&self) {
        std::thread::sleep(self.hold);
    }

    /// Whoever is not the victim.
    pub fn others(&self) -> Vec<i32> {
        self.cluster.ids().into_iter().filter(|id| *id != self.victim).collect()
    }

    /// The disk of a broker.
    pub fn disk(&self, id: i32) -> &Disk {
        &self.disks[usize::try_from(id - 1).expect("an id")]
    }

    /// Something worth telling.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Acknowledgements of records that were sent after the fault began.
    pub fn acked_since_begin(&self) -> Result<usize, String> {
        let times = self.load.times()?;
        Ok(times.iter().filter(|ack| ack.sent_us >= self.began_us).count())
    }

    /// Waits until every partition acknowledged a record that was sent after `since_us`.
    fn wait_served(&self, since_us: u64) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let times = self.load.times()?;
            let silent: Vec<i32> = (0..PARTITIONS)
                .filter(|p| !times.iter().any(|a| a.partition == *p && a.sent_us >= since_us))
                .collect();
            if silent.is_empty() {
                return Ok(());
            }
            if start.elapsed() > HEAL_LIMIT {
                let led = self.cluster.partitions(TOPIC);
                return Err(format!(
                    "{HEAL_LIMIT:?} after the fault partitions {silent:?} do not serve: {led:?}; \
                     suspect groups: {}",
                    suspects(&self.cluster)
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The process of one run. Writes an object, or a text that says why there is none.
pub fn inside(args: &[&str]) -> Result<(), String> {
    let [name, result, seconds, java, owner, config @ ..] = args else {
        return Err("chaos-inside is started by chaos".to_owned());
    };
    let scenario = scenarios::named(name)?;
    let hold = Duration::from_secs(seconds.parse().map_err(|_| "seconds: no number")?);
    let owner: u32 = owner.parse().map_err(|_| "owner: no number")?;
    let found = match run(scenario, hold, *java == "true", owner, config) {
        Ok(found) => found,
        Err(Trouble::Cannot(why)) => Value::String(why),
        Err(Trouble::Failed(text)) => return Err(text),
    };
    let text = format!("{found:#}\n");
    std::fs::write(Path::new(result), text).map_err(|error| format!("{result}: {error}"))
}

fn run(
    scenario: &Scenario,
    hold: Duration,
    java: bool,
    owner: u32,
    config: &[&str],
) -> Result<Value, Trouble> {
    let lab = Lab::new(BROKERS)?;
    let config: Vec<&str> = scenario.config.iter().chain(config).copied().collect();
    let name = format!("chaos-{}", scenario.name);
    let mut cluster = Cluster::prepare_at(&name, &lab.homes(), &config)?;
    let mut disks = Vec::new();
    for id in cluster.ids() {
        disks.extend(Disk::make(scenario.below, &cluster.data_dir(id))?);
    }
    if let Some(dress) = scenario.dress {
        dress(&mut cluster, &lab)?;
    }
    cluster.launch_all()?;
    cluster.wait_ready()?;
    cluster.create_topic(TOPIC, PARTITIONS)?;
    let mut load = Load::start(&cluster, java)?;
    load.settle()?;
    let settled_us = wall_us();
    std::thread::sleep(SETTLE);
    let before = Elections::read(&cluster)?;
    let victim = cluster.leader(TOPIC, 0)?;
    let (began_us, ended_us, notes) = (wall_us(), wall_us(), Vec::new());
    let mut world =
        World { cluster, lab, disks, load, victim, hold, owner, began_us, ended_us, notes };
    (scenario.play)(&mut world)?;
    let mut failures: Vec<String> = world.wait_served(world.ended_us).err().into_iter().collect();
    world.cluster.wait_ready()?;
    world.cluster.assert_alive()?;
    std::thread::sleep(SETTLE);
    let World { mut cluster, lab, disks, load, began_us, ended_us, notes, .. } = world;
    let told = load.finish(&cluster)?;
    let elections = Elections::read(&cluster)?.since(&before);
    let broken = cluster.metric_sum("glasslog_invariant_violations_total")?;
    if broken > 0.0 {
        failures.push(format!("{broken} broken invariants, by the brokers' own count"));
    }
    let mut found = summarise(&told, settled_us, began_us, ended_us);
    failures.extend(told.complaints);
    let good = failures.is_empty() && found["violations"] == json!({});
    found["failures"] = json!(failures);
    found["elections"] = json!(elections);
    found["suspect_groups"] = json!(suspects(&cluster));
    found["notes"] = json!(notes);
    if good {
        // Data directories may be mounted.
        cluster.kill_all();
        drop(disks);
        cluster.remove();
    }
    drop(lab);
    Ok(found)
}

fn summarise(told: &Told, settled_us: u64, began_us: u64, ended_us: u64) -> Value {
    let violations = history::check(&told.history);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut shown = Vec::new();
    for violation in &violations {
        let name = violation.anomaly.as_str();
        let count = counts.entry(name).or_default();
        *count += 1;
        if *count <= SHOWN_MAX {
            shown.push(format!("{name}: {}", violation.text));
        }
    }
    let all: Vec<i32> = (0..PARTITIONS).collect();
    let polled: usize = told.history.consumers.iter().map(|c| c.steps.len()).sum();
    json!({
        "violations": counts,
        "shown": shown,
        "summary": history::summary(&violations),
        "acked": told.history.acked.len(),
        "refused": told.history.refused.len(),
        "unsure": told.unsure,
        "polled": polled,
        "read": told.history.full.len(),
        "gaps_ms": figures::gaps_ms(&told.times, settled_us),
        "fault_ms": ended_us.saturating_sub(began_us) as f64 / 1_000.0,
        // Nothing where a partition never served again.
        "served_after_begin_ms": failover::slowest_ms(&told.times, &all, began_us).ok(),
        "served_after_end_ms": failover::slowest_ms(&told.times, &all, ended_us).ok(),
    })
}

fn suspects(cluster: &Cluster) -> f64 {
    let of = |id: i32| cluster.metrics_of(id).and_then(|m| m.sum("glasslog_groups_suspect"));
    cluster.ids().into_iter().filter_map(|id| of(id).ok()).sum()
}

/// Microseconds since the epoch: the clock of the clients.
fn wall_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("the clock is past 1970").as_micros()).expect("fits until 586,912")
}
