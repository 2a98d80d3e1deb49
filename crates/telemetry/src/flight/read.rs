//! A ring's file, read back. Its bytes may come from a broker that died while it wrote, from one
//! that writes right now, or from anywhere.
//!
//! Invariants: no input panics; nothing is believed that its check does not cover; what is skipped
//! is counted.

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::flight::kinds::{Kind, WORDS};
use crate::flight::recent;
use crate::flight::ring::{HEADER_BYTES, Header, RECORD_BYTES, Words, is_whole};

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub number: u64,
    pub mono_ns: u64,
    pub kind: Kind,
    pub own: [u64; WORDS],
}

/// What a file says.
#[derive(Clone, Debug)]
pub struct RingFile {
    pub header: Header,
    /// By number, each once.
    pub records: Vec<Record>,
    /// Records that are not as they were written: torn by a death, or rotten.
    pub torn: usize,
    /// Whole records of a kind that this version does not know.
    pub unknown: usize,
}

impl RingFile {
    /// One more record, as it stands in a file.
    pub(super) fn take(&mut self, slot: &[u8]) {
        if slot.iter().all(|byte| *byte == 0) {
            return;
        }
        let Some([number, mono_ns, kind, own @ ..]) = words(slot).filter(is_whole) else {
            self.torn += 1;
            return;
        };
        match Kind::from_code(kind as u8) {
            Some(kind) => self.records.push(Record { number, mono_ns, kind, own }),
            None => self.unknown += 1,
        }
    }

    /// When all are taken.
    pub(super) fn sort(&mut self) {
        self.records.sort_by_key(|record| record.number);
        self.records.dedup_by_key(|record| record.number);
    }
}

/// Reads a file of the recorder: one ring, or what came last in several; the same record may be in
/// both. `Err`: it is none, in words.
pub fn decode(bytes: &[u8]) -> Result<Vec<RingFile>, String> {
    let header = Header::decode(bytes)?;
    let bytes = bytes.get(HEADER_BYTES..).unwrap_or_default();
    if header.name == recent::NAME {
        return Ok(recent::decode(&header, bytes));
    }
    let mut ring = RingFile { header, records: Vec::new(), torn: 0, unknown: 0 };
    bytes.chunks(RECORD_BYTES).for_each(|slot| ring.take(slot));
    ring.sort();
    Ok(vec![ring])
}

/// `None`: not as long as a record.
pub(super) fn words(bytes: &[u8]) -> Option<Words> {
    let bytes: &[u8; RECORD_BYTES] = bytes.try_into().ok()?;
    let mut words = Words::default();
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
        *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    Some(words)
}

const DATE_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
const FILE_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:3]Z");

/// A time no calendar has is told as the number it is.
fn formatted(us: i64, format: &[BorrowedFormatItem<'_>]) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000);
    let text = at.ok().and_then(|at| at.format(format).ok());
    text.unwrap_or_else(|| format!("{us}us"))
}

/// Microseconds since the Unix epoch as RFC 3339, UTC.
pub fn rfc3339(us: i64) -> String {
    formatted(us, DATE_TIME)
}

/// The same without what file systems and shells do not like; sorts by time.
pub(super) fn file_time(us: u64) -> String {
    formatted(us.cast_signed(), FILE_TIME)
}

/// Reads RFC 3339, with or without a fraction: microseconds since the Unix epoch.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let text = text.replacen(' ', "T", 1);
    let at = OffsetDateTime::parse(&text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::ring::{RECORD_BYTES, Ring, seal};
    use crate::flight::tests::{Dice, header};
    use model::limits;

    fn decode(bytes: &[u8]) -> Result<RingFile, String> {
        super::decode(bytes).map(|mut rings| rings.remove(0))
    }

    /// A file of `count` records, its clock record included.
    fn file(count: u64) -> Vec<u8> {
        let ring = Ring::new("test", 0);
        assert!(ring.claim());
        while ring.head() < count {
            ring.write(Kind::Serving, [ring.head(), 7, 0, 0, 0]);
        }
        let head = ring.head();
        let mut bytes = header(1, "test").encode(limits::FLIGHT_RECORDS as u64);
        ring.copy(head.saturating_sub(limits::FLIGHT_RECORDS as u64) + 1, head, &mut bytes);
        bytes
    }

    #[test]
    fn a_ring_that_went_round_has_its_last_records() {
        let capacity = limits::FLIGHT_RECORDS as u64;
        let read = decode(&file(capacity + 100)).expect("a ring");
        assert_eq!((read.records.len() as u64, read.torn), (capacity, 0));
        assert_eq!(read.records[0].number, 101);
        assert_eq!(read.records[capacity as usize - 1].number, capacity + 100);
        assert!(read.records.windows(2).all(|two| two[0].mono_ns <= two[1].mono_ns));
    }

    #[test]
    fn a_torn_record_is_counted_and_never_told() {
        let bytes = file(40);
        for cut in 1..RECORD_BYTES / 8 {
            // A younger record was being written over record 20 when the process died.
            let mut torn = bytes.clone();
            let at = HEADER_BYTES + 19 * RECORD_BYTES;
            let younger = seal(20 + 16_384, 1 << 40, 33, [77, 77, 77, 77, 77]);
            for (word, bytes) in younger.iter().zip(torn[at..].chunks_mut(8)).take(cut) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            let read = decode(&torn).expect("a ring");
            assert_eq!((read.records.len(), read.torn), (39, 1), "after {cut} words");
            assert!(read.records.iter().all(|record| record.number != 20));
        }
        // Cut off in the middle of a record.
        let read = decode(&bytes[..bytes.len() - 10]).expect("a ring");
        assert_eq!((read.records.len(), read.torn), (39, 1));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_and_mutations_are_not_believed() {
        let (sound, mut dice) = (file(64), Dice(3));
        let known = decode(&sound).expect("a ring").records;
        for _ in 0..20_000 {
            let mut bytes = sound.clone();
            for _ in 0..=dice.below(4) {
                let at = dice.below(bytes.len());
                bytes[at] = dice.below(256) as u8;
            }
            bytes.truncate(bytes.len() - dice.below(200));
            let Ok(read) = decode(&bytes) else { continue };
            assert!(read.records.iter().all(|record| known.contains(record)));
        }
        for length in 0..300 {
            let noise: Vec<u8> = (0..length * 40).map(|_| dice.below(256) as u8).collect();
            assert!(decode(&noise).is_err());
            let mut bytes = header(1, "test").encode(9);
            bytes.extend(noise);
            assert!(decode(&bytes).expect("a header").records.is_empty());
        }
    }

    #[test]
    fn times_read_back() {
        for us in [0, 951_826_153_000_001, 1_709_251_199_999_999, 1_795_320_000_123_456] {
            assert_eq!(parse_rfc3339(&rfc3339(us)), Some(us), "{}", rfc3339(us));
        }
        assert_eq!(rfc3339(1_000_000_000_000_000), "2001-09-09T01:46:40.000000Z");
        assert_eq!(parse_rfc3339("2001-09-09 01:46:40.5Z"), Some(1_000_000_000_500_000));
        assert_eq!(parse_rfc3339("2001-09-09T03:46:40+02:00"), Some(1_000_000_000_000_000));
        assert_eq!(rfc3339(i64::MAX), format!("{}us", i64::MAX));
        for wrong in ["", "2001-09-09", "2001-13-09T01:46:40Z", "2001-09-09T01:46:40", "x-y-zT::Z"]
        {
            assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
        }
    }
}
