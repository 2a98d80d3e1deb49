//! Questions a reader has about one committed batch.

use wire::records::{BatchHeader, Records};

/// The first record of `batch` whose timestamp is not below `timestamp_ms`: (offset,
/// timestamp). Of a compressed batch only the header is looked at: the answer is then its first
/// record, so a consumer that seeks there sees every record it asked for, and perhaps a few
/// older ones of the same batch.
pub fn first_at_or_after(batch: &[u8], timestamp_ms: i64) -> Option<(i64, i64)> {
    let header = BatchHeader::parse(batch).ok()?;
    if header.max_timestamp < timestamp_ms {
        return None;
    }
    let first = (header.base_offset, header.base_timestamp.max(timestamp_ms));
    if header.compression() != Some(wire::records::Compression::None) {
        return Some(first);
    }
    let records = Records::new(batch).ok()?;
    for record in records {
        let record = record.ok()?;
        if record.timestamp >= timestamp_ms {
            return Some((record.offset, record.timestamp));
        }
    }
    Some(first)
}

/// The leader epoch stamped into a batch; -1 for bytes that are none.
pub fn leader_epoch_of(batch: &[u8]) -> i32 {
    BatchHeader::parse(batch).map_or(-1, |header| header.leader_epoch)
}

/// The offset behind a batch's last record; -1 for bytes that are no batch.
pub fn end_offset_of(batch: &[u8]) -> i64 {
    BatchHeader::parse(batch).map_or(-1, |header| header.last_offset() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::records::BatchBuilder;

    #[test]
    fn the_first_record_at_or_after_a_time() {
        let batch = BatchBuilder::new(1_000)
            .record(1_000, None, Some(b"a"), &[])
            .record(1_010, None, Some(b"b"), &[])
            .build();
        assert_eq!(first_at_or_after(&batch, 0), Some((0, 1_000)));
        assert_eq!(first_at_or_after(&batch, 1_001), Some((1, 1_010)));
        assert_eq!(first_at_or_after(&batch, 1_011), None);
        assert_eq!(end_offset_of(&batch), 2);
        assert_eq!(first_at_or_after(b"short", 0), None);
    }
}
