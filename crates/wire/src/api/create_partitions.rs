//! CreatePartitions (key 37, KIP-195): the number of partitions a topic shall have.

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic> [0..],
        timeout_ms: i32 [0..],
        validate_only: bool [0..],
    }

    pub struct CreatePartitionsTopic {
        name: String [0..],
        /// The number afterwards, not the number added.
        count: i32 [0..],
        /// Of the new partitions only; null: the brokers decide.
        assignments: Option<Vec<CreatePartitionsAssignment>> [0..] null [0..] = Some(Vec::new()),
    }

    pub struct CreatePartitionsAssignment {
        broker_ids: Vec<i32> [0..],
    }

    pub struct CreatePartitionsResponse {
        throttle_time_ms: i32 [0..],
        results: Vec<CreatePartitionsTopicResult> [0..],
    }

    pub struct CreatePartitionsTopicResult {
        name: String [0..],
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..] null [0..] = None,
    }
}

wire_message!(CreatePartitionsRequest: CreatePartitions, versions 0..=3, flexible 2.., answered by CreatePartitionsResponse);
wire_message!(CreatePartitionsResponse: CreatePartitions, versions 0..=3, flexible 2..);
