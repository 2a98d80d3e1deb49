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

/// The value of the first record's header `key`, of an uncompressed batch. Looks at no more than
/// `headers_max` headers and copies nothing; a batch that is none, or lies, has no such header.
pub fn first_header<'a>(batch: &'a [u8], key: &[u8], headers_max: usize) -> Option<&'a [u8]> {
    let header = BatchHeader::parse(batch).ok()?;
    if header.compression() != Some(Compression::None) || header.records_count < 1 {
        return None;
    }
    let mut cursor = Cursor { bytes: batch.get(BATCH_HEADER_LEN..)? };
    let length = usize::try_from(cursor.varint().ok()?).ok()?;
    let mut record = Cursor { bytes: cursor.take(length)? };
    record.take(1)?;
    record.varlong().ok()?;
    record.varint().ok()?;
    record.nullable().ok()?;
    record.nullable().ok()?;
    let left = record.varint().ok()?.min(i32::try_from(headers_max).unwrap_or(i32::MAX));
    let mut headers = RecordHeaders { left, bytes: record.bytes };
    let found = headers.find(|header| header.key == key)?;
    found.value
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// A batch of one record without key and value, with these headers.
    fn batch(headers: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut record = BytesMut::from(&[0, 0, 0, 1, 1][..]);
        put_varint(&mut record, headers.len() as i32);
        for (key, value) in headers {
            for part in [key, value] {
                put_varint(&mut record, part.len() as i32);
                record.extend_from_slice(part);
            }
        }
        let mut batch = BytesMut::from(&[0; BATCH_HEADER_LEN][..]);
        batch[AT_MAGIC] = 2;
        batch[AT_RECORDS_COUNT + 3] = 1;
        put_varint(&mut batch, record.len() as i32);
        batch.extend(record);
        let length = (batch.len() - BATCH_OVERHEAD) as i32;
        batch[AT_LENGTH..AT_LENGTH + 4].copy_from_slice(&length.to_be_bytes());
        batch.to_vec()
    }

    #[test]
    fn the_first_records_header_is_found_within_the_bound() {
        let sound = batch(&[(b"a", b"1"), (b"trace", b"xyz"), (b"trace", b"later")]);
        assert_eq!(first_header(&sound, b"trace", 8), Some(&b"xyz"[..]));
        assert_eq!(first_header(&sound, b"trace", 1), None, "beyond the bound");
        assert_eq!(first_header(&sound, b"none", 8), None);
        let mut packed = sound.clone();
        packed[AT_ATTRIBUTES + 1] = Compression::Gzip as u8;
        assert_eq!(first_header(&packed, b"trace", 8), None, "compressed");
    }

    #[test]
    fn no_cut_and_no_foreign_byte_makes_it_panic() {
        let sound = batch(&[(b"trace", b"0123456789")]);
        for cut in 0..sound.len() {
            let _ = first_header(&sound[..cut], b"trace", 8);
        }
        for at in 0..sound.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = sound.clone();
                bytes[at] = value;
                let _ = first_header(&bytes, b"trace", usize::MAX);
            }
        }
        for length in 0..200 {
            assert_eq!(first_header(&vec![0xff; length], b"trace", 8), None);
        }
    }
}
