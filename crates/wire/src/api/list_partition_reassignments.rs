//! ListPartitionReassignments (key 46, KIP-455).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct ListPartitionReassignmentsRequest {
        timeout_ms: i32 [0..] = 60_000,
        /// Null asks for every partition.
        topics: Option<Vec<ListPartitionReassignmentsTopics>> [0..] null [0..] = None,
    }

    pub struct ListPartitionReassignmentsTopics {
        name: String [0..],
        partition_indexes: Vec<i32> [0..],
    }

    pub struct ListPartitionReassignmentsResponse {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..] null [0..] = Some(String::new()),
        topics: Vec<OngoingTopicReassignment> [0..],
    }

    pub struct OngoingTopicReassignment {
        name: String [0..],
        partitions: Vec<OngoingPartitionReassignment> [0..],
    }

    /// `replicas` are all there are at the moment, those on their way in and out included.
    pub struct OngoingPartitionReassignment {
        partition_index: i32 [0..],
        replicas: Vec<i32> [0..],
        adding_replicas: Vec<i32> [0..],
        removing_replicas: Vec<i32> [0..],
    }
}

wire_message!(ListPartitionReassignmentsRequest: ListPartitionReassignments, versions 0..=0, flexible 0.., answered by ListPartitionReassignmentsResponse);
wire_message!(ListPartitionReassignmentsResponse: ListPartitionReassignments, versions 0..=0, flexible 0..);
