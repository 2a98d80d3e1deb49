//! Why an entry, a snapshot or a configuration is refused.

use model::EntryKind;

/// A committed entry that contradicts the machine's state. It is the same on every replica
/// that holds the same log, or it shows that this replica's log or state is damaged; either
/// way the machine is held and the entry named, never skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("entry {index} applied after entry {applied}")]
    Index { index: u64, applied: u64 },
    #[error("entry {index}: its context is not one Glasslog wrote")]
    Foreign { index: u64 },
    #[error(
        "entry {index}: log prefix checksum is {computed:#010x}, the entry says {stored:#010x}"
    )]
    Prefix { index: u64, stored: u32, computed: u32 },
    #[error("entry {index}: kind {kind:?} does not belong to this machine")]
    Kind { index: u64, kind: EntryKind },
    #[error("entry {index}: stamped with offset {stamped}, the record count is {count}")]
    Offset { index: u64, stamped: i64, count: i64 },
    #[error("entry {index}: stamped with leader epoch {stamped} in term {term}")]
    Epoch { index: u64, stamped: i32, term: u64 },
    #[error("entry {index}: producer {producer_id} sent sequence {sequence} after {last}")]
    Sequence { index: u64, producer_id: i64, sequence: i32, last: i32 },
    #[error("entry {index}: malformed: {why}")]
    Malformed { index: u64, why: String },
}

impl ApplyError {
    /// Which of them it is, for counters.
    pub fn name(&self) -> &'static str {
        match self {
            ApplyError::Index { .. } => "index",
            ApplyError::Foreign { .. } => "foreign",
            ApplyError::Prefix { .. } => "prefix",
            ApplyError::Kind { .. } => "kind",
            ApplyError::Offset { .. } => "offset",
            ApplyError::Epoch { .. } => "epoch",
            ApplyError::Sequence { .. } => "sequence",
            ApplyError::Malformed { .. } => "malformed",
        }
    }
}

/// Bytes that are not a snapshot this version can restore.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("machine snapshot of format {0} is not supported")]
    Version(u16),
    #[error("machine snapshot is cut short")]
    Truncated,
    #[error("machine snapshot is damaged: checksum mismatch")]
    Checksum,
    #[error("machine snapshot contradicts itself: {0}")]
    Inconsistent(String),
}

/// A configuration that is unknown, out of range, or asks for what Glasslog refuses to do.
/// The text is for the user: it names the key and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("unknown topic config {name}{}", did_you_mean(.nearest))]
    Unknown { name: String, nearest: Option<&'static str> },
    #[error("unknown broker config {name}{}", did_you_mean(.nearest))]
    UnknownBroker { name: String, nearest: Option<&'static str> },
    #[error(
        "{name} cannot be changed while the broker runs: set it in the broker's configuration \
         file and restart it"
    )]
    ReadOnly { name: String },
    #[error("{name} is not supported: {why}")]
    Unsupported { name: String, why: &'static str },
    #[error("{name}={value}: {expected}")]
    Value { name: String, value: String, expected: String },
    #[error("{name}={value} is refused: {why}")]
    Refused { name: String, value: String, why: &'static str },
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}
