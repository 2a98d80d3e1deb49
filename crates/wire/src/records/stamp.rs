//! What the serving leader writes into a batch it owns, before the bytes are frozen.

use bytes::{Bytes, BytesMut};

use super::*;

/// The leader's marks on a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamping {
    pub base_offset: i64,
    /// The leader's term.
    pub leader_epoch: i32,
    /// Milliseconds since the epoch: the topic stamps LogAppendTime. Only this changes bytes
    /// under the CRC, which is then recomputed.
    pub log_append_time_ms: Option<i64>,
}

/// Stamps a validated batch and freezes it. In place when `batch` is the only holder of its
/// bytes, else into a copy: bytes that others may be reading never change.
///
/// # Panics
/// When `batch` is shorter than a batch header: it was never validated.
pub fn stamp(batch: Bytes, stamping: &Stamping) -> Bytes {
    assert!(batch.len() >= BATCH_HEADER_LEN, "stamping bytes that were never validated");
    assert!(stamping.base_offset >= 0 && stamping.leader_epoch >= 0, "{stamping:?}");
    let mut batch = BytesMut::from(batch);
    put(&mut batch, AT_BASE_OFFSET, &stamping.base_offset.to_be_bytes());
    put(&mut batch, AT_LEADER_EPOCH, &stamping.leader_epoch.to_be_bytes());
    if let Some(now_ms) = stamping.log_append_time_ms {
        let attributes = i16::from_be_bytes([batch[AT_ATTRIBUTES], batch[AT_ATTRIBUTES + 1]])
            | ATTRIBUTE_LOG_APPEND_TIME;
        put(&mut batch, AT_ATTRIBUTES, &attributes.to_be_bytes());
        put(&mut batch, AT_MAX_TIMESTAMP, &now_ms.to_be_bytes());
        let crc = crc32c::crc32c(&batch[AT_ATTRIBUTES..]);
        put(&mut batch, AT_CRC, &crc.to_be_bytes());
    }
    batch.freeze()
}

/// The base offset of the batch at the start of `bytes`, if there are enough of them.
pub fn base_offset_of(bytes: &[u8]) -> Option<i64> {
    bytes.first_chunk::<8>().map(|b| i64::from_be_bytes(*b))
}

fn put(batch: &mut BytesMut, at: usize, value: &[u8]) {
    batch[at..at + value.len()].copy_from_slice(value);
}
