//! What idempotence needs (KIP-98): per producer its epoch and its last five batches.
//!
//! Invariants: a known producer has at least one kept batch; batches of one producer are all of
//! its current epoch and ascend in offset; the number of producers is bounded, and the one whose
//! newest batch lies lowest in the log goes first, on every replica alike; whether an unknown
//! producer may be one that was forgotten is known, never guessed.

use std::collections::BTreeMap;

use model::limits::{PRODUCER_BATCHES_KEPT, PRODUCERS_PER_PARTITION_MAX};
use wire::records::BatchHeader;

/// One batch as dedupe remembers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptBatch {
    pub base_offset: i64,
    pub last_offset: i64,
    pub first_sequence: i32,
    pub last_sequence: i32,
    /// The batch's max timestamp: its append time when the log stamps time.
    pub timestamp: i64,
}

impl KeptBatch {
    /// `header` must be stamped.
    pub(super) fn of(header: &BatchHeader) -> KeptBatch {
        KeptBatch {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            timestamp: header.max_timestamp,
        }
    }

    /// The same batch sent again: Kafka compares both ends.
    pub(super) fn is_resend(&self, header: &BatchHeader) -> bool {
        self.first_sequence == header.base_sequence && self.last_sequence == header.last_sequence()
    }
}

/// True when `next` is the sequence after `last`; after the largest comes 0.
pub(super) fn in_sequence(last: i32, next: i32) -> bool {
    next == if last == i32::MAX { 0 } else { last + 1 }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) epoch: i16,
    batches: [KeptBatch; PRODUCER_BATCHES_KEPT],
    kept: usize,
}

impl Producer {
    pub(super) fn new(epoch: i16, batch: KeptBatch) -> Producer {
        let mut batches = [KeptBatch::default(); PRODUCER_BATCHES_KEPT];
        batches[0] = batch;
        Producer { epoch, batches, kept: 1 }
    }

    /// Oldest first; never empty.
    pub(super) fn batches(&self) -> &[KeptBatch] {
        &self.batches[..self.kept]
    }

    pub(super) fn newest(&self) -> &KeptBatch {
        &self.batches[self.kept - 1]
    }

    pub(super) fn push(&mut self, batch: KeptBatch) {
        if self.kept == PRODUCER_BATCHES_KEPT {
            self.batches.rotate_left(1);
            self.kept -= 1;
        }
        self.batches[self.kept] = batch;
        self.kept += 1;
    }
}

/// A producer as DescribeProducers and the debug page show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView<'a> {
    pub producer_id: i64,
    pub epoch: i16,
    pub batches: &'a [KeptBatch],
}

/// All producers of one partition, and the order they were last heard in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// Last offset of the newest batch -> producer. Offsets are unique, so this is a total order.
    by_age: BTreeMap<i64, i64>,
    /// The highest producer id that was ever evicted or expired; [`NONE_FORGOTTEN`] at first.
    forgotten_up_to: i64,
}

/// Below every producer id.
pub(super) const NONE_FORGOTTEN: i64 = -1;
/// At or above every producer id: a state whose past is not known.
pub(super) const ANY_FORGOTTEN: i64 = i64::MAX;

impl Default for Producers {
    fn default() -> Self {
        Producers::after(NONE_FORGOTTEN)
    }
}

impl Producers {
    /// Nobody is known, and everybody up to an id may have been forgotten.
    pub(super) fn after(forgotten_up_to: i64) -> Producers {
        Producers { by_id: BTreeMap::new(), by_age: BTreeMap::new(), forgotten_up_to }
    }

    pub(super) fn forgotten_up_to(&self) -> i64 {
        self.forgotten_up_to
    }

    /// True when an unknown producer may be one that was known once. Ids are handed out
    /// ascending, block by block, so nearly every later producer is told apart from those.
    pub(super) fn may_have_forgotten(&self, producer_id: i64) -> bool {
        producer_id <= self.forgotten_up_to
    }

    pub(super) fn get(&self, producer_id: i64) -> Option<&Producer> {
        self.by_id.get(&producer_id)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Ascending by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.by_id.iter().map(|(id, producer)| (*id, producer))
    }

    /// Records an applied batch. `Err(last)`: it does not follow the batch with sequence
    /// `last`, so it cannot be what the leader decided.
    pub(super) fn append(&mut self, header: &BatchHeader) -> Result<(), i32> {
        let batch = KeptBatch::of(header);
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        if let Some(known) = self.by_id.get_mut(&id) {
            let newest = *known.newest();
            if known.epoch == epoch && in_sequence(newest.last_sequence, batch.first_sequence) {
                known.push(batch);
            } else if known.epoch < epoch && batch.first_sequence == 0 {
                *known = Producer::new(epoch, batch);
            } else {
                return Err(newest.last_sequence);
            }
            self.by_age.remove(&newest.last_offset);
        } else {
            if self.by_id.len() >= PRODUCERS_PER_PARTITION_MAX {
                let (_, oldest) = self.by_age.pop_first().expect("as many ages as producers");
                self.by_id.remove(&oldest);
                self.forgotten_up_to = self.forgotten_up_to.max(oldest);
            }
            self.by_id.insert(id, Producer::new(epoch, batch));
        }
        self.by_age.insert(batch.last_offset, id);
        Ok(())
    }

    /// Forgets producers last heard before a time and below an offset; returns how many.
    pub(super) fn expire(&mut self, before_ms: i64, below_offset: i64) -> usize {
        let gone: Vec<(i64, i64)> = self
            .by_age
            .range(..below_offset)
            .filter(|(_, id)| self.by_id[*id].newest().timestamp < before_ms)
            .map(|(offset, id)| (*offset, *id))
            .collect();
        for (offset, id) in &gone {
            self.by_age.remove(offset);
            self.by_id.remove(id);
            self.forgotten_up_to = self.forgotten_up_to.max(*id);
        }
        gone.len()
    }

    /// True when [`Self::expire`] would forget anyone.
    pub(super) fn would_expire(&self, before_ms: i64, below_offset: i64) -> bool {
        let mut silent = self.by_age.range(..below_offset);
        silent.any(|(_, id)| self.by_id[id].newest().timestamp < before_ms)
    }

    /// Puts back a producer read from a snapshot. False: it contradicts the ones before it.
    pub(super) fn restore(&mut self, id: i64, producer: Producer) -> bool {
        let offset = producer.newest().last_offset;
        let ascending = self.by_id.last_key_value().is_none_or(|(last, _)| *last < id);
        self.by_id.insert(id, producer);
        ascending && self.by_age.insert(offset, id).is_none()
    }
}
