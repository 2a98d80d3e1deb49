//! Kafka record batches, format v2 (KIP-98): the one unit Glasslog replicates, stores and serves.
//!
//! A batch is checked once, where it enters ([`validate`]), stamped in place by the leader
//! ([`stamp`]) and from there its bytes are frozen: nothing re-encodes a batch. Compressed
//! records are opened to be checked, and for a question about one record ([`Opened`]), never to
//! pass them on.
//!
//! Invariants: every length is compared with the bytes that remain before it is used; no byte
//! sequence makes anything in here panic, except stamping what was never validated.
//!
//! ```text
//!  0 baseOffset i64        21 attributes i16         43 producerId i64
//!  8 batchLength i32       23 lastOffsetDelta i32    51 producerEpoch i16
//! 12 leaderEpoch i32       27 baseTimestamp i64      53 baseSequence i32
//! 16 magic i8              35 maxTimestamp i64       57 recordsCount i32
//! 17 crc u32 (CRC-32C of everything from 21 on)      61 records
//! ```

mod build;
mod header;
mod inflate;
mod iter;
mod opened;
mod stamp;
#[cfg(test)]
mod tests;
mod validate;

pub use build::{BatchBuilder, put_varint, put_varlong};
pub use header::{BatchHeader, Compression, TimestampType};
pub use iter::{Record, RecordHeader, RecordHeaders, Records, first_header};
pub use opened::{Opened, RecordAt};
pub use stamp::{Stamping, base_offset_of, stamp};
pub use validate::{BatchRules, validate, validate_compressed};

use model::ErrorCode;

/// Bytes before the first record.
pub const BATCH_HEADER_LEN: usize = 61;
/// Bytes that `batchLength` does not count: base offset and the length itself.
pub const BATCH_OVERHEAD: usize = 12;
/// "No producer", in `producerId`.
pub const NO_PRODUCER_ID: i64 = -1;
/// "No timestamp".
pub const NO_TIMESTAMP: i64 = -1;

pub(crate) const AT_BASE_OFFSET: usize = 0;
pub(crate) const AT_LENGTH: usize = 8;
pub(crate) const AT_LEADER_EPOCH: usize = 12;
pub(crate) const AT_MAGIC: usize = 16;
pub(crate) const AT_CRC: usize = 17;
pub(crate) const AT_ATTRIBUTES: usize = 21;
pub(crate) const AT_LAST_OFFSET_DELTA: usize = 23;
pub(crate) const AT_BASE_TIMESTAMP: usize = 27;
pub(crate) const AT_MAX_TIMESTAMP: usize = 35;
pub(crate) const AT_PRODUCER_ID: usize = 43;
pub(crate) const AT_PRODUCER_EPOCH: usize = 51;
pub(crate) const AT_BASE_SEQUENCE: usize = 53;
pub(crate) const AT_RECORDS_COUNT: usize = 57;

pub(crate) const ATTRIBUTE_CODEC: i16 = 0x07;
pub(crate) const ATTRIBUTE_LOG_APPEND_TIME: i16 = 0x08;
pub(crate) const ATTRIBUTE_TRANSACTIONAL: i16 = 0x10;
pub(crate) const ATTRIBUTE_CONTROL: i16 = 0x20;
pub(crate) const ATTRIBUTE_DELETE_HORIZON: i16 = 0x40;

/// Why a batch is refused. [`RecordError::code`] is what the client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("no record batch in the partition's data")]
    Empty,
    #[error("record batch cut short: {have} bytes where {need} are needed")]
    Truncated { need: usize, have: usize },
    #[error("batchLength {0} cannot hold a record batch")]
    Length(i32),
    #[error(
        "message format v{0} is not supported: Produce 3 and newer carries record batches of magic 2 only"
    )]
    OldMagic(i8),
    #[error("unknown magic {0}")]
    UnknownMagic(i8),
    #[error("CRC-32C is {computed:#010x}, the batch says {stored:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("{0} bytes after the batch: one batch per partition")]
    MoreThanOneBatch(usize),
    #[error("records count {count} with last offset delta {last_offset_delta}")]
    Count { count: i32, last_offset_delta: i32 },
    #[error("unknown compression codec {0}")]
    UnknownCodec(u8),
    #[error("zstd needs Produce version 7 or newer")]
    ZstdNotAllowed,
    #[error("clients may not write control records")]
    Control,
    #[error("transactions are not supported yet: transactional records are refused")]
    Transactional,
    #[error("clients may not set the delete horizon attribute")]
    DeleteHorizon,
    #[error("clients may not set the log append time attribute")]
    LogAppendTime,
    #[error(
        "base sequence {base_sequence} and epoch {producer_epoch} with producer id {producer_id}"
    )]
    Sequence { producer_id: i64, producer_epoch: i16, base_sequence: i32 },
    #[error("record {at}: {why}")]
    Record { at: i32, why: &'static str },
    #[error("the records do not decompress as {0}")]
    Codec(&'static str),
    #[error("records compressed with {0} open to more than this broker opens")]
    OpensTooLarge(&'static str),
}

impl RecordError {
    /// Kafka's code for it. CORRUPT_MESSAGE invites a retry (the bytes may have been damaged on
    /// the way); INVALID_RECORD says that the same bytes will never be accepted.
    pub fn code(&self) -> ErrorCode {
        match self {
            RecordError::Truncated { .. } | RecordError::Length(_) | RecordError::Crc { .. } => {
                ErrorCode::CorruptMessage
            }
            RecordError::Codec(_) => ErrorCode::CorruptMessage,
            RecordError::ZstdNotAllowed | RecordError::UnknownCodec(_) => {
                ErrorCode::UnsupportedCompressionType
            }
            RecordError::Transactional => ErrorCode::InvalidTxnState,
            RecordError::LogAppendTime => ErrorCode::InvalidTimestamp,
            RecordError::Empty
            | RecordError::OldMagic(_)
            | RecordError::UnknownMagic(_)
            | RecordError::MoreThanOneBatch(_)
            | RecordError::Count { .. }
            | RecordError::Control
            | RecordError::DeleteHorizon
            | RecordError::Sequence { .. }
            | RecordError::Record { .. }
            | RecordError::OpensTooLarge(_) => ErrorCode::InvalidRecord,
        }
    }
}
