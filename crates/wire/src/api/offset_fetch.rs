//! OffsetFetch (key 9). 2 asks for all topics with null and has an error of its own (KIP-88), 5
//! leader epochs (KIP-320), 7 waits for transactions (KIP-447), 8 many groups at once (KIP-709), 9
//! member epochs (KIP-848), 10 topic ids (KIP-848).

use model::{ErrorCode, TopicId};

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct OffsetFetchRequest {
        group_id: String [1..=7],
        /// Null: all.
        topics: Option<Vec<OffsetFetchRequestTopic>> [1..=7] null [2..=7] = Some(Vec::new()),
        groups: Vec<OffsetFetchRequestGroup> [8..],
        require_stable: bool [7..] = false,
    }

    pub struct OffsetFetchRequestTopic {
        name: String [1..=7],
        partition_indexes: Vec<i32> [1..=7],
    }

    pub struct OffsetFetchRequestGroup {
        group_id: String [8..],
        member_id: Option<String> [9..] null [9..] = None,
        member_epoch: i32 [9..] = -1,
        /// Null: all.
        topics: Option<Vec<OffsetFetchRequestTopics>> [8..] null [8..] = Some(Vec::new()),
    }

    pub struct OffsetFetchRequestTopics {
        name: String [8..=9],
        topic_id: TopicId [10..],
        partition_indexes: Vec<i32> [8..],
    }

    pub struct OffsetFetchResponse {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetFetchResponseTopic> [1..=7],
        error_code: ErrorCode [2..=7],
        groups: Vec<OffsetFetchResponseGroup> [8..],
    }

    pub struct OffsetFetchResponseTopic {
        name: String [1..=7],
        partitions: Vec<OffsetFetchResponsePartition> [1..=7],
    }

    pub struct OffsetFetchResponsePartition {
        partition_index: i32 [1..=7],
        committed_offset: i64 [1..=7],
        committed_leader_epoch: i32 [5..=7] = -1,
        metadata: Option<String> [1..=7] null [1..=7] = Some(String::new()),
        error_code: ErrorCode [1..=7],
    }

    pub struct OffsetFetchResponseGroup {
        group_id: String [8..],
        topics: Vec<OffsetFetchResponseTopics> [8..],
        error_code: ErrorCode [8..],
    }

    pub struct OffsetFetchResponseTopics {
        name: String [8..=9],
        topic_id: TopicId [10..],
        partitions: Vec<OffsetFetchResponsePartitions> [8..],
    }

    pub struct OffsetFetchResponsePartitions {
        partition_index: i32 [8..],
        committed_offset: i64 [8..],
        committed_leader_epoch: i32 [8..] = -1,
        metadata: Option<String> [8..] null [8..] = Some(String::new()),
        error_code: ErrorCode [8..],
    }
}

wire_message!(OffsetFetchRequest: OffsetFetch, versions 1..=10, flexible 6.., answered by OffsetFetchResponse);
wire_message!(OffsetFetchResponse: OffsetFetch, versions 1..=10, flexible 6..);
