//! Producers: plain ones that never repeat a batch, and idempotent ones (KIP-98) that repeat all
//! that is unanswered, in order, until they hear of it.
//!
//! Invariant: a batch is recognised in the log by its base timestamp, which no other batch has,
//! and compared byte by byte behind what a leader stamps.

use std::collections::VecDeque;

use bytes::Bytes;
use machine::BatchBuilder;
use model::{ErrorCode, GroupId, limits};
use node::Answer;
use storage::testing::Dice;

use super::{Asked, Clients};
use crate::broker::WALL_MS;
use crate::report::Reach;
use crate::world::{MS, US, What, World};

/// Bytes of a batch that a leader stamps: base offset, length, epoch, magic, CRC.
const STAMPED: usize = 21;
const AT_BASE_TIMESTAMP: usize = 27;

/// One batch a client wants in the log.
pub struct Op {
    pub producer: usize,
    pub group: GroupId,
    pub acks: i16,
    pub records: u32,
    /// As the producer sent it.
    pub batch: Bytes,
    pub born_ns: u64,
    /// Its place among its producer's batches.
    nth: usize,
    /// The requests that carried it.
    pub(super) requests: Vec<usize>,
}

impl Op {
    /// True when `data` is this batch, whatever a leader stamped.
    pub fn is_in(&self, data: &[u8]) -> bool {
        data.len() == self.batch.len() && data[STAMPED..] == self.batch[STAMPED..]
    }
}

pub struct Producer {
    pub group: GroupId,
    /// `None`: not idempotent.
    id: Option<i64>,
    next_sequence: i32,
    batches: usize,
    /// Batches from the oldest unanswered one on: a leader remembers five.
    window: usize,
    acks: i16,
    pace_us: (u64, u64),
    bytes_max: u64,
    /// Sent and not answered, in order.
    pub outstanding: VecDeque<usize>,
    /// Something went wrong: everything is sent again soon, nothing new before.
    recovering: bool,
    guess: usize,
}

impl Producer {
    pub fn new(group: GroupId, number: usize, dice: &mut Dice) -> Producer {
        let idempotent = dice.below(3) > 0;
        let slowest_us = [20_000, 200_000, 800_000][dice.below(3) as usize];
        Producer {
            group,
            id: idempotent.then_some(1_000 + number as i64),
            next_sequence: 0,
            batches: 0,
            window: if idempotent { 1 + dice.below(5) as usize } else { 1 },
            acks: if !idempotent && dice.chance(4) { 1 } else { -1 },
            pace_us: (1_000, slowest_us),
            bytes_max: [100, 1_000, 4_000][dice.below(3) as usize],
            outstanding: VecDeque::new(),
            recovering: false,
            guess: 0,
        }
    }

    /// Batches a second that it would send if nothing held it up.
    pub fn rate(&self) -> f64 {
        2_000_000.0 / (self.pace_us.0 + self.pace_us.1) as f64
    }

    /// Pauses become longer, the shortest ones stay.
    pub fn slow_down(&mut self, factor: f64) {
        self.pace_us.1 = (self.pace_us.1 as f64 * factor) as u64;
    }

    pub fn is_idempotent(&self) -> bool {
        self.id.is_some()
    }
}

const _: () = assert!(limits::PRODUCER_BATCHES_KEPT >= 5, "windows go up to five batches");

impl Clients {
    /// The batch of a client that `data` is, by its base timestamp.
    pub fn op_of(&self, group: GroupId, data: &[u8]) -> Option<usize> {
        let at = data.get(AT_BASE_TIMESTAMP..AT_BASE_TIMESTAMP + 8)?;
        let number = i64::from_be_bytes(at.try_into().expect("eight bytes")) - WALL_MS;
        let op = self.ops.get(usize::try_from(number).ok()?)?;
        (op.group == group).then_some(number as usize)
    }
}

