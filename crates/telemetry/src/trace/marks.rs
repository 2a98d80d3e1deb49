//! What a shard did with which entries, and when: a ring of plain numbers per shard, from which a
//! trace of a request is put together afterwards, also on brokers that did not know of it then.
//!
//! A mark is six words: its number and kind, the time, group, entry index, and two of its kind's
//! own. Invariants: one thread writes a ring and never waits; a reader takes a mark only if it is
//! whole; what is overwritten is gone and nobody is told.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use model::limits;

use crate::flight::ring::zeroed;
use crate::{label_enum, silence};

const WORDS: usize = 6;
const RING: usize = limits::TRACE_MARKS;
const _: () = assert!(RING.is_power_of_two());

label_enum! {
    /// What happened to a group's entries up to an index.
    pub enum MarkKind {
        /// An append of a leader arrived. a: its broker.
        Received = "received",
        /// Went to the journal. a: the journal's token of the write, b: start of the turn.
        Handed = "handed",
        /// The shard heard that a write is durable; no index. a: token, b: when it was written.
        Durable = "durable",
        /// Left for a follower. a: its broker.
        Sent = "sent",
        /// A follower's acknowledgement arrived. a: its broker.
        Acked = "acked",
        /// The acknowledgement for a leader left. a: its broker.
        Answered = "answered",
        /// Through the state machine in a turn. a: when that began, b: how many entries.
        Applied = "applied",
    }
}

/// One mark, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub kind: MarkKind,
    /// [`crate::clock::mono_ns`].
    pub at_ns: u64,
    pub group: u64,
    pub index: u64,
    pub a: u64,
    pub b: u64,
}

/// A shard's ring; only its own thread writes.
pub struct Marks {
    words: Box<[AtomicU64]>,
    /// Number of the next mark.
    head: AtomicU64,
}

/// The rings of this process. Held for a push or a look, never while anything is waited for.
static RINGS: Mutex<Vec<Weak<Marks>>> = Mutex::new(Vec::new());

fn rings() -> MutexGuard<'static, Vec<Weak<Marks>>> {
    RINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A ring for one shard, known to [`all`] as long as the shard holds it.
pub fn ring() -> Arc<Marks> {
    let ring = Arc::new(Marks::new());
    let mut known = rings();
    known.retain(|ring| ring.strong_count() > 0);
    known.push(Arc::downgrade(&ring));
    ring
}

/// The rings of all shards.
pub(super) fn all() -> Vec<Arc<Marks>> {
    rings().iter().filter_map(Weak::upgrade).collect()
}

impl Marks {
    pub(super) fn new() -> Marks {
        Marks { words: zeroed(RING * WORDS), head: AtomicU64::new(0) }
    }

    /// Only for the shard's own thread.
    #[inline]
    pub fn mark(&self, mark: Mark) {
        if !silence::is_on(silence::Part::Loops) {
            return;
        }
        let number = self.head.load(Ordering::Relaxed);
        let at = (number as usize % RING) * WORDS;
        let slot = &self.words[at..at + WORDS];
        slot[0].store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        let own = [mark.at_ns, mark.group, mark.index, mark.a, mark.b];
        for (word, value) in slot[1..].iter().zip(own) {
            word.store(value, Ordering::Relaxed);
        }
        slot[0].store((number + 1) << 8 | mark.kind as u64, Ordering::Release);
        self.head.store(number + 1, Ordering::Release);
    }

    /// Every mark that is whole and of this group, the oldest first.
    pub(super) fn of_group(&self, group: u64) -> Vec<Mark> {
        let head = self.head.load(Ordering::Acquire);
        let first = head.saturating_sub(RING as u64);
        (first..head).filter_map(|number| self.read(number, group)).collect()
    }

