//! Fetch: reads published views, never asks a shard; waits for bytes with one waiter for all
//! partitions of the request.
//!
//! Invariants: nothing at or above the high watermark leaves; the first batch of a reply is
//! sent however large (KIP-74), everything else fits the request's and this broker's limits;
//! OFFSET_OUT_OF_RANGE above the end is said only when a guarded read vouches for the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::{ErrorCode, GroupId, limits};
use node::metadata::Image;
use node::{Node, PartitionView, ViewState, Waiter};
use telemetry::labels::FetchStage;
use telemetry::{clock, metrics};
use tokio::time::{Instant, sleep_until, timeout_at};
use wire::api::fetch::{
    EpochEndOffset, FetchPartition, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use wire::records::{BatchHeader, Compression};

use crate::authorize::Authorized;
use crate::call::{Call, Codes, Shared, Traced};
use crate::dispatch::Api;
use crate::topics;

/// From this version on topics are identified by id (KIP-516).
const TOPIC_IDS: i16 = 13;
/// From this version on clients know zstd (KIP-110).
const ZSTD: i16 = 10;
const READ_COMMITTED: i8 = 1;

pub(crate) struct Fetch;

impl Api for Fetch {
    type Request = FetchRequest;

    async fn handle(request: Authorized<FetchRequest>, call: &mut Call) -> FetchResponse {
        if let Err(error_code) = check_session(request.session_id, request.session_epoch) {
            return FetchResponse { error_code, ..Default::default() };
        }
        let mut poll = Poll::new(&request, call);
        call.flight.fetch_passed(FetchStage::Parse);
        poll.run(call).await;
        call.flight.fetch_passed(FetchStage::Read);
        poll.tell(&mut call.flight.traced);
        respond(&request, poll.slots, call)
    }

    fn codes(response: &FetchResponse, codes: &mut Codes) {
        codes.add(response.error_code);
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| codes.add(partition.error_code));
    }
}

/// There are no fetch sessions (KIP-227): a client that wants one is answered in full with
/// session id 0, which tells it so. One that believes in one has to start over.
fn check_session(session_id: i32, session_epoch: i32) -> Result<(), ErrorCode> {
    if session_id != 0 && session_epoch > 0 {
        return Err(ErrorCode::FetchSessionIdNotFound);
    }
    Ok(())
}

/// One partition of the request, and what is known for its reply.
struct Slot {
    asked: Asked,
    place: Result<(GroupId, Arc<PartitionView>), ErrorCode>,
    /// As of the last look.
    state: Option<ViewState>,
    /// A guarded read said that the offset, above our high watermark, is not beyond the end.
    vouched: bool,
    /// When that read was asked for and answered, for a trace.
    guarded: Option<(u64, u64)>,
    error: ErrorCode,
    /// Where the asker's log leaves ours (KIP-595), if it does.
    diverging: Option<(i32, i64)>,
    records: Vec<Bytes>,
}

#[derive(Clone, Copy)]
struct Asked {
    offset: i64,
    leader_epoch: i32,
    /// Epoch of the record before `offset` in the asker's log; -1: not checked.
    last_fetched_epoch: i32,
    max_bytes: usize,
}

struct Poll {
    slots: Vec<Slot>,
    min_bytes: usize,
    max_bytes: usize,
    deadline: Instant,
}

impl Poll {
    fn new(request: &FetchRequest, call: &Call) -> Poll {
        let node = &call.shared.node;
        let image = node.image();
        let mut slots = Vec::new();
        for topic in &request.topics {
            let by_id = call.version >= TOPIC_IDS;
            let found = topics::find(&image, &topic.topic, topic.topic_id, by_id);
            for partition in &topic.partitions {
                let place = found.and_then(|topic| {
                    let group = topics::partition(topic, partition.partition)?.group;
                    let view = node.view(group).ok_or(ErrorCode::NotLeaderOrFollower)?;
                    Ok((group, view))
                });
                slots.push(Slot::new(partition, place));
            }
        }
        let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        let max_bytes = size(request.max_bytes).min(limits::FETCH_RESPONSE_BYTES_MAX);
        Poll {
            slots,
            // More than the reply may hold would only ever time out.
            min_bytes: size(request.min_bytes).min(max_bytes),
            max_bytes,
            deadline: Instant::now() + topics::client_timeout(request.max_wait_ms),
        }
    }

    /// Looks, and waits, until there is enough, something is wrong, or time is up.
    async fn run(&mut self, call: &mut Call) {
        loop {
            let bytes = self.look(call).await;
            let done = |slot: &Slot| slot.error.is_err() || slot.diverging.is_some();
            let failed = self.slots.iter().any(done);
            if failed || bytes >= self.min_bytes || Instant::now() >= self.deadline {
                return;
            }
            let woken = self.wait(&call.shared).await;
            call.flight.fetch_passed(FetchStage::Wait);
            if !woken {
                return;
            }
        }
    }

