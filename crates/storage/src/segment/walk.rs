//! Walking through a segment's bytes: headers, slices, and the raft log rebuilt from batches
//! and sidecar.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use model::{EntryKind, LogEntry, RaftEntryType};

use super::batch::{BATCH_HEADER_BYTES, BatchHeader};
use super::list::Segment;
use super::sidecar::{Place, SideReader, SideRecord, chain};
use crate::disk::ReadAt;
use crate::error::StorageError;

/// Reads batches one after the other, in few and large reads.
pub(super) struct LogReader<'a> {
    reader: &'a dyn ReadAt,
    segment: &'a Segment,
    /// Position of the next batch.
    at: u64,
    /// Position of the front of `buffer`.
    buffer_at: u64,
    buffer: Bytes,
    ahead: usize,
}

impl<'a> LogReader<'a> {
    /// From position `at`, reading up to `ahead` bytes at a time.
    pub fn new(reader: &'a dyn ReadAt, segment: &'a Segment, at: u64, ahead: usize) -> Self {
        LogReader { reader, segment, at, buffer_at: at, buffer: Bytes::new(), ahead }
    }

    pub fn position(&self) -> u64 {
        self.at
    }

    /// The header of the next batch; `None` at the segment's end.
    pub fn header(&mut self) -> Result<Option<BatchHeader>, StorageError> {
        let end = self.segment.mark.log_bytes;
        if self.at >= end {
            return Ok(None);
        }
        let bytes = self.load(self.at..self.at + BATCH_HEADER_BYTES as u64)?;
        let header = BatchHeader::parse(&bytes).ok_or_else(|| self.damaged("a batch's header"))?;
        if self.at + header.bytes as u64 > end {
            return Err(self.damaged("a batch's length"));
        }
        Ok(Some(header))
    }

    pub fn skip(&mut self, bytes: usize) -> Result<(), StorageError> {
        self.at += bytes as u64;
        if self.at > self.segment.mark.log_bytes {
            return Err(self.damaged("a batch's length"));
        }
        Ok(())
    }

    /// The bytes of a range that lies before the current position or at it.
    pub fn slice(&mut self, range: Range<u64>) -> Result<Bytes, StorageError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.load(range)
    }

    /// Makes `range` available, out of the buffer where it is there.
    fn load(&mut self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let have = self.buffer_at..self.buffer_at + self.buffer.len() as u64;
        let len = (range.end - range.start) as usize;
        if range.start >= have.start && range.end <= have.end {
            let from = (range.start - have.start) as usize;
            return Ok(self.buffer.slice(from..from + len));
        }
        let end = self.segment.mark.log_bytes;
        if range.end > end {
            return Err(self.damaged("a batch's length"));
        }
        // What is there already is not read again.
        let mut joined = BytesMut::new();
        if range.start >= have.start && range.start < have.end {
            joined.extend_from_slice(&self.buffer[(range.start - have.start) as usize..]);
        }
        let from = range.start + joined.len() as u64;
        let need = len - joined.len();
        let rest = usize::try_from(end - from).unwrap_or(usize::MAX);
        let read =
            self.reader.read_at(&self.segment.files.log, from, need.max(self.ahead).min(rest))?;
        if read.len() < need {
            return Err(self.damaged("the segment's end"));
        }
        self.buffer = if joined.is_empty() {
            read
        } else {
            joined.extend_from_slice(&read);
            joined.freeze()
        };
        self.buffer_at = range.start;
        Ok(self.buffer.slice(..len))
    }

    fn damaged(&self, what: &'static str) -> StorageError {
        StorageError::Damaged { path: self.segment.files.log.path().clone(), what }
    }
}

/// Bytes read at a time while rebuilding.
const REBUILD_AHEAD: usize = 256 << 10;

