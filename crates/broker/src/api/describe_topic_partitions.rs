//! DescribeTopicPartitions (KIP-966): topics in the order of their names, so many partitions a
//! page; the cursor names the first one of the next.

use std::collections::{BTreeSet, btree_set};
use std::sync::Arc;

use model::{ErrorCode, limits};
use node::metadata::Topic;
use wire::api::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};

use super::metadata::Scene;
use crate::authorize::{Authorized, TOPIC_OPERATIONS};
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct DescribeTopicPartitions;

impl Api for DescribeTopicPartitions {
    type Request = DescribeTopicPartitionsRequest;

    async fn handle(
        request: Authorized<DescribeTopicPartitionsRequest>,
        call: &mut Call,
    ) -> DescribeTopicPartitionsResponse {
        let request = request.into_inner();
        let image = call.shared.node.image();
        let scene = Scene::new(&call.shared.node, &image, &call.listener);
        let names: BTreeSet<String> = if request.topics.is_empty() {
            image.topics().map(|topic| topic.name.clone()).collect()
        } else {
            request.topics.into_iter().map(|topic| topic.name).collect()
        };
        let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
        let limit = limit.clamp(1, limits::DESCRIBED_PARTITIONS_MAX);
        let find = |name: &str| image.topic(name).cloned();
        let (pages, next_cursor) = page(&names, request.cursor, limit, find);
        let topics = pages.into_iter().map(|page| page.describe(&scene)).collect();
        DescribeTopicPartitionsResponse { topics, next_cursor, ..Default::default() }
    }

    fn codes(response: &DescribeTopicPartitionsResponse, codes: &mut Codes) {
        for topic in &response.topics {
            codes.add(topic.error_code);
            topic.partitions.iter().for_each(|partition| codes.add(partition.error_code));
        }
    }
}

/// The part of one topic that is on a page.
#[derive(Debug, PartialEq)]
struct Part {
    name: String,
    /// `None`: there is no such topic.
    topic: Option<Arc<Topic>>,
    partitions: std::ops::Range<usize>,
}

/// One page: topics from the cursor on until `limit` partitions are named.
fn page(
    names: &BTreeSet<String>,
    cursor: Option<Cursor>,
    limit: usize,
    find: impl Fn(&str) -> Option<Arc<Topic>>,
) -> (Vec<Part>, Option<Cursor>) {
    let Cursor { topic_name: begin, partition_index } = cursor.unwrap_or_default();
    let first_index = usize::try_from(partition_index).unwrap_or(0);
    let (mut parts, mut left) = (Vec::new(), limit);
    let from: btree_set::Range<'_, String> = names.range(begin.clone()..);
    for name in from {
        let topic = find(name);
        let count = topic.as_ref().map_or(0, |topic| topic.partitions.len());
        let start = if *name == begin { first_index.min(count) } else { 0 };
        if left == 0 {
            return (parts, Some(Cursor { topic_name: name.clone(), partition_index: 0 }));
        }
        let end = count.min(start + left);
        left -= end - start;
        parts.push(Part { name: name.clone(), topic, partitions: start..end });
        if end < count {
            let partition_index = end as i32;
            return (parts, Some(Cursor { topic_name: name.clone(), partition_index }));
        }
    }
    (parts, None)
}

impl Part {
    fn describe(self, scene: &Scene<'_>) -> DescribeTopicPartitionsResponseTopic {
        let Some(topic) = &self.topic else {
            return DescribeTopicPartitionsResponseTopic {
                error_code: ErrorCode::UnknownTopicOrPartition,
                name: Some(self.name),
                ..Default::default()
            };
        };
        let described = scene.topic(topic);
        let partitions = described.partitions.into_iter().skip(self.partitions.start);
        DescribeTopicPartitionsResponseTopic {
            error_code: described.error_code,
            name: described.name,
            topic_id: described.topic_id,
            is_internal: described.is_internal,
            partitions: partitions
                .take(self.partitions.len())
                .map(|partition| DescribeTopicPartitionsResponsePartition {
                    error_code: partition.error_code,
                    partition_index: partition.partition_index,
                    leader_id: partition.leader_id,
                    leader_epoch: partition.leader_epoch,
                    replica_nodes: partition.replica_nodes,
                    isr_nodes: partition.isr_nodes,
                    // A majority elects; there is no list of replicas that may. Nullable by
                    // the protocol, but Java's client does not survive a null.
                    eligible_leader_replicas: Some(Vec::new()),
                    last_known_elr: Some(Vec::new()),
                    offline_replicas: partition.offline_replicas,
                })
                .collect(),
            topic_authorized_operations: TOPIC_OPERATIONS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{GroupId, TopicId};
    use node::metadata::Partition;

    fn topic(name: &str, partitions: i32) -> Arc<Topic> {
        let partition = |index| Partition::new(index, GroupId(index as u64), Vec::new());
        Arc::new(Topic {
            name: name.into(),
            id: TopicId::ZERO,
            partitions: (0..partitions).map(partition).collect(),
            configs: Default::default(),
            created_ms: 0,
            producers_before: 0,
        })
    }

    #[test]
    fn every_partition_is_on_exactly_one_page() {
        let topics = [topic("a", 3), topic("b", 1), topic("c", 5)];
        let find = |name: &str| topics.iter().find(|topic| topic.name == name).cloned();
        let names: BTreeSet<String> = ["a", "b", "c", "d"].map(String::from).into();
        for limit in 1..12 {
            let (mut cursor, mut seen, mut pages) = (None, Vec::new(), 0);
            loop {
                let (parts, next) = page(&names, cursor, limit, find);
                let count: usize = parts.iter().map(|part| part.partitions.len()).sum();
                assert!(count <= limit, "{count} of {limit}");
                for part in parts {
                    if part.topic.is_none() {
                        seen.push((part.name.clone(), 0));
                    }
                    seen.extend(part.partitions.map(|at| (part.name.clone(), at)));
                }
                pages += 1;
                assert!(pages < 20);
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            let expected = [("a", 3), ("b", 1), ("c", 5), ("d", 1)];
            let expected = expected
                .iter()
                .flat_map(|(name, count)| (0..*count).map(|at| (name.to_string(), at)));
            assert!(expected.eq(seen), "limit {limit}");
        }
    }
}
