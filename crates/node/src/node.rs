//! One running broker as its listener and its operator see it.
//!
//! Invariants: a read never asks a shard; a request that meets an election is retried or
//! forwarded here until its deadline; a time-out means "unknown", never "failed".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use machine::BatchRules;
use machine::config::TopicDefaults;
use machine::metadata::{Image, Request, Response};
use model::{BrokerId, ClusterId, ErrorCode, GroupId, ProducerId, ReplicaId};
use telemetry::Lock;
use telemetry::clock;
use telemetry::flight::Setup;
use telemetry::labels::{FatalReason, LockClass, LogEvent, ReadSource};
use telemetry::{log_limited, metrics};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::boot::{self, Threads};
use crate::budget::{Budget, Charge};
use crate::datadir::{DataDir, LastShutdown};
use crate::ending::Crash;
use crate::host::{HostStop, Hosted};
use crate::inbound::Receiver;
use crate::leadership::Leadership;
use crate::mailbox::{ShardHandle, Shards};
use crate::peer::{Identity, PeerConfig, Peers};
use crate::peer_news::PeerNews;
use crate::plumbing::Plumbing;
use crate::postmortem::is_written_by_brokers;
use crate::question::{self, Question, SnapshotFailed};
use crate::settings::{NodeConfig, StartError};
use crate::shard::{
    AdminAnswer, AdminAsk, Answer, Guarded, Input, ProduceInput, Produced, Refusal,
};
use crate::status::{ElectionsPage, UnderWay};
use crate::tasks;
use crate::view::{Found, PartitionView};

/// How long one attempt at the metadata leader may take before another is tried.
const ATTEMPT: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(40);
/// News that wait for the gossip task.
const NEWS_MAX: usize = 16_384;
const HELLOS_MAX: usize = 256;

