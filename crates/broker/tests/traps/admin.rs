//! Metadata, CreateTopics, DeleteTopics, DescribeConfigs, DescribeCluster, ApiVersions.

use model::{ErrorCode, TopicId};
use wire::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use wire::api::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use wire::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use wire::api::describe_cluster::DescribeClusterRequest;
use wire::api::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use wire::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponseTopic};
use wire::encode_request;

use crate::harness::{Client, batch, topic};

fn metadata(name: &str, create: bool) -> MetadataRequest {
    let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: create,
        ..Default::default()
    }
}

fn described(version: i16, name: &str, create: bool) -> MetadataResponseTopic {
    Client::new().call(version, &metadata(name, create)).topics.remove(0)
}

#[test]
fn metadata_answers_in_every_version() {
    let (topic, mut client) = (topic(3), Client::new());
    for version in 0..=13 {
        let response = client.call(version, &metadata(&topic.name, true));
        let broker = &response.brokers[0];
        assert_eq!((broker.node_id, broker.host.as_str(), broker.port), (1, "localhost", 9092));
        let described = &response.topics[0];
        assert_eq!((described.error_code, described.partitions.len()), (ErrorCode::None, 3));
        for partition in &described.partitions {
            assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::None, 1));
            assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![1], &vec![1]));
        }
        let all = MetadataRequest {
            topics: if version == 0 { Some(Vec::new()) } else { None },
            ..Default::default()
        };
        assert!(!client.call(version, &all).topics.is_empty());
        if version >= 1 {
            let none = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
            assert!(client.call(version, &none).topics.is_empty());
        }
    }
    let by_id = MetadataRequestTopic { topic_id: topic.id, name: None };
    let request = MetadataRequest { topics: Some(vec![by_id.clone()]), ..Default::default() };
    assert_eq!(client.call(12, &request).topics[0].name.as_ref(), Some(&topic.name));
    let unknown = MetadataRequestTopic { topic_id: TopicId([9; 16]), ..by_id };
    let request = MetadataRequest { topics: Some(vec![unknown]), ..Default::default() };
    assert_eq!(client.call(12, &request).topics[0].error_code, ErrorCode::UnknownTopicId);
}

#[test]
fn a_topic_somebody_asks_for_is_created_and_served_in_the_same_answer() {
    let unknown = described(4, "auto-made", false);
    assert_eq!(unknown.error_code, ErrorCode::UnknownTopicOrPartition);
    let made = described(4, "auto-made", true);
    assert_eq!((made.error_code, made.partitions.len()), (ErrorCode::None, 1));
    assert_eq!(made.partitions[0].leader_id, 1);
    assert_eq!(described(4, "no/such name", true).error_code, ErrorCode::InvalidTopicException);
}

fn create(wish: CreatableTopic, validate_only: bool) -> (ErrorCode, String) {
    let topics = vec![wish];
    let request = CreateTopicsRequest { topics, timeout_ms: 10_000, validate_only };
    let result = Client::new().call(7, &request).topics.remove(0);
    (result.error_code, result.error_message.unwrap_or_default())
}

fn wish(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    }
}

