//! The sidecar of a segment: sparse points into it, and each entry that is no batch, in full.
//!
//! A record is crc u32 (over all that follows), payload length u32, kind u8, then the place it
//! stands at: index u64, offset i64, position u64, max timestamp i64, prefix u32, all as they
//! are *before* the entry; then term u64 and, for an entry, its type, context and data. Little
//! endian. Invariants: records rise by index; between two of them lie only batches.

use bytes::{BufMut, Bytes, BytesMut};
use model::{EntryKind, LogEntry, PrefixChecksum, RaftEntryType};

use crate::codec::{Fields, put_bytes};
use crate::disk::{FileHandle, ReadAt};
use crate::error::StorageError;

/// Where an entry stands in a segment: everything as it is before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub index: u64,
    pub offset: i64,
    /// Bytes of batches before it in this segment.
    pub position: u64,
    /// Newest record before it in this segment, -1 for none.
    pub max_timestamp: i64,
    pub prefix: PrefixChecksum,
}

/// One record of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SideRecord {
    /// At this place stands a batch.
    Point(Place, u64),
    /// At this place stands this entry, which is no batch.
    Entry(Place, LogEntry),
}

impl SideRecord {
    pub fn place(&self) -> &Place {
        match self {
            SideRecord::Point(place, _) | SideRecord::Entry(place, _) => place,
        }
    }
}

/// A place that is kept in memory, and its record's position in the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coarse {
    pub place: Place,
    pub side_position: u64,
}

/// Distance between two places kept in memory, in bytes of batches or of sidecar.
const COARSE_LOG_BYTES: u64 = 1 << 20;
const COARSE_SIDE_BYTES: u64 = 64 << 10;

impl Coarse {
    /// True when a record at `place` should be kept in memory after `last`.
    pub fn is_due(last: Option<&Coarse>, place: &Place, side_position: u64) -> bool {
        last.is_none_or(|last| {
            place.position - last.place.position >= COARSE_LOG_BYTES
                || side_position - last.side_position >= COARSE_SIDE_BYTES
        })
    }
}

const HEADER_BYTES: usize = 9;
const PLACE_BYTES: usize = 36;
const POINT: u8 = 1;
const ENTRY: u8 = 2;

pub(super) fn encode(out: &mut BytesMut, record: &SideRecord) {
    let mut payload = BytesMut::new();
    let place = record.place();
    payload.put_u64_le(place.index);
    payload.put_i64_le(place.offset);
    payload.put_u64_le(place.position);
    payload.put_i64_le(place.max_timestamp);
    payload.put_u32_le(place.prefix.0);
    let kind = match record {
        SideRecord::Point(_, term) => {
            payload.put_u64_le(*term);
            POINT
        }
        SideRecord::Entry(_, entry) => {
            payload.put_u64_le(entry.term);
            payload.put_u8(entry.entry_type as u8);
            put_bytes(&mut payload, &entry.context);
            put_bytes(&mut payload, &entry.data);
            ENTRY
        }
    };
    let length = u32::try_from(payload.len()).expect("an entry fits 32 bits").to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), &[kind]);
    out.put_u32_le(crc32c::crc32c_append(crc, &payload));
    out.put_slice(&length);
    out.put_u8(kind);
    out.put_slice(&payload);
}

/// The record at the front of `bytes` and its length; `Err` with the bytes that are needed
/// when there are not enough; `None` when it is damaged.
fn decode(bytes: &Bytes) -> Result<Option<(SideRecord, usize)>, usize> {
    if bytes.len() < HEADER_BYTES {
        return Err(HEADER_BYTES);
    }
    let crc = u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"));
    let length = u32::from_le_bytes(bytes[4..8].try_into().expect("4 bytes")) as usize;
    let whole = HEADER_BYTES + length;
    if bytes.len() < whole {
        return Err(whole);
    }
    if crc32c::crc32c(&bytes[4..whole]) != crc {
        return Ok(None);
    }
    let fields = Fields::new(bytes.slice(HEADER_BYTES..whole));
    Ok(decode_payload(bytes[8], fields).map(|record| (record, whole)))
}

