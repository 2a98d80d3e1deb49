//! Prometheus and Alertmanager beside a cluster, with this repository's rules and routes and only
//! their addresses changed.

pub mod pager;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::pager::Pager;
use crate::cluster::{Cluster, free_ports, http};
use crate::job::{self, Job};
use crate::workspace;

const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// Both, and where they listen.
#[derive(Debug)]
pub struct Observers {
    prometheus: SocketAddr,
    alertmanager: SocketAddr,
    /// Alertmanager's and Prometheus' processes; they end when these are dropped.
    jobs: [Job; 2],
}

/// Alertmanager's program: Debian calls it otherwise.
pub fn alertmanager() -> &'static str {
    let debian = "prometheus-alertmanager";
    if job::exists(debian) { debian } else { "alertmanager" }
}

/// The first of the programs that watch, check and consume that is not there.
pub fn missing() -> Option<&'static str> {
    let tools = ["promtool", "amtool", "prometheus", alertmanager(), "kcat"];
    tools.into_iter().find(|tool| !job::exists(tool))
}

impl Observers {
    /// Starts them; every second each broker is scraped and every rule looked at.
    pub fn start(cluster: &Cluster, pager: &Pager) -> Result<Observers, String> {
        let dir = cluster.dir().join("observers");
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let ports = free_ports(3)?;
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (prometheus, alertmanager) = (at(ports[0]), at(ports[1]));
        let pages = start_alertmanager(&dir, [alertmanager, at(ports[2])], pager)?;
        // What Prometheus cannot deliver it tries again only a minute later.
        wait_ready(alertmanager)?;
        let rules = start_prometheus(&dir, prometheus, alertmanager, cluster)?;
        wait_ready(prometheus)?;
        Ok(Observers { prometheus, alertmanager, jobs: [pages, rules] })
    }

    /// Prometheus stands still, or goes on.
    pub fn hold(&self, still: bool) -> Result<(), String> {
        let [_, prometheus] = &self.jobs;
        prometheus.signal(if still { "STOP" } else { "CONT" })
    }

    /// Waits until Prometheus has seen every broker and knows where alerts go.
    pub fn wait_connected(&self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let found = self.ask("alertmanagers", &[])?;
            let known = found["activeAlertmanagers"].as_array().is_some_and(|all| !all.is_empty());
            let up = self.ask("query", &[("query", "min(up)")])?;
            if known && up["result"][0]["value"][1] == "1" {
                return Ok(());
            }
            if start.elapsed() > START_LIMIT {
                return Err(format!("Prometheus does not see everybody: {found}, {up}"));
            }
            std::thread::sleep(POLL);
        }
    }

    /// `/api/v1/PATH` of Prometheus with these parameters: the answer's `data`.
    pub fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let pair = |(name, value): &(&str, &str)| format!("{name}={}", escaped(value));
        let query: Vec<String> = parameters.iter().map(pair).collect();
        let path = format!("/api/v1/{path}?{}", query.join("&"));
        let (status, body) = http::get(self.prometheus, &path)?;
        let mut body: Value = serde_json::from_str(&body).map_err(|e| format!("{path}: {e}"))?;
        if status != 200 {
            return Err(format!("{}", body["error"]));
        }
        Ok(body["data"].take())
    }

    /// Every alert that fires now.
    pub fn firing(&self) -> Result<Vec<Value>, String> {
        let data = self.ask("alerts", &[])?;
        let all = data["alerts"].as_array().cloned().unwrap_or_default();
        Ok(all.into_iter().filter(|alert| alert["state"] == "firing").collect())
    }

    /// Hands alerts to Alertmanager as Prometheus would, each as `name=value` words.
    pub fn plant(&self, alerts: &[&[&str]]) -> Result<(), String> {
        for labels in alerts {
            let mut command = Command::new("amtool");
            let url = format!("--alertmanager.url=http://{}", self.alertmanager);
            command.args(["alert", "add", &url]).args(*labels);
            job::run("amtool", &mut command)?;
        }
        Ok(())
    }

    /// Whether Alertmanager silences the alert with exactly these words because of another one.
    pub fn is_inhibited(&self, labels: &[&str]) -> Result<bool, String> {
        let (_, body) = http::get(self.alertmanager, "/api/v2/alerts")?;
        let all: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        let fits = |alert: &&Value| {
            let has = |word: &&str| {
                let (name, value) = word.split_once('=').unwrap_or_default();
                alert["labels"][name] == value
            };
            let count = alert["labels"].as_object().map_or(0, serde_json::Map::len);
            count == labels.len() && labels.iter().all(has)
        };
        let found = all.as_array().and_then(|all| all.iter().find(fits));
        let found = found.ok_or_else(|| format!("Alertmanager does not know {labels:?}"))?;
        Ok(found["status"]["inhibitedBy"].as_array().is_some_and(|by| !by.is_empty()))
    }
}

