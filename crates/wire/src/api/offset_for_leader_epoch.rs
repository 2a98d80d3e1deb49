//! OffsetForLeaderEpoch (key 23): where a leader epoch ends, so that a reader sees a truncated
//! log (KIP-279, KIP-320).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct OffsetForLeaderEpochRequest {
        /// -1 a consumer, -2 a debugging consumer.
        replica_id: i32 [3..] = -2,
        topics: Vec<OffsetForLeaderTopic> [2..],
    }

    pub struct OffsetForLeaderTopic {
        topic: String [2..],
        partitions: Vec<OffsetForLeaderPartition> [2..],
    }

    pub struct OffsetForLeaderPartition {
        partition: i32 [2..],
        /// -1: not checked.
        current_leader_epoch: i32 [2..] = -1,
        leader_epoch: i32 [2..],
    }

    pub struct OffsetForLeaderEpochResponse {
        throttle_time_ms: i32 [2..],
        topics: Vec<OffsetForLeaderTopicResult> [2..],
    }

    pub struct OffsetForLeaderTopicResult {
        topic: String [2..],
        partitions: Vec<EpochEndOffset> [2..],
    }

    pub struct EpochEndOffset {
        error_code: ErrorCode [2..],
        partition: i32 [2..],
        /// The largest epoch not above the one asked for; -1 with an error.
        leader_epoch: i32 [2..] = -1,
        end_offset: i64 [2..] = -1,
    }
}

wire_message!(OffsetForLeaderEpochRequest: OffsetForLeaderEpoch, versions 2..=4, flexible 4.., answered by OffsetForLeaderEpochResponse);
wire_message!(OffsetForLeaderEpochResponse: OffsetForLeaderEpoch, versions 2..=4, flexible 4..);
