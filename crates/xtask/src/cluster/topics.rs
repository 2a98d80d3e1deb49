//! Topics and groups of a cluster, asked over Kafka's protocol.

use std::time::{Duration, Instant};

use super::kafka::{Kafka, Partition};
use super::{Cluster, POLL};

impl Cluster {
    /// Creates a topic at any broker, and waits until each of its partitions has a leader.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), String> {
        self.try_create_topic(topic, partitions)?;
        self.wait_led(topic, partitions)
    }

    /// Asks once for a topic.
    pub fn try_create_topic(&self, topic: &str, partitions: i32) -> Result<(), String> {
        let copies = i16::try_from(self.brokers.len()).expect("a few");
        let mut broker = self.any()?;
        let error = broker
            .create_topic(topic, partitions, copies)
            .map_err(|error| format!("CreateTopics: {error}"))?;
        match error {
            0 => Ok(()),
            error => Err(format!("CreateTopics of {topic}: error code {error}")),
        }
    }

    /// Waits until some broker names a live leader for every partition.
    pub fn wait_led(&self, topic: &str, partitions: i32) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let found = self.partitions(topic);
            let led = |p: &Partition| p.error == 0 && self.is_running(p.leader);
            if let Ok(found) = &found
                && found.len() == usize::try_from(partitions).expect("a count")
                && found.iter().all(led)
            {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(30) {
                return Err(format!("{topic} has partitions without a leader: {found:?}"));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Who leads what, as the first broker that answers tells it.
    pub fn partitions(&self, topic: &str) -> Result<Vec<Partition>, String> {
        self.any()?.partitions(topic).map_err(|error| error.to_string())
    }

    /// The broker that leads a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<i32, String> {
        let all = self.partitions(topic)?;
        let found = all.iter().find(|p| p.index == partition && p.leader >= 0);
        found
            .map(|partition| partition.leader)
            .ok_or_else(|| format!("{topic}-{partition} has no leader: {all:?}"))
    }

    /// The high watermark of each partition, asked of its leader.
    pub fn high_watermarks(&self, topic: &str) -> Result<Vec<i64>, String> {
        let ask = |partition: &Partition| {
            let port = self.ports(partition.leader).kafka;
            Kafka::connect(port)?.high_watermark(topic, partition.index)
        };
        let all = self.partitions(topic)?;
        let asked: std::io::Result<Vec<i64>> = all.iter().map(ask).collect();
        asked.map_err(|error| format!("{topic}: {error}"))
    }

    /// How far a group has come in a topic of `partitions`, asked of its coordinator.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> Result<Vec<i64>, String> {
        let ask = || {
            let broker = self.any().map_err(std::io::Error::other)?.coordinator(group)?;
            let known = self.is_running(broker);
            let port = known.then(|| self.ports(broker).kafka);
            let port = port.ok_or_else(|| std::io::Error::other("its coordinator is dead"))?;
            Kafka::connect(port)?.committed(group, topic, partitions)
        };
        ask().map_err(|error| format!("group {group}: {error}"))
    }

    fn is_running(&self, id: i32) -> bool {
        let mut running = self.brokers.iter().filter(|b| b.process.is_some());
        running.any(|broker| broker.id == id)
    }

    /// A connection to the first running broker that takes one.
    fn any(&self) -> Result<Kafka, String> {
        let running = self.brokers.iter().filter(|b| b.process.is_some());
        let mut refused = String::from("no broker runs");
        for broker in running {
            match Kafka::connect(broker.ports.kafka) {
                Ok(connection) => return Ok(connection),
                Err(error) => refused = format!("broker {}: {error}", broker.id),
            }
        }
        Err(refused)
    }
}
