//! The reader half: an immutable view of a group's segments.
//!
//! Invariants: nothing here writes or waits; a view holds its files, so they can be read for
//! as long as it lives; bytes beyond the view's marks are never read; entries are handed to a
//! follower only after their batch's checksum and the rolling prefix were compared.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use model::{LogEntry, limits};

use super::TimestampHit;
use super::batch::BATCH_HEADER_BYTES;
use super::position::{SegmentMark, SegmentPosition, TermStart};
use super::sidecar::{Coarse, Place, SideReader, SideRecord};
use super::walk::{LogReader, rebuild};
use crate::disk::{FileHandle, ReadAt};
use crate::error::StorageError;

/// A segment's two files; counted, so that they are removed only when nobody reads them.
#[derive(Debug)]
pub(super) struct Files {
    pub log: FileHandle,
    pub side: FileHandle,
}

/// One segment as of some point.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub files: Arc<Files>,
    pub mark: SegmentMark,
    /// The part of the sidecar that was there at start: looked through when first needed.
    pub old_side_bytes: u64,
    pub old: Arc<OnceLock<Vec<Coarse>>>,
    /// Places written since.
    pub fresh: Arc<Vec<Coarse>>,
}

/// One segment, for retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    pub base_index: u64,
    pub base_offset: i64,
    pub next_offset: i64,
    pub log_bytes: u64,
    pub side_bytes: u64,
    /// Milliseconds, -1 when no batch carries one.
    pub max_timestamp: i64,
}

/// An immutable view.
#[derive(Clone, Debug)]
pub struct SegmentList {
    pub(super) sealed: Arc<Vec<Segment>>,
    pub(super) active: Option<Segment>,
    pub(super) last_index: u64,
    pub(super) next_offset: i64,
    pub(super) log_start_offset: i64,
    pub(super) start_index: u64,
    pub(super) terms: Arc<Vec<TermStart>>,
}

impl SegmentList {
    /// Whole batches from the one that contains `offset`, below `up_to_offset` (exclusive): the
    /// first one however large, then as many as fit `max_bytes` (KIP-74). Each element is a run
    /// of batches back to back. `offset` must lie in `log_start_offset()..=next_offset()`.
    pub fn read(
        &self,
        reader: &dyn ReadAt,
        offset: i64,
        max_bytes: usize,
        up_to_offset: i64,
    ) -> Result<Vec<Bytes>, StorageError> {
        self.check_offset(offset)?;
        let mut runs: Vec<Bytes> = Vec::new();
        let mut left = max_bytes;
        let mut next = offset;
        for segment in self.segments_from(|mark| mark.next_offset <= offset) {
            if next >= up_to_offset || (left == 0 && !runs.is_empty()) {
                break;
            }
            let (run, whole) =
                segment.read_run(reader, next, left, up_to_offset, runs.is_empty())?;
            left = left.saturating_sub(run.len());
            next = segment.mark.next_offset;
            runs.extend((!run.is_empty()).then_some(run));
            if !whole {
                break;
            }
        }
        Ok(runs)
    }

    fn check_offset(&self, offset: i64) -> Result<(), StorageError> {
        let wanted = offset.max(0) as u64;
        if offset < self.log_start_offset {
            return Err(StorageError::BelowStart { wanted, start: self.log_start_offset as u64 });
        }
        if offset > self.next_offset {
            return Err(StorageError::AboveEnd { wanted, end: self.next_offset as u64 });
        }
        Ok(())
    }

    /// The raft log again: entries `lo..hi` (exclusive), at least one, then as many as fit
    /// `max_bytes`. Errors below `first_index()` and above `last_index()`.
    pub fn entries(
        &self,
        reader: &dyn ReadAt,
        lo: u64,
        hi: u64,
        max_bytes: u64,
    ) -> Result<Vec<LogEntry>, StorageError> {
        if lo <= self.start_index {
            return Err(StorageError::BelowStart { wanted: lo, start: self.start_index + 1 });
        }
        if hi > self.last_index + 1 {
            return Err(StorageError::AboveEnd { wanted: hi - 1, end: self.last_index });
        }
        let mut entries: Vec<LogEntry> = Vec::new();
        let (mut next, mut left) = (lo, max_bytes);
        for segment in self.segments_from(|mark| mark.last_index < lo) {
            if next >= hi || (left == 0 && !entries.is_empty()) {
                break;
            }
            let end = hi.min(segment.mark.last_index + 1);
            let first = entries.is_empty();
            let found = rebuild(segment, reader, next..end, left, first)?;
            // A batch's checksum does not cover its epoch; the term index does.
            if found.iter().any(|entry| self.term(entry.index) != Some(entry.term)) {
                let path = segment.files.log.path().clone();
                return Err(StorageError::Damaged { path, what: "a batch's epoch" });
            }
            let stopped_early = found.len() < (end - next) as usize;
            next += found.len() as u64;
            left = left.saturating_sub(found.iter().map(|entry| entry.weight() as u64).sum());
            entries.extend(found);
            if stopped_early {
                break;
            }
        }
        Ok(entries)
    }

