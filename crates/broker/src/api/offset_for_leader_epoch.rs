//! OffsetForLeaderEpoch: where a leader epoch ends (KIP-320).

use model::ErrorCode;
use node::Node;
use node::metadata::Image;
use wire::api::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

pub(crate) struct OffsetForLeaderEpoch;

impl Api for OffsetForLeaderEpoch {
    type Request = OffsetForLeaderEpochRequest;

    async fn handle(
        request: Authorized<OffsetForLeaderEpochRequest>,
        call: &mut Call,
    ) -> OffsetForLeaderEpochResponse {
        let node = &call.shared.node;
        let image = node.image();
        let mut topics = Vec::new();
        for topic in request.into_inner().topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in topic.partitions {
                let found = look_up(node, &image, &topic.topic, &asked).await;
                let (leader_epoch, end_offset) = found.ok().flatten().unwrap_or((-1, -1));
                partitions.push(EpochEndOffset {
                    error_code: found.err().unwrap_or_default(),
                    partition: asked.partition,
                    leader_epoch,
                    end_offset,
                });
            }
            topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
        }
        OffsetForLeaderEpochResponse { topics, ..Default::default() }
    }

    fn codes(response: &OffsetForLeaderEpochResponse, codes: &mut Codes) {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| codes.add(partition.error_code));
    }
}

async fn look_up(
    node: &Node,
    image: &Image,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(i32, i64)>, ErrorCode> {
    let topic = image.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let group = topics::partition(topic, asked.partition)?.group;
    let (view, _) = topics::served_here(node, group, asked.current_leader_epoch)?;
    Ok(node.end_offset_for_epoch(&view, asked.leader_epoch).await)
}
