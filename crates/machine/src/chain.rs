//! The rolling checksum over a group's log, on both sides: the leader chains it while it
//! stamps, every replica asserts it while it applies.
//!
//! Invariant: raft's own entries do not enter the chain; everything a machine sees does.

use bytes::Bytes;
use model::{EntryKind, LogEntry, PrefixChecksum, RaftEntryType};

use crate::ApplyError;

/// A point in the leader's stamping to fall back to when a proposal is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(crate) next_offset: i64,
    pub(crate) prefix: PrefixChecksum,
}

/// The chain's next value after an entry of `kind` with `data`.
pub(crate) fn chain(previous: PrefixChecksum, kind: EntryKind, data: &[u8]) -> PrefixChecksum {
    let with_kind = crc32c::crc32c_append(previous.0, &[kind as u8]);
    PrefixChecksum(crc32c::crc32c_append(with_kind, data))
}

/// What every machine checks before it looks into an entry: it is newer than the last one, it
/// was written by Glasslog, and the log before it is the log its leader saw.
/// `None`: raft's own entry, nothing to apply.
pub(crate) fn check(
    entry: &LogEntry,
    applied: u64,
    prefix: PrefixChecksum,
) -> Result<Option<(EntryKind, PrefixChecksum)>, ApplyError> {
    let index = entry.index;
    if index <= applied {
        return Err(ApplyError::Index { index, applied });
    }
    if entry.entry_type != RaftEntryType::Normal {
        return Ok(None);
    }
    let (kind, stored) = match entry.kind() {
        Some((EntryKind::Raft, _)) if entry.data.is_empty() => return Ok(None),
        Some((kind, Some(stored))) if kind != EntryKind::Raft => (kind, stored),
        _ => return Err(ApplyError::Foreign { index }),
    };
    let computed = chain(prefix, kind, &entry.data);
    if computed != stored {
        return Err(ApplyError::Prefix { index, stored: stored.0, computed: computed.0 });
    }
    Ok(Some((kind, computed)))
}

/// Chains one entry and encodes its context.
pub(crate) fn stamp(prefix: &mut PrefixChecksum, kind: EntryKind, data: &[u8]) -> Bytes {
    *prefix = chain(*prefix, kind, data);
    LogEntry::encode_context(kind, *prefix)
}
