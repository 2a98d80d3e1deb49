//! ListOffsets (key 2). 2 has the isolation level (KIP-98), 4 leader epochs (KIP-320), 7 the
//! largest timestamp (KIP-734), 8 the local log start (KIP-405), 9 the last tiered offset
//! (KIP-1005), 10 a timeout (KIP-1075), 11 the earliest not yet tiered offset (KIP-1023).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct ListOffsetsRequest {
        /// -1: a consumer.
        replica_id: i32 [1..] = -1,
        /// 0 read_uncommitted, 1 read_committed.
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic> [1..],
        timeout_ms: i32 [10..],
    }

    pub struct ListOffsetsTopic {
        name: String [1..],
        partitions: Vec<ListOffsetsPartition> [1..],
    }

    pub struct ListOffsetsPartition {
        partition_index: i32 [1..],
        current_leader_epoch: i32 [4..] = -1,
        /// Milliseconds since 1970, or a question: -1 the end, -2 the start, -3 the record of
        /// the largest timestamp, -4 the local start, -5 the last tiered, -6 the first not.
        timestamp: i64 [1..],
    }

    pub struct ListOffsetsResponse {
        throttle_time_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse> [1..],
    }

    pub struct ListOffsetsTopicResponse {
        name: String [1..],
        partitions: Vec<ListOffsetsPartitionResponse> [1..],
    }

    pub struct ListOffsetsPartitionResponse {
        partition_index: i32 [1..],
        error_code: ErrorCode [1..],
        timestamp: i64 [1..] = -1,
        offset: i64 [1..] = -1,
        leader_epoch: i32 [4..] = -1,
    }
}

wire_message!(ListOffsetsRequest: ListOffsets, versions 1..=11, flexible 6.., answered by ListOffsetsResponse);
wire_message!(ListOffsetsResponse: ListOffsets, versions 1..=11, flexible 6..);
