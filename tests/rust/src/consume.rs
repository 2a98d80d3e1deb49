//! Reading a topic back: every partition assigned, from its beginning to the end it had at start.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

const CALL: Duration = Duration::from_secs(10);
const QUIET: Duration = Duration::from_secs(60);

/// What every reader with assigned partitions sets.
pub fn reader(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    // librdkafka wants a group name to assign; it is never contacted.
    config.set("group.id", "unused");
    config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    config
}

/// Prints every record of `topic` between the beginning and the high watermark.
pub fn all(bootstrap: &str, topic: &str) -> Result<(), String> {
    let consumer: BaseConsumer = reader(bootstrap)
        .set("check.crcs", "true")
        .set("enable.partition.eof", "false")
        .create()
        .map_err(|error| format!("consumer: {error}"))?;
    let mut ends = assign(&consumer, topic)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut heard = Instant::now();
    while !ends.is_empty() {
        let Some(message) = consumer.poll(Duration::from_millis(500)) else {
            if heard.elapsed() > QUIET {
                return Err(format!("no record for 60 s; still to read: {ends:?}"));
            }
            continue;
        };
        let message = match message {
            Ok(message) => message,
            // librdkafka retries by itself: what it reports meanwhile is news, not an end.
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        heard = Instant::now();
        print(&mut out, &message)?;
        if ends.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
            ends.remove(&message.partition());
        }
    }
    out.flush().map_err(|error| error.to_string())
}

/// Assigns every partition from its beginning; the answer is partition -> high watermark of
/// those that hold anything.
pub fn assign(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, i64>, String> {
    let mut ends = ends(consumer, topic)?;
    let mut list = TopicPartitionList::new();
    for partition in ends.keys() {
        list.add_partition_offset(topic, *partition, Offset::Beginning)
            .map_err(|error| format!("assign: {error}"))?;
    }
    consumer.assign(&list).map_err(|error| format!("assign: {error}"))?;
    ends.retain(|_, high| *high > 0);
    Ok(ends)
}

/// The high watermark of every partition.
pub fn ends(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, i64>, String> {
    let metadata =
        consumer.fetch_metadata(Some(topic), CALL).map_err(|error| format!("metadata: {error}"))?;
    let found = metadata.topics().first().ok_or("no such topic")?;
    let mut ends = BTreeMap::new();
    for partition in found.partitions() {
        let (_, high) = consumer
            .fetch_watermarks(topic, partition.id(), CALL)
            .map_err(|error| format!("watermarks of {}: {error}", partition.id()))?;
        ends.insert(partition.id(), high);
    }
    Ok(ends)
}

pub fn print(out: &mut impl Write, message: &BorrowedMessage<'_>) -> Result<(), String> {
    let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
    let value = message.payload().and_then(|value| std::str::from_utf8(value).ok());
    let (Some(key), Some(value)) = (key, value) else {
        return Err(format!("offset {}: not one of ours", message.offset()));
    };
    let mut words = value.splitn(3, ' ');
    let (client, number) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    writeln!(out, "{}\t{}\t{key}\t{client}\t{number}", message.partition(), message.offset())
        .map_err(|error| error.to_string())
}
