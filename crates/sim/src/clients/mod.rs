//! Clients of the cluster: producers, readers, and one that asks for producer ids.
//!
//! Invariants: a client knows only what it was answered; requests of one client arrive at a
//! broker in the order they left; every request is remembered for ever, because an answer that
//! comes after its asker gave up is a promise all the same.

mod producer;
mod reader;

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{GroupId, limits};
use node::shard::{Input, ProduceInput, ViewUpdate};
use node::{Answer, metadata};
use storage::testing::Dice;

use crate::broker::broker_id;
use crate::plant::Plant;
use crate::report::Reach;
use crate::trace::Who;
use crate::world::{BROKERS, MS, PARTITIONS, US, What, World};

pub use producer::{Op, Producer};

/// How a partition group is configured in this life.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub min_insync: usize,
    pub retention_bytes: i64,
    pub segment_ms: i64,
}

impl Shape {
    fn new(dice: &mut Dice) -> Shape {
        Shape {
            min_insync: [1, 1, 2, 2, 2, 3][dice.below(6) as usize],
            retention_bytes: if dice.chance(4) { 128 << 10 } else { -1 },
            segment_ms: if dice.chance(3) { 2_500 } else { 600_000_000 },
        }
    }
}

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    Produce {
        op: usize,
    },
    /// `floor`: no answer may lie below this high watermark.
    Guard {
        group: GroupId,
        floor: i64,
    },
    Ids,
}

pub struct Request {
    pub asked: Asked,
    pub broker: usize,
    /// Who asked: tells apart in the trace, and keeps the order of arrival.
    pub client: usize,
    /// A broker has taken a stand on it.
    pub replied: bool,
    /// The asker waits no longer.
    pub closed: bool,
    /// In the hands of this life of the broker.
    life: Option<u32>,
}

/// What all producers of a life send at most: the least, and how much more it may be.
const BATCHES_A_SECOND: (u64, u64) = (50, 50);

/// Client number of the readers and of the one that asks for ids, for the trace.
const READER: usize = 100;
const ID_CLIENT: usize = 200;

pub struct Clients {
    pub producers: Vec<Producer>,
    pub ops: Vec<Op>,
    pub requests: Vec<Request>,
    shapes: BTreeMap<GroupId, Shape>,
    /// Who is believed to lead: (term, broker).
    leaders: BTreeMap<GroupId, (u64, usize)>,
    /// When the last request of a client arrives at a broker.
    free_ns: BTreeMap<(usize, usize), u64>,
    /// Groups that served a batch born after the heal, and the metadata group.
    pub served: std::collections::BTreeSet<GroupId>,
}

impl Clients {
    pub fn new(dice: &mut Dice) -> Clients {
        let shapes = PARTITIONS.map(|group| (group, Shape::new(dice)));
        let mut producers = Vec::new();
        for group in PARTITIONS {
            for _ in 0..1 + dice.below(2) {
                producers.push(Producer::new(group, producers.len(), dice));
            }
        }
        // A life is as dear as it has batches: some are busy, none for nothing.
        let wanted = (BATCHES_A_SECOND.0 + dice.below(BATCHES_A_SECOND.1)) as f64;
        let offered: f64 = producers.iter().map(Producer::rate).sum();
        producers.iter_mut().for_each(|producer| producer.slow_down((offered / wanted).max(1.0)));
        Clients {
            producers,
            ops: Vec::new(),
            requests: Vec::new(),
            shapes: BTreeMap::from(shapes),
            leaders: BTreeMap::new(),
            free_ns: BTreeMap::new(),
            served: Default::default(),
        }
    }

    pub fn shape_of(&self, group: GroupId) -> Shape {
        let plain = Shape { min_insync: 1, retention_bytes: -1, segment_ms: 600_000_000 };
        self.shapes.get(&group).copied().unwrap_or(plain)
    }

    pub fn some_leader(&self, dice: &mut Dice) -> Option<usize> {
        let all: Vec<usize> = self.leaders.values().map(|(_, b)| *b).collect();
        (!all.is_empty()).then(|| all[dice.below(all.len() as u64) as usize])
    }

