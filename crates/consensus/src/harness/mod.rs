//! A small world for tests: several replicas, a network that delays, drops and reorders, disks
//! that sync late and forget what was not synced, clocks that run at their own rates. One seed
//! decides everything; every run is checked against the promises while it runs:
//! one leader per term, one value per index, nothing committed that is not durable on a
//! majority, no lease on an old leader beside a newer one.
//!
//! The product's own simulator (crate `sim`) does this for whole brokers; this one is for scripts
//! a reader can follow.

mod node;
mod planted;
mod random;
mod scripts;
mod scripts_ancestor;
mod scripts_log;
mod scripts_members;
mod scripts_snapshot;
mod scripts_split;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use model::{Now, ReplicaId};
use raft::eraftpb::{Message, MessageType};

use crate::{Event, Group, GroupOut, Role};
pub(crate) use node::Node;
pub(crate) use planted::Planted;

const MS: u64 = 1_000_000;

#[derive(Debug)]
enum What {
    Tick {
        id: u64,
        life: u32,
    },
    Deliver {
        msg: Message,
    },
    Synced {
        id: u64,
        life: u32,
    },
    Fetched {
        id: u64,
        life: u32,
        fetch: crate::EntryFetch,
    },
    /// A snapshot's contents are there, or (`false`) the transfer failed.
    Transferred {
        id: u64,
        life: u32,
        msg: Message,
        whole: bool,
    },
    /// A leader's snapshot is made.
    Made {
        id: u64,
        life: u32,
    },
}

pub(crate) struct World {
    rng: u64,
    /// True time, ns; no replica sees it.
    pub now_ns: u64,
    sequence: u64,
    pub nodes: BTreeMap<u64, Node>,
    queue: BTreeMap<(u64, u64), What>,
    bulk_free_ns: BTreeMap<(u64, u64), u64>,
    /// Directed pairs that lose everything.
    pub cut: BTreeSet<(u64, u64)>,
    pub drop_per_mille: u64,
    pub net_ms: (u64, u64),
    pub disk_ms: (u64, u64),
    pub transfer_ms: (u64, u64),
    /// So many transfers fail in the middle; `reported`: the leader hears of it.
    pub transfers_fail: u64,
    pub reported: bool,
    pub transfers: u64,
    pub makes_snapshots: bool,
    /// What becomes of a message on its way.
    pub tamper: fn(&mut Message),
    pub log: Vec<String>,
    hash: u64,
    leaders: BTreeMap<u64, u64>,
    pub chosen: BTreeMap<u64, (u64, Bytes)>,
    pub violations: Vec<String>,
    pub founders: u64,
    /// The membership behind every index that changed it.
    in_force: BTreeMap<u64, crate::members::Members>,
    /// Changes of membership that were proposed.
    pub changes: usize,
    /// Heartbeats sent.
    pub heartbeats: usize,
}

impl World {
    /// Replicas 1..=n of a group that is formed now; nobody runs yet.
    pub fn new(n: u64, seed: u64) -> World {
        let voters: Vec<u64> = (1..=n).collect();
        let node = |id| (id, Node::new(id, voters.clone()));
        let birth = crate::members::Members { voters: voters.clone(), ..Default::default() };
        World {
            rng: seed,
            now_ns: 1_000 * MS,
            sequence: 0,
            nodes: (1..=n).map(node).collect(),
            queue: BTreeMap::new(),
            bulk_free_ns: BTreeMap::new(),
            cut: BTreeSet::new(),
            drop_per_mille: 0,
            net_ms: (1, 1),
            disk_ms: (1, 1),
            transfer_ms: (40, 40),
            transfers_fail: 0,
            reported: true,
            transfers: 0,
            makes_snapshots: true,
            tamper: |_| (),
            log: Vec::new(),
            hash: 0xcbf2_9ce4_8422_2325,
            leaders: BTreeMap::new(),
            chosen: BTreeMap::new(),
            violations: Vec::new(),
            founders: n,
            in_force: [(0, birth)].into(),
            changes: 0,
            heartbeats: 0,
        }
    }

    /// A formed group with replica 1 leading and nothing left to say.
    pub fn formed(n: u64, seed: u64) -> World {
        let mut world = World::new(n, seed);
        (1..=n).for_each(|id| world.start(id, true));
        world.run_ms(300);
        assert_eq!(world.leader(), Some(1), "{}", world.text());
        world.log.clear();
        world
    }

