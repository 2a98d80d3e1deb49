//! The shutdown manifest: what a broker that stopped in order says of every group, for the next
//! start to compare with what it finds.
//!
//! Invariants: the file checks itself (magic and format, then JSON, then CRC-32C of both); every
//! number in it is a lower bound for all times, since what is durable or committed never shrinks
//! again, so a manifest that outlived a crash still judges rightly; a difference that breaks a
//! promise (an entry that was durable, a term) is told apart from one that does not.

use std::collections::BTreeMap;

use machine::partition::PartitionMachine;
use model::{EntryKind, GroupId, limits};
use serde::{Deserialize, Serialize};
use storage::{Checkpoint, GroupCheckpoint, RecoveredGroup};

const MAGIC: &str = "glasslog.shutdown=1";

/// One group when its shard had stopped and the journal was synced. Indexes are raft's, log
/// start and high watermark are Kafka's offsets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEnd {
    pub group: u64,
    pub name: String,
    pub term: u64,
    pub last_index: u64,
    pub last_term: u64,
    /// Highest index acknowledged to a producer by this replica; 0: none in that life.
    pub acked: u64,
    pub durable: u64,
    pub committed: u64,
    pub applied: u64,
    pub log_start: i64,
    pub high_watermark: i64,
}

/// How a life ended, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub broker: i32,
    pub boot_id: String,
    pub incarnation: u64,
    /// Ascending by group.
    pub groups: Vec<GroupEnd>,
}

/// Why a manifest does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("it is larger than any manifest")]
    Size,
    #[error("its first line is not `{MAGIC}`")]
    Format,
    #[error("its checksum does not fit")]
    Checksum,
    #[error("{0}")]
    Content(String),
}

/// One thing that is not as it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub group: GroupId,
    pub name: String,
    pub what: String,
    /// Something durable, committed or acknowledged is gone: the replica may not be believed.
    pub promise_broken: bool,
}

impl Manifest {
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{MAGIC}\n").into_bytes();
        serde_json::to_writer(&mut text, self).expect("plain data encodes");
        let crc = crc32c::crc32c(&text);
        text.extend_from_slice(format!("\ncrc32c={crc:08x}\n").as_bytes());
        text
    }

    /// Reads [`Manifest::encode`]; nothing is parsed before the checksum fits.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if bytes.len() > limits::MANIFEST_BYTES_MAX {
            return Err(ManifestError::Size);
        }
        let rest = bytes.strip_prefix(MAGIC.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n"));
        let rest = rest.ok_or(ManifestError::Format)?;
        let tail = rest.len().checked_sub("\ncrc32c=01234567\n".len());
        let (json, tail) = rest.split_at(tail.ok_or(ManifestError::Checksum)?);
        let covered = &bytes[..bytes.len() - tail.len()];
        let expected = format!("\ncrc32c={:08x}\n", crc32c::crc32c(covered));
        if tail != expected.as_bytes() {
            return Err(ManifestError::Checksum);
        }
        serde_json::from_slice(json).map_err(|error| ManifestError::Content(error.to_string()))
    }

    /// Groups whose acknowledged or committed entries are not on this broker's disk, though all
    /// was synced: empty after every sound shutdown.
    pub fn undurable(&self) -> Vec<&GroupEnd> {
        let bad = |end: &&GroupEnd| end.durable < end.last_index || end.durable < end.acked;
        self.groups.iter().filter(bad).collect()
    }

    /// Every difference to what a start found, ascending by group.
    pub fn differences(
        &self,
        found: &BTreeMap<GroupId, RecoveredGroup>,
        checkpoint: Option<&Checkpoint>,
    ) -> Vec<Difference> {
        let mut all = Vec::new();
        for end in &self.groups {
            let group = GroupId(end.group);
            let kept = checkpoint.and_then(|checkpoint| checkpoint.groups.get(&group));
            let mut tell = |what: String, promise_broken| {
                all.push(Difference { group, name: end.name.clone(), what, promise_broken });
            };
            match found.get(&group) {
                None => tell("the group is gone".into(), true),
                Some(found) if found.removed => {}
                Some(found) => compare(end, found, kept, &mut tell),
            }
        }
        let known = |group: &GroupId| self.groups.iter().any(|end| end.group == group.0);
        for (group, _) in found.iter().filter(|(id, found)| !found.removed && !known(id)) {
            let what = "it was out of service at the shutdown, or is younger than it".into();
            let name = group.to_string();
            all.push(Difference { group: *group, name, what, promise_broken: false });
        }
        all.sort_by_key(|difference| difference.group);
        all
    }
}

