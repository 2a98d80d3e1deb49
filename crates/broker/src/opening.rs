//! The second half of a produced batch's check: the records inside a compressed one.
//!
//! Invariant: a thread of the listener opens a moment's worth of bytes; more is done on a thread
//! for such work.

use bytes::Bytes;
use model::{ErrorCode, limits};
use node::{Node, Refusal};
use wire::records::{BatchHeader, Compression, RecordError, validate_compressed};

/// Refuses a compressed batch whose records are not well formed; `header` is what
/// [`wire::records::validate`] said of it, which has seen to all others.
pub(crate) async fn check(node: &Node, header: &BatchHeader, batch: &Bytes) -> Result<(), Refusal> {
    if header.compression() == Some(Compression::None) {
        return Ok(());
    }
    if batch.len() > limits::MESSAGE_BYTES_CEILING as usize {
        let why = format!("a batch of {} bytes is too large for any topic", batch.len());
        return Err(Refusal { code: ErrorCode::MessageTooLarge, why });
    }
    if batch.len() <= limits::OPENED_INLINE_COMPRESSED_MAX {
        match validate_compressed(batch, limits::OPENED_INLINE_BYTES_MAX) {
            // More than is opened here, or a bomb.
            Err(RecordError::OpensTooLarge(_)) => {}
            done => return done.map_err(refused),
        }
    }
    let batch = batch.clone();
    match node.opening(move || validate_compressed(&batch, limits::OPENED_BYTES_MAX)).await {
        Ok(checked) => checked.map_err(refused),
        Err(code) => Err(Refusal { code, why: "the check of a batch ended early".into() }),
    }
}

fn refused(error: RecordError) -> Refusal {
    Refusal { code: error.code(), why: error.to_string() }
}
