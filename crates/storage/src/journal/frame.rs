//! The journal's bytes: file headers, record headers, and the assembly of one write.
//!
//! A file is two blocks of header (one copy each), then writes. A write starts on a block and
//! is padded to one; its records follow each other, each on a multiple of 8 bytes:
//!
//! ```text
//!  0 header crc u32   seeded by the file's key and this position, over bytes 4..64
//!  4 payload crc u32  same seed, over the payload
//!  8 payload len u32, 12 kind u8, 13 zero
//! 16 lsn u64, 24 group u64, 32 sequence of the group u64
//! 40 synced lsn u64   known when the write was made
//! 48 index u64, 56 term u64   of an entry, else 0
//! 64 payload, zeroes to a multiple of 8
//! ```
//! Little endian. Invariants: a record of another life of the file, or copied to another
//! place, does not check out; a file header fits one 512-byte sector, so it is old or new.

use bytes::{BufMut, Bytes, BytesMut};
use model::{GroupId, LogEntry, Lsn, limits};

use super::files::Run;

pub(super) const BLOCK: u64 = limits::JOURNAL_BLOCK_BYTES as u64;
/// Where the first write of a file lies.
pub(super) const DATA_START: u64 = 2 * BLOCK;
pub(super) const HEADER_BYTES: usize = 64;
/// The journal's own records (starts and marks) belong to no group.
pub(super) const OWN: GroupId = GroupId(0);

const FILE_MAGIC: &[u8; 8] = b"GLJOURN\0";
const FILE_VERSION: u32 = 1;
pub(super) const FILE_HEADER_BYTES: usize = 8 + 4 + 4 + 5 * 8;
/// Data shorter than this is copied beside its header instead of getting a vector of its own.
const COPY_BELOW: usize = 512;

/// What a record is. The number is written to disk: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// First record of a file: which run it belongs to and where the runs before were cut.
    Start = 1,
    /// An entry; truncates whatever lies at or above its index.
    Append = 2,
    /// An entry written forward; fills its index, never truncates.
    Moved = 3,
    HardState = 4,
    Birth = 5,
    Remove = 6,
    Suspect = 7,
    /// Last sequences of the groups that wrote since the mark before (or of all groups).
    Mark = 8,
    /// Truncates whatever lies at or above its index: a snapshot takes the log's place.
    Truncate = 9,
}

impl Kind {
    fn from_u8(value: u8) -> Option<Kind> {
        use Kind::*;
        [Start, Append, Moved, HardState, Birth, Remove, Suspect, Mark, Truncate]
            .into_iter()
            .find(|kind| *kind as u8 == value)
    }
}

/// One record's header, checksums aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    pub lsn: Lsn,
    pub group: GroupId,
    pub sequence: u64,
    pub synced_lsn: Lsn,
    pub index: u64,
    pub term: u64,
    pub payload_len: u32,
    pub payload_crc: u32,
}

fn seed(key: u64, at: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&key.to_le_bytes()), &at.to_le_bytes())
}

impl Header {
    /// Bytes from this record's start to the next one's.
    pub fn stride(&self) -> u64 {
        (HEADER_BYTES as u64 + u64::from(self.payload_len)).next_multiple_of(8)
    }

    /// True for the record that begins a group's life.
    pub fn is_first(&self) -> bool {
        self.kind == Kind::Birth && self.sequence == 1
    }

