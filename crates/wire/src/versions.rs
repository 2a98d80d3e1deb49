//! Which versions of which API this codec speaks, in one table.
//!
//! Invariants (held by tests): every range is the one its request and response declare, and
//! contains what all surveyed clients speak; keys ascend.

use std::ops::{RangeFrom, RangeInclusive};

use model::ApiKey;

use crate::api::{
    alter_configs::AlterConfigsRequest,
    alter_partition_reassignments::AlterPartitionReassignmentsRequest,
    create_partitions::CreatePartitionsRequest, delete_records::DeleteRecordsRequest,
    describe_log_dirs::DescribeLogDirsRequest, describe_producers::DescribeProducersRequest,
    describe_quorum::DescribeQuorumRequest,
    describe_topic_partitions::DescribeTopicPartitionsRequest, elect_leaders::ElectLeadersRequest,
    incremental_alter_configs::IncrementalAlterConfigsRequest,
    list_config_resources::ListConfigResourcesRequest,
    list_partition_reassignments::ListPartitionReassignmentsRequest,
};
use crate::api::{
    api_versions::ApiVersionsRequest, create_topics::CreateTopicsRequest,
    delete_topics::DeleteTopicsRequest, describe_cluster::DescribeClusterRequest,
    describe_configs::DescribeConfigsRequest, fetch::FetchRequest,
    init_producer_id::InitProducerIdRequest, list_offsets::ListOffsetsRequest,
    metadata::MetadataRequest, offset_for_leader_epoch::OffsetForLeaderEpochRequest,
    produce::ProduceRequest,
};
use crate::api::{
    delete_groups::DeleteGroupsRequest, describe_groups::DescribeGroupsRequest,
    find_coordinator::FindCoordinatorRequest, heartbeat::HeartbeatRequest,
    join_group::JoinGroupRequest, leave_group::LeaveGroupRequest, list_groups::ListGroupsRequest,
    offset_commit::OffsetCommitRequest, offset_delete::OffsetDeleteRequest,
    offset_fetch::OffsetFetchRequest, sync_group::SyncGroupRequest,
};
use crate::codec::Message;
use crate::{RequestFrame, WireError};

/// The versions of one API. `min_advertised <= min_served <= max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiSupport {
    pub key: ApiKey,
    /// ApiVersions tells clients to start here.
    pub min_advertised: i16,
    /// Versions from here on are decoded; those below are refused.
    pub min_served: i16,
    pub max: i16,
    /// Versions from here on are flexible (KIP-482).
    pub first_flexible: i16,
    pub(crate) body: Body,
}

/// What can be done with any API's body without naming its type.
#[derive(Clone, Copy)]
pub(crate) struct Body {
    pub check: fn(&RequestFrame) -> Result<(), WireError>,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

/// Follows from the key beside it.
impl PartialEq for Body {
    fn eq(&self, _: &Body) -> bool {
        true
    }
}

impl Eq for Body {}

impl ApiSupport {
    pub fn serves(&self, version: i16) -> bool {
        (self.min_served..=self.max).contains(&version)
    }

    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.first_flexible
    }
}

const fn of<M: Message>() -> ApiSupport {
    const fn ends(versions: &RangeInclusive<i16>, flexible: &RangeFrom<i16>) -> [i16; 3] {
        [*versions.start(), *versions.end(), flexible.start]
    }
    let [min, max, first_flexible] = ends(&M::VERSIONS, &M::FLEXIBLE);
    let body = Body { check: |frame| frame.decode::<M>().map(drop) };
    ApiSupport { key: M::KEY, min_advertised: min, min_served: min, max, first_flexible, body }
}

static SUPPORTED: &[ApiSupport] = &[
    // librdkafka compresses only if Produce is advertised from 0 (KAFKA-18659).
    ApiSupport { min_advertised: 0, ..of::<ProduceRequest>() },
    of::<FetchRequest>(),
    of::<ListOffsetsRequest>(),
    of::<MetadataRequest>(),
    of::<OffsetCommitRequest>(),
    of::<OffsetFetchRequest>(),
    of::<FindCoordinatorRequest>(),
    of::<JoinGroupRequest>(),
    of::<HeartbeatRequest>(),
    of::<LeaveGroupRequest>(),
    of::<SyncGroupRequest>(),
    of::<DescribeGroupsRequest>(),
    of::<ListGroupsRequest>(),
    of::<ApiVersionsRequest>(),
    of::<CreateTopicsRequest>(),
    of::<DeleteTopicsRequest>(),
    of::<DeleteRecordsRequest>(),
    of::<InitProducerIdRequest>(),
    of::<OffsetForLeaderEpochRequest>(),
    of::<DescribeConfigsRequest>(),
    of::<AlterConfigsRequest>(),
    of::<DescribeLogDirsRequest>(),
    of::<CreatePartitionsRequest>(),
    of::<DeleteGroupsRequest>(),
    of::<ElectLeadersRequest>(),
    of::<IncrementalAlterConfigsRequest>(),
    of::<AlterPartitionReassignmentsRequest>(),
    of::<ListPartitionReassignmentsRequest>(),
    of::<OffsetDeleteRequest>(),
    of::<DescribeQuorumRequest>(),
    of::<DescribeClusterRequest>(),
    of::<DescribeProducersRequest>(),
    of::<ListConfigResourcesRequest>(),
    of::<DescribeTopicPartitionsRequest>(),
];

/// Every API this codec speaks, by ascending key.
pub fn supported_versions() -> &'static [ApiSupport] {
    SUPPORTED
}

/// The row of one API.
pub fn support(key: ApiKey) -> Option<&'static ApiSupport> {
    SUPPORTED.iter().find(|api| api.key == key)
}
