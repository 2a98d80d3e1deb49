//! From a request's header to its handler: one table, generic over the APIs.
//!
//! Invariant: what is advertised is what the table handles, in the versions `wire` decodes
//! (held by a test); a handler gets its request only from the authorizer.

use std::future::Future;
use std::pin::Pin;

use model::ApiKey;
use node::budget::Charge;
use wire::{
    Admission, ApiSupport, Request, RequestFrame, WireError, encode_response,
    encode_unsupported_version, supported_versions,
};

use crate::api;
use crate::authorize::Authorized;
use crate::call::{Call, Codes, Reply};

/// A request's work, done when it is its turn to be answered.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Reply, WireError>> + Send>>;

/// One Kafka API.
pub(crate) trait Api {
    type Request: Request<Response: Send> + Send + 'static;

    fn handle(
        request: Authorized<Self::Request>,
        call: &mut Call,
    ) -> impl Future<Output = <Self::Request as Request>::Response> + Send;

    /// Every error code the response carries.
    fn codes(response: &<Self::Request as Request>::Response, codes: &mut Codes);
}

/// How a request becomes work.
enum Route {
    /// Everything happens in the request's turn.
    InTurn(fn(RequestFrame, Call, Charge) -> Result<Work, WireError>),
    /// Batches are queued while the request is read; only the answer has its turn.
    Produce,
}

static ROUTES: &[(ApiKey, Route)] = &[
    (ApiKey::Produce, Route::Produce),
    (ApiKey::Fetch, Route::InTurn(in_turn::<api::fetch::Fetch>)),
    (ApiKey::ListOffsets, Route::InTurn(in_turn::<api::list_offsets::ListOffsets>)),
    (ApiKey::Metadata, Route::InTurn(in_turn::<api::metadata::Metadata>)),
    (ApiKey::OffsetCommit, Route::InTurn(in_turn::<api::groups::offset_commit::OffsetCommit>)),
    (ApiKey::OffsetFetch, Route::InTurn(in_turn::<api::groups::offset_fetch::OffsetFetch>)),
    (
        ApiKey::FindCoordinator,
        Route::InTurn(in_turn::<api::groups::find_coordinator::FindCoordinator>),
    ),
    (ApiKey::JoinGroup, Route::InTurn(in_turn::<api::groups::join_group::JoinGroup>)),
    (ApiKey::Heartbeat, Route::InTurn(in_turn::<api::groups::heartbeat::Heartbeat>)),
    (ApiKey::LeaveGroup, Route::InTurn(in_turn::<api::groups::leave_group::LeaveGroup>)),
    (ApiKey::SyncGroup, Route::InTurn(in_turn::<api::groups::sync_group::SyncGroup>)),
    (
        ApiKey::DescribeGroups,
        Route::InTurn(in_turn::<api::groups::describe_groups::DescribeGroups>),
    ),
    (ApiKey::ListGroups, Route::InTurn(in_turn::<api::groups::list_groups::ListGroups>)),
    (ApiKey::ApiVersions, Route::InTurn(in_turn::<api::api_versions::ApiVersions>)),
    (ApiKey::CreateTopics, Route::InTurn(in_turn::<api::create_topics::CreateTopics>)),
    (ApiKey::DeleteTopics, Route::InTurn(in_turn::<api::delete_topics::DeleteTopics>)),
    (ApiKey::DeleteRecords, Route::InTurn(in_turn::<api::delete_records::DeleteRecords>)),
    (ApiKey::InitProducerId, Route::InTurn(in_turn::<api::init_producer_id::InitProducerId>)),
    (
        ApiKey::OffsetForLeaderEpoch,
        Route::InTurn(in_turn::<api::offset_for_leader_epoch::OffsetForLeaderEpoch>),
    ),
    (ApiKey::DescribeConfigs, Route::InTurn(in_turn::<api::describe_configs::DescribeConfigs>)),
    (ApiKey::AlterConfigs, Route::InTurn(in_turn::<api::alter_configs::AlterConfigs>)),
    (ApiKey::DescribeLogDirs, Route::InTurn(in_turn::<api::describe_log_dirs::DescribeLogDirs>)),
    (ApiKey::CreatePartitions, Route::InTurn(in_turn::<api::create_partitions::CreatePartitions>)),
    (ApiKey::DeleteGroups, Route::InTurn(in_turn::<api::groups::delete_groups::DeleteGroups>)),
    (ApiKey::ElectLeaders, Route::InTurn(in_turn::<api::elect_leaders::ElectLeaders>)),
    (
        ApiKey::IncrementalAlterConfigs,
        Route::InTurn(in_turn::<api::incremental_alter_configs::IncrementalAlterConfigs>),
    ),
    (
        ApiKey::AlterPartitionReassignments,
        Route::InTurn(in_turn::<api::alter_partition_reassignments::AlterPartitionReassignments>),
    ),
    (
        ApiKey::ListPartitionReassignments,
        Route::InTurn(in_turn::<api::list_partition_reassignments::ListPartitionReassignments>),
    ),
    (ApiKey::OffsetDelete, Route::InTurn(in_turn::<api::groups::offset_delete::OffsetDelete>)),
    (ApiKey::DescribeQuorum, Route::InTurn(in_turn::<api::describe_quorum::DescribeQuorum>)),
    (ApiKey::DescribeCluster, Route::InTurn(in_turn::<api::describe_cluster::DescribeCluster>)),
    (
        ApiKey::DescribeProducers,
        Route::InTurn(in_turn::<api::describe_producers::DescribeProducers>),
    ),
    (
        ApiKey::ListConfigResources,
        Route::InTurn(in_turn::<api::list_config_resources::ListConfigResources>),
    ),
    (
        ApiKey::DescribeTopicPartitions,
        Route::InTurn(in_turn::<api::describe_topic_partitions::DescribeTopicPartitions>),
    ),
];

