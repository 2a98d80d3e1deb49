//! The flight recorder: what every loop did last, readable after `kill -9`.
//!
//! Each loop writes 64-byte records into a ring of its own in memory; what is new is mirrored into
//! files below `<data.dir>/flight` every few milliseconds ([`mirror`]). The loops do not write to a mapping of the file: a store into one stands still for as long
//! as the file system does (README), and a loop's promise is that it never waits for a disk.
//!
//! Invariants: recording never waits and never allocates; one thread writes a ring at a time;
//! whatever happens to the files, the broker goes on and says so once. Without [`start`] (tests,
//! simulation, tools) every verb does nothing.

mod abort;
mod dumps;
mod files;
pub mod kinds;
mod mirror;
pub mod read;
mod recent;
pub mod ring;
pub mod timeline;

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::limits;

pub use dumps::{DumpReason, dump};
pub use files::{Setup, last_life_ms, start};
pub use kinds::PeerChange;
pub use mirror::{lend, settle};

use crate::labels::DropKind;
use crate::{metrics, silence};
use kinds::{Kind, WORDS};
use ring::Ring;

/// Thirty-two bytes of text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text([u8; 32]);

impl Text {
    /// As much of it as fits.
    pub fn of(text: &str) -> Text {
        let mut bytes = [0; 32];
        let length = text.len().min(bytes.len());
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        Text(bytes)
    }

    fn words(self) -> [u64; 4] {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(self.0.chunks(8)) {
            *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        words
    }
}

static RINGS: [OnceLock<Ring>; limits::FLIGHT_RINGS_MAX] =
    [const { OnceLock::new() }; limits::FLIGHT_RINGS_MAX];
static OPENED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static RING: Cell<Option<&'static Ring>> = const { Cell::new(None) };
    /// This thread asked for a ring and there was none.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// Every ring there is.
fn rings() -> impl Iterator<Item = &'static Ring> {
    let opened = OPENED.load(Ordering::Acquire).min(limits::FLIGHT_RINGS_MAX);
    RINGS[..opened].iter().filter_map(OnceLock::get)
}

/// A new ring; `None` where the table is full.
fn open(name: &'static str, index: u16) -> Option<&'static Ring> {
    let position = OPENED.fetch_add(1, Ordering::AcqRel);
    let Some(place) = RINGS.get(position) else {
        metrics().telemetry_dropped_total.at(DropKind::FlightRing).inc();
        return None;
    };
    Some(place.get_or_init(|| Ring::new(name, index)))
}

/// This thread writes the ring of that name from here on, until [`release`].
pub(crate) fn claim(name: &'static str, index: u16) -> bool {
    if !files::is_started() || RING.get().is_some() {
        return false;
    }
    let known = rings().find(|ring| ring.name == name && ring.index == index);
    let ring = known.or_else(|| open(name, index)).filter(|ring| ring.claim());
    RING.set(ring);
    ring.is_some()
}

pub(crate) fn release() {
    if let Some(ring) = RING.take() {
        ring.release();
    }
}

/// A thread of a pool takes one of the rings that were opened for it, at its first event.
fn join(name: &'static str) {
    if REFUSED.get() || !files::is_started() {
        return;
    }
    let free = rings().find(|ring| ring.name == name && ring.claim());
    REFUSED.set(free.is_none());
    if free.is_none() {
        metrics().telemetry_dropped_total.at(DropKind::FlightRing).inc();
    }
    RING.set(free);
}

/// Rings of the threads that serve connections.
const CONNECTIONS: &str = "runtime";
/// The ring of whoever has none and something to say.
const OTHER: &str = "other";

/// Writes to this thread's ring, if it has one.
#[inline]
fn record(kind: Kind, words: [u64; WORDS]) {
    let Some(ring) = RING.get().filter(|_| silence::is_on(silence::Part::Flight)) else { return };
    ring.write(kind, words);
    mirror::wake();
}

/// Whether an ordinary event of this thread is to be recorded, see [`Ring::ordinary`].
#[inline]
pub fn ordinary(token: u64) -> bool {
    RING.get().is_some_and(|ring| silence::is_on(silence::Part::Flight) && ring.ordinary(token))
}

/// The same for a thread that serves connections; its ring is found at its first event.
#[inline]
pub fn ordinary_request(token: u64) -> bool {
    if RING.get().is_none() {
        join(CONNECTIONS);
    }
    ordinary(token)
}

/// Lets a thread without a ring say something rare.
pub(crate) fn from_anywhere(say: impl FnOnce()) {
    if RING.get().is_some() {
        return say();
    }
    if claim(OTHER, 0) {
        say();
        release();
    }
}

/// A panic: its text in as many records as it takes, and a dump.
pub(crate) fn panicked(text: &str) {
    from_anywhere(|| {
        let parts = text.as_bytes().chunks(32).take(limits::FLIGHT_TEXT_PARTS);
        for (part, bytes) in parts.enumerate() {
            let mut text = Text::default();
            text.0[..bytes.len()].copy_from_slice(bytes);
            kinds::panic(text, part as u8);
        }
    });
    dump(DumpReason::Panic);
}

/// The broker ends itself; on disk when this returns, if the disk answers at all.
pub fn fatal(why: crate::labels::FatalReason, text: &str) {
    from_anywhere(|| kinds::fatal(Text::of(text), why));
    settle();
}

/// A life ends in order.
pub fn stopped() {
    from_anywhere(|| kinds::stopped(crate::clock::boot_ns()));
    settle();
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::flight::ring::Header;

    /// A directory that is gone with the test.
    pub struct Scratch(pub PathBuf);

    impl Scratch {
        pub fn new(name: &str) -> Scratch {
            let name = format!("glasslog-flight-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).expect("a directory");
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Numbers that are the same in every run.
    pub struct Dice(pub u64);

    impl Dice {
        pub fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 27)
        }

        pub fn below(&mut self, end: usize) -> usize {
            (self.next() >> 16) as usize % end
        }
    }

    pub fn header(broker: i32, name: &str) -> Header {
        Header {
            broker,
            life: 1,
            pid: 9,
            name: name.to_owned(),
            index: 0,
            mono_ns: 1_000_000_000,
            boot_ns: 70_000_000_000,
            wall_us: 1_795_320_000_000_000,
        }
    }

    /// What a verb writes.
    pub fn capture(say: impl FnOnce()) -> (Kind, [u64; WORDS]) {
        let ring: &'static Ring = Box::leak(Box::new(Ring::new("test", 0)));
        RING.set(Some(ring));
        say();
        RING.set(None);
        let mut bytes = header(1, "test").encode(0);
        ring.copy(1, ring.head(), &mut bytes);
        let rings = read::decode(&bytes).expect("a ring");
        let last = rings[0].records.last().expect("a record");
        (last.kind, last.own)
    }

    #[test]
    fn without_a_recorder_a_verb_does_nothing() {
        kinds::serving(1, 1);
        assert!(!ordinary(0) && !claim("shard", 0));
    }
}