    /// The first retained batch whose newest record is not older than `timestamp`.
    pub fn offset_for_timestamp(
        &self,
        reader: &dyn ReadAt,
        timestamp: i64,
    ) -> Result<Option<TimestampHit>, StorageError> {
        for segment in self.all().filter(|segment| segment.mark.max_timestamp >= timestamp) {
            let hit = segment.first_not_older(reader, timestamp, self.log_start_offset)?;
            if hit.is_some() {
                return Ok(hit);
            }
        }
        Ok(None)
    }

    /// OffsetForLeaderEpoch (KIP-101, KIP-279): the newest epoch at or below `epoch`, and where
    /// the next one starts. `None` below the retained log.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let wanted = u64::try_from(epoch).ok()?;
        let next = self.terms.partition_point(|start| start.term <= wanted);
        let found = self.terms.get(next.checked_sub(1)?)?;
        let end = self.terms.get(next).map_or(self.next_offset, |start| start.start_offset);
        Some((i32::try_from(found.term).ok()?, end))
    }

    /// The term of a retained index, and of the one just below the retained log.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index < self.start_index || index > self.last_index {
            return None;
        }
        if index == 0 {
            return Some(0);
        }
        let next = self.terms.partition_point(|start| start.first_index <= index);
        Some(self.terms.get(next.checked_sub(1)?)?.term)
    }

    pub fn first_index(&self) -> u64 {
        self.start_index + 1
    }

    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// The offset the next batch will have.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Bytes of all batches and sidecars.
    pub fn bytes(&self) -> u64 {
        self.all().map(|segment| segment.mark.log_bytes + segment.mark.side_bytes).sum()
    }

    /// (first index, term), rising: what `GroupCheckpoint::term_starts` wants.
    pub fn term_starts(&self) -> Vec<(u64, u64)> {
        self.terms.iter().map(|start| (start.first_index, start.term)).collect()
    }

    /// Oldest first; the last one is being written.
    pub fn segments(&self) -> Vec<SegmentSummary> {
        let summary = |segment: &Segment| SegmentSummary {
            base_index: segment.mark.base_index,
            base_offset: segment.mark.base_offset,
            next_offset: segment.mark.next_offset,
            log_bytes: segment.mark.log_bytes,
            side_bytes: segment.mark.side_bytes,
            max_timestamp: segment.mark.max_timestamp,
        };
        self.all().map(summary).collect()
    }

    /// Files that are not empty and how far this view reaches into them, in the order of
    /// [`SegmentPosition::file_names`].
    pub(crate) fn files(&self) -> Vec<(&FileHandle, u64)> {
        let mut files = Vec::new();
        for segment in self.all() {
            files.push((&segment.files.log, segment.mark.log_bytes));
            files.push((&segment.files.side, segment.mark.side_bytes));
        }
        files.retain(|(_, bytes)| *bytes > 0);
        files
    }

    fn all(&self) -> impl Iterator<Item = &Segment> {
        self.sealed.iter().chain(&self.active)
    }

    /// From the first segment on that is not wholly `before`.
    fn segments_from(
        &self,
        before: impl Fn(&SegmentMark) -> bool,
    ) -> impl Iterator<Item = &Segment> {
        let first = self.sealed.partition_point(|segment| before(&segment.mark));
        let active = self.active.iter().filter(move |segment| !before(&segment.mark));
        self.sealed[first..].iter().chain(active)
    }
}

impl Segment {
    /// A segment as a checkpoint knows it.
    pub fn recovered(files: Files, mark: SegmentMark) -> Segment {
        Segment {
            files: Arc::new(files),
            old_side_bytes: mark.side_bytes,
            mark,
            old: Arc::default(),
            fresh: Arc::default(),
        }
    }

    /// The last place kept in memory that `is_before` what is sought; the segment's start
    /// when none is.
    fn coarse(
        &self,
        reader: &dyn ReadAt,
        is_before: impl Fn(&Place) -> bool,
    ) -> Result<Coarse, StorageError> {
        let last = |places: &[Coarse]| {
            let next = places.partition_point(|coarse| is_before(&coarse.place));
            next.checked_sub(1).map(|i| places[i])
        };
        if let Some(found) = last(&self.fresh) {
            return Ok(found);
        }
        let start = Coarse { place: self.base(), side_position: 0 };
        if self.old_side_bytes == 0 {
            return Ok(start);
        }
        let old = match self.old.get() {
            Some(old) => old,
            None => {
                let places = self.look_through(reader)?;
                self.old.get_or_init(|| places)
            }
        };
        Ok(last(old).unwrap_or(start))
    }

