//! ElectLeaders at any broker: the leader of each partition hands over to the preferred replica.
//! Unclean elections do not exist; asking for one is answered as Kafka answers when no replica
//! may lead.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use model::{BrokerId, ErrorCode, GroupId, limits};
use node::metadata::Image;
use node::{AdminAnswer, AdminAsk, Node, Refusal};
use tokio::time::Instant;
use wire::api::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
    TopicPartitions,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(crate) struct ElectLeaders;

impl Api for ElectLeaders {
    type Request = ElectLeadersRequest;

    async fn handle(
        request: Authorized<ElectLeadersRequest>,
        call: &mut Call,
    ) -> ElectLeadersResponse {
        let request = request.into_inner();
        let mut response = ElectLeadersResponse::default();
        if ![PREFERRED, UNCLEAN].contains(&request.election_type) {
            response.error_code = ErrorCode::InvalidRequest;
            return response;
        }
        let node = &call.shared.node;
        let image = node.image();
        let deadline = Instant::now() + topics::client_timeout(request.timeout_ms);
        let all = request.topic_partitions.is_none();
        let in_words = |topic, partitions| TopicPartitions { topic, partitions };
        let everything = || topics::everything(&image, in_words);
        let wanted = request.topic_partitions.unwrap_or_else(everything);
        for topic in wanted {
            let name = &topic.topic;
            let outcomes: Vec<PartitionResult> = stream::iter(topic.partitions)
                .map(|index| one(node, &image, name, index, request.election_type, deadline))
                .buffered(limits::GUARDS_IN_FLIGHT_MAX)
                .collect()
                .await;
            // Of "all partitions" those that needed nothing are not worth a line.
            let told = |result: &PartitionResult| {
                !all || result.error_code != ErrorCode::ElectionNotNeeded
            };
            let partition_result: Vec<_> = outcomes.into_iter().filter(told).collect();
            if !partition_result.is_empty() {
                let result = ReplicaElectionResult { topic: topic.topic, partition_result };
                response.replica_election_results.push(result);
            }
        }
        response
    }

    fn codes(response: &ElectLeadersResponse, codes: &mut Codes) {
        codes.add(response.error_code);
        let topics = response.replica_election_results.iter();
        let partitions = topics.flat_map(|topic| &topic.partition_result);
        partitions.for_each(|partition| codes.add(partition.error_code));
    }
}

async fn one(
    node: &Node,
    image: &Image,
    topic: &str,
    index: i32,
    election_type: i8,
    deadline: Instant,
) -> PartitionResult {
    let outcome = elect(node, image, topic, index, election_type, deadline).await;
    let (error_code, error_message) = match outcome {
        Ok(()) => (ErrorCode::None, None),
        Err(refusal) => (refusal.code, Some(refusal.why)),
    };
    PartitionResult { partition_id: index, error_code, error_message }
}

async fn elect(
    node: &Node,
    image: &Image,
    topic: &str,
    index: i32,
    election_type: i8,
    deadline: Instant,
) -> Result<(), Refusal> {
    let unknown = |code| Refusal { code, why: format!("there is no partition {topic}-{index}") };
    let known = image.topic(topic).ok_or_else(|| unknown(ErrorCode::UnknownTopicOrPartition))?;
    let partition = topics::partition(known, index).map_err(unknown)?;
    if election_type == UNCLEAN {
        return Err(no_unclean_election(node, partition.group));
    }
    let preferred = partition.replicas[0].broker;
    if !node.is_alive(preferred) {
        let why = format!("the preferred leader, broker {preferred}, is not alive");
        return Err(Refusal { code: ErrorCode::PreferredLeaderNotAvailable, why });
    }
    let left = deadline.saturating_duration_since(Instant::now());
    match node.admin(partition.group, AdminAsk::ElectPreferred, left).await {
        Ok(AdminAnswer::ElectionBegun) => {
            taken_over(node, partition.group, preferred, deadline).await
        }
        Ok(_) => Err(Refusal { code: ErrorCode::UnknownServerError, why: "no answer".into() }),
        Err(refusal) => Err(refusal),
    }
}

fn no_unclean_election(node: &Node, group: GroupId) -> Refusal {
    let no = "unclean elections do not exist here: they would lose acknowledged records";
    match node.leader(group) {
        Some(leader) => Refusal {
            code: ErrorCode::ElectionNotNeeded,
            why: format!("broker {} leads; {no}", leader.broker),
        },
        None => Refusal {
            code: ErrorCode::EligibleLeadersNotAvailable,
            why: format!("{no}; bring a majority of the replicas back"),
        },
    }
}

/// Waits until the preferred leader serves.
async fn taken_over(
    node: &Node,
    group: GroupId,
    preferred: BrokerId,
    deadline: Instant,
) -> Result<(), Refusal> {
    loop {
        if node.leader(group).is_some_and(|leader| leader.broker == preferred) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let why = format!("broker {preferred} has not taken over yet");
            return Err(Refusal { code: ErrorCode::RequestTimedOut, why });
        }
        tokio::time::sleep(Duration::from_millis(limits::TOPIC_SERVED_POLL_MS)).await;
    }
}
