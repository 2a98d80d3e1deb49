//! Offsets and timestamps of a batch's records, whatever its codec: the answer to a question
//! about one record. Keys, values and headers are passed over, not kept.
//!
//! Invariants: at most `recordsCount` records, none after an error; a record never reaches
//! behind its own length.

use super::inflate::Inflate;
use super::*;

/// Where and when one record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAt {
    pub offset: i64,
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

    fn record(&mut self) -> Result<RecordAt, RecordError> {
        let at = self.read;
        let bad = |why| RecordError::Record { at, why };
        let length = Varint::within(usize::MAX).read(&mut self.bytes, 5, at)?;
        let length = u32::try_from(length.value).map_err(|_| bad("length overruns its type"))?;
        let length =
            usize::try_from(unzigzag(length.into())).map_err(|_| bad("negative length"))?;
        // The attributes, one byte, mean nothing.
        if length == 0 || !self.bytes.skip(1)? {
            return Err(bad("no attributes"));
        }
        let delta = Varint::within(length - 1).read(&mut self.bytes, 10, at)?;
        let offset = Varint::within(delta.left).read(&mut self.bytes, 5, at)?;
        if !self.bytes.skip(offset.left)? {
            return Err(bad("overruns the batch"));
        }
        let offset_delta =
            u32::try_from(offset.value).map_err(|_| bad("offset overruns its type"))?;
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => {
                self.header.base_timestamp.saturating_add(unzigzag(delta.value))
            }
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        let offset = self.header.base_offset.saturating_add(unzigzag(offset_delta.into()));
        Ok(RecordAt { offset, timestamp })
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

/// A varint, still zigzag, and what remains of the record behind it.
struct Varint {
    value: u64,
    left: usize,
}

impl Varint {
    fn within(left: usize) -> Varint {
        Varint { value: 0, left }
    }

    fn read(
        mut self,
        bytes: &mut Inflate<'_>,
        bytes_max: u32,
        at: i32,
    ) -> Result<Varint, RecordError> {
        let bad = |why| RecordError::Record { at, why };
        for shift in 0..bytes_max {
            self.left = self.left.checked_sub(1).ok_or_else(|| bad("overruns its length"))?;
            let byte = bytes.byte()?.ok_or_else(|| bad("overruns the batch"))?;
            self.value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                return Ok(self);
            }
        }
        Err(bad("a number overruns its type"))
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
        let expected: Vec<RecordAt> =
            (0..500).map(|n| RecordAt { offset: n, timestamp: 1_000 + n * 3 }).collect();
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
        // A record as long as all of it, so that only the bound can stop the reader.
        let mut record = bytes::BytesMut::new();
        put_varint(&mut record, zeros.len() as i32);
        let claimed = [&record[..], &zeros].concat();
        let bomb = packed(&plain(1), 4, &compress(4, &claimed));
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
}
