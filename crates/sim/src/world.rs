//! The simulated world: one queue of things to come, in simulated time.
//!
//! Invariants: nothing happens except out of the queue; things due at the same nanosecond happen
//! in the order they were scheduled; every choice comes from the seed's dice.

use std::collections::BTreeMap;

use model::{GroupId, ReplicaId};
use node::Answer;
use node::shard::{RaftIn, SegmentWork};
use storage::OpId;
use storage::testing::Dice;

use crate::broker::{self, Broker};
use crate::clients::Clients;
use crate::faults::{Faults, Strike};
use crate::net::Net;
use crate::oracle::Oracle;
use crate::plant::Plant;
use crate::profile::Profile;
use crate::report::{Reach, Reached};
use crate::seats::Seats;
use crate::trace::{Trace, Who};

pub const US: u64 = 1_000;
pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

pub const BROKERS: usize = 3;
/// The partition groups; the metadata group comes on top.
pub const PARTITIONS: [GroupId; 7] =
    [GroupId(2), GroupId(3), GroupId(4), GroupId(5), GroupId(6), GroupId(7), GroupId(8)];

/// Every group of the cluster.
pub fn groups() -> impl Iterator<Item = GroupId> {
    [GroupId::METADATA].into_iter().chain(PARTITIONS)
}

/// What can be in the queue. `life` names one process of a broker: what was meant for a dead one
/// never happens.
pub enum What {
    Start {
        b: usize,
    },
    Tick {
        b: usize,
        life: u32,
    },
    /// A turn takes its inputs ...
    Turn {
        b: usize,
        life: u32,
    },
    /// ... and hands out what follows from them.
    Flush {
        b: usize,
        life: u32,
        turn_ns: u64,
    },
    Deliver {
        from: usize,
        to: usize,
        epoch: u64,
        sent: u64,
        item: Box<RaftIn>,
    },
    Connect {
        pair: (usize, usize),
    },
    /// A link's end becomes known at `b`.
    Hear {
        b: usize,
        life: u32,
        of: usize,
        died: bool,
    },
    KeepAlive {
        pair: (usize, usize),
        epoch: u64,
    },
    DiskDone {
        b: usize,
        life: u32,
        id: OpId,
    },
    JournalIdle {
        b: usize,
        life: u32,
    },
    JournalSpace {
        b: usize,
        life: u32,
    },
    Segments {
        b: usize,
        life: u32,
    },
    CheckpointDue {
        b: usize,
        life: u32,
    },
    CheckpointSoon {
        b: usize,
        life: u32,
    },
    CheckpointStep {
        b: usize,
        life: u32,
    },
    Fetched {
        b: usize,
        life: u32,
        group: GroupId,
        fetch: consensus::EntryFetch,
    },
    Ask {
        request: usize,
    },
    Answered {
        request: usize,
        answer: Option<Answer>,
    },
    GiveUp {
        request: usize,
    },
    Produce {
        producer: usize,
    },
    Resend {
        producer: usize,
    },
    Read {
        group: GroupId,
    },
    /// A broker hears of a placement.
    Place {
        b: usize,
        group: GroupId,
    },
    /// A replica is replaced by a new one on the same broker.
    Renew {
        b: usize,
        group: GroupId,
        replica: ReplicaId,
    },
    /// The next piece of a snapshot.
    Fetch {
        b: usize,
        life: u32,
        group: GroupId,
    },
    /// A voter's power goes.
    LoseVote {
        b: usize,
        life: u32,
    },
    AllocateIds,
    Fault,
    EndFault {
        strike: Box<Strike>,
    },
    Look,
}

pub struct World {
    pub profile: Profile,
    /// True time; no broker sees it.
    pub now_ns: u64,
    queue: BTreeMap<(u64, u64), What>,
    scheduled: u64,
    pub dice: Dice,
    pub trace: Trace,
    pub reached: Reached,
    pub brokers: Vec<Broker>,
    pub net: Net,
    pub clients: Clients,
    pub faults: Faults,
    pub seats: Seats,
    pub oracle: Oracle,
    /// Set when the faults have ended.
    pub healed_ns: Option<u64>,
    /// Set when every group was seen to serve again: clients start nothing new.
    pub calm_ns: Option<u64>,
    pub over: bool,
}

