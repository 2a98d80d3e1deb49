//! DescribeTopicPartitions (key 75, KIP-966): topics page by page, in the order of their names.

use model::{ErrorCode, TopicId};

use super::metadata::AUTHORIZED_OPERATIONS_OMITTED;
use crate::WireError;
use crate::codec::{Decoder, Encoder, Field, Shape, wire_message, wire_struct};

wire_struct! {
    pub struct DescribeTopicPartitionsRequest {
        topics: Vec<TopicRequest> [0..],
        response_partition_limit: i32 [0..] = 2_000,
        /// The first partition of the page.
        cursor: Option<Cursor> [0..] null [0..] = None,
    }

    pub struct TopicRequest {
        name: String [0..],
    }

    pub struct Cursor {
        topic_name: String [0..],
        partition_index: i32 [0..],
    }

    pub struct DescribeTopicPartitionsResponse {
        throttle_time_ms: i32 [0..],
        topics: Vec<DescribeTopicPartitionsResponseTopic> [0..],
        /// Null: this was the last page.
        next_cursor: Option<Cursor> [0..] null [0..] = None,
    }

    pub struct DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode [0..],
        name: Option<String> [0..] null [0..] = Some(String::new()),
        topic_id: TopicId [0..],
        is_internal: bool [0..],
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0..],
        topic_authorized_operations: i32 [0..] = AUTHORIZED_OPERATIONS_OMITTED,
    }

    pub struct DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode [0..],
        partition_index: i32 [0..],
        leader_id: i32 [0..],
        leader_epoch: i32 [0..] = -1,
        replica_nodes: Vec<i32> [0..],
        isr_nodes: Vec<i32> [0..],
        eligible_leader_replicas: Option<Vec<i32>> [0..] null [0..] = None,
        last_known_elr: Option<Vec<i32>> [0..] null [0..] = None,
        offline_replicas: Vec<i32> [0..],
    }
}

wire_message!(DescribeTopicPartitionsRequest: DescribeTopicPartitions, versions 0..=0, flexible 0.., answered by DescribeTopicPartitionsResponse);
wire_message!(DescribeTopicPartitionsResponse: DescribeTopicPartitions, versions 0..=0, flexible 0..);

/// The one structure that may be null: a byte says whether it is there.
impl Field for Option<Cursor> {
    fn read(decoder: &mut Decoder, shape: Shape) -> Result<Self, WireError> {
        if i8::read(decoder, shape)? < 0 {
            return Ok(None);
        }
        Cursor::read(decoder, shape.nullable(false)).map(Some)
    }
    fn write(&self, encoder: &mut Encoder, shape: Shape) -> Result<(), WireError> {
        match self {
            None => (-1i8).write(encoder, shape),
            Some(cursor) => {
                1i8.write(encoder, shape)?;
                cursor.write(encoder, shape.nullable(false))
            }
        }
    }
}
