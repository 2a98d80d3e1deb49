//! What a listener, an operator and other brokers ask of this broker.
//!
//! Invariants: a read never asks a shard; a request that meets an election is retried or
//! forwarded here until its deadline; a time-out means "unknown", never "failed".

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use machine::BatchRules;
use machine::metadata::{Image, Request, Response};
use model::{BrokerId, ErrorCode, GroupId, ProducerId, ReplicaId};
use telemetry::clock;
use telemetry::labels::{LogEvent, ReadSource};
use telemetry::{log_limited, metrics};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::budget::Charge;
use crate::node::Node;
use crate::postmortem::is_written_by_brokers;
use crate::question::{self, Question, SnapshotFailed};
use crate::shard::{
    AdminAnswer, AdminAsk, Answer, Guarded, Input, ProduceInput, Produced, Refusal,
};
use crate::view::{Found, PartitionView};

/// How long one attempt at the metadata leader may take before another is tried.
const ATTEMPT: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(40);

/// A batch on its way: in line, not answered yet.
pub struct Ask {
    answer: Result<oneshot::Receiver<Answer>, Refusal>,
    deadline: Instant,
}

impl Ask {
    /// Waits until the batch is as safe as its `acks` demand. `RequestTimedOut`: unknown.
    pub async fn answer(self) -> Result<Produced, Refusal> {
        match wait(self.answer?, self.deadline).await? {
            Answer::Produced(produced) => Ok(produced),
            other => Err(unexpected(&other)),
        }
    }
}

impl Node {
    /// Puts a validated batch in line behind earlier ones; waits only while the shard's queue
    /// is full. Call it in request order.
    pub async fn produce(
        &self,
        group: GroupId,
        batch: Bytes,
        charge: Option<Charge>,
        acks: i16,
        deadline: Duration,
    ) -> Ask {
        let (reply, answer) = oneshot::channel();
        let now = clock::boot_ns();
        let request = ProduceInput {
            batch,
            charge,
            acks,
            reply: (acks != 0).then_some(reply),
            arrived_ns: now,
            deadline_ns: now + deadline.as_nanos() as u64,
        };
        let sent = self.plumbing.shards.of(group).ask(Input::Produce { group, request }).await;
        let answer = if sent { Ok(answer) } else { Err(shutting_down()) };
        Ask { answer, deadline: Instant::now() + deadline }
    }

