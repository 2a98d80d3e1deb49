//! The stock clients that the brokers are driven with, behind one face: produce numbered records,
//! read a topic back. tests/README.md states the contract that their programs share.

mod toolchain;

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use toolchain::prepare;

use crate::job::Job;
use crate::oracle::{self, Acked, Seen};
use crate::workspace;

/// The codecs of the protocol; each client uses all of them, each starts with another.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Keys that each client writes.
const KEYS: u64 = 16;
const READ_LIMIT: Duration = Duration::from_secs(180);

/// A Kafka client under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Rdkafka,
    Kcat,
    Python,
    Java,
}

impl Client {
    pub const ALL: [Client; 4] = [Client::Rdkafka, Client::Kcat, Client::Python, Client::Java];

    pub fn as_str(self) -> &'static str {
        match self {
            Client::Rdkafka => "rdkafka",
            Client::Kcat => "kcat",
            Client::Python => "kafka-python",
            Client::Java => "java",
        }
    }

    /// The codecs in the order in which this client uses them.
    pub fn codecs(self) -> Vec<&'static str> {
        let mut codecs = CODECS.to_vec();
        codecs.rotate_left(self as usize);
        codecs
    }

    /// The client's own program, for the clients that have one in this repository.
    fn program(self) -> Option<Command> {
        match self {
            Client::Rdkafka => Some(Command::new(workspace::program("client-rdkafka"))),
            Client::Python => {
                let mut command = Command::new(toolchain::python());
                command.arg(workspace::root().join("tests/python/workload.py"));
                Some(command)
            }
            Client::Java => Some(java("glasslog.Workload")),
            Client::Kcat => None,
        }
    }

    /// Starts to produce `count` numbered records at `rate` a second.
    pub fn produce(
        self,
        bootstrap: &str,
        topic: &str,
        count: u64,
        rate: u64,
        dir: &Path,
    ) -> Result<Producing, String> {
        let work = match self.program() {
            None => Work::Kcat(kcat_produce(bootstrap, topic, count, rate, dir)),
            Some(mut command) => {
                command.args(["produce", bootstrap, topic, self.as_str()]);
                command.args([count.to_string(), self.codecs().join(","), rate.to_string()]);
                let name = format!("{}-produce", self.as_str());
                Work::Job(Job::spawn(&name, command, dir)?)
            }
        };
        Ok(Producing { client: self, count, work })
    }

    /// Reads the whole topic from its beginning, with assigned partitions.
    pub fn consume(self, bootstrap: &str, topic: &str, dir: &Path) -> Result<Vec<Seen>, String> {
        let command = match self.program() {
            Some(mut command) => {
                command.args(["consume", bootstrap, topic]);
                command
            }
            None => {
                let mut command = Command::new("kcat");
                command.args(["-C", "-e", "-q", "-b", bootstrap, "-t", topic]);
                command.args(["-o", "beginning", "-X", "check.crcs=true"]);
                command.args(["-f", "%p\\t%o\\t%k\\t%s\\n"]);
                command
            }
        };
        let name = format!("{}-consume", self.as_str());
        let text = Job::spawn(&name, command, dir)?.wait(READ_LIMIT)?;
        oracle::parse_seen(&text).map_err(|error| format!("{}: {error}", self.as_str()))
    }
}

enum Work {
    Job(Job),
    /// kcat takes one codec per run: a thread runs it once for each and feeds it.
    Kcat(JoinHandle<Result<(), String>>),
}

/// A client that is producing.
pub struct Producing {
    client: Client,
    count: u64,
    work: Work,
}

impl Producing {
    /// Waits for the end; every acknowledged record.
    pub fn finish(self, limit: Duration) -> Result<Vec<Acked>, String> {
        let name = self.client.as_str();
        let acked = match self.work {
            Work::Job(job) => oracle::parse_acked(name, &job.wait(limit)?)?,
            Work::Kcat(thread) => {
                join(thread, limit)?;
                // kcat does not say where a record went: it ends well only if all are there.
                (0..self.count)
                    .map(|sequence| Acked { client: name.to_owned(), sequence, at: None })
                    .collect()
            }
        };
        if acked.len() as u64 != self.count {
            return Err(format!("{name}: {} of {} acked", acked.len(), self.count));
        }
        Ok(acked)
    }

    /// Whether the client has not ended yet.
    pub fn is_running(&mut self) -> bool {
        match &mut self.work {
            Work::Job(job) => job.is_running(),
            Work::Kcat(thread) => !thread.is_finished(),
        }
    }
}

fn kcat_produce(
    bootstrap: &str,
    topic: &str,
    count: u64,
    rate: u64,
    dir: &Path,
) -> JoinHandle<Result<(), String>> {
    let (bootstrap, topic, dir) = (bootstrap.to_owned(), topic.to_owned(), dir.to_owned());
    std::thread::spawn(move || {
        let codecs = Client::Kcat.codecs();
        let start = Instant::now();
        let mut outcome = Ok(());
        for (pass, codec) in (0_u64..).zip(&codecs) {
            let passes = codecs.len() as u64;
            let range = count * pass / passes..count * (pass + 1) / passes;
            outcome = outcome.and_then(|()| {
                let target = [bootstrap.as_str(), topic.as_str(), codec];
                kcat_pass(target, range, (start, rate), &dir)
            });
        }
        outcome
    })
}