    /// What a trace of this request would tell beside its stages.
    fn tell(&self, traced: &mut Traced) {
        let first = self.slots.iter().find_map(|slot| slot.place.as_ref().ok());
        traced.entry.group = first.map_or(0, |(group, _)| group.0);
        traced.lease = self.slots.iter().find_map(|slot| slot.guarded);
    }

    /// One pass over all partitions; returns the bytes found.
    async fn look(&mut self, call: &mut Call) -> usize {
        let wanted = self.slots.iter_mut().filter_map(Slot::glance).sum::<usize>();
        let mut share = call.shared.responses.take(wanted.min(self.max_bytes));
        let mut taken = 0;
        for slot in &mut self.slots {
            let room = share.bytes().saturating_sub(taken);
            taken += slot.read(&call.shared.node, room, taken == 0, call.version).await;
        }
        share.shrink_to(taken);
        call.share = Some(share);
        taken
    }

    /// Waits for news of any partition. False: there will be none for this request.
    async fn wait(&self, shared: &Shared) -> bool {
        let waiter = Waiter::new();
        let views = || self.slots.iter().filter_map(|slot| Some((slot, slot.view()?)));
        views().for_each(|(_, view)| view.subscribe(&waiter));
        // What was published between the look and the subscription wakes nobody.
        let news = views().any(|(slot, view)| slot.state != Some(view.state()));
        if !news {
            let _waiting = CountWaiter::new();
            let woken = tokio::select! {
                woken = timeout_at(self.deadline, waiter.wait()) => woken.is_ok(),
                () = shared.draining() => false,
            };
            if !woken {
                return false;
            }
        }
        if self.min_bytes > 1 {
            // Small batches arrive one by one: gather some before looking again.
            let recheck = Instant::now() + Duration::from_millis(limits::FETCH_RECHECK_MS);
            sleep_until(recheck.min(self.deadline)).await;
        }
        true
    }
}

impl Slot {
    fn new(
        partition: &FetchPartition,
        place: Result<(GroupId, Arc<PartitionView>), ErrorCode>,
    ) -> Slot {
        Slot {
            asked: Asked {
                offset: partition.fetch_offset,
                leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
            },
            error: place.as_ref().err().copied().unwrap_or_default(),
            place,
            state: None,
            vouched: false,
            guarded: None,
            diverging: None,
            records: Vec::new(),
        }
    }

    fn view(&self) -> Option<&Arc<PartitionView>> {
        self.place.as_ref().ok().map(|(_, view)| view)
    }

    /// Takes the view's state; `Some`: this many bytes may be wanted from it.
    fn glance(&mut self) -> Option<usize> {
        self.state = Some(self.view()?.state());
        let readable = self.state.is_some_and(|state| self.asked.offset < state.high_watermark);
        readable.then_some(self.asked.max_bytes)
    }

    /// Reads what fits; the first batch of a reply always does. Returns the bytes taken.
    async fn read(&mut self, node: &Node, room: usize, first: bool, version: i16) -> usize {
        self.records.clear();
        let (Ok((group, view)), Some(state)) = (&self.place, self.state) else { return 0 };
        let (group, view) = (*group, Arc::clone(view));
        let judged = judge(&self.asked, &state);
        if !matches!(judged, Judged::Refused(_)) && self.asked.last_fetched_epoch >= 0 {
            match diverges(node, &view, &self.asked).await {
                Ok(None) => {}
                Ok(end) => {
                    (self.diverging, self.error) = (end, ErrorCode::None);
                    return 0;
                }
                Err(code) => {
                    self.error = code;
                    return 0;
                }
            }
        }
        self.error = match judged {
            Judged::Refused(code) => code,
            Judged::Beyond if self.vouched => ErrorCode::None,
            Judged::Beyond => self.beyond(node, group).await,
            Judged::AtEnd => ErrorCode::None,
            Judged::Readable => {
                let max_bytes = self.asked.max_bytes.min(room);
                if max_bytes == 0 && !first {
                    return 0;
                }
                match node.read(&view, self.asked.offset, max_bytes).await {
                    Ok(records) => return self.take(records, max_bytes, first, version),
                    Err(code) => code,
                }
            }
        };
        0
    }

    fn take(&mut self, records: Vec<Bytes>, max_bytes: usize, first: bool, version: i16) -> usize {
        let bytes: usize = records.iter().map(Bytes::len).sum();
        if bytes > max_bytes && !first {
            // One batch above the limit; it will be the first of another reply.
            return 0;
        }
        if version < ZSTD && records.iter().any(|batches| holds_zstd(batches)) {
            self.error = ErrorCode::UnsupportedCompressionType;
            return 0;
        }
        self.records = records;
        bytes
    }

