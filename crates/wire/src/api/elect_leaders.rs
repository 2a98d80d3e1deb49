//! ElectLeaders (key 43). 1 has unclean elections and an error of the whole (KIP-460).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct ElectLeadersRequest {
        /// 0 preferred, 1 unclean.
        election_type: i8 [1..],
        /// Null asks for every partition.
        topic_partitions: Option<Vec<TopicPartitions>> [0..] null [0..] = Some(Vec::new()),
        timeout_ms: i32 [0..] = 60_000,
    }

    pub struct TopicPartitions {
        topic: String [0..],
        partitions: Vec<i32> [0..],
    }

    pub struct ElectLeadersResponse {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [1..],
        replica_election_results: Vec<ReplicaElectionResult> [0..],
    }

    pub struct ReplicaElectionResult {
        topic: String [0..],
        partition_result: Vec<PartitionResult> [0..],
    }

    pub struct PartitionResult {
        partition_id: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..] null [0..] = Some(String::new()),
    }
}

wire_message!(ElectLeadersRequest: ElectLeaders, versions 0..=2, flexible 2.., answered by ElectLeadersResponse);
wire_message!(ElectLeadersResponse: ElectLeaders, versions 0..=2, flexible 2..);
