//! The clients of a run: our producer and follower over librdkafka, Kafka's verifiable producer
//! and consumer beside them where there is Java, all in the network namespace of the hub.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cases::failover::Ack;
use crate::clients::java;
use crate::cluster::Cluster;
use crate::history::{self, Consumer, History, Step};
use crate::job::Job;
use crate::workspace;

pub const TOPIC: &str = "chaos";
pub const PARTITIONS: i32 = 3;
/// Records a second of our producer, and of Java's.
const RATE: u32 = 150;
const JAVA_RATE: u32 = 50;
/// Until each client has done something: a JVM starts slowly on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Clients give a record up after 90 s.
const END_LIMIT: Duration = Duration::from_secs(120);
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Properties of Java's producer; its own tool would never try again.
const PRODUCER: &str = "enable.idempotence=true\nretries=2147483647\ndelivery.timeout.ms=90000\n\
    request.timeout.ms=5000\nmax.block.ms=90000\nretry.backoff.ms=50\nretry.backoff.max.ms=500\n\
    reconnect.backoff.max.ms=500\nmetadata.max.age.ms=5000\n";
const CONSUMER: &str = "reconnect.backoff.max.ms=500\nmetadata.max.age.ms=5000\n\
    request.timeout.ms=15000\ndefault.api.timeout.ms=60000\n";

/// Clients at work.
pub struct Load {
    producer: Job,
    follower: Job,
    java: Option<(Job, Job)>,
}

/// What they did.
pub struct Told {
    pub history: History,
    pub times: Vec<Ack>,
    /// Records whose producers gave up, not knowing whether they were stored.
    pub unsure: usize,
    /// Clients that ended badly.
    pub complaints: Vec<String>,
}

impl Load {
    pub fn start(cluster: &Cluster, with_java: bool) -> Result<Load, String> {
        let (bootstrap, dir) = (cluster.bootstrap(), cluster.dir());
        let rdkafka = |verb: &str, words: &[&str]| {
            let mut command = Command::new(workspace::program("client-rdkafka"));
            command.args([verb, &bootstrap, TOPIC]).args(words).stdin(Stdio::piped());
            Job::spawn(verb, command, dir)
        };
        let words = [PARTITIONS.to_string(), RATE.to_string()];
        let producer = rdkafka("history-produce", &["rdkafka", &words[0], &words[1]])?;
        let follower = rdkafka("history-poll", &[])?;
        let java = if with_java { Some(start_java(cluster)?) } else { None };
        Ok(Load { producer, follower, java })
    }

    /// Waits until every partition takes records and every client has done something.
    pub fn settle(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < START_LIMIT {
            let acked = self.times()?;
            let all = (0..PARTITIONS).all(|p| acked.iter().any(|ack| ack.partition == p));
            let java = self.java.as_ref().is_none_or(|(producer, consumer)| {
                producer.stdout().contains("producer_send_success")
                    && consumer.stdout().contains("record_data")
            });
            if all && java && !self.follower.stdout().is_empty() {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        let said = self.java.as_ref().map(|(p, c)| format!("{}\n{}", p.stderr(), c.stderr()));
        Err(format!("the clients did not get going: {}", said.unwrap_or_default()))
    }

    /// When our producer's records were sent and acknowledged, so far.
    pub fn times(&self) -> Result<Vec<Ack>, String> {
        Ok(history::produced("rdkafka", &self.producer.stdout())?.times)
    }

    /// Stops the producers, lets the consumers read to the end, and reads everything once more.
    /// A client that ended badly is complained about; what it had been told by then counts.
    pub fn finish(mut self, cluster: &Cluster) -> Result<Told, String> {
        let mut complaints = Vec::new();
        drop(self.producer.stdin());
        let java = self.java.take().map(|(mut producer, consumer)| {
            if !producer.is_running() {
                complaints.push(format!("Java's producer ended by itself\n{}", producer.stderr()));
            }
            (producer.terminate(END_LIMIT), consumer)
        });
        let (text, ended) = self.producer.outcome(END_LIMIT);
        complaints.extend(ended.err());
        let ours = history::produced("rdkafka", &text)?;
        let (mut acked, mut refused, mut unsure) = (ours.acked, ours.refused, ours.unsure);
        let mut consumers = Vec::new();
        let mut followed = |name: &str, steps: Result<Vec<Step>, String>| match steps {
            Ok(steps) => consumers.push(Consumer { name: name.to_owned(), steps }),
            // One that did not come to the end says nothing about what was there to see.
            Err(text) => complaints.push(format!("{name}: {text}")),
        };
        drop(self.follower.stdin());
        let text = self.follower.wait(END_LIMIT).and_then(|text| history::followed(&text));
        let steps = text.map(|seen| seen.into_iter().map(Step::Polled).collect());
        followed("the follower", steps);
        if let Some((produced, consumer)) = java {
            let produced = history::verifiable_producer(&produced?)?;
            acked.extend(produced.acked);
            refused.extend(produced.refused);
            unsure += produced.unsure;
            followed("Java's member", caught_up(cluster, consumer));
        }
        let full = read(cluster)?;
        let history = History { acked, refused, consumers, full };
        Ok(Told { history, times: ours.times, unsure, complaints })
    }
}

/// The whole topic, once.
pub fn read(cluster: &Cluster) -> Result<Vec<crate::oracle::Seen>, String> {
    let mut command = Command::new(workspace::program("client-rdkafka"));
    command.args(["history-poll", &cluster.bootstrap(), TOPIC]).stdin(Stdio::null());
    history::followed(&Job::spawn("full-read", command, cluster.dir())?.wait(END_LIMIT)?)
}

fn start_java(cluster: &Cluster) -> Result<(Job, Job), String> {
    let dir = cluster.dir();
    let tool = |class: &str, settings: &str, words: &[&str]| {
        let file = dir.join(format!("{class}.properties"));
        std::fs::write(&file, settings).map_err(|error| error.to_string())?;
        let mut command = java(&format!("org.apache.kafka.tools.{class}"));
        command.args(["--bootstrap-server", &cluster.bootstrap(), "--topic", TOPIC]);
        command.arg("--command-config").arg(file).args(words).stdin(Stdio::null());
        Job::spawn(class, command, dir)
    };
    let rate = JAVA_RATE.to_string();
    let words = ["--acks", "-1", "--value-prefix", "7", "--throughput", &rate];
    let producer = tool("VerifiableProducer", PRODUCER, &words)?;
    let words = ["--group-id", TOPIC, "--verbose", "--session-timeout", "10000"];
    let consumer = tool("VerifiableConsumer", CONSUMER, &words)?;
    Ok((producer, consumer))
}

/// Ends a group's member once it has read as far as the topic goes.
fn caught_up(cluster: &Cluster, consumer: Job) -> Result<Vec<Step>, String> {
    let ends = cluster.high_watermarks(TOPIC)?;
    let start = Instant::now();
    while start.elapsed() < CATCH_UP_LIMIT {
        let mut next: BTreeMap<i32, i64> = BTreeMap::new();
        for step in history::verifiable_consumer(&consumer.stdout())? {
            if let Step::Polled(seen) = step {
                next.insert(seen.partition, seen.offset + 1);
            }
        }
        let behind = |(partition, end): (i32, &i64)| next.get(&partition).unwrap_or(&0) < end;
        if !(0..).zip(&ends).any(behind) {
            return history::verifiable_consumer(&consumer.terminate(END_LIMIT)?);
        }
        std::thread::sleep(POLL * 5);
    }
    Err(format!("Java's member did not catch up with {ends:?}\n{}", consumer.stderr()))
}