    /// An offset above our high watermark: is it beyond the end, or are we behind?
    async fn beyond(&mut self, node: &Node, group: GroupId) -> ErrorCode {
        let within = Duration::from_millis(limits::GUARD_MS_MAX);
        let asked_ns = clock::mono_ns();
        let guarded = node.guard(group, within).await;
        self.guarded = Some((asked_ns, clock::mono_ns()));
        match guarded {
            Ok(now) if self.asked.offset > now.high_watermark => ErrorCode::OffsetOutOfRange,
            Ok(_) => {
                self.vouched = true;
                ErrorCode::None
            }
            // An old client would reset its position for the error of an old leader.
            Err(_) => ErrorCode::NotLeaderOrFollower,
        }
    }
}

/// Compares what the asker fetched last with this log (KIP-595): where its last epoch, or the
/// newest one before it, ended here, if that lies before the asker's offset. An epoch that this
/// log no longer knows is OFFSET_OUT_OF_RANGE, as in Kafka.
async fn diverges(
    node: &Node,
    view: &Arc<PartitionView>,
    asked: &Asked,
) -> Result<Option<(i32, i64)>, ErrorCode> {
    let end = node.end_offset_for_epoch(view, asked.last_fetched_epoch).await;
    let (epoch, end_offset) = end.ok_or(ErrorCode::OffsetOutOfRange)?;
    let same = epoch == asked.last_fetched_epoch && end_offset >= asked.offset;
    Ok((!same).then_some((epoch, end_offset)))
}

/// What a partition's published state says to an offset.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Readable,
    AtEnd,
    /// Above the high watermark.
    Beyond,
    Refused(ErrorCode),
}

fn judge(asked: &Asked, state: &ViewState) -> Judged {
    if !state.serving {
        return Judged::Refused(ErrorCode::NotLeaderOrFollower);
    }
    if let Err(code) = topics::fence(asked.leader_epoch, state.epoch) {
        return Judged::Refused(code);
    }
    // Committed state: this needs no lease.
    if asked.offset < state.log_start {
        return Judged::Refused(ErrorCode::OffsetOutOfRange);
    }
    match asked.offset.cmp(&state.high_watermark) {
        std::cmp::Ordering::Less => Judged::Readable,
        std::cmp::Ordering::Equal => Judged::AtEnd,
        std::cmp::Ordering::Greater => Judged::Beyond,
    }
}

/// True when one of these batches is compressed with zstd.
fn holds_zstd(mut batches: &[u8]) -> bool {
    while let Ok(header) = BatchHeader::parse(batches) {
        if header.compression() == Some(Compression::Zstd) {
            return true;
        }
        batches = batches.get(header.total_len()..).unwrap_or_default();
    }
    false
}

fn respond(request: &FetchRequest, slots: Vec<Slot>, call: &Call) -> FetchResponse {
    let node = &call.shared.node;
    let image = node.image();
    let mut slots = slots.into_iter();
    let mut response = FetchResponse::default();
    let committed_only = request.isolation_level == READ_COMMITTED;
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let slot = slots.next().expect("a slot per partition");
            let leader = redirect(&slot, &image, call, &mut response.node_endpoints);
            if slot.error.is_err() {
                node.count_failed(slot.place.as_ref().ok().map(|(group, _)| *group));
            }
            let view = slot.view().cloned();
            let mut data = describe(slot, partition.partition, committed_only);
            if let (Some(view), Some(records)) = (view, &data.records) {
                view.traffic().gave(records.len() as u64);
            }
            data.current_leader = leader.unwrap_or_default();
            partitions.push(data);
        }
        response.responses.push(FetchableTopicResponse {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions,
        });
    }
    response
}

fn describe(slot: Slot, partition_index: i32, committed_only: bool) -> PartitionData {
    let failed = slot.error.is_err();
    let state = slot.state.filter(|_| !failed);
    let high_watermark = state.map_or(-1, |state| state.high_watermark);
    let diverging = slot.diverging.unwrap_or((-1, -1));
    let records = if failed { Bytes::new() } else { join(slot.records) };
    metrics().bytes_out_total.add(records.len() as u64);
    PartitionData {
        partition_index,
        error_code: slot.error,
        high_watermark,
        // No transactions: what is committed is stable.
        last_stable_offset: high_watermark,
        log_start_offset: state.map_or(-1, |state| state.log_start),
        aborted_transactions: committed_only.then(Vec::new),
        diverging_epoch: EpochEndOffset { epoch: diverging.0, end_offset: diverging.1 },
        records: Some(records),
        ..Default::default()
    }
}

/// One buffer, as the codec wants it. A single batch, and a read from a segment, is one already.
fn join(mut records: Vec<Bytes>) -> Bytes {
    if records.len() <= 1 {
        return records.pop().unwrap_or_default();
    }
    let mut joined = BytesMut::with_capacity(records.iter().map(Bytes::len).sum());
    records.iter().for_each(|batch| joined.extend_from_slice(batch));
    joined.freeze()
}