    /// A broker says that it serves: what Metadata would tell clients.
    pub fn hear(&mut self, b: usize, view: &ViewUpdate) {
        let known = self.leaders.get(&view.group).map_or(0, |(term, _)| *term);
        if let Some(term) = view.serving
            && term >= known
        {
            self.leaders.insert(view.group, (term, b));
        }
    }

    /// Mostly the leader that is known, now and then anybody.
    fn choose(&self, group: GroupId, anybody_of_8: u64, dice: &mut Dice) -> usize {
        let anybody = dice.below(BROKERS as u64) as usize;
        match self.leaders.get(&group) {
            Some((_, leader)) if dice.below(8) >= anybody_of_8 => *leader,
            _ => anybody,
        }
    }
}

impl World {
    /// Sends a request; an asker that hears nothing for `patience_ns` gives up.
    fn request(&mut self, asked: Asked, client: usize, broker: usize, patience_ns: u64) {
        let number = self.clients.requests.len();
        let request = Request { asked, broker, client, replied: false, closed: false, life: None };
        self.clients.requests.push(request);
        if let Asked::Produce { op } = asked {
            self.clients.ops[op].requests.push(number);
        }
        let delay_ns = self.between(60 * US, 1_500 * US);
        let free = self.clients.free_ns.entry((client, broker)).or_default();
        let at_ns = (self.now_ns + delay_ns).max(*free + 1);
        *free = at_ns;
        self.schedule_at(at_ns, What::Ask { request: number });
        self.schedule(patience_ns, What::GiveUp { request: number });
    }

    /// A request arrives at its broker.
    pub fn ask(&mut self, number: usize) {
        let request = &self.clients.requests[number];
        let (b, asked, client) = (request.broker, request.asked, request.client);
        let now = self.brokers[b].clock.read(self.now_ns);
        let Some(life) = self.with_process(b, |process| process.life) else {
            // Connection refused.
            return self.schedule(MS, What::Answered { request: number, answer: None });
        };
        self.clients.requests[number].life = Some(life);
        let reply = number as u64;
        let input = match asked {
            Asked::Produce { op } => {
                let op = &self.clients.ops[op];
                let request = ProduceInput {
                    // Bytes of their own: the shard stamps in place.
                    batch: Bytes::copy_from_slice(&op.batch),
                    charge: None,
                    acks: op.acks,
                    reply: Some(reply),
                    arrived_ns: 0,
                    deadline_ns: now.boot_ns + 1_500 * MS,
                };
                Input::Produce { group: op.group, request }
            }
            Asked::Guard { group, .. } => {
                let deadline_ns = now.boot_ns + 1_000 * MS;
                Input::Guard { group, deadline_ns, reply }
            }
            Asked::Ids => {
                let request = metadata::Request::AllocateProducerIds { broker: broker_id(b) };
                Input::Metadata { request, reply }
            }
        };
        self.note(Who::Client(client), "asks", &[("b", b as u64 + 1), ("request", reply)]);
        let lane_is_full = self
            .with_process(b, |process| {
                let full = process.client_lane.len() >= limits::SHARD_CLIENT_QUEUE_MAX;
                if !full {
                    process.client_lane.push_back(input);
                }
                full
            })
            .unwrap_or(true);
        assert!(!lane_is_full, "these clients ask less than a lane holds");
        self.call_turn(b);
    }

    /// An answer leaves a broker: what it promises must be true now.
    pub fn reply(&mut self, b: usize, number: usize, answer: Answer) {
        let request = &mut self.clients.requests[number];
        if std::mem::replace(&mut request.replied, true) {
            // A plant answered before.
            return;
        }
        let (asked, client) = (request.asked, request.client);
        let numbers = match &answer {
            Answer::Produced(done) => [("offset", done.base_offset as u64), ("index", done.index)],
            Answer::Guarded(done) => [("high", done.high_watermark as u64), ("refused", 0)],
            Answer::Metadata(_) => [("metadata", 1), ("refused", 0)],
            Answer::Group(_) => [("group", 1), ("refused", 0)],
            Answer::Admin(_) | Answer::Ends(_) | Answer::Done => [("admin", 1), ("refused", 0)],
            Answer::Refused(refusal) => {
                [("code", refusal.code.code() as u64), ("request", number as u64)]
            }
        };
        self.note(Who::Client(client), "answered", &numbers);
        self.check_answer(b, asked, &answer);
        let delay_ns = self.between(60 * US, 1_500 * US);
        self.schedule(delay_ns, What::Answered { request: number, answer: Some(answer) });
    }

