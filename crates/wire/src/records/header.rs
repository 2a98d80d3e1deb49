//! The fixed 61 bytes at the start of every batch, as a value.

use super::*;

/// Codec of a batch's records, bits 0-2 of the attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Compression {
    pub fn from_u8(value: u8) -> Option<Compression> {
        Some(match value {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// Whose clock a batch's timestamps are, bit 3 of the attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

impl TimestampType {
    /// Kafka's config value.
    pub fn as_str(self) -> &'static str {
        match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }
}

/// A batch's header, decoded. Numbers are as the batch has them, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes after this field: the whole batch is 12 longer.
    pub batch_length: i32,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; checks that it is a v2 batch and that its
    /// length is possible, not that all of it is there (see [`BatchHeader::total_len`]).
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, RecordError> {
        if bytes.is_empty() {
            return Err(RecordError::Empty);
        }
        // Magic sits at the same place in all formats, so an old one is named before anything.
        match bytes.get(AT_MAGIC).map(|b| *b as i8) {
            Some(2) => {}
            Some(magic @ 0..=1) => return Err(RecordError::OldMagic(magic)),
            Some(magic) => return Err(RecordError::UnknownMagic(magic)),
            None => {
                return Err(RecordError::Truncated { need: BATCH_HEADER_LEN, have: bytes.len() });
            }
        }
        let Some(head) = bytes.first_chunk::<BATCH_HEADER_LEN>() else {
            return Err(RecordError::Truncated { need: BATCH_HEADER_LEN, have: bytes.len() });
        };
        let header = BatchHeader {
            base_offset: i64_at(head, AT_BASE_OFFSET),
            batch_length: i32_at(head, AT_LENGTH),
            leader_epoch: i32_at(head, AT_LEADER_EPOCH),
            magic: head[AT_MAGIC] as i8,
            crc: i32_at(head, AT_CRC) as u32,
            attributes: i16_at(head, AT_ATTRIBUTES),
            last_offset_delta: i32_at(head, AT_LAST_OFFSET_DELTA),
            base_timestamp: i64_at(head, AT_BASE_TIMESTAMP),
            max_timestamp: i64_at(head, AT_MAX_TIMESTAMP),
            producer_id: i64_at(head, AT_PRODUCER_ID),
            producer_epoch: i16_at(head, AT_PRODUCER_EPOCH),
            base_sequence: i32_at(head, AT_BASE_SEQUENCE),
            records_count: i32_at(head, AT_RECORDS_COUNT),
        };
        if header.batch_length < (BATCH_HEADER_LEN - BATCH_OVERHEAD) as i32 {
            return Err(RecordError::Length(header.batch_length));
        }
        Ok(header)
    }

    /// Bytes of the whole batch, header included.
    pub fn total_len(&self) -> usize {
        self.batch_length.max(0) as usize + BATCH_OVERHEAD
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Sequence of the last record: sequences run from 0 to `i32::MAX` and start over.
    pub fn last_sequence(&self) -> i32 {
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (sum & i64::from(i32::MAX)) as i32
    }

    /// `None`: a codec this version does not know.
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_u8((self.attributes & ATTRIBUTE_CODEC) as u8)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & ATTRIBUTE_LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    /// True for batches of idempotent and transactional producers.
    pub fn has_producer(&self) -> bool {
        self.producer_id != NO_PRODUCER_ID
    }
}

fn i16_at(head: &[u8; BATCH_HEADER_LEN], at: usize) -> i16 {
    i16::from_be_bytes([head[at], head[at + 1]])
}

fn i32_at(head: &[u8; BATCH_HEADER_LEN], at: usize) -> i32 {
    i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn i64_at(head: &[u8; BATCH_HEADER_LEN], at: usize) -> i64 {
    i64::from(i32_at(head, at)) << 32 | i64::from(i32_at(head, at + 4) as u32)
}
