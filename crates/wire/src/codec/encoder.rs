//! Builds a frame as a list of chunks: small fields are gathered in buffers of our own,
//! records are spliced in as the `Bytes` they already are, for one vectored write.
//!
//! Invariants: the first four bytes of a frame lie in a buffer of our own, so that the length
//! can be written last; chunks in order are exactly the encoded bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::decoder::Prefix;
use super::field::{Field, Shape};
use crate::{Frame, WireError};

/// Bytes shorter than this are copied: an extra chunk of a vectored write costs more.
const SPLICE_BYTES_MIN: usize = 512;
/// First allocation; most responses fit.
const BUFFER_BYTES: usize = 256;

#[derive(Debug)]
enum Chunk {
    Own(BytesMut),
    Shared(Bytes),
}

/// Writes one message, or one frame around it.
#[derive(Debug, Default)]
pub struct Encoder {
    done: Vec<Chunk>,
    done_bytes: usize,
    tail: BytesMut,
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder { tail: BytesMut::with_capacity(BUFFER_BYTES), ..Encoder::default() }
    }

    /// An encoder whose first four bytes wait for the length, for [`Encoder::into_frame`].
    pub(crate) fn framed() -> Encoder {
        let mut encoder = Encoder::new();
        encoder.put(&[0; 4]);
        encoder
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.done_bytes + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    /// Appends shared bytes, without copying them unless they are few.
    pub fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SPLICE_BYTES_MIN {
            return self.put(bytes);
        }
        let head = self.tail.split();
        self.done_bytes += head.len() + bytes.len();
        if !head.is_empty() {
            self.done.push(Chunk::Own(head));
        }
        self.done.push(Chunk::Shared(bytes.clone()));
    }

    pub fn put_uvarint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.tail.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }

    /// The length in front of a string, of bytes or of an array; `None` is null.
    pub(crate) fn put_length(
        &mut self,
        length: Option<usize>,
        prefix: Prefix,
        shape: Shape,
    ) -> Result<(), WireError> {
        let max = match prefix {
            Prefix::Short => i16::MAX as usize,
            Prefix::Long => i32::MAX as usize,
        };
        match length {
            None if !shape.nullable => return Err(WireError::UnexpectedNull),
            Some(length) if length > max => return Err(WireError::TooLong(length)),
            None if shape.flexible => self.put_uvarint(0),
            Some(length) if shape.flexible => self.put_uvarint(length as u32 + 1),
            _ => {
                let length = length.map_or(-1, |length| length as i32);
                match prefix {
                    Prefix::Short => self.tail.put_i16(length as i16),
                    Prefix::Long => self.tail.put_i32(length),
                }
            }
        }
        Ok(())
    }

    /// One tagged field: its tag, its size, itself.
    pub(crate) fn put_tagged<T: Field>(
        &mut self,
        tag: u32,
        value: &T,
        shape: Shape,
    ) -> Result<(), WireError> {
        let mut inner = Encoder::new();
        value.write(&mut inner, shape)?;
        let size = u32::try_from(inner.len()).map_err(|_| WireError::TooLong(inner.len()))?;
        self.put_uvarint(tag);
        self.put_uvarint(size);
        for chunk in inner.into_chunks() {
            self.put_shared(&chunk);
        }
        Ok(())
    }

    /// The bytes, in chunks.
    pub fn into_chunks(mut self) -> Vec<Bytes> {
        if !self.tail.is_empty() {
            self.done.push(Chunk::Own(self.tail));
        }
        self.done
            .into_iter()
            .map(|chunk| match chunk {
                Chunk::Own(own) => own.freeze(),
                Chunk::Shared(shared) => shared,
            })
            .collect()
    }

    /// Writes the length into the four bytes [`Encoder::framed`] left for it.
    pub(crate) fn into_frame(mut self) -> Result<Frame, WireError> {
        assert!(self.len() >= 4, "into_frame without framed");
        let bytes = self.len();
        let length = i32::try_from(bytes - 4).map_err(|_| WireError::TooLong(bytes))?;
        let first = match self.done.first_mut() {
            Some(Chunk::Own(own)) => own,
            Some(Chunk::Shared(_)) => unreachable!("framed() starts in a buffer of our own"),
            None => &mut self.tail,
        };
        first[..4].copy_from_slice(&length.to_be_bytes());
        Ok(Frame::new(self.into_chunks(), bytes))
    }
}
