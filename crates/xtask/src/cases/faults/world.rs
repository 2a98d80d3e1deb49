//! Three brokers under load with everything that would wake somebody beside them, and what was
//! paged about a fault from the moment it was made.
//!
//! Invariants: whatever a fault needs to last is held by the world and let go with it; times are
//! counted from [`World::begin`], which a fault calls when it breaks something, not earlier.

use std::any::Any;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::all::Fault;
use super::verdict::{DEAD_MAN, PAGE, Paged, Wanted};
use crate::cases::planted;
use crate::cluster::kafka::Kafka;
use crate::cluster::{Brand, Cluster};
use crate::job::Job;
use crate::lab::Lab;
use crate::lab::disks::{Below, Disk};
use crate::observers::Observers;
use crate::observers::pager::{Page, Pager};
use crate::workspace;

pub const TOPIC: &str = "watched";
pub const PARTITIONS: i32 = 3;
/// Larger than what a path lets pass that is too narrow; see `Lab::squeeze`.
const RECORD_BYTES: &str = "2048";
const RECORDS_PER_SECOND: &str = "300";
/// Longer than any story; it ends with the world.
const LOAD_SECONDS: &str = "36000";
const BROKERS: u8 = 3;
/// Until Prometheus has rates of everybody, and what it sees then before anybody is harmed.
const WARM_UP: Duration = Duration::from_secs(3);
const CALM: Duration = Duration::from_secs(3);
/// A cluster that was hurt before must be well again.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const SERVE_LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);
/// What a machine busy with other things may cause, or what lasts and silences nothing that is wanted;
/// none of them is waited for.
const OF_OTHERS: [&str; 3] = ["DeadMan", "BrokerFatal", "LeaseExpiring"];

/// Everything that runs.
pub struct World {
    pub cluster: Cluster,
    /// Rooms, if the brokers live in such.
    lab: Option<Lab>,
    disks: Vec<Disk>,
    pub observers: Observers,
    pub pager: Pager,
    /// Who is harmed.
    pub victim: i32,
    /// The process id of whoever started the run.
    pub owner: u32,
    since: Instant,
    /// Since when Prometheus has rates of everybody.
    watched: Instant,
    /// What a fault needs to last.
    held: Vec<Box<dyn Any>>,
    /// Brokers whose last life ended badly: a page about that silences others for five minutes.
    crashed: BTreeSet<i32>,
    /// The producer, and the member of a consumer group.
    pub load: [Job; 2],
}

impl World {
    /// Brokers of one kind for all these faults, on 127.0.0.1 or each in a room.
    pub fn start(name: &str, faults: &[&Fault], rooms: bool, owner: u32) -> Result<World, String> {
        let lab = if rooms { Some(Lab::new(BROKERS)?) } else { None };
        let config: Vec<&str> = faults.iter().flat_map(|fault| fault.config).copied().collect();
        let mut cluster = match &lab {
            Some(lab) => Cluster::prepare_at(name, &lab.homes(), &config)?,
            None => Cluster::prepare(name, Brand::Glasslog, &config)?,
        };
        if faults.iter().any(|fault| fault.planted) {
            cluster.run(planted::program());
        }
        let below = faults.iter().map(|fault| fault.below).find(|below| *below != Below::Machine);
        let mut disks = Vec::new();
        for id in cluster.ids() {
            disks.extend(Disk::make(below.unwrap_or(Below::Machine), &cluster.data_dir(id))?);
        }
        if let Some(lab) = &lab {
            for dress in faults.iter().filter_map(|fault| fault.dress) {
                dress(&mut cluster, lab)?;
            }
        }
        cluster.launch_all()?;
        cluster.wait_ready()?;
        cluster.create_topic(TOPIC, PARTITIONS)?;
        let pager = Pager::start()?;
        let observers = Observers::start(&cluster, &pager)?;
        let load = load(&cluster)?;
        observers.wait_connected()?;
        std::thread::sleep(WARM_UP);
        let watched = Instant::now();
        std::thread::sleep(CALM);
        let victim = cluster.leader(TOPIC, 0)?;
        let (held, crashed, since) = (Vec::new(), BTreeSet::new(), Instant::now());
        Ok(World {
            cluster,
            lab,
            disks,
            observers,
            pager,
            victim,
            owner,
            since,
            watched,
            held,
            crashed,
            load,
        })
    }

