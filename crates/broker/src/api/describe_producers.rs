//! DescribeProducers (KIP-664): the idempotent producers each partition's leader remembers.

use std::time::Duration;

use model::{ErrorCode, limits};
use node::metadata::Image;
use node::{AdminAnswer, AdminAsk, Answer, Node, ProducerStatus};
use wire::api::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicResponse,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

pub(crate) struct DescribeProducers;

impl Api for DescribeProducers {
    type Request = DescribeProducersRequest;

    async fn handle(
        request: Authorized<DescribeProducersRequest>,
        call: &mut Call,
    ) -> DescribeProducersResponse {
        let request = request.into_inner();
        let node = &call.shared.node;
        let image = node.image();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for index in topic.partition_indexes {
                let producers = remembered(node, &image, &topic.name, index).await;
                partitions.push(PartitionResponse {
                    partition_index: index,
                    error_code: producers.as_ref().err().copied().unwrap_or_default(),
                    error_message: None,
                    active_producers: producers.unwrap_or_default(),
                });
            }
            topics.push(TopicResponse { name: topic.name, partitions });
        }
        DescribeProducersResponse { topics, ..Default::default() }
    }

    fn codes(response: &DescribeProducersResponse, codes: &mut Codes) {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| codes.add(partition.error_code));
    }
}

async fn remembered(
    node: &Node,
    image: &Image,
    topic: &str,
    index: i32,
) -> Result<Vec<ProducerState>, ErrorCode> {
    let topic = image.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let group = topics::partition(topic, index)?.group;
    topics::served_here(node, group, -1)?;
    let within = Duration::from_millis(limits::GUARD_MS_MAX);
    // Batches are acknowledged before they are applied; a guarded read waits for that.
    node.guard(group, within).await.map_err(|refusal| refusal.code)?;
    match node.admin_here(group, AdminAsk::Producers, within).await {
        Answer::Admin(AdminAnswer::Producers(all)) => Ok(all.into_iter().map(state).collect()),
        Answer::Refused(refusal) => Err(refusal.code),
        _ => Err(ErrorCode::UnknownServerError),
    }
}

/// Without transactions nobody coordinates and none is open.
fn state(producer: ProducerStatus) -> ProducerState {
    ProducerState {
        producer_id: producer.id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp_ms,
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    }
}
