//! Consumer groups: one file per API, and what they share: from a group's name to the partition
//! of `__consumer_offsets` that coordinates it, and to the coordinator behind it.
//!
//! Invariant: whoever is not the coordinator says so (NOT_COORDINATOR), so that the client looks
//! for it again; nothing here decides about a group.

pub(crate) mod delete_groups;
pub(crate) mod describe_groups;
pub(crate) mod find_coordinator;
pub(crate) mod heartbeat;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_groups;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod sync_group;

use std::time::Duration;

use model::{ErrorCode, GroupId, limits};
use node::groups::{OFFSETS_TOPIC, Request, Response, partition_for};
use node::metadata::{Image, Request as MetadataRequest};
use tokio::time::Instant;

use crate::call::Call;
use crate::topics;

/// The raft group that coordinates a consumer group; `None` before the first group of a cluster.
pub(super) fn coordinator_of(image: &Image, group: &str) -> Option<GroupId> {
    let topic = image.topic(OFFSETS_TOPIC)?;
    let index = partition_for(group, topic.partitions.len() as i32);
    topics::partition(topic, index).ok().map(|partition| partition.group)
}

/// Asks the coordinator, if it is here.
pub(super) async fn coordinate(
    call: &Call,
    group: &str,
    request: Request,
    within: Duration,
) -> Result<Response, ErrorCode> {
    let node = &call.shared.node;
    let Some(coordinator) = coordinator_of(&node.image(), group) else {
        return Err(ErrorCode::NotCoordinator);
    };
    node.coordinate(coordinator, request, within).await.map_err(|refusal| match refusal.code {
        // Everything a client should try again elsewhere or later.
        ErrorCode::NotLeaderOrFollower | ErrorCode::UnknownTopicOrPartition => {
            ErrorCode::NotCoordinator
        }
        ErrorCode::KafkaStorageError | ErrorCode::RequestTimedOut => {
            ErrorCode::CoordinatorNotAvailable
        }
        code => code,
    })
}

/// For requests that nobody parks.
pub(super) fn soon() -> Duration {
    Duration::from_millis(limits::LEADER_ACK_MS_MAX)
}

/// For requests that wait for other members: as long as those may take, and a little more.
pub(super) fn parked(rebalance_timeout_ms: i32) -> Duration {
    let ms = u64::try_from(rebalance_timeout_ms).unwrap_or(0);
    Duration::from_millis(ms) + soon()
}

/// Creates `__consumer_offsets` when the first group asks for its coordinator.
pub(super) async fn ensure_offsets_topic(call: &Call) -> Result<(), ErrorCode> {
    let node = &call.shared.node;
    if node.image().topic(OFFSETS_TOPIC).is_some() {
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_millis(limits::TOPIC_SERVED_MS_MAX);
    let wish = topics::wish(&call.shared.config, OFFSETS_TOPIC);
    let id = wish.id;
    let within = Duration::from_millis(limits::TOPIC_SERVED_MS_MAX);
    match topics::ask_metadata(node, MetadataRequest::CreateTopic(wish), within).await {
        Ok(_) => topics::wait_served(node, &[id], deadline).await,
        Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => {}
        Err(_) => return Err(ErrorCode::CoordinatorNotAvailable),
    }
    Ok(())
}

/// An answer of another kind than its question is a defect of ours, not of the client.
pub(super) fn mismatched(_: Response) -> ErrorCode {
    ErrorCode::UnknownServerError
}