impl World {
    pub fn new(seed: u64, profile: &Profile) -> World {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x676c_6173_736c_6f67);
        let brokers: Vec<Broker> = (0..BROKERS).map(|_| Broker::new(&mut dice)).collect();
        for broker in &brokers {
            broker.disk.world().sync = broker::sync_does(profile.plant);
        }
        let faults = Faults::new(profile.schedule, &mut dice);
        let clients = Clients::new(&mut dice);
        World {
            profile: profile.clone(),
            now_ns: 0,
            queue: BTreeMap::new(),
            scheduled: 0,
            dice,
            trace: Trace::new(seed, profile.record, profile.print),
            reached: Reached::default(),
            brokers,
            net: Net::default(),
            clients,
            faults,
            seats: Seats::default(),
            oracle: Oracle::default(),
            healed_ns: None,
            calm_ns: None,
            over: false,
        }
    }

    /// `what` happens `in_ns` from now.
    pub fn schedule(&mut self, in_ns: u64, what: What) {
        self.schedule_at(self.now_ns + in_ns, what);
    }

    pub fn schedule_at(&mut self, at_ns: u64, what: What) {
        self.scheduled += 1;
        self.queue.insert((at_ns.max(self.now_ns), self.scheduled), what);
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.dice.below(high - low + 1)
    }

    pub fn reach(&mut self, what: Reach) {
        self.reached.add(what, 1);
    }

    pub fn note(&mut self, who: Who, what: &str, values: &[(&'static str, u64)]) {
        self.trace.event(self.now_ns, who, what, values);
    }

    /// Runs until the life is over or `end_ns` is reached.
    pub fn run_until(&mut self, end_ns: u64) {
        while !self.over
            && let Some((&(at_ns, _), _)) = self.queue.first_key_value()
            && at_ns <= end_ns
        {
            let ((at_ns, _), what) = self.queue.pop_first().expect("looked at");
            self.now_ns = at_ns;
            self.happen(what);
        }
        self.now_ns = self.now_ns.max(end_ns.min(self.now_ns + SECOND));
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Start { b } => self.start(b),
            What::Tick { b, life } => self.tick(b, life),
            What::Turn { b, life } => self.turn(b, life),
            What::Flush { b, life, turn_ns } => self.flush(b, life, turn_ns),
            What::Deliver { from, to, epoch, sent, item } => {
                self.deliver(from, to, epoch, sent, *item);
            }
            What::Connect { pair } => self.connect(pair),
            What::Hear { b, life, of, died } => self.hear(b, life, of, died),
            What::KeepAlive { pair, epoch } => self.keep_alive(pair, epoch),
            What::DiskDone { b, life, id } => self.disk_done(b, life, id),
            What::JournalIdle { b, life } => self.journal_idle(b, life),
            What::JournalSpace { b, life } => self.journal_space(b, life),
            What::Segments { b, life } => self.segments_turn(b, life),
            What::CheckpointDue { b, life } => self.checkpoint_due(b, life),
            What::CheckpointSoon { b, life } => self.checkpoint_soon(b, life),
            What::CheckpointStep { b, life } => self.checkpoint_step(b, life),
            What::Fetched { b, life, group, fetch } => self.fetched(b, life, group, fetch),
            What::Ask { request } => self.ask(request),
            What::Answered { request, answer } => self.answered(request, answer),
            What::GiveUp { request } => self.give_up(request),
            What::Produce { producer } => self.produce(producer),
            What::Resend { producer } => self.resend(producer),
            What::Read { group } => self.read(group),
            What::Place { b, group } => self.place(b, group),
            What::Renew { b, group, replica } => self.renew(b, group, replica),
            What::Fetch { b, life, group } => self.fetch_snapshot(b, life, group),
            What::LoseVote { b, life } => self.lose_vote(b, life),
            What::AllocateIds => self.allocate_ids(),
            What::Fault => self.fault(),
            What::EndFault { strike } => self.end_fault(*strike),
            What::Look => self.look(),
        }
    }

    pub fn has(&self, plant: Plant) -> bool {
        self.profile.plant == Some(plant)
    }

    /// True while that process lives.
    pub fn lives(&self, b: usize, life: u32) -> bool {
        self.brokers[b].process.as_ref().is_some_and(|process| process.life == life)
    }

    /// When `b` is stopped (SIGSTOP), the time it goes on.
    pub fn stopped_until(&self, b: usize) -> Option<u64> {
        let until = self.brokers[b].stopped_until_ns;
        (until > self.now_ns).then_some(until)
    }
}

/// The group of a piece of segment work.
pub fn group_of(work: &SegmentWork) -> GroupId {
    match work {
        SegmentWork::Append { group, .. }
        | SegmentWork::LogStart { group, .. }
        | SegmentWork::SegmentBytes { group, .. }
        | SegmentWork::Delete { group } => *group,
        SegmentWork::Mark { mark, .. } | SegmentWork::Manifest { mark } => mark.group,
        SegmentWork::Install { install } => install.mark.group,
        SegmentWork::Marked { .. } => GroupId(0),
    }
}