/// A running broker; see the module.
pub struct Node {
    pub(crate) cfg: NodeConfig,
    pub(crate) defaults: TopicDefaults,
    pub(crate) plumbing: Arc<Plumbing>,
    pub(crate) identity: Identity,
    /// Released, and with it the directory's lock, by the shutdown.
    pub(crate) data_dir: Lock<Option<DataDir>>,
    pub(crate) threads: Lock<Option<Threads>>,
    pub(crate) waiting_for: Lock<Vec<String>>,
    pub(crate) registered: OnceLock<()>,
    /// Registered, and every partition was led or given up on.
    pub(crate) ready: OnceLock<()>,
    budget: Budget,
    /// Compressed batches that may be opened now.
    pub(crate) openers: Arc<Semaphore>,
    /// (next, end) of the producer ids this broker may hand out.
    producer_ids: Lock<(i64, i64)>,
    /// Ends the tasks when it is dropped.
    pub(crate) host: Lock<Option<HostStop>>,
    /// It handed its leaderships over because of its disk, and not because anybody asked.
    pub(crate) stepped_aside: AtomicBool,
    /// Every group that a hole in the journal may have hidden was kept out, or there was none.
    pub(crate) hole_settled: AtomicBool,
    last_crash: Option<Crash>,
}

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
    /// Post-mortems of elections, newest last, and the elections under way.
    pub fn elections(&self) -> ElectionsPage {
        let views = self.plumbing.views();
        let under_way = views.iter().filter_map(|view| {
            let status = view.status();
            let attempt = status.attempt?;
            Some(UnderWay { group: view.group().0, name: status.name, term: status.term, attempt })
        });
        ElectionsPage {
            broker: self.cfg.broker.0,
            under_way: under_way.collect(),
            elections: self.plumbing.postmortems.after(0).0,
        }
    }

    /// Opens the data directory, recovers, starts threads and the peer listener, and returns;
    /// formation and elections go on by themselves.
    pub fn start(cfg: NodeConfig) -> Result<Arc<Node>, StartError> {
        let defaults = TopicDefaults::new(&cfg.defaults)?;
        let fresh = model::DirectoryId(rand::random());
        let data_dir = DataDir::open(&cfg.data_dir, cfg.broker, fresh)?;
        let directory = data_dir.directory();
        if let Some(connection_threads) = cfg.recorded_threads {
            let (data_dir, broker) = (data_dir.path(), cfg.broker.0);
            telemetry::flight::start(&Setup { data_dir, broker, connection_threads });
        }
        let last_crash = last_crash(&data_dir);
        let manifest = data_dir.read_manifest()?;
        let begun = clock::mono_ns();
        let (last, born) = (data_dir.last_shutdown(), data_dir.birth().is_some());
        let hole = data_dir.has_hole();
        let loaded = boot::load(&cfg, &defaults, directory, last, manifest.as_ref(), born, hole)?;
        if loaded.hides_groups && !hole {
            data_dir.mark_hole()?;
        }
        metrics().recovery_seconds.set((clock::mono_ns() - begun) as i64);
        metrics().journal_limit_bytes.set(cfg.journal_bytes_max as i64);
        data_dir.mark_running()?;
        // Not before: a start that dies in between compares again, with what still holds.
        data_dir.remove_manifest()?;
        let birth = data_dir.birth().cloned();
        let offered = birth.as_ref().map(|birth| (birth.cluster, Bytes::from(birth.encode())));
        let incarnation = model::Incarnation(rand::random());
        let identity = Identity::new(cfg.broker, directory, incarnation, offered)
            .with_admin(cfg.admin.clone());
        let (hosted, host) = Hosted::new().map_err(StartError::Thread)?;
        let runtime = hosted.handle();
        let (handles, inboxes) = (0..cfg.shards.max(1)).map(|_| ShardHandle::new()).unzip();
        let (news, news_inbox) = mpsc::channel(NEWS_MAX);
        let plumbing = Arc::new(Plumbing::new(
            &cfg,
            Shards::new(handles),
            storage::RealReader::new(&cfg.data_dir),
            runtime.clone(),
            loaded.image.clone(),
            news,
        ));
        for (group, log) in &loaded.logs {
            plumbing.set_segments(*group, log.view());
            plumbing.transfers.set_home(*group, log.home());
        }
        plumbing.set_unopened(loaded.broken.clone());
        // A group that cannot be put together is known all the same: it made promises, and
        // must not be formed anew.
        let restored = loaded.restored.iter().map(|g| (g.spec.group, Some(g.spec.replica)));
        let broken_ones = loaded.broken.iter().map(|(group, found)| (*group, found.replica));
        let known: Vec<_> = restored.chain(broken_ones).collect();
        let found = tasks::Found {
            known,
            removed: loaded.removed.clone(),
            hides_groups: loaded.hides_groups,
        };
        let threads = boot::start_threads(&cfg, directory, loaded, inboxes, &plumbing, hosted)?;
        let (hellos, hello_inbox) = mpsc::channel(HELLOS_MAX);
        let budget = Budget::new(cfg.memory_budget_bytes);
        let node = Arc::new(Node {
            defaults,
            plumbing,
            identity,
            data_dir: Lock::new(LockClass::Lifecycle, Some(data_dir)),
            threads: Lock::new(LockClass::Lifecycle, Some(threads)),
            waiting_for: Lock::new(LockClass::Debug, Vec::new()),
            registered: OnceLock::new(),
            ready: OnceLock::new(),
            budget,
            openers: Arc::new(Semaphore::new(model::limits::OPENED_AT_ONCE_MAX)),
            producer_ids: Lock::new(LockClass::ProducerIds, (0, 0)),
            host: Lock::new(LockClass::Lifecycle, Some(host)),
            stepped_aside: AtomicBool::new(false),
            hole_settled: AtomicBool::new(false),
            last_crash,
            cfg,
        });
        let peers = runtime.block_on(node.start_peers(hellos))?;
        node.plumbing.set_peers(peers);
        tasks::spawn_all(&node, &runtime, birth, hello_inbox, news_inbox, found);
        Ok(node)
    }

    async fn start_peers(
        self: &Arc<Self>,
        hellos: mpsc::Sender<crate::peer::PeerHello>,
    ) -> Result<Peers, StartError> {
        let peers = self.cfg.peers.iter().map(|peer| (peer.id, peer.address.clone())).collect();
        let config = PeerConfig {
            listen: self.cfg.peer_listen.clone(),
            peers,
            identity: self.identity.clone(),
        };
        let (plumbing, node) = (self.plumbing.clone(), Arc::downgrade(self));
        let news = PeerNews::new(plumbing.runtime.clone(), &plumbing.shards);
        let inbound = Arc::new(Receiver { plumbing, hellos, news, node });
        Ok(Peers::start(config, inbound).await?)
    }

    /// How the life before this one ended, if not in order.
    pub fn last_crash(&self) -> Option<&Crash> {
        self.last_crash.as_ref()
    }

    pub fn broker_id(&self) -> BrokerId {
        self.cfg.broker
    }

    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.identity.cluster()
    }

    /// Applied metadata; any broker answers from it.
    pub fn image(&self) -> Arc<Image> {
        #[cfg(feature = "planted")]
        crate::planted::metadata_query();
        self.plumbing.image.borrow().clone()
    }

    /// The Kafka-ready leader; `None` while nobody serves.
    pub fn leader(&self, group: GroupId) -> Option<Leadership> {
        self.plumbing.leaderships.of(group).filter(|leader| self.is_alive(leader.broker))
    }

    /// This broker, or one we are connected to.
    pub fn is_alive(&self, broker: BrokerId) -> bool {
        let connected = || self.plumbing.peers().is_some_and(|peers| peers.is_connected(broker));
        broker == self.cfg.broker || connected()
    }

    /// `None`: no replica here.
    pub fn view(&self, group: GroupId) -> Option<Arc<PartitionView>> {
        self.plumbing.view(group)
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What topics without configs of their own get from this broker, now.
    pub fn topic_defaults(&self) -> TopicDefaults {
        self.topic_defaults_in(&self.image())
    }

    pub(crate) fn topic_defaults_in(&self, image: &Image) -> TopicDefaults {
        let own = image.broker_configs(Some(self.cfg.broker));
        self.defaults.under(image.broker_configs(None), own)
    }

    /// Where the data directory is.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.cfg.data_dir
    }

    /// (total, usable) bytes of the volume below the data directory.
    pub fn volume_bytes(&self) -> Option<(u64, u64)> {
        tasks::volume_bytes(&self.cfg.data_dir)
    }

    /// Kafka's broker configs this broker was given.
    pub fn broker_configs(&self) -> &BTreeMap<String, String> {
        &self.cfg.defaults
    }

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

/// What is known of a life that did not end in order; becomes a metric and a line of the log.
fn last_crash(data_dir: &DataDir) -> Option<Crash> {
    let noted = data_dir.take_crash();
    let LastShutdown::Unclean { boot_id_changed } = data_dir.last_shutdown() else { return None };
    let crash = noted.unwrap_or_else(|| Crash {
        reason: FatalReason::Killed.as_str().to_owned(),
        why: if boot_id_changed { "the machine died" } else { "it was killed" }.to_owned(),
        at_ms: telemetry::flight::last_life_ms().unwrap_or(0),
    });
    let reason = FatalReason::ALL.iter().find(|reason| reason.as_str() == crash.reason);
    metrics().last_crash_info.at(reason.copied().unwrap_or(FatalReason::Killed)).set(1);
    let Crash { reason, why, at_ms } = &crash;
    log_limited!(
        warn,
        LogEvent::LastCrash,
        reason,
        why,
        at_ms,
        "the last life did not end in order"
    );
    Some(crash)
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
