//! Failure F4 in simulated time: three shards as they ship, nine partitions of three replicas,
//! 10,000 records of 1 KiB a second. Nobody is elected after formation, and heartbeats leave on
//! time, whatever the thread that applies to segments does.
//!
//! A world of its own, for nothing fails here: machines are only slow. The defects of the
//! ancestor (apply inside the raft loop, time-outs of 500 ms) are planted in this glue.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use consensus::eraftpb::MessageType;
use consensus::{Event as Raft, Timing};
use machine::BatchBuilder;
use machine::config::TopicConfig;
use model::{BrokerId, DirectoryId, GroupId, Now, ReplicaId, TopicId, limits};
use node::shard::{
    Event, GroupKind, GroupSpec, Input, Out, ProduceInput, RaftIn, RaftOut, ReplicaRef,
    SegmentWork, Shard, ShardConfig, WHEEL_SLOTS,
};
use storage::testing::Dice;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const BROKERS: usize = 3;
const GROUPS: u64 = 9;
/// Each partition gets a batch of so many records every so often: 10,000 records a second.
const BATCH_RECORDS: usize = 56;
const BATCH_EVERY_NS: u64 = 50 * MS;
const SLOT_NS: u64 = limits::TICK_MS * MS / WHEEL_SLOTS;

/// What makes a life differ.
#[derive(Clone, Copy, Default)]
struct Life {
    /// How long the segment thread takes for what it was given, milliseconds.
    apply_ms: (u64, u64),
    /// The whole thread of a shard stands still so long, every three seconds, milliseconds.
    stalls_ms: Option<(u64, u64)>,
    /// Planted: the loop that answers heartbeats waits for apply.
    applies_in_the_loop: bool,
    /// Planted: election time-outs of 500 ms.
    hasty: bool,
}

enum What {
    Slot(usize),
    Turn(usize),
    /// The turn is over: what it wants done happens.
    Effects(usize, Box<Out<u64>>),
    Input(usize, Box<Input<u64>>),
    Synced(usize),
    Applied(usize),
    Produce(u64),
}

struct Broker {
    shard: Shard<u64>,
    inbox: VecDeque<Input<u64>>,
    slot: u64,
    tick_due: bool,
    slot_due_ns: u64,
    in_turn: bool,
    stall_at_ns: u64,
    /// Written and not synced: (group, token); a sync is under way.
    unsynced: Vec<(GroupId, u64)>,
    syncing: Vec<(GroupId, u64)>,
    /// Last index per group the segment thread was given, and what it works on.
    unapplied: BTreeMap<GroupId, u64>,
    applying: BTreeMap<GroupId, u64>,
}

struct World {
    life: Life,
    now_ns: u64,
    dice: Dice,
    queue: BTreeMap<(u64, u64), What>,
    scheduled: u64,
    brokers: Vec<Broker>,
    bulk_free_ns: BTreeMap<(usize, usize), u64>,
    batch: Bytes,
    acked: u64,
    produced: u64,
    role_changes: u64,
    elections: BTreeMap<GroupId, u64>,
    term_max: u64,
    heartbeat_ns: BTreeMap<(usize, GroupId, usize), u64>,
    /// Between two heartbeats of one leader to one follower, nanoseconds.
    gaps: Vec<u64>,
}

fn timing(hasty: bool) -> Timing {
    match hasty {
        false => Timing::default(),
        true => Timing { election_ticks: 10, vote_promise_ms: 480, ..Timing::default() },
    }
}

fn replica(group: u64, b: usize) -> ReplicaRef {
    ReplicaRef {
        replica: ReplicaId(group * 10 + b as u64),
        broker: BrokerId(b as i32),
        directory: DirectoryId([b as u8 + 1; 16]),
    }
}

/// The preferred replicas are spread over the brokers.
fn spec(group: u64, b: usize) -> GroupSpec {
    let order = (0..BROKERS).map(|at| (at + group as usize) % BROKERS);
    let plain = TopicConfig::resolve(&BTreeMap::new(), &Default::default());
    GroupSpec {
        group: GroupId(group),
        kind: GroupKind::Partition,
        name: format!("t-{group}"),
        topic: TopicId([1; 16]),
        partition: group as i32,
        replica: replica(group, b).replica,
        replicas: order.map(|at| replica(group, at)).collect(),
        founders: Vec::new(),
        learners: Vec::new(),
        producers_before: 0,
        config: plain.expect("no overrides, nothing to refuse"),
    }
}

