//! DeleteRecords (key 21, KIP-107): raises log start offsets.

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic> [0..],
        timeout_ms: i32 [0..],
    }

    pub struct DeleteRecordsTopic {
        name: String [0..],
        partitions: Vec<DeleteRecordsPartition> [0..],
    }

    pub struct DeleteRecordsPartition {
        partition_index: i32 [0..],
        /// The new log start; -1: the high watermark.
        offset: i64 [0..],
    }

    pub struct DeleteRecordsResponse {
        throttle_time_ms: i32 [0..],
        topics: Vec<DeleteRecordsTopicResult> [0..],
    }

    pub struct DeleteRecordsTopicResult {
        name: String [0..],
        partitions: Vec<DeleteRecordsPartitionResult> [0..],
    }

    pub struct DeleteRecordsPartitionResult {
        partition_index: i32 [0..],
        /// The log start offset; -1 with an error.
        low_watermark: i64 [0..],
        error_code: ErrorCode [0..],
    }
}

wire_message!(DeleteRecordsRequest: DeleteRecords, versions 0..=2, flexible 2.., answered by DeleteRecordsResponse);
wire_message!(DeleteRecordsResponse: DeleteRecords, versions 0..=2, flexible 2..);
