//! Bytes that lie. Whatever they say, the answer is an error, never a panic; how much memory
//! they can claim is measured in `tests/allocation.rs`.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use model::limits::{ARRAY_ELEMENTS_MAX, REQUEST_BYTES_MAX, TAGGED_FIELDS_MAX};

use super::{Arbitrary, Source, decode, draw, encode, every_message};
use crate::api::describe_configs::DescribeConfigsRequest;
use crate::api::fetch::FetchRequest;
use crate::api::metadata::{MetadataRequest, MetadataResponse};
use crate::api::produce::ProduceRequest;
use crate::frame::take_frame;
use crate::{Decoder, Message, WireError, decode_request, supported_versions};

every_message!(survives);

#[expect(clippy::extra_unused_type_parameters, reason = "the list names pairs")]
fn survives<Ours: Message + Arbitrary + Debug + PartialEq, Theirs>() {
    assert!(supported_versions().len() >= APIS);
    for version in Ours::VERSIONS {
        for seed in 0..8 {
            let bytes = encode(&draw::<Ours>(seed, version), version).expect("encodes");
            every_truncation_errs::<Ours>(&bytes, version);
            trailing_byte_errs::<Ours>(&bytes, version);
        }
        for seed in 0..400 {
            mutation_is_an_error_or_a_message::<Ours>(seed, version);
        }
    }
}

fn every_truncation_errs<Ours: Message + Debug>(bytes: &Bytes, version: i16) {
    for cut in 0..bytes.len() {
        let result = decode::<Ours>(&bytes.slice(..cut), version);
        assert!(result.is_err(), "v{version} cut at {cut} of {}: {result:?}", bytes.len());
    }
}

fn trailing_byte_errs<Ours: Message + Debug>(bytes: &Bytes, version: i16) {
    let longer = [&bytes[..], &[0]].concat().into();
    match decode::<Ours>(&longer, version) {
        Err(WireError::TrailingBytes(1)) => {}
        other => panic!("v{version}: {other:?}"),
    }
}

/// A mutation that still decodes is a message like any other: it survives a round trip.
fn mutation_is_an_error_or_a_message<Ours>(seed: u64, version: i16)
where
    Ours: Message + Arbitrary + Debug + PartialEq,
{
    let bytes = encode(&draw::<Ours>(seed, version), version).expect("encodes");
    let mutated = mutate(&bytes, &mut Source::new(!seed));
    if let Ok(message) = decode::<Ours>(&mutated, version) {
        let again = encode(&message, version).expect("what was decoded can be encoded");
        assert_eq!(decode::<Ours>(&again, version), Ok(message), "seed {seed} v{version}");
    }
}

/// One to four bytes overwritten, most often with the values lengths lie with.
fn mutate(bytes: &[u8], source: &mut Source) -> Bytes {
    let mut out = bytes.to_vec();
    for _ in 0..=source.below(4) {
        if out.is_empty() {
            out.push(0);
        }
        let at = source.below(out.len());
        let end = (at + 4).min(out.len());
        match source.below(6) {
            0 => out[at..end].fill(0xff),
            1 => out[at..end].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff][..end - at]),
            2 => out[at] = 0x80,
            3 => out.truncate(at),
            4 => out.insert(at, source.next() as u8),
            _ => out[at] = source.next() as u8,
        }
    }
    out.into()
}

/// A request frame (without its length) of any API and version, valid or nearly so.
fn some_frame(source: &mut Source) -> Bytes {
    let apis = supported_versions();
    let api = apis[source.below(apis.len())];
    let version = source.below(api.max as usize + 2) as i16;
    let body = match source.below(4) {
        0 => (0..source.below(64)).map(|_| source.next() as u8).collect(),
        1 => draw_request_body::<ProduceRequest>(source, version),
        2 => draw_request_body::<FetchRequest>(source, version),
        _ => draw_request_body::<MetadataRequest>(source, version),
    };
    let mut frame = (api.key as i16).to_be_bytes().to_vec();
    frame.extend(version.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 2, b'm', b'e']);
    frame.extend(body);
    mutate(&frame, source)
}

fn draw_request_body<M: Message + Arbitrary>(source: &mut Source, version: i16) -> Vec<u8> {
    if !M::VERSIONS.contains(&version) {
        return Vec::new();
    }
    encode(&draw::<M>(source.next(), version), version).expect("encodes").to_vec()
}

#[test]
fn ten_thousand_malformed_frames_are_refused_or_understood() {
    let mut refused = 0;
    for seed in 0..10_000 {
        let frame = some_frame(&mut Source::new(seed));
        let Ok(request) = decode_request(frame) else {
            refused += 1;
            continue;
        };
        refused += usize::from(request.check().is_err());
    }
    assert!(refused > 5_000, "only {refused} were malformed");
}

#[test]
fn frame_lengths_that_lie_are_refused_before_the_frame_is_awaited() {
    for length in [-1, i32::MIN, i32::MAX, REQUEST_BYTES_MAX as i32 + 1] {
        let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
        let refused = WireError::FrameLength { length: length.into(), max: REQUEST_BYTES_MAX };
        assert_eq!(take_frame(&mut buffer, REQUEST_BYTES_MAX), Err(refused));
    }
}

