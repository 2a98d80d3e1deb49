//! The table: one line per topic config of Apache Kafka 4.x (TopicConfig.java, LogConfig.java,
//! ServerTopicConfigSynonyms.java).
//!
//! Invariant: names ascend, so that lists come out in one order everywhere.

use model::limits;

use super::value::{ConfigType, Range, list};
use crate::ConfigError;

/// What Glasslog does with a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honour {
    /// It does what Kafka's documentation says.
    Yes,
    /// Accepted in any valid value: it changes nothing here, for the reason given.
    NoEffect(&'static str),
    /// Honoured in these values only; others are refused with the reason.
    Only(&'static [&'static str], &'static str),
}

/// One topic config.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfigDef {
    pub name: &'static str,
    pub kind: ConfigType,
    pub default: &'static str,
    pub range: Range,
    pub honour: Honour,
    /// Broker configs that set its default, strongest first, with the factor that turns their
    /// value into this one's.
    pub synonyms: &'static [(&'static str, i64)],
}

impl ConfigDef {
    /// What becomes of it here, for people.
    pub fn document(&self) -> std::string::String {
        match self.honour {
            Honour::Yes => "As in Apache Kafka.".to_owned(),
            Honour::NoEffect(why) => format!("No effect: {why}."),
            Honour::Only(values, why) => format!("Only {}: {why}.", values.join(", ")),
        }
    }

    /// Checks a value given under `name` (this config or one of its synonyms).
    pub(super) fn check(&self, name: &str, value: &str) -> Result<(), ConfigError> {
        if value.len() > limits::CONFIG_VALUE_LEN_MAX {
            let expected = format!("longer than {} bytes", limits::CONFIG_VALUE_LEN_MAX);
            return Err(ConfigError::Value { name: name.into(), value: "...".into(), expected });
        }
        let (name, value) = (name.to_string(), value.to_string());
        if let Err(expected) = self.range.check(self.kind, &value) {
            return Err(ConfigError::Value { name, value, expected });
        }
        let Honour::Only(values, why) = self.honour else { return Ok(()) };
        let honoured = match self.kind {
            ConfigType::List => list(&value).eq(values.iter().copied()),
            _ => values.iter().any(|v| v.eq_ignore_ascii_case(value.trim())),
        };
        if honoured { Ok(()) } else { Err(ConfigError::Refused { name, value, why }) }
    }
}

/// Finds a topic config by its name.
pub fn find(name: &str) -> Option<&'static ConfigDef> {
    TOPIC_CONFIGS.iter().find(|def| def.name == name)
}

/// The topic config whose name differs least from `name`.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    closest(name, TOPIC_CONFIGS.iter().map(|def| def.name))
}

/// The one of `names` that differs least from `name`, if it could be a slip of the pen.
pub(super) fn closest(
    name: &str,
    names: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    if name.len() > 64 {
        return None;
    }
    let (distance, nearest) = names.map(|known| (edits(name, known), known)).min()?;
    (distance <= 1 + name.len() / 4).then_some(nearest)
}

/// Levenshtein's distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;
const LONG_MAX_TEXT: &str = "9223372036854775807";

const NO_COMPACTION: Honour = Honour::NoEffect("compaction is not supported yet");
const NO_TIERING: &str = "tiered storage is not supported";
const NO_RECOMPRESSION: Honour = Honour::NoEffect("batches are stored as their producer sent them");
const SYNCED: Honour = Honour::NoEffect("every batch is synced before it is acknowledged");

use ConfigType::{Boolean, Double, Int, List, Long, String};

const fn def(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    range: Range,
    honour: Honour,
    synonyms: &'static [(&'static str, i64)],
) -> ConfigDef {
    ConfigDef { name, kind, default, range, honour, synonyms }
}

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

