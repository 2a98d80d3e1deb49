//! A cluster of real brokers: three `glasslog server` processes on free ports of 127.0.0.1, that
//! can be killed, started again, asked who leads and read off. Three nodes of Apache Kafka can
//! take their place: whoever speaks only Kafka to them need not know.
//!
//! Invariants: every process started here is dead when its [`Cluster`] is dropped; the folder of
//! a cluster whose test failed stays where it is, with each broker's log.

mod config;
mod faults;
pub mod http;
pub mod kafka;
mod topics;
mod usage;

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use http::Metrics;
use kafka::Kafka;
use serde_json::Value;

use crate::job::Job;
use crate::kafka as apache;
use crate::{job, workspace};

/// Brokers of a cluster.
pub const BROKERS: usize = 3;
/// Formation, from the start of the processes to the last `/readyz`.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// A graceful stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Where one broker listens.
#[derive(Debug, Clone, Copy)]
struct Ports {
    kafka: SocketAddr,
    peer: SocketAddr,
    admin: SocketAddr,
}

impl Ports {
    fn new(host: Ipv4Addr, [kafka, peer, admin]: [u16; 3]) -> Ports {
        let at = |port| SocketAddr::from((host, port));
        Ports { kafka: at(kafka), peer: at(peer), admin: at(admin) }
    }
}

/// A place of its own for one broker: an address that only it has, and the words that go before
/// its command line to start it there.
#[derive(Debug, Clone)]
pub struct Home {
    pub host: Ipv4Addr,
    pub prefix: Vec<String>,
}

/// Ports of a broker whose address is its own.
const HOME_PORTS: [u16; 3] = [9092, 9192, 9292];

#[derive(Debug)]
struct Broker {
    id: i32,
    ports: Ports,
    prefix: Vec<String>,
    process: Option<Child>,
}

/// Whose brokers these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brand {
    Glasslog,
    /// No admin listener: of `wait_ready`, metrics and the like only what Kafka's protocol tells.
    ApacheKafka,
}

/// Three brokers and the folder they live in.
#[derive(Debug)]
pub struct Cluster {
    brand: Brand,
    program: PathBuf,
    dir: PathBuf,
    brokers: Vec<Broker>,
}

impl Cluster {
    /// Starts three brokers with empty data directories and waits until all are ready.
    pub fn start(name: &str) -> Result<Cluster, String> {
        Cluster::start_with(name, &[])
    }

