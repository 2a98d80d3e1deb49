//! The file of what came last in all rings: one write a pass, however many rings there are.
//!
//! After a header of the common form come records in chunks; a chunk begins with a record of its own
//! that says whose records follow, how many, and the number of the first. A pass writes its chunks
//! side by side behind those of the pass before, or at the start where they would not fit. Each
//! record is sealed by itself, so a reader needs nothing but the chunks' beginnings: what an older
//! lap left between them is older and whole, or has no beginning any more and is passed over.
//!
//! Invariant: the rings' own files are brought up to date (a *full* pass) before a chunk that they
//! do not hold yet is overwritten.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use model::limits;

use crate::flight::RINGS;
use crate::flight::files::Life;
use crate::flight::read::{RingFile, words};
use crate::flight::ring::{
    HEADER_BYTES, Header, RECORD_BYTES, Ring, Words, is_sound_name, is_whole, seal,
};

/// The name in the header and of the file.
pub const NAME: &str = "recent";
/// The kind of a chunk's beginning: none of a loop's.
const CHUNK: u64 = 255;
const CAPACITY: usize = limits::FLIGHT_RECENT_RECORDS;
/// So much may stand here that the rings' own files do not hold.
const AHEAD_MAX: usize = CAPACITY / 2;

/// What a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    Nothing,
    Written,
    /// More than there is room for: this is one for the rings' own files.
    TooMuch,
}

/// The writing side.
#[derive(Default)]
pub struct Recent {
    file: Option<File>,
    /// Where the next chunk goes, in records.
    at: usize,
    /// Records written that the rings' own files may not hold.
    ahead: usize,
    /// Number of the last record of each ring that is here or in the ring's own file.
    upto: Vec<u64>,
    passes: u64,
    buffer: Vec<u8>,
}

impl Recent {
    /// Writes what is new in all rings.
    pub fn pass(&mut self, life: &Life, now_ns: u64) -> io::Result<Passed> {
        let rings = RINGS.iter().map_while(OnceLock::get);
        if !self.gather(rings, now_ns) {
            return Ok(Passed::TooMuch);
        }
        if self.buffer.is_empty() {
            return Ok(Passed::Nothing);
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => life.create(NAME, 0, CAPACITY)?,
        };
        let at = self.place();
        file.write_all_at(&self.buffer, (HEADER_BYTES + at * RECORD_BYTES) as u64)?;
        self.file = Some(file);
        Ok(Passed::Written)
    }

    /// The rings' own files hold all up to these numbers.
    pub fn settled(&mut self, upto: impl Iterator<Item = u64>) {
        self.ahead = 0;
        for (at, number) in upto.enumerate() {
            match self.upto.get_mut(at) {
                Some(known) => *known = number.max(*known),
                None => self.upto.push(number),
            }
        }
    }

    /// Puts what is new into the buffer; false where it is too much, and nothing has changed.
    fn gather<'a>(&mut self, rings: impl Iterator<Item = &'a Ring>, now_ns: u64) -> bool {
        self.buffer.clear();
        let heads: Vec<(&Ring, u64)> = rings.map(|ring| (ring, ring.head())).collect();
        self.upto.resize(heads.len(), 0);
        let fresh = |((_, head), upto): (&(&Ring, u64), &u64)| match head - upto {
            0 => 0,
            count => count + 1,
        };
        let records: u64 = heads.iter().zip(&self.upto).map(fresh).sum();
        if self.ahead as u64 + records > AHEAD_MAX as u64 {
            return false;
        }
        self.passes += 1;
        for ((ring, head), upto) in heads.into_iter().zip(&mut self.upto) {
            if head == *upto {
                continue;
            }
            let count = head - *upto;
            let [first, second] = name_words(ring.name);
            let own = [first, second, u64::from(ring.index) << 32 | count, *upto + 1, 0];
            for word in seal(self.passes, now_ns, CHUNK, own) {
                self.buffer.extend(word.to_le_bytes());
            }
            ring.copy(*upto + 1, head, &mut self.buffer);
            *upto = head;
        }
        true
    }

    /// Takes room for what was gathered.
    fn place(&mut self) -> usize {
        let records = self.buffer.len() / RECORD_BYTES;
        if self.at + records > CAPACITY {
            self.at = 0;
        }
        let at = self.at;
        self.at += records;
        self.ahead += records;
        at
    }
}

