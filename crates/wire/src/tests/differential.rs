//! Every message in every version against the kafka-protocol crate, in both directions: what
//! we encode it decodes to the same fields, and what it encodes we decode to the same message.
//! Fields are compared by name, so two of the same type cannot be mixed up unseen; those a
//! version lacks are compared by their defaults.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader as TheirRequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message as TheirMessage};
use model::{ApiKey, ErrorCode};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{Arbitrary, decode, draw, encode, every_message};
use crate::{Message, encode_request, encode_response, supported_versions};

/// Versions kafka-protocol does not have. Each is checked to be byte for byte the version
/// before it.
const LACKING: &[(ApiKey, i16)] = &[(ApiKey::ListOffsets, 11)];

/// Versions it does not have either and that add a field; `protocol` has their bytes.
const LACKING_A_FIELD: &[(ApiKey, i16)] = &[(ApiKey::DescribeLogDirs, 5)];

/// Versions that name topics by id and of which it has not both halves: read back here, and spoken
/// by Kafka's own Java client in the cluster tests.
const ALONE: &[(ApiKey, i16)] = &[(ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10)];

every_message!(agrees);

fn agrees<Ours, Theirs>()
where
    Ours: Message + Arbitrary + Debug + PartialEq,
    Theirs: TheirMessage + Decodable + Encodable + HeaderVersion + Debug,
{
    for version in Ours::VERSIONS {
        let theirs_knows = (Theirs::VERSIONS.min..=Theirs::VERSIONS.max).contains(&version);
        let lacking = LACKING.contains(&(Ours::KEY, version));
        let lacking_a_field = LACKING_A_FIELD.contains(&(Ours::KEY, version));
        let alone = !theirs_knows && ALONE.contains(&(Ours::KEY, version));
        let ours_only = lacking || lacking_a_field || alone;
        assert_ne!(theirs_knows, ours_only, "{} v{version}", Ours::KEY.as_str());
        TestRunner::default()
            .run(&any::<u64>(), |seed| {
                let ours = draw::<Ours>(seed, version);
                if lacking_a_field || alone {
                    let bytes = encode(&ours, version).expect("encodes");
                    assert_eq!(decode::<Ours>(&bytes, version).expect("decodes"), ours);
                } else if lacking {
                    same_as_before(&ours, version);
                } else {
                    both_ways::<Ours, Theirs>(&ours, version);
                    framed_alike::<Ours, Theirs>(&ours, version);
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{} v{version}: {error}", Ours::KEY.as_str()));
    }
}

fn same_as_before<Ours: Message + Debug + PartialEq>(ours: &Ours, version: i16) {
    let bytes = encode(ours, version).expect("encodes");
    assert_eq!(bytes, encode(ours, version - 1).expect("encodes"));
    assert_eq!(&decode::<Ours>(&bytes, version).expect("decodes"), ours);
}

fn both_ways<Ours, Theirs>(ours: &Ours, version: i16)
where
    Ours: Message + Debug + PartialEq,
    Theirs: Decodable + Encodable + Debug,
{
    let bytes = encode(ours, version).expect("encodes");
    let mut rest = bytes.clone();
    let theirs = Theirs::decode(&mut rest, version).expect("kafka-protocol decodes ours");
    assert!(rest.is_empty(), "kafka-protocol leaves {} bytes", rest.len());
    assert_eq!(our_fields(ours), their_fields(&theirs));

    let mut again = BytesMut::new();
    theirs.encode(&mut again, version).expect("kafka-protocol encodes");
    assert_eq!(Bytes::from(again.clone()), bytes);
    assert_eq!(&decode::<Ours>(&again.freeze(), version).expect("we decode theirs"), ours);
}

/// Headers: theirs in front of the same body is our frame.
fn framed_alike<Ours: Message, Theirs: HeaderVersion>(ours: &Ours, version: i16) {
    let header = Theirs::header_version(version);
    let body = encode(ours, version).expect("encodes");
    let mut request = BytesMut::new();
    let mut response = BytesMut::new();
    let is_request = std::any::type_name::<Ours>().ends_with("Request");
    let (expected, frame) = if is_request {
        TheirRequestHeader::default()
            .with_request_api_key(Ours::KEY as i16)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some("me".to_string().into()))
            .encode(&mut request, header)
            .expect("header encodes");
        (request, encode_request(version, 7, Some("me"), ours))
    } else {
        ResponseHeader::default()
            .with_correlation_id(7)
            .encode(&mut response, header)
            .expect("header encodes");
        (response, encode_response(version, 7, ours))
    };
    let frame = frame.expect("encodes").to_bytes();
    let length = (expected.len() + body.len()) as i32;
    assert_eq!(frame, [&length.to_be_bytes(), &expected[..], &body[..]].concat());
}

/// `Debug` of our message in kafka-protocol's spelling: ids without their type, error codes as
/// numbers.
fn our_fields(value: &impl Debug) -> String {
    let mut out = format!("{value:?}").replace("TopicId(", "(").replace("DirectoryId(", "(");
    // A field of a version they lack.
    out = out.replace(", is_cordoned: false", "");
    for code in ErrorCode::ALL {
        let (name, number) = (format!("error_code: {code:?}"), code.code());
        for end in [", ", " }"] {
            out = out.replace(&format!("{name}{end}"), &format!("error_code: {number}{end}"));
        }
    }
    plain(&out)
}

/// `Debug` of kafka-protocol's message, without what no version on the wire carries.
fn their_fields(value: &impl Debug) -> String {
    let out = format!("{value:?}")
        .replace(", unknown_tagged_fields: {}", "")
        .replace(", enable_2_pc: false, keep_prepared_txn: false", "")
        .replace(", ongoing_txn_producer_id: -1, ongoing_txn_producer_epoch: -1", "");
    plain(&out)
}

/// Without the hyphens inside uuids, and without parentheses, which newtypes add.
fn plain(text: &str) -> String {
    let mut previous = ' ';
    text.chars()
        .filter(|char| {
            let hyphen = *char == '-' && previous.is_ascii_hexdigit();
            previous = *char;
            !hyphen && !matches!(char, '(' | ')')
        })
        .collect()
}

#[test]
fn every_api_of_the_table_is_compared() {
    assert_eq!(supported_versions().len(), APIS);
}
