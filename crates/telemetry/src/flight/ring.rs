//! One loop's ring in memory, and what a record and a ring's file look like.
//!
//! A record is eight words: its number (from 1), the time ([`clock::mono_ns`]), its kind with a
//! check in the upper half, and five words of the kind's own. Invariants: one thread writes a ring
//! at a time and never waits; a record's number is stored before the ring's head names it, so
//! whoever copies below the head copies whole records; the check covers every other bit of a
//! record, so what a cut or a flipped bit left is recognised.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::limits;

use crate::clock;
use crate::flight::kinds::{Kind, WORDS};

/// Bytes of a record.
pub const RECORD_BYTES: usize = 64;
/// Bytes before the first record of a file.
pub const HEADER_BYTES: usize = 4096;
pub const MAGIC: [u8; 8] = *b"GLFLIGHT";
pub const FORMAT: u32 = 1;
const RECORD_WORDS: usize = RECORD_BYTES / 8;
const NAME_BYTES: usize = 16;
const SECOND_NS: u64 = 1_000_000_000;
/// Between two ordinary events, where there are too many; and what a burst is ahead of that.
const APART_NS: u64 = SECOND_NS / limits::FLIGHT_ORDINARY_MAX;
const BURST_NS: u64 = APART_NS * limits::FLIGHT_BURST_MAX;

const _: () = assert!(3 + WORDS == RECORD_WORDS);
const _: () = assert!(limits::FLIGHT_RECORDS.is_power_of_two());

/// One record as words.
pub type Words = [u64; RECORD_WORDS];

/// Odd numbers without a pattern: each bit of a word reaches the upper half of the sum.
const MIX: [u64; RECORD_WORDS] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
    0x5899_65cc_7537_4cc3,
];

/// The check of a record whose own check bits are zero, in the upper half.
#[inline]
fn check(words: &Words) -> u64 {
    let mut sum = 0x1234_5678_9abc_def1u64;
    for (word, factor) in words.iter().zip(MIX) {
        // The fold lets the highest bits reach more than themselves.
        sum = sum.wrapping_add((word ^ (word >> 32)).wrapping_mul(factor));
    }
    sum & 0xffff_ffff_0000_0000
}

/// The words of a record.
#[inline]
pub fn seal(number: u64, mono_ns: u64, kind: u64, own: [u64; WORDS]) -> Words {
    let [a, b, c, d, e] = own;
    let mut words = [number, mono_ns, kind, a, b, c, d, e];
    words[2] |= check(&words);
    words
}

/// Whether these words were sealed as they stand.
pub fn is_whole(words: &Words) -> bool {
    let mut bare = *words;
    bare[2] &= 0xffff_ffff;
    words[0] != 0 && check(&bare) == words[2] & 0xffff_ffff_0000_0000
}

/// Who wrote a ring, and when its life began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub broker: i32,
    /// Tells the lives of a broker apart; grows with them.
    pub life: u64,
    pub pid: u32,
    /// Name and number of the loop.
    pub name: String,
    pub index: u16,
    /// The start of the life on three clocks.
    pub mono_ns: u64,
    pub boot_ns: u64,
    pub wall_us: u64,
}

impl Header {
    /// The first bytes of the file.
    pub fn encode(&self, capacity: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend((RECORD_BYTES as u32).to_le_bytes());
        for word in [capacity, self.life, self.mono_ns, self.boot_ns, self.wall_us] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(self.broker.to_le_bytes());
        bytes.extend(self.pid.to_le_bytes());
        bytes.extend(u32::from(self.index).to_le_bytes());
        let mut name = [0; NAME_BYTES];
        let length = self.name.len().min(NAME_BYTES);
        name[..length].copy_from_slice(&self.name.as_bytes()[..length]);
        bytes.extend(name);
        bytes.resize(HEADER_BYTES, 0);
        bytes
    }