    fn read(&self, number: u64, group: u64) -> Option<Mark> {
        let at = (number as usize % RING) * WORDS;
        let slot = &self.words[at..at + WORDS];
        let before = slot[0].load(Ordering::Acquire);
        if before >> 8 != number + 1 || slot[2].load(Ordering::Relaxed) != group {
            return None;
        }
        let mut own = [0; WORDS - 1];
        for (value, word) in own.iter_mut().zip(&slot[1..]) {
            *value = word.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        if slot[0].load(Ordering::Relaxed) != before {
            return None;
        }
        let kind = MarkKind::from_index((before & 0xff) as usize)?;
        let [at_ns, group, index, a, b] = own;
        Some(Mark { kind, at_ns, group, index, a, b })
    }
}

/// What the marks say of one entry on this broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// When the leader's append arrived here, and from which broker.
    pub received: Option<(u64, i32)>,
    /// Start of the turn that took the entry, and when the journal got it.
    pub handed: Option<(u64, u64)>,
    /// Token of that write.
    token: u64,
    /// When it was written and when the shard heard that it is durable.
    pub durable: Option<(u64, u64)>,
    /// When the acknowledgement left for the leader.
    pub answered: Option<u64>,
    /// Begin and end of the turn that applied it, and how many entries that took.
    pub applied: Option<(u64, u64, u64)>,
    /// Per follower: its broker, when the entry left, when its acknowledgement came.
    pub peers: Vec<(i32, u64, Option<u64>)>,
}

impl Way {
    /// Reads the way of entry `index` of `group` from every ring. Marks before `since_ns` belong
    /// to an entry of the same index that a later leader replaced.
    pub fn look(group: u64, index: u64, since_ns: u64) -> Way {
        let mut way = Way::default();
        for ring in all() {
            way.read(&ring.of_group(group), index, since_ns);
        }
        way
    }

    /// The marks of one ring. Of every kind the first at or above the index counts: what came
    /// later is about later entries.
    pub(super) fn read(&mut self, marks: &[Mark], index: u64, since_ns: u64) {
        use MarkKind as K;
        let about = marks.iter().filter(|mark| mark.at_ns >= since_ns);
        for mark in about.filter(|mark| mark.index >= index || mark.kind == K::Durable) {
            let broker = mark.a as i32;
            match mark.kind {
                K::Received => _ = self.received.get_or_insert((mark.at_ns, broker)),
                K::Handed if self.handed.is_none() => {
                    self.handed = Some((mark.b, mark.at_ns));
                    self.token = mark.a;
                }
                K::Durable if self.handed.is_some() && mark.a >= self.token => {
                    self.durable.get_or_insert((mark.b, mark.at_ns));
                }
                K::Sent if self.peers.iter().all(|(known, ..)| *known != broker) => {
                    self.peers.push((broker, mark.at_ns, None));
                }
                K::Acked => {
                    let peer = self.peers.iter_mut().find(|(known, ..)| *known == broker);
                    if let Some((_, _, acked)) = peer {
                        acked.get_or_insert(mark.at_ns);
                    }
                }
                K::Answered => _ = self.answered.get_or_insert(mark.at_ns),
                K::Applied => _ = self.applied.get_or_insert((mark.a, mark.at_ns, mark.b)),
                K::Handed | K::Durable | K::Sent => {}
            }
        }
    }

    /// Nothing more will be heard of it on the leader.
    pub fn is_led(&self) -> bool {
        self.handed.is_some()
            && self.applied.is_some()
            && self.peers.iter().all(|(_, _, acked)| acked.is_some())
    }

    /// Nothing more will be heard of it on a follower.
    pub fn is_followed(&self) -> bool {
        self.durable.is_some() && self.answered.is_some() && self.applied.is_some()
    }

