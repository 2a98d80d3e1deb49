//! The half of a coordinator that every replica runs: a partition whose records mean something.

use bytes::{Buf, BufMut};
use model::{EntryKind, LogEntry};
use wire::records::Records;

use super::state::{Change, Groups};
use crate::partition::{Applied, PartitionMachine};
use crate::{ApplyError, SnapshotError};

const MAGIC: &[u8; 4] = b"GLCO";
const VERSION: u16 = 1;

/// A coordinator's replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoordinatorMachine {
    partition: PartitionMachine,
    groups: Groups,
}

impl CoordinatorMachine {
    /// The state before the first entry.
    pub fn new() -> CoordinatorMachine {
        CoordinatorMachine::default()
    }

    /// Applies one committed entry. After an error the state is as before.
    pub fn apply(&mut self, entry: &LogEntry) -> Result<Applied, ApplyError> {
        let malformed = |why: String| ApplyError::Malformed { index: entry.index, why };
        let mut changes = Vec::new();
        if matches!(entry.kind(), Some((EntryKind::Batch, _))) {
            let records =
                Records::new(&entry.data).map_err(|error| malformed(error.to_string()))?;
            for record in records {
                let record = record.map_err(|error| malformed(error.to_string()))?;
                let key = record.key.unwrap_or_default();
                let change = Change::decode(key, record.value)
                    .map_err(|why| malformed(format!("record {}: {why}", record.offset)))?;
                changes.extend(change);
            }
        }
        let applied = self.partition.apply(entry)?;
        changes.into_iter().for_each(|change| self.groups.apply(change));
        Ok(applied)
    }

    pub fn partition(&self) -> &PartitionMachine {
        &self.partition
    }

    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The whole state, byte-identical on every replica that applied the same entries.
    pub fn snapshot(&self) -> Vec<u8> {
        let partition = self.partition.snapshot();
        let mut out = Vec::with_capacity(partition.len() + 64);
        out.extend_from_slice(MAGIC);
        out.put_u16(VERSION);
        out.put_u32(partition.len() as u32);
        out.extend_from_slice(&partition);
        for record in self.groups.records() {
            let value = record.value.unwrap_or_default();
            out.put_u32(record.key.len() as u32);
            out.extend_from_slice(&record.key);
            out.put_u32(value.len() as u32);
            out.extend_from_slice(&value);
        }
        out
    }

    /// Reads what [`CoordinatorMachine::snapshot`] wrote. Any bytes are survived.
    pub fn restore(bytes: &[u8]) -> Result<CoordinatorMachine, SnapshotError> {
        let mut rest = bytes;
        let malformed = |why: &str| SnapshotError::Inconsistent(format!("coordinator: {why}"));
        if take(&mut rest, MAGIC.len()) != Some(MAGIC) {
            return Err(malformed("not a snapshot"));
        }
        let version = rest.try_get_u16().map_err(|_| malformed("ends too early"))?;
        if version != VERSION {
            return Err(malformed("a version this build does not know"));
        }
        let partition = blob(&mut rest).ok_or_else(|| malformed("ends too early"))?;
        let partition = PartitionMachine::restore(partition)?;
        let mut groups = Groups::default();
        while !rest.is_empty() {
            let key = blob(&mut rest).ok_or_else(|| malformed("ends too early"))?;
            let value = blob(&mut rest).ok_or_else(|| malformed("ends too early"))?;
            if let Some(change) = Change::decode(key, Some(value)).map_err(malformed)? {
                groups.apply(change);
            }
        }
        Ok(CoordinatorMachine { partition, groups })
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn blob<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = rest.try_get_u32().ok()?;
    take(rest, length as usize)
}
