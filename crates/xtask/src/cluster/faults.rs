//! What can be done to one broker's process besides stopping and killing it.

use std::fs;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use super::http::{self, Metrics};
use super::kafka::{Kafka, Partition};
use super::{Cluster, POLL};
use crate::job::signal;

impl Cluster {
    /// Sends a signal by name to a running broker.
    pub fn signal(&mut self, id: i32, name: &str) -> Result<(), String> {
        let process = self.broker(id).process.as_ref();
        signal(process.ok_or_else(|| format!("broker {id} does not run"))?, name)
    }

    /// The process of a running broker.
    pub fn pid(&self, id: i32) -> Option<u32> {
        let found = self.brokers.iter().find(|broker| broker.id == id)?;
        found.process.as_ref().map(Child::id)
    }

    /// `kill -9`, also of a broker that has ended by itself meanwhile.
    pub fn kill_or_gone(&mut self, id: i32) -> Result<(), String> {
        let Some(mut process) = self.broker(id).process.take() else { return Ok(()) };
        // Fails harmlessly when it has ended.
        let _ = process.kill();
        process.wait().map(drop).map_err(|error| error.to_string())
    }

    /// Ends all brokers at once; what is on their disks matters no more.
    pub fn kill_all(&mut self) {
        for id in self.ids() {
            let _ = self.kill_or_gone(id);
        }
    }

    /// Waits until a broker ends by itself.
    pub fn wait_end(&mut self, id: i32, limit: Duration) -> Result<ExitStatus, String> {
        let start = Instant::now();
        loop {
            let process = self.broker(id).process.as_mut();
            let process = process.ok_or_else(|| format!("broker {id} does not run"))?;
            if let Some(status) = process.try_wait().map_err(|error| error.to_string())? {
                self.broker(id).process = None;
                return Ok(status);
            }
            if start.elapsed() > limit {
                let text = format!("broker {id} still runs after {limit:?}");
                return Err(self.with_log(id, &text));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Turns a fault on in a broker of [`Cluster::prepare_planted`], or off with 0.
    pub fn plant(&self, id: i32, fault: &str, value: u64) -> Result<(), String> {
        let path = format!("/admin/plant?fault={fault}&value={value}");
        match http::post(self.ports(id).admin, &path)? {
            (200, _) => Ok(()),
            (status, body) => Err(format!("POST {path} of broker {id}: {status} {body}")),
        }
    }

    /// One scrape of one broker.
    pub fn metrics_of(&self, id: i32) -> Result<Metrics, String> {
        match http::get(self.ports(id).admin, "/metrics")? {
            (200, body) => Ok(Metrics::new(body)),
            (status, _) => Err(format!("/metrics of broker {id}: {status}")),
        }
    }

    /// Who leads what, as one broker tells it.
    pub fn partitions_of(&self, id: i32, topic: &str) -> Result<Vec<Partition>, String> {
        let asked = Kafka::connect(self.ports(id).kafka).and_then(|mut k| k.partitions(topic));
        asked.map_err(|error| error.to_string())
    }

    /// From its next start on a broker's configuration has these lines beside its own, and none that
    /// were added before.
    pub fn configure(&self, id: i32, lines: &[&str]) -> Result<(), String> {
        const ADDED: &str = "# added";
        let path = self.config_file(id);
        let told = |error: std::io::Error| format!("{}: {error}", path.display());
        let text = fs::read_to_string(&path).map_err(told)?;
        let (own, _) = text.split_once(ADDED).unwrap_or((&text, ""));
        let added = if lines.is_empty() { "" } else { ADDED };
        let lines = lines.iter().map(|line| format!("\n{line}")).collect::<String>();
        fs::write(&path, format!("{own}{added}{lines}")).map_err(told)
    }

    /// Other words before a broker's command line, from its next start on.
    pub fn set_prefix(&mut self, id: i32, prefix: Vec<String>) {
        self.broker(id).prefix = prefix;
    }
}
