//! The network between brokers: links with two lanes, delays, loss and partitions.
//!
//! Invariants: MsgAppend and MsgSnapshot of a link arrive in the order they left; the control
//! lane may lose, delay and overtake; what was under way when a link ended never arrives;
//! `PeerDied` is said only after an established link closed and its process is found gone.

use consensus::eraftpb::{Message, MessageType};
use node::shard::{Input, RaftIn, RaftOut};

use crate::broker::broker_id;
use crate::plant::Plant;
use crate::report::Reach;
use crate::trace::Who;
use crate::world::{BROKERS, MS, US, What, World};

/// What a cut direction does to messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// They are gone.
    Drop,
    /// As TCP does it: they arrive when the cut heals, if the link still stands.
    HoldUp,
}

/// One direction between two brokers.
#[derive(Default)]
pub struct Way {
    pub cut: Option<Cut>,
    held_up: Vec<(u64, Box<RaftIn>)>,
    /// When the last message of the bulk lane arrives.
    bulk_free_ns: u64,
    /// Number of the newest control message that arrived.
    arrived: u64,
    sent: u64,
    /// Messages the present cut has stopped.
    pub stopped: u64,
}

/// One connection between two brokers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    up: bool,
    /// Counts connections.
    epoch: u64,
}

#[derive(Default)]
pub struct Net {
    pub ways: [[Way; BROKERS]; BROKERS],
    links: [[Link; BROKERS]; BROKERS],
    /// Of 1,000 control messages, this many are lost.
    pub loss_per_mille: u64,
    /// Of 1,000 control messages, this many arrive twice.
    pub twice_per_mille: u64,
    /// Longest usual delay, microseconds.
    pub delay_us_max: u64,
}