#[test]
fn create_topics_validates_and_says_what_is_wrong() {
    assert_eq!(create(wish("checked"), true).0, ErrorCode::None);
    assert_eq!(
        described(4, "checked", false).error_code,
        ErrorCode::UnknownTopicOrPartition,
        "validate_only creates nothing"
    );
    assert_eq!(create(wish("checked"), false).0, ErrorCode::None);
    assert_eq!(create(wish("checked"), false).0, ErrorCode::TopicAlreadyExists);
    let (code, why) = create(CreatableTopic { replication_factor: 3, ..wish("rf") }, false);
    assert_eq!(code, ErrorCode::InvalidReplicationFactor, "{why}");
    let (code, why) = create(CreatableTopic { num_partitions: 0, ..wish("p0") }, false);
    assert_eq!(code, ErrorCode::InvalidPartitions, "{why}");
    let config = |name: &str, value: &str| {
        vec![CreatableTopicConfig { name: name.into(), value: Some(value.into()) }]
    };
    let slip = CreatableTopic { configs: config("retention.mss", "1"), ..wish("slip") };
    let (code, why) = create(slip, false);
    assert_eq!(code, ErrorCode::InvalidConfig);
    assert!(why.contains("retention.ms"), "{why}");
    let assigned = CreatableTopic {
        assignments: vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![7] }],
        ..wish("assigned")
    };
    assert_eq!(create(assigned, false).0, ErrorCode::InvalidReplicaAssignment);
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let (named, identified, mut client) = (topic(1), topic(1), Client::new());
    client.produce(9, &named, -1, batch(&["gone"]));
    let by_name = DeleteTopicsRequest {
        topic_names: vec![named.name.clone()],
        timeout_ms: 10_000,
        ..Default::default()
    };
    assert_eq!(client.call(1, &by_name).responses[0].error_code, ErrorCode::None);
    let again = client.call(5, &by_name).responses.remove(0);
    assert_eq!(again.error_code, ErrorCode::UnknownTopicOrPartition);
    let state = DeleteTopicState { name: None, topic_id: identified.id };
    let by_id =
        DeleteTopicsRequest { topics: vec![state], timeout_ms: 10_000, ..Default::default() };
    let deleted = client.call(6, &by_id).responses.remove(0);
    assert_eq!(
        (deleted.error_code, deleted.name),
        (ErrorCode::None, Some(identified.name.clone()))
    );
    assert_eq!(client.call(6, &by_id).responses[0].error_code, ErrorCode::UnknownTopicId);
    let gone = client.produce(9, &named, -1, batch(&["late"]));
    assert_eq!(gone.error_code, ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn configs_and_the_cluster_are_described() {
    let (topic, mut client) = (topic(1), Client::new());
    for version in 1..=4 {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: 2,
                resource_name: topic.name.clone(),
                configuration_keys: None,
            }],
            include_synonyms: true,
            ..Default::default()
        };
        let result = client.call(version, &request).results.remove(0);
        let retention = result.configs.iter().find(|c| c.name == "retention.ms").unwrap();
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("604800000"), 5));
        assert_eq!(retention.synonyms[0].name, "log.retention.hours");
    }
    for version in 0..=2 {
        let cluster = client.call(version, &DescribeClusterRequest::default());
        assert_eq!((cluster.error_code, cluster.brokers.len()), (ErrorCode::None, 1));
        assert_eq!(cluster.cluster_id.len(), 32);
    }
}

#[test]
fn api_versions_answers_any_version() {
    let named = ApiVersionsRequest {
        client_software_name: "traps".into(),
        client_software_version: "1".into(),
    };
    let mut client = Client::new();
    for version in 0..=4 {
        let response = client.call(version, &named);
        assert_eq!(
            (response.error_code, response.api_keys.len()),
            (ErrorCode::None, wire::supported_versions().len())
        );
        let mut served = response.api_keys.iter().filter(|api| api.api_key != 0);
        assert!(served.all(|api| {
            let key = model::ApiKey::from_i16(api.api_key).unwrap();
            wire::support(key)
                .is_some_and(|s| s.serves(api.min_version) && s.serves(api.max_version))
        }));
        let produce = &response.api_keys[0];
        assert_eq!((produce.api_key, produce.min_version), (0, 0), "KAFKA-18659");
    }
    let mut unknown = encode_request(4, 77, None, &named).unwrap().to_bytes().to_vec();
    unknown[6..8].copy_from_slice(&99i16.to_be_bytes());
    client.raw(&unknown);
    let (id, response) = client.receive::<ApiVersionsResponse>(0);
    assert_eq!((id, response.error_code), (77, ErrorCode::UnsupportedVersion));
    assert_eq!(client.call(3, &named).error_code, ErrorCode::None, "the connection goes on");
}
