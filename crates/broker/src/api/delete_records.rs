//! DeleteRecords (KIP-107), at the leader of each partition: a log start that is an entry like
//! any other, so no failover takes it back. The answer follows its commit.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use model::{ErrorCode, limits};
use node::metadata::Image;
use node::{AdminAnswer, AdminAsk, Answer, Node};
use wire::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

pub(crate) struct DeleteRecords;

impl Api for DeleteRecords {
    type Request = DeleteRecordsRequest;

    async fn handle(
        request: Authorized<DeleteRecordsRequest>,
        call: &mut Call,
    ) -> DeleteRecordsResponse {
        let request = request.into_inner();
        let node = &call.shared.node;
        let (image, within) = (node.image(), topics::client_timeout(request.timeout_ms));
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let name = &topic.name;
            let partitions = stream::iter(topic.partitions)
                .map(|asked| one(node, &image, name, asked, within))
                .buffered(limits::GUARDS_IN_FLIGHT_MAX)
                .collect()
                .await;
            topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
        }
        DeleteRecordsResponse { topics, ..Default::default() }
    }

    fn codes(response: &DeleteRecordsResponse, codes: &mut Codes) {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| codes.add(partition.error_code));
    }
}

async fn one(
    node: &Node,
    image: &Image,
    topic: &str,
    asked: DeleteRecordsPartition,
    within: Duration,
) -> DeleteRecordsPartitionResult {
    let deleted = delete(node, image, topic, &asked, within).await;
    DeleteRecordsPartitionResult {
        partition_index: asked.partition_index,
        low_watermark: deleted.unwrap_or(-1),
        error_code: deleted.err().unwrap_or_default(),
    }
}

async fn delete(
    node: &Node,
    image: &Image,
    topic: &str,
    asked: &DeleteRecordsPartition,
    within: Duration,
) -> Result<i64, ErrorCode> {
    let topic = image.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let group = topics::partition(topic, asked.partition_index)?.group;
    topics::served_here(node, group, -1)?;
    let ask = AdminAsk::DeleteRecords { offset: asked.offset };
    match node.admin_here(group, ask, within).await {
        Answer::Admin(AdminAnswer::LogStart(offset)) => Ok(offset),
        Answer::Refused(refusal) => Err(refusal.code),
        _ => Err(ErrorCode::UnknownServerError),
    }
}
