//! The Kafka protocol at the trust boundary: frames, headers, requests and responses of every
//! served version, and record batches. Shapes follow the message definitions of Apache Kafka
//! (`clients/src/main/resources/common/message`), encodings KIP-482.
//!
//! Invariants: bytes from a peer are never believed. A length is checked against the bytes
//! that remain, and a count against `model::limits`, before anything is allocated for it; no
//! input panics. Records are never copied on their way in or out: they are slices of the frame
//! they came in, and chunks of their own in the frame they leave in. Nothing here knows a
//! socket, a clock, a lock or the state of the broker.

pub mod api;
mod codec;
mod error;
pub mod frame;
pub mod header;
pub mod records;
mod versions;

pub use codec::{Decoder, Encoder, Field, Message, Request, Shape};
pub use error::WireError;
pub use frame::Frame;
pub use header::{
    Admission, RequestFrame, RequestHeader, decode_request, decode_response, encode_request,
    encode_response, encode_unsupported_version,
};
pub use versions::{ApiSupport, support, supported_versions};

#[cfg(test)]
mod tests;
