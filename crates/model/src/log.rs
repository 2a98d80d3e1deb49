//! The shape of one replicated log entry, as journal, segments and machines see it.
//!
//! Consensus converts raft's own entries to and from [`LogEntry`] by moving `Bytes`; the
//! payload is never re-encoded. `context` holds only what segment and sidecar can rebuild:
//! one byte of [`EntryKind`] and the little-endian rolling [`PrefixChecksum`].

use bytes::Bytes;

/// raft's own distinction, with eraftpb's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RaftEntryType {
    Normal = 0,
    ConfChange = 1,
    ConfChangeV2 = 2,
}

impl RaftEntryType {
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Normal),
            1 => Some(Self::ConfChange),
            2 => Some(Self::ConfChangeV2),
            _ => None,
        }
    }
}

/// What an entry means to its machine. The number is written to disk: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// raft's own empty entry or a membership change: no machine sees it, it takes no offset
    /// and does not enter the prefix checksum. Its context is empty.
    Raft = 0,
    /// Exactly one stamped Kafka record batch.
    Batch = 1,
    /// Start a new segment here, so that segments are cut alike on every replica.
    Roll = 2,
    /// Forget producers last seen before a timestamp.
    ExpireProducers = 3,
    /// Raise the log start offset (retention, DeleteRecords).
    LogStart = 4,
    /// A command of the metadata machine.
    Metadata = 5,
}

impl EntryKind {
    pub fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Raft,
            1 => Self::Batch,
            2 => Self::Roll,
            3 => Self::ExpireProducers,
            4 => Self::LogStart,
            5 => Self::Metadata,
            _ => return None,
        })
    }
}

/// CRC-32C chained over every machine-visible entry of a group, in log order: replicas that
/// hold the same log hold the same value. Chaining is `crc32c_append(previous, kind || data)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PrefixChecksum(pub u32);

/// One entry of one raft group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    pub entry_type: RaftEntryType,
    pub context: Bytes,
    pub data: Bytes,
}

impl LogEntry {
    pub const CONTEXT_LEN: usize = 5;

    /// Encodes the context of a machine-visible entry.
    pub fn encode_context(kind: EntryKind, prefix: PrefixChecksum) -> Bytes {
        let mut out = [0u8; Self::CONTEXT_LEN];
        out[0] = kind as u8;
        out[1..].copy_from_slice(&prefix.0.to_le_bytes());
        Bytes::copy_from_slice(&out)
    }

    /// Kind and prefix checksum; raft's own entries (empty context) carry no checksum.
    /// `None`: the context is not one Glasslog wrote.
    pub fn kind(&self) -> Option<(EntryKind, Option<PrefixChecksum>)> {
        if self.context.is_empty() {
            return Some((EntryKind::Raft, None));
        }
        let kind = EntryKind::from_u8(self.context[0])?;
        let sum = self.context.get(1..Self::CONTEXT_LEN)?.try_into().ok()?;
        (self.context.len() == Self::CONTEXT_LEN)
            .then_some((kind, Some(PrefixChecksum(u32::from_le_bytes(sum)))))
    }

    /// Bytes this entry is charged with in every bound.
    pub fn weight(&self) -> usize {
        self.data.len() + self.context.len() + 24
    }
}

/// raft's durable promises: who we voted for in which term, and what we know is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
}

/// When the journal calls an entry durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// fdatasync before anything is acknowledged; one sync serves everything that waits.
    #[default]
    Group,
    /// Entries count as durable once written; synced every interval. Weaker: a power cut
    /// on a majority may lose acknowledged records. Terms and votes are always synced.
    Interval,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_round_trips_and_refuses_foreign_bytes() {
        let mut entry = LogEntry {
            index: 7,
            term: 2,
            entry_type: RaftEntryType::Normal,
            context: LogEntry::encode_context(EntryKind::Batch, PrefixChecksum(0xdead_beef)),
            data: Bytes::new(),
        };
        assert_eq!(entry.kind(), Some((EntryKind::Batch, Some(PrefixChecksum(0xdead_beef)))));
        entry.context = Bytes::new();
        assert_eq!(entry.kind(), Some((EntryKind::Raft, None)));
        entry.context = Bytes::from_static(&[1, 2, 3]);
        assert_eq!(entry.kind(), None);
        entry.context = Bytes::from_static(&[99, 0, 0, 0, 0]);
        assert_eq!(entry.kind(), None);
    }
}
