//! Everything that can be wrong with bytes of the Kafka protocol, or with a message that is
//! to become bytes. A decode error means the peer's stream cannot be trusted any further.

use model::ApiKey;

/// Why bytes were refused, or a message could not be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("truncated: {needed} bytes needed, {remaining} remain")]
    Truncated { needed: usize, remaining: usize },
    #[error("frame length {length} is not in 0..={max}")]
    FrameLength { length: i64, max: usize },
    #[error("length {0} is negative and not null")]
    NegativeLength(i32),
    #[error("an array of {len} elements exceeds what is left of the message's bound, {left}")]
    TooManyElements { len: usize, left: usize },
    #[error("{0} tagged fields exceed the bound")]
    TooManyTaggedFields(usize),
    #[error("variable-length integer overruns its type")]
    VarintOverrun,
    #[error("string is not UTF-8")]
    InvalidUtf8,
    #[error("null where this version has no null")]
    UnexpectedNull,
    #[error("tag {tag} is repeated or out of order")]
    TagOrder { tag: u32 },
    #[error("tagged field {tag} leaves {left} bytes of its size unread")]
    TagSize { tag: u32, left: usize },
    #[error("{0} bytes follow the message")]
    TrailingBytes(usize),
    #[error("API key {0} is unknown")]
    UnknownApi(i16),
    #[error("{} version {version} is not served", key.as_str())]
    UnsupportedVersion { key: ApiKey, version: i16 },
    #[error("length {0} does not fit its field")]
    TooLong(usize),
}

impl WireError {
    /// The closed set of reasons, as a metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            WireError::Truncated { .. } => "truncated",
            WireError::FrameLength { .. } => "frame_length",
            WireError::NegativeLength(_) => "negative_length",
            WireError::TooManyElements { .. } => "too_many_elements",
            WireError::TooManyTaggedFields(_) => "too_many_tagged_fields",
            WireError::VarintOverrun => "varint_overrun",
            WireError::InvalidUtf8 => "invalid_utf8",
            WireError::UnexpectedNull => "unexpected_null",
            WireError::TagOrder { .. } => "tag_order",
            WireError::TagSize { .. } => "tag_size",
            WireError::TrailingBytes(_) => "trailing_bytes",
            WireError::UnknownApi(_) => "unknown_api",
            WireError::UnsupportedVersion { .. } => "unsupported_version",
            WireError::TooLong(_) => "too_long",
        }
    }
}
