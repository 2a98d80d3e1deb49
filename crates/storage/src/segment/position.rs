//! Where a segment log stands: the part of a checkpoint that says how far files are trusted.

use bytes::{BufMut, BytesMut};
use model::PrefixChecksum;

use crate::codec::{Fields, put_count};

/// All of a group's segments at one point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentPosition {
    /// Oldest first; the last one is written to.
    pub segments: Vec<SegmentMark>,
    /// The last index in segments or sidecars; where an empty log continues.
    pub last_index: u64,
    /// The next batch's base offset.
    pub next_offset: i64,
    /// Over all machine-visible entries up to `last_index`.
    pub prefix: PrefixChecksum,
    pub log_start_offset: i64,
    /// The last index below the retained log.
    pub start_index: u64,
    pub terms: Vec<TermStart>,
    /// Which of the group's directories holds the files: the index of the snapshot that filled
    /// it, 0 for the plain one.
    pub home: u64,
}

/// One segment at one point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentMark {
    /// Index of its first entry.
    pub base_index: u64,
    pub base_offset: i64,
    pub last_index: u64,
    pub next_offset: i64,
    /// Bytes of batches and of sidecar.
    pub log_bytes: u64,
    pub side_bytes: u64,
    /// Newest record of its batches, -1 for none.
    pub max_timestamp: i64,
    /// Prefix checksum before its first entry.
    pub base_prefix: PrefixChecksum,
}

/// Where a term begins: its first index, and the offset the next batch has there
/// (OffsetForLeaderEpoch, KIP-101).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TermStart {
    pub first_index: u64,
    pub term: u64,
    pub start_offset: i64,
}

impl SegmentMark {
    /// Names say where a segment begins: offset for people, index because it is never shared.
    pub(super) fn names(&self) -> [String; 2] {
        let stem = format!("{:020}.{:020}", self.base_offset, self.base_index);
        [format!("{stem}.log"), format!("{stem}.side")]
    }
}

const MARK_BYTES: usize = 6 * 8 + 8 + 4;

impl SegmentPosition {
    /// Names and lengths of all files that are not empty: each segment's batches, its sidecar.
    pub fn file_names(&self) -> Vec<(String, u64)> {
        let of = |mark: &SegmentMark| {
            let [log, side] = mark.names();
            [(log, mark.log_bytes), (side, mark.side_bytes)]
        };
        self.segments.iter().flat_map(of).filter(|(_, bytes)| *bytes > 0).collect()
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        put_count(out, self.segments.len());
        for mark in &self.segments {
            out.put_u64_le(mark.base_index);
            out.put_i64_le(mark.base_offset);
            out.put_u64_le(mark.last_index);
            out.put_i64_le(mark.next_offset);
            out.put_u64_le(mark.log_bytes);
            out.put_u64_le(mark.side_bytes);
            out.put_i64_le(mark.max_timestamp);
            out.put_u32_le(mark.base_prefix.0);
        }
        out.put_u64_le(self.last_index);
        out.put_i64_le(self.next_offset);
        out.put_u32_le(self.prefix.0);
        out.put_i64_le(self.log_start_offset);
        out.put_u64_le(self.start_index);
        put_count(out, self.terms.len());
        for start in &self.terms {
            out.put_u64_le(start.first_index);
            out.put_u64_le(start.term);
            out.put_i64_le(start.start_offset);
        }
        out.put_u64_le(self.home);
    }

    pub(crate) fn decode(fields: &mut Fields) -> Option<SegmentPosition> {
        let mut position = SegmentPosition::decode_homeless(fields)?;
        position.home = fields.u64()?;
        Some(position)
    }

    /// As written before there were homes: everything lies in the plain directory.
    pub(crate) fn decode_homeless(fields: &mut Fields) -> Option<SegmentPosition> {
        let mut position = SegmentPosition::default();
        for _ in 0..fields.count(MARK_BYTES)? {
            position.segments.push(SegmentMark {
                base_index: fields.u64()?,
                base_offset: fields.i64()?,
                last_index: fields.u64()?,
                next_offset: fields.i64()?,
                log_bytes: fields.u64()?,
                side_bytes: fields.u64()?,
                max_timestamp: fields.i64()?,
                base_prefix: PrefixChecksum(fields.u32()?),
            });
        }
        position.last_index = fields.u64()?;
        position.next_offset = fields.i64()?;
        position.prefix = PrefixChecksum(fields.u32()?);
        position.log_start_offset = fields.i64()?;
        position.start_index = fields.u64()?;
        for _ in 0..fields.count(24)? {
            position.terms.push(TermStart {
                first_index: fields.u64()?,
                term: fields.u64()?,
                start_offset: fields.i64()?,
            });
        }
        Some(position)
    }
}
