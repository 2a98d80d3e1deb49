//! DescribeLogDirs (key 35). 3 has an error of the whole, 4 the volume's size and free space
//! (KIP-827), 5 whether a directory takes no new partitions (KIP-1066).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct DescribeLogDirsRequest {
        /// Null asks for every replica of this broker.
        topics: Option<Vec<DescribableLogDirTopic>> [1..] null [1..] = Some(Vec::new()),
    }

    pub struct DescribableLogDirTopic {
        topic: String [1..],
        partitions: Vec<i32> [1..],
    }

    pub struct DescribeLogDirsResponse {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [3..],
        results: Vec<DescribeLogDirsResult> [1..],
    }

    pub struct DescribeLogDirsResult {
        error_code: ErrorCode [1..],
        log_dir: String [1..],
        topics: Vec<DescribeLogDirsTopic> [1..],
        /// Of the volume; -1: unknown.
        total_bytes: i64 [4..] = -1,
        usable_bytes: i64 [4..] = -1,
        is_cordoned: bool [5..],
    }

    pub struct DescribeLogDirsTopic {
        name: String [1..],
        partitions: Vec<DescribeLogDirsPartition> [1..],
    }

    pub struct DescribeLogDirsPartition {
        partition_index: i32 [1..],
        partition_size: i64 [1..],
        /// How far the replica lies behind the high watermark it knows.
        offset_lag: i64 [1..],
        is_future_key: bool [1..],
    }
}

wire_message!(DescribeLogDirsRequest: DescribeLogDirs, versions 1..=5, flexible 2.., answered by DescribeLogDirsResponse);
wire_message!(DescribeLogDirsResponse: DescribeLogDirs, versions 1..=5, flexible 2..);
