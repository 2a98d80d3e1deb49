//! OffsetFetch: one group up to version 7, many from 8 on; by topic id from 10 on.

use model::ErrorCode;
use node::groups::{Request, Response};
use node::metadata::Image;
use wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

use super::{coordinate, mismatched, soon};
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

const MANY: i16 = 8;
const BY_ID: i16 = 10;

pub(crate) struct OffsetFetch;

impl Api for OffsetFetch {
    type Request = OffsetFetchRequest;

    async fn handle(
        request: Authorized<OffsetFetchRequest>,
        call: &mut Call,
    ) -> OffsetFetchResponse {
        let request = request.into_inner();
        if call.version < MANY {
            return one(request, call).await;
        }
        let image = call.shared.node.image();
        let by_id = call.version >= BY_ID;
        let mut groups = Vec::with_capacity(request.groups.len());
        for mut group in request.groups {
            let unknown = if by_id { name_topics(&image, &mut group) } else { Vec::new() };
            let mut found = fetch(call, group).await;
            if by_id {
                let topics = std::mem::take(&mut found.topics);
                found.topics = topics.into_iter().filter_map(|t| with_id(&image, t)).collect();
                found.topics.extend(unknown);
            }
            groups.push(found);
        }
        OffsetFetchResponse { groups, ..OffsetFetchResponse::default() }
    }

    fn codes(response: &OffsetFetchResponse, codes: &mut Codes) {
        codes.add(response.error_code);
        response.groups.iter().for_each(|group| codes.add(group.error_code));
    }
}

async fn fetch(call: &Call, group: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let group_id = group.group_id.clone();
    let error_code = match coordinate(call, &group_id, Request::Fetch(group), soon()).await {
        Ok(Response::Fetch(found)) => return found,
        Ok(other) => mismatched(other),
        Err(code) => code,
    };
    OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code }
}

async fn one(request: OffsetFetchRequest, call: &Call) -> OffsetFetchResponse {
    let topics = request.topics.map(|topics| {
        let topic =
            |topic: wire::api::offset_fetch::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
                ..OffsetFetchRequestTopics::default()
            };
        topics.into_iter().map(topic).collect::<Vec<_>>()
    });
    let asked = topics.clone();
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..OffsetFetchRequestGroup::default()
    };
    let found = fetch(call, group).await;
    let error_code = found.error_code;
    let topics = match error_code {
        ErrorCode::None => found.topics,
        // Version 1 has no error of the whole: each partition says it.
        code => asked.unwrap_or_default().into_iter().map(|topic| failed(topic, code)).collect(),
    };
    let topics = topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(old_partition).collect(),
    });
    OffsetFetchResponse { topics: topics.collect(), error_code, ..OffsetFetchResponse::default() }
}

fn old_partition(new: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: new.partition_index,
        committed_offset: new.committed_offset,
        committed_leader_epoch: new.committed_leader_epoch,
        metadata: new.metadata,
        error_code: new.error_code,
    }
}

fn failed(topic: OffsetFetchRequestTopics, error_code: ErrorCode) -> OffsetFetchResponseTopics {
    let partition = |partition_index| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        error_code,
        ..OffsetFetchResponsePartitions::default()
    };
    OffsetFetchResponseTopics {
        partitions: topic.partition_indexes.into_iter().map(partition).collect(),
        name: topic.name,
        topic_id: topic.topic_id,
    }
}

/// Names the topics of a request that has ids; those nobody knows are answered.
fn name_topics(
    image: &Image,
    group: &mut OffsetFetchRequestGroup,
) -> Vec<OffsetFetchResponseTopics> {
    let Some(topics) = &mut group.topics else { return Vec::new() };
    let mut unknown = Vec::new();
    let mut known = Vec::with_capacity(topics.len());
    for mut topic in std::mem::take(topics) {
        match topics::find(image, "", topic.topic_id, true) {
            Ok(found) => {
                topic.name.clone_from(&found.name);
                known.push(topic);
            }
            Err(code) => unknown.push(failed(topic, code)),
        }
    }
    *topics = known;
    unknown
}

/// Offsets of topics that are gone have no id to be told by.
fn with_id(
    image: &Image,
    mut topic: OffsetFetchResponseTopics,
) -> Option<OffsetFetchResponseTopics> {
    topic.topic_id = image.topic(&topic.name)?.id;
    Some(topic)
}