    /// What an earlier look saw and this one does not any more.
    pub fn or(self, before: Way) -> Way {
        let mut peers = self.peers;
        for (broker, sent, acked) in before.peers {
            match peers.iter_mut().find(|(known, ..)| *known == broker) {
                Some(peer) => *peer = (broker, sent, acked.or(peer.2)),
                None => peers.push((broker, sent, acked)),
            }
        }
        // A look that lost the write to the ring's end does not know its token either.
        let kept = before.handed.is_some();
        Way {
            received: before.received.or(self.received),
            handed: before.handed.or(self.handed),
            token: if kept { before.token } else { self.token },
            durable: before.durable.or(self.durable),
            answered: before.answered.or(self.answered),
            applied: before.applied.or(self.applied),
            peers,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn mark(kind: MarkKind, at_ns: u64, index: u64, a: u64, b: u64) -> Mark {
        Mark { kind, at_ns, group: 7, index, a, b }
    }

    #[test]
    fn the_newest_marks_stay_and_other_groups_are_left_out() {
        let ring = Marks::new();
        for number in 0..RING as u64 + 10 {
            ring.mark(mark(MarkKind::Sent, number + 1, number, 2, 0));
        }
        let other = Mark { group: 8, ..mark(MarkKind::Sent, 1, 1, 2, 0) };
        ring.mark(other);
        let marks = ring.of_group(7);
        assert_eq!(marks.len(), RING - 1);
        assert_eq!((marks[0].index, marks.last().unwrap().index), (11, RING as u64 + 9));
        assert_eq!(ring.of_group(8), [other]);
    }

    #[test]
    fn a_reader_beside_the_writer_takes_only_whole_marks() {
        let ring = Arc::new(Marks::new());
        let (writer, enough) = (ring.clone(), Arc::new(AtomicBool::new(false)));
        let told = enough.clone();
        let write = move || {
            let mut number = 1u64;
            while !told.load(Ordering::Relaxed) {
                writer.mark(mark(MarkKind::Handed, number, number, number, number));
                number += 1;
            }
        };
        let writing = std::thread::spawn(write);
        let mut seen = 0;
        while seen < 1_000_000 {
            for mark in ring.of_group(7) {
                assert!([mark.index, mark.a, mark.b] == [mark.at_ns; 3], "{mark:?}");
                seen += 1;
            }
        }
        enough.store(true, Ordering::Relaxed);
        writing.join().unwrap();
    }

    #[test]
    fn the_way_of_an_entry_is_told_by_the_first_marks_at_or_above_it() {
        use MarkKind as K;
        let marks = [
            mark(K::Handed, 90, 4, 1, 80),
            mark(K::Sent, 91, 4, 2, 0),
            mark(K::Handed, 110, 5, 2, 100),
            mark(K::Sent, 111, 5, 2, 0),
            mark(K::Sent, 112, 5, 3, 0),
            mark(K::Durable, 120, 0, 1, 115),
            mark(K::Acked, 125, 4, 2, 0),
            mark(K::Durable, 130, 0, 2, 127),
            mark(K::Acked, 140, 6, 3, 0),
            mark(K::Applied, 150, 6, 145, 2),
            mark(K::Handed, 160, 6, 3, 155),
        ];
        let mut way = Way::default();
        way.read(&marks, 5, 0);
        assert_eq!(way.handed, Some((100, 110)));
        assert_eq!(way.durable, Some((127, 130)));
        assert_eq!(way.peers, [(2, 111, None), (3, 112, Some(140))]);
        assert_eq!(way.applied, Some((145, 150, 2)));
        assert!(!way.is_led());
        // Looked at again when the slow follower has answered and the rest is overwritten.
        let mut later = Way::default();
        later.read(&[mark(K::Sent, 170, 7, 2, 0), mark(K::Acked, 900, 7, 2, 0)], 5, 0);
        let whole = later.or(way);
        assert_eq!(whole.peers, [(2, 111, Some(900)), (3, 112, Some(140))]);
        assert!(whole.is_led());
    }

    #[test]
    fn a_follower_is_done_when_it_has_applied() {
        use MarkKind as K;
        let mut way = Way::default();
        way.read(
            &[
                mark(K::Received, 10, 5, 1, 0),
                mark(K::Handed, 20, 5, 9, 10),
                mark(K::Durable, 40, 0, 9, 30),
                mark(K::Answered, 41, 5, 1, 0),
            ],
            5,
            0,
        );
        assert_eq!((way.received, way.answered), (Some((10, 1)), Some(41)));
        assert!(!way.is_followed());
        way.read(&[mark(K::Applied, 60, 5, 55, 1)], 5, 0);
        assert!(way.is_followed());
    }
}
