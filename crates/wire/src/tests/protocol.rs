//! What the protocol asks of frames, headers and versions beyond the layout of messages.

use bytes::{Bytes, BytesMut};
use model::{ApiKey, ErrorCode};

use crate::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::api::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use crate::api::metadata::MetadataRequest;
use crate::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::frame::take_frame;
use crate::{
    Admission, Message, Request, WireError, decode_request, decode_response, encode_request,
    encode_response, encode_unsupported_version, support, supported_versions,
};

/// A frame as it arrives: off the wire, without its length.
fn arrive(frame: crate::Frame) -> Bytes {
    let mut buffer = BytesMut::from(&frame.to_bytes()[..]);
    let frame = take_frame(&mut buffer, usize::MAX).expect("a sane length");
    assert!(buffer.is_empty());
    frame.expect("a whole frame")
}

#[test]
fn the_table_contains_what_every_client_speaks() {
    // kafka.md: the versions all surveyed clients have in common.
    let floors = [
        (ApiKey::Produce, 3, 7),
        (ApiKey::Fetch, 4, 4),
        (ApiKey::ListOffsets, 1, 3),
        (ApiKey::Metadata, 0, 4),
        (ApiKey::ApiVersions, 0, 2),
        (ApiKey::CreateTopics, 2, 3),
        (ApiKey::DeleteTopics, 1, 1),
        (ApiKey::InitProducerId, 0, 0),
        (ApiKey::OffsetForLeaderEpoch, 2, 2),
        (ApiKey::DescribeConfigs, 1, 1),
        (ApiKey::DescribeCluster, 0, 0),
        (ApiKey::DeleteRecords, 0, 1),
        (ApiKey::AlterConfigs, 0, 1),
        (ApiKey::DescribeLogDirs, 1, 4),
        (ApiKey::CreatePartitions, 0, 1),
        (ApiKey::ElectLeaders, 0, 2),
        (ApiKey::IncrementalAlterConfigs, 0, 1),
        (ApiKey::AlterPartitionReassignments, 0, 1),
        (ApiKey::ListPartitionReassignments, 0, 0),
        (ApiKey::DescribeQuorum, 0, 2),
        (ApiKey::DescribeProducers, 0, 0),
        (ApiKey::ListConfigResources, 0, 1),
        (ApiKey::DescribeTopicPartitions, 0, 0),
        (ApiKey::OffsetCommit, 2, 3),
        (ApiKey::OffsetFetch, 1, 3),
        (ApiKey::FindCoordinator, 0, 1),
        (ApiKey::JoinGroup, 0, 5),
        (ApiKey::Heartbeat, 0, 1),
        (ApiKey::LeaveGroup, 0, 1),
        (ApiKey::SyncGroup, 0, 3),
        (ApiKey::DescribeGroups, 0, 2),
        (ApiKey::ListGroups, 0, 1),
        (ApiKey::DeleteGroups, 0, 1),
        (ApiKey::OffsetDelete, 0, 0),
    ];
    assert_eq!(floors.len(), supported_versions().len());
    for (key, low, high) in floors {
        let api = support(key).expect("in the table");
        assert!(api.serves(low) && api.serves(high), "{}", key.as_str());
    }
    assert!(supported_versions().is_sorted_by(|a, b| a.key < b.key));
    for api in supported_versions() {
        assert!(api.min_advertised <= api.min_served && api.min_served <= api.max);
    }
}

#[test]
fn produce_is_advertised_from_0_and_served_from_3() {
    let api = support(ApiKey::Produce).expect("in the table");
    assert_eq!((api.min_advertised, api.min_served), (0, 3));
    let offered = ApiVersionsResponse::advertise(supported_versions());
    assert_eq!(offered.api_keys[0].min_version, 0);
    let mut frame =
        arrive(encode_request(3, 9, None, &ProduceRequest::default()).expect("encodes")).to_vec();
    frame[3] = 2;
    let request = decode_request(frame.into()).expect("a header");
    assert_eq!(request.admission, Admission::UnsupportedVersion);
    let refused = WireError::UnsupportedVersion { key: ApiKey::Produce, version: 2 };
    assert_eq!(request.decode::<ProduceRequest>(), Err(refused));
}

#[test]
fn request_and_response_declare_the_same_versions() {
    fn same<R: Request>() {
        assert_eq!(R::KEY, R::Response::KEY);
        assert_eq!(R::VERSIONS, R::Response::VERSIONS);
        assert_eq!(R::FLEXIBLE, R::Response::FLEXIBLE);
    }
    use crate::api::*;
    same::<produce::ProduceRequest>();
    same::<fetch::FetchRequest>();
    same::<list_offsets::ListOffsetsRequest>();
    same::<metadata::MetadataRequest>();
    same::<api_versions::ApiVersionsRequest>();
    same::<create_topics::CreateTopicsRequest>();
    same::<delete_topics::DeleteTopicsRequest>();
    same::<init_producer_id::InitProducerIdRequest>();
    same::<offset_for_leader_epoch::OffsetForLeaderEpochRequest>();
    same::<describe_configs::DescribeConfigsRequest>();
    same::<describe_cluster::DescribeClusterRequest>();
}

