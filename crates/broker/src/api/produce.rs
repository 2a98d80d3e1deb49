//! Produce: batches are validated and queued into their partitions while the connection reads,
//! in the order they came; the answers are collected in the request's turn.
//!
//! Invariants: the batches of one connection enter each partition's queue in request order; a
//! batch's charge travels with its bytes; a time-out means unknown, never "failed".

use std::time::Duration;

use bytes::Bytes;
use model::{ErrorCode, GroupId, TopicId, limits};
use node::budget::Charge;
use node::metadata::Image;
use node::{Ask, Produced, Refusal};
use telemetry::labels::{InflightStage, ProduceStage};
use telemetry::trace::{self, Caller, Entry};
use telemetry::{Stamps, clock};
use wire::api::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceResponse,
};
use wire::records::{BatchHeader, BatchRules, first_header, validate};
use wire::{RequestFrame, WireError, encode_response};

use crate::authorize::Authorized;
use crate::call::{Call, Codes, Reply, Stamped};
use crate::dispatch::Work;
use crate::{opening, topics};

/// From this version on topics are identified by id (KIP-516).
const TOPIC_IDS: i16 = 13;
/// Produce requests do not say which epoch they mean.
const ANY_EPOCH: i32 = -1;
/// Topics only Kafka's own coordinators write.
const COORDINATOR_TOPICS: [&str; 3] =
    ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// One topic of the request, its batches queued.
struct Topic {
    key: TopicKey,
    parts: Vec<Part>,
}

/// What the client calls a topic: its name, or from version 13 on its id.
struct TopicKey {
    name: String,
    id: TopicId,
}

/// One partition of the request.
struct Part {
    index: i32,
    group: Option<GroupId>,
    /// `None`: acks=0, nobody will answer.
    queued: Result<Option<Ask>, Refusal>,
}

/// Decodes, authorizes, validates and queues; the work that is returned collects the answers.
pub(crate) async fn begin(
    frame: RequestFrame,
    mut call: Call,
    mut charge: Charge,
) -> Result<Work, WireError> {
    let request = frame.decode::<ProduceRequest>()?;
    let frame_bytes = frame.body_bytes();
    drop(frame);
    let request = call.shared.authorizer.decide(&call.principal, request);
    let acks = request.acks;
    let topics = queue(request, &mut call, &mut charge, frame_bytes).await;
    // Headers, and batches that were refused.
    drop(charge);
    call.flight.produce_waits(ProduceStage::Parse, InflightStage::ProduceCommit);
    Ok(Box::pin(finish(topics, acks, call)))
}

async fn queue(
    request: Authorized<ProduceRequest>,
    call: &mut Call,
    charge: &mut Charge,
    frame_bytes: usize,
) -> Vec<Topic> {
    let request = request.into_inner();
    let image = call.shared.node.image();
    let terms = Terms {
        acks: request.acks,
        within: patience(request.acks, request.timeout_ms),
        rules: BatchRules::for_produce(call.version),
        by_id: call.version >= TOPIC_IDS,
        frame_bytes,
    };
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let key = TopicKey { name: data.name, id: data.topic_id };
        let mut parts = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            parts.push(queue_one(&key, partition, &terms, &image, call, charge).await);
        }
        topics.push(Topic { key, parts });
    }
    topics
}

/// What all batches of a request have in common.
struct Terms {
    acks: i16,
    within: Duration,
    rules: BatchRules,
    by_id: bool,
    frame_bytes: usize,
}

async fn queue_one(
    topic: &TopicKey,
    data: PartitionProduceData,
    terms: &Terms,
    image: &Image,
    call: &mut Call,
    charge: &mut Charge,
) -> Part {
    let index = data.index;
    let records = data.records.unwrap_or_default();
    let (group, header) = match admit(topic, index, &records, terms, image) {
        Ok(admitted) => admitted,
        Err(refusal) => return Part { index, group: None, queued: Err(refusal) },
    };
    let node = &call.shared.node;
    // acks=0 would never hear of it from the partition.
    if let Err(code) = topics::served_here(node, group, ANY_EPOCH) {
        let refusal = Refusal { code, why: "this broker does not lead the partition".to_owned() };
        return Part { index, group: Some(group), queued: Err(refusal) };
    }
    note_caller(call, group, &records);
    let node = &call.shared.node;
    if let Err(refusal) = opening::check(node, &header, &records).await {
        return Part { index, group: Some(group), queued: Err(refusal) };
    }
    let share = charge.split(records.len().min(charge.bytes()));
    let batch = own(records, terms.frame_bytes);
    let ask = node.produce(group, batch, Some(share), terms.acks, terms.within).await;
    let waits = terms.acks != 0;
    Part { index, group: Some(group), queued: Ok(waits.then_some(ask)) }
}