    /// Places worth keeping of the sidecar that was there at start.
    fn look_through(&self, reader: &dyn ReadAt) -> Result<Vec<Coarse>, StorageError> {
        let mut side = SideReader::new(reader, &self.files.side, 0, self.old_side_bytes);
        let mut places: Vec<Coarse> = Vec::new();
        loop {
            let side_position = side.position();
            let Some(record) = side.next()? else { return Ok(places) };
            if Coarse::is_due(places.last(), record.place(), side_position) {
                places.push(Coarse { place: *record.place(), side_position });
            }
        }
    }

    /// Before its first entry.
    fn base(&self) -> Place {
        Place {
            index: self.mark.base_index,
            offset: self.mark.base_offset,
            position: 0,
            max_timestamp: -1,
            prefix: self.mark.base_prefix,
        }
    }

    /// The last recorded place that `is_before` what is sought, and the sidecar's records from
    /// there on.
    pub fn seek<'a>(
        &'a self,
        reader: &'a dyn ReadAt,
        is_before: impl Fn(&Place) -> bool,
    ) -> Result<(Place, Option<SideRecord>, SideReader<'a>), StorageError> {
        let coarse = self.coarse(reader, &is_before)?;
        let end = self.mark.side_bytes;
        let mut side = SideReader::new(reader, &self.files.side, coarse.side_position, end);
        let mut here = (coarse.place, None);
        let mut behind = coarse.side_position;
        while let Some(record) = side.next()?.filter(|record| is_before(record.place())) {
            here = (*record.place(), Some(record));
            behind = side.position();
        }
        Ok((here.0, here.1, SideReader::new(reader, &self.files.side, behind, end)))
    }

    /// One run of batches for a fetch, and whether it ends where the segment does.
    fn read_run(
        &self,
        reader: &dyn ReadAt,
        offset: i64,
        max_bytes: usize,
        up_to_offset: i64,
        at_least_one: bool,
    ) -> Result<(Bytes, bool), StorageError> {
        let (place, _, _) = self.seek(reader, |place| place.offset <= offset)?;
        let ahead = max_bytes.saturating_add(limits::SIDECAR_STRIDE_BYTES as usize);
        let mut log = LogReader::new(reader, self, place.position, ahead);
        let mut header = log.header()?;
        while header.is_some_and(|header| header.last_offset < offset) {
            log.skip(header.expect("checked by the loop").bytes)?;
            header = log.header()?;
        }
        let from = log.position();
        let mut run: Range<u64> = from..from;
        while let Some(next) = header.filter(|header| header.base_offset < up_to_offset) {
            let bytes = run.end - run.start + next.bytes as u64;
            let first = run.is_empty() && at_least_one;
            if bytes > max_bytes as u64 && !first {
                break;
            }
            run.end += next.bytes as u64;
            log.skip(next.bytes)?;
            header = if bytes >= max_bytes as u64 { None } else { log.header()? };
        }
        let whole = run.end == self.mark.log_bytes;
        Ok((log.slice(run)?, whole))
    }

    fn first_not_older(
        &self,
        reader: &dyn ReadAt,
        timestamp: i64,
        log_start_offset: i64,
    ) -> Result<Option<TimestampHit>, StorageError> {
        let (place, _, _) = self.seek(reader, |place| place.max_timestamp < timestamp)?;
        let mut log = LogReader::new(reader, self, place.position, 64 << 10);
        while let Some(header) = log.header()? {
            let from = log.position();
            if header.max_timestamp >= timestamp && header.last_offset >= log_start_offset {
                let batch = log.slice(from..from + header.bytes as u64)?;
                return Ok(Some(TimestampHit {
                    base_offset: header.base_offset,
                    last_offset: header.last_offset,
                    max_timestamp: header.max_timestamp,
                    leader_epoch: header.leader_epoch,
                    batch,
                }));
            }
            log.skip(header.bytes)?;
        }
        Ok(None)
    }
}

impl SegmentPosition {
    /// The view of a log that stands here and has no files.
    pub(super) fn empty_view(&self) -> SegmentList {
        SegmentList {
            sealed: Arc::default(),
            active: None,
            last_index: self.last_index,
            next_offset: self.next_offset,
            log_start_offset: self.log_start_offset,
            start_index: self.start_index,
            terms: Arc::new(self.terms.clone()),
        }
    }
}

const _: () = assert!(BATCH_HEADER_BYTES <= limits::SIDECAR_STRIDE_BYTES as usize);