#[test]
fn an_api_versions_request_of_the_future_is_answered_in_version_0() {
    let frame =
        arrive(encode_request(4, 77, Some("me"), &ApiVersionsRequest::default()).expect("encodes"));
    let mut future = frame.to_vec();
    future[2..4].copy_from_slice(&99_i16.to_be_bytes());
    let request = decode_request(future.into()).expect("a header");
    assert_eq!(request.admission, Admission::UnsupportedVersion);
    assert_eq!(request.header.correlation_id, 77);

    let answer = arrive(encode_unsupported_version(77, supported_versions()).expect("encodes"));
    let (correlation_id, response) = decode_response::<ApiVersionsResponse>(answer, 0).expect("v0");
    assert_eq!(correlation_id, 77);
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion);
    let own = response.api_keys.iter().find(|api| api.api_key == 18).expect("ApiVersions itself");
    assert_eq!((own.min_version, own.max_version), (0, 4));
}

#[test]
fn headers_come_back_as_they_were_sent() {
    for version in MetadataRequest::VERSIONS {
        for client_id in [None, Some(""), Some("client")] {
            let sent = MetadataRequest::default();
            let frame = encode_request(version, -5, client_id, &sent).expect("encodes");
            let request = decode_request(arrive(frame)).expect("a header");
            assert_eq!(request.header.api_key, ApiKey::Metadata);
            assert_eq!(request.header.api_version, version);
            assert_eq!(request.header.correlation_id, -5);
            assert_eq!(request.header.client_id.as_deref(), client_id);
            assert_eq!(request.decode::<MetadataRequest>(), Ok(sent));
        }
    }
}

#[test]
fn unknown_apis_and_short_headers_are_refused() {
    let unknown = Bytes::from_static(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
    assert_eq!(decode_request(unknown), Err(WireError::UnknownApi(i16::MAX)));
    // Known by name, not by this codec.
    let known = Bytes::from_static(&[0, 26, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
    assert_eq!(decode_request(known), Err(WireError::UnknownApi(26)));
    for len in 0..10 {
        let short = Bytes::from_static(&[0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff]).slice(..len);
        assert!(matches!(decode_request(short), Err(WireError::Truncated { .. })));
    }
}

#[test]
fn frames_are_taken_whole_and_in_order() {
    let mut buffer = BytesMut::new();
    for byte in [0, 0, 0, 2, b'a'] {
        buffer.extend_from_slice(&[byte]);
        assert_eq!(take_frame(&mut buffer, 2), Ok(None));
    }
    buffer.extend_from_slice(b"b\0\0\0\0\0\0\0\x03");
    assert_eq!(take_frame(&mut buffer, 2), Ok(Some(Bytes::from_static(b"ab"))));
    assert_eq!(take_frame(&mut buffer, 2), Ok(Some(Bytes::new())));
    assert!(take_frame(&mut buffer, 2).is_err());
}

#[test]
fn fetched_records_leave_uncopied() {
    let records: Vec<Bytes> = (0..3).map(|n| Bytes::from(vec![n; 100_000])).collect();
    let partitions = records
        .iter()
        .map(|records| PartitionData { records: Some(records.clone()), ..Default::default() })
        .collect();
    let topic = FetchableTopicResponse { topic: "t".into(), partitions, ..Default::default() };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };
    for version in FetchResponse::VERSIONS {
        let frame = encode_response(version, 1, &response).expect("encodes");
        for sent in &records {
            let uncopied =
                |chunk: &Bytes| chunk.as_ptr() == sent.as_ptr() && chunk.len() == sent.len();
            assert!(frame.chunks().iter().any(uncopied), "version {version}");
        }
        assert_eq!(frame.len(), frame.to_bytes().len());
        let back = decode_response::<FetchResponse>(arrive(frame), version).expect("decodes").1;
        let partitions = &back.responses[0].partitions;
        assert!(partitions.iter().zip(&records).all(|(p, sent)| p.records.as_ref() == Some(sent)));
    }
}

#[test]
fn produced_records_are_slices_of_their_frame() {
    let data = PartitionProduceData { index: 3, records: Some(Bytes::from(vec![7; 5_000])) };
    let topic =
        TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() };
    for version in ProduceRequest::VERSIONS.filter(|version| *version < 13) {
        let frame = arrive(encode_request(version, 1, None, &request).expect("encodes"));
        let within = frame.as_ptr_range();
        let decoded = decode_request(frame).expect("a header").decode::<ProduceRequest>();
        let decoded = decoded.expect("decodes");
        assert_eq!(decoded, request);
        let records = decoded.topic_data[0].partition_data[0].records.as_ref().expect("records");
        assert!(within.contains(&records.as_ptr()), "version {version}");
    }
}

#[test]
fn a_log_dir_says_from_version_5_on_whether_it_is_cordoned() {
    use crate::api::describe_log_dirs::{DescribeLogDirsResponse, DescribeLogDirsResult};
    let dir = |is_cordoned| DescribeLogDirsResponse {
        results: vec![DescribeLogDirsResult {
            log_dir: "/d".into(),
            total_bytes: 2,
            usable_bytes: 1,
            is_cordoned,
            ..Default::default()
        }],
        ..Default::default()
    };
    let before = super::encode(&dir(true), 4).expect("encodes");
    let after = super::encode(&dir(true), 5).expect("encodes");
    // One byte behind usable_bytes, in front of the directory's and the message's empty tags.
    assert_eq!(before[..before.len() - 2], after[..before.len() - 2]);
    assert_eq!(after[before.len() - 2..], [1, 0, 0]);
    assert_eq!(super::decode::<DescribeLogDirsResponse>(&after, 5), Ok(dir(true)));
    assert_eq!(super::decode::<DescribeLogDirsResponse>(&before, 4), Ok(dir(false)));
}