    /// Waits until nothing is wrong any more, and chooses a leader that did not crash as victim.
    pub fn settle(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let firing = self.observers.firing()?;
            let names = firing.iter().filter_map(|alert| alert["labels"]["alertname"].as_str());
            let wrong: Vec<&str> = names.filter(|name| !OF_OTHERS.contains(name)).collect();
            let unhurt = |id: &i32| !self.crashed.contains(id);
            let led = self.cluster.partitions(TOPIC).unwrap_or_default();
            let leader = led.iter().map(|partition| partition.leader).find(unhurt);
            if let (true, Some(leader)) = (wrong.is_empty(), leader.filter(|id| *id > 0)) {
                self.victim = leader;
                return Ok(());
            }
            if begun.elapsed() > SETTLE_LIMIT {
                return Err(format!("it does not settle: {wrong:?} fire; {led:?}"));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Something breaks now.
    pub fn begin(&mut self) {
        self.since = Instant::now();
    }

    pub fn since(&self) -> Instant {
        self.since
    }

    /// The name by which pages call a broker.
    pub fn name(id: i32) -> String {
        format!("broker-{id}")
    }

    /// Whoever is not the victim.
    pub fn others(&self) -> Vec<i32> {
        self.cluster.ids().into_iter().filter(|id| *id != self.victim).collect()
    }

    pub fn lab(&self) -> Result<&Lab, String> {
        self.lab.as_ref().ok_or_else(|| "its brokers live in no rooms".to_owned())
    }

    /// The disk of a broker.
    pub fn disk(&self, id: i32) -> Result<&Disk, String> {
        let at = usize::try_from(id - 1).map_err(|_| "no such broker".to_owned())?;
        self.disks.get(at).ok_or_else(|| "its brokers have no disks of their own".to_owned())
    }

    pub fn pid(&self, id: i32) -> Result<u32, String> {
        self.cluster.pid(id).ok_or_else(|| format!("broker {id} does not run"))
    }

    /// Lasts until [`World::release`].
    pub fn hold(&mut self, thing: impl Any) {
        self.held.push(Box::new(thing));
    }

    pub fn release(&mut self) {
        self.held.clear();
    }

    /// Starts a broker that has ended, badly or not.
    pub fn revive(&mut self, id: i32) -> Result<(), String> {
        self.cluster.kill_or_gone(id)?;
        self.crashed.insert(id);
        self.cluster.launch(id)
    }

    /// Waits until what is wanted was paged, or seen where no page is wanted; the page, and when.
    pub fn watch(&self, wanted: &Wanted, limit: Duration) -> Option<Paged> {
        loop {
            if let Some(found) = wanted.look(self) {
                return Some(found);
            }
            if self.since.elapsed() > limit {
                return None;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Every page since the fault began, the dead man's aside.
    pub fn pages(&self) -> Vec<Page> {
        self.heard(PAGE)
    }

    /// How often the dead man was heard since the start.
    pub fn dead_man(&self) -> usize {
        self.pager.heard().iter().filter(|page| page.receiver == DEAD_MAN).count()
    }

    /// What this receiver heard since the fault began.
    pub fn heard(&self, receiver: &str) -> Vec<Page> {
        let heard = self.pager.heard().into_iter();
        heard.filter(|page| page.receiver == receiver && page.at >= self.since).collect()
    }

    /// Waits until each partition takes a record; how long since `from`.
    pub fn wait_served(&mut self, from: Instant) -> Result<Duration, String> {
        let mut waiting: Vec<i32> = (0..PARTITIONS).collect();
        let mut why = String::new();
        while !waiting.is_empty() {
            waiting.retain(|partition| match self.serves(*partition) {
                Ok(()) => false,
                Err(error) => {
                    why = error;
                    true
                }
            });
            if from.elapsed() > SERVE_LIMIT {
                return Err(format!("partitions {waiting:?} do not serve: {why}"));
            }
            std::thread::sleep(POLL);
        }
        let served = from.elapsed();
        self.cluster.wait_ready()?;
        Ok(served)
    }

    fn serves(&self, partition: i32) -> Result<(), String> {
        let leader = self.cluster.leader(TOPIC, partition)?;
        let kafka = Kafka::connect(self.cluster.socket(leader));
        let code = kafka.and_then(|mut kafka| kafka.produce(TOPIC, partition, b"serves"));
        match code.map_err(|error| error.to_string())? {
            0 => Ok(()),
            code => Err(format!("{TOPIC}-{partition}: error {code}")),
        }
    }

    /// Waits until the pager hears that `wanted`'s alert is over; how long since `from`. That a ticket
    /// is over is told minutes later: there it is asked for.
    pub fn wait_over(&self, wanted: &Wanted, from: Instant, limit: Duration) -> Option<Duration> {
        loop {
            let over = |page: &&Page| wanted.is_over(&page.alert) && page.at >= from;
            if let Some(page) = self.pages().iter().find(over) {
                return Some(page.at - from);
            }
            let fires = |all: Vec<Value>| all.iter().any(|alert| wanted.is_about(alert));
            if wanted.is_ticket() && self.observers.firing().is_ok_and(|all| !fires(all)) {
                return Some(from.elapsed());
            }
            if from.elapsed() > limit {
                return None;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Tickets that fire now, by alert and broker, and what they say; they come to the receiver half a minute later.
    pub fn tickets(&self) -> Vec<(String, String)> {
        let firing = self.observers.firing().unwrap_or_default();
        let tickets = firing.iter().filter(|alert| alert["labels"]["severity"] == "ticket");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        tickets
            .map(|alert| {
                let labels = &alert["labels"];
                let name = format!("{} {}", text(&labels["alertname"]), text(&labels["instance"]));
                (name, text(&alert["annotations"]["summary"]))
            })
            .collect()
    }

    /// For so long Prometheus has had rates of everybody.
    pub fn watched(&self) -> Duration {
        self.watched.elapsed()
    }

    /// Takes everything down; the folder goes unless it is wanted.
    pub fn end(self, keep: bool) {
        let World { mut cluster, lab, disks, observers, held, load, .. } = self;
        drop((held, load, observers));
        // Data directories may be mounted.
        cluster.kill_all();
        drop((disks, lab));
        if !keep {
            cluster.remove();
        }
    }
}

/// A producer, and a member of a consumer group.
fn load(cluster: &Cluster) -> Result<[Job; 2], String> {
    let bootstrap = cluster.bootstrap();
    let mut produce = Command::new(workspace::program("client-rdkafka"));
    produce.args(["load", &bootstrap, TOPIC, RECORD_BYTES, RECORDS_PER_SECOND, LOAD_SECONDS]);
    let mut consume = Command::new("kcat");
    consume.args(["-b", &bootstrap, "-q", "-f", "%o\n", "-G", "readers", TOPIC]);
    Ok([
        Job::spawn("produce", produce, cluster.dir())?,
        Job::spawn("consume", consume, cluster.dir())?,
    ])
}
