//! DescribeQuorum (key 55, KIP-595): the voters of a raft group and how far each is. 1 has the
//! times of their last fetch and of being caught up (KIP-836), 2 directories, endpoints and
//! texts of errors (KIP-853).
//!
//! Request and response each have a `TopicData` and a `PartitionData` of their own; those of the
//! request are in [`asked`].

use model::{DirectoryId, ErrorCode};

use crate::codec::{wire_message, wire_struct};

/// What a request is made of.
pub mod asked {
    use crate::codec::wire_struct;

    wire_struct! {
        pub struct TopicData {
            topic_name: String [0..],
            partitions: Vec<PartitionData> [0..],
        }

        pub struct PartitionData {
            partition_index: i32 [0..],
        }
    }
}

wire_struct! {
    pub struct DescribeQuorumRequest {
        topics: Vec<asked::TopicData> [0..],
    }

    pub struct DescribeQuorumResponse {
        error_code: ErrorCode [0..],
        error_message: Option<String> [2..] null [2..] = Some(String::new()),
        topics: Vec<TopicData> [0..],
        nodes: Vec<Node> [2..],
    }

    pub struct TopicData {
        topic_name: String [0..],
        partitions: Vec<PartitionData> [0..],
    }

    pub struct PartitionData {
        partition_index: i32 [0..],
        error_code: ErrorCode [0..],
        error_message: Option<String> [2..] null [2..] = Some(String::new()),
        /// -1: none.
        leader_id: i32 [0..],
        leader_epoch: i32 [0..],
        high_watermark: i64 [0..],
        current_voters: Vec<ReplicaState> [0..],
        observers: Vec<ReplicaState> [0..],
    }

    pub struct ReplicaState {
        replica_id: i32 [0..],
        replica_directory_id: DirectoryId [2..],
        /// -1: unknown.
        log_end_offset: i64 [0..],
        /// Milliseconds by the leader's clock; -1: unknown.
        last_fetch_timestamp: i64 [1..] = -1,
        last_caught_up_timestamp: i64 [1..] = -1,
    }

    pub struct Node {
        node_id: i32 [2..],
        listeners: Vec<Listener> [2..],
    }

    pub struct Listener {
        name: String [2..],
        host: String [2..],
        port: u16 [2..],
    }
}

wire_message!(DescribeQuorumRequest: DescribeQuorum, versions 0..=2, flexible 0.., answered by DescribeQuorumResponse);
wire_message!(DescribeQuorumResponse: DescribeQuorum, versions 0..=2, flexible 0..);
