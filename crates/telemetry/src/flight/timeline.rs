//! Rings of one or several brokers, one timeline: every record gets a wall time, brokers whose
//! clocks disagree are shifted by what their messages show, and causes come before effects.
//!
//! How: a message is known on both sides by its group, ends, type, term and position; one that was
//! sent once and received once cannot be mistaken. If B's clock is shifted by *s*, no message from
//! A may arrive before it left (s is at least so much), and none from B either (s is at most so
//! much). Clocks that need no shift get none, others the middle. What then still contradicts (a
//! clock that drifts) is ordered by the messages alone.
//!
//! Invariants: records of one loop never change their order; no message is shown received before
//! it was sent, if both are there; no input panics, whatever times it claims.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};

use crate::flight::kinds::{Field, Kind, Unit, WORDS};
use crate::flight::read::{Record, RingFile};

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    Signed(i64),
    Flag(bool),
    Name(&'static str),
    Text(String),
}

/// One thing that happened, and when.
#[derive(Clone, Debug)]
pub struct Event {
    /// Position in [`Timeline::rings`].
    pub ring: usize,
    pub record: Record,
    /// Microseconds since the Unix epoch, as the reference broker's clock would have it.
    pub wall_us: i64,
    /// The whole text, where it took several records.
    text: Option<String>,
}

/// A loop of one life of a broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingName {
    pub broker: i32,
    pub life: u64,
    pub pid: u32,
    pub name: String,
    pub index: u16,
}

/// What was made of one broker's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerClock {
    pub broker: i32,
    pub lives: usize,
    pub records: usize,
    pub torn: usize,
    pub unknown: usize,
    /// Added to its wall clock, microseconds.
    pub shift_us: i64,
    /// Messages the shift was judged by: from, and to, brokers with a smaller id or a known shift.
    pub messages: usize,
    /// The furthest its wall clock was seen to step within a life, microseconds.
    pub stepped_us: i64,
    /// Messages that still seemed to arrive before they left, shown at the time they were sent.
    pub contradicted: usize,
}

/// Everything, in order.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    pub brokers: Vec<BrokerClock>,
    pub rings: Vec<RingName>,
    pub events: Vec<Event>,
}

impl Event {
    /// Its fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'static Field, Value)> + '_ {
        let fields = self.record.kind.fields().iter();
        // A text's parts are joined.
        let fields = fields.filter(|field| self.text.is_none() || field.name != "part");
        fields.map(|field| (field, self.value(field)))
    }

    fn value(&self, field: &Field) -> Value {
        if let (Unit::Text, Some(text)) = (field.unit, &self.text) {
            return Value::Text(text.clone());
        }
        value(&self.record.own, field)
    }
}

fn value(own: &[u64; WORDS], field: &Field) -> Value {
    let raw = raw(own, field);
    match field.unit {
        Unit::Broker | Unit::Correlation => Value::Signed(i64::from(raw as u32 as i32)),
        Unit::Flag => Value::Flag(raw != 0),
        Unit::Name(name) => {
            usize::try_from(raw).ok().and_then(name).map_or(Value::Number(raw), Value::Name)
        }
        Unit::Text => Value::Text(text(own)),
        _ => Value::Number(raw),
    }
}

fn raw(own: &[u64; WORDS], field: &Field) -> u64 {
    let word = own.get(field.at / 8).copied().unwrap_or(0) >> (field.at % 8 * 8);
    if field.width >= 8 { word } else { word & ((1 << (field.width * 8)) - 1) }
}