impl World {
    /// A producer's time for something new.
    pub fn produce(&mut self, number: usize) {
        if self.calm_ns.is_some() {
            return;
        }
        let producer = &self.clients.producers[number];
        let (low, high) = producer.pace_us;
        let oldest = producer.outstanding.front().map(|op| self.clients.ops[*op].nth);
        let span = oldest.map_or(0, |nth| producer.batches - nth);
        let room = !producer.recovering && span < producer.window;
        if room {
            let op = self.new_op(number);
            self.clients.producers[number].outstanding.push_back(op);
            self.send_op(op);
        }
        let pause_ns = self.between(low, high) * US;
        self.schedule(pause_ns, What::Produce { producer: number });
    }

    fn new_op(&mut self, number: usize) -> usize {
        let op = self.clients.ops.len();
        let records = 1 + self.dice.below(4) as u32;
        let bytes = 8 + self.dice.below(self.clients.producers[number].bytes_max) as usize;
        let fill = self.dice.roll() as u8;
        let producer = &mut self.clients.producers[number];
        let mut batch = BatchBuilder::new(WALL_MS + op as i64);
        if let Some(id) = producer.id {
            batch = batch.producer(id, 0, producer.next_sequence);
            producer.next_sequence += records as i32;
        }
        let value = vec![fill; bytes / records as usize + 1];
        for _ in 0..records {
            batch = batch.value(&value);
        }
        let (group, acks, nth) = (producer.group, producer.acks, producer.batches);
        producer.batches += 1;
        let batch = batch.build();
        self.clients.ops.push(Op {
            producer: number,
            group,
            acks,
            records,
            batch,
            born_ns: self.now_ns,
            nth,
            requests: Vec::new(),
        });
        op
    }

    fn send_op(&mut self, op: usize) {
        let number = self.clients.ops[op].producer;
        let guess = self.clients.producers[number].guess;
        let patience_ns = self.between(400 * MS, 2_000 * MS);
        self.request(Asked::Produce { op }, number, guess, patience_ns);
    }

    /// A producer hears of one of its batches (`None`: nothing was heard).
    pub(super) fn produced(&mut self, op: usize, answer: Option<Answer>) {
        let (number, born_ns) = (self.clients.ops[op].producer, self.clients.ops[op].born_ns);
        let group = self.clients.ops[op].group;
        let waits = self.clients.producers[number].outstanding.iter().position(|o| *o == op);
        if let Some(Answer::Produced(_)) = answer {
            if self.healed_ns.is_some_and(|healed_ns| born_ns > healed_ns) {
                self.clients.served.insert(group);
            }
            let producer = &mut self.clients.producers[number];
            if let Some(at) = waits {
                producer.outstanding.remove(at);
            }
            return;
        }
        if let Some(Answer::Refused(refusal)) = &answer
            && matches!(
                refusal.code,
                ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend
            )
        {
            self.reach(Reach::NotEnoughReplicas);
        }
        let Some(at) = waits else { return };
        let guess = self.clients.choose(group, 2, &mut self.dice);
        let producer = &mut self.clients.producers[number];
        producer.guess = guess;
        if !producer.is_idempotent() {
            // Repeating it could write it twice.
            producer.outstanding.remove(at);
        } else if !std::mem::replace(&mut producer.recovering, true) {
            let pause_ns = self.between(10 * MS, 120 * MS);
            self.schedule(pause_ns, What::Resend { producer: number });
        }
    }

    /// Everything unanswered again, in order.
    pub fn resend(&mut self, number: usize) {
        let guess = self.clients.choose(self.clients.producers[number].group, 1, &mut self.dice);
        let producer = &mut self.clients.producers[number];
        producer.recovering = false;
        producer.guess = guess;
        let ops: Vec<usize> = producer.outstanding.iter().copied().collect();
        // Answers to what was sent before are nobody's any more.
        let Clients { requests, ops: all, .. } = &mut self.clients;
        for number in ops.iter().flat_map(|op| &all[*op].requests) {
            requests[*number].closed = true;
        }
        for op in ops {
            self.send_op(op);
        }
    }
}
