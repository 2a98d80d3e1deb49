//! Walking the records of an uncompressed batch.
//!
//! Invariants: the iterator yields at most `recordsCount` records and stops after the first
//! error; keys, values and headers are slices of the batch, nothing is allocated.

use super::*;

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub attributes: i8,
    /// Milliseconds; the batch's append time when the log stamps time.
    pub timestamp: i64,
    pub offset: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    headers: RecordHeaders<'a>,
}

impl<'a> Record<'a> {
    /// The headers in order; they were checked when the record was read.
    pub fn headers(&self) -> RecordHeaders<'a> {
        self.headers
    }
}

/// One header of a record. Keys are text by convention, bytes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// Iterator over a record's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeaders<'a> {
    left: i32,
    bytes: &'a [u8],
}

impl<'a> RecordHeaders<'a> {
    /// Reads one header; `Err` says what is wrong with it.
    fn read(&mut self) -> Result<RecordHeader<'a>, &'static str> {
        let mut cursor = Cursor { bytes: self.bytes };
        let key = cursor.nullable().map_err(|_| "header key overruns the record")?;
        let key = key.ok_or("header key is null")?;
        let value = cursor.nullable().map_err(|_| "header value overruns the record")?;
        self.bytes = cursor.bytes;
        self.left -= 1;
        Ok(RecordHeader { key, value })
    }
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        if self.left <= 0 {
            return None;
        }
        self.read().ok()
    }
}

/// Iterator over the records of one uncompressed batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    header: BatchHeader,
    read: i32,
    bytes: &'a [u8],
    failed: bool,
}

impl<'a> Records<'a> {
    /// `batch` starts at the base offset and holds the whole batch. Fails for compressed
    /// batches: opening those is the client's work.
    pub fn new(batch: &'a [u8]) -> Result<Records<'a>, RecordError> {
        let header = BatchHeader::parse(batch)?;
        let Some(bytes) = batch.get(BATCH_HEADER_LEN..header.total_len()) else {
            return Err(RecordError::Truncated { need: header.total_len(), have: batch.len() });
        };
        if header.compression() != Some(Compression::None) {
            return Err(RecordError::UnknownCodec((header.attributes & ATTRIBUTE_CODEC) as u8));
        }
        Ok(Records { header, read: 0, bytes, failed: false })
    }

    /// Bytes not yet read; 0 after the last record of a sound batch.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn read(&mut self) -> Result<Record<'a>, &'static str> {
        let mut outer = Cursor { bytes: self.bytes };
        let length = outer.varint().map_err(|_| "length overruns the batch")?;
        let length = usize::try_from(length).map_err(|_| "negative length")?;
        let mut cursor = Cursor { bytes: outer.take(length).ok_or("overruns the batch")? };
        let attributes = cursor.take(1).ok_or("no attributes")?[0] as i8;
        let delta = cursor.varlong().map_err(|_| "timestamp overruns the record")?;
        let offset_delta = cursor.varint().map_err(|_| "offset overruns the record")?;
        let key = cursor.nullable().map_err(|_| "key overruns the record")?;
        let value = cursor.nullable().map_err(|_| "value overruns the record")?;
        let count = cursor.varint().map_err(|_| "header count overruns the record")?;
        if count < 0 || count as usize > cursor.bytes.len() {
            return Err("impossible header count");
        }
        let headers = RecordHeaders { left: count, bytes: cursor.bytes };
        let mut check = headers;
        while check.left > 0 {
            check.read()?;
        }
        if !check.bytes.is_empty() {
            return Err("bytes after the last header");
        }
        self.bytes = outer.bytes;
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.saturating_add(delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        let offset = self.header.base_offset.saturating_add(i64::from(offset_delta));
        Ok(Record { attributes, timestamp, offset, offset_delta, key, value, headers })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.read >= self.header.records_count {
            return None;
        }
        let at = self.read;
        self.read += 1;
        let record = self.read();
        self.failed = record.is_err();
        Some(record.map_err(|why| RecordError::Record { at, why }))
    }
}

/// A varint ran past its bytes or its width.
struct Overrun;

struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(n)?;
        self.bytes = rest;
        Some(head)
    }

    fn raw(&mut self, bytes_max: usize) -> Result<u64, Overrun> {
        let mut value = 0u64;
        for at in 0..bytes_max {
            let byte = *self.bytes.get(at).ok_or(Overrun)?;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[at + 1..];
                return Ok(value);
            }
        }
        Err(Overrun)
    }

    /// Zigzag, at most 5 bytes.
    fn varint(&mut self) -> Result<i32, Overrun> {
        let raw = u32::try_from(self.raw(5)?).map_err(|_| Overrun)?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// Zigzag, at most 10 bytes.
    fn varlong(&mut self) -> Result<i64, Overrun> {
        let raw = self.raw(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A length and so many bytes; a negative length is null.
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, Overrun> {
        let length = self.varint()?;
        if length < 0 {
            return Ok(None);
        }
        self.take(length as usize).map(Some).ok_or(Overrun)
    }
}
