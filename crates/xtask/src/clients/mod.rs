//! The stock clients that the brokers are driven with, behind one face: produce numbered records,
//! read a topic back, be a member of a group, administer. tests/README.md states the contract that
//! their programs share.

pub mod kcat;
mod member;
mod performance;
mod toolchain;

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

pub use member::Member;
pub use performance::{Performance, producer_performance};
pub use toolchain::{Toolchain, npm, prepare, prepare_all, program, python};

use crate::job::Job;
use crate::oracle::{self, Acked, Seen};
use crate::workspace;

/// The codecs of the protocol; each client uses all of them.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Keys that each client writes.
const KEYS: u64 = 16;
const READ_LIMIT: Duration = Duration::from_secs(180);
/// A whole administrator's story, whose steps wait 20 s each at most.
const ADMIN_LIMIT: Duration = Duration::from_secs(300);

/// A Kafka client under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    Java,
    Rdkafka,
    Confluent,
    Kcat,
    Python,
    Aiokafka,
    Kafkajs,
    Franz,
    Sarama,
    Rskafka,
}

impl Client {
    pub const ALL: [Client; 10] = [
        Client::Java,
        Client::Rdkafka,
        Client::Confluent,
        Client::Kcat,
        Client::Python,
        Client::Aiokafka,
        Client::Kafkajs,
        Client::Franz,
        Client::Sarama,
        Client::Rskafka,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Client::Java => "java",
            Client::Rdkafka => "rdkafka",
            Client::Confluent => "confluent-kafka",
            Client::Kcat => "kcat",
            Client::Python => "kafka-python",
            Client::Aiokafka => "aiokafka",
            Client::Kafkajs => "kafkajs",
            Client::Franz => "franz-go",
            Client::Sarama => "sarama",
            Client::Rskafka => "rskafka",
        }
    }

    /// What it is made with.
    pub fn toolchain(self) -> Toolchain {
        match self {
            Client::Rdkafka | Client::Rskafka => Toolchain::Workspace,
            Client::Kcat => Toolchain::Kcat,
            Client::Python | Client::Aiokafka | Client::Confluent => Toolchain::Python,
            Client::Java => Toolchain::Java,
            Client::Kafkajs => Toolchain::Node,
            Client::Franz | Client::Sarama => Toolchain::Go,
        }
    }

    /// Whether a lost answer makes this client store a record a second time.
    pub fn may_repeat(self) -> bool {
        self == Client::Rskafka
    }

    /// Whether it can be a member of a group: rskafka cannot, kcat is not asked to.
    pub fn has_groups(self) -> bool {
        !matches!(self, Client::Rskafka | Client::Kcat)
    }

    /// Whether its program here can be a static member.
    pub fn has_static_members(self) -> bool {
        matches!(self, Client::Java | Client::Rdkafka)
    }

    /// Whether it asks for records in a version that may carry zstd (KIP-110): rskafka does not.
    pub fn reads_zstd(self) -> bool {
        self != Client::Rskafka
    }

    /// The codecs in the order in which this client uses them; neighbours start with others.
    pub fn codecs(self) -> Vec<&'static str> {
        let mut codecs = CODECS.to_vec();
        codecs.rotate_left(self as usize % CODECS.len());
        codecs
    }

    /// The client's own program, for the clients that have one in this repository.
    fn program(self) -> Option<Command> {
        let python = |file: &str| {
            let mut command = Command::new(toolchain::python());
            command.arg(workspace::root().join("tests/python").join(file));
            command
        };
        let go = |name: &str| {
            let mut command = Command::new(toolchain::go_program());
            command.arg(name);
            command
        };
        match self {
            Client::Kcat => None,
            Client::Java => Some(java("glasslog.Workload")),
            Client::Rdkafka => Some(Command::new(workspace::program("client-rdkafka"))),
            Client::Rskafka => Some(Command::new(workspace::program("client-rskafka"))),
            Client::Python => Some(python("kafka_python.py")),
            Client::Aiokafka => Some(python("aio.py")),
            Client::Confluent => Some(python("confluent.py")),
            Client::Kafkajs => {
                let mut command = Command::new("node");
                command.arg(toolchain::node_dir().join("workload.js"));
                Some(command)
            }
            Client::Franz | Client::Sarama => Some(go(self.as_str())),
        }
    }

    /// One verb of the contract, on its way; standard input is held open until the job is told
    /// otherwise.
    fn verb(self, verb: &str, words: &[&str], name: &str, dir: &Path) -> Result<Job, String> {
        let program = self.program();
        let mut command = program.ok_or_else(|| format!("{}: no program", self.as_str()))?;
        command.arg(verb).args(words).stdin(Stdio::piped());
        Job::spawn(&format!("{}-{name}", self.as_str()), command, dir)
    }

    /// Name and version as the client tells them.
    pub fn version(self, dir: &Path) -> Result<String, String> {
        let Some(_) = self.program() else { return kcat::version(dir) };
        let text = self.verb("version", &[], "version", dir)?.wait(Duration::from_secs(30))?;
        Ok(text.trim().to_owned())
    }

    /// Starts to produce `count` numbered records at `rate` a second, with every codec.
    pub fn produce(
        self,
        bootstrap: &str,
        topic: &str,
        count: u64,
        rate: u64,
        dir: &Path,
    ) -> Result<Producing, String> {
        if self == Client::Kcat {
            let work = Work::Kcat(kcat::produce(bootstrap, topic, count, rate, dir));
            return Ok(Producing { client: self, count, work });
        }
        self.produce_with(&self.codecs(), bootstrap, topic, (count, rate), dir)
    }

    /// The same with these codecs, for a client with a program of its own.
    pub fn produce_with(
        self,
        codecs: &[&str],
        bootstrap: &str,
        topic: &str,
        (count, rate): (u64, u64),
        dir: &Path,
    ) -> Result<Producing, String> {
        let (number, rate) = (count.to_string(), rate.to_string());
        let words = [bootstrap, topic, self.as_str(), &number, &codecs.join(","), &rate];
        let work = Work::Job(self.verb("produce", &words, &format!("produce-{topic}"), dir)?);
        Ok(Producing { client: self, count, work })
    }

    /// Reads the whole topic from its beginning.
    pub fn consume(self, bootstrap: &str, topic: &str, dir: &Path) -> Result<Vec<Seen>, String> {
        let name = format!("consume-{topic}");
        let job = if self == Client::Kcat {
            Job::spawn(&format!("kcat-{name}"), kcat::consume(bootstrap, topic), dir)?
        } else {
            self.verb("consume", &[bootstrap, topic], &name, dir)?
        };
        let text = job.wait(READ_LIMIT)?;
        oracle::parse_seen(&text).map_err(|error| format!("{}: {error}", self.as_str()))
    }

    /// The administrator's story: each step's name and what became of it.
    pub fn administer(
        self,
        bootstrap: &str,
        group: &str,
        dir: &Path,
    ) -> Result<Vec<(String, String)>, String> {
        let prefix = format!("admin-{}", self.as_str());
        let text = self.verb("admin", &[bootstrap, &prefix, group], "admin", dir)?;
        let text = text.wait(ADMIN_LIMIT)?;
        let parse = |line: &str| {
            let (name, outcome) = line.split_once('\t')?;
            Some((name.to_owned(), outcome.to_owned()))
        };
        text.lines().map(|line| parse(line).ok_or_else(|| format!("no step: `{line}`"))).collect()
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
                kcat::join(thread, limit)?;
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

#[cfg(test)]
mod tests {
    use super::{CODECS, Client};
    use std::collections::BTreeSet;

    #[test]
    fn each_client_uses_every_codec_and_all_are_somebodys_first() {
        let firsts: BTreeSet<&str> = Client::ALL.iter().map(|c| c.codecs()[0]).collect();
        assert_eq!(firsts.len(), CODECS.len());
        for client in Client::ALL {
            let used: BTreeSet<&str> = client.codecs().into_iter().collect();
            assert_eq!(used.len(), CODECS.len());
        }
    }
}
