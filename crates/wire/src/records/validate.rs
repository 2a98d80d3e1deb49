//! What a batch must be before it may enter the log (kafka.md, trap 9).
//!
//! Invariant: a batch that passed, compressed ones both halves, can be stamped, applied and served
//! without another check.

use super::*;

/// What depends on the request and on what the broker can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRules {
    /// Produce 7 and newer may carry zstd.
    pub zstd_allowed: bool,
    /// Transactional batches; needs a transaction coordinator.
    pub transactions_allowed: bool,
}

impl BatchRules {
    /// The rules for a Produce request of `version`, without transactions.
    pub fn for_produce(version: i16) -> BatchRules {
        BatchRules { zstd_allowed: version >= 7, transactions_allowed: false }
    }
}

/// Checks that `bytes` are exactly one sound v2 batch a client may write: length, magic, CRC,
/// attributes, count, sequence and, when uncompressed, every record. A compressed batch needs
/// [`validate_compressed`] as well, which takes long enough to choose where it is done. Sizes are
/// the topic's affair: see `max.message.bytes` where the batch is stamped.
pub fn validate(bytes: &[u8], rules: &BatchRules) -> Result<BatchHeader, RecordError> {
    let header = BatchHeader::parse(bytes)?;
    let total = header.total_len();
    if bytes.len() < total {
        return Err(RecordError::Truncated { need: total, have: bytes.len() });
    }
    if bytes.len() > total {
        return Err(RecordError::MoreThanOneBatch(bytes.len() - total));
    }
    let computed = crc32c::crc32c(&bytes[AT_ATTRIBUTES..]);
    if computed != header.crc {
        return Err(RecordError::Crc { stored: header.crc, computed });
    }
    check_attributes(&header, rules)?;
    check_numbers(&header)?;
    if header.compression() == Some(Compression::None) {
        check_records(bytes, &header)?;
    }
    Ok(header)
}

fn check_attributes(header: &BatchHeader, rules: &BatchRules) -> Result<(), RecordError> {
    match header.compression() {
        None => {
            return Err(RecordError::UnknownCodec((header.attributes & ATTRIBUTE_CODEC) as u8));
        }
        Some(Compression::Zstd) if !rules.zstd_allowed => return Err(RecordError::ZstdNotAllowed),
        Some(_) => {}
    }
    if header.is_control() {
        return Err(RecordError::Control);
    }
    if header.is_transactional() && !rules.transactions_allowed {
        return Err(RecordError::Transactional);
    }
    if header.attributes & ATTRIBUTE_DELETE_HORIZON != 0 {
        return Err(RecordError::DeleteHorizon);
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(RecordError::LogAppendTime);
    }
    Ok(())
}

fn check_numbers(header: &BatchHeader) -> Result<(), RecordError> {
    let BatchHeader { records_count: count, last_offset_delta, .. } = *header;
    if count <= 0 || i64::from(count) != i64::from(last_offset_delta) + 1 {
        return Err(RecordError::Count { count, last_offset_delta });
    }
    let BatchHeader { producer_id, producer_epoch, base_sequence, .. } = *header;
    let sound = match producer_id {
        NO_PRODUCER_ID => !header.is_transactional(),
        0.. => producer_epoch >= 0 && base_sequence >= 0,
        _ => false,
    };
    if sound {
        Ok(())
    } else {
        Err(RecordError::Sequence { producer_id, producer_epoch, base_sequence })
    }
}

/// Checks every record of a compressed batch that passed [`validate`]: as many as the header
/// says, well formed, in order, nothing behind them. Opens at most `bytes_max` bytes of it;
/// beyond that it is [`RecordError::OpensTooLarge`].
pub fn validate_compressed(batch: &[u8], bytes_max: usize) -> Result<(), RecordError> {
    let mut records = Opened::new(batch)?.at_most(bytes_max);
    in_order(records.by_ref().map(|record| Ok(record?.offset_delta)))?;
    records.finish()
}

fn check_records(bytes: &[u8], header: &BatchHeader) -> Result<(), RecordError> {
    let mut records = Records::new(bytes)?;
    let count = in_order(records.by_ref().map(|record| Ok(record?.offset_delta)))?;
    if records.remaining() != 0 {
        return Err(RecordError::Record { at: count, why: "bytes after the last record" });
    }
    assert_eq!(count, header.records_count, "a record less without an error");
    Ok(())
}

/// How many records there are, their offset deltas counting up from zero.
fn in_order(deltas: impl Iterator<Item = Result<i32, RecordError>>) -> Result<i32, RecordError> {
    let mut expected = 0;
    for delta in deltas {
        if delta? != expected {
            return Err(RecordError::Record { at: expected, why: "offset delta out of order" });
        }
        expected += 1;
    }
    Ok(expected)
}
