//! AlterPartitionReassignments at any broker: metadata writes down where the replicas shall be;
//! each partition's leader brings them there, and this broker does not wait for that.

use futures_util::{StreamExt, stream};
use model::{BrokerId, ErrorCode, limits};
use node::Refusal;
use node::metadata::{Image, Move, Placing, Request, Response};
use tokio::time::Instant;
use wire::api::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::{reassignments, topics};

pub(crate) struct AlterPartitionReassignments;

/// What all partitions of a request share.
struct Scene<'a> {
    call: &'a Call,
    image: &'a Image,
    other_factor: bool,
    deadline: Instant,
}

impl Api for AlterPartitionReassignments {
    type Request = AlterPartitionReassignmentsRequest;

    async fn handle(
        request: Authorized<AlterPartitionReassignmentsRequest>,
        call: &mut Call,
    ) -> AlterPartitionReassignmentsResponse {
        let request = request.into_inner();
        let other_factor = request.allow_replication_factor_change;
        let deadline = Instant::now() + topics::admin_timeout(request.timeout_ms);
        let image = call.shared.node.image();
        let scene = Scene { call, image: &image, other_factor, deadline };
        let mut responses = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let partitions = stream::iter(topic.partitions)
                .map(|partition| one(&scene, &topic.name, partition))
                .buffered(limits::GUARDS_IN_FLIGHT_MAX)
                .collect()
                .await;
            responses.push(ReassignableTopicResponse { name: topic.name, partitions });
        }
        AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: other_factor,
            error_message: None,
            responses,
            ..Default::default()
        }
    }

    fn codes(response: &AlterPartitionReassignmentsResponse, codes: &mut Codes) {
        codes.add(response.error_code);
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| codes.add(partition.error_code));
    }
}

async fn one(
    scene: &Scene<'_>,
    topic: &str,
    asked: ReassignablePartition,
) -> ReassignablePartitionResponse {
    let partition_index = asked.partition_index;
    let (error_code, error_message) = match reassign(scene, topic, asked).await {
        Ok(()) => (ErrorCode::None, None),
        Err(refusal) => (refusal.code, Some(refusal.why)),
    };
    ReassignablePartitionResponse { partition_index, error_code, error_message }
}

async fn reassign(
    scene: &Scene<'_>,
    topic: &str,
    asked: ReassignablePartition,
) -> Result<(), Refusal> {
    let index = asked.partition_index;
    let refuse = |code, why: String| Err(Refusal { code, why });
    let unknown = |code| Refusal { code, why: format!("there is no partition {topic}-{index}") };
    let known = scene.image.topic(topic);
    let known = known.ok_or_else(|| unknown(ErrorCode::UnknownTopicOrPartition))?;
    let partition = topics::partition(known, index).map_err(unknown)?;
    let node = &scene.call.shared.node;
    let brokers: Vec<BrokerId> = match asked.replicas {
        Some(replicas) => replicas.into_iter().map(BrokerId).collect(),
        None => match reassignments::under_way(node, partition).await? {
            Some(moving) => moving.before,
            None => {
                let why = format!("no reassignment of {topic}-{index} is under way");
                return refuse(ErrorCode::NoReassignmentInProgress, why);
            }
        },
    };
    let factor = partition.replicas.len();
    if !scene.other_factor && brokers.len() != factor {
        let why = format!("{topic}-{index} has {factor} replicas, not {}", brokers.len());
        return refuse(ErrorCode::InvalidReplicationFactor, why);
    }
    let moves = vec![Move { group: partition.group, brokers }];
    let left = scene.deadline.saturating_duration_since(Instant::now());
    match topics::ask_metadata(node, Request::Place(Placing::Move(moves)), left).await? {
        Response::Placed => Ok(()),
        other => Err(topics::unexpected(&other)),
    }
}
