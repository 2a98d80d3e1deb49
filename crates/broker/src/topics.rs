//! From what clients call a partition to what serves it here, with Kafka's errors on the way.

use std::sync::Arc;
use std::time::Duration;

use model::{BrokerId, ErrorCode, GroupId, TopicId, limits};
use node::groups::OFFSETS_TOPIC;
use node::metadata::{CreateTopic, Image, Listener, Partition, Request, Response, Topic};
use node::{Node, PartitionView, Refusal, ViewState};
use tokio::time::{Instant, sleep};

use crate::BrokerConfig;

/// A topic by id from the versions that have ids on, else by name.
pub(crate) fn find<'a>(
    image: &'a Image,
    name: &str,
    id: TopicId,
    by_id: bool,
) -> Result<&'a Arc<Topic>, ErrorCode> {
    if by_id {
        image.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId)
    } else {
        image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

/// A partition of a topic by its index.
pub(crate) fn partition(topic: &Topic, index: i32) -> Result<&Partition, ErrorCode> {
    let found = usize::try_from(index).ok().and_then(|at| topic.partitions.get(at));
    found.ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// Every partition there is, a topic at a time, in the words of the API that asks.
pub(crate) fn everything<T>(image: &Image, in_words: impl Fn(String, Vec<i32>) -> T) -> Vec<T> {
    let indexes = |topic: &Topic| topic.partitions.iter().map(|known| known.index).collect();
    image.topics().map(|topic| in_words(topic.name.clone(), indexes(topic))).collect()
}

/// KIP-320: a client and a leader that are not of one epoch must not talk. -1 is not checked.
pub(crate) fn fence(asked: i32, served: i32) -> Result<(), ErrorCode> {
    match asked {
        ..0 => Ok(()),
        _ if asked < served => Err(ErrorCode::FencedLeaderEpoch),
        _ if asked > served => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// What serves a partition at this broker: its view, and the state that passed the fence.
pub(crate) fn served_here(
    node: &Node,
    group: GroupId,
    leader_epoch: i32,
) -> Result<(Arc<PartitionView>, ViewState), ErrorCode> {
    let view = node.view(group).ok_or(ErrorCode::NotLeaderOrFollower)?;
    let state = view.state();
    if !state.serving {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    fence(leader_epoch, state.epoch)?;
    Ok((view, state))
}

/// Who leads a group and where, as far as this broker knows; not itself, and nobody dead.
pub(crate) struct Elsewhere {
    pub broker: BrokerId,
    pub epoch: i32,
}

/// Where a client that came to the wrong broker should go (KIP-951).
pub(crate) fn elsewhere(node: &Node, group: GroupId) -> Option<Elsewhere> {
    let leader = node.leader(group)?;
    let useful = leader.broker != node.broker_id() && node.is_alive(leader.broker);
    useful.then_some(Elsewhere { broker: leader.broker, epoch: leader.epoch })
}

/// What a broker advertises under a listener's name.
pub(crate) fn endpoint<'a>(
    image: &'a Image,
    broker: BrokerId,
    listener: &str,
) -> Option<&'a Listener> {
    image.broker(broker)?.listeners.iter().find(|known| known.name == listener)
}

/// A new topic with this broker's defaults; the caller fills in what it was told.
pub(crate) fn wish(config: &BrokerConfig, name: &str) -> CreateTopic {
    // However it comes into being, groups find their coordinator by this number.
    let of_groups = name == OFFSETS_TOPIC;
    CreateTopic {
        name: name.to_owned(),
        id: node::new_topic_id(),
        partitions: -1,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: match of_groups {
            true => [("segment.bytes".to_owned(), config.offsets_segment_bytes.to_string())].into(),
            false => Default::default(),
        },
        validate_only: false,
        default_partitions: match of_groups {
            true => config.offsets_partitions,
            false => config.num_partitions,
        },
        default_replication_factor: config.default_replication_factor,
        internal_replication_factor: config.internal_replication_factor(),
    }
}

/// Asks the metadata leader; a rejection is an error like any other.
pub(crate) async fn ask_metadata(
    node: &Node,
    request: Request,
    within: Duration,
) -> Result<Response, Refusal> {
    let response = node.metadata(request, within).await?;
    match response.rejection() {
        Some((code, why)) => Err(Refusal { code, why: why.to_owned() }),
        None => Ok(response),
    }
}

/// The metadata leader answered something else.
pub(crate) fn unexpected(answer: &Response) -> Refusal {
    let why = format!("an answer to another question: {answer:?}");
    Refusal { code: ErrorCode::UnknownServerError, why }
}

/// Waits until this broker knows the topics and who serves each of their partitions, or until
/// `deadline`.
pub(crate) async fn wait_served(node: &Node, topics: &[TopicId], deadline: Instant) {
    wait_until(deadline, || {
        let image = node.image();
        topics.iter().all(|id| {
            let served = |partition: &Partition| node.leader(partition.group).is_some();
            image.topic_by_id(*id).is_some_and(|topic| topic.partitions.iter().all(served))
        })
    })
    .await;
}

/// Waits until this broker no longer knows the topics, or until `deadline`.
pub(crate) async fn wait_gone(node: &Node, topics: &[TopicId], deadline: Instant) {
    wait_until(deadline, || {
        let image = node.image();
        topics.iter().all(|id| image.topic_by_id(*id).is_none())
    })
    .await;
}

async fn wait_until(deadline: Instant, mut done: impl FnMut() -> bool) {
    while !done() && Instant::now() < deadline {
        sleep(Duration::from_millis(limits::TOPIC_SERVED_POLL_MS)).await;
    }
}

/// How long the metadata leader is asked: a client that does not wait (time-outs of 0 and -1
/// say "begin it") has it begun all the same.
pub(crate) fn admin_timeout(timeout_ms: i32) -> Duration {
    client_timeout(timeout_ms).max(Duration::from_millis(limits::TOPIC_ADMIN_MS_MIN))
}

/// A client's time-out, bounded; negative ones wait for nothing.
pub(crate) fn client_timeout(timeout_ms: i32) -> Duration {
    let ms = u64::try_from(timeout_ms).unwrap_or(0);
    Duration::from_millis(ms.min(limits::REQUEST_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_epochs_are_fenced_and_newer_ones_unknown() {
        assert_eq!(fence(-1, 7), Ok(()));
        assert_eq!(fence(7, 7), Ok(()));
        assert_eq!(fence(6, 7), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(fence(8, 7), Err(ErrorCode::UnknownLeaderEpoch));
    }

    #[test]
    fn the_topic_of_groups_has_segments_of_its_own_size() {
        let config = BrokerConfig::default();
        let of = |name| wish(&config, name).configs.get("segment.bytes").cloned();
        assert_eq!(of(OFFSETS_TOPIC).as_deref(), Some("104857600"));
        assert_eq!(of("orders"), None);
    }

    #[test]
    fn a_clients_patience_is_bounded() {
        assert_eq!(client_timeout(-5), Duration::ZERO);
        assert_eq!(client_timeout(1_500), Duration::from_millis(1_500));
        assert_eq!(client_timeout(i32::MAX), Duration::from_millis(limits::REQUEST_MS_MAX));
        assert_eq!(admin_timeout(-1), Duration::from_millis(limits::TOPIC_ADMIN_MS_MIN));
        assert_eq!(admin_timeout(60_000), Duration::from_millis(60_000));
    }
}
