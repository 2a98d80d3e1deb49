//! The eleven traps of the protocol that clients of the field fall into, one test each at least.
//! Old encodings are written and read here byte by byte: our own codec could be wrong twice.
//!
//! Those about connections, records and configs have more tests in the files of those names.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{ApiKey, ErrorCode};
use wire::api::api_versions::ApiVersionsRequest;
use wire::api::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use wire::api::init_producer_id::InitProducerIdRequest;
use wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use wire::api::metadata::MetadataRequest;
use wire::records::{BatchBuilder, BatchHeader};
use wire::{ApiSupport, encode_request, support};

use crate::harness::{Client, Topic, batch, topic, zstd_batch};

/// A frame with the old request header.
fn frame(key: i16, version: i16, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(key);
    out.put_i16(version);
    out.put_i32(4_711);
    put_string(&mut out, "old");
    body(&mut out);
    let mut framed = BytesMut::new();
    framed.put_i32(out.len() as i32);
    framed.extend_from_slice(&out);
    framed.freeze()
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn ask(client: &mut Client, frame: Bytes) -> Bytes {
    client.raw(&frame);
    let mut answer = client.frame().expect("an answer");
    assert_eq!(answer.get_i32(), 4_711);
    answer
}

fn offered(key: ApiKey) -> Option<(i16, i16)> {
    let named = ApiVersionsRequest {
        client_software_name: "traps".into(),
        client_software_version: "1".into(),
    };
    let keys = Client::new().call(3, &named).api_keys;
    let found = keys.iter().find(|api| api.api_key == key as i16);
    found.map(|api| (api.min_version, api.max_version))
}

#[test]
fn trap_1_produce_is_offered_from_0_and_refused_below_3() {
    assert_eq!(offered(ApiKey::Produce), Some((0, 13)), "KAFKA-18659");
    for version in 0..=2 {
        let mut client = Client::new();
        client.raw(&frame(0, version, |body| {
            body.put_i16(1);
            body.put_i32(1_000);
            body.put_i32(0);
        }));
        assert!(client.is_closed(), "Produce {version}");
    }
    // KAFKA-19444: a broker with groups offers JoinGroup from 0.
    assert!(offered(ApiKey::JoinGroup).is_none_or(|(min, _)| min == 0));
}

#[test]
fn trap_2_fetch_4_and_init_producer_id_0_speak_the_old_encoding() {
    let (topic, mut client) = (topic(1), Client::new());
    let sent = batch(&["old"]);
    assert_eq!(client.produce(3, &topic, -1, sent.clone()).error_code, ErrorCode::None);
    let mut answer = ask(
        &mut client,
        frame(1, 4, |body| {
            [-1, 100, 1, 1 << 20].into_iter().for_each(|number| body.put_i32(number));
            body.put_i8(0);
            body.put_i32(1);
            put_string(body, &topic.name);
            body.put_i32(1);
            body.put_i32(0);
            body.put_i64(0);
            body.put_i32(1 << 20);
        }),
    );
    assert_eq!((answer.get_i32(), answer.get_i32()), (0, 1), "throttle, topics");
    let length = answer.get_i16() as usize;
    assert_eq!(&answer.split_to(length)[..], topic.name.as_bytes());
    assert_eq!((answer.get_i32(), answer.get_i32(), answer.get_i16()), (1, 0, 0));
    assert_eq!((answer.get_i64(), answer.get_i64()), (1, 1), "high watermark, last stable offset");
    assert_eq!(answer.get_i32(), -1, "no aborted transactions");
    assert_eq!(answer.get_i32() as usize, sent.len());
    assert_eq!(answer.len(), sent.len(), "and nothing behind the records");

    let mut answer = ask(
        &mut client,
        frame(22, 0, |body| {
            body.put_i16(-1);
            body.put_i32(60_000);
        }),
    );
    assert_eq!((answer.get_i32(), answer.get_i16()), (0, 0));
    assert!(answer.get_i64() >= 0);
    assert_eq!((answer.get_i16(), answer.len()), (0, 0), "epoch 0, and nothing behind it");
}

#[test]
fn trap_3_an_unknown_api_versions_gets_a_v0_answer_without_a_flexible_header() {
    let mut client = Client::new();
    let mut answer = ask(&mut client, frame(18, 99, |body| body.put_slice(&[9, 9, 9])));
    assert_eq!(answer.get_i16(), ErrorCode::UnsupportedVersion.code());
    let count = answer.get_i32() as usize;
    assert_eq!((count, answer.len()), (wire::supported_versions().len(), count * 6));
    // Nor has the answer of a version that is flexible itself.
    let named = ApiVersionsRequest {
        client_software_name: "traps".into(),
        client_software_version: "1".into(),
    };
    client.raw(&encode_request(4, 7, None, &named).unwrap().to_bytes());
    let mut answer = client.frame().unwrap();
    assert_eq!((answer.get_i32(), answer.get_i16()), (7, 0), "the error follows the id at once");
}

#[test]
fn trap_4_librdkafkas_versions_are_all_there() {
    let served = |key, version| support(key).is_none_or(|api: &ApiSupport| api.serves(version));
    assert!((2..=4).all(|version| served(ApiKey::CreateTopics, version)));
    // Where there are groups, in these versions; KIP-848 needs exactly heartbeat 1.
    for (key, version) in [
        (ApiKey::LeaveGroup, 1),
        (ApiKey::FindCoordinator, 2),
        (ApiKey::ConsumerGroupHeartbeat, 1),
        (ApiKey::OffsetCommit, 9),
        (ApiKey::OffsetFetch, 9),
    ] {
        assert!(served(key, version), "{}", key.as_str());
    }
    for version in 2..=4 {
        let wish = CreatableTopic {
            name: format!("rdkafka-{version}"),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![wish], ..Default::default() };
        let created = Client::new().call(version, &request).topics.remove(0);
        assert_eq!(created.error_code, ErrorCode::None, "{:?}", created.error_message);
    }
}

#[test]
fn trap_5_zstd_read_committed_and_transactions_need_their_versions() {
    let (topic, mut client) = (topic(1), Client::new());
    let old = client.produce(6, &topic, -1, zstd_batch());
    assert_eq!(old.error_code, ErrorCode::UnsupportedCompressionType);
    assert_eq!(client.produce(7, &topic, -1, zstd_batch()).error_code, ErrorCode::None);
    let old = client.fetch(9, &topic, 0);
    assert_eq!(old.error_code, ErrorCode::UnsupportedCompressionType);
    let new = client.fetch(11, &topic, 0);
    assert_eq!((new.error_code, new.preferred_read_replica), (ErrorCode::None, -1));
    assert!(offered(ApiKey::ListOffsets).is_some_and(|(min, max)| min <= 2 && 2 <= max));
    // KIP-890: Produce 12 would add partitions by itself only under transaction.version 2.
    let named = ApiVersionsRequest {
        client_software_name: "traps".into(),
        client_software_version: "1".into(),
    };
    let features = client.call(4, &named).finalized_features;
    assert!(features.iter().all(|feature| feature.name != "transaction.version"));
}

#[test]
fn trap_6_a_java_producers_first_steps_work() {
    let (topic, mut client) = (topic(1), Client::new());
    let fresh = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let id = client.call(5, &fresh).producer_id;
    assert!(id >= 0);
    let of = |sequence| BatchBuilder::new(0).producer(id, 0, sequence).value(b"v").build();
    for sequence in 0..6 {
        let offset = i64::from(sequence);
        assert_eq!(client.produce(12, &topic, -1, of(sequence)).base_offset, offset);
    }
    for sequence in 1..6 {
        let again = client.produce(12, &topic, -1, of(sequence));
        assert_eq!((again.error_code, again.base_offset), (ErrorCode::None, i64::from(sequence)));
    }
    assert_eq!(client.fetch(12, &topic, 0).high_watermark, 6, "none of them twice");
}

#[test]
fn trap_7_order_nulls_flexible_headers_and_the_crc() {
    let (topic, mut client) = (topic(1), Client::new());
    // A slow question before a quick one: the answers keep the order.
    let mut slow = crate::harness::fetch(12, &topic, 0);
    (slow.max_wait_ms, slow.min_bytes) = (300, 1);
    let first = client.send(12, &slow);
    let second = client.send(1, &MetadataRequest { topics: None, ..Default::default() });
    let mut answer = client.frame().unwrap();
    assert_eq!((answer.get_i32(), answer.get_u8()), (first, 0), "flexible: tags behind the id");
    assert_eq!(client.frame().unwrap().get_i32(), second);
    // Null is -1: all topics; the empty list is none.
    let topics = |count: i32| {
        let mut answer = ask(&mut Client::new(), frame(3, 1, |body| body.put_i32(count)));
        assert_eq!((answer.get_i32(), answer.get_i32()), (1, 1), "one broker: its id");
        let host = answer.get_i16() as usize;
        answer.advance(host + 4);
        assert_eq!(answer.get_i16(), -1, "no rack: a null string is -1");
        assert_eq!(answer.get_i32(), 1, "the controller");
        answer.get_i32()
    };
    assert!(topics(-1) >= 1);
    assert_eq!(topics(0), 0);
    // Offset and epoch are stamped outside of what the checksum covers.
    client.produce(9, &topic, -1, batch(&["a"]));
    let sent = batch(&["b"]);
    client.produce(9, &topic, -1, sent.clone());
    let stored = client.fetch(12, &topic, 1).records.unwrap();
    assert_eq!(BatchHeader::parse(&stored).unwrap().base_offset, 1);
    assert_ne!(stored[..16], sent[..16]);
    assert_eq!(stored[16..], sent[16..]);
    // The append time lies inside: the checksum is made anew.
    let appended = with_config("message.timestamp.type", "LogAppendTime");
    let answer = client.produce(9, &appended, -1, sent.clone());
    let stored = client.fetch(12, &appended, 0).records.unwrap();
    let header = BatchHeader::parse(&stored).unwrap();
    assert_eq!(header.max_timestamp, answer.log_append_time_ms);
    let crc = u32::from_be_bytes(stored[17..21].try_into().unwrap());
    assert_eq!(crc, crc32c::crc32c(&stored[21..]), "from the attributes to the end");
}

fn with_config(name: &str, value: &str) -> Topic {
    let config = CreatableTopicConfig { name: name.into(), value: Some(value.into()) };
    let wish = CreatableTopic {
        name: format!("with-{name}-{value}"),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![config],
        ..Default::default()
    };
    let name = wish.name.clone();
    let request =
        CreateTopicsRequest { topics: vec![wish], timeout_ms: 10_000, ..Default::default() };
    let created = Client::new().call(7, &request).topics.remove(0);
    assert_eq!(created.error_code, ErrorCode::None, "{:?}", created.error_message);
    Topic { name, id: created.topic_id }
}

#[test]
fn trap_8_whole_batches_questions_of_time_and_large_ones_refused_early() {
    let (topic, mut client) = (topic(1), Client::new());
    client.produce(9, &topic, -1, batch(&["a", "b", "c"]));
    let mut small = crate::harness::fetch(12, &topic, 1);
    small.max_bytes = 1;
    small.topics[0].partitions[0].partition_max_bytes = 1;
    let data = client.call(12, &small).responses.remove(0).partitions.remove(0);
    let header = BatchHeader::parse(&data.records.unwrap()).unwrap();
    assert_eq!((header.base_offset, header.last_offset()), (0, 2), "KIP-74, and all of it");
    for (question, offset) in [(-1, 3), (-2, 0), (-3, 0), (0, 0), (i64::MAX, -1)] {
        let asked = ListOffsetsPartition { timestamp: question, ..Default::default() };
        let asked = ListOffsetsTopic { name: topic.name.clone(), partitions: vec![asked] };
        let request = ListOffsetsRequest { topics: vec![asked], ..Default::default() };
        let found = client.call(7, &request).topics.remove(0).partitions.remove(0);
        assert_eq!((found.error_code, found.offset), (ErrorCode::None, offset), "{question}");
    }
    // A keyless record could only be refused on a compacted topic, and there are none.
    let compacted = CreatableTopic {
        name: "compacted".into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig {
            name: "cleanup.policy".into(),
            value: Some("compact".into()),
        }],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![compacted], ..Default::default() };
    let refused = client.call(7, &request).topics.remove(0);
    assert_eq!(refused.error_code, ErrorCode::InvalidConfig);
    // An announced frame beyond the limit is answered before its bytes come.
    let mut liar = Client::new();
    liar.raw(&(200i32 << 20).to_be_bytes());
    assert!(liar.is_closed());
    let large = batch(&[&"x".repeat(2 << 20)]);
    assert_eq!(client.produce(9, &topic, -1, large).error_code, ErrorCode::MessageTooLarge);
}

