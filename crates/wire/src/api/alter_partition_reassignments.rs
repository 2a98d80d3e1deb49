//! AlterPartitionReassignments (key 45, KIP-455). 1 may forbid another number of replicas
//! (KIP-860).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct AlterPartitionReassignmentsRequest {
        timeout_ms: i32 [0..] = 60_000,
        allow_replication_factor_change: bool [1..] = true,
        topics: Vec<ReassignableTopic> [0..],
    }

    pub struct ReassignableTopic {
        name: String [0..],
        partitions: Vec<ReassignablePartition> [0..],
    }

    pub struct ReassignablePartition {
        partition_index: i32 [0..],
        /// Null takes a reassignment that is under way back.
        replicas: Option<Vec<i32>> [0..] null [0..] = None,
    }

    pub struct AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32 [0..],
        allow_replication_factor_change: bool [1..] = true,
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..] null [0..] = Some(String::new()),
        responses: Vec<ReassignableTopicResponse> [0..],
    }

    pub struct ReassignableTopicResponse {
        name: String [0..],
        partitions: Vec<ReassignablePartitionResponse> [0..],
    }

    pub struct ReassignablePartitionResponse {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..] null [0..] = Some(String::new()),
    }
}

wire_message!(AlterPartitionReassignmentsRequest: AlterPartitionReassignments, versions 0..=1, flexible 0.., answered by AlterPartitionReassignmentsResponse);
wire_message!(AlterPartitionReassignmentsResponse: AlterPartitionReassignments, versions 0..=1, flexible 0..);
