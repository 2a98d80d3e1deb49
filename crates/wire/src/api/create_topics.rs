//! CreateTopics (key 19). 4 takes -1 for the broker's defaults (KIP-464), 5 returns the
//! topic's configuration (KIP-525), 7 its id (KIP-516).

use model::{ErrorCode, TopicId};

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct CreateTopicsRequest {
        topics: Vec<CreatableTopic> [2..],
        timeout_ms: i32 [2..] = 60_000,
        validate_only: bool [2..],
    }

    pub struct CreatableTopic {
        name: String [2..],
        /// -1: the default, or as many as `assignments`.
        num_partitions: i32 [2..],
        /// -1: the default, or as `assignments` say.
        replication_factor: i16 [2..],
        assignments: Vec<CreatableReplicaAssignment> [2..],
        configs: Vec<CreatableTopicConfig> [2..],
    }

    pub struct CreatableReplicaAssignment {
        partition_index: i32 [2..],
        broker_ids: Vec<i32> [2..],
    }

    pub struct CreatableTopicConfig {
        name: String [2..],
        value: Option<String> [2..] null [2..] = Some(String::new()),
    }

    pub struct CreateTopicsResponse {
        throttle_time_ms: i32 [2..],
        topics: Vec<CreatableTopicResult> [2..],
    }

    pub struct CreatableTopicResult {
        name: String [2..],
        topic_id: TopicId [7..],
        error_code: ErrorCode [2..],
        error_message: Option<String> [2..] null [2..] = Some(String::new()),
        /// Why `configs` is null.
        topic_config_error_code: ErrorCode [5..] tag 0,
        num_partitions: i32 [5..] = -1,
        replication_factor: i16 [5..] = -1,
        configs: Option<Vec<CreatableTopicConfigs>> [5..] null [5..] = Some(Vec::new()),
    }

    pub struct CreatableTopicConfigs {
        name: String [5..],
        value: Option<String> [5..] null [5..] = Some(String::new()),
        read_only: bool [5..],
        /// As in DescribeConfigs; -1 unknown.
        config_source: i8 [5..] = -1,
        is_sensitive: bool [5..],
    }
}

wire_message!(CreateTopicsRequest: CreateTopics, versions 2..=7, flexible 5.., answered by CreateTopicsResponse);
wire_message!(CreateTopicsResponse: CreateTopics, versions 2..=7, flexible 5..);
