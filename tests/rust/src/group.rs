//! One member of a consumer group, with librdkafka's default assignor (range, eager): prints what
//! it reads, commits what it printed, says what it is given and what is taken away, and leaves
//! when its standard input ends.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// Partition to the offset behind what was printed and is not committed yet.
struct Printed {
    topic: String,
    next: Mutex<BTreeMap<i32, i64>>,
}

impl ClientContext for Printed {}

impl ConsumerContext for Printed {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            self.commit(consumer);
            self.next.lock().expect("no panic before").clear();
            event("revoked", &numbers(partitions));
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => event("assigned", &numbers(partitions)),
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => event("note", &format!("rebalance: {error}")),
        }
    }
}

impl Printed {
    fn commit(&self, consumer: &BaseConsumer<Self>) {
        let taken = self.next.lock().expect("no panic before").clone();
        if taken.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (partition, next) in &taken {
            let added = list.add_partition_offset(&self.topic, *partition, Offset::Offset(*next));
            added.expect("an offset that was seen");
        }
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => {
                let words: Vec<String> = taken.iter().map(|(p, o)| format!("{p}:{o}")).collect();
                event("committed", &words.join(","));
                self.next.lock().expect("no panic before").clear();
            }
            // Tried again with the next commit, unless the partitions are gone by then.
            Err(error) => event("note", &format!("commit: {error}")),
        }
    }
}

/// Takes part until standard input ends.
pub fn member(bootstrap: &str, topic: &str, group: &str, name: &str) -> Result<(), String> {
    let printed = Printed { topic: topic.to_owned(), next: Mutex::new(BTreeMap::new()) };
    let mut config = ClientConfig::new();
    if name.starts_with("static-") {
        config.set("group.instance.id", name);
    }
    let consumer: BaseConsumer<Printed> = config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("client.id", name)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "1000")
        .set("check.crcs", "true")
        .create_with_context(printed)
        .map_err(|error| format!("consumer: {error}"))?;
    consumer.subscribe(&[topic]).map_err(|error| format!("subscribe: {error}"))?;
    let closed = until_closed();
    let mut committed = Instant::now();
    while !closed.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                super::consume::print(&mut std::io::stdout().lock(), &message)?;
                let mut next = consumer.context().next.lock().expect("no panic before");
                next.insert(message.partition(), message.offset() + 1);
            }
            Some(Err(KafkaError::MessageConsumptionFatal(error))) => {
                event("error", &error.to_string());
            }
            // librdkafka retries by itself: what it reports meanwhile is news, not an end.
            Some(Err(error)) => event("note", &error.to_string()),
        }
        if committed.elapsed() > COMMIT_EVERY {
            consumer.context().commit(&consumer);
            committed = Instant::now();
        }
    }
    consumer.context().commit(&consumer);
    drop(consumer);
    event("left", "");
    Ok(())
}

fn until_closed() -> Arc<AtomicBool> {
    let closed = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&closed);
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while matches!(std::io::stdin().read(&mut bytes), Ok(1..)) {}
        set.store(true, Ordering::Relaxed);
    });
    closed
}

fn numbers(partitions: &TopicPartitionList) -> String {
    let words: Vec<String> =
        partitions.elements().iter().map(|found| found.partition().to_string()).collect();
    words.join(",")
}

/// A line that somebody watches for.
fn event(kind: &str, text: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{kind}\t{}\t{}", now.as_millis(), words.join(" "))
        .and_then(|()| out.flush())
        .expect("standard output is open");
}