    /// The partition's state, not older than this call (lease or ReadIndex).
    pub async fn guard(&self, group: GroupId, deadline: Duration) -> Result<Guarded, Refusal> {
        let (reply, answer) = oneshot::channel();
        let deadline_ns = clock::boot_ns() + deadline.as_nanos() as u64;
        let ask = Input::Guard { group, deadline_ns, reply };
        if !self.plumbing.shards.of(group).ask(ask).await {
            return Err(shutting_down());
        }
        match wait(answer, Instant::now() + deadline).await? {
            Answer::Guarded(guarded) => Ok(guarded),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the coordinator of consumer groups on this broker. `NotCoordinator`: it is elsewhere.
    pub async fn coordinate(
        &self,
        group: GroupId,
        request: machine::groups::Request,
        deadline: Duration,
    ) -> Result<machine::groups::Response, Refusal> {
        let (reply, answer) = oneshot::channel();
        let (request, image) = (Box::new(request), self.image());
        let ask = Input::Coordinate { group, request, image, reply };
        if !self.plumbing.shards.of(group).ask(ask).await {
            return Err(shutting_down());
        }
        match wait(answer, Instant::now() + deadline).await? {
            Answer::Group(response) => Ok(*response),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the metadata leader, wherever it is and whoever it becomes, until the deadline.
    /// What it changed is visible in [`Node::image`] when this returns `Ok`, if the deadline
    /// allows.
    pub async fn metadata(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Response, Refusal> {
        let ends = Instant::now() + deadline;
        let mut last = Refusal {
            code: ErrorCode::RequestTimedOut,
            why: "no metadata leader was found in time; the outcome is unknown".into(),
        };
        while Instant::now() < ends {
            match self.metadata_once(&request, ends).await {
                Ok(response) => {
                    self.see(&response, ends).await;
                    return Ok(response);
                }
                Err(refusal) => match refusal.code {
                    ErrorCode::NotController | ErrorCode::NotLeaderOrFollower => last = refusal,
                    ErrorCode::RequestTimedOut => last = refusal,
                    _ => return Err(refusal),
                },
            }
            tokio::time::sleep(RETRY).await;
        }
        Err(Refusal { code: ErrorCode::RequestTimedOut, ..last })
    }

    async fn metadata_once(&self, request: &Request, ends: Instant) -> Result<Response, Refusal> {
        let Some(leader) = self.leader(GroupId::METADATA) else {
            return self.metadata_anywhere(request, ends).await;
        };
        if leader.broker == self.cfg.broker {
            return match self.metadata_here(request.clone()).await {
                Answer::Metadata(response) => Ok(response),
                Answer::Refused(refusal) => Err(refusal),
                other => Err(unexpected(&other)),
            };
        }
        let left = ends.saturating_duration_since(Instant::now()).min(ATTEMPT);
        self.metadata_at(leader.broker, request, left).await
    }

    /// Nobody told this broker who leads the metadata: peers gossip to whom they know, and one
    /// that is not registered yet is known to nobody. Whoever leads answers.
    async fn metadata_anywhere(
        &self,
        request: &Request,
        ends: Instant,
    ) -> Result<Response, Refusal> {
        let why = "the metadata group has no leader yet".to_owned();
        let mut last = Refusal { code: ErrorCode::NotController, why };
        let Some(peers) = self.plumbing.peers() else { return Err(last) };
        for peer in peers.connected() {
            let left = ends.saturating_duration_since(Instant::now()).min(ATTEMPT);
            match self.metadata_at(peer, request, left).await {
                // Unknown: it may have led, and taken it.
                Err(refusal)
                    if matches!(
                        refusal.code,
                        ErrorCode::NotController | ErrorCode::RequestTimedOut
                    ) =>
                {
                    last = refusal;
                }
                answer => return answer,
            }
        }
        Err(last)
    }

    async fn metadata_at(
        &self,
        broker: BrokerId,
        request: &Request,
        within: Duration,
    ) -> Result<Response, Refusal> {
        match self.ask_peer(broker, &Question::Metadata(request.clone()), within).await? {
            Answer::Metadata(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    /// One question to one broker. A time-out is "unknown".
    pub(crate) async fn ask_peer(
        &self,
        broker: BrokerId,
        question: &Question,
        within: Duration,
    ) -> Result<Answer, Refusal> {
        let unknown = |why: String| Refusal { code: ErrorCode::RequestTimedOut, why };
        let peers = self.plumbing.peers().ok_or_else(|| unknown("starting".into()))?;
        match peers.call(broker, question::encode(question), within).await {
            Ok(body) => match question::decode_answer(&body) {
                Answer::Refused(refusal) => Err(refusal),
                answer => Ok(answer),
            },
            Err(error) => Err(unknown(error.to_string())),
        }
    }

    /// Asks the leader of a group, wherever it is and whoever it becomes, until the deadline.
    /// Only for questions that may be asked twice.
    pub async fn admin(
        &self,
        group: GroupId,
        ask: AdminAsk,
        within: Duration,
    ) -> Result<AdminAnswer, Refusal> {
        let ends = Instant::now() + within;
        loop {
            let left = ends.saturating_duration_since(Instant::now());
            let refusal = match self.admin_once(group, ask, left).await {
                Ok(Answer::Admin(answer)) => return Ok(answer),
                Ok(other) => return Err(unexpected(&other)),
                Err(refusal) => refusal,
            };
            let again = matches!(
                refusal.code,
                ErrorCode::NotLeaderOrFollower
                    | ErrorCode::LeaderNotAvailable
                    | ErrorCode::NotController
                    | ErrorCode::RequestTimedOut
            );
            if !again || Instant::now() + RETRY >= ends {
                return Err(refusal);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn admin_once(
        &self,
        group: GroupId,
        ask: AdminAsk,
        left: Duration,
    ) -> Result<Answer, Refusal> {
        let Some(leader) = self.leader(group) else {
            let why = "nobody leads it now".into();
            return Err(Refusal { code: ErrorCode::LeaderNotAvailable, why });
        };
        let within = left.min(ATTEMPT);
        if leader.broker == self.cfg.broker {
            return match self.admin_here(group, ask, within).await {
                Answer::Refused(refusal) => Err(refusal),
                answer => Ok(answer),
            };
        }
        let within_ms = within.as_millis() as u64;
        let question = Question::Admin { group: group.0, ask, within_ms };
        self.ask_peer(leader.broker, &question, within).await
    }

    /// Appends a batch of records to a topic that brokers write themselves, wherever its leader
    /// is. A time-out is "unknown".
    pub(crate) async fn append(
        &self,
        group: GroupId,
        batch: Bytes,
        within: Duration,
    ) -> Result<(), Refusal> {
        let Some(leader) = self.leader(group) else {
            let why = "nobody leads it now".into();
            return Err(Refusal { code: ErrorCode::LeaderNotAvailable, why });
        };
        if leader.broker == self.cfg.broker {
            return self.append_here(group, batch, within).await;
        }
        let within_ms = within.as_millis() as u32;
        let question = Question::Append { group: group.0, within_ms, batch };
        match self.ask_peer(leader.broker, &question, within).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The same on the leader. The batch may be a peer's: it is checked like a client's.
    pub(crate) async fn append_here(
        &self,
        group: GroupId,
        batch: Bytes,
        within: Duration,
    ) -> Result<(), Refusal> {
        let image = self.image();
        let own =
            image.partition_of(group).is_some_and(|(topic, _)| is_written_by_brokers(&topic.name));
        if !own {
            let why = format!("group {group} is no topic that brokers write");
            return Err(Refusal { code: ErrorCode::InvalidTopicException, why });
        }
        let rules = BatchRules { zstd_allowed: true, transactions_allowed: false };
        if let Err(error) = machine::validate(&batch, &rules) {
            return Err(Refusal { code: error.code(), why: error.to_string() });
        }
        self.produce(group, batch, None, -1, within).await.answer().await.map(drop)
    }

    /// Asks the replica of this broker; only a leader answers.
    pub async fn admin_here(&self, group: GroupId, ask: AdminAsk, within: Duration) -> Answer {
        let (reply, answer) = oneshot::channel();
        let deadline_ns = clock::boot_ns() + within.as_nanos() as u64;
        let ask = Input::Admin { group, ask, deadline_ns, reply };
        if !self.plumbing.shards.of(group).ask(ask).await {
            return Answer::Refused(shutting_down());
        }
        // The shard says why it gave up; the margin lets it.
        let ends = Instant::now() + within + RETRY;
        wait(answer, ends).await.unwrap_or_else(Answer::Refused)
    }

    /// Asks the metadata replica of this broker.
    pub(crate) async fn metadata_here(&self, request: Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        let ask = Input::Metadata { request, reply };
        if !self.plumbing.shards.of(GroupId::METADATA).ask(ask).await {
            return Answer::Refused(shutting_down());
        }
        wait(answer, Instant::now() + ATTEMPT).await.unwrap_or_else(Answer::Refused)
    }

    /// A peer's replica could not be filled: its leader hears of it, if it is still here.
    pub(crate) async fn snapshot_failed(&self, from: BrokerId, failed: SnapshotFailed) -> Answer {
        let SnapshotFailed { group, replica, index, why } = failed;
        log_limited!(
            warn, LogEvent::Snapshot, group, peer = from.0, replica, index, %why,
            "a follower could not be filled by a snapshot"
        );
        let (group, peer) = (GroupId(group), ReplicaId(replica));
        let told = Input::SnapshotFailed { group, peer, from };
        match self.plumbing.shards.of(group).tell(told).await {
            true => Answer::Done,
            false => Answer::Refused(shutting_down()),
        }
    }

    /// Waits until this broker's own image has what the leader has committed.
    async fn see(&self, response: &Response, ends: Instant) {
        let mut image = self.plumbing.image.subscribe();
        let seen = |image: &Arc<Image>| match response {
            // Nothing was changed, only checked.
            Response::TopicCreated { id, .. } | Response::PartitionsAdded { id, .. }
                if id.is_zero() =>
            {
                true
            }
            Response::TopicCreated { id, .. } => image.topic_by_id(*id).is_some(),
            Response::ConfigsAltered { version } => image.version() >= *version,
            Response::TopicDeleted { id, .. } => image.topic_by_id(*id).is_none(),
            Response::PartitionsAdded { id, total } => {
                image.topic_by_id(*id).is_none_or(|topic| topic.partitions.len() >= *total as usize)
            }
            _ => true,
        };
        // Without it the client's next request may meet an older image; it retries.
        let bound = ends.min(Instant::now() + ATTEMPT);
        let _ = tokio::time::timeout_at(bound, image.wait_for(seen)).await;
    }

    /// A producer id nobody else has or had.
    pub async fn producer_id(&self, deadline: Duration) -> Result<ProducerId, Refusal> {
        if let Some(id) = self.next_producer_id() {
            return Ok(id);
        }
        let request = Request::AllocateProducerIds { broker: self.cfg.broker };
        match self.metadata(request, deadline).await? {
            Response::ProducerIds { first, count } => {
                let mut ids = self.producer_ids.lock();
                *ids = (first + 1, first + count);
                Ok(ProducerId(first))
            }
            other => {
                let (code, why) = other.rejection().unwrap_or((ErrorCode::UnknownServerError, ""));
                Err(Refusal { code, why: why.into() })
            }
        }
    }

    fn next_producer_id(&self) -> Option<ProducerId> {
        let mut ids = self.producer_ids.lock();
        let (next, end) = *ids;
        (next < end).then(|| {
            ids.0 = next + 1;
            ProducerId(next)
        })
    }

    /// Whole batches from the one that holds `offset`, below the high watermark: the first one
    /// however large, then as many as fit `max_bytes`. Empty when there is nothing yet.
    pub async fn read(
        &self,
        view: &Arc<PartitionView>,
        offset: i64,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ErrorCode> {
        let list = match view.find(offset, max_bytes) {
            Found::Cached(batches) => {
                count_read(ReadSource::TailCache, &batches);
                return Ok(batches);
            }
            Found::Nothing => return Ok(Vec::new()),
            Found::Segments(list) => list,
        };
        let high_watermark = view.state().high_watermark;
        let reader = self.plumbing.reader.clone();
        let read = move || list.read(&reader, offset, max_bytes, high_watermark);
        let batches = off_thread(read).await?;
        count_read(ReadSource::Segment, &batches);
        Ok(batches)
    }

    /// OffsetForLeaderEpoch (KIP-101): the newest epoch at or below `epoch` and its end.
    pub async fn end_offset_for_epoch(
        &self,
        view: &Arc<PartitionView>,
        epoch: i32,
    ) -> Option<(i32, i64)> {
        let state = view.state();
        let mut best = view.segments().and_then(|list| list.end_offset_for_epoch(epoch));
        // Batches that are committed but not in segments yet extend what segments say.
        let written = view.segments().map_or(0, |list| list.next_offset());
        for batch in view.cached_from(written) {
            let of_batch = machine::leader_epoch_of(&batch);
            if of_batch <= epoch {
                best = Some((of_batch, machine::end_offset_of(&batch)));
            }
        }
        if epoch >= state.epoch {
            return Some((state.epoch, state.high_watermark));
        }
        best
    }
}

fn count_read(source: ReadSource, batches: &[Bytes]) {
    let bytes: usize = batches.iter().map(Bytes::len).sum();
    metrics().fetch_reads_total.at(source).inc();
    metrics().fetch_read_bytes_total.at(source).add(bytes as u64);
}

pub(crate) async fn off_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, storage::StorageError> + Send + 'static,
) -> Result<T, ErrorCode> {
    match telemetry::task::spawn_blocking("read segment", read).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(storage::StorageError::BelowStart { .. })) => Err(ErrorCode::OffsetOutOfRange),
        Ok(Err(error)) => {
            let event = telemetry::labels::LogEvent::DiskFailed;
            telemetry::log_limited!(error, event, %error, "reading a segment failed");
            Err(ErrorCode::KafkaStorageError)
        }
        Err(_) => Err(ErrorCode::UnknownServerError),
    }
}

async fn wait(answer: oneshot::Receiver<Answer>, deadline: Instant) -> Result<Answer, Refusal> {
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(Ok(Answer::Refused(refusal))) => Err(refusal),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(shutting_down()),
        Err(_) => Err(Refusal {
            code: ErrorCode::RequestTimedOut,
            why: "no answer within the deadline; the outcome is unknown".into(),
        }),
    }
}

fn shutting_down() -> Refusal {
    Refusal { code: ErrorCode::NotLeaderOrFollower, why: "the broker is shutting down".into() }
}

fn unexpected(answer: &Answer) -> Refusal {
    Refusal {
        code: ErrorCode::UnknownServerError,
        why: format!("an answer to nothing: {answer:?}"),
    }
}
