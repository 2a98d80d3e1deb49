//! The judge of histories: what producers were told, what consumers saw while it happened, and
//! what a full read found at the end, after the workload that Jepsen runs against queues of this
//! kind. The full read is judged by [`crate::oracle`]; this adds what only a history shows.
//!
//! Invariants: no code is shared with the broker, nothing here knows what was broken meanwhile,
//! and each anomaly has a test in which it is planted.

mod parse;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub use parse::{followed, produced, verifiable_consumer, verifiable_producer};

use crate::oracle::{self, Acked, Kind, Seen};

/// What a consumer did, in its own order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Polled(Seen),
    /// It was given partitions: their positions may be anywhere now.
    Assigned,
}

/// A consumer that read from the beginning up to the end that the topic had when all was over.
#[derive(Debug, Clone)]
pub struct Consumer {
    pub name: String,
    pub steps: Vec<Step>,
}

/// A record, by who sent it and its number there.
pub type Record = (String, u64);

/// Everything that is known about one topic.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub acked: Vec<Acked>,
    /// Records that the broker refused for good: nobody may ever read them.
    pub refused: Vec<Record>,
    pub consumers: Vec<Consumer>,
    /// The topic read once from its beginning, after everything.
    pub full: Vec<Seen>,
}

/// What a history may show that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// Acknowledged, or already read by somebody, and not in the full read.
    Lost,
    /// One record of an idempotent producer at two offsets.
    Duplicate,
    /// Two records at one offset, or a record that is not where its acknowledgement said.
    InconsistentOffset,
    /// A consumer's offsets go back, though nobody sought and nothing was rebalanced.
    NonMonotonicPoll,
    /// Acknowledged, and passed over by a consumer that followed to the end.
    Unseen,
    /// Refused for good, and read.
    AbortedRead,
    /// Offsets that nobody can read.
    Hole,
    /// An idempotent producer's records in another order than it sent them.
    Reordered,
}

impl Anomaly {
    pub fn as_str(self) -> &'static str {
        match self {
            Anomaly::Lost => "lost",
            Anomaly::Duplicate => "duplicate",
            Anomaly::InconsistentOffset => "inconsistent offset",
            Anomaly::NonMonotonicPoll => "non-monotonic poll",
            Anomaly::Unseen => "unseen",
            Anomaly::AbortedRead => "aborted read",
            Anomaly::Hole => "hole",
            Anomaly::Reordered => "reordered",
        }
    }
}

/// One anomaly, in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub anomaly: Anomaly,
    pub text: String,
}

/// Everything that is wrong with a history.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for fault in oracle::faults(&history.acked, &history.full, &[]) {
        let anomaly = match fault.kind {
            Kind::Lost => Anomaly::Lost,
            Kind::Moved => Anomaly::InconsistentOffset,
            Kind::Twice => Anomaly::Duplicate,
            Kind::Hole => Anomaly::Hole,
            Kind::Scattered | Kind::Order => Anomaly::Reordered,
        };
        found.push(Violation { anomaly, text: fault.text });
    }
    let mut add = |anomaly, text| found.push(Violation { anomaly, text });
    offsets(history, &mut add);
    vanished(history, &mut add);
    for consumer in &history.consumers {
        monotonic(consumer, &mut add);
        unseen(&history.acked, consumer, &mut add);
    }
    aborted(history, &mut add);
    found.sort();
    found
}

/// How many of each, for a table: "3 lost, 1 unseen".
pub fn summary(violations: &[Violation]) -> String {
    let mut counts: BTreeMap<Anomaly, usize> = BTreeMap::new();
    for violation in violations {
        *counts.entry(violation.anomaly).or_default() += 1;
    }
    let words: Vec<String> =
        counts.iter().map(|(anomaly, count)| format!("{count} {}", anomaly.as_str())).collect();
    words.join(", ")
}

fn polled(consumer: &Consumer) -> impl Iterator<Item = &Seen> {
    consumer.steps.iter().filter_map(|step| match step {
        Step::Polled(seen) => Some(seen),
        Step::Assigned => None,
    })
}

fn name(seen: &Seen) -> (&str, u64) {
    (&seen.client, seen.sequence)
}

/// Whoever says what is at an offset must say the same. That an acknowledgement and the full read
/// agree is the oracle's to say.
fn offsets(history: &History, add: &mut impl FnMut(Anomaly, String)) {
    let mut there: HashMap<(i32, i64), (&str, u64)> = HashMap::new();
    let mut told: BTreeSet<(i32, i64)> = BTreeSet::new();
    let polls = history.consumers.iter().flat_map(polled);
    let read = history.full.iter().chain(polls);
    let read = read.map(|seen| ((seen.partition, seen.offset), name(seen)));
    let acked = history.acked.iter();
    let acked = acked.filter_map(|ack| Some((ack.at?, (ack.client.as_str(), ack.sequence))));
    for (at, record) in acked.chain(read) {
        let first = *there.entry(at).or_insert(record);
        if first != record && told.insert(at) {
            let text = format!("partition {} offset {} holds {first:?} and {record:?}", at.0, at.1);
            add(Anomaly::InconsistentOffset, text);
        }
    }
}

/// What was read once can be read again.
fn vanished(history: &History, add: &mut impl FnMut(Anomaly, String)) {
    let kept: HashSet<(i32, i64)> =
        history.full.iter().map(|seen| (seen.partition, seen.offset)).collect();
    let mut told = BTreeSet::new();
    for consumer in &history.consumers {
        for seen in polled(consumer) {
            let at = (seen.partition, seen.offset);
            if !kept.contains(&at) && told.insert(at) {
                let (client, sequence) = name(seen);
                let text = format!("{client} {sequence}, which {} read at {at:?}", consumer.name);
                add(Anomaly::Lost, text);
            }
        }
    }
}

fn monotonic(consumer: &Consumer, add: &mut impl FnMut(Anomaly, String)) {
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    for step in &consumer.steps {
        match step {
            Step::Assigned => last.clear(),
            Step::Polled(seen) => {
                let before = last.insert(seen.partition, seen.offset);
                if let Some(before) = before.filter(|before| *before >= seen.offset) {
                    let text = format!(
                        "{}: partition {} goes from {before} to {}",
                        consumer.name, seen.partition, seen.offset
                    );
                    add(Anomaly::NonMonotonicPoll, text);
                }
            }
        }
    }
}

fn unseen(acked: &[Acked], consumer: &Consumer, add: &mut impl FnMut(Anomaly, String)) {
    let seen: HashSet<(&str, u64)> = polled(consumer).map(name).collect();
    for record in acked {
        if !seen.contains(&(record.client.as_str(), record.sequence)) {
            let text = format!(
                "{} {}, acknowledged at {:?}, by {}",
                record.client, record.sequence, record.at, consumer.name
            );
            add(Anomaly::Unseen, text);
        }
    }
}

fn aborted(history: &History, add: &mut impl FnMut(Anomaly, String)) {
    let refused: HashSet<(&str, u64)> =
        history.refused.iter().map(|(client, sequence)| (client.as_str(), *sequence)).collect();
    let polls = history.consumers.iter().flat_map(polled);
    let read: BTreeSet<(&str, u64)> = history.full.iter().chain(polls).map(name).collect();
    for (client, sequence) in read {
        if refused.contains(&(client, sequence)) {
            add(Anomaly::AbortedRead, format!("{client} {sequence} was refused, and is there"));
        }
    }
}
