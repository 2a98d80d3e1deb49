//! A cursor over bytes nobody vouches for. It is the only place where a length from the wire
//! is believed, and it believes one only after it saw that many bytes.
//!
//! Invariants: `at <= end <= bytes.len()`; no method panics on any input; memory taken for a
//! message is at most a small multiple of its bytes, since all arrays of one message share one
//! bound on elements and none reserves more than the bytes that remain.

use bytes::Bytes;
use model::limits::{ARRAY_ELEMENTS_MAX, TAGGED_FIELDS_MAX};

use super::field::{Field, Shape};
use crate::WireError;

/// Width of the length in front of a value, where the version is not flexible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// INT16, of strings.
    Short,
    /// INT32, of bytes, records and arrays.
    Long,
}

/// Reads one message from the front of its bytes.
#[derive(Debug)]
pub struct Decoder {
    bytes: Bytes,
    at: usize,
    end: usize,
    elements_left: usize,
}

impl Decoder {
    pub fn new(bytes: Bytes) -> Decoder {
        let end = bytes.len();
        Decoder { bytes, at: 0, end, elements_left: ARRAY_ELEMENTS_MAX }
    }

    /// Bytes not yet read, of the innermost tagged field if inside one.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// Everything not yet read, without copying.
    pub fn into_rest(self) -> Bytes {
        self.bytes.slice(self.at..self.end)
    }

    /// Refuses bytes behind the message.
    pub fn finish(self) -> Result<(), WireError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(WireError::TrailingBytes(left)),
        }
    }

    fn need(&self, needed: usize) -> Result<(), WireError> {
        let remaining = self.remaining();
        if needed > remaining { Err(WireError::Truncated { needed, remaining }) } else { Ok(()) }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.need(N)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        Ok(out)
    }

    /// The next `len` bytes as a slice of the same allocation.
    pub fn slice(&mut self, len: usize) -> Result<Bytes, WireError> {
        self.need(len)?;
        let out = self.bytes.slice(self.at..self.at + len);
        self.at += len;
        Ok(out)
    }

    /// The next `len` bytes as text.
    pub fn text(&mut self, len: usize) -> Result<String, WireError> {
        self.need(len)?;
        let raw = &self.bytes[self.at..self.at + len];
        let text = std::str::from_utf8(raw).map_err(|_| WireError::InvalidUtf8)?.to_owned();
        self.at += len;
        Ok(text)
    }

    pub fn i16(&mut self) -> Result<i16, WireError> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    /// UNSIGNED_VARINT: at most five bytes, of which the last holds four bits.
    pub fn uvarint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array::<1>()?;
            if shift == 28 && byte > 0x0f {
                return Err(WireError::VarintOverrun);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::VarintOverrun)
    }

    /// The length of a string, of bytes or of an array; `None` is null. Every element of an
    /// array takes at least one byte, so the bytes that remain bound all three.
    pub(crate) fn length(
        &mut self,
        prefix: Prefix,
        flexible: bool,
    ) -> Result<Option<usize>, WireError> {
        let length = if flexible {
            i64::from(self.uvarint()?) - 1
        } else {
            match prefix {
                Prefix::Short => i64::from(self.i16()?),
                Prefix::Long => i64::from(self.i32()?),
            }
        };
        match length {
            -1 => Ok(None),
            ..-1 => Err(WireError::NegativeLength(length as i32)),
            _ => {
                self.need(length as usize)?;
                Ok(Some(length as usize))
            }
        }
    }

    /// `len` elements. The vector starts no larger than the bytes that remain and grows as
    /// elements prove to exist.
    pub(crate) fn elements<T: Field>(
        &mut self,
        len: usize,
        shape: Shape,
    ) -> Result<Vec<T>, WireError> {
        if len > self.elements_left {
            return Err(WireError::TooManyElements { len, left: self.elements_left });
        }
        self.elements_left -= len;
        let fit = self.remaining() / size_of::<T>().max(1);
        let mut out = Vec::with_capacity(len.min(fit.max(1)));
        for _ in 0..len {
            out.push(T::read(self, shape)?);
        }
        Ok(out)
    }

    /// The tagged fields that end a structure of a flexible version (KIP-482). `known` reads
    /// the field of a tag and says true, or says false and the field is skipped. Tags ascend,
    /// none repeats, and a known field fills its declared size exactly.
    pub(crate) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Decoder, u32) -> Result<bool, WireError>,
    ) -> Result<(), WireError> {
        let count = self.uvarint()? as usize;
        if count > TAGGED_FIELDS_MAX {
            return Err(WireError::TooManyTaggedFields(count));
        }
        let mut previous = None;
        for _ in 0..count {
            let tag = self.uvarint()?;
            if previous.is_some_and(|previous| tag <= previous) {
                return Err(WireError::TagOrder { tag });
            }
            previous = Some(tag);
            let size = self.uvarint()? as usize;
            self.need(size)?;
            let outer = std::mem::replace(&mut self.end, self.at + size);
            if known(self, tag)? {
                if self.remaining() > 0 {
                    return Err(WireError::TagSize { tag, left: self.remaining() });
                }
            } else {
                self.at = self.end;
            }
            self.end = outer;
        }
        Ok(())
    }
}