/// What a trace of this request would begin with: a partition, and who asked for it, if a record
/// says so and anybody would see it.
fn note_caller(call: &mut Call, group: GroupId, records: &[u8]) {
    let traced = &mut call.flight.traced;
    if traced.entry.group == 0 {
        traced.entry.group = group.0;
    }
    if traced.caller.is_none() && trace::is_on() {
        let header = first_header(records, trace::TRACEPARENT, limits::TRACE_HEADERS_MAX);
        traced.caller = header.and_then(Caller::parse);
    }
}

/// Everything that can be refused before a partition is asked.
fn admit(
    topic: &TopicKey,
    index: i32,
    records: &[u8],
    terms: &Terms,
    image: &Image,
) -> Result<(GroupId, BatchHeader), Refusal> {
    let refuse = |code: ErrorCode, why: String| Refusal { code, why };
    if !matches!(terms.acks, -1..=1) {
        let why = format!("acks is {}, allowed are -1, 0 and 1", terms.acks);
        return Err(refuse(ErrorCode::InvalidRequiredAcks, why));
    }
    let unknown = |code: ErrorCode| refuse(code, code.as_str().to_owned());
    let found = topics::find(image, &topic.name, topic.id, terms.by_id).map_err(unknown)?;
    let name = found.name.as_str();
    if COORDINATOR_TOPICS.contains(&name) || node::is_written_by_brokers(name) {
        let why = format!("clients may not write to {}", found.name);
        return Err(refuse(ErrorCode::InvalidTopicException, why));
    }
    let group = topics::partition(found, index).map_err(unknown)?.group;
    match validate(records, &terms.rules) {
        Ok(header) => Ok((group, header)),
        Err(error) => Err(refuse(error.code(), error.to_string())),
    }
}

/// The batch in memory of its own, so that the frame can go. A batch that is nearly all of its
/// frame keeps it instead: as its only holder the leader stamps it in place.
fn own(batch: Bytes, frame_bytes: usize) -> Bytes {
    if batch.len() >= frame_bytes / 4 * 3 { batch } else { Bytes::copy_from_slice(&batch) }
}

/// acks=all waits as long as the client says. What the leader alone decides is waited for, as
/// in Kafka, where such an append has no time-out at all.
fn patience(acks: i16, timeout_ms: i32) -> Duration {
    let asked = topics::client_timeout(timeout_ms);
    if acks == -1 { asked } else { asked.max(Duration::from_millis(limits::LEADER_ACK_MS_MAX)) }
}

async fn finish(topics: Vec<Topic>, acks: i16, mut call: Call) -> Result<Reply, WireError> {
    let mut codes = Codes::default();
    let mut response = ProduceResponse::default();
    let mut slowest: Option<(Entry, Produced)> = None;
    for topic in topics {
        let mut answered = TopicProduceResponse {
            name: topic.key.name,
            topic_id: topic.key.id,
            partition_responses: Vec::with_capacity(topic.parts.len()),
        };
        for part in topic.parts {
            let group = part.group;
            let (partition, produced) = answer(part, &call, &mut response.node_endpoints).await;
            codes.add(partition.error_code);
            answered.partition_responses.push(partition);
            if let (Some(group), Some(produced)) = (group, produced)
                && slowest.is_none_or(|(_, s)| produced.stages.committed_ns > s.stages.committed_ns)
            {
                slowest = Some((entry(group, &produced), produced));
            }
        }
        response.responses.push(answered);
    }
    call.flight.traced.fault = codes.fault();
    if let (Some((entry, produced)), Stamped::Produce(stamps)) = (slowest, &mut call.flight.stamps)
    {
        mark(stamps, &produced);
        call.flight.traced.entry = entry;
    }
    call.flight.produce_waits(ProduceStage::Apply, InflightStage::ProduceAck);
    let outcome = codes.outcome();
    if acks == 0 {
        // There is no reply to carry an error: closing is all a broker can do.
        let close = outcome != telemetry::labels::Outcome::Ok;
        return Ok(Reply { frame: None, close, outcome, call });
    }
    let frame = encode_response(call.version, call.correlation_id, &response)?;
    Ok(Reply { frame: Some(frame), close: false, outcome, call })
}

