//! The oracle: what may never happen, one invariant per file.
//!
//! It hears what brokers commit, publish, answer and make durable, and what recovery finds; it
//! never asks a broker what it believes. Invariants: it acts on nothing; what it has seen once
//! stays true for ever, across crashes and leaders.

mod acked;
mod churn;
mod dedupe;
mod durable;
mod ids;
mod leaders;
mod one_value;
mod order;
mod prefix;
mod reads;
mod watermark;

use model::{GroupId, PrefixChecksum};
use node::Produced;
use node::shard::{Shard, ViewUpdate};
use storage::Recovered;

use crate::clients::Op;
pub use acked::Acked;
pub use durable::Durable;
pub use one_value::{Chosen, OneValue};

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// One value per (group, index) and per (group, offset) among what is committed.
    OneValue,
    /// What is committed is durable on a majority.
    CommittedIsDurable,
    /// What was durable is found by recovery: entries, terms and votes.
    DurableIsKept,
    /// What is acknowledged is committed at that moment, with the copies it was promised.
    AckedIsCommitted,
    /// What was acknowledged is in the log at the end: at its offset, in order, on a majority.
    AckedIsKept,
    /// A batch of an idempotent producer appears at most once.
    Dedupe,
    /// A high watermark never moves back.
    HighWatermark,
    /// Equal positions have equal prefix checksums.
    Prefix,
    /// One leader per term.
    OneLeader,
    /// Applied, committed, in the log: in this order, and no commit is taken back.
    Order,
    /// What raft sees of its log is what a start would find on the disk.
    LogView,
    /// Every joint state is left.
    JointLeft,
    /// A few elections per fault, and none without.
    Churn,
    /// A guarded read is not older than its question.
    FreshReads,
    /// Producer-id blocks never overlap.
    UniqueIds,
    /// After the heal every group serves, commits, and its replicas become equal.
    Liveness,
    /// Panics, quarantined groups, held machines, false alarms of recovery.
    Unexpected,
}

impl Invariant {
    pub fn as_str(self) -> &'static str {
        match self {
            Invariant::OneValue => "one_value",
            Invariant::CommittedIsDurable => "committed_is_durable",
            Invariant::DurableIsKept => "durable_is_kept",
            Invariant::AckedIsCommitted => "acked_is_committed",
            Invariant::AckedIsKept => "acked_is_kept",
            Invariant::Dedupe => "dedupe",
            Invariant::HighWatermark => "high_watermark",
            Invariant::Prefix => "prefix",
            Invariant::OneLeader => "one_leader",
            Invariant::Order => "order",
            Invariant::LogView => "log_view",
            Invariant::JointLeft => "joint_left",
            Invariant::Churn => "churn",
            Invariant::FreshReads => "fresh_reads",
            Invariant::UniqueIds => "unique_ids",
            Invariant::Liveness => "liveness",
            Invariant::Unexpected => "unexpected",
        }
    }
}

/// One broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    pub at_ns: u64,
    pub invariant: Invariant,
    pub text: String,
}

/// Violations of one invariant kept per life: the first ones tell.
const VIOLATIONS_KEPT: usize = 4;

#[derive(Default)]
pub struct Oracle {
    pub values: OneValue,
    pub durable: Durable,
    pub acked: Acked,
    dedupe: dedupe::Dedupe,
    leaders: leaders::Leaders,
    watermark: watermark::Watermark,
    prefix: prefix::Prefix,
    order: order::Order,
    pub churn: churn::Churn,
    reads: reads::Reads,
    ids: ids::Ids,
    pub violations: Vec<Violation>,
}

impl Oracle {
    pub fn broken(&mut self, at_ns: u64, invariant: Invariant, text: String) {
        let known = self.violations.iter().filter(|v| v.invariant == invariant).count();
        if known < VIOLATIONS_KEPT {
            self.violations.push(Violation { at_ns, invariant, text });
        }
    }

    fn expect(&mut self, at_ns: u64, invariant: Invariant, result: Result<(), String>) {
        if let Err(text) = result {
            self.broken(at_ns, invariant, text);
        }
    }

    /// Something that has no business to happen in this world.
    pub fn unexpected(&mut self, at_ns: u64, text: String) {
        self.broken(at_ns, Invariant::Unexpected, text);
    }

    /// A process begins: what its views showed before is over.
    pub fn began(&mut self, b: usize, shard: &Shard<u64>) {
        self.watermark.began(b);
        self.order.began(b);
        self.churn.disturbed();
        self.values.began(b, shard);
    }

    /// All that `b` had is gone.
    pub fn wiped(&mut self, b: usize) {
        crate::world::groups().for_each(|group| self.expelled(b, group));
    }

