//! DescribeQuorum at any broker: the metadata group under Kafka's name for it,
//! `__cluster_metadata` partition 0, as its leader sees it.

use std::time::Duration;

use model::{DirectoryId, ErrorCode, GroupId, limits};
use node::metadata::Image;
use node::{AdminAnswer, AdminAsk, Node, QuorumReplica, QuorumStatus, Refusal};
use wire::api::describe_quorum::{
    self, DescribeQuorumRequest, DescribeQuorumResponse, PartitionData, ReplicaState, TopicData,
    asked,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

const TOPIC: &str = "__cluster_metadata";

pub(crate) struct DescribeQuorum;

impl Api for DescribeQuorum {
    type Request = DescribeQuorumRequest;

    async fn handle(
        request: Authorized<DescribeQuorumRequest>,
        call: &mut Call,
    ) -> DescribeQuorumResponse {
        let request = request.into_inner();
        let node = &call.shared.node;
        let mut response = DescribeQuorumResponse { error_message: None, ..Default::default() };
        if !asks_for_metadata(&request) {
            response.topics = unknown(request.topics);
            return response;
        }
        let described = status(node).await;
        let partition = match &described {
            Ok(quorum) => partition(quorum),
            Err(refusal) => PartitionData {
                error_code: refusal.code,
                error_message: Some(refusal.why.clone()),
                leader_id: -1,
                ..Default::default()
            },
        };
        let topic = TopicData { topic_name: TOPIC.into(), partitions: vec![partition] };
        response.topics = vec![topic];
        if let Ok(quorum) = &described {
            response.nodes = nodes(&node.image(), quorum);
        }
        response
    }

    fn codes(response: &DescribeQuorumResponse, codes: &mut Codes) {
        codes.add(response.error_code);
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| codes.add(partition.error_code));
    }
}

fn asks_for_metadata(request: &DescribeQuorumRequest) -> bool {
    let [topic] = &request.topics[..] else { return false };
    let zero = |partitions: &[asked::PartitionData]| matches!(partitions, [partition] if partition.partition_index == 0);
    topic.topic_name == TOPIC && zero(&topic.partitions)
}

/// Every partition of a question that is not about the metadata group.
fn unknown(topics: Vec<asked::TopicData>) -> Vec<TopicData> {
    let partition = |asked: asked::PartitionData| PartitionData {
        partition_index: asked.partition_index,
        error_code: ErrorCode::UnknownTopicOrPartition,
        error_message: Some(format!("only {TOPIC}-0 is a quorum")),
        leader_id: -1,
        ..Default::default()
    };
    let topic = |topic: asked::TopicData| TopicData {
        topic_name: topic.topic_name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    topics.into_iter().map(topic).collect()
}

async fn status(node: &Node) -> Result<QuorumStatus, Refusal> {
    let within = Duration::from_millis(limits::GUARD_MS_MAX);
    match node.admin(GroupId::METADATA, AdminAsk::Quorum, within).await? {
        AdminAnswer::Quorum(quorum) => Ok(quorum),
        _ => Err(Refusal { code: ErrorCode::UnknownServerError, why: "no answer".into() }),
    }
}

fn partition(quorum: &QuorumStatus) -> PartitionData {
    PartitionData {
        partition_index: 0,
        error_code: ErrorCode::None,
        error_message: None,
        leader_id: quorum.leader,
        leader_epoch: quorum.epoch,
        high_watermark: quorum.high_watermark,
        current_voters: quorum.voters.iter().map(replica).collect(),
        observers: quorum.observers.iter().map(replica).collect(),
    }
}

fn replica(replica: &QuorumReplica) -> ReplicaState {
    ReplicaState {
        replica_id: replica.broker,
        replica_directory_id: replica.directory.parse().unwrap_or(DirectoryId::ZERO),
        log_end_offset: replica.log_end,
        last_fetch_timestamp: replica.last_fetch_ms,
        last_caught_up_timestamp: replica.last_caught_up_ms,
    }
}

/// The quorum's brokers and where clients reach them.
fn nodes(image: &Image, quorum: &QuorumStatus) -> Vec<describe_quorum::Node> {
    let replicas = quorum.voters.iter().chain(&quorum.observers);
    let node = |replica: &QuorumReplica| {
        let broker = image.broker(model::BrokerId(replica.broker));
        let listeners = broker.into_iter().flat_map(|broker| &broker.listeners);
        describe_quorum::Node {
            node_id: replica.broker,
            listeners: listeners
                .map(|listener| describe_quorum::Listener {
                    name: listener.name.clone(),
                    host: listener.host.clone(),
                    port: listener.port,
                })
                .collect(),
        }
    };
    replicas.map(node).collect()
}