    pub fn random(&mut self, below: u64) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        crate::elections::mix(self.rng) % below.max(1)
    }

    fn between(&mut self, (low, high): (u64, u64)) -> u64 {
        let micros = low * 1000 + self.random((high - low) * 1000 + 1);
        micros * 1000
    }

    pub fn ms(&self) -> u64 {
        self.now_ns / MS - 1_000
    }

    fn schedule(&mut self, at_ns: u64, what: What) {
        self.sequence += 1;
        self.queue.insert((at_ns, self.sequence), what);
    }

    /// A new replica with an empty log, which knows how the group was born.
    pub fn join(&mut self, id: u64, born: u64) {
        self.nodes.insert(id, Node::new(id, (1..=born).collect()));
        self.start(id, false);
    }

    /// Proposes a change of membership on the leader. False: refused.
    pub fn change(&mut self, change: &crate::MembershipChange) -> bool {
        let Some(leader) = self.leader() else { return false };
        let mut done = false;
        self.turn(leader, |group, _, _| done = group.propose_change(change).is_ok());
        done
    }

    pub fn start(&mut self, id: u64, new_group: bool) {
        let now_ns = self.now_ns;
        let seed = self.random(u64::MAX);
        let node = self.nodes.get_mut(&id).unwrap();
        node.start(seed, new_group, now_ns);
        let life = node.life;
        self.say(id, if new_group { "formed" } else { "started" });
        self.schedule(now_ns + 50 * MS, What::Tick { id, life });
        self.turn(id, |_, _, _| ());
    }

    /// Loses power: of the writes that are not synced the first `keep` survive.
    pub fn crash(&mut self, id: u64, keep: usize) {
        self.nodes.get_mut(&id).unwrap().crash(keep);
        self.say(id, "crashed");
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run_until_ns(self.now_ns + ms * MS);
    }

    fn run_until_ns(&mut self, end_ns: u64) {
        while let Some((&(at_ns, _), _)) = self.queue.first_key_value()
            && at_ns <= end_ns
        {
            let ((at_ns, _), what) = self.queue.pop_first().unwrap();
            self.now_ns = at_ns;
            self.happen(what);
            self.check();
        }
        self.now_ns = end_ns;
        self.check();
    }

    /// Runs until `done`, at most `ms`. Returns how long it took.
    pub fn run_until(&mut self, ms: u64, mut done: impl FnMut(&World) -> bool) -> Option<u64> {
        let begin = self.ms();
        while self.ms() < begin + ms {
            if done(self) {
                return Some(self.ms() - begin);
            }
            self.run_ms(1);
        }
        None
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Tick { id, life } => {
                if let Some(until) = self.nodes[&id].paused_until(life, self.now_ns) {
                    return self.schedule(until, What::Tick { id, life });
                }
                if self.nodes[&id].lives(life) {
                    let beat = self.nodes.get_mut(&id).unwrap().next_beat();
                    self.turn(id, |group, now, _| _ = group.tick(now, beat));
                    let step = self.nodes[&id].tick_ns();
                    self.schedule(self.now_ns + step, What::Tick { id, life });
                }
            }
            What::Deliver { msg } => {
                let life = self.nodes[&msg.to].life;
                if let Some(until) = self.nodes[&msg.to].paused_until(life, self.now_ns) {
                    return self.schedule(until, What::Deliver { msg });
                }
                let from = ReplicaId(msg.from);
                if msg.get_msg_type() == MessageType::MsgSnapshot {
                    return self.snapshot_arrives(life, msg);
                }
                self.turn(msg.to, |group, now, _| group.receive(now, from, msg));
            }
            What::Synced { id, life } => {
                if let Some(until) = self.nodes[&id].paused_until(life, self.now_ns) {
                    return self.schedule(until, What::Synced { id, life });
                }
                if self.nodes[&id].lives(life) {
                    let ready = self.nodes.get_mut(&id).unwrap().sync_one();
                    self.turn(id, |group, now, out| group.persisted(now, ready, out));
                }
            }
            What::Transferred { id, life, msg, whole } => {
                if self.nodes[&id].lives(life) {
                    self.transferred(id, msg, whole);
                }
            }
            What::Made { id, life } => {
                if self.nodes[&id].lives(life) {
                    let offer = self.nodes[&id].snapshot();
                    self.turn(id, |group, _, _| group.offer_snapshot(offer));
                }
            }
            What::Fetched { id, life, fetch } => {
                if self.nodes[&id].lives(life) {
                    let entries = self.nodes[&id].read_segments(fetch);
                    self.turn(id, |group, _, _| group.entries_fetched(fetch.fetch, entries));
                }
            }
        }
    }

    /// One turn of a replica's shard: an input, then Readys until there is none.
    pub fn turn(&mut self, id: u64, input: impl FnOnce(&mut Group, Now, &mut GroupOut)) {
        let now_ns = self.now_ns;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let now = node.clock(now_ns);
        let Some(group) = node.group.as_mut() else { return };
        let mut out = GroupOut::default();
        input(group, now, &mut out);
        while !group.is_broken() {
            group.flush(now, now.boot_ns, &mut out);
            let delivered = group.delivered_index();
            group.applied(delivered);
            if !group.has_ready() {
                break;
            }
        }
        group.flush(now, now.boot_ns, &mut out);
        self.effects(id, out);
    }

    fn effects(&mut self, id: u64, out: GroupOut) {
        let life = self.nodes[&id].life;
        for event in &out.events {
            self.note(id, event);
        }
        let changed = out.events.iter().rev().find_map(|event| match event {
            Event::MembershipChanged { index, .. } => Some(*index),
            _ => None,
        });
        if let Some(index) = changed {
            self.note_change(id, index);
        }
        for write in out.writes {
            let delay = self.between(self.disk_ms);
            let node = self.nodes.get_mut(&id).unwrap();
            let at_ns = (self.now_ns + delay).max(node.disk_free_ns);
            node.disk_free_ns = at_ns;
            node.unsynced.push_back(write);
            self.schedule(at_ns, What::Synced { id, life });
        }
        for msg in out.messages {
            self.send(msg);
        }
        if out.snapshot_wanted && self.makes_snapshots {
            self.schedule(self.now_ns + 3 * MS, What::Made { id, life });
        }
        for entry in out.committed {
            self.deliver(id, entry);
        }
        for fetch in out.fetches {
            self.schedule(self.now_ns + 2 * MS, What::Fetched { id, life, fetch });
        }
        let node = self.nodes.get_mut(&id).unwrap();
        node.note_membership();
        node.reads.extend(out.reads);
        if node.releases_log
            && let Some(group) = node.group.as_mut()
        {
            group.release_log(group.applied_index());
        }
    }

    fn send(&mut self, mut msg: Message) {
        (self.tamper)(&mut msg);
        let bytes = protobuf::Message::write_to_bytes(&msg).unwrap();
        self.mix_in(&bytes);
        self.heartbeats += usize::from(msg.get_msg_type() == MessageType::MsgHeartbeat);
        let pair = (msg.from, msg.to);
        let lost = self.random(1000) < self.drop_per_mille;
        if lost || self.cut.contains(&pair) || !self.nodes.contains_key(&msg.to) {
            return;
        }
        let mut at_ns = self.now_ns + self.between(self.net_ms);
        if msg.get_msg_type() == MessageType::MsgAppend {
            // The bulk lane keeps its order; the control lane may overtake it and itself.
            let free = self.bulk_free_ns.entry(pair).or_default();
            at_ns = at_ns.max(*free);
            *free = at_ns;
        }
        self.schedule(at_ns, What::Deliver { msg });
    }

    fn snapshot_arrives(&mut self, life: u32, msg: Message) {
        let (id, from) = (msg.to, ReplicaId(msg.from));
        let Some(group) = self.nodes[&id].group.as_ref() else { return };
        match group.judge_snapshot(from, &msg) {
            crate::SnapshotVerdict::Fetch => {
                let delay = self.between(self.transfer_ms);
                let whole = self.transfers_fail == 0;
                self.transfers_fail = self.transfers_fail.saturating_sub(1);
                self.transfers += 1;
                self.schedule(self.now_ns + delay, What::Transferred { id, life, msg, whole });
            }
            crate::SnapshotVerdict::Step => {
                self.turn(id, |group, now, _| group.step_snapshot(now, from, msg));
            }
            crate::SnapshotVerdict::Refuse(why) => {
                self.violations.push(format!("n{id} refused a snapshot: {}", why.as_str()));
            }
        }
    }

    fn transferred(&mut self, id: u64, msg: Message, whole: bool) {
        let (from, to) = (ReplicaId(msg.from), ReplicaId(id));
        if !whole {
            if self.reported {
                self.turn(from.0, |group, now, _| group.snapshot_failed(now, to));
            }
            return;
        }
        let metadata = msg.get_snapshot().get_metadata().clone();
        // The machine of any replica that applied so much: all are alike.
        let has = |node: &&Node| node.applied.len() as u64 >= metadata.index;
        // Nobody has it any more: their crashes took it back.
        let Some(source) = self.nodes.values().find(has) else { return };
        let machine = source.applied[..metadata.index as usize].to_vec();
        let start_index = msg.get_snapshot().data.as_ref().try_into().expect("8 bytes");
        let log = crate::SnapshotLog {
            start_index: u64::from_le_bytes(start_index),
            terms: machine.iter().map(|entry| (entry.index, entry.term)).collect(),
        };
        self.nodes.get_mut(&id).unwrap().arrived.insert(metadata.index, machine);
        self.turn(id, |group, now, _| {
            group.install_snapshot(now, from, msg, log);
        });
    }

    fn deliver(&mut self, id: u64, entry: model::LogEntry) {
        let value = (entry.term, entry.data.clone());
        match self.chosen.get(&entry.index) {
            Some(chosen) if *chosen != value => {
                self.violations.push(format!("two values at index {} on n{id}", entry.index));
            }
            Some(_) => {}
            None => {
                if !self.decided(&entry) {
                    self.violations.push(format!("index {} not on enough disks", entry.index));
                }
                self.chosen.insert(entry.index, value);
            }
        }
        self.nodes.get_mut(&id).unwrap().apply(entry);
    }

    /// A majority that could decide at this index holds the entry durably: of the membership in
    /// force behind the index, or of the one before, for the leader that committed it may not
    /// have applied the latest change. Never older: two changes are never pending at once.
    fn decided(&self, entry: &model::LogEntry) -> bool {
        let durable = |id: &&u64| self.nodes.get(id).is_some_and(|n| n.holds(entry));
        let most = |ids: &[u64]| ids.iter().filter(durable).count() * 2 > ids.len();
        let mut electorates = self.in_force.range(..entry.index).rev().take(2);
        electorates.any(|(_, members)| {
            most(&members.voters) && (members.outgoing.is_empty() || most(&members.outgoing))
        })
    }

    /// Changes are in force from the index that says so, the same on every replica. The leader
    /// applies each before it proposes another, so the first to tell knows only this one.
    fn note_change(&mut self, id: u64, index: u64) {
        let members = self.group(id).members.clone();
        let first = self.in_force.entry(index).or_insert_with(|| members.clone());
        if *first != members {
            self.violations.push(format!("two memberships behind index {index} on n{id}"));
        }
    }

    fn check(&mut self) {
        let now_ns = self.now_ns;
        let up: Vec<_> = self.nodes.values().filter_map(|n| Some((n, n.group.as_ref()?))).collect();
        let leads: Vec<_> = up.iter().filter(|(_, group)| group.role() == Role::Leader).collect();
        for (node, group) in &leads {
            let first = *self.leaders.entry(group.term()).or_insert(node.id);
            if first != node.id {
                self.violations.push(format!("two leaders in term {}", group.term()));
            }
            let newer = leads.iter().any(|(_, other)| other.term() > group.term());
            if newer && group.lease_remaining_ms(node.clock(now_ns)).is_some() {
                self.violations.push(format!("n{} holds a lease beside a newer leader", node.id));
            }
        }
    }

    /// The leader of the highest term that is up.
    pub fn leader(&self) -> Option<u64> {
        let groups = self.nodes.values().filter_map(|n| Some((n.id, n.group.as_ref()?)));
        let leaders = groups.filter(|(_, group)| group.role() == Role::Leader);
        leaders.max_by_key(|(_, group)| group.term()).map(|(id, _)| id)
    }

    pub fn group(&self, id: u64) -> &Group {
        self.nodes[&id].group.as_ref().unwrap()
    }

    pub fn now(&self, id: u64) -> Now {
        self.nodes[&id].clock(self.now_ns)
    }

    /// Proposes on `id`; the index, if it leads.
    pub fn propose(&mut self, id: u64, text: &str) -> Option<u64> {
        self.propose_in(id, Bytes::new(), text)
    }

    /// The same with an entry's context.
    pub fn propose_in(&mut self, id: u64, context: Bytes, text: &str) -> Option<u64> {
        let mut index = None;
        let data = Bytes::copy_from_slice(text.as_bytes());
        self.turn(id, |group, _, _| index = group.propose(vec![(context, data)]).ok());
        index
    }

    pub fn isolate(&mut self, id: u64) {
        let others: Vec<u64> = self.nodes.keys().copied().filter(|other| *other != id).collect();
        self.cut.extend(others.iter().flat_map(|other| [(id, *other), (*other, id)]));
    }

    fn mix_in(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&self.now_ns.to_le_bytes()) {
            self.hash = (self.hash ^ *byte as u64).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    fn note(&mut self, id: u64, event: &Event) {
        let text = describe(event);
        self.mix_in(text.as_bytes());
        self.say(id, &text);
    }

    fn say(&mut self, id: u64, text: &str) {
        self.log.push(format!("{:>5} n{id} {text}", self.ms()));
    }

    pub fn text(&self) -> String {
        self.log.join("\n")
    }

    /// The log so far must be exactly `expected` (indentation aside), and no promise broken.
    pub fn expect(&mut self, expected: &str) {
        let trim = |text: &str| text.lines().map(|l| l.trim().to_string()).collect::<Vec<_>>();
        let lines: Vec<_> = trim(expected).into_iter().filter(|line| !line.is_empty()).collect();
        let found = trim(&self.text());
        assert_eq!(found, lines, "\n--- found:\n{}\n", self.text());
        self.expect_sound();
        self.log.clear();
    }

    pub fn expect_sound(&self) {
        assert!(self.violations.is_empty(), "{:?}\n{}", self.violations, self.text());
    }
}

