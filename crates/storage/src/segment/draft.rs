//! What one write will add to one segment, before anything of it is true.
//!
//! Invariant: entries follow upon each other without a gap, in index, offset and term; anything
//! else is a broken promise of whoever committed them, and panics.

use bytes::{Bytes, BytesMut};
use model::{EntryKind, PrefixChecksum, limits};

use super::SegmentEntry;
use super::batch::BatchHeader;
use super::list::Segment;
use super::position::{SegmentMark, TermStart};
use super::sidecar::{Coarse, Place, SideRecord, encode};

/// What one write adds to one segment.
pub(super) struct Draft {
    /// As it is on the disk.
    pub segment: Segment,
    /// As it will be.
    pub mark: SegmentMark,
    pub log: Vec<Bytes>,
    pub side: BytesMut,
    pub prefix: PrefixChecksum,
    pub since_point: u64,
    pub terms: Vec<TermStart>,
    pub places: Vec<Coarse>,
}

impl Draft {
    pub fn push(&mut self, next: &SegmentEntry, last_term: Option<&TermStart>) {
        let entry = &next.entry;
        assert_eq!(entry.index, self.mark.last_index + 1, "an index is missing");
        let place = Place {
            index: entry.index,
            offset: self.mark.next_offset,
            position: self.mark.log_bytes,
            max_timestamp: self.mark.max_timestamp,
            prefix: self.prefix,
        };
        let last_term = self.terms.last().or(last_term).map_or(0, |start| start.term);
        if entry.term != last_term {
            assert!(entry.term > last_term, "terms rise");
            let (first_index, start_offset) = (entry.index, self.mark.next_offset);
            self.terms.push(TermStart { first_index, term: entry.term, start_offset });
        }
        if next.kind == EntryKind::Batch {
            if self.since_point >= limits::SIDECAR_STRIDE_BYTES {
                self.push_side(&SideRecord::Point(place, entry.term));
                self.since_point = 0;
            }
            self.push_batch(next);
        } else {
            self.push_side(&SideRecord::Entry(place, entry.clone()));
        }
        let (kind, sum) = entry.kind().expect("a committed entry has a context of ours");
        assert_eq!(kind, next.kind, "an entry is what its context says");
        self.prefix = sum.unwrap_or(self.prefix);
        self.mark.last_index = entry.index;
    }

    fn push_side(&mut self, record: &SideRecord) {
        let last = self.places.last().or(self.segment.fresh.last());
        let (place, side_position) = (*record.place(), self.mark.side_bytes);
        if Coarse::is_due(last, &place, side_position) {
            self.places.push(Coarse { place, side_position });
        }
        let before = self.side.len();
        encode(&mut self.side, record);
        self.mark.side_bytes += (self.side.len() - before) as u64;
    }

    fn push_batch(&mut self, next: &SegmentEntry) {
        let data = &next.entry.data;
        let header = BatchHeader::parse(data).expect("a committed batch has a header");
        assert_eq!(header.bytes, data.len(), "an entry is one batch");
        assert_eq!(header.base_offset, self.mark.next_offset, "an offset is missing");
        assert_eq!((header.base_offset, header.last_offset), (next.base_offset, next.last_offset));
        assert_eq!(i64::from(header.leader_epoch), next.entry.term as i64, "the epoch is the term");
        self.since_point += data.len() as u64;
        self.mark.log_bytes += data.len() as u64;
        self.mark.next_offset = header.last_offset + 1;
        self.mark.max_timestamp = self.mark.max_timestamp.max(next.max_timestamp);
        self.log.push(data.clone());
    }
}