    /// The replica on `b` is being removed: what it promised, its successor does not.
    pub fn expelled(&mut self, b: usize, group: GroupId) {
        self.durable.expelled(b, group);
        self.values.expelled(b, group);
        self.watermark.expelled(b, group);
        self.order.expelled(b, group);
    }

    /// A snapshot was installed: a synced checkpoint names it.
    pub fn installed(&mut self, b: usize, group: GroupId, index: u64) {
        self.durable.installed(b, group, index, &self.values);
    }

    pub fn recovered(&mut self, at_ns: u64, b: usize, recovered: &Recovered) {
        let result = self.durable.recovered(b, recovered, &self.values);
        self.expect(at_ns, Invariant::DurableIsKept, result);
    }

    /// Broker `b` says that `entries` are committed.
    pub fn committed(
        &mut self,
        at_ns: u64,
        b: usize,
        group: GroupId,
        entries: Vec<model::LogEntry>,
    ) {
        for entry in entries {
            let (index, term) = (entry.index, entry.term);
            match self.values.committed(b, group, entry) {
                Err(text) => self.broken(at_ns, Invariant::OneValue, text),
                Ok(None) => {}
                Ok(Some(chosen)) => {
                    let result = self.dedupe.chosen(group, chosen);
                    let copies = self.durable.copies(group, index, term);
                    self.expect(at_ns, Invariant::Dedupe, result);
                    if copies <= crate::world::BROKERS / 2 {
                        let text = format!(
                            "group {group}: b{} committed entry {index} of term {term}, durable on {copies}",
                            b + 1
                        );
                        self.broken(at_ns, Invariant::CommittedIsDurable, text);
                    }
                }
            }
        }
    }

    pub fn leads(&mut self, at_ns: u64, b: usize, group: GroupId, term: u64) {
        let result = self.leaders.leads(b, group, term);
        self.expect(at_ns, Invariant::OneLeader, result);
    }

    /// What a replica knows of its log after a turn.
    pub fn knows(&mut self, at_ns: u64, b: usize, raft: &consensus::Group, machine_applied: u64) {
        let result = self.order.seen(b, raft, machine_applied);
        self.expect(at_ns, Invariant::Order, result);
    }

    pub fn election_started(&mut self, at_ns: u64, group: GroupId) {
        let result = self.churn.election_started(group);
        self.expect(at_ns, Invariant::Churn, result);
    }

    pub fn applied(
        &mut self,
        at_ns: u64,
        b: usize,
        group: GroupId,
        index: u64,
        sum: PrefixChecksum,
    ) {
        let result = self.prefix.applied(b, group, index, sum);
        self.expect(at_ns, Invariant::Prefix, result);
    }

    pub fn view(&mut self, at_ns: u64, b: usize, view: &ViewUpdate) {
        let result = self.watermark.view(b, view);
        self.expect(at_ns, Invariant::HighWatermark, result);
    }

    /// A producer is answered. `copies`: durable copies its `acks` demand, the leader's alone
    /// for acks=1.
    pub fn answered(
        &mut self,
        at_ns: u64,
        b: usize,
        number: u64,
        op: &Op,
        done: Produced,
        copies: usize,
    ) {
        if copies == 1 {
            // A commit is more than the leader's own sync, and may come first.
            let chosen = self.values.at_offset(op.group, done.base_offset);
            let committed = chosen.is_some_and(|(_, chosen)| op.is_in(&chosen.data));
            if !committed && !self.durable.holds(b, op.group, done.index, done.term) {
                let offset = done.base_offset;
                let text = format!("group {}: acks=1 at {offset} before its sync", op.group);
                self.broken(at_ns, Invariant::AckedIsCommitted, text);
            }
            return;
        }
        let result = self.acked.answered(b, number, op, done);
        self.expect(at_ns, Invariant::AckedIsKept, result);
        let result = self.acked.is_committed(op, done, copies, &self.values, &self.durable);
        self.expect(at_ns, Invariant::AckedIsCommitted, result);
        self.reads.wrote(op.group, done.base_offset + i64::from(op.records));
    }

    /// High watermark below which no read that starts now may answer.
    pub fn floor(&self, group: GroupId) -> i64 {
        self.reads.floor(group)
    }

    pub fn read(&mut self, at_ns: u64, b: usize, group: GroupId, floor: i64, high: i64) {
        if high < floor {
            let text =
                format!("group {group}: b{} answered {high}, {floor} was known before", b + 1);
            self.broken(at_ns, Invariant::FreshReads, text);
        }
    }

    /// A reader was told `high`.
    pub fn has_read(&mut self, group: GroupId, high: i64) {
        self.reads.wrote(group, high);
    }

    pub fn ids(&mut self, at_ns: u64, first: i64, count: i64) {
        let result = self.ids.allocated(first, count);
        self.expect(at_ns, Invariant::UniqueIds, result);
    }
}
