//! Produce, Fetch, ListOffsets, OffsetForLeaderEpoch, InitProducerId.

use std::time::{Duration, Instant};

use bytes::Bytes;
use model::ErrorCode;
use wire::api::fetch::{FetchPartition, FetchResponse};
use wire::api::init_producer_id::InitProducerIdRequest;
use wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use wire::api::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use wire::api::produce::{PartitionProduceData, ProduceResponse};
use wire::records::{BatchBuilder, BatchHeader, base_offset_of};

use crate::harness::{Client, Topic, batch, fetch, produce, topic, zstd_batch};

#[test]
fn every_version_of_produce_and_fetch_carries_records() {
    let (topic, mut client) = (topic(1), Client::new());
    for (at, version) in (3..=13).enumerate() {
        let answer = client.produce(version, &topic, -1, batch(&["v"]));
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::None, at as i64));
    }
    for version in 4..=18 {
        let data = client.fetch(version, &topic, 3);
        assert_eq!((data.error_code, data.high_watermark), (ErrorCode::None, 11));
        assert_eq!((data.last_stable_offset, data.aborted_transactions), (11, None));
        assert_eq!(base_offset_of(&data.records.unwrap()), Some(3));
    }
}

#[test]
fn pipelined_requests_are_stored_and_answered_in_order() {
    let (topic, mut client) = (topic(1), Client::new());
    let ids: Vec<i32> =
        (0..200).map(|_| client.send(9, &produce(9, &topic, -1, batch(&["a", "b"])))).collect();
    for (at, id) in ids.into_iter().enumerate() {
        let (answered, response) = client.receive::<ProduceResponse>(9);
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((answered, partition.error_code), (id, ErrorCode::None));
        assert_eq!(partition.base_offset, 2 * at as i64);
    }
}

#[test]
fn an_offset_inside_a_batch_gets_the_whole_batch() {
    let (topic, mut client) = (topic(1), Client::new());
    client.produce(9, &topic, -1, batch(&["a", "b", "c", "d"]));
    let records = client.fetch(12, &topic, 2).records.unwrap();
    let header = BatchHeader::parse(&records).unwrap();
    assert_eq!((header.base_offset, header.last_offset()), (0, 3));
}

#[test]
fn the_first_batch_of_a_reply_comes_however_large() {
    let (topic, mut client) = (topic(2), Client::new());
    let large = batch(&["x".repeat(50_000).as_str()]);
    let mut both = produce(9, &topic, -1, large.clone());
    let partitions = &mut both.topic_data[0].partition_data;
    partitions.push(PartitionProduceData { index: 1, ..partitions[0].clone() });
    client.call(9, &both);
    let mut request = fetch(12, &topic, 0);
    request.max_bytes = 1_000;
    let partitions = &mut request.topics[0].partitions;
    partitions.push(FetchPartition { partition: 1, ..partitions[0].clone() });
    let response = client.call(12, &request);
    let lengths: Vec<usize> = response.responses[0]
        .partitions
        .iter()
        .map(|data| data.records.as_ref().map_or(0, Bytes::len))
        .collect();
    assert_eq!(lengths, [large.len(), 0]);
}

#[test]
fn a_long_poll_ends_with_the_first_bytes_or_with_its_time() {
    let (topic, mut client) = (topic(1), Client::new());
    let mut request = fetch(12, &topic, 0);
    (request.max_wait_ms, request.min_bytes) = (300, 1);
    let began = Instant::now();
    let empty = client.call(12, &request).responses.remove(0).partitions.remove(0);
    assert_eq!((empty.error_code, empty.records), (ErrorCode::None, Some(Bytes::new())));
    assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());

    request.max_wait_ms = 15_000;
    let began = Instant::now();
    client.send(12, &request);
    std::thread::sleep(Duration::from_millis(100));
    Client::new().produce(9, &topic, -1, batch(&["now"]));
    let (_, woken) = client.receive::<FetchResponse>(12);
    assert!(!woken.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn min_bytes_gathers_several_batches() {
    let (topic, mut client) = (topic(1), Client::new());
    let one = batch(&["0123456789"]);
    let mut request = fetch(12, &topic, 0);
    (request.max_wait_ms, request.min_bytes) = (15_000, 3 * one.len() as i32);
    client.send(12, &request);
    let mut producer = Client::new();
    (0..3).for_each(|_| assert!(!producer.produce(9, &topic, -1, one.clone()).error_code.is_err()));
    let (_, gathered) = client.receive::<FetchResponse>(12);
    let records = gathered.responses[0].partitions[0].records.as_ref().unwrap();
    assert_eq!(records.len(), 3 * one.len());
}

#[test]
fn acks_0_is_never_answered_and_closes_on_an_error() {
    let (topic, mut client) = (topic(1), Client::new());
    client.send(9, &produce(9, &topic, 0, batch(&["silent"])));
    let answer = client.produce(9, &topic, 1, batch(&["loud"]));
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::None, 1));
    let unknown = Topic { name: "no-such-topic".into(), id: topic.id };
    client.send(9, &produce(9, &unknown, 0, batch(&["lost"])));
    assert!(client.is_closed());
}

