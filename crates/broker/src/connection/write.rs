//! The writing half: does each request's work in its turn and sends the reply.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, IoSlice};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use model::limits;
use telemetry::labels::LogEvent;
use telemetry::log_limited;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::End;
use crate::dispatch::Work;

/// Answers until the queue ends; `End::Closed` then.
pub(super) async fn replies(
    mut socket: OwnedWriteHalf,
    mut pending: mpsc::Receiver<Work>,
    unanswered: &AtomicUsize,
    patience: Duration,
) -> End {
    while let Some(work) = pending.recv().await {
        let mut reply = match work.await {
            Ok(reply) => reply,
            Err(error) => {
                log_limited!(error, LogEvent::RequestFailed, %error, "a reply does not encode");
                return End::Closed;
            }
        };
        if let Some(frame) = reply.frame
            && let Err(error) = send(&mut socket, frame.into_chunks().into(), patience).await
        {
            return match error.kind() {
                ErrorKind::TimedOut => End::NotReading,
                _ => End::Io(error),
            };
        }
        reply.call.sent(reply.outcome);
        unanswered.fetch_sub(1, Ordering::Relaxed);
        if reply.close {
            return End::Closed;
        }
    }
    End::Closed
}

/// Writes all chunks, if the client takes some of them at least every `stall`.
async fn send(
    socket: &mut OwnedWriteHalf,
    mut chunks: VecDeque<Bytes>,
    stall: Duration,
) -> Result<(), Error> {
    while !chunks.is_empty() {
        let slices: Vec<IoSlice<'_>> =
            chunks.iter().take(limits::WRITE_SLICES_MAX).map(|chunk| IoSlice::new(chunk)).collect();
        let written = match timeout(stall, socket.write_vectored(&slices)).await {
            Ok(written) => written?,
            Err(_) => return Err(ErrorKind::TimedOut.into()),
        };
        if written == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        advance(&mut chunks, written);
    }
    Ok(())
}

/// Drops what was written off the front.
fn advance(chunks: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = chunks.front_mut() {
        if front.len() > written {
            return front.advance(written);
        }
        written -= front.len();
        chunks.pop_front();
    }
    assert_eq!(written, 0, "wrote more than there was");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_writes_leave_exactly_the_rest() {
        let text: Vec<Bytes> = [&b"ab"[..], b"", b"cde", b"f"].map(Bytes::from_static).into();
        for written in 0..=6 {
            let mut chunks = VecDeque::from(text.clone());
            advance(&mut chunks, written);
            let rest: Vec<u8> = chunks.iter().flatten().copied().collect();
            assert_eq!(rest, b"abcdef"[written..]);
        }
    }
}
