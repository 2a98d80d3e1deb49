//! ListPartitionReassignments at any broker: what metadata wants beside what each partition's
//! leader has.

use futures_util::{StreamExt, stream};
use model::{ErrorCode, limits};
use node::metadata::Image;
use node::{Node, Refusal};
use wire::api::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    ListPartitionReassignmentsTopics, OngoingPartitionReassignment, OngoingTopicReassignment,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::{reassignments, topics};

pub(crate) struct ListPartitionReassignments;

impl Api for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;

    async fn handle(
        request: Authorized<ListPartitionReassignmentsRequest>,
        call: &mut Call,
    ) -> ListPartitionReassignmentsResponse {
        let request = request.into_inner();
        let node = &call.shared.node;
        let image = node.image();
        let mut response =
            ListPartitionReassignmentsResponse { error_message: None, ..Default::default() };
        let in_words =
            |name, partition_indexes| ListPartitionReassignmentsTopics { name, partition_indexes };
        let everything = || topics::everything(&image, in_words);
        for topic in request.topics.unwrap_or_else(everything) {
            let name = topic.name;
            let found: Vec<_> = stream::iter(topic.partition_indexes)
                .map(|index| one(node, &image, &name, index))
                .buffered(limits::GUARDS_IN_FLIGHT_MAX)
                .collect()
                .await;
            let mut partitions = Vec::new();
            for outcome in found {
                match outcome {
                    Ok(moving) => partitions.extend(moving),
                    Err(refusal) => {
                        response.error_code = refusal.code;
                        response.error_message = Some(refusal.why);
                    }
                }
            }
            if !partitions.is_empty() {
                response.topics.push(OngoingTopicReassignment { name, partitions });
            }
        }
        response
    }

    fn codes(response: &ListPartitionReassignmentsResponse, codes: &mut Codes) {
        codes.add(response.error_code);
    }
}

/// A partition that does not exist is not being moved.
async fn one(
    node: &Node,
    image: &Image,
    topic: &str,
    index: i32,
) -> Result<Option<OngoingPartitionReassignment>, Refusal> {
    let known = image.topic(topic).and_then(|topic| topics::partition(topic, index).ok());
    let Some(partition) = known else { return Ok(None) };
    let moving = reassignments::under_way(node, partition).await.map_err(|refusal| Refusal {
        code: ErrorCode::RequestTimedOut,
        why: format!("{topic}-{index}: {}", refusal.why),
    })?;
    let ids = |all: Vec<model::BrokerId>| all.into_iter().map(|id| id.0).collect();
    Ok(moving.map(|moving| OngoingPartitionReassignment {
        partition_index: index,
        replicas: ids(moving.all),
        adding_replicas: ids(moving.adding),
        removing_replicas: ids(moving.removing),
    }))
}
