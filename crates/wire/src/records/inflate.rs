//! The bytes inside a compressed batch, as a stream with a hard end.
//!
//! Decoders are libraries in safe or checked Rust; here is what keeps a bomb from going off.
//!
//! Invariants: what has come out is counted, and at [`bound`] the stream ends with an error, so
//! time and memory are bounded by the bytes that came in; a length is compared with the bound
//! before memory is taken for it; nothing is held but a codec's history and one buffer.

use std::io::Read;

use model::limits;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::{Compression, RecordError};

/// Bytes that are taken out of a decoder at a time.
const BUFFER_BYTES: usize = 16 << 10;
/// What snappy-java writes in front of its blocks: a magic and two version numbers.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
/// Snappy's longest copy makes 64 bytes out of 3.
const SNAPPY_RATIO_MAX: usize = 22;

/// Decompressed bytes, one after the other.
pub(super) struct Inflate<'a> {
    source: Box<dyn Read + 'a>,
    codec: Compression,
    /// Bytes that may still come out.
    left: usize,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
}

/// Bytes that `compressed` bytes may open to.
pub(super) fn bound(compressed: usize) -> usize {
    let by_ratio = compressed.saturating_mul(limits::OPENED_RATIO_MAX);
    by_ratio.clamp(limits::OPENED_BYTES_MIN, limits::OPENED_BYTES_MAX)
}

impl<'a> Inflate<'a> {
    pub fn new(bytes: &'a [u8], codec: Compression) -> Result<Inflate<'a>, RecordError> {
        let mut left = match codec {
            Compression::None => bytes.len(),
            _ => bound(bytes.len()),
        };
        let source: Box<dyn Read + 'a> = match codec {
            Compression::None => Box::new(bytes),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
            Compression::Snappy => Box::new(Snappy::new(bytes)?),
            Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(bytes)),
            Compression::Zstd => Box::new(Zstd::new(bytes, &mut left)?),
        };
        let buffer = vec![0; BUFFER_BYTES.min(left)];
        Ok(Inflate { source, codec, left, buffer, at: 0, end: 0 })
    }

    pub fn at_most(&mut self, bytes_max: usize) {
        self.left = self.left.min(bytes_max);
    }

    /// The next byte; `None` at the end.
    pub fn byte(&mut self) -> Result<Option<u8>, RecordError> {
        if self.at == self.end && !self.fill()? {
            return Ok(None);
        }
        self.at += 1;
        Ok(Some(self.buffer[self.at - 1]))
    }

    /// Passes over `count` bytes; false if the end comes first.
    pub fn skip(&mut self, mut count: usize) -> Result<bool, RecordError> {
        while count > self.end - self.at {
            count -= self.end - self.at;
            if !self.fill()? {
                return Ok(false);
            }
        }
        self.at += count;
        Ok(true)
    }

    /// False at the end.
    fn fill(&mut self) -> Result<bool, RecordError> {
        let read = self.source.read(&mut self.buffer).map_err(|error| self.fault(&error))?;
        (self.at, self.end) = (0, read);
        match self.left.checked_sub(read) {
            Some(left) => self.left = left,
            None => return Err(RecordError::OpensTooLarge(self.codec.as_str())),
        }
        Ok(read > 0)
    }

    fn fault(&self, error: &std::io::Error) -> RecordError {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<RecordError>()) {
            Some(ours) => ours.clone(),
            None => RecordError::Codec(self.codec.as_str()),
        }
    }
}

/// zstd frames, one after the other.
struct Zstd<'a> {
    frame: StreamingDecoder<&'a [u8], FrameDecoder>,
    window_max: usize,
}

impl<'a> Zstd<'a> {
    /// The highest levels ask for a history that this broker does not keep. They do so for small
    /// bodies too: such a frame may open to as much as it keeps for others, so that the history
    /// stays within the same bound.
    fn new(bytes: &'a [u8], left: &mut usize) -> Result<Zstd<'a>, RecordError> {
        let small = limits::OPENED_WINDOW_BYTES_MAX;
        match zstd_frame(bytes, small) {
            Ok(frame) => Ok(Zstd { frame, window_max: small }),
            Err(RecordError::OpensTooLarge(_)) => {
                let window_max = limits::OPENED_WINDOW_ASKED_MAX;
                let frame = zstd_frame(bytes, window_max)?;
                *left = (*left).min(small);
                Ok(Zstd { frame, window_max })
            }
            Err(error) => Err(error),
        }
    }
}

impl Read for Zstd<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = self.frame.read(out)?;
            let rest: &[u8] = self.frame.get_ref();
            if read > 0 || rest.is_empty() {
                return Ok(read);
            }
            self.frame = zstd_frame(rest, self.window_max).map_err(std::io::Error::other)?;
        }
    }
}

fn zstd_frame(
    bytes: &[u8],
    window_max: usize,
) -> Result<StreamingDecoder<&[u8], FrameDecoder>, RecordError> {
    StreamingDecoder::new_with_max_window_size(bytes, window_max as u64).map_err(
        |error| match error {
            FrameDecoderError::WindowSizeTooBig { .. } => {
                RecordError::OpensTooLarge(Compression::Zstd.as_str())
            }
            _ => RecordError::Codec(Compression::Zstd.as_str()),
        },
    )
}

/// Snappy in both shapes that clients send: one bare block (librdkafka), or snappy-java's
/// stream of blocks with a length each (Java and all who follow it).
struct Snappy<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    at: usize,
}

const BROKEN: RecordError = RecordError::Codec("snappy");

impl<'a> Snappy<'a> {
    fn new(bytes: &'a [u8]) -> Result<Snappy<'a>, RecordError> {
        let framed = bytes.starts_with(&XERIAL_MAGIC);
        let rest = if framed { bytes.get(XERIAL_HEADER_BYTES..).ok_or(BROKEN)? } else { bytes };
        Ok(Snappy { rest, framed, block: Vec::new(), at: 0 })
    }

    /// Opens the next block; false at the end.
    fn next_block(&mut self) -> Result<bool, RecordError> {
        if self.rest.is_empty() {
            return Ok(false);
        }
        let length = if self.framed {
            let (length, rest) = self.rest.split_first_chunk::<4>().ok_or(BROKEN)?;
            self.rest = rest;
            u32::from_be_bytes(*length) as usize
        } else {
            self.rest.len()
        };
        let (block, rest) = self.rest.split_at_checked(length).ok_or(BROKEN)?;
        self.rest = rest;
        let opened = snap::raw::decompress_len(block).map_err(|_| BROKEN)?;
        if opened > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(BROKEN);
        }
        if opened > limits::OPENED_BLOCK_BYTES_MAX {
            return Err(RecordError::OpensTooLarge(Compression::Snappy.as_str()));
        }
        self.block = snap::raw::Decoder::new().decompress_vec(block).map_err(|_| BROKEN)?;
        self.at = 0;
        Ok(true)
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block().map_err(std::io::Error::other)? {
                return Ok(0);
            }
        }
        let count = out.len().min(self.block.len() - self.at);
        out[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
