//! Post-mortems of elections and stalls as records of internal topics, for any Kafka consumer.
//!
//! Every broker writes its own: JSON, with the group's or the loop's name for a key. At least
//! once: a record whose append was not answered is written again; `broker`, `at_ms` and `id` tell
//! it from another. Invariants: a page in memory is never the poorer for it (this only reads);
//! what waits is bounded, the oldest goes first and is counted; nothing is asked of metadata or a
//! leader more than once a look.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use machine::BatchBuilder;
use machine::metadata::{CreateTopic, Request};
use model::{GroupId, TopicId, limits};
use serde::Serialize;
use telemetry::labels::DropKind;
use telemetry::stall::StallRecord;
use telemetry::{clock, metrics};

use crate::node::Node;

/// Elections and lost leaderships.
const ELECTIONS_TOPIC: &str = "__glasslog.elections";
/// Loops that stood still: one record when it is seen, one when it is over.
const STALLS_TOPIC: &str = "__glasslog.stalls";

const LOOK: Duration = Duration::from_millis(500);
const CREATE_MAX: Duration = Duration::from_secs(5);
const APPEND_MAX: Duration = Duration::from_secs(5);

/// Whether only brokers write to a topic of this name.
pub fn is_written_by_brokers(topic: &str) -> bool {
    [ELECTIONS_TOPIC, STALLS_TOPIC].contains(&topic)
}

/// Kafka's tools print ids in URL-safe base64 and take them as arguments: a leading `-` would
/// read as an option.
pub fn new_topic_id() -> TopicId {
    loop {
        let id = *uuid::Uuid::new_v4().as_bytes();
        if id[0] >> 2 != 62 {
            return TopicId(id);
        }
    }
}

/// A stall with its teller.
#[derive(Serialize)]
struct Told<'a> {
    broker: i32,
    at_ms: i64,
    #[serde(flatten)]
    stall: &'a StallRecord,
}

/// Records on their way to one topic.
struct Feed {
    topic: &'static str,
    waiting: VecDeque<(String, Vec<u8>)>,
}

impl Feed {
    fn new(topic: &'static str) -> Feed {
        Feed { topic, waiting: VecDeque::new() }
    }

    fn push(&mut self, key: String, record: &impl Serialize) {
        if self.waiting.len() == limits::POSTMORTEMS_PENDING_MAX {
            self.waiting.pop_front();
            metrics().telemetry_dropped_total.at(DropKind::Postmortem).inc();
        }
        let json = serde_json::to_vec(record).expect("plain data encodes");
        self.waiting.push_back((key, json));
    }

    /// As many as one batch takes, at least one.
    fn batch(&self, wall_ms: i64) -> (Bytes, usize) {
        let (mut bytes, mut count) = (0, 0);
        let mut batch = BatchBuilder::new(wall_ms);
        for (key, json) in &self.waiting {
            bytes += key.len() + json.len();
            if count > 0 && bytes > limits::POSTMORTEM_BATCH_BYTES {
                break;
            }
            batch = batch.record(wall_ms, Some(key.as_bytes()), Some(json), &[]);
            count += 1;
        }
        (batch.build(), count)
    }

    /// Writes one batch of what waits; the next look tries again what was refused. The topic is
    /// made before anything waits: consumers may come first, and a stall is no time for it.
    async fn send(&mut self, node: &Node) {
        let Some(group) = group_of(node, self.topic) else {
            let create = Request::CreateTopic(wish(node, self.topic));
            if let Err(refusal) = node.metadata(create, CREATE_MAX).await {
                let (topic, why) = (self.topic, refusal.why);
                telemetry::tracing::debug!(topic, why, "topic not created yet");
            }
            return;
        };
        if self.waiting.is_empty() {
            return;
        }
        let (batch, count) = self.batch(clock::wall_ms());
        match node.append(group, batch, APPEND_MAX).await {
            Ok(()) => drop(self.waiting.drain(..count)),
            Err(refusal) => {
                let (topic, why) = (self.topic, refusal.why);
                telemetry::tracing::debug!(topic, why, "post-mortems not written yet");
            }
        }
    }
}

