//! Little-endian fields of our own files, read with every length checked first.
//!
//! Invariant: a reader never allocates for a length it has not compared with the bytes that
//! remain; running out of bytes is `None`, never a panic.

use bytes::{BufMut, Bytes, BytesMut};

/// Reads fields off the front of owned bytes; byte strings are slices of the same buffer.
pub(crate) struct Fields {
    rest: Bytes,
}

impl Fields {
    pub fn new(bytes: Bytes) -> Fields {
        Fields { rest: bytes }
    }

    pub fn take(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.rest.len()).then(|| self.rest.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.as_ref().try_into().ok()
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|bytes| bytes[0])
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub fn bytes(&mut self) -> Option<Bytes> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    /// A count of elements that take at least `element_bytes` each: refused when they could
    /// not all be there.
    pub fn count(&mut self, element_bytes: usize) -> Option<usize> {
        let count = self.u32()? as usize;
        (count <= self.rest.len() / element_bytes).then_some(count)
    }

    /// Everything that is left.
    pub fn rest(self) -> Bytes {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Appends a byte string behind its length.
///
/// # Panics
/// When it is longer than a u32 can say.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

/// Appends a count of elements.
///
/// # Panics
/// When a u32 cannot say it.
pub(crate) fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("a length fits 32 bits"));
}