#[test]
fn array_lengths_that_lie_are_refused() {
    let truncated = |result| matches!(result, Err(WireError::Truncated { .. }));
    // Metadata v1: the array length is the whole body.
    let body = |length: i32| Bytes::copy_from_slice(&length.to_be_bytes());
    assert!(truncated(decode::<MetadataRequest>(&body(i32::MAX), 1)));
    assert!(truncated(decode::<MetadataRequest>(&body(1), 1)));
    assert_eq!(decode::<MetadataRequest>(&body(-2), 1), Err(WireError::NegativeLength(-2)));
    assert_eq!(decode::<MetadataRequest>(&body(-1), 0), Err(WireError::UnexpectedNull));
    assert_eq!(decode::<MetadataRequest>(&body(-1), 1).map(|m| m.topics), Ok(None));
    // Version 9: 4 GiB of topics in five bytes, then a varint that never ends.
    let compact: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(truncated(decode::<MetadataRequest>(&Bytes::from_static(compact), 9)));
    let endless = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x1f]);
    assert_eq!(decode::<MetadataRequest>(&endless, 9), Err(WireError::VarintOverrun));
}

#[test]
fn a_million_elements_is_the_bound_of_a_whole_message() {
    let flat = |count: usize| {
        let mut body = (count as i32).to_be_bytes().to_vec();
        body.resize(body.len() + count * 2, 0);
        Bytes::from(body)
    };
    assert!(decode::<MetadataRequest>(&flat(ARRAY_ELEMENTS_MAX), 0).is_ok());
    let refused =
        WireError::TooManyElements { len: ARRAY_ELEMENTS_MAX + 1, left: ARRAY_ELEMENTS_MAX };
    assert_eq!(decode::<MetadataRequest>(&flat(ARRAY_ELEMENTS_MAX + 1), 0), Err(refused));

    // Two resources, each with half a million keys and one: together above the bound.
    let half = ARRAY_ELEMENTS_MAX / 2;
    let mut body = 2_i32.to_be_bytes().to_vec();
    for _ in 0..2 {
        body.extend([2, 0, 0]);
        body.extend((half as i32).to_be_bytes());
        body.resize(body.len() + half * 2, 0);
    }
    body.push(0);
    let refused = WireError::TooManyElements { len: half, left: half - 2 };
    assert_eq!(decode::<DescribeConfigsRequest>(&body.into(), 1), Err(refused));
}

#[test]
fn text_is_utf8() {
    let body = Bytes::from_static(&[0, 0, 0, 1, 0, 1, 0xff]);
    assert_eq!(decode::<MetadataRequest>(&body, 0), Err(WireError::InvalidUtf8));
}

/// Behind the fields of a DescribeCluster-like body: tagged fields as given.
fn with_tags(tags: &[u8]) -> Result<(), WireError> {
    Decoder::new(Bytes::copy_from_slice(tags)).tagged_fields(|decoder, tag| {
        if tag != 1 {
            return Ok(false);
        }
        decoder.i16().map(|_| true)
    })
}

#[test]
fn tagged_fields_ascend_and_fill_their_size() {
    assert_eq!(with_tags(&[0]), Ok(()));
    assert_eq!(with_tags(&[2, 0, 3, 9, 9, 9, 1, 2, 0, 7]), Ok(()));
    assert_eq!(with_tags(&[2, 1, 2, 0, 7, 1, 2, 0, 7]), Err(WireError::TagOrder { tag: 1 }));
    assert_eq!(with_tags(&[2, 5, 0, 4, 0]), Err(WireError::TagOrder { tag: 4 }));
    assert_eq!(with_tags(&[1, 1, 3, 0, 7, 0]), Err(WireError::TagSize { tag: 1, left: 1 }));
    // A field may not read past its size into what follows.
    let past = WireError::Truncated { needed: 2, remaining: 1 };
    assert_eq!(with_tags(&[1, 1, 1, 0, 7]), Err(past));
    let past = WireError::Truncated { needed: 9, remaining: 1 };
    assert_eq!(with_tags(&[1, 0, 9, 0]), Err(past));
    let many = WireError::TooManyTaggedFields(TAGGED_FIELDS_MAX + 1);
    assert_eq!(with_tags(&[0x91, 0x4e]), Err(many));
}

#[test]
fn null_is_refused_where_a_version_has_none() {
    let mut response = MetadataResponse::default();
    response
        .topics
        .push(crate::api::metadata::MetadataResponseTopic { name: None, ..Default::default() });
    assert!(encode(&response, 12).is_ok());
    assert_eq!(encode(&response, 11), Err(WireError::UnexpectedNull));
}

#[test]
fn text_longer_than_its_length_can_say_is_refused() {
    let request = FetchRequest { rack_id: "r".repeat(40_000), ..FetchRequest::default() };
    assert_eq!(encode(&request, 11), Err(WireError::TooLong(40_000)));
}