impl World {
    /// Three brokers that know each other; each hears of the partitions when it does.
    fn new(seed: u64, life: Life) -> World {
        let mut dice = Dice(seed);
        let broker = |b: usize, dice: &mut Dice| Broker {
            shard: Shard::new(ShardConfig {
                shard: 0,
                broker: BrokerId(b as i32),
                directory: replica(0, b).directory,
                seed: dice.roll(),
                timing: timing(life.hasty),
                replica_lag_ms_max: limits::REPLICA_LAG_MS_MAX,
                retention_check_ms: 1_000,
                retention_waits_ms: limits::RETENTION_WAITS_MS,
                groups: Default::default(),
                producer_expiration_ms: limits::PRODUCER_EXPIRATION_MS,
                leader_rebalance: false,
                leader_rebalance_ms: 0,
            }),
            inbox: VecDeque::new(),
            slot: 0,
            tick_due: false,
            slot_due_ns: 0,
            in_turn: false,
            stall_at_ns: SECOND * (10 + b as u64),
            unsynced: Vec::new(),
            syncing: Vec::new(),
            unapplied: BTreeMap::new(),
            applying: BTreeMap::new(),
        };
        let value = [7; 1024];
        let batch = (0..BATCH_RECORDS).fold(BatchBuilder::new(0), |batch, _| batch.value(&value));
        let mut world = World {
            life,
            now_ns: 10 * SECOND,
            brokers: (0..BROKERS).map(|b| broker(b, &mut dice)).collect(),
            dice,
            queue: BTreeMap::new(),
            scheduled: 0,
            bulk_free_ns: BTreeMap::new(),
            batch: batch.build(),
            acked: 0,
            produced: 0,
            role_changes: 0,
            elections: BTreeMap::new(),
            term_max: 0,
            heartbeat_ns: BTreeMap::new(),
            gaps: Vec::new(),
        };
        for b in 0..BROKERS {
            for peer in (0..BROKERS).filter(|peer| *peer != b) {
                let broker = BrokerId(peer as i32);
                world.after(0, What::Input(b, Box::new(Input::PeerConnected { broker })));
            }
            for group in 1..=GROUPS {
                let heard_ns = world.between(0, 100 * MS);
                let spec = Box::new(spec(group, b));
                world.after(heard_ns, What::Input(b, Box::new(Input::Create { spec })));
            }
            let phase_ns = world.between(0, 50 * MS);
            world.after(phase_ns, What::Slot(b));
        }
        world
    }

    fn after(&mut self, in_ns: u64, what: What) {
        self.scheduled += 1;
        self.queue.insert((self.now_ns + in_ns, self.scheduled), what);
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.dice.below(high - low + 1)
    }

