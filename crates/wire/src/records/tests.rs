//! What a batch check must accept, name and survive.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

const RULES: BatchRules = BatchRules { zstd_allowed: true, transactions_allowed: false };

fn batch() -> Bytes {
    BatchBuilder::new(1_000)
        .producer(7, 0, 3)
        .record(1_000, Some(b"k"), Some(b"value"), &[])
        .record(900, None, None, &[RecordHeader { key: b"h", value: None }])
        .record(5_000, Some(b""), Some(&[9; 300]), &[RecordHeader { key: b"", value: Some(b"x") }])
        .build()
}

/// `batch` with bytes replaced and the CRC made right again.
fn with(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::from(&batch[..]);
    out[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&out[AT_ATTRIBUTES..]);
    out[AT_CRC..AT_CRC + 4].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

#[test]
fn a_batch_reads_back_as_built() {
    let bytes = batch();
    let header = validate(&bytes, &RULES).unwrap();
    assert_eq!((header.records_count, header.last_offset_delta), (3, 2));
    assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 5_000));
    assert_eq!(header.last_sequence(), 5);
    assert_eq!(header.total_len(), bytes.len());
    let records: Vec<_> = Records::new(&bytes).unwrap().map(Result::unwrap).collect();
    assert_eq!(records[0].key, Some(&b"k"[..]));
    assert_eq!((records[1].key, records[1].value, records[1].timestamp), (None, None, 900));
    let headers: Vec<_> = records[2].headers().collect();
    assert_eq!(headers, [RecordHeader { key: b"", value: Some(b"x") }]);
}

#[test]
fn every_refusal_has_its_name_and_code() {
    let good = batch();
    let attributes = |bits: i16| with(&good, AT_ATTRIBUTES, &bits.to_be_bytes());
    let mut flipped = BytesMut::from(&good[..]);
    flipped[70] ^= 1;
    let mut doubled = BytesMut::from(&good[..]);
    doubled.extend_from_slice(&good);
    let cases: Vec<(Bytes, &str, ErrorCode)> = vec![
        (Bytes::new(), "no record batch", ErrorCode::InvalidRecord),
        (good.slice(..40), "cut short", ErrorCode::CorruptMessage),
        (good.slice(..good.len() - 1), "cut short", ErrorCode::CorruptMessage),
        (with(&good, AT_LENGTH, &48i32.to_be_bytes()), "batchLength", ErrorCode::CorruptMessage),
        (with(&good, AT_MAGIC, &[1]), "format v1", ErrorCode::InvalidRecord),
        (with(&good, AT_MAGIC, &[3]), "unknown magic", ErrorCode::InvalidRecord),
        (flipped.freeze(), "CRC", ErrorCode::CorruptMessage),
        (doubled.freeze(), "one batch per partition", ErrorCode::InvalidRecord),
        (attributes(7), "codec 7", ErrorCode::UnsupportedCompressionType),
        (attributes(0x20), "control", ErrorCode::InvalidRecord),
        (attributes(0x10), "transactions", ErrorCode::InvalidTxnState),
        (attributes(0x40), "delete horizon", ErrorCode::InvalidRecord),
        (attributes(0x08), "append time", ErrorCode::InvalidTimestamp),
        (with(&good, AT_RECORDS_COUNT, &0i32.to_be_bytes()), "count", ErrorCode::InvalidRecord),
        (with(&good, AT_RECORDS_COUNT, &4i32.to_be_bytes()), "count", ErrorCode::InvalidRecord),
        (with(&good, AT_BASE_SEQUENCE, &[0xff; 4]), "sequence", ErrorCode::InvalidRecord),
        (with(&good, AT_PRODUCER_EPOCH, &[0xff; 2]), "sequence", ErrorCode::InvalidRecord),
        (with(&good, AT_PRODUCER_ID, &(-5i64).to_be_bytes()), "sequence", ErrorCode::InvalidRecord),
    ];
    for (bytes, text, code) in cases {
        let error = validate(&bytes, &RULES).unwrap_err();
        assert!(error.to_string().contains(text), "{error} should name {text}");
        assert_eq!(error.code(), code, "{error}");
    }
}

#[test]
fn a_count_that_agrees_with_itself_but_not_with_the_records_is_refused() {
    let mut bytes = with(&batch(), AT_RECORDS_COUNT, &4i32.to_be_bytes());
    bytes = with(&bytes, AT_LAST_OFFSET_DELTA, &3i32.to_be_bytes());
    assert!(matches!(validate(&bytes, &RULES), Err(RecordError::Record { at: 3, .. })));
    bytes = with(&bytes, AT_RECORDS_COUNT, &2i32.to_be_bytes());
    bytes = with(&bytes, AT_LAST_OFFSET_DELTA, &1i32.to_be_bytes());
    assert!(matches!(validate(&bytes, &RULES), Err(RecordError::Record { at: 2, .. })));
}

#[test]
fn offset_deltas_count_up_from_zero() {
    // length, attributes, timestamp, offset delta, null key, null value, no headers
    let record = |delta: u8| [12, 0, 0, delta << 1, 1, 1, 0];
    let batch = |deltas: [u8; 2]| BatchBuilder::new(0).raw(2, &deltas.map(record).concat()).build();
    assert!(validate(&batch([0, 1]), &RULES).is_ok());
    for (deltas, at) in [([1, 0], 0), ([0, 0], 1), ([0, 2], 1)] {
        let error = validate(&batch(deltas), &RULES).unwrap_err();
        assert_eq!(error, RecordError::Record { at, why: "offset delta out of order" });
    }
}

