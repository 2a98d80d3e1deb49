//! Questions a reader has about one committed batch.

use wire::records::{BatchHeader, Opened, RecordAt, RecordError};

/// The first record of `batch` whose timestamp is not below `timestamp_ms`: (offset,
/// timestamp). Compressed records are opened for it, as far as that record.
///
/// Two batches are answered by their first record, so that a consumer that seeks there sees
/// every record it asked for and perhaps a few older ones: one whose header promises a record
/// that is not in it, and one that opens to more than this broker opens.
pub fn first_at_or_after(
    batch: &[u8],
    timestamp_ms: i64,
) -> Result<Option<(i64, i64)>, RecordError> {
    let header = BatchHeader::parse(batch)?;
    if header.max_timestamp < timestamp_ms {
        return Ok(None);
    }
    match first_opened(batch, timestamp_ms) {
        Ok(Some(found)) => Ok(Some((found.offset, found.timestamp))),
        Ok(None) | Err(RecordError::OpensTooLarge(_)) => {
            Ok(Some((header.base_offset, header.base_timestamp.max(timestamp_ms))))
        }
        Err(error) => Err(error),
    }
}

fn first_opened(batch: &[u8], timestamp_ms: i64) -> Result<Option<RecordAt>, RecordError> {
    for record in Opened::new(batch)? {
        let record = record?;
        if record.timestamp >= timestamp_ms {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The largest timestamp a batch's header promises; -1 for bytes that are none.
pub fn max_timestamp_of(batch: &[u8]) -> i64 {
    BatchHeader::parse(batch).map_or(-1, |header| header.max_timestamp)
}

/// The leader epoch stamped into a batch; -1 for bytes that are none.
pub fn leader_epoch_of(batch: &[u8]) -> i32 {
    BatchHeader::parse(batch).map_or(-1, |header| header.leader_epoch)
}

/// The offset of a batch's first record; -1 for bytes that are no batch.
pub fn base_offset_of(batch: &[u8]) -> i64 {
    BatchHeader::parse(batch).map_or(-1, |header| header.base_offset)
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
        assert_eq!(first_at_or_after(&batch, 0), Ok(Some((0, 1_000))));
        assert_eq!(first_at_or_after(&batch, 1_001), Ok(Some((1, 1_010))));
        assert_eq!(first_at_or_after(&batch, 1_011), Ok(None));
        assert_eq!((end_offset_of(&batch), max_timestamp_of(&batch)), (2, 1_010));
        assert!(first_at_or_after(b"short", 0).is_err());
    }

    #[test]
    fn a_header_that_promises_too_much_is_answered_by_the_first_record() {
        let honest = BatchBuilder::new(1_000).record(1_000, None, Some(b"a"), &[]).build();
        let mut lying = honest.to_vec();
        lying[35..43].copy_from_slice(&9_000i64.to_be_bytes());
        assert_eq!(first_at_or_after(&lying, 5_000), Ok(Some((0, 5_000))));
    }

    #[test]
    fn records_that_do_not_open_are_an_error() {
        let broken = BatchBuilder::new(1_000).attributes(1).raw(3, b"no gzip").build();
        assert_eq!(first_at_or_after(&broken, 1_000), Err(RecordError::Codec("gzip")));
    }
}
