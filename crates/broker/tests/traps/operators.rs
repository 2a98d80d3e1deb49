//! CreatePartitions, DeleteRecords, DescribeLogDirs, ElectLeaders, DescribeQuorum,
//! DescribeTopicPartitions, DescribeProducers: what an operator's tools ask.

use std::time::{Duration, Instant};

use model::ErrorCode;
use wire::api::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use wire::api::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use wire::api::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsRequest, DescribeLogDirsResponse,
};
use wire::api::describe_producers::{DescribeProducersRequest, TopicRequest as ProducersOf};
use wire::api::describe_quorum::{DescribeQuorumRequest, asked};
use wire::api::describe_topic_partitions::{DescribeTopicPartitionsRequest, TopicRequest};
use wire::api::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use wire::api::init_producer_id::InitProducerIdRequest;
use wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use wire::records::BatchBuilder;

use crate::harness::{Client, Topic, batch, topic};

fn grow(version: i16, topic: CreatePartitionsTopic, validate_only: bool) -> (ErrorCode, String) {
    let request =
        CreatePartitionsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only };
    let result = Client::new().call(version, &request).results.remove(0);
    (result.error_code, result.error_message.unwrap_or_default())
}

fn wanted(topic: &Topic, count: i32) -> CreatePartitionsTopic {
    CreatePartitionsTopic { name: topic.name.clone(), count, assignments: None }
}

fn partitions(topic: &Topic, limit: i32) -> Vec<i32> {
    let mut request = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest { name: topic.name.clone() }],
        response_partition_limit: limit,
        cursor: None,
    };
    let mut seen = Vec::new();
    loop {
        let response = Client::new().call(0, &request);
        for described in response.topics {
            assert_eq!((described.error_code, described.topic_id), (ErrorCode::None, topic.id));
            assert!(described.partitions.len() <= limit as usize);
            for partition in described.partitions {
                assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::None, 1));
                let elr = (&partition.eligible_leader_replicas, &partition.last_known_elr);
                assert!(elr.0.is_some() && elr.1.is_some(), "Java's client fails on a null");
                seen.push(partition.partition_index);
            }
        }
        match response.next_cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => return seen,
        }
    }
}

#[test]
fn a_topic_grows_in_every_version_and_its_new_partitions_serve() {
    let topic = topic(1);
    for version in 0..=3 {
        let count = i32::from(version) + 2;
        assert_eq!(grow(version, wanted(&topic, count + 5), true).0, ErrorCode::None);
        let (code, why) = grow(version, wanted(&topic, count), false);
        assert_eq!(code, ErrorCode::None, "{why}");
        // Every new partition has a leader by the time of the answer.
        assert_eq!(partitions(&topic, 2), (0..count).collect::<Vec<_>>());
    }
    for (count, text) in [(5, "already"), (4, "cannot shrink"), (0, "cannot shrink")] {
        let (code, why) = grow(3, wanted(&topic, count), false);
        assert!(code == ErrorCode::InvalidPartitions && why.contains(text), "{count}: {why}");
    }
    let assigned = |brokers: &[i32]| CreatePartitionsTopic {
        assignments: Some(vec![CreatePartitionsAssignment { broker_ids: brokers.to_vec() }]),
        ..wanted(&topic, 6)
    };
    assert_eq!(grow(3, assigned(&[7]), false).0, ErrorCode::InvalidReplicaAssignment);
    assert_eq!(grow(3, assigned(&[1, 1]), false).0, ErrorCode::InvalidReplicaAssignment);
    assert_eq!(grow(3, assigned(&[1]), false).0, ErrorCode::None);
    let nowhere = CreatePartitionsTopic { name: "nowhere".into(), ..wanted(&topic, 3) };
    assert_eq!(grow(3, nowhere, false).0, ErrorCode::UnknownTopicOrPartition);
    let request = CreatePartitionsRequest {
        topics: vec![wanted(&topic, 7), wanted(&topic, 8)],
        timeout_ms: 10_000,
        validate_only: false,
    };
    let twice = Client::new().call(3, &request).results;
    assert!(twice.iter().all(|result| result.error_code == ErrorCode::InvalidRequest));
}

