//! Metadata: brokers as the client's listener reaches them, topics and who leads them. Any
//! broker answers from applied state; topics a client asks for are created on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::{BrokerId, ErrorCode, GroupId, TopicId, limits};
use node::Node;
use node::metadata::{
    BrokerRegistration, Image, Listener, Partition, Request, Topic, is_internal,
    validate_topic_name,
};
use tokio::time::Instant;
use wire::api::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};

use crate::authorize::{Authorized, CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

pub(crate) struct Metadata;

impl Api for Metadata {
    type Request = MetadataRequest;

    async fn handle(request: Authorized<MetadataRequest>, call: &mut Call) -> MetadataResponse {
        let request = request.into_inner();
        let wanted = wanted(request.topics, call.version);
        let mut refused = Vec::new();
        if let Wanted::Some(topics) = &wanted
            && request.allow_auto_topic_creation
            && call.shared.config.auto_create_topics
        {
            refused = create_missing(topics, call).await;
        }
        let mut response = cluster(call);
        if request.include_cluster_authorized_operations {
            response.cluster_authorized_operations = CLUSTER_OPERATIONS;
        }
        let node = &call.shared.node;
        let image = node.image();
        let scene = Scene::new(node, &image, &call.listener);
        response.topics = match &wanted {
            Wanted::All => image.topics().map(|topic| scene.topic(topic)).collect(),
            Wanted::Some(topics) => {
                topics.iter().map(|topic| scene.asked(topic, &refused)).collect()
            }
        };
        if request.include_topic_authorized_operations {
            let known = response.topics.iter_mut().filter(|topic| !topic.error_code.is_err());
            known.for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
        }
        response
    }

    fn codes(response: &MetadataResponse, codes: &mut Codes) {
        codes.add(response.error_code);
        for topic in &response.topics {
            codes.add(topic.error_code);
            topic.partitions.iter().for_each(|partition| codes.add(partition.error_code));
        }
    }
}

/// Which topics a request is about.
#[derive(Debug, PartialEq)]
enum Wanted {
    All,
    Some(Vec<MetadataRequestTopic>),
}

/// "All" is null, and in version 0, which has no null, the empty list.
fn wanted(topics: Option<Vec<MetadataRequestTopic>>, version: i16) -> Wanted {
    match topics {
        None => Wanted::All,
        Some(topics) if version == 0 && topics.is_empty() => Wanted::All,
        Some(topics) => Wanted::Some(topics),
    }
}

/// Names of the request that could not be created, with the reason.
type Refused = Vec<(String, ErrorCode)>;

async fn create_missing(topics: &[MetadataRequestTopic], call: &Call) -> Refused {
    let node = &call.shared.node;
    let image = node.image();
    let deadline = Instant::now() + Duration::from_millis(limits::TOPIC_SERVED_MS_MAX);
    let (mut created, mut refused) = (Vec::<TopicId>::new(), Vec::new());
    let missing = topics.iter().filter_map(|topic| topic.name.as_deref());
    for name in missing.filter(|name| image.topic(name).is_none()) {
        if let Err(_why) = validate_topic_name(name) {
            refused.push((name.to_owned(), ErrorCode::InvalidTopicException));
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            refused.push((name.to_owned(), ErrorCode::LeaderNotAvailable));
            continue;
        }
        let wish = topics::wish(&call.shared.config, name);
        let id = wish.id;
        match topics::ask_metadata(node, Request::CreateTopic(wish), left).await {
            Ok(_) => created.push(id),
            // Another client was first; its topic is as good.
            Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => {}
            // Retriable: the topic may appear any moment.
            Err(refusal) if refusal.code == ErrorCode::RequestTimedOut => {
                refused.push((name.to_owned(), ErrorCode::LeaderNotAvailable));
            }
            Err(refusal) => refused.push((name.to_owned(), refusal.code)),
        }
    }
    topics::wait_served(node, &created, deadline).await;
    refused
}

fn cluster(call: &Call) -> MetadataResponse {
    let node = &call.shared.node;
    let image = node.image();
    let brokers = live_endpoints(node, &image, &call.listener)
        .map(|(broker, listener)| MetadataResponseBroker {
            node_id: broker.id.0,
            host: listener.host.clone(),
            port: i32::from(listener.port),
            rack: broker.rack.clone(),
        })
        .collect();
    MetadataResponse {
        brokers,
        cluster_id: node.cluster_id().map(|id| id.to_string()),
        controller_id: controller_id(node, GroupId::METADATA),
        ..Default::default()
    }
}

/// Brokers that are alive and advertise the listener a client came through.
pub(super) fn live_endpoints<'a>(
    node: &'a Node,
    image: &'a Image,
    listener: &'a str,
) -> impl Iterator<Item = (&'a Arc<BrokerRegistration>, &'a Listener)> {
    image.brokers().filter(|broker| node.is_alive(broker.id)).filter_map(move |broker| {
        let listener = broker.listeners.iter().find(|known| known.name == listener)?;
        Some((broker, listener))
    })
}