/// Runs as long as the broker.
pub(crate) async fn publish(node: Arc<Node>) {
    let (mut elections, mut stalls) = (Feed::new(ELECTIONS_TOPIC), Feed::new(STALLS_TOPIC));
    let (mut last_id, mut seen) = (0, Seen::default());
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (new, missed) = node.plumbing.postmortems.after(last_id);
        metrics().telemetry_dropped_total.at(DropKind::Postmortem).add(missed);
        for record in new {
            last_id = record.id;
            elections.push(record.name.clone(), &record);
        }
        for stall in seen.news(telemetry::stall::records()) {
            let (broker, at_ms) = (node.cfg.broker.0, clock::wall_ms());
            stalls.push(stall.stalled.name.clone(), &Told { broker, at_ms, stall: &stall });
        }
        // Before that the image may be of another life.
        if node.registered.get().is_some() {
            elections.send(&node).await;
            stalls.send(&node).await;
        }
    }
}

/// Stalls that were told: by id, and whether their end was.
#[derive(Default)]
struct Seen {
    told: Vec<(u64, bool)>,
}

impl Seen {
    /// Those that began or ended since the last look.
    fn news(&mut self, records: Vec<StallRecord>) -> Vec<StallRecord> {
        self.told.retain(|(id, _)| records.iter().any(|record| record.id == *id));
        let mut news = Vec::new();
        for record in records {
            let over = record.ended_ms.is_some();
            match self.told.iter_mut().find(|(id, _)| *id == record.id) {
                Some((_, told)) if *told == over => continue,
                Some((_, told)) => *told = over,
                None => self.told.push((record.id, over)),
            }
            news.push(record);
        }
        news
    }
}

fn group_of(node: &Node, topic: &str) -> Option<GroupId> {
    node.image().topic(topic)?.partitions.first().map(|partition| partition.group)
}

fn wish(node: &Node, topic: &str) -> CreateTopic {
    let replicas = node.cfg.peers.len().clamp(1, limits::INTERNAL_REPLICAS_MAX) as i16;
    let bytes = limits::POSTMORTEM_TOPIC_BYTES;
    CreateTopic {
        name: topic.to_owned(),
        id: new_topic_id(),
        partitions: 1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: [
            ("retention.bytes".to_owned(), bytes.to_string()),
            ("segment.bytes".to_owned(), (bytes / 4).to_string()),
        ]
        .into(),
        validate_only: false,
        default_partitions: 1,
        default_replication_factor: replicas,
        internal_replication_factor: replicas,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_takes_one_at_least_and_the_oldest_waits_no_longer_than_it_may() {
        let mut feed = Feed::new(ELECTIONS_TOPIC);
        let long = "x".repeat(limits::POSTMORTEM_BATCH_BYTES / 3);
        for _ in 0..4 {
            feed.push("k".into(), &long);
        }
        assert_eq!(feed.batch(0).1, 2);
        feed.waiting.clear();
        feed.push("k".into(), &"x".repeat(2 * limits::POSTMORTEM_BATCH_BYTES));
        assert_eq!(feed.batch(0).1, 1);
        for at in 0..limits::POSTMORTEMS_PENDING_MAX {
            feed.push(at.to_string(), &at);
        }
        assert_eq!(feed.waiting.len(), limits::POSTMORTEMS_PENDING_MAX);
        assert_eq!(feed.waiting[0].0, "0", "the oldest went");
    }

    #[test]
    fn a_topic_id_never_begins_with_a_dash() {
        // Of 4,096 random ids 64 would, were they not drawn again.
        assert!((0..4_096).all(|_| new_topic_id().0[0] >> 2 != 62));
    }
}
