//! Fetch (key 1). 4 has the last stable offset (KIP-98), 7 incremental sessions (KIP-227), 9
//! leader epochs (KIP-320), 11 reading from the closest replica (KIP-392), 12 divergence
//! (KIP-595), 13 topic ids (KIP-516), 15 the replica state (KIP-903), 16 leader endpoints
//! (KIP-951), 17 directory ids (KIP-853), 18 a replica's high watermark (KIP-1166).

use bytes::Bytes;
use model::{DirectoryId, ErrorCode, TopicId};

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct FetchRequest {
        cluster_id: Option<String> [12..] null [12..] tag 0 = None,
        /// -1: a consumer.
        replica_id: i32 [..=14] = -1,
        replica_state: ReplicaState [15..] tag 1,
        max_wait_ms: i32 [4..],
        min_bytes: i32 [4..],
        max_bytes: i32 [4..] = i32::MAX,
        /// 0 read_uncommitted, 1 read_committed.
        isolation_level: i8 [4..],
        session_id: i32 [7..],
        /// -1: no session.
        session_epoch: i32 [7..] = -1,
        topics: Vec<FetchTopic> [4..],
        /// Partitions to remove from the session.
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        rack_id: String [11..],
    }

    pub struct ReplicaState {
        replica_id: i32 [15..] = -1,
        replica_epoch: i64 [15..] = -1,
    }

    pub struct FetchTopic {
        /// Empty from version 13.
        topic: String [..=12],
        topic_id: TopicId [13..],
        partitions: Vec<FetchPartition> [4..],
    }

    pub struct FetchPartition {
        partition: i32 [4..],
        /// -1: not checked.
        current_leader_epoch: i32 [9..] = -1,
        fetch_offset: i64 [4..],
        /// -1: divergence is not checked.
        last_fetched_epoch: i32 [12..] = -1,
        /// Of a follower; -1 from a consumer.
        log_start_offset: i64 [5..] = -1,
        /// The first batch is returned even if larger (KIP-74).
        partition_max_bytes: i32 [4..],
        replica_directory_id: DirectoryId [17..] tag 0,
        high_watermark: i64 [18..] tag 1 = i64::MAX,
    }

    pub struct ForgottenTopic {
        topic: String [7..=12],
        topic_id: TopicId [13..],
        partitions: Vec<i32> [7..],
    }

    pub struct FetchResponse {
        throttle_time_ms: i32 [4..],
        error_code: ErrorCode [7..],
        /// 0: no session.
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse> [4..],
        node_endpoints: Vec<NodeEndpoint> [16..] tag 0,
    }

    pub struct FetchableTopicResponse {
        topic: String [..=12],
        topic_id: TopicId [13..],
        partitions: Vec<PartitionData> [4..],
    }

    pub struct PartitionData {
        partition_index: i32 [4..],
        error_code: ErrorCode [4..],
        high_watermark: i64 [4..],
        last_stable_offset: i64 [4..] = -1,
        log_start_offset: i64 [5..] = -1,
        diverging_epoch: EpochEndOffset [12..] tag 0,
        current_leader: LeaderIdAndEpoch [12..] tag 1,
        snapshot_id: SnapshotId [12..] tag 2,
        /// Null under read_uncommitted.
        aborted_transactions: Option<Vec<AbortedTransaction>> [4..] null [4..] = Some(Vec::new()),
        /// -1: none.
        preferred_read_replica: i32 [11..] = -1,
        /// Leaves as chunks of its own, uncopied. Clients expect empty rather than null.
        records: Option<Bytes> [4..] null [4..] = Some(Bytes::new()),
    }

    pub struct EpochEndOffset {
        epoch: i32 [12..] = -1,
        end_offset: i64 [12..] = -1,
    }

    pub struct LeaderIdAndEpoch {
        leader_id: i32 [12..] = -1,
        leader_epoch: i32 [12..] = -1,
    }

    pub struct SnapshotId {
        end_offset: i64 [12..] = -1,
        epoch: i32 [12..] = -1,
    }

    pub struct AbortedTransaction {
        producer_id: i64 [4..],
        first_offset: i64 [4..],
    }

    pub struct NodeEndpoint {
        node_id: i32 [16..],
        host: String [16..],
        port: i32 [16..],
        rack: Option<String> [16..] null [16..] = None,
    }
}

wire_message!(FetchRequest: Fetch, versions 4..=18, flexible 12.., answered by FetchResponse);
wire_message!(FetchResponse: Fetch, versions 4..=18, flexible 12..);
