//! Targeted schedules: one rule of the log each, struck again and again where it would break.
//!
//! The swarm of [`faults`](crate::faults) finds what nobody thought of; these go where somebody
//! did. Invariant: a schedule only chooses what strikes whom, and when; what a fault does is the
//! same in every life.

use consensus::eraftpb::{Message, MessageType};
use storage::testing::Fault;
use storage::{DiskError, DiskPath, OpKind};

use crate::faults::FaultKind;
use crate::report::Reach;
use crate::world::{BROKERS, MS, US, What, World};

/// What strikes in a life, and how often.
#[derive(Debug, PartialEq)]
pub struct Schedule {
    pub name: &'static str,
    /// What must hold all the same.
    pub rule: &'static str,
    pub(crate) kinds: &'static [FaultKind],
    /// From one fault to the next, milliseconds.
    pub(crate) gap_ms: (u64, u64),
}

use FaultKind::*;

/// Every rule that has a schedule of its own.
pub const SCHEDULES: &[Schedule] = &[
    Schedule {
        name: "lost-vote",
        rule: "a vote leaves after it is durable: a voter that loses its power right after it voted votes for nobody else in that term",
        kinds: &[LoseVotes, FalseDeath, Kill, Partition],
        gap_ms: (300, 1_200),
    },
    Schedule {
        name: "turn-steps",
        rule: "a process may die between any two steps of a turn: journal, views, peers, replies, segments, reads",
        kinds: &[EachStep],
        gap_ms: (400, 1_600),
    },
    Schedule {
        name: "journal-operations",
        rule: "the power may go at each write, sync, create, allocation and rename of the journal",
        kinds: &[EachJournalOp],
        gap_ms: (400, 1_600),
    },
    Schedule {
        name: "segment-operations",
        rule: "unsynced segments are never trusted: the power may go at each operation on them or on the checkpoint",
        kinds: &[EachSegmentOp],
        gap_ms: (400, 1_600),
    },
    Schedule {
        name: "failed-sync",
        rule: "nothing is believed after a failed write or sync, not by the next start either",
        kinds: &[FailSync, FailSync, FailSync, PowerCut],
        gap_ms: (400, 1_500),
    },
    Schedule {
        name: "conflicting-tails",
        rule: "an append truncates first: leaders cut off with entries of their own come back to a log that went on",
        kinds: &[Partition, Partition, OneWay, Kill],
        gap_ms: (600, 2_000),
    },
    Schedule {
        name: "lease",
        rule: "a lease is over before anybody else leads, also for a leader that was suspended, hears only or speaks only",
        kinds: &[Pause, Pause, OneWay, FalseDeath],
        gap_ms: (300, 1_500),
    },
    Schedule {
        name: "hand-over",
        rule: "a leader that told another one to campaign has no lease for the rest of its term, however late that message is",
        kinds: &[CleanStop, CleanStop, Loss, Duplicates, Pause],
        gap_ms: (500, 2_000),
    },
    Schedule {
        name: "cold-start",
        rule: "what was acknowledged survives the whole cluster's loss of power",
        kinds: &[PowerCutAll],
        gap_ms: (1_500, 5_000),
    },
    Schedule {
        name: "new-replicas",
        rule: "a replica id is never used again: a lost disk comes back as a learner, and the old id leaves by a joint state",
        kinds: &[Wipe, Kill, Partition],
        gap_ms: (1_500, 5_000),
    },
    Schedule {
        name: "rot",
        rule: "damage below what was recorded as synced is named; the replica does not vote and is replaced",
        kinds: &[BitFlip],
        gap_ms: (1_500, 4_000),
    },
    Schedule {
        name: "far-behind",
        rule: "a follower behind the log's start is sent a snapshot, and one within it entries from segments",
        kinds: &[Away, Away, Kill],
        gap_ms: (2_000, 6_000),
    },
    Schedule {
        name: "full-disk",
        rule: "a full disk refuses writes and loses none",
        kinds: &[DiskFull, DiskFull, Kill, PowerCut],
        gap_ms: (400, 1_500),
    },
    Schedule {
        name: "slow-disks",
        rule: "a slow disk costs the leader neither its quorum nor its lease",
        kinds: &[SlowDisk],
        gap_ms: (1_000, 4_000),
    },
];

/// The schedule of that name.
pub fn schedule(name: &str) -> Option<&'static Schedule> {
    SCHEDULES.iter().find(|schedule| schedule.name == name)
}

const JOURNAL_OPS: [OpKind; 6] = [
    OpKind::Write,
    OpKind::Sync,
    OpKind::Create,
    OpKind::Allocate,
    OpKind::SyncDir,
    OpKind::Rename,
];
const SEGMENT_OPS: [OpKind; 5] =
    [OpKind::Write, OpKind::Sync, OpKind::Create, OpKind::Rename, OpKind::SyncDir];
/// Operations of a kind that go well before the one that does not, at most.
const WELL_MAX: usize = 6;
/// Steps of a turn.
const STEPS: u64 = 7;

impl World {
    /// Faults that go through their cases one by one.
    pub(crate) fn strike_in_turn(&mut self, kind: FaultKind, b: usize) {
        let nth = self.faults.count(kind);
        match kind {
            LoseVotes => self.faults.loses_votes = true,
            Away => {
                let until_ns = self.now_ns + self.between(4_000 * MS, 12_000 * MS);
                self.partition_until(b, until_ns);
            }
            _ if self.brokers[b].process.is_none() => {}
            EachStep => {
                self.with_process(b, |process| process.dies_after = Some((nth % STEPS) as u32));
                self.call_turn(b);
            }
            EachJournalOp => self.fail_nth(b, &JOURNAL_OPS, "journal", nth, true),
            EachSegmentOp => {
                let part = ["partitions", "checkpoint"][nth as usize % 2];
                self.fail_nth(b, &SEGMENT_OPS, part, nth / 2, true);
            }
            _ => self.fail_nth(b, &[OpKind::Sync, OpKind::Write], "journal", nth, false),
        }
    }

    /// The `nth` pair of an operation's kind and how many of them go well first.
    fn fail_nth(&mut self, b: usize, kinds: &[OpKind], part: &str, nth: u64, for_ever: bool) {
        let kind = kinds[nth as usize % kinds.len()];
        let after = nth as usize / kinds.len() % WELL_MAX;
        let message = "an injected input/output error".to_owned();
        let error = match for_ever {
            true => DiskError::Crashed,
            false => DiskError::Io { op: kind, path: DiskPath::new(""), message },
        };
        let fault = Fault { kind, path_part: part.to_owned(), after, error, for_ever };
        self.brokers[b].disk.world().faults.push(fault);
    }

    /// A vote was granted: now and then it is the last thing its voter does.
    pub(crate) fn may_lose_vote(&mut self, from: usize, message: &Message) {
        let granted = message.get_msg_type() == MessageType::MsgRequestVoteResponse;
        if !self.faults.loses_votes || !granted || message.reject {
            return;
        }
        let up = (0..BROKERS).filter(|b| self.brokers[*b].process.is_some()).count();
        if up == BROKERS && self.dice.chance(3) {
            let life = self.brokers[from].lives;
            self.schedule(US, What::LoseVote { b: from, life });
        }
    }

    pub(crate) fn lose_vote(&mut self, b: usize, life: u32) {
        if self.lives(b, life) {
            self.reach(Reach::VoterLost);
            self.cut_power(b);
        }
    }
}