    /// The same, with lines of our own in every broker's configuration.
    pub fn start_with(name: &str, extra: &[&str]) -> Result<Cluster, String> {
        let mut cluster = Cluster::prepare(name, Brand::Glasslog, extra)?;
        cluster.launch_all()?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// Three nodes of Apache Kafka with its defaults and `extra` properties; wants
    /// [`crate::kafka::prepare`].
    pub fn start_kafka(name: &str, extra: &[&str]) -> Result<Cluster, String> {
        let mut cluster = Cluster::prepare(name, Brand::ApacheKafka, extra)?;
        cluster.launch_all()?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// One broker that is a cluster of its own.
    pub fn start_alone(name: &str) -> Result<Cluster, String> {
        let mut cluster = Cluster::prepare_some(name, 1, Brand::Glasslog, &[])?;
        cluster.launch_all()?;
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// Starts every broker, and does not wait.
    pub fn launch_all(&mut self) -> Result<(), String> {
        self.ids().into_iter().try_for_each(|id| self.launch(id))
    }

    /// The same, but one broker after the other in this order: the first ones find nobody and
    /// must keep trying.
    pub fn start_slowly(name: &str, order: [i32; BROKERS]) -> Result<Cluster, String> {
        let mut cluster = Cluster::prepare(name, Brand::Glasslog, &[])?;
        for id in order {
            cluster.launch(id)?;
            std::thread::sleep(Duration::from_secs(1));
            cluster.assert_alive()?;
        }
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// The folder and the configuration of a cluster that does not run yet.
    pub fn prepare(name: &str, brand: Brand, extra: &[&str]) -> Result<Cluster, String> {
        Cluster::prepare_some(name, BROKERS, brand, extra)
    }

    /// The same with a home for each broker.
    pub fn prepare_at(name: &str, homes: &[Home], extra: &[&str]) -> Result<Cluster, String> {
        let brokers = (1..).zip(homes).map(|(id, home)| Broker {
            id,
            ports: Ports::new(home.host, HOME_PORTS),
            prefix: home.prefix.clone(),
            process: None,
        });
        Cluster::prepare_these(name, brokers.collect(), Brand::Glasslog, extra)
    }

    /// Brokers of which faults can be chosen at run time ([`Cluster::plant`]); they do not run yet.
    pub fn prepare_planted(name: &str, count: usize) -> Result<Cluster, String> {
        let mut cluster = Cluster::prepare_some(name, count, Brand::Glasslog, &[])?;
        cluster.run(crate::cases::planted::program());
        Ok(cluster)
    }

    /// Every broker is this program from its next start on.
    pub fn run(&mut self, program: PathBuf) {
        self.program = program;
    }

    fn prepare_some(
        name: &str,
        count: usize,
        brand: Brand,
        extra: &[&str],
    ) -> Result<Cluster, String> {
        let ports = free_ports(count * 3)?;
        let brokers = (1..).zip(ports.chunks(3)).map(|(id, ports)| Broker {
            id,
            ports: Ports::new(Ipv4Addr::LOCALHOST, [ports[0], ports[1], ports[2]]),
            prefix: Vec::new(),
            process: None,
        });
        Cluster::prepare_these(name, brokers.collect(), brand, extra)
    }

    fn prepare_these(
        name: &str,
        brokers: Vec<Broker>,
        brand: Brand,
        extra: &[&str],
    ) -> Result<Cluster, String> {
        let dir = workspace::target().join("clusters").join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        }
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let program = workspace::program("glasslog");
        let cluster = Cluster { brand, program, dir, brokers };
        let mut files = Vec::new();
        for broker in &cluster.brokers {
            let text = config::text(&cluster, broker, extra);
            let path = cluster.config_file(broker.id);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            files.push(path);
        }
        if brand == Brand::ApacheKafka {
            apache::format(&files)?;
        }
        Ok(cluster)
    }

    /// One more broker, which joins what the first three formed, with `extra` lines of its own.
    /// Returns its id.
    pub fn add(&mut self, extra: &[&str]) -> Result<i32, String> {
        let id = i32::try_from(self.brokers.len()).expect("a few") + 1;
        let ports = free_ports(3)?;
        let ports = Ports::new(Ipv4Addr::LOCALHOST, [ports[0], ports[1], ports[2]]);
        let broker = Broker { id, ports, prefix: Vec::new(), process: None };
        let path = self.config_file(id);
        fs::write(&path, config::text(self, &broker, extra))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        self.brokers.push(broker);
        self.launch(id)?;
        Ok(id)
    }

    /// Removes the data directory of a broker that does not run.
    pub fn wipe(&self, id: i32) -> Result<(), String> {
        let dir = self.data_dir(id);
        fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))
    }

    /// The groups of every running broker as its `/debug/groups` tells them, by broker.
    pub fn groups(&self) -> Result<Vec<(i32, Vec<Value>)>, String> {
        let running = self.brokers.iter().filter(|b| b.process.is_some());
        running
            .map(|broker| match http::get(broker.ports.admin, "/debug/groups")? {
                (200, body) => {
                    let page: Value =
                        serde_json::from_str(&body).map_err(|error| error.to_string())?;
                    Ok((broker.id, page["groups"].as_array().cloned().unwrap_or_default()))
                }
                (status, _) => Err(format!("/debug/groups of broker {}: {status}", broker.id)),
            })
            .collect()
    }

    /// `/debug/groups` of one broker.
    pub fn page(&self, id: i32) -> Result<Value, String> {
        self.debug(id, "groups")
    }

    /// A page below `/debug` of one broker.
    pub fn debug(&self, id: i32, page: &str) -> Result<Value, String> {
        match http::get(self.ports(id).admin, &format!("/debug/{page}"))? {
            (200, body) => serde_json::from_str(&body).map_err(|error| error.to_string()),
            (status, body) => Err(format!("/debug/{page} of broker {id}: {status} {body}")),
        }
    }

    /// Where one broker listens for Kafka clients.
    pub fn socket(&self, id: i32) -> SocketAddr {
        self.ports(id).kafka
    }

    /// Where one broker's admin pages are.
    pub fn admin(&self, id: i32) -> SocketAddr {
        self.ports(id).admin
    }

    /// Runs `glasslog` with these words and a broker's admin listener; what it prints.
    pub fn order(&self, id: i32, words: &[&str], limit: Duration) -> Result<String, String> {
        let mut command = Command::new(workspace::program("glasslog"));
        command.args(words).arg("--admin").arg(self.ports(id).admin.to_string());
        Job::spawn(&format!("{}-{id}", words.join("-")), command, &self.dir)?.wait(limit)
    }

    /// The brokers' ids.
    pub fn ids(&self) -> Vec<i32> {
        self.brokers.iter().map(|broker| broker.id).collect()
    }

    /// `host:port` of every broker, for a client.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.ids().iter().map(|id| self.address(*id)).collect();
        addresses.join(",")
    }

