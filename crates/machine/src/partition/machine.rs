//! The half of a partition that every replica runs.

use model::{EntryKind, LogEntry, PrefixChecksum};
use wire::records::{BatchHeader, NO_TIMESTAMP};

use super::control::Proposal;
use super::epochs::{EpochEnd, Epochs};
use super::lead::PartitionLead;
use super::producers::{NONE_FORGOTTEN, ProducerView, Producers};
use super::snapshot;
use crate::{ApplyError, SnapshotError, chain};

/// What an applied entry was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// raft's own entry, or a log start that was reached before.
    Nothing,
    Batch {
        base_offset: i64,
        last_offset: i64,
        max_timestamp: i64,
        leader_epoch: i32,
    },
    Roll,
    LogStart {
        offset: i64,
    },
    ProducersExpired {
        count: usize,
    },
}

/// A partition's replicated state. `Clone` is for tests; nodes keep one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMachine {
    pub(super) applied_index: u64,
    pub(super) next_offset: i64,
    pub(super) log_start: i64,
    pub(super) prefix: PrefixChecksum,
    pub(super) max_timestamp: i64,
    pub(super) max_timestamp_offset: i64,
    pub(super) epochs: Epochs,
    pub(super) producers: Producers,
}

impl Default for PartitionMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl PartitionMachine {
    /// The state before the first entry, of a topic that never existed before.
    pub fn new() -> PartitionMachine {
        PartitionMachine::of_topic(0)
    }

    /// The state before the first entry. Producers with ids below may have written to a deleted
    /// topic of the same name; here they are as if forgotten.
    pub fn of_topic(producers_before: i64) -> PartitionMachine {
        PartitionMachine {
            applied_index: 0,
            next_offset: 0,
            log_start: 0,
            prefix: PrefixChecksum::default(),
            max_timestamp: NO_TIMESTAMP,
            max_timestamp_offset: -1,
            epochs: Epochs::default(),
            producers: Producers::after(producers_before.saturating_sub(1).max(NONE_FORGOTTEN)),
        }
    }

    /// Reads what [`PartitionMachine::snapshot`] wrote. Any bytes are survived.
    pub fn restore(bytes: &[u8]) -> Result<PartitionMachine, SnapshotError> {
        snapshot::decode(bytes)
    }

    /// The whole state, byte-identical on every replica that applied the same entries.
    pub fn snapshot(&self) -> Vec<u8> {
        snapshot::encode(self)
    }

    /// Applies one committed entry. After an error the state is as before: the machine is to
    /// be held at this entry.
    pub fn apply(&mut self, entry: &LogEntry) -> Result<Applied, ApplyError> {
        let Some((kind, prefix)) = chain::check(entry, self.applied_index, self.prefix)? else {
            self.applied_index = entry.index;
            return Ok(Applied::Nothing);
        };
        let applied = match kind {
            EntryKind::Batch => self.apply_batch(entry)?,
            EntryKind::Roll | EntryKind::ExpireProducers | EntryKind::LogStart => {
                self.apply_control(entry, kind)?
            }
            EntryKind::Raft | EntryKind::Metadata => {
                return Err(ApplyError::Kind { index: entry.index, kind });
            }
        };
        self.prefix = prefix;
        self.applied_index = entry.index;
        Ok(applied)
    }