/// What ApiVersions tells clients.
pub fn advertised() -> &'static [ApiSupport] {
    supported_versions()
}

/// Turns a request into work. An error closes the connection.
pub(crate) async fn begin(
    frame: RequestFrame,
    call: Call,
    charge: Charge,
) -> Result<Work, WireError> {
    let key = frame.header.api_key;
    if frame.admission == Admission::UnsupportedVersion {
        return unsupported(key, call);
    }
    match ROUTES.iter().find(|(handled, _)| *handled == key) {
        Some((_, Route::InTurn(begin))) => begin(frame, call, charge),
        Some((_, Route::Produce)) => api::produce::begin(frame, call, charge).await,
        None => Err(WireError::UnknownApi(key as i16)),
    }
}

/// Only ApiVersions can be answered: its client is asking what we speak (KIP-511).
fn unsupported(key: ApiKey, call: Call) -> Result<Work, WireError> {
    if key != ApiKey::ApiVersions {
        return Err(WireError::UnsupportedVersion { key, version: call.version });
    }
    let mut codes = Codes::default();
    codes.add(model::ErrorCode::UnsupportedVersion);
    let frame = encode_unsupported_version(call.correlation_id, advertised())?;
    let reply = Reply { frame: Some(frame), close: false, outcome: codes.outcome(), call };
    Ok(Box::pin(std::future::ready(Ok(reply))))
}

fn in_turn<A: Api + 'static>(
    frame: RequestFrame,
    mut call: Call,
    charge: Charge,
) -> Result<Work, WireError> {
    let request = frame.decode::<A::Request>()?;
    drop(frame);
    Ok(Box::pin(async move {
        let request = call.shared.authorizer.decide(&call.principal, request);
        let response = A::handle(request, &mut call).await;
        // The request is gone; its reply has a bound of its own.
        drop(charge);
        let mut codes = Codes::default();
        A::codes(&response, &mut codes);
        call.flight.traced.fault = codes.fault();
        let frame = encode_response(call.version, call.correlation_id, &response)?;
        Ok(Reply { frame: Some(frame), close: false, outcome: codes.outcome(), call })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advertised_is_exactly_what_is_handled() {
        let handled: Vec<ApiKey> = ROUTES.iter().map(|(key, _)| *key).collect();
        let offered: Vec<ApiKey> = advertised().iter().map(|api| api.key).collect();
        assert_eq!(handled, offered);
    }

    #[test]
    fn produce_is_advertised_from_0_and_served_from_3() {
        let produce = advertised().iter().find(|api| api.key == ApiKey::Produce).unwrap();
        assert_eq!(produce.min_advertised, 0);
        assert!((0..=2).all(|version| !produce.serves(version)) && produce.serves(3));
    }
}