/// KIP-951: the new leader, and where it listens.
fn redirect(
    slot: &Slot,
    image: &Image,
    call: &Call,
    endpoints: &mut Vec<NodeEndpoint>,
) -> Option<LeaderIdAndEpoch> {
    if !matches!(slot.error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch) {
        return None;
    }
    let (group, _) = slot.place.as_ref().ok()?;
    let leader = topics::elsewhere(&call.shared.node, *group)?;
    let at = topics::endpoint(image, leader.broker, &call.listener)?;
    if endpoints.iter().all(|known| known.node_id != leader.broker.0) {
        endpoints.push(NodeEndpoint {
            node_id: leader.broker.0,
            host: at.host.clone(),
            port: i32::from(at.port),
            rack: image.broker(leader.broker).and_then(|broker| broker.rack.clone()),
        });
    }
    Some(LeaderIdAndEpoch { leader_id: leader.broker.0, leader_epoch: leader.epoch })
}

/// One long poll in the gauge.
struct CountWaiter;

impl CountWaiter {
    fn new() -> CountWaiter {
        metrics().fetch_waiters.inc();
        CountWaiter
    }
}

impl Drop for CountWaiter {
    fn drop(&mut self) {
        metrics().fetch_waiters.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::records::BatchBuilder;

    fn asked(offset: i64, leader_epoch: i32) -> Asked {
        Asked { offset, leader_epoch, last_fetched_epoch: -1, max_bytes: 1_000 }
    }

    const STATE: ViewState =
        ViewState { serving: true, epoch: 4, high_watermark: 100, log_start: 10 };

    #[test]
    fn offsets_are_judged_by_what_is_published() {
        let judged = |offset| judge(&asked(offset, -1), &STATE);
        assert_eq!(judged(9), Judged::Refused(ErrorCode::OffsetOutOfRange));
        assert_eq!(judged(10), Judged::Readable);
        assert_eq!(judged(99), Judged::Readable);
        assert_eq!(judged(100), Judged::AtEnd);
        // Never OFFSET_OUT_OF_RANGE by itself: this leader may be an old one.
        assert_eq!(judged(101), Judged::Beyond);
    }

    #[test]
    fn epochs_are_fenced_and_leadership_comes_first() {
        let judged = |epoch| judge(&asked(50, epoch), &STATE);
        assert_eq!(judged(4), Judged::Readable);
        assert_eq!(judged(3), Judged::Refused(ErrorCode::FencedLeaderEpoch));
        assert_eq!(judged(5), Judged::Refused(ErrorCode::UnknownLeaderEpoch));
        let gone = ViewState { serving: false, ..STATE };
        let refused = Judged::Refused(ErrorCode::NotLeaderOrFollower);
        assert_eq!(judge(&asked(5, 3), &gone), refused);
    }

    #[test]
    fn sessions_are_declined_and_unknown_ones_refused() {
        assert_eq!(check_session(0, -1), Ok(()));
        assert_eq!(check_session(0, 0), Ok(()), "a client that wants one gets id 0");
        assert_eq!(check_session(7, 1), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(check_session(7, -1), Ok(()), "closing what does not exist is fine");
    }

    fn slot() -> Slot {
        Slot::new(&FetchPartition::default(), Err(ErrorCode::None))
    }

    #[test]
    fn only_the_first_batch_may_exceed_its_limit() {
        let batch = || vec![Bytes::from(vec![0; 500])];
        assert_eq!(slot().take(batch(), 100, true, 12), 500);
        assert_eq!(slot().take(batch(), 100, false, 12), 0);
        assert_eq!(slot().take(batch(), 500, false, 12), 500);
    }

    #[test]
    fn zstd_is_refused_to_clients_that_cannot_know_it() {
        let plain = BatchBuilder::new(0).value(b"v").build();
        let mut zstd = plain.to_vec();
        zstd[22] |= Compression::Zstd as u8;
        assert!(!holds_zstd(&plain));
        assert!(holds_zstd(&zstd) && holds_zstd(&[&plain[..], &zstd[..]].concat()));
        let mut old = slot();
        assert_eq!(old.take(vec![zstd.clone().into()], 1_000, true, 9), 0);
        assert_eq!(old.error, ErrorCode::UnsupportedCompressionType);
        assert_eq!(slot().take(vec![zstd.clone().into()], 1_000, true, 10), zstd.len());
    }

    #[test]
    fn joined_batches_are_back_to_back() {
        assert_eq!(join(Vec::new()), Bytes::new());
        let parts = vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
        assert_eq!(join(parts), Bytes::from_static(b"abc"));
    }
}