fn delete(version: i16, topic: &Topic, offset: i64) -> (ErrorCode, i64) {
    let partition = DeleteRecordsPartition { partition_index: 0, offset };
    let asked = DeleteRecordsTopic { name: topic.name.clone(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![asked], timeout_ms: 10_000 };
    let result = Client::new().call(version, &request).topics.remove(0).partitions.remove(0);
    (result.error_code, result.low_watermark)
}

fn earliest(topic: &Topic) -> i64 {
    let asked = ListOffsetsPartition { timestamp: -2, ..Default::default() };
    let asked = ListOffsetsTopic { name: topic.name.clone(), partitions: vec![asked] };
    let request = ListOffsetsRequest { topics: vec![asked], ..Default::default() };
    Client::new().call(4, &request).topics.remove(0).partitions.remove(0).offset
}

#[test]
fn records_are_deleted_up_to_an_offset_and_never_above_the_end() {
    let (topic, mut client) = (topic(1), Client::new());
    for _ in 0..10 {
        assert_eq!(client.produce(9, &topic, -1, batch(&["x"])).error_code, ErrorCode::None);
    }
    for version in 0..=2 {
        let offset = i64::from(version) + 3;
        assert_eq!(delete(version, &topic, offset), (ErrorCode::None, offset));
        assert_eq!(earliest(&topic), offset, "in force with the answer");
    }
    assert_eq!(delete(2, &topic, 2), (ErrorCode::None, 5), "what is gone stays gone");
    let below = client.fetch(11, &topic, 4);
    assert_eq!(below.error_code, ErrorCode::OffsetOutOfRange);
    let there = client.fetch(11, &topic, 5);
    assert_eq!((there.error_code, there.log_start_offset), (ErrorCode::None, 5));
    assert_eq!(delete(2, &topic, 11), (ErrorCode::OffsetOutOfRange, -1));
    assert_eq!(delete(2, &topic, -2), (ErrorCode::OffsetOutOfRange, -1));
    assert_eq!(delete(2, &topic, -1), (ErrorCode::None, 10), "-1 is the high watermark");
    let sent = client.produce(9, &topic, -1, batch(&["y"]));
    assert_eq!(
        (sent.error_code, sent.base_offset, sent.log_start_offset),
        (ErrorCode::None, 10, 10)
    );
    let nowhere = Topic { name: "nowhere".into(), id: topic.id };
    assert_eq!(delete(2, &nowhere, 0), (ErrorCode::UnknownTopicOrPartition, -1));
}

#[test]
fn log_dirs_have_real_sizes() {
    let (topic, mut client) = (topic(2), Client::new());
    let text = "y".repeat(10_000);
    assert_eq!(client.produce(9, &topic, -1, batch(&[&text])).error_code, ErrorCode::None);
    let only = DescribableLogDirTopic { topic: topic.name.clone(), partitions: vec![0] };
    let request = DescribeLogDirsRequest { topics: Some(vec![only]) };
    let size = |response: &DescribeLogDirsResponse| {
        let dir = &response.results[0];
        assert_eq!((response.error_code, dir.error_code), (ErrorCode::None, ErrorCode::None));
        let [topic] = &dir.topics[..] else { panic!("{:?}", dir.topics) };
        let [partition] = &topic.partitions[..] else { panic!("{:?}", topic.partitions) };
        assert_eq!((partition.partition_index, partition.offset_lag), (0, 0));
        partition.partition_size
    };
    // Segments are written behind the acknowledgement.
    let patience = Instant::now() + Duration::from_secs(20);
    while size(&client.call(4, &request)) < 10_000 {
        assert!(Instant::now() < patience, "the segment never grew");
        std::thread::sleep(Duration::from_millis(20));
    }
    for version in 1..=5 {
        let response = client.call(version, &request);
        assert!((10_000..20_000).contains(&size(&response)));
        let dir = &response.results[0];
        assert_eq!(dir.total_bytes > dir.usable_bytes && dir.usable_bytes > 0, version >= 4);
    }
    let all = client.call(4, &DescribeLogDirsRequest { topics: None });
    assert!(all.results[0].topics.iter().any(|found| found.name == topic.name));
    let none = client.call(4, &DescribeLogDirsRequest { topics: Some(Vec::new()) });
    assert!(none.results[0].topics.is_empty());
}

#[test]
fn elections_are_preferred_or_refused() {
    let topic = topic(1);
    let ask = |version, election_type, partition| {
        let asked = TopicPartitions { topic: topic.name.clone(), partitions: vec![partition] };
        let request = ElectLeadersRequest {
            election_type,
            topic_partitions: Some(vec![asked]),
            timeout_ms: 5_000,
        };
        let response = Client::new().call(version, &request);
        let result =
            response.replica_election_results.first().map(|r| r.partition_result[0].clone());
        (response.error_code, result)
    };
    for version in 0..=2 {
        let (code, result) = ask(version, 0, 0);
        let result = result.unwrap();
        assert_eq!((code, result.error_code), (ErrorCode::None, ErrorCode::ElectionNotNeeded));
        assert!(result.error_message.unwrap().contains("leads"));
    }
    let unclean = ask(2, 1, 0).1.unwrap();
    assert_eq!(unclean.error_code, ErrorCode::ElectionNotNeeded);
    assert!(unclean.error_message.unwrap().contains("unclean elections do not exist"));
    assert_eq!(ask(2, 0, 9).1.unwrap().error_code, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(ask(2, 7, 0).0, ErrorCode::InvalidRequest);
    let all = ElectLeadersRequest { topic_partitions: None, ..Default::default() };
    assert!(Client::new().call(2, &all).replica_election_results.is_empty(), "nothing to do");
}

#[test]
fn the_metadata_quorum_is_described_under_kafkas_name() {
    let ask = |version, topic: &str, partition_index| {
        let partition = asked::PartitionData { partition_index };
        let topic = asked::TopicData { topic_name: topic.into(), partitions: vec![partition] };
        Client::new().call(version, &DescribeQuorumRequest { topics: vec![topic] })
    };
    for version in 0..=2 {
        let response = ask(version, "__cluster_metadata", 0);
        assert_eq!(response.error_code, ErrorCode::None);
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::None, 1));
        assert!(partition.leader_epoch > 0 && partition.high_watermark > 0);
        let [voter] = &partition.current_voters[..] else { panic!("{partition:?}") };
        assert_eq!((voter.replica_id, partition.observers.len()), (1, 0));
        assert!(voter.log_end_offset >= partition.high_watermark);
        assert_eq!(voter.last_caught_up_timestamp > 0, version >= 1);
        assert_eq!(voter.replica_directory_id.is_zero(), version < 2);
        assert_eq!(response.nodes.len(), usize::from(version == 2));
    }
    for (topic, partition) in [("__cluster_metadata", 1), ("t", 0)] {
        let response = ask(2, topic, partition);
        let described = &response.topics[0].partitions[0];
        assert_eq!(described.error_code, ErrorCode::UnknownTopicOrPartition);
    }
}