#[test]
fn a_varint_that_never_ends_is_refused() {
    for records in [&[0xff; 12][..], &[0x7f], &[0x02], &[]] {
        let bytes = BatchBuilder::new(0).raw(1, records).build();
        assert!(matches!(validate(&bytes, &RULES), Err(RecordError::Record { .. })), "{records:?}");
    }
}

#[test]
fn compressed_records_have_a_check_of_their_own_and_zstd_has_its_version() {
    let zstd = BatchBuilder::new(0).attributes(4).raw(9, b"not really zstd").build();
    assert_eq!(validate(&zstd, &BatchRules::for_produce(6)), Err(RecordError::ZstdNotAllowed));
    let header = validate(&zstd, &BatchRules::for_produce(7)).unwrap();
    assert_eq!((header.compression(), header.records_count), (Some(Compression::Zstd), 9));
    assert!(Records::new(&zstd).is_err());
    let broken = validate_compressed(&zstd, usize::MAX);
    assert_eq!(broken, Err(RecordError::Codec("zstd")));
    assert_eq!(broken.unwrap_err().code(), ErrorCode::CorruptMessage);
}

#[test]
fn sequences_start_over_after_the_largest() {
    let header = BatchHeader::parse(&batch()).unwrap();
    let last = |base_sequence, last_offset_delta| {
        BatchHeader { base_sequence, last_offset_delta, ..header }.last_sequence()
    };
    assert_eq!(last(i32::MAX, 0), i32::MAX);
    assert_eq!(last(i32::MAX, 1), 0);
    assert_eq!(last(i32::MAX - 1, 4), 2);
    assert_eq!(last(10, 4), 14);
}

#[test]
fn stamping_changes_only_what_the_leader_owns() {
    let before = batch();
    let shared = before.clone();
    let stamping = Stamping { base_offset: 42, leader_epoch: 7, log_append_time_ms: None };
    let after = stamp(before.clone(), &stamping);
    assert_eq!(before, shared, "bytes with another holder are copied, not changed");
    let header = BatchHeader::parse(&after).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (42, 7));
    assert_eq!(after[16..], before[16..]);
    assert_eq!(base_offset_of(&after), Some(42));

    let timed = Stamping { log_append_time_ms: Some(77), ..stamping };
    let after = stamp(before, &timed);
    let header = BatchHeader::parse(&after).unwrap();
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(header.max_timestamp, 77);
    assert_eq!(header.crc, crc32c::crc32c(&after[AT_ATTRIBUTES..]));
    assert!(Records::new(&after).unwrap().all(|r| r.unwrap().timestamp == 77));
}

#[test]
fn a_sole_owner_is_stamped_without_a_copy() {
    let bytes = batch();
    let at = bytes.as_ptr();
    let stamping = Stamping { base_offset: 1, leader_epoch: 1, log_append_time_ms: None };
    assert_eq!(stamp(bytes, &stamping).as_ptr(), at);
}

#[test]
fn kafka_protocol_reads_what_we_build() {
    use kafka_protocol::records::RecordBatchDecoder;
    let mut bytes = batch();
    let set = RecordBatchDecoder::decode(&mut bytes).unwrap();
    assert_eq!(set.records.len(), 3);
    assert_eq!(set.records[1].timestamp, 900);
    assert_eq!(set.records[2].headers.len(), 1);
    assert_eq!((set.records[2].producer_id, set.records[2].sequence), (7, 5));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = validate(&bytes, &RULES);
        if let Ok(records) = Records::new(&bytes) {
            records.for_each(drop);
        }
    }

    #[test]
    fn a_mutated_batch_never_panics_and_never_walks_past_its_end(
        cut in 0usize..500, at in 0usize..500, byte: u8, repair: bool,
    ) {
        let good = batch();
        let at = at % good.len();
        let mut bytes = if repair && at != AT_CRC {
            with(&good, at, &[byte])
        } else {
            let mut copy = BytesMut::from(&good[..]);
            copy[at] = byte;
            copy.freeze()
        };
        bytes.truncate(good.len() - cut % good.len());
        match validate(&bytes, &RULES) {
            Ok(header) => {
                prop_assert_eq!(header.total_len(), bytes.len());
                let count = Records::new(&bytes).map(|r| r.map(Result::unwrap).count());
                if let Ok(count) = count {
                    prop_assert_eq!(count as i32, header.records_count);
                }
            }
            Err(error) => prop_assert!(error.code().is_err()),
        }
        if let Ok(records) = Records::new(&bytes) {
            records.for_each(drop);
        }
    }

    #[test]
    fn varints_round_trip(value: i64, small: i32) {
        let mut out = BytesMut::new();
        put_varlong(&mut out, value);
        put_varint(&mut out, small);
        prop_assert!(out.len() <= 15);
        let batch = BatchBuilder::new(0).record(value, None, None, &[]).build();
        let record = Records::new(&batch).unwrap().next().unwrap().unwrap();
        prop_assert_eq!(record.timestamp, value);
    }
}