fn describe(event: &Event) -> String {
    let name = |id: &Option<ReplicaId>| id.map_or("nobody".to_string(), |id| format!("n{id}"));
    match event {
        Event::RoleChanged { from, to, term, reason, .. } => {
            let (from, to, why) = (from.as_str(), to.as_str(), reason.as_str());
            format!("{from} -> {to} in term {term}: {why}")
        }
        Event::LeaderChanged { term, leader, reason } => {
            format!("follows {} in term {term}: {}", name(leader), reason.as_str())
        }
        Event::ElectionStarted { term, reason, .. } => {
            format!("begins an election in term {term}: {}", reason.as_str())
        }
        Event::ElectionEnded { outcome, rounds, ballots, .. } => {
            let answers: Vec<String> =
                ballots.iter().map(|b| format!("n{} {}", b.voter, b.answer.as_str())).collect();
            let (how, answers) = (outcome.as_str(), answers.join(", "));
            format!("election {how} after {rounds} rounds: {answers}")
        }
        Event::MessageRefused { from, kind, why } => {
            format!("refused {kind} of n{from}: {}", why.as_str())
        }
        Event::LogTruncated { from, removed, term } => {
            format!("replaced {removed} entries from {from} by term {term}")
        }
        Event::Suspected { why, commit, last_index } => {
            format!("suspect: {}, commit {commit}, last index {last_index}", why.as_str())
        }
        Event::SnapshotNeeded { peer, first_index } => {
            format!("n{peer} needs a snapshot: it is behind {first_index}")
        }
        Event::SnapshotSent { peer, index } => format!("sends n{peer} a snapshot of {index}"),
        Event::SnapshotEnded { peer, outcome } => {
            format!("snapshot for n{peer}: {}", outcome.as_str())
        }
        Event::SnapshotRestored { index, term } => {
            format!("restored from a snapshot of {index} in term {term}")
        }
        Event::SnapshotIgnored { index } => format!("ignored a snapshot of {index}"),
        Event::LeaseAcquired { term } => format!("lease acquired in term {term}"),
        Event::LeaseExpired { term } => format!("lease expired in term {term}"),
        Event::InvariantViolated { invariant } => format!("BROKEN {}", invariant.as_str()),
        Event::FollowerDisagrees { peer, what, index, matched } => {
            format!("says n{peer} {}: it ends at {index}, acknowledged {matched}", what.as_str())
        }
        other => format!("{other:?}"),
    }
}