fn compare(
    end: &GroupEnd,
    found: &RecoveredGroup,
    kept: Option<&GroupCheckpoint>,
    tell: &mut impl FnMut(String, bool),
) {
    let applied = kept.map_or((0, 0), |kept| (kept.applied_index, kept.applied_term));
    let last = found.entries.last().map_or(applied, |entry| (entry.index, entry.term).max(applied));
    if found.hard_state.term < end.term {
        tell(format!("term {} was left, {} is there", end.term, found.hard_state.term), true);
    }
    if last.0 < end.durable {
        let lost = |what: &str, index: u64| match index > last.0 {
            true => format!(", {what} up to {index}"),
            false => String::new(),
        };
        let (acked, committed) =
            (lost("acknowledged", end.acked), lost("committed", end.committed));
        let what = format!("entries {} to {} are gone{acked}{committed}", last.0 + 1, end.durable);
        tell(what, true);
    } else if last.0 == end.last_index && last.1 != end.last_term {
        tell(format!("entry {} was of term {}, is of {}", last.0, end.last_term, last.1), true);
    }
    let high_watermark = end_offset(found, kept, end.committed);
    if last.0 >= end.committed && high_watermark.is_some_and(|found| found < end.high_watermark) {
        let found = high_watermark.unwrap_or(0);
        tell(format!("offsets {found} to {} are gone", end.high_watermark - 1), true);
    }
    if kept.is_none_or(|kept| kept.applied_index < end.applied) {
        let from = applied.0 + 1;
        tell(format!("entries {from} to {} are applied again", end.applied), false);
    }
}

/// Offset behind the last record at or below `index`; `None`: not a partition.
fn end_offset(found: &RecoveredGroup, kept: Option<&GroupCheckpoint>, index: u64) -> Option<i64> {
    let batch = |kind: Option<EntryKind>| kind == Some(EntryKind::Batch);
    let mut batches = found
        .entries
        .iter()
        .rev()
        .filter(|entry| entry.index <= index && batch(entry.kind().map(|(kind, _)| kind)));
    if let Some(entry) = batches.next() {
        return Some(machine::end_offset_of(&entry.data));
    }
    let machine = PartitionMachine::restore(&kept?.machine).ok()?;
    Some(machine.next_offset())
}

#[cfg(test)]
#[allow(clippy::field_reassign_with_default)] // its other fields are storage's own
mod tests {
    use bytes::Bytes;
    use model::{HardState, LogEntry, RaftEntryType};

    use super::*;

    fn end() -> GroupEnd {
        GroupEnd {
            group: 7,
            name: "t-0".into(),
            term: 3,
            last_index: 5,
            last_term: 3,
            acked: 5,
            durable: 5,
            committed: 5,
            applied: 0,
            log_start: 0,
            high_watermark: 0,
        }
    }

    fn manifest(end: GroupEnd) -> Manifest {
        Manifest { broker: 1, boot_id: "b".into(), incarnation: u64::MAX, groups: vec![end] }
    }

    fn entry(index: u64, term: u64) -> LogEntry {
        let (context, data) = (Bytes::new(), Bytes::new());
        LogEntry { index, term, entry_type: RaftEntryType::Normal, context, data }
    }

    fn found(last: u64, term: u64) -> RecoveredGroup {
        let mut found = RecoveredGroup::default();
        found.hard_state = HardState { term, vote: 1, commit: last };
        found.entries = (1..=last).map(|index| entry(index, term)).collect();
        found
    }

    /// What is told, and whether it breaks a promise.
    fn told(end: GroupEnd, found: Option<RecoveredGroup>) -> Vec<(String, bool)> {
        let found = found.map(|found| (GroupId(7), found)).into_iter().collect();
        let all = manifest(end).differences(&found, None);
        all.into_iter().map(|difference| (difference.what, difference.promise_broken)).collect()
    }

    #[test]
    fn it_reads_back_and_a_changed_byte_is_noticed() {
        let manifest = manifest(end());
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Manifest::decode(&bad).is_err(), "byte {at}");
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_is_as_it_was_left_or_has_grown_is_no_difference() {
        let ignore_replay = |all: Vec<(String, bool)>| -> Vec<_> {
            all.into_iter().filter(|(what, _)| !what.contains("applied again")).collect()
        };
        assert_eq!(ignore_replay(told(end(), Some(found(5, 3)))), []);
        assert_eq!(ignore_replay(told(end(), Some(found(9, 4)))), []);
        let mut removed = RecoveredGroup::default();
        removed.removed = true;
        assert_eq!(told(end(), Some(removed)), []);
    }

    #[test]
    fn every_loss_is_named_and_breaks_a_promise() {
        let first = |all: Vec<(String, bool)>| all.into_iter().next().expect("a difference");
        assert_eq!(first(told(end(), None)), ("the group is gone".into(), true));
        let lost = "entries 4 to 5 are gone, acknowledged up to 5, committed up to 5";
        assert_eq!(first(told(end(), Some(found(3, 3)))), (lost.into(), true));
        let term = "term 3 was left, 2 is there";
        assert_eq!(first(told(end(), Some(found(5, 2)))), (term.into(), true));
        let mut other = found(5, 3);
        other.entries[4].term = 2;
        let replaced = "entry 5 was of term 3, is of 2";
        assert_eq!(first(told(end(), Some(other))), (replaced.into(), true));
    }

    #[test]
    fn an_acknowledged_entry_that_is_not_durable_is_seen_before_the_end() {
        assert_eq!(manifest(end()).undurable(), Vec::<&GroupEnd>::new());
        let bad = GroupEnd { durable: 4, ..end() };
        assert_eq!(manifest(bad.clone()).undurable(), [&bad]);
    }
}
