//! A ring's file, read back. Its bytes may come from a broker that died while it wrote, from one
//! that writes right now, or from anywhere.
//!
//! Invariants: no input panics; nothing is believed that its check does not cover; what is skipped
//! is counted.

use crate::flight::kinds::{Kind, WORDS};
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

/// Reads a ring's file. `Err`: it is none, in words.
pub fn decode(bytes: &[u8]) -> Result<RingFile, String> {
    let header = Header::decode(bytes)?;
    let mut ring = RingFile { header, records: Vec::new(), torn: 0, unknown: 0 };
    for bytes in bytes.get(HEADER_BYTES..).unwrap_or_default().chunks(RECORD_BYTES) {
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let words = words(bytes).filter(is_whole);
        let Some([number, mono_ns, kind, own @ ..]) = words else {
            ring.torn += 1;
            continue;
        };
        match Kind::from_code(kind as u8) {
            Some(kind) => ring.records.push(Record { number, mono_ns, kind, own }),
            None => ring.unknown += 1,
        }
    }
    ring.records.sort_by_key(|record| record.number);
    ring.records.dedup_by_key(|record| record.number);
    Ok(ring)
}

fn words(bytes: &[u8]) -> Option<Words> {
    let bytes: &[u8; RECORD_BYTES] = bytes.try_into().ok()?;
    let mut words = Words::default();
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
        *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    Some(words)
}

/// Year, month, day, hour, minute, second and microsecond, UTC.
fn civil(us: i64) -> (i64, i64, i64, i64, i64, i64, i64) {
    let (seconds, rest) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March of year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    (year, month, day, second / 3_600, second / 60 % 60, second % 60, rest)
}

/// Microseconds since the Unix epoch as RFC 3339, UTC.
pub fn rfc3339(us: i64) -> String {
    let (year, month, day, hour, minute, second, rest) = civil(us);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:06}Z")
}

/// The same without what file systems and shells do not like; sorts by time.
pub(super) fn file_time(us: u64) -> String {
    let (year, month, day, hour, minute, second, rest) = civil(us.cast_signed());
    let rest = rest / 1_000;
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{rest:03}Z")
}

/// Reads RFC 3339 in UTC (`Z`), with or without a fraction: microseconds since the Unix epoch.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let text = text.strip_suffix(['Z', 'z'])?;
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let sound = (1..=9_999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second)
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !sound {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}")[..6].parse().ok()?;
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let of_year = (153 * m + 2) / 5 + day - 1;
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000_000 + micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::ring::{RECORD_BYTES, Ring, seal};
    use crate::flight::tests::{Dice, header};
    use model::limits;

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
        for wrong in ["", "2001-09-09", "2001-13-09T01:46:40Z", "2001-09-09T01:46:40", "x-y-zT::Z"]
        {
            assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
        }
    }
}