fn text(own: &[u64; WORDS]) -> String {
    let bytes: Vec<u8> = own[..4].iter().flat_map(|word| word.to_le_bytes()).collect();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A raft message as both sides know it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Message {
    from: i32,
    to: i32,
    /// All fields but the peer.
    own: [u64; WORDS],
}

/// `(is it the sending side, the message)`.
fn message(broker: i32, record: &Record) -> Option<(bool, Message)> {
    let sent = match record.kind {
        Kind::MessageSent => true,
        Kind::MessageReceived => false,
        _ => return None,
    };
    let field = record.kind.fields().iter().find(|field| field.name == "peer")?;
    let peer = raw(&record.own, field) as u32 as i32;
    let mut own = record.own;
    own[field.at / 8] &= !(0xffff_ffff << (field.at % 8 * 8));
    let (from, to) = if sent { (broker, peer) } else { (peer, broker) };
    Some((sent, Message { from, to, own }))
}

/// One record on its way into the timeline.
struct Placed {
    ring: usize,
    record: Record,
    wall_ns: i128,
    text: Option<String>,
    /// The sending of what this receives.
    cause: Option<usize>,
}

impl Timeline {
    /// Merges rings; the same record from two files (a ring and a dump) is there once.
    pub fn of(files: Vec<RingFile>) -> Timeline {
        let mut brokers: BTreeMap<i32, BrokerClock> = BTreeMap::new();
        let mut by_ring: BTreeMap<RingName, BTreeMap<u64, Record>> = BTreeMap::new();
        let mut clocks: BTreeMap<(i32, u64), LifeClock> = BTreeMap::new();
        for file in files {
            let header = file.header;
            let broker = brokers.entry(header.broker).or_default();
            broker.torn += file.torn;
            broker.unknown += file.unknown;
            let clock = clocks.entry((header.broker, header.life)).or_default();
            clock.add(header.mono_ns, header.boot_ns, header.wall_us);
            for record in file.records.iter().filter(|record| record.kind == Kind::Clock) {
                clock.add(record.mono_ns, record.own[1], record.own[0]);
            }
            let RingFile { records, .. } = file;
            let name = RingName {
                broker: header.broker,
                life: header.life,
                pid: header.pid,
                name: header.name,
                index: header.index,
            };
            let ring = by_ring.entry(name).or_default();
            ring.extend(records.into_iter().map(|record| (record.number, record)));
        }
        for ((broker, _), clock) in &mut clocks {
            clock.settle();
            let known = brokers.entry(*broker).or_default();
            known.lives += 1;
            known.stepped_us = known.stepped_us.max(clock.stepped_us());
        }
        let mut rings = Vec::new();
        let mut placed = Vec::new();
        for (name, records) in by_ring {
            let clock = &clocks[&(name.broker, name.life)];
            brokers.entry(name.broker).or_default().records += records.len();
            place(rings.len(), records.into_values(), clock, &mut placed);
            rings.push(name);
        }
        let pairs = pair(&rings, &mut placed);
        for (id, broker) in &mut brokers {
            broker.broker = *id;
        }
        shift(&rings, &mut placed, &pairs, &mut brokers);
        let events = merge(&rings, placed, &mut brokers);
        Timeline { brokers: brokers.into_values().collect(), rings, events }
    }
}

/// Gives the records of one ring their times; a text of several records becomes one.
fn place(
    ring: usize,
    records: impl Iterator<Item = Record>,
    clock: &LifeClock,
    placed: &mut Vec<Placed>,
) {
    let part_of = |record: &Record| (record.own[4] & 0xff) as usize;
    // A clock that was read by another processor may be behind by a little.
    let mut latest_ns = i128::MIN;
    for record in records {
        let is_text = record.kind == Kind::Panic;
        if is_text
            && part_of(&record) > 0
            && let Some(Placed { ring: same, text: Some(whole), record: first, .. }) =
                placed.last_mut()
            && (*same, first.kind) == (ring, Kind::Panic)
        {
            whole.push_str(&text(&record.own));
            continue;
        }
        latest_ns = latest_ns.max(clock.wall_ns(record.mono_ns));
        let text = is_text.then(|| text(&record.own));
        placed.push(Placed { ring, record, wall_ns: latest_ns, text, cause: None });
    }
}

/// How one life's own clock goes with boot time and wall time.
#[derive(Default)]
struct LifeClock {
    /// (mono, boot, wall), nanoseconds.
    points: Vec<(i128, i128, i128)>,
}

impl LifeClock {
    fn add(&mut self, mono_ns: u64, boot_ns: u64, wall_us: u64) {
        let point = (i128::from(mono_ns), i128::from(boot_ns), i128::from(wall_us) * 1_000);
        self.points.push(point);
    }

    fn settle(&mut self) {
        self.points.sort_unstable();
        self.points.dedup_by_key(|point| point.0);
    }

    /// Boot time between two readings, or beyond the last; then the newest wall time.
    fn wall_ns(&self, mono_ns: u64) -> i128 {
        let mono = i128::from(mono_ns);
        let Some((_, last_boot, last_wall)) = self.points.last() else { return 0 };
        let after = self.points.partition_point(|point| point.0 <= mono);
        let boot = match (after.checked_sub(1).map(|at| self.points[at]), self.points.get(after)) {
            (Some((m0, b0, _)), Some((m1, b1, _))) => {
                b0 + (mono - m0).saturating_mul(b1 - b0) / (m1 - m0)
            }
            (Some((m, b, _)), None) | (None, Some(&(m, b, _))) => b + (mono - m),
            (None, None) => 0,
        };
        boot + (last_wall - last_boot)
    }

    fn stepped_us(&self) -> i64 {
        let offsets = || self.points.iter().map(|(_, boot, wall)| (wall - boot) / 1_000);
        let (Some(low), Some(high)) = (offsets().min(), offsets().max()) else { return 0 };
        i64::try_from(high - low).unwrap_or(i64::MAX)
    }
}

/// Sendings and their receivings, by position.
fn pair(rings: &[RingName], placed: &mut [Placed]) -> Vec<(usize, usize)> {
    let mut known: HashMap<Message, (Vec<usize>, Vec<usize>)> = HashMap::new();
    for (at, one) in placed.iter().enumerate() {
        if let Some((sent, message)) = message(rings[one.ring].broker, &one.record) {
            let sides = known.entry(message).or_default();
            if sent { sides.0.push(at) } else { sides.1.push(at) }
        }
    }
    let mut pairs: Vec<(usize, usize)> = known
        .into_values()
        .filter_map(|(sent, received)| match (&sent[..], &received[..]) {
            ([sent], [received]) => Some((*sent, *received)),
            _ => None,
        })
        .collect();
    pairs.sort_unstable();
    for (sent, received) in &pairs {
        placed[*received].cause = Some(*sent);
    }
    pairs
}

/// What the second broker's clock may be shifted by against the first's, nanoseconds.
#[derive(Clone, Copy, Default)]
struct Bounds {
    least: Option<i128>,
    most: Option<i128>,
    messages: usize,
}

impl Bounds {
    fn choose(&self) -> i128 {
        let fits = self.least.is_none_or(|least| least <= 0) && self.most.is_none_or(|m| m >= 0);
        match (self.least, self.most) {
            _ if fits => 0,
            (Some(least), Some(most)) => (least + most) / 2,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => 0,
        }
    }
}

/// Shifts brokers to one another, from the one with the smallest id on.
fn shift(
    rings: &[RingName],
    placed: &mut [Placed],
    pairs: &[(usize, usize)],
    brokers: &mut BTreeMap<i32, BrokerClock>,
) {
    let mut bounds: BTreeMap<(i32, i32), Bounds> = BTreeMap::new();
    for (sent, received) in pairs {
        let (from, to) = (&placed[*sent], &placed[*received]);
        let (a, b) = (rings[from.ring].broker, rings[to.ring].broker);
        // At least this much later the receiver's clock must be ...
        let late = from.wall_ns - to.wall_ns;
        let one = bounds.entry((a, b)).or_default();
        one.least = Some(one.least.map_or(late, |least| least.max(late)));
        one.messages += 1;
        // ... or this much earlier the sender's.
        let other = bounds.entry((b, a)).or_default();
        other.most = Some(other.most.map_or(-late, |most| most.min(-late)));
        other.messages += 1;
    }
    let mut shifts: BTreeMap<i32, i128> = BTreeMap::new();
    let ids: Vec<i32> = brokers.keys().copied().collect();
    for first in ids {
        if shifts.contains_key(&first) {
            continue;
        }
        shifts.insert(first, 0);
        let mut next = VecDeque::from([first]);
        while let Some(a) = next.pop_front() {
            for ((_, b), found) in bounds.range((a, i32::MIN)..=(a, i32::MAX)) {
                if !shifts.contains_key(b) {
                    shifts.insert(*b, shifts[&a] + found.choose());
                    brokers.entry(*b).or_default().messages = found.messages;
                    next.push_back(*b);
                }
            }
        }
    }
    for one in placed {
        one.wall_ns += shifts.get(&rings[one.ring].broker).copied().unwrap_or(0);
    }
    for (id, broker) in brokers {
        let shift = shifts.get(id).copied().unwrap_or(0) / 1_000;
        broker.shift_us = i64::try_from(shift).unwrap_or(i64::MAX);
    }
}

/// By time, but each ring in its own order and no receiving before its sending.
fn merge(
    rings: &[RingName],
    placed: Vec<Placed>,
    brokers: &mut BTreeMap<i32, BrokerClock>,
) -> Vec<Event> {
    // Rings stand one behind the other in `placed`.
    let mut ends = vec![0; rings.len()];
    let mut heads = vec![usize::MAX; rings.len()];
    for (at, one) in placed.iter().enumerate() {
        heads[one.ring] = heads[one.ring].min(at);
        ends[one.ring] = at + 1;
    }
    let mut ready: BinaryHeap<Reverse<(i128, usize)>> = BinaryHeap::new();
    let began = |heads: &[usize], ring: usize| (heads[ring] < ends[ring]).then(|| heads[ring]);
    for ring in 0..rings.len() {
        ready.extend(began(&heads, ring).map(|at| Reverse((placed[at].wall_ns, ring))));
    }
    let mut told = vec![false; placed.len()];
    // Rings whose next record waits for a sending; by that sending's position.
    let mut waiting: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut forced = BTreeSet::new();
    let mut events: Vec<Event> = Vec::with_capacity(placed.len());
    let mut latest_ns = i128::MIN;
    loop {
        let ring = match ready.pop() {
            Some(Reverse((_, ring))) => ring,
            None => {
                // Each waits for another: the messages contradict each other.
                let all = waiting.values().flatten().copied();
                let Some(ring) = all.min_by_key(|ring| placed[heads[*ring]].wall_ns) else { break };
                waiting.values_mut().for_each(|rings| rings.retain(|one| *one != ring));
                waiting.retain(|_, rings| !rings.is_empty());
                forced.insert(heads[ring]);
                ring
            }
        };
        let at = heads[ring];
        let one = &placed[at];
        if let Some(cause) = one.cause
            && !told[cause]
            && !forced.contains(&at)
        {
            waiting.entry(cause).or_default().push(ring);
            continue;
        }
        if one.cause.is_some_and(|cause| placed[cause].wall_ns > one.wall_ns) {
            brokers.entry(rings[ring].broker).or_default().contradicted += 1;
        }
        // What had to wait is shown when it could have been.
        latest_ns = latest_ns.max(one.wall_ns);
        told[at] = true;
        let wall_us = i64::try_from(latest_ns / 1_000).unwrap_or(i64::MAX);
        events.push(Event { ring, record: one.record, wall_us, text: one.text.clone() });
        heads[ring] += 1;
        for ring in waiting.remove(&at).into_iter().flatten().chain([ring]) {
            ready.extend(began(&heads, ring).map(|at| Reverse((placed[at].wall_ns, ring))));
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::kinds;
    use crate::flight::read::decode;
    use crate::flight::ring::seal;
    use crate::flight::tests::{Dice, capture, header};

    const MS: u64 = 1_000_000;

    fn sent(group: u64, index: u64, peer: i32) -> (Kind, [u64; WORDS]) {
        let label = crate::labels::MessageType::Append;
        capture(|| kinds::message_sent(group, index, 3, peer, 5, 5, 1, label, false))
    }

    fn received(group: u64, index: u64, peer: i32) -> (Kind, [u64; WORDS]) {
        let label = crate::labels::MessageType::Append;
        capture(|| kinds::message_received(group, index, 3, peer, 5, 5, 1, label, false))
    }

    /// A ring whose clock starts at `wall_us` and whose records come so many nanoseconds later.
    fn ring(
        broker: i32,
        name: &str,
        skew_us: i64,
        told: &[(u64, (Kind, [u64; WORDS]))],
    ) -> RingFile {
        let mut header = header(broker, name);
        header.wall_us = header.wall_us.saturating_add_signed(skew_us);
        let mut bytes = header.encode(0);
        for (at, (late_ns, (kind, own))) in told.iter().enumerate() {
            let words = seal(at as u64 + 1, header.mono_ns + late_ns, *kind as u64, *own);
            words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        }
        decode(&bytes).expect("a ring").remove(0)
    }

    fn told(timeline: &Timeline) -> Vec<(i32, Kind, u64)> {
        let event = |event: &Event| {
            (timeline.rings[event.ring].broker, event.record.kind, event.record.own[1])
        };
        timeline.events.iter().map(event).collect()
    }

    #[test]
    fn clocks_three_seconds_apart_are_put_right_by_the_messages() {
        for skew_us in [3_000_000, -3_000_000] {
            let one = ring(
                1,
                "shard",
                0,
                &[(10 * MS, sent(9, 1, 2)), (30 * MS, received(9, 2, 2)), (50 * MS, sent(9, 3, 2))],
            );
            let two = ring(
                2,
                "shard",
                skew_us,
                &[
                    (11 * MS, received(9, 1, 1)),
                    (29 * MS, sent(9, 2, 1)),
                    (51 * MS, received(9, 3, 1)),
                ],
            );
            let timeline = Timeline::of(vec![two, one]);
            let shift = timeline.brokers[1].shift_us;
            assert!((shift + skew_us).abs() <= 1_000, "{shift}");
            assert_eq!((timeline.brokers[0].shift_us, timeline.brokers[1].messages), (0, 3));
            use Kind::{MessageReceived as In, MessageSent as Out};
            let order = [(1, Out, 1), (2, In, 1), (2, Out, 2), (1, In, 2), (1, Out, 3), (2, In, 3)];
            assert_eq!(told(&timeline), order);
            assert!(timeline.brokers.iter().all(|broker| broker.contradicted == 0));
        }
    }

    #[test]
    fn clocks_that_agree_are_left_alone() {
        let one = ring(1, "shard", 0, &[(10 * MS, sent(9, 1, 2)), (30 * MS, received(9, 2, 2))]);
        let two = ring(2, "shard", 0, &[(12 * MS, received(9, 1, 1)), (13 * MS, sent(9, 2, 1))]);
        let timeline = Timeline::of(vec![one, two]);
        assert_eq!(timeline.brokers[1].shift_us, 0);
    }

    #[test]
    fn a_clock_that_drifts_does_not_turn_cause_and_effect() {
        // No shift suits both messages: the first needs broker 2 later, the second earlier.
        let one = ring(
            1,
            "shard",
            0,
            &[(10 * MS, sent(9, 1, 2)), (100 * MS, received(9, 2, 2)), (101 * MS, sent(9, 3, 2))],
        );
        let two = ring(
            2,
            "shard",
            0,
            &[
                (2 * MS, received(9, 1, 1)),
                (150 * MS, sent(9, 2, 1)),
                (151 * MS, received(9, 3, 1)),
            ],
        );
        let timeline = Timeline::of(vec![one, two]);
        let order = told(&timeline);
        for index in 1..=3 {
            let at = |kind| order.iter().position(|(_, k, i)| (*k, *i) == (kind, index));
            assert!(at(Kind::MessageSent) < at(Kind::MessageReceived), "{order:?}");
        }
        let times: Vec<i64> = timeline.events.iter().map(|event| event.wall_us).collect();
        assert!(times.is_sorted(), "{times:?}");
        assert!(timeline.brokers.iter().any(|broker| broker.contradicted > 0));
    }

    #[test]
    fn a_message_that_may_be_one_of_two_judges_no_clock() {
        let one = ring(1, "shard", 0, &[(10 * MS, sent(9, 1, 2)), (20 * MS, sent(9, 1, 2))]);
        let two = ring(2, "shard", 0, &[(MS, received(9, 1, 1))]);
        let timeline = Timeline::of(vec![one, two]);
        assert_eq!((timeline.brokers[1].shift_us, timeline.brokers[1].messages), (0, 0));
    }

    #[test]
    fn a_ring_and_its_dump_are_told_once_and_a_panic_is_one_event() {
        let panic =
            |text: &str, part| capture(|| kinds::panic(crate::flight::Text::of(text), part));
        let events = [
            (MS, panic("crates/node/src/shard/mod.rs:12:", 0)),
            (MS + 1, panic("5: entry 9", 1)),
            (2 * MS, capture(|| kinds::serving(4, 2))),
            (
                3 * MS,
                capture(|| {
                    kinds::request_ended(
                        7,
                        -3,
                        50_001,
                        model::ApiKey::Fetch,
                        crate::labels::Outcome::Ok,
                    )
                }),
            ),
        ];
        let ring = || ring(1, "shard", 0, &events);
        let timeline = Timeline::of(vec![ring(), ring()]);
        assert_eq!(timeline.events.len(), 3);
        let fields: Vec<_> = timeline.events[0].fields().map(|(f, v)| (f.name, v)).collect();
        let text = "crates/node/src/shard/mod.rs:12:5: entry 9";
        assert_eq!(fields, [("text", Value::Text(text.into()))]);
        let fields: Vec<_> = timeline.events[2].fields().map(|(f, v)| (f.name, v)).collect();
        let expected = [
            ("ns", Value::Number(7)),
            ("correlation", Value::Signed(-3)),
            ("connection", Value::Number(50_001)),
            ("api", Value::Name("Fetch")),
            ("outcome", Value::Name("ok")),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn no_times_make_it_panic() {
        let mut dice = Dice(5);
        for _ in 0..300 {
            let mut wild = || match dice.below(3) {
                0 => u64::MAX - dice.below(9) as u64,
                1 => dice.below(9) as u64,
                _ => dice.next(),
            };
            let mut files = Vec::new();
            for broker in [i32::MIN, 1, i32::MAX] {
                let mut header = header(broker, "shard");
                (header.mono_ns, header.boot_ns, header.wall_us) = (wild(), wild(), wild());
                let mut bytes = header.encode(0);
                for number in 1..20 {
                    let kind = Kind::ALL[wild() as usize % Kind::ALL.len()];
                    let own = [wild(), wild(), wild(), wild(), wild()];
                    let words = seal(number, wild(), kind as u64, own);
                    words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
                }
                files.extend(decode(&bytes).expect("a ring"));
            }
            let timeline = Timeline::of(files);
            assert!(timeline.events.iter().all(|event| event.fields().count() < 20));
        }
    }
}