    /// `Err` says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Header, String> {
        let mut rest = bytes.get(..HEADER_BYTES).ok_or("it ends before its header does")?;
        if take::<8>(&mut rest) != MAGIC {
            return Err("it is no ring of a flight recorder".into());
        }
        let format = u32::from_le_bytes(take(&mut rest));
        if format != FORMAT {
            return Err(format!("it has format {format}; this version reads format {FORMAT}"));
        }
        let record = u32::from_le_bytes(take(&mut rest));
        if record as usize != RECORD_BYTES {
            return Err(format!("its records have {record} bytes, not {RECORD_BYTES}"));
        }
        // The length of the file says how many records there are.
        let _capacity = u64::from_le_bytes(take(&mut rest));
        let mut word = || u64::from_le_bytes(take(&mut rest));
        let (life, mono_ns, boot_ns, wall_us) = (word(), word(), word(), word());
        let broker = i32::from_le_bytes(take(&mut rest));
        let pid = u32::from_le_bytes(take(&mut rest));
        let index = u32::from_le_bytes(take(&mut rest));
        let index = u16::try_from(index).map_err(|_| "its loop has no sound number")?;
        let name: [u8; NAME_BYTES] = take(&mut rest);
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        if !is_sound_name(name) {
            return Err("its loop has no sound name".into());
        }
        let name = String::from_utf8_lossy(name).into_owned();
        Ok(Header { broker, life, pid, name, index, mono_ns, boot_ns, wall_us })
    }
}

/// Whether a loop may have this name.
pub fn is_sound_name(name: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'_';
    !name.is_empty() && name.iter().all(plain)
}

/// The next bytes of a header; its length was checked.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    match bytes.split_first_chunk::<N>() {
        Some((first, rest)) => {
            *bytes = rest;
            *first
        }
        None => [0; N],
    }
}

/// The records of one loop: written by its thread, copied by others.
pub struct Ring {
    pub name: &'static str,
    pub index: u16,
    words: Box<[AtomicU64]>,
    /// Number of the last record.
    head: AtomicU64,
    /// The next clock record is due; for the writer only, as the two below.
    clock_due_ns: AtomicU64,
    /// When the next ordinary event would be due if they came evenly.
    ordinary_due_ns: AtomicU64,
    skipped: AtomicU64,
    /// A thread writes here.
    owned: AtomicBool,
}

impl Ring {
    pub fn new(name: &'static str, index: u16) -> Ring {
        Ring {
            name,
            index,
            words: zeroed(limits::FLIGHT_RECORDS * RECORD_WORDS),
            head: AtomicU64::new(0),
            clock_due_ns: AtomicU64::new(0),
            ordinary_due_ns: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            owned: AtomicBool::new(false),
        }
    }

    /// True for one thread at a time.
    pub fn claim(&self) -> bool {
        !self.owned.swap(true, Ordering::Acquire)
    }

    pub fn release(&self) {
        self.owned.store(false, Ordering::Release);
    }

    /// Only for the thread that claimed it.
    #[inline]
    pub fn write(&self, kind: Kind, own: [u64; WORDS]) {
        let now_ns = clock::mono_ns();
        if now_ns >= self.clock_due_ns.load(Ordering::Relaxed) {
            self.write_clock(now_ns);
        }
        self.put(now_ns, kind, own);
    }

    #[inline]
    fn put(&self, now_ns: u64, kind: Kind, own: [u64; WORDS]) {
        let number = self.head.load(Ordering::Relaxed) + 1;
        let slot = number as usize & (limits::FLIGHT_RECORDS - 1);
        let slot: &[AtomicU64] = &self.words[slot * RECORD_WORDS..][..RECORD_WORDS];
        for (cell, word) in slot.iter().zip(seal(number, now_ns, u64::from(kind as u8), own)) {
            cell.store(word, Ordering::Relaxed);
        }
        self.head.store(number, Ordering::Release);
    }

    #[cold]
    fn write_clock(&self, now_ns: u64) {
        self.clock_due_ns.store(now_ns + SECOND_NS, Ordering::Relaxed);
        let skipped = self.skipped.swap(0, Ordering::Relaxed);
        let own = [clock::wall_us(), clock::boot_ns(), skipped.min(u64::from(u32::MAX)), 0, 0];
        self.put(now_ns, Kind::Clock, own);
    }