#[test]
fn trap_9_a_batch_is_what_its_header_says() {
    let (topic, mut client) = (topic(1), Client::new());
    let good = batch(&["a", "b"]);
    let patched = |at: usize, bytes: &[u8]| {
        let mut out = good.to_vec();
        out[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c::crc32c(&out[21..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(out)
    };
    let mut torn = good.to_vec();
    *torn.last_mut().unwrap() ^= 1;
    let twice = Bytes::from([&good[..], &good[..]].concat());
    let mut id_without_sequence = good.to_vec();
    id_without_sequence[43..51].copy_from_slice(&7i64.to_be_bytes());
    let crc = crc32c::crc32c(&id_without_sequence[21..]);
    id_without_sequence[17..21].copy_from_slice(&crc.to_be_bytes());
    for (what, bytes) in [
        ("a flipped bit", Bytes::from(torn)),
        ("an old magic", patched(16, &[1])),
        ("a magic of the future", patched(16, &[3])),
        ("no records", patched(57, &0i32.to_be_bytes())),
        ("a negative count", patched(57, &(-1i32).to_be_bytes())),
        ("fewer offsets than records", patched(23, &0i32.to_be_bytes())),
        ("more offsets than records", patched(23, &5i32.to_be_bytes())),
        ("a control batch", patched(21, &0x20i16.to_be_bytes())),
        ("an id without a sequence", Bytes::from(id_without_sequence)),
        ("two batches", twice),
        ("a batch and a byte", Bytes::from([&good[..], &[0]].concat())),
        ("a batch less a byte", good.slice(..good.len() - 1)),
        ("a record longer than its batch", patched(61, &[0x7e])),
        ("a length that never ends", patched(61, &[0xff; 6])),
        ("nothing", Bytes::new()),
    ] {
        let answer = client.produce(9, &topic, -1, bytes);
        let kafkas = [
            ErrorCode::InvalidRecord,
            ErrorCode::CorruptMessage,
            ErrorCode::UnsupportedForMessageFormat,
        ];
        assert!(kafkas.contains(&answer.error_code), "{what}: {:?}", answer.error_code);
        assert_eq!(answer.base_offset, -1, "{what}");
    }
    assert_eq!(client.produce(9, &topic, -1, good.clone()).base_offset, 0, "none was stored");
}

#[test]
fn trap_10_no_length_is_believed_before_its_bytes() {
    let lie = |frame: Bytes| {
        let mut client = Client::new();
        client.raw(&frame);
        assert!(client.is_closed());
    };
    // Arrays: more than there may be, and more than the frame holds.
    for count in [i32::MAX, 1_000_001, 2, -2] {
        lie(frame(3, 1, |body| body.put_i32(count)));
    }
    // A string beyond the frame; a compact one of 2^35.
    lie(frame(3, 1, |body| {
        body.put_i32(1);
        body.put_i16(i16::MAX);
    }));
    // Tagged fields: ten thousand and one, each of no bytes, in a flexible request's header.
    lie(frame(3, 9, |body| {
        body.put_slice(&[0x91, 0x4e]);
        (0..10_001u32).for_each(|tag| {
            body.put_slice(&[(tag & 0x7f) as u8 | 0x80, (tag >> 7) as u8, 0]);
        });
        body.put_slice(&[0, 0, 0, 0, 0]);
    }));
    lie(frame(3, 9, |body| body.put_slice(&[0, 0xff, 0xff, 0xff, 0xff, 0x7f])));
    assert_eq!(Client::new().call(9, &MetadataRequest::default()).brokers.len(), 1);
}

#[test]
fn trap_11_errors_are_kafkas_own_and_retriable_where_waiting_helps() {
    let (topic, mut client) = (topic(1), Client::new());
    client.produce(9, &topic, -1, batch(&["a"]));
    let nowhere = Topic { name: "nowhere".into(), id: model::TopicId([3; 16]) };
    let produced = |client: &mut Client, version, topic: &Topic| {
        client.produce(version, topic, -1, batch(&["v"])).error_code
    };
    assert_eq!(produced(&mut client, 9, &nowhere), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(produced(&mut client, 13, &nowhere), ErrorCode::UnknownTopicId);
    assert_eq!(client.fetch(12, &nowhere, 0).error_code, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(client.fetch(13, &nowhere, 0).error_code, ErrorCode::UnknownTopicId);
    let at_epoch = |client: &mut Client, epoch| {
        let mut ask = crate::harness::fetch(12, &topic, 0);
        ask.topics[0].partitions[0].current_leader_epoch = epoch;
        client.call(12, &ask).responses.remove(0).partitions.remove(0).error_code
    };
    assert_eq!(at_epoch(&mut client, 0), ErrorCode::FencedLeaderEpoch);
    assert_eq!(at_epoch(&mut client, 1_000), ErrorCode::UnknownLeaderEpoch);
    assert_eq!(client.fetch(12, &topic, 9).error_code, ErrorCode::OffsetOutOfRange);
    assert_eq!(
        client.produce(9, &topic, 7, batch(&["v"])).error_code,
        ErrorCode::InvalidRequiredAcks
    );
    // Java retries these; the codes are part of its behaviour.
    for (code, number) in [
        (ErrorCode::LeaderNotAvailable, 5),
        (ErrorCode::NotLeaderOrFollower, 6),
        (ErrorCode::RequestTimedOut, 7),
        (ErrorCode::CoordinatorLoadInProgress, 14),
        (ErrorCode::CoordinatorNotAvailable, 15),
        (ErrorCode::NotCoordinator, 16),
        (ErrorCode::NotController, 41),
        (ErrorCode::KafkaStorageError, 56),
    ] {
        assert_eq!(code.code(), number);
    }
}