fn name_words(name: &str) -> [u64; 2] {
    let mut words = [0; 2];
    for (at, byte) in name.bytes().take(16).enumerate() {
        words[at / 8] |= u64::from(byte) << (at % 8 * 8);
    }
    words
}

/// Reads the records behind such a header: those of each ring aside. What is torn is counted for the
/// first of them.
pub fn decode(header: &Header, bytes: &[u8]) -> Vec<RingFile> {
    let mut rings: BTreeMap<(String, u16), RingFile> = BTreeMap::new();
    let mut torn = 0;
    let mut slots = bytes.chunks(RECORD_BYTES).peekable();
    while let Some(slot) = slots.next() {
        if slot.iter().all(|byte| *byte == 0) {
            continue;
        }
        let Some(head) = words(slot).filter(is_whole) else {
            torn += 1;
            continue;
        };
        let Some(chunk) = Chunk::of(&head) else { continue };
        let ring = rings.entry((chunk.name.clone(), chunk.index)).or_insert_with(|| {
            let header = Header { name: chunk.name.clone(), index: chunk.index, ..header.clone() };
            RingFile { header, records: Vec::new(), torn: 0, unknown: 0 }
        });
        for number in chunk.numbers {
            let follows = |slot: &&[u8]| {
                let whole = words(slot).filter(is_whole);
                whole.is_none_or(|words| words[0] == number && Chunk::of(&words).is_none())
            };
            let Some(slot) = slots.next_if(follows) else { break };
            ring.take(slot);
        }
    }
    let mut rings: Vec<RingFile> = rings.into_values().collect();
    match rings.first_mut() {
        Some(first) => first.torn += torn,
        None if torn > 0 => {
            let header = header.clone();
            rings.push(RingFile { header, records: Vec::new(), torn, unknown: 0 });
        }
        None => {}
    }
    rings.iter_mut().for_each(RingFile::sort);
    rings
}

/// The beginning of a chunk.
struct Chunk {
    name: String,
    index: u16,
    numbers: std::ops::Range<u64>,
}

