//! OffsetCommit (key 8). 2 to 4 carried a retention, which the broker's own replaced (KIP-211); 6
//! has leader epochs (KIP-320), 7 static members (KIP-345), 9 member epochs (KIP-848), 10 topic
//! ids (KIP-848).

use model::{ErrorCode, TopicId};

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct OffsetCommitRequest {
        group_id: String [2..],
        /// -1: not a member.
        generation_id_or_member_epoch: i32 [2..] = -1,
        member_id: String [2..],
        group_instance_id: Option<String> [7..] null [7..] = None,
        retention_time_ms: i64 [2..=4] = -1,
        topics: Vec<OffsetCommitRequestTopic> [2..],
    }

    pub struct OffsetCommitRequestTopic {
        name: String [2..=9],
        topic_id: TopicId [10..],
        partitions: Vec<OffsetCommitRequestPartition> [2..],
    }

    pub struct OffsetCommitRequestPartition {
        partition_index: i32 [2..],
        committed_offset: i64 [2..],
        committed_leader_epoch: i32 [6..] = -1,
        committed_metadata: Option<String> [2..] null [2..] = Some(String::new()),
    }

    pub struct OffsetCommitResponse {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetCommitResponseTopic> [2..],
    }

    pub struct OffsetCommitResponseTopic {
        name: String [2..=9],
        topic_id: TopicId [10..],
        partitions: Vec<OffsetCommitResponsePartition> [2..],
    }

    pub struct OffsetCommitResponsePartition {
        partition_index: i32 [2..],
        error_code: ErrorCode [2..],
    }
}

wire_message!(OffsetCommitRequest: OffsetCommit, versions 2..=10, flexible 8.., answered by OffsetCommitResponse);
wire_message!(OffsetCommitResponse: OffsetCommit, versions 2..=10, flexible 8..);
