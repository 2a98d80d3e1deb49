//! Metadata (key 3). 1 has the controller and null for "all topics", 4 says whether to create
//! topics, 5 offline replicas, 7 leader epochs (KIP-320), 8 authorized operations (KIP-430),
//! 10 topic ids (KIP-516), 12 questions by topic id, 13 an error of the whole (KIP-1102).

use model::{ErrorCode, TopicId};

use crate::codec::{wire_message, wire_struct};

/// `*_authorized_operations` when nobody asked.
pub const AUTHORIZED_OPERATIONS_OMITTED: i32 = i32::MIN;

wire_struct! {
    pub struct MetadataRequest {
        /// Null asks for all topics; in version 0 that is the empty list.
        topics: Option<Vec<MetadataRequestTopic>> [0..] null [1..] = Some(Vec::new()),
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    pub struct MetadataRequestTopic {
        topic_id: TopicId [10..],
        name: Option<String> [0..] null [10..] = Some(String::new()),
    }

    pub struct MetadataResponse {
        throttle_time_ms: i32 [3..],
        brokers: Vec<MetadataResponseBroker> [0..],
        cluster_id: Option<String> [2..] null [2..] = None,
        controller_id: i32 [1..] = -1,
        topics: Vec<MetadataResponseTopic> [0..],
        cluster_authorized_operations: i32 [8..=10] = AUTHORIZED_OPERATIONS_OMITTED,
        error_code: ErrorCode [13..],
    }

    pub struct MetadataResponseBroker {
        node_id: i32 [0..],
        host: String [0..],
        port: i32 [0..],
        rack: Option<String> [1..] null [1..] = None,
    }

    pub struct MetadataResponseTopic {
        error_code: ErrorCode [0..],
        /// Null only for an unknown topic that was asked for by id.
        name: Option<String> [0..] null [12..] = Some(String::new()),
        topic_id: TopicId [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataResponsePartition> [0..],
        topic_authorized_operations: i32 [8..] = AUTHORIZED_OPERATIONS_OMITTED,
    }

    pub struct MetadataResponsePartition {
        error_code: ErrorCode [0..],
        partition_index: i32 [0..],
        /// -1: none.
        leader_id: i32 [0..],
        leader_epoch: i32 [7..] = -1,
        replica_nodes: Vec<i32> [0..],
        isr_nodes: Vec<i32> [0..],
        offline_replicas: Vec<i32> [5..],
    }
}

wire_message!(MetadataRequest: Metadata, versions 0..=13, flexible 9.., answered by MetadataResponse);
wire_message!(MetadataResponse: Metadata, versions 0..=13, flexible 9..);