async fn answer(
    part: Part,
    call: &Call,
    endpoints: &mut Vec<NodeEndpoint>,
) -> (PartitionProduceResponse, Option<Produced>) {
    let mut response = PartitionProduceResponse { index: part.index, ..Default::default() };
    let outcome = match part.queued {
        Ok(Some(ask)) => ask.answer().await,
        Ok(None) => return (response, None),
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(produced) => {
            response.base_offset = produced.base_offset;
            response.log_append_time_ms = produced.append_time_ms;
            response.log_start_offset = produced.log_start;
            (response, Some(produced))
        }
        Err(refusal) => {
            call.shared.node.count_failed(part.group);
            response.base_offset = -1;
            response.error_code = refusal.code;
            response.error_message = Some(refusal.why);
            if refusal.code == ErrorCode::NotLeaderOrFollower
                && let Some(group) = part.group
            {
                redirect(group, &mut response, endpoints, call);
            }
            (response, None)
        }
    }
}

/// KIP-951: the new leader, and where it listens.
fn redirect(
    group: GroupId,
    response: &mut PartitionProduceResponse,
    endpoints: &mut Vec<NodeEndpoint>,
    call: &Call,
) {
    let node = &call.shared.node;
    let Some(leader) = topics::elsewhere(node, group) else { return };
    let image = node.image();
    let Some(at) = topics::endpoint(&image, leader.broker, &call.listener) else { return };
    response.current_leader =
        LeaderIdAndEpoch { leader_id: leader.broker.0, leader_epoch: leader.epoch };
    if endpoints.iter().all(|known| known.node_id != leader.broker.0) {
        endpoints.push(NodeEndpoint {
            node_id: leader.broker.0,
            host: at.host.clone(),
            port: i32::from(at.port),
            rack: image.broker(leader.broker).and_then(|broker| broker.rack.clone()),
        });
    }
}

fn entry(group: GroupId, produced: &Produced) -> Entry {
    let Produced { base_offset, index, term, .. } = *produced;
    Entry { group: group.0, index, term, base_offset }
}

/// The shard stamps boot time; the difference to the shown scale is taken now.
fn mark(stamps: &mut Stamps<ProduceStage>, produced: &Produced) {
    let (boot_ns, mono_ns) = (clock::boot_ns(), clock::mono_ns());
    let shown = |ns: u64| mono_ns.saturating_sub(boot_ns.saturating_sub(ns));
    for (stage, ns) in [
        (ProduceStage::Queue, produced.stages.taken_ns),
        (ProduceStage::Propose, produced.stages.stamped_ns),
        (ProduceStage::JournalAppend, produced.stages.written_ns),
        (ProduceStage::Fsync, produced.stages.synced_ns),
        (ProduceStage::Replicate, produced.stages.replicated_ns),
        (ProduceStage::Commit, produced.stages.committed_ns),
    ] {
        if ns > 0 {
            stamps.mark(stage, shown(ns));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(acks: i16) -> Terms {
        Terms {
            acks,
            within: Duration::ZERO,
            rules: BatchRules::for_produce(9),
            by_id: false,
            frame_bytes: 100,
        }
    }

    fn named(name: &str) -> TopicKey {
        TopicKey { name: name.into(), id: TopicId::ZERO }
    }

    #[test]
    fn acks_other_than_minus_1_to_1_are_refused_before_anything_else() {
        let image = Image::default();
        for acks in [-2, 2, i16::MAX] {
            let refusal = admit(&named("t"), 0, b"", &terms(acks), &image).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidRequiredAcks);
        }
        let refusal = admit(&named("t"), 0, b"", &terms(-1), &image).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::UnknownTopicOrPartition);
        let by_id = Terms { by_id: true, ..terms(1) };
        let refusal = admit(&named(""), 0, b"", &by_id, &image).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::UnknownTopicId);
    }

    #[test]
    fn only_acks_all_lives_by_the_clients_time_out() {
        assert_eq!(patience(-1, 250), Duration::from_millis(250));
        assert_eq!(patience(1, 250), Duration::from_millis(limits::LEADER_ACK_MS_MAX));
        assert_eq!(patience(0, 60_000), Duration::from_millis(60_000));
    }

    #[test]
    fn a_small_batch_lets_its_frame_go_and_a_large_one_is_not_copied() {
        let frame = Bytes::from(vec![7u8; 1_000]);
        let small = frame.slice(10..200);
        assert_ne!(own(small.clone(), frame.len()).as_ptr(), small.as_ptr());
        let large = frame.slice(50..);
        assert_eq!(own(large.clone(), frame.len()).as_ptr(), large.as_ptr());
    }
}