    fn apply_batch(&mut self, entry: &LogEntry) -> Result<Applied, ApplyError> {
        let LogEntry { index, term, .. } = *entry;
        let malformed = |why: String| ApplyError::Malformed { index, why };
        let header = BatchHeader::parse(&entry.data).map_err(|e| malformed(e.to_string()))?;
        if header.total_len() != entry.data.len() {
            return Err(malformed(format!(
                "a batch of {} bytes in an entry of {}",
                header.total_len(),
                entry.data.len()
            )));
        }
        let BatchHeader { base_offset, leader_epoch, last_offset_delta, records_count, .. } =
            header;
        if last_offset_delta < 0 || i64::from(records_count) != i64::from(last_offset_delta) + 1 {
            return Err(malformed(format!(
                "{records_count} records, last delta {last_offset_delta}"
            )));
        }
        if base_offset != self.next_offset {
            let count = self.next_offset;
            return Err(ApplyError::Offset { index, stamped: base_offset, count });
        }
        if i64::from(leader_epoch) != term as i64 || self.epochs.last() > Some(leader_epoch) {
            return Err(ApplyError::Epoch { index, stamped: leader_epoch, term });
        }
        if header.has_producer() {
            self.producers.append(&header).map_err(|last| ApplyError::Sequence {
                index,
                producer_id: header.producer_id,
                sequence: header.base_sequence,
                last,
            })?;
        }
        let last_offset = header.last_offset();
        self.epochs.append(leader_epoch, base_offset);
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_offset = last_offset;
        }
        self.next_offset = last_offset + 1;
        let max_timestamp = header.max_timestamp;
        Ok(Applied::Batch { base_offset, last_offset, max_timestamp, leader_epoch })
    }

    fn apply_control(&mut self, entry: &LogEntry, kind: EntryKind) -> Result<Applied, ApplyError> {
        let index = entry.index;
        let Some(proposal) = Proposal::decode(kind, &entry.data) else {
            return Err(ApplyError::Malformed { index, why: format!("{kind:?} entry") });
        };
        Ok(match proposal {
            Proposal::Roll => Applied::Roll,
            Proposal::ExpireProducers { before_ms, below_offset } => {
                Applied::ProducersExpired { count: self.producers.expire(before_ms, below_offset) }
            }
            Proposal::LogStart { offset } if offset > self.next_offset => {
                return Err(ApplyError::Offset { index, stamped: offset, count: self.next_offset });
            }
            // DeleteRecords and retention may race to the same place: the later one is no news.
            Proposal::LogStart { offset } if offset <= self.log_start => Applied::Nothing,
            Proposal::LogStart { offset } => {
                self.log_start = offset;
                self.epochs.truncate_start(offset);
                if self.max_timestamp_offset < offset {
                    // Only segments know the maximum of what is left; a partition that starts
                    // beyond it answers from them.
                    self.max_timestamp = NO_TIMESTAMP;
                    self.max_timestamp_offset = -1;
                }
                Applied::LogStart { offset }
            }
        })
    }

    /// The leader's half for `term`, over a log that ends where this machine is.
    ///
    /// # Panics
    /// When the term does not fit a leader epoch or lies below an applied one. The caller must
    /// have applied the whole log up to the new term's first entry: Serving says so.
    pub fn lead(&self, term: u64) -> PartitionLead {
        PartitionLead::new(self, term)
    }

    /// Offset the next record gets: the log end of what is applied.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    pub fn log_start(&self) -> i64 {
        self.log_start
    }

    /// Checksum over every machine-visible entry applied so far.
    pub fn prefix(&self) -> PrefixChecksum {
        self.prefix
    }

    /// Index of the last applied entry, raft's own included.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Largest timestamp of the applied batches and the last offset of the batch that has it.
    /// `None` without one, or when the log start went past it.
    pub fn max_timestamp(&self) -> Option<(i64, i64)> {
        (self.max_timestamp != NO_TIMESTAMP)
            .then_some((self.max_timestamp, self.max_timestamp_offset))
    }

    /// Leader epoch of the newest applied batch.
    pub fn last_epoch(&self) -> Option<i32> {
        self.epochs.last()
    }

    /// Leader epoch that wrote the record at `offset`.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        (offset < self.next_offset).then(|| self.epochs.at(offset)).flatten()
    }

    /// Where `epoch` ends (KIP-101); `None` is Kafka's undefined (-1, -1). The current leader
    /// answers for its own term with the high watermark even when it wrote nothing yet.
    pub fn epoch_end(&self, epoch: i32) -> Option<EpochEnd> {
        self.epochs.end_of(epoch, self.next_offset)
    }

    /// Leader epochs and the offsets they begin at, ascending.
    pub fn epoch_starts(&self) -> &[(i32, i64)] {
        &self.epochs.starts
    }

    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// Producers ascending by id.
    pub fn producers(&self) -> impl Iterator<Item = ProducerView<'_>> {
        self.producers.iter().map(|(producer_id, producer)| ProducerView {
            producer_id,
            epoch: producer.epoch,
            batches: producer.batches(),
        })
    }
}
