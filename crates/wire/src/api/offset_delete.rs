//! OffsetDelete (key 47, KIP-496): forgets committed offsets of topics that the group does not
//! read any more. It has no flexible version.

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct OffsetDeleteRequest {
        group_id: String [0..],
        topics: Vec<OffsetDeleteRequestTopic> [0..],
    }

    pub struct OffsetDeleteRequestTopic {
        name: String [0..],
        partitions: Vec<OffsetDeleteRequestPartition> [0..],
    }

    pub struct OffsetDeleteRequestPartition {
        partition_index: i32 [0..],
    }

    pub struct OffsetDeleteResponse {
        error_code: ErrorCode [0..],
        throttle_time_ms: i32 [0..],
        topics: Vec<OffsetDeleteResponseTopic> [0..],
    }

    pub struct OffsetDeleteResponseTopic {
        name: String [0..],
        partitions: Vec<OffsetDeleteResponsePartition> [0..],
    }

    pub struct OffsetDeleteResponsePartition {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
    }
}

wire_message!(OffsetDeleteRequest: OffsetDelete, versions 0..=0, flexible 1.., answered by OffsetDeleteResponse);
wire_message!(OffsetDeleteResponse: OffsetDelete, versions 0..=0, flexible 1..);
