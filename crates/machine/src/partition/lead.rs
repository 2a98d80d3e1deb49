//! The leader's half: what a producer's batch becomes, decided once, when it is stamped.
//!
//! Decisions are taken over the applied state plus the tail: batches this leader stamped and
//! the machine has not applied yet. Within a term only this leader appends, so that is exact.
//!
//! Invariants: `next_offset` and the prefix run ahead of the machine by exactly the tail;
//! rollback undoes stamps newest first; a batch leaves the tail when the machine applied it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use model::{EntryKind, ErrorCode, Now, PrefixChecksum};
use wire::records::{self, BatchHeader, NO_TIMESTAMP, Stamping, TimestampType};

use super::PartitionMachine;
use super::control::Proposal;
use super::producers::{KeptBatch, Producer, in_sequence};
use crate::chain::{self, Mark};

/// What the topic's configuration says about a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampConfig {
    /// `max.message.bytes`: the whole batch.
    pub max_message_bytes: usize,
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms` and `.after.`: how far a record's time may lie from
    /// the leader's; only for CreateTime.
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
}

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Propose this entry. `append_time_ms` is -1 unless the topic stamps LogAppendTime.
    Append { context: Bytes, data: Bytes, base_offset: i64, last_offset: i64, append_time_ms: i64 },
    /// It is in the log already: answer as the first time, once `last_offset` is committed.
    Duplicate { base_offset: i64, last_offset: i64, append_time_ms: i64 },
    /// Nothing was stamped.
    Reject(ErrorCode, String),
}

/// A batch of a producer, stamped and not yet applied.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    epoch: i16,
    batch: KeptBatch,
}

/// The newest a producer is known to have sent.
struct Latest {
    epoch: i16,
    last_sequence: i32,
}

enum Verdict {
    New,
    Resend(KeptBatch),
    Reject(ErrorCode, String),
}

/// The leader's half of one partition in one term. Dropped with the leadership.
#[derive(Debug)]
pub struct PartitionLead {
    leader_epoch: i32,
    next_offset: i64,
    prefix: PrefixChecksum,
    /// Stamped batches of producers in log order: (last offset, producer).
    tail: VecDeque<(i64, i64)>,
    in_flight: BTreeMap<i64, VecDeque<InFlight>>,
    /// Two points (boot time, next offset) at least an expiration apart, see [`Self::expire`].
    heard: [Option<(u64, i64)>; 2],
}

impl PartitionLead {
    pub(super) fn new(machine: &PartitionMachine, term: u64) -> PartitionLead {
        let leader_epoch = i32::try_from(term).expect("a term beyond i32 cannot be a leader epoch");
        assert!(machine.last_epoch() <= Some(leader_epoch), "leading in a term that is over");
        PartitionLead {
            leader_epoch,
            next_offset: machine.next_offset(),
            prefix: machine.prefix(),
            tail: VecDeque::new(),
            in_flight: BTreeMap::new(),
            heard: [None; 2],
        }
    }

    /// Offset of the next record to be stamped: the log end offset.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Idempotent batches stamped and not yet applied.
    pub fn tail_len(&self) -> usize {
        self.tail.len()
    }

    /// Decides about one batch that passed [`wire::records::validate`], and stamps it.
    /// `machine` is the machine this was made from.
    pub fn stamp(
        &mut self,
        machine: &PartitionMachine,
        now: Now,
        batch: Bytes,
        config: &StampConfig,
    ) -> Stamp {
        let header = match BatchHeader::parse(&batch) {
            Ok(header) => header,
            Err(error) => return Stamp::Reject(error.code(), error.to_string()),
        };
        assert_eq!(header.total_len(), batch.len(), "stamping a batch that was never validated");
        assert!(header.last_offset_delta >= 0, "stamping a batch that was never validated");
        if let Some((code, why)) = refusal(&header, now, config) {
            return Stamp::Reject(code, why);
        }
        let stamps_time = config.timestamp_type == TimestampType::LogAppendTime;
        if header.has_producer() {
            match self.judge(machine, &header) {
                Verdict::New => {}
                Verdict::Reject(code, why) => return Stamp::Reject(code, why),
                Verdict::Resend(first) => {
                    return Stamp::Duplicate {
                        base_offset: first.base_offset,
                        last_offset: first.last_offset,
                        append_time_ms: if stamps_time { first.timestamp } else { NO_TIMESTAMP },
                    };
                }
            }
        }
        self.append(batch, &header, stamps_time.then_some(now.wall_ms))
    }

    fn append(&mut self, batch: Bytes, header: &BatchHeader, append_time: Option<i64>) -> Stamp {
        let base_offset = self.next_offset;
        let data = records::stamp(
            batch,
            &Stamping {
                base_offset,
                leader_epoch: self.leader_epoch,
                log_append_time_ms: append_time,
            },
        );
        let max_timestamp = append_time.unwrap_or(header.max_timestamp);
        let stamped = BatchHeader { base_offset, max_timestamp, ..*header };
        let last_offset = stamped.last_offset();
        if stamped.has_producer() {
            let batch = InFlight { epoch: stamped.producer_epoch, batch: KeptBatch::of(&stamped) };
            self.in_flight.entry(stamped.producer_id).or_default().push_back(batch);
            self.tail.push_back((last_offset, stamped.producer_id));
        }
        let context = chain::stamp(&mut self.prefix, EntryKind::Batch, &data);
        self.next_offset = last_offset + 1;
        let append_time_ms = append_time.unwrap_or(NO_TIMESTAMP);
        Stamp::Append { context, data, base_offset, last_offset, append_time_ms }
    }

    /// KIP-98's rules, as Kafka's ProducerAppendInfo applies them.
    fn judge(&self, machine: &PartitionMachine, header: &BatchHeader) -> Verdict {
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        let applied = machine.producers.get(id);
        let in_flight = self.in_flight.get(&id);
        let Some(latest) = latest(applied, in_flight) else { return first_of(machine, header) };
        if epoch < latest.epoch {
            return Verdict::Reject(
                ErrorCode::InvalidProducerEpoch,
                format!("producer {id} has epoch {}, the batch says {epoch}", latest.epoch),
            );
        }
        if let Some(first) = resend_of(header, applied, in_flight) {
            return Verdict::Resend(first);
        }
        let sequence = header.base_sequence;
        let sound = if epoch > latest.epoch {
            sequence == 0
        } else {
            in_sequence(latest.last_sequence, sequence)
        };
        if sound {
            return Verdict::New;
        }
        Verdict::Reject(
            ErrorCode::OutOfOrderSequenceNumber,
            format!(
                "producer {id}: sequence {sequence} in epoch {epoch} after {} in epoch {}",
                latest.last_sequence, latest.epoch
            ),
        )
    }

    /// Chains a control entry and returns its context. To be proposed in this order with
    /// the batches.
    ///
    /// # Panics
    /// For kinds that are not a partition's control entries.
    pub fn control(&mut self, kind: EntryKind, data: &[u8]) -> Bytes {
        assert!(Proposal::decode(kind, data).is_some(), "{kind:?} is no control entry");
        chain::stamp(&mut self.prefix, kind, data)
    }

    /// Where to fall back to if what is stamped from here on is not appended.
    pub fn mark(&self) -> Mark {
        Mark { next_offset: self.next_offset, prefix: self.prefix }
    }

    /// Takes back everything stamped since `mark`: the proposal was dropped.
    pub fn rollback(&mut self, mark: Mark) {
        assert!(mark.next_offset <= self.next_offset, "rolling back to a mark that lies ahead");
        while let Some((last_offset, id)) = self.tail.back().copied() {
            if last_offset < mark.next_offset {
                break;
            }
            self.tail.pop_back();
            let of_producer = self.in_flight.get_mut(&id).expect("tail and in-flight agree");
            let undone = of_producer.pop_back().expect("tail and in-flight agree");
            assert_eq!(undone.batch.last_offset, last_offset, "tail and in-flight agree");
            if of_producer.is_empty() {
                self.in_flight.remove(&id);
            }
        }
        self.next_offset = mark.next_offset;
        self.prefix = mark.prefix;
    }

    /// The machine has applied everything below `next_offset`: that part of the tail retires.
    pub fn applied(&mut self, next_offset: i64) {
        assert!(
            next_offset <= self.next_offset,
            "the machine applied what this leader never stamped"
        );
        while let Some((last_offset, id)) = self.tail.front().copied() {
            if last_offset >= next_offset {
                break;
            }
            self.tail.pop_front();
            let of_producer = self.in_flight.get_mut(&id).expect("tail and in-flight agree");
            of_producer.pop_front();
            if of_producer.is_empty() {
                self.in_flight.remove(&id);
            }
        }
    }

    /// What to propose so that producers not heard from for `expiration_ms` are forgotten
    /// (`producer.id.expiration.ms`). To be asked now and then, at least a few times per
    /// expiration. A leader only expires what it has itself seen silent that long.
    pub fn expire(
        &mut self,
        machine: &PartitionMachine,
        now: Now,
        expiration_ms: u64,
    ) -> Option<Proposal> {
        let sample = (now.boot_ns, self.next_offset);
        let old = |point: (u64, i64)| now.ms_since(point.0) >= expiration_ms;
        let [older, newer] = self.heard;
        match (older, newer) {
            (None, _) => self.heard = [Some(sample), Some(sample)],
            // The newer point is old enough to replace the older one.
            (_, Some(point)) if old(point) => self.heard = [Some(point), Some(sample)],
            _ => {}
        }
        let (_, below_offset) = self.heard[0].filter(|point| old(*point))?;
        let expiration = i64::try_from(expiration_ms).unwrap_or(i64::MAX);
        let before_ms = now.wall_ms.saturating_sub(expiration);
        machine
            .producers
            .would_expire(before_ms, below_offset)
            .then_some(Proposal::ExpireProducers { before_ms, below_offset })
    }
}

/// Size and time, the topic's rules.
fn refusal(header: &BatchHeader, now: Now, config: &StampConfig) -> Option<(ErrorCode, String)> {
    let bytes = header.total_len();
    if bytes > config.max_message_bytes {
        let max = config.max_message_bytes;
        let why = format!("a batch of {bytes} bytes, max.message.bytes is {max}");
        return Some((ErrorCode::MessageTooLarge, why));
    }
    if config.timestamp_type == TimestampType::LogAppendTime {
        return None;
    }
    for timestamp in [header.base_timestamp, header.max_timestamp] {
        if timestamp == NO_TIMESTAMP {
            continue;
        }
        let (ahead, behind) =
            (timestamp.saturating_sub(now.wall_ms), now.wall_ms.saturating_sub(timestamp));
        if ahead > config.timestamp_after_max_ms || behind > config.timestamp_before_max_ms {
            let why = format!(
                "timestamp {timestamp} is out of range: the broker's time is {}, \
                 message.timestamp.before.max.ms {}, message.timestamp.after.max.ms {}",
                now.wall_ms, config.timestamp_before_max_ms, config.timestamp_after_max_ms
            );
            return Some((ErrorCode::InvalidTimestamp, why));
        }
    }
    None
}

/// A batch of an unknown producer. One that cannot have been forgotten is new and begins at 0:
/// anything else is a successor that overtook a refused first batch, and is sent again in order.
/// One that may have been forgotten goes on at any sequence, as in Kafka.
fn first_of(machine: &PartitionMachine, header: &BatchHeader) -> Verdict {
    let (id, sequence) = (header.producer_id, header.base_sequence);
    if sequence == 0 || machine.producers.may_have_forgotten(id) {
        return Verdict::New;
    }
    let why = format!("producer {id} is new here and begins at sequence {sequence}, not at 0");
    Verdict::Reject(ErrorCode::OutOfOrderSequenceNumber, why)
}

/// The batch `header` repeats, if it is one of those kept or in flight.
fn resend_of(
    header: &BatchHeader,
    applied: Option<&Producer>,
    in_flight: Option<&VecDeque<InFlight>>,
) -> Option<KeptBatch> {
    let flying = in_flight.into_iter().flatten().filter(|f| f.epoch == header.producer_epoch);
    let kept = applied.filter(|p| p.epoch == header.producer_epoch);
    flying
        .map(|f| &f.batch)
        .chain(kept.into_iter().flat_map(Producer::batches))
        .find(|batch| batch.is_resend(header))
        .copied()
}

fn latest(applied: Option<&Producer>, in_flight: Option<&VecDeque<InFlight>>) -> Option<Latest> {
    let flying = in_flight
        .and_then(VecDeque::back)
        .map(|f| Latest { epoch: f.epoch, last_sequence: f.batch.last_sequence });
    flying.or_else(|| {
        applied.map(|p| Latest { epoch: p.epoch, last_sequence: p.newest().last_sequence })
    })
}
