//! OffsetCommit. Partitions that do not exist are refused here, and topics get their name and id;
//! the rest is the coordinator's.

use model::ErrorCode;
use node::groups::{Request, Response};
use node::metadata::Image;
use wire::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use super::{coordinate, mismatched, soon};
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

/// Versions from here on name topics by id.
const BY_ID: i16 = 10;

pub(crate) struct OffsetCommit;

impl Api for OffsetCommit {
    type Request = OffsetCommitRequest;

    async fn handle(
        request: Authorized<OffsetCommitRequest>,
        call: &mut Call,
    ) -> OffsetCommitResponse {
        let mut request = request.into_inner();
        let by_id = call.version >= BY_ID;
        let image = call.shared.node.image();
        let mut refused = Vec::new();
        for topic in &mut request.topics {
            refused.push(take_unknown(&image, topic, by_id));
        }
        let asked = request.topics.clone();
        let group = request.group_id.clone();
        let known = request.topics.iter().any(|topic| !topic.partitions.is_empty());
        let answer = match known {
            true => coordinate(call, &group, Request::Commit(request), soon()).await,
            false => Ok(Response::Commit(OffsetCommitResponse {
                topics: asked.iter().map(|topic| answered(topic, ErrorCode::None)).collect(),
                ..OffsetCommitResponse::default()
            })),
        };
        let all = |code| asked.iter().map(|topic| answered(topic, code)).collect();
        let mut topics: Vec<OffsetCommitResponseTopic> = match answer {
            Ok(Response::Commit(response)) => response.topics,
            Ok(other) => all(mismatched(other)),
            Err(code) => all(code),
        };
        for (topic, refused) in topics.iter_mut().zip(refused) {
            if by_id {
                topic.partitions.iter_mut().for_each(say_by_id);
            }
            topic.partitions.extend(refused);
        }
        OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
    }

    fn codes(response: &OffsetCommitResponse, codes: &mut Codes) {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| codes.add(partition.error_code));
    }
}

/// A topic that went while its commit was under way, in the words of who names it by id.
fn say_by_id(partition: &mut OffsetCommitResponsePartition) {
    if partition.error_code == ErrorCode::UnknownTopicOrPartition {
        partition.error_code = ErrorCode::UnknownTopicId;
    }
}

/// Names the topic, both ways, and takes out the partitions that do not exist.
fn take_unknown(
    image: &Image,
    topic: &mut OffsetCommitRequestTopic,
    by_id: bool,
) -> Vec<OffsetCommitResponsePartition> {
    let found = topics::find(image, &topic.name, topic.topic_id, by_id);
    if let Ok(found) = found {
        topic.name.clone_from(&found.name);
        topic.topic_id = found.id;
    }
    let judge = |partition: &OffsetCommitRequestPartition| match found {
        Ok(topic) => topics::partition(topic, partition.partition_index).err(),
        Err(code) => Some(code),
    };
    let mut refused = Vec::new();
    topic.partitions.retain(|partition| match judge(partition) {
        None => true,
        Some(error_code) => {
            let partition_index = partition.partition_index;
            refused.push(OffsetCommitResponsePartition { partition_index, error_code });
            false
        }
    });
    refused
}

fn answered(topic: &OffsetCommitRequestTopic, error_code: ErrorCode) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| OffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code,
    });
    OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}
