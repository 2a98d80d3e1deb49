//! The few header fields of a Kafka record batch v2 that segments need.
//!
//! Layout (Kafka protocol guide, "Record Batch"), big endian: baseOffset i64 @0, batchLength
//! i32 @8 (bytes behind it), partitionLeaderEpoch i32 @12, magic i8 @16, crc u32 @17 (CRC-32C
//! of all from @21 on), attributes i16 @21, lastOffsetDelta i32 @23, baseTimestamp i64 @27,
//! maxTimestamp i64 @35. The header ends at 61.

/// Bytes up to the first record.
pub(super) const BATCH_HEADER_BYTES: usize = 61;
/// Bytes of base offset and batch length, which the batch length does not count.
const LENGTH_PREFIX_BYTES: usize = 12;
const CRC_FROM: usize = 21;

/// A batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub base_offset: i64,
    pub last_offset: i64,
    /// The whole batch.
    pub bytes: usize,
    pub leader_epoch: i32,
    pub max_timestamp: i64,
    crc: u32,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}

impl BatchHeader {
    /// The header at the front of `bytes`; `None` when that is no batch of version 2.
    pub fn parse(bytes: &[u8]) -> Option<BatchHeader> {
        if bytes.len() < BATCH_HEADER_BYTES || bytes[16] != 2 {
            return None;
        }
        let length = usize::try_from(i32::from_be_bytes(number(bytes, 8))).ok()?;
        let base_offset = i64::from_be_bytes(number(bytes, 0));
        let delta = i32::from_be_bytes(number(bytes, 23));
        if length < BATCH_HEADER_BYTES - LENGTH_PREFIX_BYTES || delta < 0 || base_offset < 0 {
            return None;
        }
        Some(BatchHeader {
            base_offset,
            last_offset: base_offset.checked_add(i64::from(delta))?,
            bytes: LENGTH_PREFIX_BYTES + length,
            leader_epoch: i32::from_be_bytes(number(bytes, 12)),
            max_timestamp: i64::from_be_bytes(number(bytes, 35)),
            crc: u32::from_be_bytes(number(bytes, 17)),
        })
    }

    /// True when `batch`, the whole of it, has the checksum its header says.
    pub fn accepts(&self, batch: &[u8]) -> bool {
        batch.len() == self.bytes && crc32c::crc32c(&batch[CRC_FROM..]) == self.crc
    }
}