    fn encode(&self, key: u64, at: u64) -> [u8; HEADER_BYTES] {
        let mut out = [0u8; HEADER_BYTES];
        out[4..8].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        out[12] = self.kind as u8;
        let numbers =
            [self.lsn.0, self.group.0, self.sequence, self.synced_lsn.0, self.index, self.term];
        for (i, number) in numbers.into_iter().enumerate() {
            out[16 + 8 * i..24 + 8 * i].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(seed(key, at), &out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The record that starts at file position `at`; `None`: nothing of this life is here.
    ///
    /// # Panics
    /// When `bytes` is shorter than a header.
    pub fn parse(bytes: &[u8], key: u64, at: u64) -> Option<Header> {
        let kind = Kind::from_u8(bytes[12])?;
        let word = |i: usize| u32::from_le_bytes(bytes[i..i + 4].try_into().expect("4 bytes"));
        let number = |i: usize| u64::from_le_bytes(bytes[i..i + 8].try_into().expect("8 bytes"));
        let crc = crc32c::crc32c_append(seed(key, at), &bytes[4..HEADER_BYTES]);
        (crc == word(0)).then(|| Header {
            kind,
            lsn: Lsn(number(16)),
            group: GroupId(number(24)),
            sequence: number(32),
            synced_lsn: Lsn(number(40)),
            index: number(48),
            term: number(56),
            payload_len: word(8),
            payload_crc: word(4),
        })
    }

    /// True when `payload` is what was written behind this header.
    pub fn accepts(&self, payload: &[u8], key: u64, at: u64) -> bool {
        #[cfg(test)]
        if super::crash_test::planted::trust_payloads() {
            return true;
        }
        crc32c::crc32c_append(seed(key, at), payload) == self.payload_crc
    }
}

/// What stands at the head of each file, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub seq: u64,
    /// This life's random key.
    pub key: u64,
    pub bytes: u64,
    pub run: Run,
}

impl FileHeader {
    pub fn encode(&self) -> BytesMut {
        let mut rest = BytesMut::with_capacity(FILE_HEADER_BYTES);
        for number in [self.key, self.seq, self.bytes, self.run.first_lsn.0, self.run.cut_lsn.0] {
            rest.put_u64_le(number);
        }
        let mut out = BytesMut::with_capacity(FILE_HEADER_BYTES);
        out.put_slice(FILE_MAGIC);
        out.put_u32_le(FILE_VERSION);
        out.put_u32_le(crc32c::crc32c(&rest));
        out.put_slice(&rest);
        out
    }

    /// Both copies, as one write at the file's start.
    pub fn encode_copies(&self) -> Vec<Bytes> {
        let mut block = self.encode();
        block.resize(BLOCK as usize, 0);
        let block = block.freeze();
        vec![block.clone(), block]
    }

    /// The header in `bytes`; `Err` with the version found when it is not ours.
    pub fn parse(bytes: &[u8]) -> Result<Option<FileHeader>, u32> {
        if bytes.len() < FILE_HEADER_BYTES || &bytes[..8] != FILE_MAGIC {
            return Ok(None);
        }
        let number = |i: usize| u64::from_le_bytes(bytes[i..i + 8].try_into().expect("8 bytes"));
        let word = |i: usize| u32::from_le_bytes(bytes[i..i + 4].try_into().expect("4 bytes"));
        if crc32c::crc32c(&bytes[16..FILE_HEADER_BYTES]) != word(12) {
            return Ok(None);
        }
        if word(8) != FILE_VERSION {
            return Err(word(8));
        }
        let run = Run { first_lsn: Lsn(number(40)), cut_lsn: Lsn(number(48)) };
        Ok(Some(FileHeader { key: number(16), seq: number(24), bytes: number(32), run }))
    }

    pub fn version() -> u32 {
        FILE_VERSION
    }
}

/// Assembles the buffers of one write at a block of a file.
pub(super) struct WriteBuilder {
    key: u64,
    at: u64,
    len: u64,
    small: BytesMut,
    bufs: Vec<Bytes>,
    pub records: u64,
    pub payload_bytes: u64,
}

static ZEROES: [u8; BLOCK as usize] = [0; BLOCK as usize];

impl WriteBuilder {
    pub fn new(key: u64, at: u64) -> WriteBuilder {
        assert!(at.is_multiple_of(BLOCK), "a write starts on a block, not at {at}");
        WriteBuilder {
            key,
            at,
            len: 0,
            small: BytesMut::with_capacity(BLOCK as usize),
            bufs: Vec::new(),
            records: 0,
            payload_bytes: 0,
        }
    }

    /// Bytes so far, padding of the last block not included.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Adds a record whose payload is `front` followed by `data`. The header's payload fields
    /// are filled in here.
    pub fn push(&mut self, mut header: Header, front: &[&[u8]], data: &Bytes) {
        let at = self.at + self.len;
        let payload_len = front.iter().map(|part| part.len()).sum::<usize>() + data.len();
        header.payload_len = u32::try_from(payload_len).expect("a record fits its file");
        let crc =
            front.iter().fold(seed(self.key, at), |crc, part| crc32c::crc32c_append(crc, part));
        header.payload_crc = crc32c::crc32c_append(crc, data);
        self.small.put_slice(&header.encode(self.key, at));
        for part in front {
            self.small.put_slice(part);
        }
        if data.len() < COPY_BELOW {
            self.small.put_slice(data);
        } else {
            self.bufs.push(self.small.split().freeze());
            self.bufs.push(data.clone());
        }
        let padding = header.stride() as usize - HEADER_BYTES - payload_len;
        self.small.put_bytes(0, padding);
        self.len += header.stride();
        self.records += 1;
        self.payload_bytes += payload_len as u64;
    }

    /// The buffers, padded to a block, and their length together.
    pub fn finish(mut self) -> (Vec<Bytes>, u64) {
        if !self.small.is_empty() {
            self.bufs.push(self.small.freeze());
        }
        let padded = self.len.next_multiple_of(BLOCK);
        if padded > self.len {
            self.bufs.push(Bytes::from_static(&ZEROES[..(padded - self.len) as usize]));
        }
        (self.bufs, padded)
    }
}

/// What an entry's payload adds to its data.
pub(super) const ENTRY_FRONT_BYTES: usize = 2;

/// The file bytes an entry takes, header and padding included.
pub(super) fn entry_stride(entry: &LogEntry) -> u64 {
    let len = HEADER_BYTES + ENTRY_FRONT_BYTES + entry.context.len() + entry.data.len();
    (len as u64).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: Kind) -> Header {
        Header {
            kind,
            lsn: Lsn(9),
            group: GroupId(3),
            sequence: 4,
            synced_lsn: Lsn(8),
            index: 11,
            term: 2,
            payload_len: 0,
            payload_crc: 0,
        }
    }

    fn flat(bufs: &[Bytes]) -> Vec<u8> {
        bufs.iter().flat_map(|buf| buf.iter().copied()).collect()
    }

    #[test]
    fn a_record_reads_back_only_in_its_own_life_and_place() {
        let mut builder = WriteBuilder::new(77, DATA_START);
        let data = Bytes::from(vec![5u8; 700]);
        builder.push(header(Kind::Append), &[&[0, 1]], &data);
        builder.push(header(Kind::HardState), &[&[7; 24]], &Bytes::new());
        let (bufs, len) = builder.finish();
        let bytes = flat(&bufs);
        assert_eq!((bytes.len() as u64, len), (BLOCK, BLOCK));
        let first = Header::parse(&bytes, 77, DATA_START).expect("written just now");
        assert_eq!((first.index, first.payload_len), (11, 702));
        assert!(first.accepts(&bytes[64..64 + 702], 77, DATA_START));
        assert!(!first.accepts(&bytes[65..65 + 702], 77, DATA_START));
        let second = first.stride();
        assert!(Header::parse(&bytes[second as usize..], 77, DATA_START + second).is_some());
        assert_eq!(Header::parse(&bytes, 78, DATA_START), None, "another life");
        assert_eq!(Header::parse(&bytes, 77, DATA_START + BLOCK), None, "another place");
    }

    /// Failure F0's second cause: bytes of one kind were read as another.
    #[test]
    fn a_record_is_never_read_as_one_of_another_kind() {
        let mut builder = WriteBuilder::new(1, DATA_START);
        builder.push(header(Kind::HardState), &[&[1; 24]], &Bytes::new());
        let mut bytes = flat(&builder.finish().0);
        for kind in (0..=u8::MAX).filter(|kind| *kind != Kind::HardState as u8) {
            bytes[12] = kind;
            assert_eq!(Header::parse(&bytes, 1, DATA_START), None, "kind {kind}");
        }
        bytes[12] = Kind::HardState as u8;
        let found = Header::parse(&bytes, 1, DATA_START).map(|found| found.kind);
        assert_eq!(found, Some(Kind::HardState));
    }

    #[test]
    fn every_flipped_header_bit_is_noticed() {
        let mut builder = WriteBuilder::new(1, DATA_START);
        builder.push(header(Kind::Append), &[&[0, 0]], &Bytes::from_static(b"abc"));
        let mut bytes = flat(&builder.finish().0);
        for bit in 0..HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&bytes, 1, DATA_START), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_file_header_reads_back_and_names_a_foreign_version() {
        let run = Run { first_lsn: Lsn(12), cut_lsn: Lsn(10) };
        let header = FileHeader { seq: 4, key: 99, bytes: 1 << 16, run };
        let mut bytes = header.encode();
        assert!(bytes.len() <= 512);
        assert_eq!(FileHeader::parse(&bytes), Ok(Some(header)));
        assert_eq!(FileHeader::parse(&bytes[..20]), Ok(None));
        bytes[8] = 2;
        assert_eq!(FileHeader::parse(&bytes), Err(2));
        bytes[8] = 1;
        bytes[20] ^= 1;
        assert_eq!(FileHeader::parse(&bytes), Ok(None));
    }
}