/// Every topic config, ascending by name.
#[rustfmt::skip]
pub const TOPIC_CONFIGS: &[ConfigDef] = &[
    def("cleanup.policy", List, "delete", Range::SomeOf(&["compact", "delete"]),
        Honour::Only(&["delete"], "log compaction is not supported yet, only cleanup.policy=delete is"),
        &[("log.cleanup.policy", 1)]),
    def("compression.gzip.level", Int, "-1", Range::Numbers(-1, 9), NO_RECOMPRESSION,
        &[("compression.gzip.level", 1)]),
    def("compression.lz4.level", Int, "9", Range::Numbers(1, 17), NO_RECOMPRESSION,
        &[("compression.lz4.level", 1)]),
    def("compression.type", String, "producer",
        Range::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        Honour::Only(&["producer"], "batches are stored as their producer sent them; only compression.type=producer is supported"),
        &[("compression.type", 1)]),
    def("compression.zstd.level", Int, "3", Range::Numbers(-131_072, 22), NO_RECOMPRESSION,
        &[("compression.zstd.level", 1)]),
    def("delete.retention.ms", Long, "86400000", Range::Numbers(0, LONG_MAX), NO_COMPACTION,
        &[("log.cleaner.delete.retention.ms", 1)]),
    def("file.delete.delay.ms", Long, "60000", Range::Numbers(0, LONG_MAX),
        Honour::NoEffect("files go once a checkpoint carries the new log start and no reader holds them"),
        &[("log.segment.delete.delay.ms", 1)]),
    def("flush.messages", Long, LONG_MAX_TEXT, Range::Numbers(1, LONG_MAX), SYNCED,
        &[("log.flush.interval.messages", 1)]),
    def("flush.ms", Long, LONG_MAX_TEXT, Range::Numbers(0, LONG_MAX), SYNCED,
        &[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)]),
    def("follower.replication.throttled.replicas", List, "", Range::Any,
        Honour::NoEffect("replication is not throttled per topic"), &[]),
    def("index.interval.bytes", Int, "4096", Range::Numbers(0, INT_MAX),
        Honour::NoEffect("the sidecar's stride is fixed"), &[("log.index.interval.bytes", 1)]),
    def("leader.replication.throttled.replicas", List, "", Range::Any,
        Honour::NoEffect("replication is not throttled per topic"), &[]),
    def("local.retention.bytes", Long, "-2", Range::Numbers(-2, LONG_MAX), Honour::NoEffect(NO_TIERING),
        &[("log.local.retention.bytes", 1)]),
    def("local.retention.ms", Long, "-2", Range::Numbers(-2, LONG_MAX), Honour::NoEffect(NO_TIERING),
        &[("log.local.retention.ms", 1)]),
    def("max.compaction.lag.ms", Long, LONG_MAX_TEXT, Range::Numbers(1, LONG_MAX), NO_COMPACTION,
        &[("log.cleaner.max.compaction.lag.ms", 1)]),
    def("max.message.bytes", Int, "1048588", Range::Numbers(0, limits::MESSAGE_BYTES_CEILING), Honour::Yes,
        &[("message.max.bytes", 1)]),
    def("message.timestamp.after.max.ms", Long, "3600000", Range::Numbers(0, LONG_MAX), Honour::Yes,
        &[("log.message.timestamp.after.max.ms", 1)]),
    def("message.timestamp.before.max.ms", Long, LONG_MAX_TEXT, Range::Numbers(0, LONG_MAX), Honour::Yes,
        &[("log.message.timestamp.before.max.ms", 1)]),
    def("message.timestamp.type", String, "CreateTime", Range::OneOf(&["CreateTime", "LogAppendTime"]),
        Honour::Yes, &[("log.message.timestamp.type", 1)]),
    def("min.cleanable.dirty.ratio", Double, "0.5", Range::Fractions(0.0, 1.0), NO_COMPACTION,
        &[("log.cleaner.min.cleanable.ratio", 1)]),
    def("min.compaction.lag.ms", Long, "0", Range::Numbers(0, LONG_MAX), NO_COMPACTION,
        &[("log.cleaner.min.compaction.lag.ms", 1)]),
    def("min.insync.replicas", Int, "1", Range::Numbers(1, INT_MAX), Honour::Yes,
        &[("min.insync.replicas", 1)]),
    def("preallocate", Boolean, "false", Range::Any,
        Honour::NoEffect("journal files are preallocated, segments are not"), &[("log.preallocate", 1)]),
    def("remote.log.copy.disable", Boolean, "false", Range::Any, Honour::NoEffect(NO_TIERING), &[]),
    def("remote.log.delete.on.disable", Boolean, "false", Range::Any, Honour::NoEffect(NO_TIERING), &[]),
    def("remote.storage.enable", Boolean, "false", Range::Any, Honour::Only(&["false"], NO_TIERING), &[]),
    def("retention.bytes", Long, "-1", Range::Numbers(-1, LONG_MAX), Honour::Yes,
        &[("log.retention.bytes", 1)]),
    def("retention.ms", Long, "604800000", Range::Numbers(-1, LONG_MAX), Honour::Yes,
        &[("log.retention.ms", 1), ("log.retention.minutes", MINUTE), ("log.retention.hours", HOUR)]),
    def("segment.bytes", Int, "1073741824", Range::Numbers(1 << 20, INT_MAX), Honour::Yes,
        &[("log.segment.bytes", 1)]),
    def("segment.index.bytes", Int, "10485760", Range::Numbers(4, INT_MAX),
        Honour::NoEffect("a sidecar grows with its segment"), &[("log.index.size.max.bytes", 1)]),
    def("segment.jitter.ms", Long, "0", Range::Numbers(0, LONG_MAX),
        Honour::NoEffect("segments of one partition are cut by its leader, on all replicas alike"),
        &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR)]),
    def("segment.ms", Long, "604800000", Range::Numbers(1, LONG_MAX), Honour::Yes,
        &[("log.roll.ms", 1), ("log.roll.hours", HOUR)]),
    def("unclean.leader.election.enable", Boolean, "false", Range::Any,
        Honour::Only(&["false"], "unclean leader election does not exist here: it would lose acknowledged records"),
        &[("unclean.leader.election.enable", 1)]),
];
