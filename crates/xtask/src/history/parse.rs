//! What the client programs print, as histories: our own over librdkafka, and Kafka's verifiable
//! producer and consumer, which print a JSON object per event.
//!
//! Invariant: a line that is not understood is an error, never left out; only the last line of a
//! program that was ended may be cut off.

use serde_json::Value;

use super::{Record, Step};
use crate::cases::failover::Ack;
use crate::oracle::{Acked, Seen};

/// Exceptions of Java's client that say that a record cannot have been stored.
const CERTAIN: [&str; 3] =
    ["RecordTooLargeException", "InvalidRecordException", "PolicyViolationException"];

/// What a producer was told.
#[derive(Debug, Default)]
pub struct Produced {
    pub acked: Vec<Acked>,
    pub refused: Vec<Record>,
    /// Failed, and perhaps stored all the same.
    pub unsure: usize,
    /// When each acknowledged record was sent and acknowledged, where the program tells.
    pub times: Vec<Ack>,
}

/// Reads what `history-produce` prints.
pub fn produced(client: &str, text: &str) -> Result<Produced, String> {
    let mut found = Produced::default();
    for line in whole_lines(text) {
        let words: Vec<&str> = line.split('\t').collect();
        match words[..] {
            ["ack", partition, offset, sequence, sent_us, acked_us] => {
                let (partition, offset) = (number(partition)?, number(offset)?);
                let sequence = number(sequence)?;
                let client = client.to_owned();
                let at = (offset >= 0).then_some((partition, offset));
                found.acked.push(Acked { client, sequence, at });
                let (sent_us, acked_us) = (number(sent_us)?, number(acked_us)?);
                found.times.push(Ack { partition, sent_us, acked_us });
            }
            ["fail", _, sequence, "certain", ..] => {
                found.refused.push((client.to_owned(), number(sequence)?));
            }
            ["fail", _, _, "unsure", ..] => found.unsure += 1,
            _ => return Err(format!("{client}: not understood: `{line}`")),
        }
    }
    Ok(found)
}

/// Reads what `history-poll` prints.
pub fn followed(text: &str) -> Result<Vec<Seen>, String> {
    let parse = |line: &str| {
        let mut words = line.splitn(3, '\t');
        let (partition, offset) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        seen(partition, offset, words.next()?)
    };
    whole_lines(text)
        .map(|line| parse(line).ok_or_else(|| format!("no record of ours: `{line}`")))
        .collect()
}

/// Reads what `VerifiableProducer` prints.
pub fn verifiable_producer(text: &str) -> Result<Produced, String> {
    let mut found = Produced::default();
    for line in whole_lines(text) {
        let event: Value =
            serde_json::from_str(line).map_err(|error| format!("{error}: `{line}`"))?;
        let record = || {
            let value = event["value"].as_str().and_then(record);
            value.ok_or_else(|| format!("no record of ours: `{line}`"))
        };
        match event["name"].as_str() {
            Some("producer_send_success") => {
                let (client, sequence) = record()?;
                let partition = event["partition"].as_i64().and_then(|p| i32::try_from(p).ok());
                let offset = event["offset"].as_i64().filter(|offset| *offset >= 0);
                found.acked.push(Acked { client, sequence, at: partition.zip(offset) });
            }
            Some("producer_send_error") => {
                let exception = event["exception"].as_str().unwrap_or_default();
                match CERTAIN.iter().any(|certain| exception.ends_with(certain)) {
                    true => found.refused.push(record()?),
                    false => found.unsure += 1,
                }
            }
            Some("startup_complete" | "shutdown_requested" | "shutdown_complete" | "tool_data") => {
            }
            _ => return Err(format!("verifiable producer: not understood: `{line}`")),
        }
    }
    Ok(found)
}

/// Reads what `VerifiableConsumer --verbose` prints.
pub fn verifiable_consumer(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for line in whole_lines(text) {
        let event: Value =
            serde_json::from_str(line).map_err(|error| format!("{error}: `{line}`"))?;
        match event["name"].as_str() {
            Some("record_data") => {
                let partition = event["partition"].as_i64().and_then(|p| i32::try_from(p).ok());
                let read = partition.zip(event["offset"].as_i64());
                let read = read.zip(event["value"].as_str());
                let read = read.and_then(|((partition, offset), v)| seen(partition, offset, v));
                let read = read.ok_or_else(|| format!("no record of ours: `{line}`"))?;
                steps.push(Step::Polled(read));
            }
            Some("partitions_assigned") => steps.push(Step::Assigned),
            Some(
                "startup_complete" | "shutdown_requested" | "shutdown_complete"
                | "partitions_revoked" | "records_consumed" | "offsets_committed",
            ) => {}
            _ => return Err(format!("verifiable consumer: not understood: `{line}`")),
        }
    }
    Ok(steps)
}

/// A value "CLIENT n" of ours or "PREFIX.n" of the verifiable producer.
fn record(value: &str) -> Option<Record> {
    let (client, number) = value.split_once([' ', '.'])?;
    Some((client.to_owned(), number.parse().ok()?))
}

/// A record as read. A producer's records in one partition are in order, so those are its key.
fn seen(partition: i32, offset: i64, value: &str) -> Option<Seen> {
    let (client, sequence) = record(value)?;
    Some(Seen { partition, offset, key: format!("{client}@{partition}"), client, sequence })
}

/// All lines but one that was cut off by the program's end.
fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text[..text.rfind('\n').map_or(0, |end| end + 1)].lines()
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}