/// The entries `wanted` of one segment, as many as fit `max_bytes`; the first however large
/// if `at_least_one`.
pub(super) fn rebuild(
    segment: &Segment,
    reader: &dyn ReadAt,
    wanted: Range<u64>,
    max_bytes: u64,
    at_least_one: bool,
) -> Result<Vec<LogEntry>, StorageError> {
    let (place, record, side) = segment.seek(reader, |place| place.index <= wanted.start)?;
    let ahead = REBUILD_AHEAD.min(usize::try_from(max_bytes).unwrap_or(REBUILD_AHEAD)).max(4096);
    let log = LogReader::new(reader, segment, place.position, ahead);
    let mut walk = Walk { segment, place, pending: record, side, log };
    walk.refill()?;
    let mut entries = Vec::new();
    let mut bytes = 0u64;
    while walk.place.index < wanted.end {
        let index = walk.place.index;
        let entry = walk.step()?;
        if index < wanted.start {
            continue;
        }
        bytes += entry.weight() as u64;
        if bytes > max_bytes && !(entries.is_empty() && at_least_one) {
            break;
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// One entry after the other, out of batches and sidecar.
struct Walk<'a> {
    segment: &'a Segment,
    place: Place,
    /// The next record of the sidecar.
    pending: Option<SideRecord>,
    side: SideReader<'a>,
    log: LogReader<'a>,
}

impl Walk<'_> {
    /// Reads sidecar records until one lies at or above the current place.
    fn refill(&mut self) -> Result<(), StorageError> {
        while self.pending.as_ref().is_none_or(|record| record.place().index < self.place.index) {
            self.pending = self.side.next()?;
            if self.pending.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<LogEntry, StorageError> {
        let here = self.pending.as_ref().filter(|it| it.place().index == self.place.index);
        let entry = match here.cloned() {
            Some(record) => {
                self.compare(record.place())?;
                match record {
                    SideRecord::Entry(_, entry) => self.step_entry(entry)?,
                    SideRecord::Point(..) => self.step_batch()?,
                }
            }
            None => self.step_batch()?,
        };
        self.place.index += 1;
        self.refill()?;
        Ok(entry)
    }

    /// The sidecar's word against what was computed on the way.
    fn compare(&self, place: &Place) -> Result<(), StorageError> {
        let same = (place.offset, place.position, place.prefix)
            == (self.place.offset, self.place.position, self.place.prefix);
        if same { Ok(()) } else { Err(self.damaged("the prefix checksum")) }
    }

    fn step_entry(&mut self, entry: LogEntry) -> Result<LogEntry, StorageError> {
        let (kind, sum) = entry.kind().ok_or_else(|| self.damaged("an entry's context"))?;
        let prefix = chain(self.place.prefix, kind, &entry.data);
        if sum.is_some_and(|sum| sum != prefix) {
            return Err(self.damaged("the prefix checksum"));
        }
        self.place.prefix = prefix;
        Ok(entry)
    }

    fn step_batch(&mut self) -> Result<LogEntry, StorageError> {
        let header = self.log.header()?.ok_or_else(|| self.damaged("a missing batch"))?;
        let from = self.log.position();
        let data = self.log.slice(from..from + header.bytes as u64)?;
        if header.base_offset != self.place.offset || !header.accepts(&data) {
            return Err(self.damaged("a batch's checksum"));
        }
        self.log.skip(header.bytes)?;
        self.place.offset = header.last_offset + 1;
        self.place.position += header.bytes as u64;
        self.place.prefix = chain(self.place.prefix, EntryKind::Batch, &data);
        let term =
            u64::try_from(header.leader_epoch).map_err(|_| self.damaged("a batch's epoch"))?;
        Ok(LogEntry {
            index: self.place.index,
            term,
            entry_type: RaftEntryType::Normal,
            context: LogEntry::encode_context(EntryKind::Batch, self.place.prefix),
            data,
        })
    }

    fn damaged(&self, what: &'static str) -> StorageError {
        StorageError::Damaged { path: self.segment.files.log.path().clone(), what }
    }
}