    fn run(&mut self, seconds: u64) {
        let end_ns = self.now_ns + seconds * SECOND;
        while let Some((&(at_ns, _), _)) = self.queue.first_key_value()
            && at_ns <= end_ns
        {
            let ((at_ns, _), what) = self.queue.pop_first().expect("looked at");
            self.now_ns = at_ns;
            self.happen(what);
        }
        self.now_ns = end_ns;
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Slot(b) => {
                self.brokers[b].tick_due = true;
                self.brokers[b].slot_due_ns = self.now_ns;
                self.wake(b);
            }
            What::Turn(b) => self.turn(b),
            What::Effects(b, out) => {
                self.brokers[b].in_turn = false;
                self.effects(b, *out);
                let broker = &self.brokers[b];
                if broker.tick_due || !broker.inbox.is_empty() || broker.shard.is_dirty() {
                    self.wake(b);
                }
            }
            What::Input(b, input) => {
                self.brokers[b].inbox.push_back(*input);
                self.wake(b);
            }
            What::Synced(b) => {
                let done = std::mem::take(&mut self.brokers[b].syncing);
                let durable = Input::Durable { done, written_ns: self.now_ns };
                self.brokers[b].inbox.push_back(durable);
                self.sync(b);
                self.wake(b);
            }
            What::Applied(b) => {
                let done = std::mem::take(&mut self.brokers[b].applying);
                for (group, index) in done {
                    let readable = Input::Readable { group, index, start_index: 0, segments: None };
                    self.brokers[b].inbox.push_back(readable);
                }
                self.apply(b);
                self.wake(b);
            }
            What::Produce(group) => {
                self.produce(group);
                self.after(BATCH_EVERY_NS, What::Produce(group));
            }
        }
    }

    fn wake(&mut self, b: usize) {
        if !std::mem::replace(&mut self.brokers[b].in_turn, true) {
            let delay_ns = self.between(US, 40 * US);
            self.after(delay_ns, What::Turn(b));
        }
    }

    fn turn(&mut self, b: usize) {
        let now = Now { boot_ns: self.now_ns, wall_ms: (self.now_ns / MS) as i64 };
        let mut out = Out::default();
        let broker = &mut self.brokers[b];
        for _ in 0..limits::TURN_INPUTS_MAX {
            let Some(input) = broker.inbox.pop_front() else { break };
            broker.shard.step(now, input, &mut out);
        }
        let mut next_slot_ns = None;
        if std::mem::take(&mut broker.tick_due) {
            broker.slot += 1;
            broker.shard.step(now, Input::Tick { slot: broker.slot }, &mut out);
            // A late tick delays the next one, as in the driver.
            let next_ns = (broker.slot_due_ns + SLOT_NS).max(self.now_ns + SLOT_NS / 2);
            next_slot_ns = Some(next_ns - self.now_ns);
        }
        broker.shard.flush(now, now.boot_ns, &mut out);
        let mut took_ns = 20 * US;
        if let Some((low, high)) = self.life.stalls_ms
            && self.now_ns >= broker.stall_at_ns
        {
            broker.stall_at_ns = self.now_ns + 3 * SECOND;
            took_ns += self.between(low * MS, high * MS);
        }
        let applies = out.segments.iter().any(|work| matches!(work, SegmentWork::Append { .. }));
        if self.life.applies_in_the_loop && applies {
            let (low, high) = self.life.apply_ms;
            took_ns += self.between(low * MS, high * MS);
        }
        if let Some(in_ns) = next_slot_ns {
            self.after(in_ns, What::Slot(b));
        }
        took_ns += self.between(0, 100 * US);
        self.after(took_ns, What::Effects(b, Box::new(out)));
    }

    fn effects(&mut self, b: usize, out: Out<u64>) {
        for event in &out.events {
            self.note(event);
        }
        assert!(out.fetches.is_empty() || self.life.applies_in_the_loop, "nobody lags that far");
        for (group, asked) in out.fetches {
            let entries = Input::Entries { group, fetch: asked.fetch, entries: Err(()) };
            self.after(MS, What::Input(b, Box::new(entries)));
        }
        let writes = out.journal.iter().map(|write| (write.group, write.token));
        self.brokers[b].unsynced.extend(writes);
        self.sync(b);
        for message in out.peers {
            self.send(b, message);
        }
        self.acked += out
            .replies
            .iter()
            .filter(|(_, answer)| matches!(answer, node::Answer::Produced(_)))
            .count() as u64;
        for work in out.segments {
            if let SegmentWork::Append { group, entries } = work
                && let Some(last) = entries.last()
            {
                self.brokers[b].unapplied.insert(group, last.entry.index);
            }
        }
        self.apply(b);
    }

    fn sync(&mut self, b: usize) {
        let broker = &mut self.brokers[b];
        if broker.syncing.is_empty() && !broker.unsynced.is_empty() {
            broker.syncing = std::mem::take(&mut broker.unsynced);
            let took_ns = self.between(MS, 5 * MS);
            self.after(took_ns, What::Synced(b));
        }
    }

    fn apply(&mut self, b: usize) {
        let broker = &mut self.brokers[b];
        if broker.applying.is_empty() && !broker.unapplied.is_empty() {
            broker.applying = std::mem::take(&mut broker.unapplied);
            let (low, high) = match self.life.applies_in_the_loop {
                true => (0, 0),
                false => self.life.apply_ms,
            };
            let took_ns = self.between(low * MS, high * MS);
            self.after(took_ns, What::Applied(b));
        }
    }

    fn send(&mut self, b: usize, out: RaftOut) {
        let RaftOut { broker, group, from, to, message } = out;
        let target = broker.0 as usize;
        let kind = message.get_msg_type();
        if kind == MessageType::MsgHeartbeat {
            let last_ns = self.heartbeat_ns.insert((b, group, target), self.now_ns);
            self.gaps.extend(last_ns.map(|last_ns| self.now_ns - last_ns));
        }
        let mut in_ns = self.between(100 * US, 1_500 * US);
        if matches!(kind, MessageType::MsgAppend | MessageType::MsgSnapshot) {
            // The bulk lane keeps its order.
            let free_ns = self.bulk_free_ns.entry((b, target)).or_default();
            *free_ns = (*free_ns).max(self.now_ns + in_ns);
            in_ns = *free_ns - self.now_ns;
        }
        let items = vec![RaftIn { group, from, to, message }];
        let input = Input::Raft { from: BrokerId(b as i32), items };
        self.after(in_ns, What::Input(target, Box::new(input)));
    }

    fn produce(&mut self, group: u64) {
        let serves = |broker: &Broker| {
            broker.shard.member(GroupId(group)).is_some_and(|member| member.is_serving())
        };
        let Some(b) = self.brokers.iter().position(serves) else { return };
        self.produced += 1;
        let request = ProduceInput {
            batch: self.batch.clone(),
            charge: None,
            acks: -1,
            reply: Some(self.produced),
            arrived_ns: self.now_ns,
            deadline_ns: self.now_ns + 30 * SECOND,
        };
        let input = Input::Produce { group: GroupId(group), request };
        self.brokers[b].inbox.push_back(input);
        self.wake(b);
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Consensus { event: Raft::RoleChanged { term, .. }, .. } => {
                self.role_changes += 1;
                self.term_max = self.term_max.max(*term);
            }
            Event::Consensus { group, event: Raft::ElectionStarted { .. }, .. } => {
                *self.elections.entry(*group).or_default() += 1;
            }
            Event::Quarantined { group, why } => panic!("group {group}: {why}"),
            _ => {}
        }
    }

    fn formed(seed: u64, life: Life) -> World {
        let mut world = World::new(seed, life);
        world.run(2);
        world
    }

    /// So many seconds of load, of which everything but the first is counted.
    fn load(&mut self, seconds: u64) -> Steady {
        for group in 1..=GROUPS {
            let phase_ns = self.between(0, BATCH_EVERY_NS);
            self.after(phase_ns, What::Produce(group));
        }
        let elections: u64 = self.elections.values().sum();
        self.run(1);
        self.gaps.clear();
        self.run(seconds);
        self.gaps.sort_unstable();
        let elections = self.elections.values().sum::<u64>() - elections;
        Steady { elections, gaps: std::mem::take(&mut self.gaps), acked: self.acked }
    }
}

