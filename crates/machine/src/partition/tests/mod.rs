//! The partition machine and its leader's half, as scripts.

mod apply;
mod dedupe;
mod keep;
mod random;

use bytes::Bytes;
use model::{LogEntry, Now, RaftEntryType};
use wire::records::{BatchBuilder, TimestampType};

use super::*;

pub(super) const CONFIG: StampConfig = StampConfig {
    max_message_bytes: 1_000,
    timestamp_type: TimestampType::CreateTime,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: 3_600_000,
};

pub(super) fn now(ms: i64) -> Now {
    Now { boot_ns: ms as u64 * 1_000_000, wall_ms: ms }
}

/// `count` records of a producer that does not care about duplicates.
pub(super) fn plain(count: usize) -> Bytes {
    (0..count).fold(BatchBuilder::new(1_000), |b, _| b.value(b"v")).build()
}

/// `count` records of producer `id`, from `sequence` on.
pub(super) fn idempotent(id: i64, epoch: i16, sequence: i32, count: usize) -> Bytes {
    let batch = BatchBuilder::new(1_000).producer(id, epoch, sequence);
    (0..count).fold(batch, |b, _| b.value(b"v")).build()
}

/// A machine as the first snapshot format wrote it.
pub(super) fn first_format(machine: &PartitionMachine) -> Vec<u8> {
    let mut bytes = machine.snapshot();
    bytes.truncate(bytes.len() - 12);
    bytes[0] = 1;
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// An empty machine whose past is not known: any producer may have been forgotten.
pub(super) fn older() -> PartitionMachine {
    PartitionMachine::restore(&first_format(&PartitionMachine::new())).unwrap()
}

/// A leader over its own log: everything stamped is appended, applied when told.
pub(super) struct Leader {
    pub machine: PartitionMachine,
    pub lead: PartitionLead,
    pub term: u64,
    /// Stamped entries, applied ones included.
    pub log: Vec<LogEntry>,
    pub applied: usize,
}

impl Leader {
    pub fn new(term: u64) -> Leader {
        Leader::of(PartitionMachine::new(), term)
    }

    pub fn of(machine: PartitionMachine, term: u64) -> Leader {
        let lead = machine.lead(term);
        Leader { machine, lead, term, log: Vec::new(), applied: 0 }
    }

    pub fn stamp(&mut self, batch: Bytes) -> Stamp {
        let stamp = self.lead.stamp(&self.machine, now(5_000), batch, &CONFIG);
        if let Stamp::Append { context, data, .. } = &stamp {
            self.push(context.clone(), data.clone());
        }
        stamp
    }

    pub fn control(&mut self, proposal: Proposal) {
        let data = proposal.data();
        let context = self.lead.control(proposal.kind(), &data);
        self.push(context, data);
    }

    pub fn push(&mut self, context: Bytes, data: Bytes) {
        let (index, term) = (self.log.len() as u64 + 1, self.term);
        let entry_type = RaftEntryType::Normal;
        self.log.push(LogEntry { index, term, entry_type, context, data });
    }

    /// Applies everything stamped so far; returns what the last entry was.
    pub fn apply(&mut self) -> Applied {
        let mut last = Applied::Nothing;
        for entry in &self.log[self.applied..] {
            last = self.machine.apply(entry).unwrap();
        }
        self.applied = self.log.len();
        self.lead.applied(self.machine.next_offset());
        last
    }

    /// Another leader's turn: everything is applied, raft appends its empty entry.
    pub fn next_term(&mut self, term: u64) {
        self.term = term;
        self.push(Bytes::new(), Bytes::new());
        self.apply();
        self.lead = self.machine.lead(term);
    }
}

/// What a stamp became, for tables: appended at, duplicate of, or the error's name.
pub(super) fn outcome(stamp: &Stamp) -> String {
    match stamp {
        Stamp::Append { base_offset, last_offset, .. } => {
            format!("append {base_offset}-{last_offset}")
        }
        Stamp::Duplicate { base_offset, last_offset, .. } => {
            format!("duplicate {base_offset}-{last_offset}")
        }
        Stamp::Reject(code, _) => code.as_str().to_string(),
    }
}
