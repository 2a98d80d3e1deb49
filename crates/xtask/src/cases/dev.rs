//! `glasslog dev` as a newcomer runs it, without a terminal: three brokers, one of them dies and
//! comes back, Ctrl-C drains them all, and a second start finds the data.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::clients::Client;
use crate::cluster::http;
use crate::cluster::kafka::Kafka;
use crate::tally::Tally;
use crate::{cluster, job, workspace};

const TOPIC: &str = "dev";
const RECORDS: u64 = 1_000;
const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Where the command puts its peer and admin ports, seen from the first Kafka port.
const ADMIN_ABOVE: u16 = 200;

/// Runs the story twice over one data directory.
pub fn run(tally: &mut Tally) {
    let dir = workspace::target().join("clusters").join("dev");
    // It need not exist.
    let _ = fs::remove_dir_all(&dir);
    let failed = tally.failed;
    tally.check("glasslog dev: a broker that dies is started again", || {
        let mut dev = Dev::start(&dir)?;
        dev.wait_ready()?;
        dev.create_topic()?;
        let bootstrap = dev.bootstrap();
        let producing = Client::Rdkafka.produce(&bootstrap, TOPIC, RECORDS, RECORDS, &dir)?;
        producing.finish(Duration::from_secs(60))?;
        dev.kill_one()?;
        dev.wait_restarted()?;
        dev.interrupt()
    });
    tally.check("glasslog dev: a second start finds the data", || {
        let mut dev = Dev::start(&dir)?;
        dev.wait_ready()?;
        let seen = Client::Rdkafka.consume(&dev.bootstrap(), TOPIC, &dir)?;
        if seen.len() as u64 != RECORDS {
            return Err(format!("{} of {RECORDS} records", seen.len()));
        }
        dev.interrupt()
    });
    if tally.failed == failed {
        let _ = fs::remove_dir_all(&dir);
    } else {
        println!("      kept: {}", dir.display());
    }
}

struct Dev {
    process: Child,
    base: u16,
    log: PathBuf,
}

impl Dev {
    fn start(dir: &Path) -> Result<Dev, String> {
        fs::create_dir_all(dir).map_err(|error| error.to_string())?;
        let base = free_base()?;
        let log = dir.join("dev.log");
        let file = fs::File::create(&log).map_err(|error| error.to_string())?;
        let errors = file.try_clone().map_err(|error| error.to_string())?;
        let process = Command::new(workspace::program("glasslog"))
            .args(["dev", "--base-port", &base.to_string(), "--data-dir"])
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("glasslog dev: {error}"))?;
        Ok(Dev { process, base, log })
    }

    fn ports(&self) -> [u16; cluster::BROKERS] {
        [self.base, self.base + 1, self.base + 2]
    }

    fn bootstrap(&self) -> String {
        self.ports().map(|port| format!("127.0.0.1:{port}")).join(",")
    }

    fn is_ready(port: u16) -> bool {
        matches!(http::get(local(port + ADMIN_ABOVE), "/readyz"), Ok((200, _)))
    }

    fn wait_ready(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while !self.ports().into_iter().all(Dev::is_ready) {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(self.with_log(&format!("glasslog dev ended with {status}")));
            }
            if start.elapsed() > READY_LIMIT {
                return Err(self.with_log("glasslog dev is not ready"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn create_topic(&self) -> Result<(), String> {
        let mut broker = Kafka::connect(local(self.base)).map_err(|error| error.to_string())?;
        match broker.create_topic(TOPIC, 1, 3) {
            Ok(0) => Ok(()),
            other => Err(format!("CreateTopics: {other:?}")),
        }
    }

    /// Kills one of the brokers.
    fn kill_one(&self) -> Result<(), String> {
        let children = children(self.process.id()).map_err(|error| error.to_string())?;
        let last = children.last().ok_or("glasslog dev has no child processes")?;
        let mut kill = Command::new("sh");
        kill.args(["-c", &format!("kill -9 {last}")]);
        job::run("kill", &mut kill)
    }

    /// Waits until a broker was seen dead and all are ready again.
    fn wait_restarted(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while self.ports().into_iter().all(Dev::is_ready) {
            if start.elapsed() > Duration::from_secs(5) {
                return Err(self.with_log("no broker was seen dead"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.wait_ready()
    }

    /// Ctrl-C, and the wait for a good end.
    fn interrupt(&mut self) -> Result<String, String> {
        job::signal(&self.process, "INT")?;
        let start = Instant::now();
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) if status.success() => {
                    return Ok(format!("drained in {:.1} s", start.elapsed().as_secs_f64()));
                }
                Ok(Some(status)) => {
                    return Err(self.with_log(&format!("ended with {status} after Ctrl-C")));
                }
                _ if start.elapsed() > STOP_LIMIT => {
                    return Err(self.with_log("still runs after Ctrl-C"));
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn with_log(&self, text: &str) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        format!("{text}\n{}", job::tail(&log))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            // Its own drain first: a killed parent could leave brokers behind.
            let _ = job::signal(&self.process, "INT");
            std::thread::sleep(Duration::from_secs(3));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child processes of a process, whichever of its threads started them.
fn children(pid: u32) -> std::io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("children"))?;
        let ids = text.split_whitespace();
        found.extend(ids.filter_map(|word| word.parse::<u32>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A base port with all nine ports of the command free a moment ago.
fn free_base() -> Result<u16, String> {
    use std::net::TcpListener;
    for candidate in cluster::free_ports(20)? {
        let all = [0, 1, 2, 100, 101, 102, 200, 201, 202];
        let free = |above: &u16| {
            let port = candidate.checked_add(*above);
            port.is_some_and(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        };
        if all.iter().all(free) {
            return Ok(candidate);
        }
    }
    Err("no nine free ports".to_owned())
}
