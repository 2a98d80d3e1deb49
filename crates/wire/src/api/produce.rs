//! Produce (key 0). Versions 0-2 carried message formats before record batches and are gone
//! (KIP-896); 3 has transactions (KIP-98), 7 zstd (KIP-110), 8 record errors (KIP-467), 10
//! the new leader in the answer (KIP-951), 13 topic ids (KIP-516).

use bytes::Bytes;
use model::{ErrorCode, TopicId};

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct ProduceRequest {
        transactional_id: Option<String> [3..] null [3..] = None,
        /// 0 none, 1 the leader, -1 all in-sync replicas.
        acks: i16 [3..],
        timeout_ms: i32 [3..],
        topic_data: Vec<TopicProduceData> [3..],
    }

    pub struct TopicProduceData {
        /// Empty from version 13.
        name: String [3..=12],
        topic_id: TopicId [13..],
        partition_data: Vec<PartitionProduceData> [3..],
    }

    pub struct PartitionProduceData {
        index: i32 [3..],
        /// A slice of the request's frame: unvalidated record batches.
        records: Option<Bytes> [3..] null [3..] = Some(Bytes::new()),
    }

    pub struct ProduceResponse {
        responses: Vec<TopicProduceResponse> [3..],
        throttle_time_ms: i32 [3..],
        /// Where the leaders named in `current_leader` listen.
        node_endpoints: Vec<NodeEndpoint> [10..] tag 0,
    }

    pub struct TopicProduceResponse {
        name: String [3..=12],
        topic_id: TopicId [13..],
        partition_responses: Vec<PartitionProduceResponse> [3..],
    }

    pub struct PartitionProduceResponse {
        index: i32 [3..],
        error_code: ErrorCode [3..],
        /// Offset of the first record, -1 with an error.
        base_offset: i64 [3..],
        /// Milliseconds since 1970 under LogAppendTime, else -1.
        log_append_time_ms: i64 [3..] = -1,
        log_start_offset: i64 [5..] = -1,
        record_errors: Vec<BatchIndexAndErrorMessage> [8..],
        error_message: Option<String> [8..] null [8..] = None,
        /// With NOT_LEADER_OR_FOLLOWER: who leads now.
        current_leader: LeaderIdAndEpoch [10..] tag 0,
    }

    pub struct BatchIndexAndErrorMessage {
        batch_index: i32 [8..],
        batch_index_error_message: Option<String> [8..] null [8..] = None,
    }

    pub struct LeaderIdAndEpoch {
        /// -1 if unknown.
        leader_id: i32 [10..] = -1,
        leader_epoch: i32 [10..] = -1,
    }

    pub struct NodeEndpoint {
        node_id: i32 [10..],
        host: String [10..],
        port: i32 [10..],
        rack: Option<String> [10..] null [10..] = None,
    }
}

wire_message!(ProduceRequest: Produce, versions 3..=13, flexible 9.., answered by ProduceResponse);
wire_message!(ProduceResponse: Produce, versions 3..=13, flexible 9..);
