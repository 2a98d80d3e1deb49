//! The records of a batch whatever its codec, read as a stream: where each one is, and that each
//! is well formed. Keys, values and headers are passed over, not kept.
//!
//! Invariants: at most `recordsCount` records, none after an error; a record fills its own
//! length, neither more nor less.

use super::inflate::Inflate;
use super::*;

/// Where and when one record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAt {
    pub offset: i64,
    /// What the record says of its place in the batch.
    pub offset_delta: i32,
    /// Milliseconds; the batch's append time when the log stamps time.
    pub timestamp: i64,
}

/// Iterator over the records of one batch.
pub struct Opened<'a> {
    header: BatchHeader,
    read: i32,
    bytes: Inflate<'a>,
    failed: bool,
}

impl<'a> Opened<'a> {
    /// `batch` starts at the base offset and holds the whole batch.
    pub fn new(batch: &'a [u8]) -> Result<Opened<'a>, RecordError> {
        let header = BatchHeader::parse(batch)?;
        let Some(bytes) = batch.get(BATCH_HEADER_LEN..header.total_len()) else {
            return Err(RecordError::Truncated { need: header.total_len(), have: batch.len() });
        };
        let codec = (header.attributes & ATTRIBUTE_CODEC) as u8;
        let codec = Compression::from_u8(codec).ok_or(RecordError::UnknownCodec(codec))?;
        Ok(Opened { header, read: 0, bytes: Inflate::new(bytes, codec)?, failed: false })
    }

    /// Opens no more than `bytes_max` bytes, if that is less than what every batch is held to.
    pub fn at_most(mut self, bytes_max: usize) -> Opened<'a> {
        self.bytes.at_most(bytes_max);
        self
    }

    /// Nothing may follow the last record; with a codec that ends in a checksum, it fits.
    pub fn finish(mut self) -> Result<(), RecordError> {
        match self.bytes.byte()? {
            None => Ok(()),
            Some(_) => {
                Err(RecordError::Record { at: self.read, why: "bytes after the last record" })
            }
        }
    }

    fn record(&mut self) -> Result<RecordAt, RecordError> {
        let mut body = Body { bytes: &mut self.bytes, left: usize::MAX, at: self.read };
        let length = body.varint()?;
        body.left = usize::try_from(length).map_err(|_| body.bad("negative length"))?;
        body.skip(1)?;
        let delta = unzigzag(body.raw(10)?);
        let offset_delta = body.varint()?;
        body.nullable()?;
        body.nullable()?;
        let headers = body.varint()?;
        // Each one takes two bytes at least, so a lie about their number ends with the record.
        if headers < 0 || headers as usize > body.left {
            return Err(body.bad("impossible header count"));
        }
        for _ in 0..headers {
            if !body.nullable()? {
                return Err(body.bad("header key is null"));
            }
            body.nullable()?;
        }
        if body.left > 0 {
            return Err(body.bad("bytes after the last header"));
        }
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.saturating_add(delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        let offset = self.header.base_offset.saturating_add(i64::from(offset_delta));
        Ok(RecordAt { offset, offset_delta, timestamp })
    }
}

impl Iterator for Opened<'_> {
    type Item = Result<RecordAt, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.read >= self.header.records_count {
            return None;
        }
        let record = self.record();
        self.read += 1;
        self.failed = record.is_err();
        Some(record)
    }
}

/// One record's bytes: what is read is taken off its length.
struct Body<'o, 'a> {
    bytes: &'o mut Inflate<'a>,
    left: usize,
    at: i32,
}

impl Body<'_, '_> {
    fn bad(&self, why: &'static str) -> RecordError {
        RecordError::Record { at: self.at, why }
    }

    fn take(&mut self, count: usize) -> Result<(), RecordError> {
        let left = self.left.checked_sub(count);
        self.left = left.ok_or_else(|| self.bad("overruns its length"))?;
        Ok(())
    }

    fn skip(&mut self, count: usize) -> Result<(), RecordError> {
        self.take(count)?;
        if self.bytes.skip(count)? { Ok(()) } else { Err(self.bad("overruns the batch")) }
    }

    /// Still zigzag.
    fn raw(&mut self, bytes_max: u32) -> Result<u64, RecordError> {
        let mut value = 0;
        for shift in 0..bytes_max {
            self.take(1)?;
            let byte = self.bytes.byte()?.ok_or_else(|| self.bad("overruns the batch"))?;
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.bad("a number overruns its type"))
    }

