//! Encoding a batch from records: for tests, tools and the broker's own topics.
//!
//! Only uncompressed batches are built; the produce path never builds one.

use bytes::{BufMut, Bytes, BytesMut};

use super::*;

/// Collects records and encodes them as one uncompressed batch with base offset 0 and no
/// leader epoch, as a producer would send it.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    attributes: i16,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: i32,
    records: BytesMut,
}

impl BatchBuilder {
    /// `base_timestamp`: milliseconds; records carry their difference to it.
    pub fn new(base_timestamp: i64) -> BatchBuilder {
        BatchBuilder {
            attributes: 0,
            base_timestamp,
            max_timestamp: NO_TIMESTAMP,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
            records: BytesMut::new(),
        }
    }

    /// Makes it a batch of an idempotent producer.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Overrides the attributes: codec, timestamp type, transactional, control. Records stay
    /// as they are; a tool that sets a codec appends compressed bytes with [`Self::raw`].
    pub fn attributes(mut self, attributes: i16) -> BatchBuilder {
        self.attributes = attributes;
        self
    }

    /// Appends one record.
    pub fn record(
        mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> BatchBuilder {
        let mut body = BytesMut::new();
        body.put_i8(0);
        put_varlong(&mut body, timestamp.wrapping_sub(self.base_timestamp));
        put_varint(&mut body, self.count);
        put_nullable(&mut body, key);
        put_nullable(&mut body, value);
        put_varint(&mut body, headers.len() as i32);
        for header in headers {
            put_nullable(&mut body, Some(header.key));
            put_nullable(&mut body, header.value);
        }
        put_varint(&mut self.records, body.len() as i32);
        self.records.extend_from_slice(&body);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
        self
    }

    /// A record with a value only, at the base timestamp.
    pub fn value(self, value: &[u8]) -> BatchBuilder {
        let timestamp = self.base_timestamp;
        self.record(timestamp, None, Some(value), &[])
    }

    /// Replaces the records by bytes that stand for `count` of them (compressed elsewhere).
    pub fn raw(mut self, count: i32, bytes: &[u8]) -> BatchBuilder {
        self.count = count;
        self.records = BytesMut::from(bytes);
        self.max_timestamp = self.max_timestamp.max(self.base_timestamp);
        self
    }

    /// Overrides the largest timestamp, for records given as bytes.
    pub fn max_timestamp(mut self, max_timestamp: i64) -> BatchBuilder {
        self.max_timestamp = max_timestamp;
        self
    }

    /// The encoded batch, CRC included.
    pub fn build(self) -> Bytes {
        let mut out = BytesMut::with_capacity(BATCH_HEADER_LEN + self.records.len());
        out.put_i64(0);
        out.put_i32((BATCH_HEADER_LEN - BATCH_OVERHEAD + self.records.len()) as i32);
        out.put_i32(-1);
        out.put_i8(2);
        out.put_u32(0);
        out.put_i16(self.attributes);
        out.put_i32(self.count - 1);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.count);
        out.extend_from_slice(&self.records);
        let crc = crc32c::crc32c(&out[AT_ATTRIBUTES..]);
        out[AT_CRC..AT_CRC + 4].copy_from_slice(&crc.to_be_bytes());
        out.freeze()
    }
}

/// Zigzag varint, as records use it.
pub fn put_varint(out: &mut BytesMut, value: i32) {
    put_raw(out, u64::from(((value << 1) ^ (value >> 31)) as u32));
}

/// Zigzag varint of 64 bits.
pub fn put_varlong(out: &mut BytesMut, value: i64) {
    put_raw(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put_raw(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}
