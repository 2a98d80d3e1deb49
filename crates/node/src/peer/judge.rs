//! Envelopes as bytes, for tools that make or judge them.

use bytes::Bytes;
use prost::Message as _;

use super::{RaftItem, codec, proto};

/// `items` in one envelope.
pub fn encode_envelope(items: Vec<RaftItem>) -> Bytes {
    let items = items.into_iter().map(codec::encode).collect();
    proto::Envelope { items, ..Default::default() }.encode_to_vec().into()
}

/// Reads an envelope as a peer's server does; the raft messages in it, `None` if it is refused.
pub fn decode_envelope(bytes: Bytes) -> Option<Vec<RaftItem>> {
    codec::decode(proto::Envelope::decode(bytes).ok()?.items).ok()
}