fn start_alertmanager(
    dir: &Path,
    [address, mesh]: [SocketAddr; 2],
    pager: &Pager,
) -> Result<Job, String> {
    let source = workspace::root().join("alerts/alertmanager.yml");
    let text = fs::read_to_string(&source).map_err(|e| format!("{}: {e}", source.display()))?;
    let to = format!("url: http://{}/", pager.address);
    let line = |line: &str| match line.split_once("url: ") {
        Some((indent, _)) if !line.trim_start().starts_with('#') => format!("{indent}{to}\n"),
        _ => format!("{line}\n"),
    };
    let config = dir.join("alertmanager.yml");
    fs::write(&config, text.lines().map(line).collect::<String>())
        .map_err(|error| error.to_string())?;
    let mut command = Command::new(alertmanager());
    command.arg("--config.file").arg(&config);
    command.arg("--storage.path").arg(dir.join("alertmanager"));
    command.arg(format!("--web.listen-address={address}"));
    command.arg(format!("--cluster.listen-address={mesh}"));
    Job::spawn("alertmanager", command, dir)
}

fn start_prometheus(
    dir: &Path,
    address: SocketAddr,
    alertmanager: SocketAddr,
    cluster: &Cluster,
) -> Result<Job, String> {
    let target = |id: i32| {
        let admin = cluster.admin(id);
        format!(
            "      - targets: ['{admin}']\n        labels: {{cluster: test, instance: broker-{id}}}\n"
        )
    };
    let text = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}}\n\
         rule_files: ['{rules}']\n\
         alerting:\n  alertmanagers:\n    - static_configs: [{{targets: ['{alertmanager}']}}]\n\
         scrape_configs:\n  - job_name: glasslog\n    static_configs:\n{targets}",
        rules = workspace::root().join("alerts/rules.yml").display(),
        targets = cluster.ids().into_iter().map(target).collect::<String>(),
    );
    let config = dir.join("prometheus.yml");
    fs::write(&config, text).map_err(|error| error.to_string())?;
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()));
    command.arg(format!("--web.listen-address={address}"));
    command.arg("--enable-feature=exemplar-storage");
    // It knows no Alertmanager in its first seconds, and what fires then is lost until this is over.
    command.arg("--rules.alert.resend-delay=5s");
    Job::spawn("prometheus", command, dir)
}

fn wait_ready(at: SocketAddr) -> Result<(), String> {
    let start = Instant::now();
    loop {
        match http::get(at, "/-/ready") {
            Ok((200, _)) => return Ok(()),
            other if start.elapsed() > START_LIMIT => return Err(format!("{at}: {other:?}")),
            _ => std::thread::sleep(POLL),
        }
    }
}

/// For a query: everything but letters and digits as `%XX`.
fn escaped(text: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped("up{a=\"b c\"}"), "up%7Ba%3D%22b%20c%22%7D");
    }
}
