//! DescribeProducers (key 61, KIP-664): the idempotent producers a partition's leader remembers.

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct DescribeProducersRequest {
        topics: Vec<TopicRequest> [0..],
    }

    pub struct TopicRequest {
        name: String [0..],
        partition_indexes: Vec<i32> [0..],
    }

    pub struct DescribeProducersResponse {
        throttle_time_ms: i32 [0..],
        topics: Vec<TopicResponse> [0..],
    }

    pub struct TopicResponse {
        name: String [0..],
        partitions: Vec<PartitionResponse> [0..],
    }

    pub struct PartitionResponse {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..] null [0..] = None,
        active_producers: Vec<ProducerState> [0..],
    }

    pub struct ProducerState {
        producer_id: i64 [0..],
        producer_epoch: i32 [0..],
        last_sequence: i32 [0..] = -1,
        last_timestamp: i64 [0..] = -1,
        coordinator_epoch: i32 [0..],
        current_txn_start_offset: i64 [0..] = -1,
    }
}

wire_message!(DescribeProducersRequest: DescribeProducers, versions 0..=0, flexible 0.., answered by DescribeProducersResponse);
wire_message!(DescribeProducersResponse: DescribeProducers, versions 0..=0, flexible 0..);