    /// Whether an event that comes by the thousand is recorded: so many a second are, evenly but for
    /// a burst, so that a sudden end finds a young one; of the others one in
    /// [`limits::FLIGHT_SAMPLE`] by its `token`, the same ones on every broker.
    #[inline]
    pub fn ordinary(&self, token: u64) -> bool {
        self.ordinary_at(clock::mono_ns(), token)
    }

    #[inline]
    fn ordinary_at(&self, now_ns: u64, token: u64) -> bool {
        let due_ns = self.ordinary_due_ns.load(Ordering::Relaxed);
        if due_ns <= now_ns + BURST_NS {
            self.ordinary_due_ns.store(due_ns.max(now_ns) + APART_NS, Ordering::Relaxed);
            return true;
        }
        if token.is_multiple_of(limits::FLIGHT_SAMPLE) {
            return true;
        }
        self.skipped.store(self.skipped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        false
    }

    /// Number of the last record.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Appends the bytes of the records `from..=to` to `out`, oldest first. What was overwritten
    /// meanwhile fails its check, or is a younger record than asked for.
    pub fn copy(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        for number in from..=to {
            let slot = number as usize & (limits::FLIGHT_RECORDS - 1);
            for cell in &self.words[slot * RECORD_WORDS..][..RECORD_WORDS] {
                out.extend(cell.load(Ordering::Relaxed).to_le_bytes());
            }
        }
    }
}

/// Pages that are not touched cost nothing, so a quiet loop's ring is small.
#[allow(unsafe_code)]
pub(crate) fn zeroed(count: usize) -> Box<[AtomicU64]> {
    let words = Box::<[AtomicU64]>::new_zeroed_slice(count);
    // SAFETY: an AtomicU64 has the representation of a u64, for which zero is a value.
    unsafe { words.assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_breaks_the_check() {
        let words = seal(7, 123_456_789, 20, [1, u64::MAX, 0, 1 << 63, 42]);
        assert!(is_whole(&words));
        for bit in 0..RECORD_BYTES * 8 {
            let mut torn = words;
            torn[bit / 64] ^= 1 << (bit % 64);
            assert!(!is_whole(&torn), "bit {bit}");
        }
        assert!(!is_whole(&[0; RECORD_WORDS]), "an empty place is no record");
    }

    #[test]
    fn ordinary_events_are_thinned_evenly_and_the_missing_are_counted() {
        let ring = Ring::new("test", 0);
        let (start_ns, apart_ns) = (1_000 * SECOND_NS, 100_000);
        let at = |event: u64| start_ns + event * apart_ns;
        // Ten thousand a second, for three seconds.
        let recorded: Vec<u64> =
            (0..30_000).filter(|event| ring.ordinary_at(at(*event), 1)).collect();
        let (max, burst) = (limits::FLIGHT_ORDINARY_MAX, limits::FLIGHT_BURST_MAX);
        let count = recorded.len() as u64;
        assert!((3 * max..=3 * max + burst + 2).contains(&count), "{count}");
        let widest = recorded.windows(2).map(|two| at(two[1]) - at(two[0])).max();
        assert!(widest <= Some(APART_NS + apart_ns), "{widest:?}");
        assert_eq!(ring.skipped.load(Ordering::Relaxed), 30_000 - count);
        assert!(ring.ordinary_at(at(30_000), limits::FLIGHT_SAMPLE * 3), "sampled by its token");
    }

    #[test]
    fn a_header_reads_back_and_nothing_else_does() {
        let header = Header {
            broker: 3,
            life: 9,
            pid: 77,
            name: "peer_send".into(),
            index: 2,
            mono_ns: 5,
            boot_ns: 6,
            wall_us: 7,
        };
        let bytes = header.encode(16);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::decode(&bytes), Ok(header));
        assert!(Header::decode(&bytes[..HEADER_BYTES - 1]).is_err());
        for at in [0, 8, 12, 56, 60, 64, 68] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x80;
            let read = Header::decode(&wrong);
            assert!(at == 56 || at == 60 || at == 64 || read.is_err(), "{at}: {read:?}");
        }
    }
}