#[test]
fn idempotent_producers_are_described() {
    let (topic, mut client) = (topic(1), Client::new());
    let init = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    let producer = client.call(4, &init);
    let batch = BatchBuilder::new(1_700_000_000_000)
        .producer(producer.producer_id, producer.producer_epoch, 0)
        .value(b"a")
        .value(b"b")
        .build();
    assert_eq!(client.produce(9, &topic, -1, batch).error_code, ErrorCode::None);
    let ask = |name: &str| DescribeProducersRequest {
        topics: vec![ProducersOf { name: name.into(), partition_indexes: vec![0] }],
    };
    let described = client.call(0, &ask(&topic.name)).topics.remove(0).partitions.remove(0);
    assert_eq!(described.error_code, ErrorCode::None);
    let [found] = &described.active_producers[..] else { panic!("{described:?}") };
    assert_eq!((found.producer_id, found.last_sequence), (producer.producer_id, 1));
    assert_eq!((found.last_timestamp, found.current_txn_start_offset), (1_700_000_000_000, -1));
    let nowhere = client.call(0, &ask("nowhere")).topics.remove(0).partitions.remove(0);
    assert_eq!(nowhere.error_code, ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn topic_pages_name_what_does_not_exist() {
    let topic = topic(5);
    assert_eq!(partitions(&topic, 2), [0, 1, 2, 3, 4]);
    assert_eq!(partitions(&topic, 2_000), [0, 1, 2, 3, 4]);
    let request = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest { name: "nowhere".into() }],
        ..Default::default()
    };
    let response = Client::new().call(0, &request);
    assert_eq!(response.topics[0].error_code, ErrorCode::UnknownTopicOrPartition);
    let all = Client::new().call(0, &DescribeTopicPartitionsRequest::default());
    assert!(all.topics.iter().any(|found| found.topic_id == topic.id));
}