impl Chunk {
    fn of(head: &Words) -> Option<Chunk> {
        let [_, _, kind, first, second, whose, from, _] = *head;
        if kind & 0xffff_ffff != CHUNK {
            return None;
        }
        let name: Vec<u8> = [first, second].iter().flat_map(|word| word.to_le_bytes()).collect();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let count = whose & 0xffff_ffff;
        if !is_sound_name(name) || count > CAPACITY as u64 {
            return None;
        }
        Some(Chunk {
            name: String::from_utf8_lossy(name).into_owned(),
            index: u16::try_from(whose >> 32).ok()?,
            numbers: from..from.checked_add(count)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::kinds::Kind;
    use crate::flight::read::Record;
    use crate::flight::tests::{Dice, header};

    /// A pass into bytes instead of a file.
    fn pass(recent: &mut Recent, rings: &[Ring], file: &mut [u8]) -> bool {
        let fits = recent.gather(rings.iter(), 7);
        if fits && !recent.buffer.is_empty() {
            let at = HEADER_BYTES + recent.place() * RECORD_BYTES;
            file[at..at + recent.buffer.len()].copy_from_slice(&recent.buffer);
        }
        fits
    }

    fn empty_file() -> Vec<u8> {
        let mut file = header(1, NAME).encode(CAPACITY as u64);
        file.resize(HEADER_BYTES + CAPACITY * RECORD_BYTES, 0);
        file
    }

    fn rings() -> [Ring; 3] {
        let rings = [Ring::new("shard", 0), Ring::new("shard", 1), Ring::new("peer_send", 12)];
        assert!(rings.iter().all(Ring::claim));
        rings
    }

    fn read(file: &[u8]) -> Vec<RingFile> {
        crate::flight::read::decode(file).expect("a file of the recorder")
    }

    #[test]
    fn whatever_the_pace_the_last_records_of_all_rings_are_there_whole() {
        let (rings, mut recent, mut file, mut dice) =
            (rings(), Recent::default(), empty_file(), Dice(5));
        // The smallest number that no full pass has taken over, by ring.
        let mut open = [1; 3];
        for _ in 0..3_000 {
            for ring in &rings {
                for _ in 0..dice.below(12) * dice.below(2) {
                    ring.write(Kind::Serving, [ring.head(), dice.next(), 0, 0, 0]);
                }
            }
            if !pass(&mut recent, &rings, &mut file) {
                recent.settled(rings.iter().map(Ring::head));
                open = std::array::from_fn(|at| rings[at].head() + 1);
                continue;
            }
            if dice.below(50) > 0 {
                continue;
            }
            let told = read(&file);
            for (ring, open) in rings.iter().zip(open) {
                let of = |file: &&RingFile| {
                    (file.header.name.as_str(), file.header.index) == (ring.name, ring.index)
                };
                let told = told.iter().find(of).map_or(&[][..], |file| &file.records);
                let numbers: Vec<u64> = told.iter().map(|record| record.number).collect();
                let missing = (open..=ring.head()).find(|n| !numbers.contains(n));
                assert_eq!(missing, None, "of {open} to {}", ring.head());
                // A record of the clock may come between.
                let fits = |r: &Record| (1..=2).contains(&(r.number - r.own[0]));
                let wrong = |r: &&Record| r.kind == Kind::Serving && !fits(r);
                assert_eq!(told.iter().find(wrong), None);
            }
            assert!(told.iter().all(|file| (file.torn, file.unknown) == (0, 0)));
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_left_to_the_rings_own_files() {
        let (rings, mut recent, mut file) = (rings(), Recent::default(), empty_file());
        while rings[1].head() < AHEAD_MAX as u64 {
            rings[1].write(Kind::Serving, [0; 5]);
        }
        assert!(!pass(&mut recent, &rings, &mut file));
        assert!(read(&file).is_empty(), "nothing of it was written");
        recent.settled(rings.iter().map(Ring::head));
        rings[0].write(Kind::Serving, [0; 5]);
        assert!(pass(&mut recent, &rings, &mut file));
        let told = read(&file);
        assert_eq!((told.len(), told[0].records.len()), (1, 2), "with its clock");
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_and_mutations_are_not_believed() {
        let (rings, mut recent, mut sound, mut dice) =
            (rings(), Recent::default(), empty_file(), Dice(9));
        for round in 0..20 {
            rings[round % 3].write(Kind::Serving, [1, 2, 3, 4, 5]);
            assert!(pass(&mut recent, &rings, &mut sound));
        }
        sound.truncate(HEADER_BYTES + 80 * RECORD_BYTES);
        let known = read(&sound);
        let believed = |file: &RingFile| {
            let same = known.iter().find(|known| known.header == file.header);
            same.map_or(file.records.is_empty(), |known| {
                file.records.iter().all(|record| known.records.contains(record))
            })
        };
        for _ in 0..5_000 {
            let mut bytes = sound.clone();
            for _ in 0..=dice.below(6) {
                let at = HEADER_BYTES + dice.below(bytes.len() - HEADER_BYTES);
                bytes[at] = dice.below(256) as u8;
            }
            bytes.truncate(bytes.len() - dice.below(300));
            let told = read(&bytes);
            assert!(told.iter().all(believed), "{told:?}");
        }
        // Sealed as it should be, and nonsense.
        for own in [[u64::MAX; 5], [0; 5], [0x61, 0, u64::MAX, 1, 0], [0x61, 0, 5, u64::MAX, 0]] {
            let mut bytes = header(1, NAME).encode(1);
            for word in seal(1, 1, CHUNK, own) {
                bytes.extend(word.to_le_bytes());
            }
            assert!(read(&bytes).iter().all(|ring| ring.records.is_empty()));
        }
    }
}