    fn check_answer(&mut self, b: usize, asked: Asked, answer: &Answer) {
        match (asked, answer) {
            (Asked::Produce { op }, Answer::Produced(done)) => {
                let op_facts = &self.clients.ops[op];
                let copies = match op_facts.acks {
                    -1 => self.clients.shape_of(op_facts.group).min_insync.max(BROKERS / 2 + 1),
                    _ => 1,
                };
                if done.index == 0 {
                    self.reach(Reach::DedupeHit);
                }
                self.reach(Reach::Acked);
                let op_facts = &self.clients.ops[op];
                self.oracle.answered(self.now_ns, b, op as u64, op_facts, *done, copies);
            }
            (Asked::Guard { group, floor }, Answer::Guarded(done)) => {
                self.reach(Reach::ReadAnswered);
                let now = self.brokers[b].clock.read(self.now_ns);
                let leased = self.with_process(b, |process| {
                    let member = process.shard.member(group);
                    member.is_some_and(|member| member.group.lease_remaining_ms(now).is_some())
                });
                if leased == Some(false) {
                    self.reach(Reach::ReadWithoutLease);
                }
                self.oracle.read(self.now_ns, b, group, floor, done.high_watermark);
            }
            (Asked::Ids, Answer::Metadata(metadata::Response::ProducerIds { first, count })) => {
                self.reach(Reach::IdsAllocated);
                self.oracle.ids(self.now_ns, *first, *count);
            }
            _ => {}
        }
    }

    /// Plant: the leader has appended it, so its producer is told.
    pub fn answer_early(&mut self, b: usize, mail: &[(GroupId, u64, Bytes)]) {
        if !self.has(Plant::AckBeforeCommit) {
            return;
        }
        for (group, index, data) in mail {
            let Some(op) = self.clients.op_of(*group, data) else { continue };
            let waits = self.clients.requests.iter().rposition(|request| {
                let same = matches!(request.asked, Asked::Produce { op: asked } if asked == op);
                same && request.broker == b && !request.replied && request.life.is_some()
            });
            let Some(number) = waits else { continue };
            let offset = data[..8].try_into().expect("a batch starts with its offset");
            let produced = node::Produced {
                base_offset: i64::from_be_bytes(offset),
                append_time_ms: -1,
                log_start: 0,
                index: *index,
                term: 0,
                stages: Default::default(),
            };
            self.reply(b, number, Answer::Produced(produced));
        }
    }

    /// A broker's process is gone. `heard`: its connections close.
    pub fn drop_requests(&mut self, b: usize, heard: bool) {
        if !heard {
            return;
        }
        let open: Vec<usize> = self
            .clients
            .requests
            .iter()
            .enumerate()
            .rev()
            .take(2_000)
            .filter(|(_, request)| request.broker == b && !request.closed && !request.replied)
            .map(|(number, _)| number)
            .collect();
        for request in open.into_iter().rev() {
            self.schedule(MS, What::Answered { request, answer: None });
        }
    }

    /// The asker hears an answer, or that the connection is gone.
    pub fn answered(&mut self, number: usize, answer: Option<Answer>) {
        let request = &mut self.clients.requests[number];
        if std::mem::replace(&mut request.closed, true) {
            return;
        }
        match request.asked {
            Asked::Produce { op } => self.produced(op, answer),
            Asked::Guard { group, .. } => self.has_read(group, answer),
            Asked::Ids => {
                if self.healed_ns.is_some() && matches!(answer, Some(Answer::Metadata(_))) {
                    self.clients.served.insert(GroupId::METADATA);
                }
            }
        }
    }

    /// Patience ends: the outcome is unknown.
    pub fn give_up(&mut self, number: usize) {
        if self.clients.requests[number].closed {
            return;
        }
        self.reach(Reach::Unknown);
        self.answered(number, None);
    }
}
