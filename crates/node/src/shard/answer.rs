//! What a shard answers to those who asked.

use model::{ErrorCode, PrefixChecksum};

use super::admin::AdminAnswer;

/// A batch is in the log as its `acks` demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    pub base_offset: i64,
    /// LogAppendTime in milliseconds, or -1 with CreateTime.
    pub append_time_ms: i64,
    pub log_start: i64,
    /// Index and term of the entry, for the oracle and the waterfall.
    pub index: u64,
    pub term: u64,
    pub stages: Stages,
}

/// Boot times at which one batch passed the stages of its way; 0: not passed before the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// The shard took it from its inbox.
    pub taken_ns: u64,
    pub stamped_ns: u64,
    /// Written to this broker's journal, and synced there.
    pub written_ns: u64,
    pub synced_ns: u64,
    /// The turn in which the last acknowledgement that was needed arrived.
    pub replicated_ns: u64,
    pub committed_ns: u64,
}

/// A partition at a moment not before the question arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    pub high_watermark: i64,
    pub log_start: i64,
    pub leader_epoch: i32,
    pub prefix: PrefixChecksum,
}

/// Kafka's code and why, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub why: String,
}

#[derive(Debug, Clone)]
pub enum Answer {
    Produced(Produced),
    Guarded(Guarded),
    Metadata(machine::metadata::Response),
    Group(Box<machine::groups::Response>),
    Admin(AdminAnswer),
    /// Where partitions that the asked broker serves end.
    Ends(Vec<(model::GroupId, i64)>),
    /// What was handed over is done: a fetched snapshot is installed, a report was heard.
    Done,
    Refused(Refusal),
}
