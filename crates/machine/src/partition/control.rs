//! Entries of a partition that are not batches, and their bytes.
//!
//! Invariant: a control entry's data has one exact length; anything else is refused.

use bytes::Bytes;
use model::EntryKind;

/// What a leader proposes besides batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// Cut the segment here, on every replica alike.
    Roll,
    /// Raise the log start offset; at most the high watermark.
    LogStart { offset: i64 },
    /// Forget producers whose newest batch is older than `before_ms` *and* lies below
    /// `below_offset`. Batch timestamps are the client's: a producer that replays old data
    /// looks long gone while it is busy, so the offset has to agree.
    ExpireProducers { before_ms: i64, below_offset: i64 },
}

impl Proposal {
    pub fn kind(&self) -> EntryKind {
        match self {
            Proposal::Roll => EntryKind::Roll,
            Proposal::LogStart { .. } => EntryKind::LogStart,
            Proposal::ExpireProducers { .. } => EntryKind::ExpireProducers,
        }
    }

    /// The entry's data: the fields as little-endian i64, in order.
    pub fn data(&self) -> Bytes {
        match *self {
            Proposal::Roll => Bytes::new(),
            Proposal::LogStart { offset } => Bytes::copy_from_slice(&offset.to_le_bytes()),
            Proposal::ExpireProducers { before_ms, below_offset } => {
                [before_ms.to_le_bytes(), below_offset.to_le_bytes()].concat().into()
            }
        }
    }

    /// `None`: not a control entry, or not of the right length.
    pub fn decode(kind: EntryKind, data: &[u8]) -> Option<Proposal> {
        let i64_at = |at: usize| Some(i64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?));
        let (proposal, length) = match kind {
            EntryKind::Roll => (Proposal::Roll, 0),
            EntryKind::LogStart => (Proposal::LogStart { offset: i64_at(0)? }, 8),
            EntryKind::ExpireProducers => {
                (Proposal::ExpireProducers { before_ms: i64_at(0)?, below_offset: i64_at(8)? }, 16)
            }
            EntryKind::Raft | EntryKind::Batch | EntryKind::Metadata => return None,
        };
        (data.len() == length).then_some(proposal)
    }
}