fn decode_payload(kind: u8, mut fields: Fields) -> Option<SideRecord> {
    let place = Place {
        index: fields.u64()?,
        offset: fields.i64()?,
        position: fields.u64()?,
        max_timestamp: fields.i64()?,
        prefix: PrefixChecksum(fields.u32()?),
    };
    let term = fields.u64()?;
    match kind {
        POINT => fields.is_empty().then_some(SideRecord::Point(place, term)),
        ENTRY => {
            let entry_type = RaftEntryType::from_u8(fields.u8()?)?;
            let (context, data) = (fields.bytes()?, fields.bytes()?);
            let entry = LogEntry { index: place.index, term, entry_type, context, data };
            fields.is_empty().then_some(SideRecord::Entry(place, entry))
        }
        _ => None,
    }
}

/// Bytes of sidecar read at a time.
const READ_BYTES: usize = COARSE_SIDE_BYTES as usize;

/// Reads records one after the other.
pub(super) struct SideReader<'a> {
    reader: &'a dyn ReadAt,
    file: &'a FileHandle,
    /// Position of the front of `buffer`, and where the sidecar ends.
    at: u64,
    end: u64,
    buffer: Bytes,
}

impl<'a> SideReader<'a> {
    pub fn new(reader: &'a dyn ReadAt, file: &'a FileHandle, at: u64, end: u64) -> Self {
        SideReader { reader, file, at, end, buffer: Bytes::new() }
    }

    /// Position of the next record.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next record; `None` at the end.
    pub fn next(&mut self) -> Result<Option<SideRecord>, StorageError> {
        if self.at >= self.end {
            return Ok(None);
        }
        loop {
            match decode(&self.buffer) {
                Ok(Some((record, len))) => {
                    self.buffer = self.buffer.slice(len..);
                    self.at += len as u64;
                    return Ok(Some(record));
                }
                Ok(None) => return Err(self.damaged("a sidecar record's checksum")),
                Err(need) => self.fill(need)?,
            }
        }
    }

    fn fill(&mut self, need: usize) -> Result<(), StorageError> {
        let rest = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        if need > rest {
            return Err(self.damaged("a sidecar record's length"));
        }
        self.buffer = self.reader.read_at(self.file, self.at, need.max(READ_BYTES).min(rest))?;
        if self.buffer.len() < need {
            return Err(self.damaged("the sidecar's end"));
        }
        Ok(())
    }

    fn damaged(&self, what: &'static str) -> StorageError {
        StorageError::Damaged { path: self.file.path().clone(), what }
    }
}

/// The prefix checksum after an entry.
pub(super) fn chain(prefix: PrefixChecksum, kind: EntryKind, data: &[u8]) -> PrefixChecksum {
    if kind == EntryKind::Raft {
        return prefix;
    }
    PrefixChecksum(crc32c::crc32c_append(crc32c::crc32c_append(prefix.0, &[kind as u8]), data))
}

const _: () = assert!(PLACE_BYTES == 8 + 8 + 8 + 8 + 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_and_damage_is_noticed() {
        let place = Place { index: 7, offset: 3, position: 99, ..Place::default() };
        let entry = LogEntry {
            index: 7,
            term: 2,
            entry_type: RaftEntryType::ConfChangeV2,
            context: Bytes::new(),
            data: Bytes::from_static(b"change"),
        };
        let records = [SideRecord::Entry(place, entry), SideRecord::Point(place, 5)];
        let mut out = BytesMut::new();
        records.iter().for_each(|record| encode(&mut out, record));
        let bytes = out.clone().freeze();
        let (first, len) = decode(&bytes).expect("enough bytes").expect("sound");
        let (second, rest) = decode(&bytes.slice(len..)).expect("enough bytes").expect("sound");
        assert_eq!((&[first, second], len + rest), (&records, bytes.len()));
        for byte in 0..len {
            let mut bad = out.clone();
            bad[byte] ^= 4;
            // A flipped length either asks for more or fails the checksum.
            assert!(!matches!(decode(&bad.freeze()), Ok(Some(_))), "byte {byte}");
        }
    }
}