/// Both ends in ascending order.
pub fn pair_of(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn is_bulk(kind: MessageType) -> bool {
    matches!(kind, MessageType::MsgAppend | MessageType::MsgSnapshot)
}

impl World {
    fn link(&mut self, a: usize, b: usize) -> &mut Link {
        let (low, high) = pair_of(a, b);
        &mut self.net.links[low][high]
    }

    /// A connection stands, as far as its ends know.
    pub fn linked(&mut self, a: usize, b: usize) -> bool {
        self.link(a, b).up
    }

    /// A request of `a` reaches `b` now, and its answer comes back.
    pub fn reaches(&mut self, a: usize, b: usize) -> bool {
        self.linked(a, b) && !self.is_cut(a, b) && self.brokers[b].process.is_some()
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.net.ways[a][b].cut.is_some() || self.net.ways[b][a].cut.is_some()
    }

    /// Takes one message. `false`: there is no link, the sender should know.
    pub fn send(&mut self, from: usize, to: usize, message: RaftOut) -> bool {
        let RaftOut { group, from: sender, to: receiver, mut message, .. } = message;
        self.spoil(&mut message);
        let kind = message.get_msg_type();
        let link = *self.link(from, to);
        let numbers = [
            ("to", to as u64 + 1),
            ("group", group.0),
            ("kind", kind as u64),
            ("term", message.term),
            ("index", message.index),
            ("commit", message.commit),
            ("entries", message.entries.len() as u64),
            ("reject", u64::from(message.reject)),
        ];
        self.note(Who::Broker(from), if link.up { "send" } else { "no_link" }, &numbers);
        if !link.up {
            return false;
        }
        self.may_lose_vote(from, &message);
        let item = Box::new(RaftIn { group, from: sender, to: receiver, message });
        let bulk = is_bulk(kind);
        let lost = !bulk && self.dice.below(1_000) < self.net.loss_per_mille;
        let way = &mut self.net.ways[from][to];
        if let Some(cut) = way.cut {
            way.stopped += 1;
            if cut == Cut::HoldUp {
                way.held_up.push((link.epoch, item));
            } else {
                self.reach(Reach::MessageLost);
            }
            return true;
        }
        if lost {
            self.reach(Reach::MessageLost);
            return true;
        }
        if !bulk && self.dice.below(1_000) < self.net.twice_per_mille {
            self.reach(Reach::Duplicated);
            self.faults.fired += 1;
            let RaftIn { group, from: sender, to: receiver, message } = &*item;
            let (group, sender, receiver) = (*group, *sender, *receiver);
            let again = RaftIn { group, from: sender, to: receiver, message: message.clone() };
            self.carry(from, to, link.epoch, Box::new(again));
        }
        self.carry(from, to, link.epoch, item);
        true
    }

    /// What planted transports do to messages.
    fn spoil(&mut self, message: &mut Message) {
        if self.has(Plant::LossyMessages)
            && message.get_msg_type() == MessageType::MsgAppendResponse
        {
            (message.index, message.reject_hint) = (0, 0);
        }
        if self.has(Plant::FlippedInFlight)
            && self.dice.chance(500)
            && let Some(entry) = message.mut_entries().last_mut()
            && !entry.data.is_empty()
        {
            let mut data = entry.data.to_vec();
            let last = data.len() - 1;
            data[last] ^= 1;
            entry.data = data.into();
        }
    }

    fn carry(&mut self, from: usize, to: usize, epoch: u64, item: Box<RaftIn>) {
        let usual_us = 60 + self.dice.below(self.net.delay_us_max.max(1));
        let delay_ns = match self.dice.below(200) {
            0 => self.between(MS, 60 * MS),
            _ => usual_us * US,
        };
        let mut at_ns = self.now_ns + delay_ns;
        let bulk = is_bulk(item.message.get_msg_type());
        let way = &mut self.net.ways[from][to];
        if bulk {
            at_ns = at_ns.max(way.bulk_free_ns + 1);
            way.bulk_free_ns = at_ns;
        }
        way.sent += 1;
        let sent = if bulk { 0 } else { way.sent };
        self.schedule_at(at_ns, What::Deliver { from, to, epoch, sent, item });
    }

    pub fn deliver(&mut self, from: usize, to: usize, epoch: u64, sent: u64, item: RaftIn) {
        let link = *self.link(from, to);
        if !link.up || link.epoch != epoch || self.brokers[to].process.is_none() {
            return;
        }
        let way = &mut self.net.ways[from][to];
        if sent != 0 {
            let overtaken = sent < way.arrived;
            way.arrived = way.arrived.max(sent);
            if overtaken {
                self.reach(Reach::Overtaken);
            }
        }
        self.tell(to, Input::Raft { from: broker_id(from), items: vec![item] });
    }

    /// Two living brokers connect when nothing is between them.
    pub fn connect(&mut self, pair: (usize, usize)) {
        let (a, b) = pair;
        if self.link(a, b).up {
            return;
        }
        if self.brokers[a].process.is_none() || self.brokers[b].process.is_none() {
            // Whoever starts asks again.
            return;
        }
        if self.is_cut(a, b) {
            let wait_ns = self.between(100 * MS, 400 * MS);
            return self.schedule(wait_ns, What::Connect { pair });
        }
        self.net.ways[a][b].held_up.clear();
        self.net.ways[b][a].held_up.clear();
        let link = self.link(a, b);
        link.up = true;
        link.epoch += 1;
        let epoch = link.epoch;
        self.note(Who::World, "connect", &[("a", a as u64 + 1), ("b", b as u64 + 1), ("n", epoch)]);
        self.tell(a, Input::PeerConnected { broker: broker_id(b) });
        self.tell(b, Input::PeerConnected { broker: broker_id(a) });
    }

    /// A process starts: it dials the others.
    pub fn dial_all(&mut self, b: usize) {
        for other in (0..BROKERS).filter(|other| *other != b) {
            // A link nobody knew to be dead ends now.
            self.end_link(b, other);
            let wait_ns = self.between(2 * MS, 500 * MS);
            self.schedule(wait_ns, What::Connect { pair: pair_of(b, other) });
        }
    }

    fn end_link(&mut self, a: usize, b: usize) {
        let link = self.link(a, b);
        link.up = false;
        link.epoch += 1;
    }

    /// A process is gone. `heard`: its machine closes the connections and refuses new ones.
    pub fn hang_up(&mut self, b: usize, heard: bool) {
        for other in (0..BROKERS).filter(|other| *other != b) {
            if !self.link(b, other).up {
                continue;
            }
            let Some(life) = self.brokers[other].process.as_ref().map(|p| p.life) else {
                self.end_link(b, other);
                continue;
            };
            if heard && !self.is_cut(b, other) {
                self.end_link(b, other);
                let soon_ns = self.between(2 * MS, 60 * MS);
                self.schedule(soon_ns, What::Hear { b: other, life, of: b, died: true });
            } else {
                // Half open: messages go nowhere until a keepalive or a new connection tells.
                let link = self.link(b, other);
                link.epoch += 1;
                let epoch = link.epoch;
                let late_ns = self.between(5_000 * MS, 7_000 * MS);
                self.schedule(late_ns, What::KeepAlive { pair: pair_of(b, other), epoch });
            }
        }
    }

    /// The end of a link becomes known.
    pub fn hear(&mut self, b: usize, life: u32, of: usize, died: bool) {
        let connected_again = self.link(b, of).up;
        if !self.lives(b, life) || connected_again {
            return;
        }
        let broker = broker_id(of);
        // A process that is back already refuses nothing: no evidence, only a lost link.
        self.oracle.churn.disturbed();
        if died && self.brokers[of].process.is_none() {
            self.reach(Reach::DeathHeard);
            self.tell(b, Input::PeerDied { broker });
        } else {
            self.tell(b, Input::PeerDisconnected { broker });
        }
    }

    /// Nothing was heard for a keepalive's time.
    pub fn keep_alive(&mut self, pair: (usize, usize), epoch: u64) {
        let (a, b) = pair;
        let link = *self.link(a, b);
        let silent = self.is_cut(a, b)
            || self.brokers[a].process.is_none()
            || self.brokers[b].process.is_none();
        if !link.up || link.epoch != epoch || !silent {
            return;
        }
        self.end_link(a, b);
        self.tell(a, Input::PeerDisconnected { broker: broker_id(b) });
        self.tell(b, Input::PeerDisconnected { broker: broker_id(a) });
        let wait_ns = self.between(100 * MS, 400 * MS);
        self.schedule(wait_ns, What::Connect { pair });
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: usize, to: usize, how: Cut) {
        let way = &mut self.net.ways[from][to];
        way.cut = Some(how);
        way.stopped = 0;
        let link = *self.link(from, to);
        if link.up {
            let late_ns = self.between(5_000 * MS, 7_000 * MS);
            let epoch = link.epoch;
            self.schedule(late_ns, What::KeepAlive { pair: pair_of(from, to), epoch });
        }
    }

    /// Heals one direction; what was held up goes on, in order. Returns what was stopped.
    pub fn mend(&mut self, from: usize, to: usize) -> u64 {
        let link = *self.link(from, to);
        let way = &mut self.net.ways[from][to];
        way.cut = None;
        let stopped = std::mem::take(&mut way.stopped);
        for (epoch, item) in std::mem::take(&mut way.held_up) {
            if link.up && epoch == link.epoch {
                self.reach(Reach::MessageLate);
                self.carry(from, to, epoch, item);
            }
        }
        stopped
    }
}
