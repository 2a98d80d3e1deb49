//! Frames: a four byte big-endian length, then that many bytes.
//!
//! Invariants: a length is refused before a byte behind it is awaited or stored; taking a
//! frame never allocates.

use bytes::{Buf, Bytes, BytesMut};

use crate::WireError;

/// Bytes of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;

/// A frame ready to leave, length included, as chunks for a vectored write. Records are
/// chunks of their own and share memory with where they came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Frame {
    pub(crate) fn new(chunks: Vec<Bytes>, bytes: usize) -> Frame {
        assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), bytes, "chunks make the frame");
        Frame { chunks, bytes }
    }

    /// Bytes on the wire, the length prefix included.
    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }

    /// One contiguous copy, for tests and small clients.
    pub fn to_bytes(&self) -> Bytes {
        self.chunks.concat().into()
    }
}

/// The length a prefix announces. Negative, or above `max` bytes: an error, and the
/// connection has to be closed, since where the next frame starts is unknown.
pub fn frame_length(prefix: [u8; LENGTH_BYTES], max: usize) -> Result<usize, WireError> {
    let length = i32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(bytes) if bytes <= max => Ok(bytes),
        _ => Err(WireError::FrameLength { length: i64::from(length), max }),
    }
}

/// Takes the next whole frame, without its length, off the front of what was read; `None`
/// until all of it is there. `max` as in [`frame_length`]; `model::limits` names the bounds.
pub fn take_frame(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, WireError> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = frame_length(*prefix, max)?;
    if buffer.len() - LENGTH_BYTES < length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}