    fn varint(&mut self) -> Result<i32, RecordError> {
        let raw = u32::try_from(self.raw(5)?);
        let raw = raw.map_err(|_| self.bad("a number overruns its type"))?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// Passes over a length and so many bytes; false for a negative length, which is null.
    fn nullable(&mut self) -> Result<bool, RecordError> {
        let Ok(length) = usize::try_from(self.varint()?) else { return Ok(false) };
        self.skip(length)?;
        Ok(true)
    }
}

fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use bytes::Bytes;
    use model::limits;

    const CODECS: [i16; 5] = [0, 1, 2, 3, 4];

    fn compress(codec: i16, bytes: &[u8]) -> Vec<u8> {
        match codec {
            1 => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                out.write_all(bytes).unwrap();
                out.finish().unwrap()
            }
            2 => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
            3 => {
                let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
                out.write_all(bytes).unwrap();
                out.finish().unwrap()
            }
            4 => {
                let level = ruzstd::encoding::CompressionLevel::Fastest;
                ruzstd::encoding::compress_to_vec(bytes, level)
            }
            _ => bytes.to_vec(),
        }
    }

    fn xerial(bytes: &[u8]) -> Vec<u8> {
        let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        for chunk in bytes.chunks(1_000) {
            let block = compress(2, chunk);
            out.extend((block.len() as u32).to_be_bytes());
            out.extend(block);
        }
        out
    }

    fn plain(records: i64) -> Bytes {
        let value = vec![7u8; 300];
        (0..records)
            .fold(BatchBuilder::new(1_000), |batch, n| {
                batch.record(1_000 + n * 3, Some(b"key"), Some(&value), &[])
            })
            .build()
    }

    /// `plain` with its records as `bytes`.
    fn packed(plain: &Bytes, codec: i16, bytes: &[u8]) -> Bytes {
        let count = BatchHeader::parse(plain).unwrap().records_count;
        BatchBuilder::new(1_000).attributes(codec).raw(count, bytes).build()
    }

    fn open(batch: &[u8]) -> Result<Vec<RecordAt>, RecordError> {
        Opened::new(batch)?.collect()
    }

    #[test]
    fn every_codec_opens_to_the_same_records() {
        let plain = plain(500);
        let records = &plain[BATCH_HEADER_LEN..];
        let expected: Vec<RecordAt> = (0..500)
            .map(|n| RecordAt { offset: n, offset_delta: n as i32, timestamp: 1_000 + n * 3 })
            .collect();
        for codec in CODECS {
            let batch = packed(&plain, codec, &compress(codec, records));
            assert_eq!(open(&batch).unwrap(), expected, "codec {codec}");
        }
        assert_eq!(open(&packed(&plain, 2, &xerial(records))).unwrap(), expected);
    }

    #[test]
    fn bytes_that_are_cut_or_flipped_are_an_error_or_records_but_never_a_panic() {
        let plain = plain(40);
        let records = &plain[BATCH_HEADER_LEN..];
        for (codec, body) in CODECS
            .map(|codec| (codec, compress(codec, records)))
            .into_iter()
            .chain([(2, xerial(records))])
        {
            for cut in 0..body.len().min(400) {
                match open(&packed(&plain, codec, &body[..cut])) {
                    // Only a trailer is missing.
                    Ok(opened) => assert!(opened.len() == 40 && cut > 20, "codec {codec}, {cut}"),
                    Err(error) => assert!(
                        matches!(
                            error.code(),
                            ErrorCode::CorruptMessage | ErrorCode::InvalidRecord
                        ),
                        "codec {codec} cut at {cut}: {error}"
                    ),
                }
                for flip in [0xff, 0x01, 0x80] {
                    let mut bent = body.clone();
                    bent[cut] ^= flip;
                    if let Ok(opened) = open(&packed(&plain, codec, &bent)) {
                        assert_eq!(opened.len(), 40);
                    }
                }
            }
        }
    }

    #[test]
    fn a_bomb_ends_at_its_bound() {
        let zeros = vec![0u8; 40 << 20];
        // zstd alone gets beyond the ratio, by far.
        let body = compress(4, &zeros);
        assert!(body.len() * limits::OPENED_RATIO_MAX < zeros.len(), "{} bytes", body.len());
        // A record that is well formed, so that only the bound can stop the reader.
        let sound = BatchBuilder::new(0).value(&zeros).build();
        let bomb = packed(&plain(1), 4, &compress(4, &sound[BATCH_HEADER_LEN..]));
        assert_eq!(open(&bomb), Err(RecordError::OpensTooLarge("zstd")));
        assert_eq!(RecordError::OpensTooLarge("zstd").code(), ErrorCode::InvalidRecord);
    }

    #[test]
    fn a_snappy_block_that_lies_about_its_size_takes_no_memory() {
        // 2 GiB - 1 in five bytes.
        let lie = packed(&plain(1), 2, &[0xff, 0xff, 0xff, 0xff, 0x07, 0]);
        assert_eq!(open(&lie), Err(RecordError::Codec("snappy")));
    }

    #[test]
    fn a_zstd_frame_may_not_ask_for_a_large_history() {
        // Magic, no single segment, window 2^31.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        let refused = open(&packed(&plain(1), 4, &frame));
        assert_eq!(refused, Err(RecordError::OpensTooLarge("zstd")));
    }

    #[test]
    fn a_large_history_may_be_asked_for_by_who_opens_to_little() {
        // Magic, no single segment, window 2^27 (level 22), then one block.
        let frame = |kind: u32, size: u32, bytes: &[u8]| {
            let head = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3];
            let block = ((size << 3) | (kind << 1) | 1).to_le_bytes();
            [&head[..], &block[..3], bytes].concat()
        };
        let one = plain(1);
        let records = &one[BATCH_HEADER_LEN..];
        let raw = frame(0, records.len() as u32, records);
        assert_eq!(validate_compressed(&packed(&one, 4, &raw), usize::MAX), Ok(()));
    }

    #[test]
    fn frames_in_a_row_are_one_body() {
        let plain = plain(40);
        let (head, tail) = plain[BATCH_HEADER_LEN..].split_at(5_000);
        for codec in [1, 4] {
            let body = [compress(codec, head), compress(codec, tail)].concat();
            assert_eq!(validate_compressed(&packed(&plain, codec, &body), usize::MAX), Ok(()));
        }
    }

    /// What the check of an uncompressed batch names, that of a compressed one does too.
    #[test]
    fn every_codec_is_checked_like_no_codec() {
        let sound = plain(3)[BATCH_HEADER_LEN..].to_vec();
        let record = |body: &[u8]| [&[(body.len() << 1) as u8], body].concat();
        let mut short = sound.clone();
        short.truncate(sound.len() - 310);
        let bad: [(i32, Vec<u8>, &str); 12] = [
            (3, [&sound[..], &[0]].concat(), "bytes after the last record"),
            (2, sound.clone(), "bytes after the last record"),
            (4, sound.clone(), "record 3"),
            (3, short, "record 2"),
            (1, record(&[0, 0, 2, 1, 1, 0]), "offset delta out of order"),
            (1, vec![1], "negative length"),
            (1, record(&[]), "record 0"),
            (1, record(&[0, 0, 0, 90, 1, 0]), "overruns"),
            (1, record(&[0, 0, 0, 1, 1, 1]), "impossible header count"),
            (1, record(&[0, 0, 0, 1, 1, 126]), "impossible header count"),
            (1, record(&[0, 0, 0, 1, 1, 2, 1, 1]), "header key is null"),
            (1, record(&[0, 0, 0, 1, 1, 0, 9]), "bytes after the last header"),
        ];
        let rules = BatchRules::for_produce(9);
        for (count, records, why) in &bad {
            let batch = BatchBuilder::new(0).raw(*count, records).build();
            let error = validate(&batch, &rules).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidRecord, "{why}: {error}");
            for codec in &CODECS[1..] {
                let body = compress(*codec, records);
                let batch = BatchBuilder::new(0).attributes(*codec).raw(*count, &body).build();
                assert!(validate(&batch, &rules).is_ok());
                let error = validate_compressed(&batch, usize::MAX).unwrap_err();
                assert_eq!(error.code(), ErrorCode::InvalidRecord, "codec {codec}, {why}: {error}");
                assert!(error.to_string().contains(why), "codec {codec}: {error} is not {why}");
            }
        }
        for codec in &CODECS[1..] {
            let body = compress(*codec, &sound);
            let batch = BatchBuilder::new(0).attributes(*codec).raw(3, &body).build();
            assert_eq!(validate_compressed(&batch, usize::MAX), Ok(()));
            let little = validate_compressed(&batch, 100);
            assert!(
                matches!(little, Err(RecordError::OpensTooLarge(_))),
                "codec {codec}: {little:?}"
            );
        }
    }
}
