//! CreatePartitions at any broker: the metadata leader places what is added, this broker waits
//! until it knows who serves it.

use std::collections::HashSet;

use model::{BrokerId, ErrorCode, TopicId};
use node::Refusal;
use node::groups::OFFSETS_TOPIC;
use node::metadata::{AddPartitions, Request, Response};
use tokio::time::Instant;
use wire::api::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

pub(crate) struct CreatePartitions;

impl Api for CreatePartitions {
    type Request = CreatePartitionsRequest;

    async fn handle(
        request: Authorized<CreatePartitionsRequest>,
        call: &mut Call,
    ) -> CreatePartitionsResponse {
        let request = request.into_inner();
        let began = Instant::now();
        let ask_until = began + topics::admin_timeout(request.timeout_ms);
        let wait_until = began + topics::client_timeout(request.timeout_ms);
        let mut seen = HashSet::new();
        let again = request.topics.iter().filter(|topic| !seen.insert(topic.name.clone()));
        let twice: HashSet<String> = again.map(|topic| topic.name.clone()).collect();
        let (mut results, mut grown) = (Vec::with_capacity(request.topics.len()), Vec::new());
        for topic in request.topics {
            let name = topic.name.clone();
            let outcome = if twice.contains(&name) {
                let why = "the request names this topic twice".to_owned();
                Err(Refusal { code: ErrorCode::InvalidRequest, why })
            } else if name == OFFSETS_TOPIC {
                // Groups are found by this number: with another one their offsets would be lost.
                let why = format!("the number of partitions of {OFFSETS_TOPIC} cannot change");
                Err(Refusal { code: ErrorCode::InvalidPartitions, why })
            } else {
                grow(topic, request.validate_only, ask_until, call).await
            };
            let mut result = CreatePartitionsTopicResult { name, ..Default::default() };
            match outcome {
                // Only checked: there is nothing to wait for.
                Ok(id) if id.is_zero() => {}
                Ok(id) => grown.push(id),
                Err(refusal) => {
                    result.error_code = refusal.code;
                    result.error_message = Some(refusal.why);
                }
            }
            results.push(result);
        }
        topics::wait_served(&call.shared.node, &grown, wait_until).await;
        CreatePartitionsResponse { results, ..Default::default() }
    }

    fn codes(response: &CreatePartitionsResponse, codes: &mut Codes) {
        response.results.iter().for_each(|topic| codes.add(topic.error_code));
    }
}

async fn grow(
    topic: CreatePartitionsTopic,
    validate_only: bool,
    deadline: Instant,
    call: &Call,
) -> Result<TopicId, Refusal> {
    let node = &call.shared.node;
    let known = node.image().topic(&topic.name).map(|topic| topic.partitions.len());
    let brokers = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    let assignments = topic.assignments.unwrap_or_default();
    let wish = AddPartitions {
        name: topic.name,
        seen: known.unwrap_or_default() as i32,
        total: topic.count,
        assignments: assignments.into_iter().map(|given| brokers(given.broker_ids)).collect(),
        validate_only,
    };
    let left = deadline.saturating_duration_since(Instant::now());
    match topics::ask_metadata(node, Request::AddPartitions(wish), left).await? {
        Response::PartitionsAdded { id, .. } => Ok(id),
        other => Err(topics::unexpected(&other)),
    }
}