#[test]
fn refused_batches_get_the_code_kafka_would_give() {
    let (topic, mut client) = (topic(1), Client::new());
    let refuse = |client: &mut Client, version, acks, batch| {
        let answer = client.produce(version, &topic, acks, batch);
        assert_eq!(answer.base_offset, -1);
        answer.error_code
    };
    let good = batch(&["v"]);
    assert_eq!(refuse(&mut client, 9, 2, good.clone()), ErrorCode::InvalidRequiredAcks);
    let mut corrupt = good.to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    assert_eq!(refuse(&mut client, 9, -1, corrupt.into()), ErrorCode::CorruptMessage);
    let two = [&good[..], &good[..]].concat();
    assert_eq!(refuse(&mut client, 9, -1, two.into()), ErrorCode::InvalidRecord);
    assert_eq!(refuse(&mut client, 9, -1, Bytes::new()), ErrorCode::InvalidRecord);
    let zstd = zstd_batch();
    let old = refuse(&mut client, 6, -1, zstd.clone());
    assert_eq!(old, ErrorCode::UnsupportedCompressionType);
    assert_eq!(client.produce(7, &topic, -1, zstd).error_code, ErrorCode::None);
    let control = BatchBuilder::new(0).attributes(0x20).value(b"x").build();
    assert_eq!(refuse(&mut client, 9, -1, control), ErrorCode::InvalidRecord);
    let large = batch(&["x".repeat(2 << 20).as_str()]);
    assert_eq!(refuse(&mut client, 9, -1, large), ErrorCode::MessageTooLarge);
    let mut unknown = produce(9, &topic, -1, good);
    unknown.topic_data[0].partition_data[0].index = 9;
    let answer = client.call(9, &unknown).responses.remove(0).partition_responses.remove(0);
    assert_eq!(answer.error_code, ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn an_idempotent_producer_gets_an_id_and_its_retries_are_no_duplicates() {
    let (topic, mut client) = (topic(1), Client::new());
    let fresh = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    let ids: Vec<i64> = (0..=5).map(|version| client.call(version, &fresh).producer_id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    let of = |sequence| BatchBuilder::new(0).producer(ids[0], 0, sequence).value(b"once").build();
    assert_eq!(client.produce(9, &topic, -1, of(0)).base_offset, 0);
    assert_eq!(client.produce(9, &topic, -1, of(1)).base_offset, 1);
    assert_eq!(client.produce(9, &topic, -1, of(1)).base_offset, 1, "a retry");
    let gap = client.produce(9, &topic, -1, of(7)).error_code;
    assert_eq!(gap, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(client.fetch(12, &topic, 0).high_watermark, 2);
    let transactional =
        InitProducerIdRequest { transactional_id: Some("tx".into()), ..Default::default() };
    let refused = client.call(4, &transactional);
    assert_eq!((refused.error_code, refused.producer_id), (ErrorCode::UnsupportedVersion, -1));
}

#[test]
fn offsets_out_of_range_and_epochs_out_of_time() {
    let (topic, mut client) = (topic(1), Client::new());
    client.produce(9, &topic, -1, batch(&["a"]));
    assert_eq!(client.fetch(12, &topic, -5).error_code, ErrorCode::OffsetOutOfRange);
    assert_eq!(client.fetch(12, &topic, 2).error_code, ErrorCode::OffsetOutOfRange);
    assert_eq!(client.fetch(12, &topic, 1).error_code, ErrorCode::None);
    let fenced = |epoch| {
        let mut request = fetch(12, &topic, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        Client::new().call(12, &request).responses.remove(0).partitions.remove(0).error_code
    };
    assert_eq!(fenced(0), ErrorCode::FencedLeaderEpoch);
    assert_eq!(fenced(1), ErrorCode::None);
    assert_eq!(fenced(2), ErrorCode::UnknownLeaderEpoch);
    let mut by_id = fetch(13, &topic, 0);
    by_id.topics[0].topic_id.0[15] ^= 1;
    let unknown = client.call(13, &by_id).responses.remove(0).partitions.remove(0);
    assert_eq!(unknown.error_code, ErrorCode::UnknownTopicId);
    let mut session = fetch(7, &topic, 0);
    (session.session_id, session.session_epoch) = (5, 3);
    assert_eq!(client.call(7, &session).error_code, ErrorCode::FetchSessionIdNotFound);
}

#[test]
fn list_offsets_knows_the_end_the_start_the_newest_and_times() {
    let (topic, mut client) = (topic(1), Client::new());
    for timestamp in [1_000, 3_000, 2_000] {
        let batch = BatchBuilder::new(timestamp).record(timestamp, None, Some(b"v"), &[]).build();
        assert_eq!(client.produce(9, &topic, -1, batch).error_code, ErrorCode::None);
    }
    let mut ask = |version, timestamp| {
        let partition = ListOffsetsPartition { timestamp, ..Default::default() };
        let topics =
            vec![ListOffsetsTopic { name: topic.name.clone(), partitions: vec![partition] }];
        let request = ListOffsetsRequest { topics, ..Default::default() };
        let answer = client.call(version, &request).topics.remove(0).partitions.remove(0);
        (answer.error_code, answer.offset, answer.timestamp)
    };
    for version in 1..=11 {
        assert_eq!(ask(version, -1), (ErrorCode::None, 3, -1));
        assert_eq!(ask(version, -2), (ErrorCode::None, 0, -1));
        assert_eq!(ask(version, 1_500), (ErrorCode::None, 1, 3_000));
        assert_eq!(ask(version, 0), (ErrorCode::None, 0, 1_000));
        assert_eq!(ask(version, 3_001), (ErrorCode::None, -1, -1));
    }
    assert_eq!(ask(7, -3), (ErrorCode::None, 1, 3_000));
    assert_eq!(ask(6, -3).0, ErrorCode::UnsupportedVersion);
}

#[test]
fn an_epoch_ends_where_the_log_does() {
    let (topic, mut client) = (topic(1), Client::new());
    client.produce(9, &topic, -1, batch(&["a", "b"]));
    for version in 2..=4 {
        let partition = OffsetForLeaderPartition { leader_epoch: 1, ..Default::default() };
        let topics =
            vec![OffsetForLeaderTopic { topic: topic.name.clone(), partitions: vec![partition] }];
        let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
        let end = client.call(version, &request).topics.remove(0).partitions.remove(0);
        assert_eq!((end.error_code, end.leader_epoch, end.end_offset), (ErrorCode::None, 1, 2));
    }
}

#[test]
fn a_log_that_left_ours_is_told_where() {
    let (topic, mut client) = (topic(1), Client::new());
    client.produce(9, &topic, -1, batch(&["a", "b"]));
    let mut after = |offset: i64, epoch: i32| {
        let mut request = fetch(12, &topic, offset);
        request.topics[0].partitions[0].last_fetched_epoch = epoch;
        let answer = client.call(12, &request).responses.remove(0).partitions.remove(0);
        let records = answer.records.unwrap_or_default();
        let diverging = (answer.diverging_epoch.epoch, answer.diverging_epoch.end_offset);
        (answer.error_code, diverging, records.is_empty())
    };
    // The one broker leads in epoch 1, which ends at offset 2.
    assert_eq!(after(1, 1), (ErrorCode::None, (-1, -1), false));
    assert_eq!(after(2, 1), (ErrorCode::None, (-1, -1), true));
    assert_eq!(after(2, 7), (ErrorCode::None, (1, 2), true), "records of an epoch nobody had");
    assert_eq!(after(5, 1), (ErrorCode::None, (1, 2), true), "more of an epoch than there is");
    assert_eq!(after(1, 0).0, ErrorCode::OffsetOutOfRange, "an epoch this log does not know");
}