/// Any broker takes a controller's requests; the metadata leader spares a hop.
pub(super) fn controller_id(node: &Node, metadata: GroupId) -> i32 {
    let leader = node.leader(metadata).map(|leader| leader.broker);
    leader.filter(|broker| node.is_alive(*broker)).unwrap_or(node.broker_id()).0
}

/// What topics are described against.
pub(super) struct Scene<'a> {
    node: &'a Node,
    image: &'a Image,
    listener: &'a str,
    alive: BTreeSet<BrokerId>,
}

impl<'a> Scene<'a> {
    pub fn new(node: &'a Node, image: &'a Image, listener: &'a str) -> Scene<'a> {
        let alive = image.brokers().map(|broker| broker.id).filter(|id| node.is_alive(*id));
        Scene { node, image, listener, alive: alive.collect() }
    }

    /// A topic somebody asked for, by name or, from version 12 on, by id.
    fn asked(
        &self,
        asked: &MetadataRequestTopic,
        refused: &[(String, ErrorCode)],
    ) -> MetadataResponseTopic {
        let nothing = |error_code| MetadataResponseTopic {
            error_code,
            name: asked.name.clone(),
            topic_id: asked.topic_id,
            ..Default::default()
        };
        let Some(name) = &asked.name else {
            let found = self.image.topic_by_id(asked.topic_id);
            return found.map_or_else(|| nothing(ErrorCode::UnknownTopicId), |t| self.topic(t));
        };
        if let Some(topic) = self.image.topic(name) {
            return self.topic(topic);
        }
        let refused = refused.iter().find(|(other, _)| other == name).map(|(_, code)| *code);
        nothing(refused.unwrap_or_else(|| match validate_topic_name(name) {
            Ok(()) => ErrorCode::UnknownTopicOrPartition,
            Err(_) => ErrorCode::InvalidTopicException,
        }))
    }

    pub fn topic(&self, topic: &Topic) -> MetadataResponseTopic {
        MetadataResponseTopic {
            error_code: ErrorCode::None,
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: is_internal(&topic.name),
            partitions: topic.partitions.iter().map(|p| self.partition(p)).collect(),
            ..Default::default()
        }
    }

    fn partition(&self, partition: &Partition) -> MetadataResponsePartition {
        let brokers = || partition.replicas.iter().map(|replica| replica.broker);
        let mut described = MetadataResponsePartition {
            partition_index: partition.index,
            replica_nodes: brokers().map(|id| id.0).collect(),
            offline_replicas: brokers()
                .filter(|id| !self.alive.contains(id))
                .map(|id| id.0)
                .collect(),
            ..Default::default()
        };
        let leader = self.node.leader(partition.group);
        if let Some(leader) = &leader {
            described.leader_epoch = leader.epoch;
            described.isr_nodes = leader.isr.iter().map(|id| id.0).collect();
        }
        let reachable = leader.filter(|leader| {
            let endpoint = topics::endpoint(self.image, leader.broker, self.listener);
            self.alive.contains(&leader.broker) && endpoint.is_some()
        });
        match reachable {
            Some(leader) => described.leader_id = leader.broker.0,
            None => {
                described.leader_id = -1;
                described.error_code = ErrorCode::LeaderNotAvailable;
            }
        }
        described
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_means_all_and_so_does_an_empty_list_in_version_0() {
        assert_eq!(wanted(None, 1), Wanted::All);
        assert_eq!(wanted(Some(Vec::new()), 0), Wanted::All);
        assert_eq!(wanted(Some(Vec::new()), 1), Wanted::Some(Vec::new()));
    }
}
