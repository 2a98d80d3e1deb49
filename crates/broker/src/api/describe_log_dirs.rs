//! DescribeLogDirs: this broker's one directory, the replicas in it and the room that is left.
//!
//! A replica holds every record below the high watermark it knows, if not in a segment yet then
//! in the journal: its lag is 0, and there are no future replicas.

use std::collections::{BTreeMap, BTreeSet};

use node::Node;
use node::metadata::Image;
use wire::api::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct DescribeLogDirs;

impl Api for DescribeLogDirs {
    type Request = DescribeLogDirsRequest;

    async fn handle(
        request: Authorized<DescribeLogDirsRequest>,
        call: &mut Call,
    ) -> DescribeLogDirsResponse {
        let node = &call.shared.node;
        let wanted = request.topics.as_deref().map(wanted);
        let (total, usable) = node.volume_bytes().unzip();
        let bytes = |bytes: Option<u64>| bytes.and_then(|b| i64::try_from(b).ok()).unwrap_or(-1);
        let result = DescribeLogDirsResult {
            log_dir: node.data_dir().display().to_string(),
            topics: replicas(node, &node.image(), wanted.as_ref()),
            total_bytes: bytes(total),
            usable_bytes: bytes(usable),
            ..Default::default()
        };
        DescribeLogDirsResponse { results: vec![result], ..Default::default() }
    }

    fn codes(response: &DescribeLogDirsResponse, codes: &mut Codes) {
        codes.add(response.error_code);
        response.results.iter().for_each(|dir| codes.add(dir.error_code));
    }
}

type Wanted<'a> = BTreeMap<&'a str, BTreeSet<i32>>;

fn wanted(topics: &[DescribableLogDirTopic]) -> Wanted<'_> {
    let mut wanted = Wanted::new();
    for topic in topics {
        wanted.entry(&topic.topic).or_default().extend(&topic.partitions);
    }
    wanted
}

/// Replicas of this broker, all or the wanted ones; what is not here is not mentioned.
fn replicas(node: &Node, image: &Image, wanted: Option<&Wanted<'_>>) -> Vec<DescribeLogDirsTopic> {
    let mut topics = Vec::new();
    for topic in image.topics() {
        let of_topic = wanted.map(|wanted| wanted.get(topic.name.as_str()));
        let is_wanted = |index: i32| match of_topic {
            None => true,
            Some(indexes) => indexes.is_some_and(|indexes| indexes.contains(&index)),
        };
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .filter(|partition| is_wanted(partition.index))
            .filter_map(|partition| {
                let view = node.view(partition.group)?;
                Some(DescribeLogDirsPartition {
                    partition_index: partition.index,
                    partition_size: view.segment_bytes() as i64,
                    offset_lag: 0,
                    is_future_key: false,
                })
            })
            .collect();
        if !partitions.is_empty() {
            topics.push(DescribeLogDirsTopic { name: topic.name.clone(), partitions });
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_named_twice_means_all_of_its_partitions_that_were_named() {
        let named = |partitions: &[i32]| DescribableLogDirTopic {
            topic: "t".into(),
            partitions: partitions.to_vec(),
        };
        let topics = [named(&[0]), named(&[2, 0])];
        assert_eq!(wanted(&topics)["t"], BTreeSet::from([0, 2]));
    }
}