struct Steady {
    elections: u64,
    gaps: Vec<u64>,
    acked: u64,
}

impl Steady {
    /// The shortest and longest gap of 99 in 100, milliseconds.
    fn p99_ms(&self) -> (f64, f64) {
        let at = |part: usize| self.gaps[(self.gaps.len() - 1) * part / 200] as f64 / MS as f64;
        (at(1), at(199))
    }
}

/// As slow as the ancestor's state machine was, every time it is given something.
const SLOW_APPLY: Life =
    Life { apply_ms: (50, 1_000), stalls_ms: None, applies_in_the_loop: false, hasty: false };

#[test]
fn nine_partitions_of_three_form_with_one_election_each() {
    for seed in 1..=20 {
        let world = World::formed(seed, Life::default());
        let served = |group| {
            let member =
                |b: &Broker| b.shard.member(GroupId(group)).is_some_and(|m| m.is_serving());
            world.brokers.iter().any(member)
        };
        assert!((1..=GROUPS).all(served), "seed {seed}");
        assert!(world.elections.values().all(|count| *count == 1), "{:?}", world.elections);
        assert_eq!(world.elections.len() as u64, GROUPS);
        let (changes, term) = (world.role_changes, world.term_max);
        assert!(changes <= 27 && term <= 5, "seed {seed}: {changes} role changes, term {term}");
    }
}

#[test]
fn nobody_is_elected_under_load_and_heartbeats_leave_on_time_whatever_apply_does() {
    for seed in 1..=3 {
        let steady = World::formed(seed, SLOW_APPLY).load(30);
        assert_eq!(steady.elections, 0, "seed {seed}");
        let (short, long) = steady.p99_ms();
        assert!(short >= 140.0 && long <= 160.0, "seed {seed}: {short} to {long} ms");
        // Nine leaders, two followers each, one heartbeat in 150 ms.
        assert!(steady.gaps.len() >= 3_500, "seed {seed}: {} heartbeats", steady.gaps.len());
        assert!(steady.acked >= 5_500, "seed {seed}: {} batches in 31 s", steady.acked);
    }
}

#[test]
fn machines_that_stand_still_for_up_to_a_second_elect_nobody() {
    for seed in 1..=5 {
        let life = Life { stalls_ms: Some((50, 1_000)), ..SLOW_APPLY };
        let steady = World::formed(seed, life).load(60);
        assert_eq!(steady.elections, 0, "seed {seed}");
        assert!(steady.acked >= 10_900, "seed {seed}: {} batches in 61 s", steady.acked);
    }
}

/// Planted: what the ancestor did. Either half alone is seen too, in elections or in heartbeats.
#[test]
fn apply_in_the_raft_loop_delays_heartbeats_and_with_time_outs_of_500_ms_churns() {
    let planted = |hasty| {
        let life = Life { applies_in_the_loop: true, hasty, ..SLOW_APPLY };
        let steady = World::formed(1, life).load(60);
        (steady.elections, steady.p99_ms().1)
    };
    let (elections, late_ms) = planted(false);
    assert!(elections > 0 && late_ms > 1_000.0, "{elections} elections, {late_ms} ms");
    let (elections, _) = planted(true);
    assert!(elections >= 50, "{elections} elections in a minute");
}