fn join(thread: JoinHandle<Result<(), String>>, limit: Duration) -> Result<(), String> {
    let start = Instant::now();
    while !thread.is_finished() {
        if start.elapsed() > limit {
            return Err(format!("kcat still runs after {} s", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    thread.join().map_err(|_| "kcat's feeder panicked".to_owned())?
}

/// One run of kcat; `[bootstrap, topic, codec]`, and the pace as (since, records a second).
fn kcat_pass(
    [bootstrap, topic, codec]: [&str; 3],
    range: std::ops::Range<u64>,
    (start, rate): (Instant, u64),
    dir: &Path,
) -> Result<(), String> {
    use std::io::Write;

    let mut command = Command::new("kcat");
    command.args(["-P", "-E", "-b", bootstrap, "-t", topic, "-K:", "-z", codec]);
    command.args(["-X", "acks=all", "-X", "enable.idempotence=true"]);
    command.args(["-X", "linger.ms=5", "-X", "message.timeout.ms=120000"]);
    command.stdin(Stdio::piped());
    let mut job = Job::spawn(&format!("kcat-produce-{codec}"), command, dir)?;
    let mut input = job.stdin().expect("it was piped");
    for number in range {
        let due = start + Duration::from_secs_f64(number as f64 / rate as f64);
        let left = due.saturating_duration_since(Instant::now());
        if left > Duration::from_millis(1) {
            std::thread::sleep(left);
        }
        let client = Client::Kcat.as_str();
        let value = format!("{client} {number} {}", "glass".repeat(30));
        writeln!(input, "{client}-{}:{value}", number % KEYS)
            .map_err(|error| format!("kcat: {error}\n{}", job.stderr()))?;
    }
    drop(input);
    let errors = dir.join(format!("kcat-produce-{codec}.err"));
    job.wait(Duration::from_secs(150))?;
    let text = std::fs::read_to_string(errors).unwrap_or_default();
    match text.lines().find(|line| line.contains("Delivery failed")) {
        Some(line) => Err(format!("kcat: {line}")),
        None => Ok(()),
    }
}

/// A Java program on the class path of tests/java.
pub fn java(class: &str) -> Command {
    let dir = toolchain::java_dir();
    let path = format!("{0}/client-java.jar:{0}/deps/*", dir.display());
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    command.args(["-cp", &path, class]);
    command
}

/// What `ProducerPerformance` says in its last line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Performance {
    pub records: u64,
    pub records_per_second: f64,
    pub mean_ms: f64,
    pub max_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
}

/// Kafka's own producer-perf-test: `records` of `bytes` bytes, `rate` a second (-1: as fast as
/// it goes), with acks=all. At a rate, a second's worth of records goes before that is not
/// measured: a client's first requests wait for its connections.
pub fn producer_performance(
    bootstrap: &str,
    topic: &str,
    (records, bytes, rate): (u64, u64, i64),
    properties: &[&str],
    dir: &Path,
) -> Result<Performance, String> {
    let mut command = java("org.apache.kafka.tools.ProducerPerformance");
    let warm_up = u64::try_from(rate).unwrap_or(0);
    command.args(["--topic", topic, "--num-records", &(records + warm_up).to_string()]);
    if warm_up > 0 {
        command.args(["--warmup-records", &warm_up.to_string()]);
    }
    command.args(["--record-size", &bytes.to_string()]);
    command.args(["--throughput", &rate.to_string(), "--producer-props"]);
    command.args([&format!("bootstrap.servers={bootstrap}"), "acks=all"]);
    command.args(properties);
    let text = Job::spawn("producer-performance", command, dir)?.wait(READ_LIMIT)?;
    let last = text.lines().rfind(|line| line.contains("99.9th"));
    let last = last.ok_or_else(|| format!("producer-perf-test printed no summary: {text}"))?;
    let found = parse_performance(last).ok_or_else(|| format!("not understood: {last}"))?;
    if found.records != records {
        return Err(format!("producer-perf-test: {} of {records}", found.records));
    }
    Ok(found)
}

fn parse_performance(line: &str) -> Option<Performance> {
    let parts: Vec<&str> = line.split(", ").collect();
    let first = |part: &str| part.split_whitespace().next()?.parse::<f64>().ok();
    let named = |name: &str| first(parts.iter().find(|part| part.contains(name))?);
    Some(Performance {
        records: parts.first()?.split_whitespace().next()?.parse().ok()?,
        records_per_second: named("records/sec")?,
        mean_ms: named("avg latency")?,
        max_ms: named("max latency")?,
        p50_ms: named(" 50th")?,
        p99_ms: named(" 99th")?,
        p999_ms: named("99.9th")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{CODECS, Client, parse_performance};
    use std::collections::BTreeSet;

    #[test]
    fn each_client_uses_every_codec_and_starts_with_another() {
        let firsts: BTreeSet<&str> = Client::ALL.iter().map(|c| c.codecs()[0]).collect();
        assert_eq!(firsts.len(), Client::ALL.len());
        for client in Client::ALL {
            let used: BTreeSet<&str> = client.codecs().into_iter().collect();
            assert_eq!(used.len(), CODECS.len());
        }
    }

    #[test]
    fn the_last_line_of_the_performance_tool_is_read() {
        let line = "5000 records sent, 3943.217666 records/sec (3.85 MB/sec), 107.58 ms avg latency, \
                    709.00 ms max latency, 113 ms 50th, 182 ms 95th, 191 ms 99th, 198 ms 99.9th.";
        let found = parse_performance(line).expect("understood");
        assert_eq!(found.records, 5000);
        assert_eq!((found.p50_ms, found.p99_ms, found.p999_ms), (113.0, 191.0, 198.0));
        assert_eq!((found.mean_ms, found.max_ms), (107.58, 709.0));
        assert!(parse_performance("nothing").is_none());
    }
}