    /// `host:port` of one broker.
    pub fn address(&self, id: i32) -> String {
        self.ports(id).kafka.to_string()
    }

    /// The folder for whatever a test keeps beside the brokers.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory of a broker.
    pub fn data_dir(&self, id: i32) -> PathBuf {
        self.dir.join(format!("data-{id}"))
    }

    pub fn config_file(&self, id: i32) -> PathBuf {
        self.dir.join(format!("broker-{id}.toml"))
    }

    fn log_file(&self, id: i32) -> PathBuf {
        self.dir.join(format!("broker-{id}.log"))
    }

    fn broker(&mut self, id: i32) -> &mut Broker {
        let found = self.brokers.iter_mut().find(|broker| broker.id == id);
        found.expect("a broker of this cluster")
    }

    fn ports(&self, id: i32) -> Ports {
        let found = self.brokers.iter().find(|broker| broker.id == id);
        found.expect("a broker of this cluster").ports
    }

    /// Starts one broker; what it prints is appended to its log file.
    pub fn launch(&mut self, id: i32) -> Result<(), String> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file(id))
            .map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = self.command(id);
        let process = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        self.broker(id).process = Some(process);
        Ok(())
    }

    fn command(&self, id: i32) -> Command {
        let config = self.config_file(id);
        if self.brand == Brand::ApacheKafka {
            return apache::server(&config);
        }
        let program = &self.program;
        let found = self.brokers.iter().find(|broker| broker.id == id);
        let prefix = &found.expect("a broker of this cluster").prefix;
        let mut command = match prefix.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.args(["server", "--config"]).arg(config);
        command
    }

    /// Waits until every running broker answers `/readyz` with 200.
    pub fn wait_ready(&mut self) -> Result<(), String> {
        for id in self.ids() {
            if self.broker(id).process.is_some() {
                self.wait_ready_one(id)?;
            }
        }
        Ok(())
    }

    /// Waits until one broker is ready; an error with the end of its log if it dies meanwhile.
    pub fn wait_ready_one(&mut self, id: i32) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let answer = self.readiness(id);
            if answer.is_ok() {
                return Ok(());
            }
            let process = self.broker(id).process.as_mut();
            if let Some(Ok(Some(status))) = process.map(Child::try_wait) {
                let text = format!("broker {id} ended with {status} while it started");
                return Err(self.with_log(id, &text));
            }
            if start.elapsed() > READY_LIMIT {
                let text = format!("broker {id} is not ready: {answer:?}");
                return Err(self.with_log(id, &text));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Of Apache Kafka a node is ready that answers, and knows as many brokers as run.
    fn readiness(&self, id: i32) -> Result<(), String> {
        let ports = self.ports(id);
        if self.brand == Brand::Glasslog {
            return match http::get(ports.admin, "/readyz")? {
                (200, _) => Ok(()),
                (status, body) => Err(format!("{status} {body}")),
            };
        }
        let running = self.brokers.iter().filter(|broker| broker.process.is_some()).count();
        let known = Kafka::connect(ports.kafka).and_then(|mut kafka| kafka.brokers());
        match known.map_err(|error| error.to_string())? {
            known if known >= running => Ok(()),
            known => Err(format!("it knows {known} brokers of {running}")),
        }
    }

    /// `kill -9`, and the process is gone on return.
    pub fn kill(&mut self, id: i32) -> Result<(), String> {
        let process = self.broker(id).process.take();
        let mut process = process.ok_or_else(|| format!("broker {id} does not run"))?;
        if let Ok(Some(status)) = process.try_wait() {
            let text = format!("broker {id} had ended by itself with {status}");
            return Err(self.with_log(id, &text));
        }
        process.kill().map_err(|error| error.to_string())?;
        process.wait().map_err(|error| error.to_string())?;
        Ok(())
    }

    /// SIGTERM to every running broker at once; an error unless each ends well and in time.
    pub fn stop(&mut self) -> Result<(), String> {
        let ids = self.ids();
        for id in &ids {
            if let Some(process) = &self.broker(*id).process {
                job::signal(process, "TERM")?;
            }
        }
        for id in ids {
            let status = self.ended(id, STOP_LIMIT)?;
            if !status.success() {
                let text = format!("broker {id} ended with {status} after SIGTERM");
                return Err(self.with_log(id, &text));
            }
        }
        Ok(())
    }

    /// SIGTERM to one broker, `times` in a row; an error unless it ends well and in time.
    /// Returns how long that took.
    pub fn stop_one(&mut self, id: i32, times: usize) -> Result<Duration, String> {
        let start = Instant::now();
        let process = self.broker(id).process.as_ref();
        let process = process.ok_or_else(|| format!("broker {id} does not run"))?;
        for _ in 0..times {
            job::signal(process, "TERM")?;
        }
        let status = self.ended(id, STOP_LIMIT)?;
        if !status.success() {
            let text = format!("broker {id} ended with {status} after SIGTERM");
            return Err(self.with_log(id, &text));
        }
        Ok(start.elapsed())
    }

    /// Everything a broker has logged so far, over all its lives.
    pub fn log(&self, id: i32) -> String {
        fs::read_to_string(self.log_file(id)).unwrap_or_default()
    }

    fn ended(&mut self, id: i32, limit: Duration) -> Result<ExitStatus, String> {
        let Some(mut process) = self.broker(id).process.take() else {
            return Ok(ExitStatus::default());
        };
        let start = Instant::now();
        loop {
            match process.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if start.elapsed() < limit => std::thread::sleep(POLL),
                Ok(None) => {
                    self.broker(id).process = Some(process);
                    let text = format!("broker {id} still runs {limit:?} after SIGTERM");
                    return Err(self.with_log(id, &text));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// An error unless every broker that was started still runs.
    pub fn assert_alive(&mut self) -> Result<(), String> {
        for id in self.ids() {
            let process = self.broker(id).process.as_mut();
            if let Some(Ok(Some(status))) = process.map(Child::try_wait) {
                return Err(self.with_log(id, &format!("broker {id} ended with {status}")));
            }
        }
        Ok(())
    }

    /// One scrape of each running broker.
    pub fn metrics(&self) -> Result<Vec<Metrics>, String> {
        let running = self.brokers.iter().filter(|b| b.process.is_some());
        running
            .map(|broker| match http::get(broker.ports.admin, "/metrics")? {
                (200, body) => Ok(Metrics::new(body)),
                (status, _) => Err(format!("/metrics of broker {}: {status}", broker.id)),
            })
            .collect()
    }

    /// The sum of a metric over all running brokers and its series.
    pub fn metric_sum(&self, name: &str) -> Result<f64, String> {
        self.metrics()?.iter().map(|page| page.sum(name)).sum()
    }

    /// `text` and the end of a broker's log.
    pub fn with_log(&self, id: i32, text: &str) -> String {
        let log = fs::read_to_string(self.log_file(id)).unwrap_or_default();
        format!("{text}\n{}", job::tail(&log))
    }

    /// Removes the folder of a cluster that did well.
    pub fn remove(mut self) {
        self.brokers.clear();
        // What cannot be removed now is removed by the next start of the same name.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Both fail harmlessly when it has ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Distinct ports that were free a moment ago.
pub fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    // All are held until all are known, so that none is given twice.
    let held: std::io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect();
    let held = held.map_err(|error| format!("no free port: {error}"))?;
    let ports: std::io::Result<Vec<u16>> =
        held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect();
    ports.map_err(|error| error.to_string())
}
