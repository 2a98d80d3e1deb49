//! ListOffsets: the end, the start, the largest timestamp, or the first record not older than
//! a timestamp. The end is a guarded read: an old leader never answers it.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use model::{ErrorCode, limits};
use node::metadata::Image;
use node::{Node, TimestampOffset};
use wire::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_NOT_TIERED: i64 = -6;

pub(crate) struct ListOffsets;

impl Api for ListOffsets {
    type Request = ListOffsetsRequest;

    async fn handle(
        request: Authorized<ListOffsetsRequest>,
        call: &mut Call,
    ) -> ListOffsetsResponse {
        let request = request.into_inner();
        let (node, version) = (&call.shared.node, call.version);
        let image = node.image();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let name = &topic.name;
            let asked = stream::iter(topic.partitions);
            let partitions = asked
                .map(|partition| answer(node, &image, name, partition, version))
                .buffered(limits::GUARDS_IN_FLIGHT_MAX)
                .collect()
                .await;
            topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
        }
        ListOffsetsResponse { topics, ..Default::default() }
    }

    fn codes(response: &ListOffsetsResponse, codes: &mut Codes) {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| codes.add(partition.error_code));
    }
}

/// An offset with its timestamp and epoch; -1 each where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    offset: i64,
    timestamp: i64,
    epoch: i32,
}

impl From<TimestampOffset> for Found {
    fn from(found: TimestampOffset) -> Found {
        let TimestampOffset { offset, timestamp, leader_epoch: epoch } = found;
        Found { offset, timestamp, epoch }
    }
}

const NOTHING: Found = Found { offset: -1, timestamp: -1, epoch: -1 };

async fn answer(
    node: &Node,
    image: &Image,
    topic: &str,
    asked: ListOffsetsPartition,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let found = look_up(node, image, topic, &asked, version).await;
    let Found { offset, timestamp, epoch } = found.unwrap_or(NOTHING);
    ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        error_code: found.err().unwrap_or_default(),
        timestamp,
        offset,
        leader_epoch: epoch,
    }
}

async fn look_up(
    node: &Node,
    image: &Image,
    topic: &str,
    asked: &ListOffsetsPartition,
    version: i16,
) -> Result<Found, ErrorCode> {
    let topic = image.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let group = topics::partition(topic, asked.partition_index)?.group;
    check_version(asked.timestamp, version)?;
    let (view, state) = topics::served_here(node, group, asked.current_leader_epoch)?;
    match asked.timestamp {
        LATEST => {
            let within = Duration::from_millis(limits::GUARD_MS_MAX);
            let now = node.guard(group, within).await.map_err(|refusal| refusal.code)?;
            Ok(Found { offset: now.high_watermark, timestamp: -1, epoch: now.leader_epoch })
        }
        EARLIEST | EARLIEST_LOCAL => {
            // The epoch of the first record may be long past; not naming one is allowed.
            Ok(Found { offset: state.log_start, timestamp: -1, epoch: -1 })
        }
        // Nothing is tiered here.
        LATEST_TIERED | EARLIEST_NOT_TIERED => Ok(NOTHING),
        MAX_TIMESTAMP => {
            // Found by headers, and then one batch is opened.
            let at_or_after = |timestamp| node.batch_for_timestamp(&view, timestamp);
            let Some(newest) = newest(at_or_after).await? else { return Ok(NOTHING) };
            let found = node.offset_for_timestamp(&view, newest.timestamp).await?;
            Ok(found.map_or(NOTHING, Found::from))
        }
        timestamp => {
            let found = node.offset_for_timestamp(&view, timestamp).await?;
            Ok(found.map_or(NOTHING, Found::from))
        }
    }
}

/// The first batch of the largest timestamp (KIP-734), by looking later and later, then in
/// between: about two look-ups per binary digit of the time the log spans.
async fn newest<F>(at_or_after: impl Fn(i64) -> F) -> Result<Option<TimestampOffset>, ErrorCode>
where
    F: Future<Output = Result<Option<TimestampOffset>, ErrorCode>>,
{
    let Some(mut best) = at_or_after(0).await? else { return Ok(None) };
    // Nothing is at or after `none_from`, if it is known.
    let (mut none_from, mut step) = (None, 1i64);
    loop {
        let probe = match none_from {
            None => best.timestamp.saturating_add(step),
            Some(none_from) => best.timestamp + (none_from - best.timestamp) / 2,
        };
        if probe <= best.timestamp {
            return Ok(Some(best));
        }
        match at_or_after(probe).await? {
            // Only a record of i64::MAX itself can be at the end of time.
            Some(found) if probe == i64::MAX => return Ok(Some(found)),
            Some(found) => {
                best = found;
                step = step.saturating_mul(2);
            }
            None => none_from = Some(probe),
        }
    }
}

/// Questions a version does not know would else be taken for timestamps.
fn check_version(timestamp: i64, version: i16) -> Result<(), ErrorCode> {
    let since = match timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_NOT_TIERED => 11,
        _ => 1,
    };
    if version >= since { Ok(()) } else { Err(ErrorCode::UnsupportedVersion) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_largest_timestamp_is_found_wherever_it_is() {
        let logs: [&[i64]; 6] = [
            &[],
            &[0],
            &[5, 3, 9, 9, 1],
            &[1_700_000_000_000, 1_700_000_000_001, 1_600_000_000_000],
            &[i64::MAX, 7],
            &[2, i64::MAX - 1],
        ];
        for log in logs {
            let lookups = std::cell::Cell::new(0);
            let at_or_after = |timestamp| {
                lookups.set(lookups.get() + 1);
                let found = log.iter().position(|ts| *ts >= timestamp);
                let found = found.map(|at| TimestampOffset {
                    offset: at as i64,
                    timestamp: log[at],
                    leader_epoch: 1,
                });
                std::future::ready(Ok(found))
            };
            let newest = newest(at_or_after).await.unwrap().map(|found| found.offset);
            let first = log.iter().max().and_then(|max| log.iter().position(|ts| ts == max));
            assert_eq!(newest, first.map(|at| at as i64), "{log:?}");
            assert!(lookups.get() <= 130, "{} look-ups in {log:?}", lookups.get());
        }
    }

    #[test]
    fn questions_need_the_version_that_has_them() {
        for (question, since) in [(LATEST, 1), (EARLIEST, 1), (MAX_TIMESTAMP, 7), (-4, 8), (-6, 11)]
        {
            assert_eq!(check_version(question, since), Ok(()));
            if since > 1 {
                let older = check_version(question, since - 1);
                assert_eq!(older, Err(ErrorCode::UnsupportedVersion));
            }
        }
    }
}
