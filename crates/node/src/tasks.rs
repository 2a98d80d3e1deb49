//! What goes on beside requests: formation, registration, reconciling groups with metadata,
//! gossip, and a look at the disk's free space. All of it is level-triggered: nothing is lost
//! when a step fails, it is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use machine::config::TopicConfig;
use machine::metadata::{self, BrokerRegistration, Image, Placing, Replica, Request, Response};
use model::{BrokerId, ClusterId, DirectoryId, GroupId, ReplicaId, limits};
use telemetry::labels::{BudgetPool, BufferStage, FatalReason, Lane, LogEvent, PanicRoom};
use telemetry::{log_limited, metrics, panics, task};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::boot;
use crate::formation::{Birth, BirthMember, Formation, FormationInput, FormationOutput, Founder};
use crate::heal;
use crate::leadership::{self, News};
use crate::node::Node;
use crate::peer::PeerHello;
use crate::plumbing::Unopened;
use crate::postmortem;
use crate::shard::{Departed, GroupKind, GroupSpec, Input, Placement, ReplicaRef};
use crate::status::NAMED_UNLED_MAX;
use crate::tenants;

const REGISTER_RETRY: Duration = Duration::from_millis(200);
const LED_LOOK: Duration = Duration::from_millis(20);
const LED_WAIT_MAX: Duration = Duration::from_secs(10);
/// One attempt to change a placement.
const PLACE_MAX: Duration = Duration::from_secs(5);
const SPACE_EVERY: Duration = Duration::from_millis(500);
/// News gathered before they leave together.
const GOSSIP_BATCH: usize = 512;
/// Leaderships are told again this often, in case gossip was lost.
const GOSSIP_AGAIN: Duration = Duration::from_secs(5);

/// What a start found on its disk.
pub(crate) struct Found {
    /// Groups, with the replica where that is known.
    pub known: Vec<(GroupId, Option<ReplicaId>)>,
    /// Groups on their way out.
    pub removed: BTreeSet<GroupId>,
    /// Records are lost that may have been all there was of a group.
    pub hides_groups: bool,
}

pub(crate) fn spawn_all(
    node: &Arc<Node>,
    runtime: &Handle,
    birth: Option<Birth>,
    hellos: mpsc::Receiver<PeerHello>,
    news: mpsc::Receiver<News>,
    found: Found,
) {
    essential(node, runtime, "formation", form(node.clone(), birth, hellos));
    essential(node, runtime, "reconcile", reconcile(node.clone(), found));
    essential(node, runtime, "departed", tell_departed(node.clone()));
    essential(node, runtime, "heal", heal::heal(node.clone()));
    essential(node, runtime, "gossip", gossip(node.clone(), news));
    essential(node, runtime, "disk space", watch_space(node.clone()));
    task::spawn_on(runtime, "tenants", tenants::watch(node.clone()));
    if node.cfg.postmortem_topics {
        task::spawn_on(runtime, "postmortems", postmortem::publish(node.clone()));
    }
}

/// A task this broker cannot live without: a panic ends the broker, instead of leaving one that
/// only seems to work.
fn essential(
    node: &Arc<Node>,
    runtime: &Handle,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let plumbing = node.plumbing.clone();
    task::spawn_on(runtime, name, async move {
        if let Err(payload) = AssertUnwindSafe(task).catch_unwind().await {
            let panicked = panics::caught(PanicRoom::Task, payload);
            plumbing.fatal(FatalReason::Panic, &format!("task {name}: {panicked}"));
        }
    });
}

/// Runs formation until the cluster is born, then opens the metadata group and registers.
async fn form(node: Arc<Node>, birth: Option<Birth>, mut hellos: mpsc::Receiver<PeerHello>) {
    let founder = Founder {
        broker: node.cfg.broker,
        directory: node.identity.directory(),
        cluster_if_founding: node.cfg.cluster_id.unwrap_or_else(|| ClusterId(rand::random())),
        cluster_required: node.cfg.cluster_id,
    };
    let initial = node.cfg.peers.iter().map(|peer| peer.id).collect();
    let mut formation = Formation::new(founder, initial, birth);
    let mut outputs = formation.step(FormationInput::Start);
    loop {
        carry_out(&node, &mut formation, outputs).await;
        let waiting = formation.waiting_for();
        *node.waiting_for.lock() =
            waiting.iter().map(|broker| format!("broker {broker} to form the cluster")).collect();
        let Some(hello) = hellos.recv().await else { return };
        let birth = match hello.birth.as_ref().map(|bytes| Birth::decode(bytes)) {
            None => None,
            Some(Ok(birth)) => Some(birth),
            Some(Err(error)) => {
                let peer = hello.broker.0;
                log_limited!(warn, LogEvent::PeerRefused, peer, %error, "birth record refused");
                outputs = Vec::new();
                continue;
            }
        };
        let (broker, directory) = (hello.broker, hello.directory);
        outputs = formation.step(FormationInput::Hello { broker, directory, birth });
    }
}

async fn carry_out(node: &Arc<Node>, formation: &mut Formation, outputs: Vec<FormationOutput>) {
    let mut outputs = std::collections::VecDeque::from(outputs);
    while let Some(output) = outputs.pop_front() {
        match output {
            FormationOutput::Persist(birth) => {
                let written = node.data_dir.lock().as_mut().map(|dir| dir.write_birth(&birth));
                if let Some(Err(error)) = written {
                    node.plumbing.fatal(
                        telemetry::labels::FatalReason::CheckpointFailed,
                        &format!("cannot write the birth record: {error}"),
                    );
                }
                outputs.extend(formation.step(FormationInput::Persisted));
            }
            FormationOutput::Offer(birth) => {
                node.identity.set_birth(birth.cluster, Bytes::from(birth.encode()));
            }
            FormationOutput::Done(birth) => born(node, &birth).await,
            FormationOutput::Refuse { broker, why } => {
                log_limited!(error, LogEvent::PeerRefused, peer = broker.0, %why, "peer refused");
            }
        }
    }
}

/// The cluster exists: bind its disks, open the metadata group, register.
async fn born(node: &Arc<Node>, birth: &Birth) {
    log_limited!(info, LogEvent::Formation, cluster = %birth.cluster, "cluster formed");
    let own = node.identity.directory();
    // One that came later learns the disks from metadata: founders may have been replaced.
    let founder = birth.replica_of(own).is_some();
    if let Some(peers) = node.plumbing.peers().filter(|_| founder) {
        let image = node.image();
        let moved = |m: &&BirthMember| image.broker(m.broker).is_some();
        for member in birth.members.iter().filter(|member| !moved(member)) {
            peers.bind(member.broker, member.directory);
        }
    }
    let config = boot::default_config(&node.defaults);
    task::spawn("adopt quorum", adopt_quorum(node.clone(), birth.clone()));
    if founder && let Some(spec) = boot::metadata_spec(birth, node.cfg.broker, config) {
        let spec = Box::new(spec);
        node.plumbing.shards.of(GroupId::METADATA).tell(Input::Create { spec }).await;
    }
    let joins = (!founder).then(|| birth.clone());
    task::spawn("register", register(node.clone(), joins));
}

/// Tells the cluster where this broker listens, until it is heard.
async fn register(node: Arc<Node>, joins: Option<Birth>) {
    let registration = BrokerRegistration {
        id: node.cfg.broker,
        directory: node.identity.directory(),
        incarnation: node.identity.incarnation(),
        listeners: node.cfg.listeners.clone(),
        peer_address: Some(own_peer_address(&node)),
        rack: node.cfg.rack.clone(),
        features: BTreeMap::new(),
    };
    loop {
        let request = Request::RegisterBroker(registration.clone());
        match node.metadata(request, Duration::from_secs(10)).await {
            Ok(Response::BrokerRegistered) => break,
            Ok(other) => {
                let why = other.rejection().map(|(_, why)| why.to_owned()).unwrap_or_default();
                log_limited!(error, LogEvent::Formation, %why, "registration was rejected");
            }
            Err(refusal) => {
                telemetry::tracing::debug!(why = refusal.why, "not registered yet");
            }
        }
        tokio::time::sleep(REGISTER_RETRY).await;
    }
    if let Some(birth) = joins {
        join_quorum(&node, &birth).await;
    }
    let mut image = node.plumbing.image.subscribe();
    let own = node.cfg.broker;
    let there = |image: &Arc<Image>| is_current(&node, image);
    if image.wait_for(there).await.is_err() || node.registered.set(()).is_err() {
        return;
    }
    wait_led(&node).await;
    if node.ready.set(()).is_ok() {
        metrics().ready.set(1);
        log_limited!(info, LogEvent::BrokerStarted, broker = own.0, "ready");
    }
}

/// Until every partition has a leader this broker can name, so that the first client of a broker
/// that says it is ready is not told LEADER_NOT_AVAILABLE. Bounded: a partition without a
/// majority must not keep the rest of the broker out of a load balancer.
async fn wait_led(node: &Node) {
    let until = Instant::now() + LED_WAIT_MAX;
    while !node.unled(1).is_empty() {
        if Instant::now() > until {
            let unled = node.unled(NAMED_UNLED_MAX).join(", ");
            log_limited!(warn, LogEvent::BrokerStarted, %unled, "ready, with partitions that have no leader");
            return;
        }
        tokio::time::sleep(LED_LOOK).await;
    }
}

/// Where peers reach this broker.
fn own_peer_address(node: &Node) -> String {
    let cfg = &node.cfg;
    if let Some(own) = cfg.peers.iter().find(|peer| peer.id == cfg.broker) {
        return own.address.clone();
    }
    // A wildcard is no address: peers find the host where clients do.
    let (host, port) = cfg.peer_listen.rsplit_once(':').unwrap_or((&cfg.peer_listen, "0"));
    let wildcard = matches!(host, "" | "0.0.0.0" | "[::]" | "::");
    match cfg.listeners.first().filter(|_| wildcard) {
        Some(listener) => format!("{}:{port}", listener.host),
        None => cfg.peer_listen.clone(),
    }
}

/// A broker that is not in the birth record: its replica of the metadata group is placed by the
/// registration; here it is opened, and waits to be added.
async fn join_quorum(node: &Arc<Node>, birth: &Birth) {
    let directory = node.identity.directory();
    let replica = loop {
        let request = Request::QuorumReplica { directory };
        match node.metadata(request, Duration::from_secs(10)).await {
            Ok(Response::QuorumReplica { replica }) => break replica,
            Ok(other) => {
                let why = other.rejection().map(|(_, why)| why.to_owned()).unwrap_or_default();
                *node.waiting_for.lock() = vec![why];
            }
            Err(refusal) => *node.waiting_for.lock() = vec![refusal.why],
        }
        tokio::time::sleep(REGISTER_RETRY).await;
    };
    *node.waiting_for.lock() = vec!["the metadata, as a new replica".into()];
    let config = boot::default_config(&node.defaults);
    let spec = Box::new(boot::joining_spec(birth, node.cfg.broker, directory, replica, config));
    node.plumbing.shards.of(GroupId::METADATA).tell(Input::Create { spec }).await;
}

/// The first leader of the metadata group writes down where it was born.
async fn adopt_quorum(node: Arc<Node>, birth: Birth) {
    let replicas = birth.members.iter().map(|member| Replica {
        broker: member.broker,
        replica: member.replica,
        directory: member.directory,
    });
    let replicas: Vec<Replica> = replicas.collect();
    while node.image().quorum().replicas.is_empty() {
        let leads = node.leader(GroupId::METADATA).is_some_and(|l| l.broker == node.cfg.broker);
        if leads {
            let adopt = Placing::AdoptQuorum { replicas: replicas.clone() };
            if let Err(refusal) = node.metadata(Request::Place(adopt), PLACE_MAX).await {
                telemetry::tracing::debug!(why = refusal.why, "quorum not written down yet");
            }
        }
        tokio::time::sleep(REGISTER_RETRY).await;
    }
}

/// Leaders of this broker say who left their groups; an emptied broker is unregistered by the
/// leader of the metadata.
async fn tell_departed(node: Arc<Node>) {
    let mut tick = tokio::time::interval(REGISTER_RETRY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for Departed { group, epoch, replicas } in node.plumbing.take_departed() {
            let gone = Placing::Gone { group, epoch, replicas };
            if let Err(refusal) = node.metadata(Request::Place(gone), PLACE_MAX).await {
                // Its leader says it again.
                telemetry::tracing::debug!(why = refusal.why, "departed replicas not told");
            }
        }
        let image = node.image();
        let leads = node.leader(GroupId::METADATA).is_some_and(|l| l.broker == node.cfg.broker);
        for broker in image.leaving().iter().copied().filter(|_| leads) {
            if metadata::partitions_on(&image, broker) == 0 {
                let unregister = Request::Place(Placing::Unregister { broker });
                if let Err(refusal) = node.metadata(unregister, PLACE_MAX).await {
                    telemetry::tracing::debug!(why = refusal.why, "not unregistered yet");
                }
            }
        }
    }
}

/// Opens, configures and removes this broker's replicas as metadata says.
async fn reconcile(node: Arc<Node>, found: Found) {
    let Found { known, mut removed, hides_groups } = found;
    let mut open: BTreeMap<GroupId, Option<TopicConfig>> =
        known.iter().map(|(group, _)| (*group, None)).collect();
    let known = known.into_iter().filter_map(|(group, replica)| Some((group, replica?)));
    let mut replicas: BTreeMap<GroupId, ReplicaId> = known.collect();
    let mut placed: BTreeMap<GroupId, u64> = BTreeMap::new();
    // Replicas below this one may have been here: metadata knew them when this life began.
    let mut hidden_below: Option<ReplicaId> = None;
    let mut bound = BTreeMap::new();
    let mut images = node.plumbing.image.subscribe();
    loop {
        let image = images.borrow_and_update().clone();
        for shard in node.plumbing.shards.all() {
            shard.tell(Input::Image { image: image.clone() }).await;
        }
        bind_brokers(&node, &image, &mut bound);
        node.plumbing.take_forgotten().iter().for_each(|group| _ = removed.remove(group));
        let current = is_current(&node, &image);
        if hides_groups && current {
            hidden_below.get_or_insert(ReplicaId(image.next_replica()));
        }
        let mut superseded = Vec::new();
        for (group, spec) in wanted(&node, &image) {
            if removed.contains(&group) {
                // It left and comes back: first its files and records go.
                continue;
            }
            if current {
                replicas.entry(group).or_insert(spec.replica);
                node.plumbing.unopened_is(group, spec.replica);
            } else if !open.contains_key(&group) {
                continue;
            }
            // Ids rise: an image that is older than the replica says nothing.
            if replicas.get(&group).is_some_and(|own| own.0 < spec.replica.0) {
                superseded.push((group, "its replica is replaced by a new one"));
                continue;
            }
            let shard = node.plumbing.shards.of(group);
            let config = spec.config.clone();
            match open.get(&group) {
                None if hidden_below.is_some_and(|end| spec.replica < end) => {
                    keep_out(&node, group, spec.replica).await;
                    true
                }
                None => shard.tell(Input::Create { spec: Box::new(spec) }).await,
                Some(Some(known)) if *known == config => continue,
                Some(_) => {
                    shard.tell(Input::Configure { group, config: Box::new(config.clone()) }).await
                }
            };
            open.insert(group, Some(config));
        }
        if current {
            node.hole_settled.store(true, Ordering::Release);
        }
        place_groups(&node, &image, &open, &mut placed).await;
        let moved = open.keys().copied().filter(|g| left(&node, &image, *g, &replicas));
        let moved: Vec<_> = moved.map(|group| (group, "its replica left this broker")).collect();
        for (group, why) in moved.into_iter().chain(superseded) {
            open.remove(&group);
            replicas.remove(&group);
            // The one that comes after it is told as well.
            placed.remove(&group);
            removed.insert(group);
            node.plumbing.expel(group);
            log_limited!(info, LogEvent::GroupDeleted, group = group.0, why, "group removed here");
            node.plumbing.shards.of(group).tell(Input::Remove { group }).await;
        }
        let deleted = image.deleted_groups();
        let gone: Vec<GroupId> = open.keys().copied().filter(|g| deleted.contains(*g)).collect();
        for group in gone {
            open.remove(&group);
            node.plumbing.expel(group);
            removed.insert(group);
            node.plumbing.shards.of(group).tell(Input::Remove { group }).await;
        }
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            () = node.plumbing.forgotten() => {}
        }
    }
}

/// Nothing of the replica is on this disk, where records were lost that may have been its own: it
/// is replaced by a new one, as any that cannot be put together.
async fn keep_out(node: &Node, group: GroupId, replica: ReplicaId) {
    let why = "its records may be among those that the journal lost".to_owned();
    node.plumbing.set_unopened([(group, Unopened { replica: Some(replica), why })]);
    node.plumbing.shards.of(group).tell(Input::KeepOut { group }).await;
}

/// Metadata knows this life of the broker, so it has all that earlier lives acted upon. Only then
/// a replica of which nothing is on this disk may begin: an older image may name one that was here
/// and has made promises.
fn is_current(node: &Node, image: &Image) -> bool {
    let own = image.broker(node.cfg.broker);
    own.is_some_and(|known| known.incarnation == node.identity.incarnation())
}

/// Every open group hears where metadata wants its replicas, once per change.
async fn place_groups(
    node: &Node,
    image: &Image,
    open: &BTreeMap<GroupId, Option<TopicConfig>>,
    placed: &mut BTreeMap<GroupId, u64>,
) {
    for group in open.keys().copied().chain([GroupId::METADATA]) {
        let Some(target) = image.placement_of(group).filter(|p| !p.replicas.is_empty()) else {
            continue;
        };
        if placed.insert(group, target.epoch) == Some(target.epoch) {
            continue;
        }
        let voters = match group {
            GroupId::METADATA => limits::METADATA_VOTERS_MAX.min(target.replicas.len()),
            _ => target.replicas.len(),
        };
        let placement = Placement {
            replicas: target.replicas.iter().map(replica_ref).collect(),
            voters,
            removing: target.removing.iter().map(replica_ref).collect(),
            epoch: target.epoch,
        };
        let placement = Box::new(placement);
        node.plumbing.shards.of(group).tell(Input::Place { group, placement }).await;
    }
}

/// Metadata knew our replica and says, by the word of the group's leader, that it is a member no
/// more. An image that is older than the replica says nothing.
fn left(
    node: &Node,
    image: &Image,
    group: GroupId,
    replicas: &BTreeMap<GroupId, ReplicaId>,
) -> bool {
    let Some((_, partition)) = image.partition_of(group) else { return false };
    let Some(own) = replicas.get(&group).filter(|own| own.0 < image.next_replica()) else {
        return false;
    };
    let mut all = partition.replicas.iter().chain(&partition.removing);
    group != GroupId::METADATA
        && partition.on(node.identity.directory()).is_none()
        && !all.any(|replica| replica.replica == *own)
}

fn replica_ref(replica: &Replica) -> ReplicaRef {
    let Replica { broker, replica, directory } = *replica;
    ReplicaRef { replica, broker, directory }
}

/// Registered disks are bound, so that another disk under a known id is named.
fn bind_brokers(node: &Node, image: &Image, bound: &mut BTreeMap<BrokerId, DirectoryId>) {
    let Some(peers) = node.plumbing.peers() else { return };
    for broker in image.brokers() {
        if bound.insert(broker.id, broker.directory) != Some(broker.directory) {
            if let Some(address) = &broker.peer_address
                && let Err(error) = peers.add(broker.id, address)
            {
                log_limited!(error, LogEvent::PeerRefused, peer = broker.id.0, %error, "no link");
            }
            peers.bind(broker.id, broker.directory);
        }
    }
}

/// Every partition replica that belongs on this disk.
fn wanted(node: &Node, image: &Arc<Image>) -> Vec<(GroupId, GroupSpec)> {
    let directory = node.identity.directory();
    let defaults = node.topic_defaults_in(image);
    let mut all = Vec::new();
    for (topic, partition) in image.partitions() {
        let Some(own) = partition.replicas.iter().find(|r| r.directory == directory) else {
            continue;
        };
        let replicas = partition.replicas.iter().chain(&partition.removing).map(replica_ref);
        let spec = GroupSpec {
            group: partition.group,
            kind: GroupKind::of_topic(&topic.name),
            name: format!("{}-{}", topic.name, partition.index),
            topic: topic.id,
            partition: partition.index,
            replica: own.replica,
            replicas: replicas.collect(),
            founders: partition.founders(),
            learners: Vec::new(),
            producers_before: topic.producers_before,
            config: TopicConfig::resolve(&topic.configs, &defaults)
                .unwrap_or_else(|_| boot::default_config(&defaults)),
        };
        all.push((partition.group, spec));
    }
    all
}

async fn gossip(node: Arc<Node>, mut news: mpsc::Receiver<News>) {
    let mut again = tokio::time::interval(GOSSIP_AGAIN);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            taken = news.recv_many(&mut batch, GOSSIP_BATCH) => {
                if taken == 0 {
                    return;
                }
            }
            _ = again.tick() => batch = node.plumbing.leaderships.told_by(node.cfg.broker),
        }
        if let (Some(peers), false) = (node.plumbing.peers(), batch.is_empty()) {
            for part in batch.chunks(GOSSIP_BATCH) {
                peers.broadcast(leadership::encode(node.plumbing.is_draining(), part));
            }
        }
        batch.clear();
    }
}

/// Free space decides whether new records are taken; gauges of memory come along.
async fn watch_space(node: Arc<Node>) {
    let mut tick = tokio::time::interval(SPACE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_full = false;
    loop {
        tick.tick().await;
        let free = volume_bytes(&node.cfg.data_dir).map(|(_, free)| free);
        metrics().disk_free_bytes.set(free.unwrap_or(0) as i64);
        let low = free.is_some_and(|free| free < node.cfg.disk_reserve_bytes);
        let full = low || node.plumbing.journal_full().is_some();
        metrics().disk_full.set(i64::from(full));
        if full != was_full {
            was_full = full;
            let free_bytes = free.unwrap_or(0);
            log_limited!(warn, LogEvent::DiskFull, full, free_bytes, "disk space changed");
            for shard in node.plumbing.shards.all() {
                shard.tell(Input::DiskFull { full }).await;
            }
        }
        memory_gauges(&node);
        let stuck_ns = node.plumbing.transfers.stuck().as_nanos() as i64;
        metrics().raft_snapshot_stuck_seconds.set(stuck_ns);
        node.plumbing.expire_offers().await;
        metrics().partitions.set(node.image().partitions().count() as i64);
    }
}

fn memory_gauges(node: &Node) {
    for (pool, (used, limit)) in [
        (BudgetPool::Clients, node.budget().clients()),
        (BudgetPool::Control, node.budget().control()),
    ] {
        metrics().memory_budget_used_bytes.at(pool).set(used as i64);
        metrics().memory_budget_limit_bytes.at(pool).set(limit as i64);
    }
    let peers = node.plumbing.peers().map(|peers| peers.status()).unwrap_or_default();
    let queued: usize = peers.iter().map(|peer| peer.queued_bytes).sum();
    let bulk: usize = peers.iter().map(|peer| peer.queued_bulk_bytes).sum();
    metrics().peer_queue_bytes.at(Lane::Bulk).set(bulk as i64);
    metrics().peer_queue_bytes.at(Lane::Control).set((queued - bulk) as i64);
    metrics().buffer_bytes.at(BufferStage::PeerQueues).set(queued as i64);
    let waiting = node.plumbing.journal_queue.bytes() as i64;
    metrics().journal_queue_bytes.set(waiting);
    metrics().buffer_bytes.at(BufferStage::JournalQueue).set(waiting);
    let cached = node.plumbing.cached_bytes() as i64;
    metrics().buffer_bytes.at(BufferStage::TailCache).set(cached);
}

/// Bytes of the volume `path` is on, and what an unprivileged process may still write there.
#[allow(unsafe_code)]
pub(crate) fn volume_bytes(path: &std::path::Path) -> Option<(u64, u64)> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: a zeroed statvfs is valid, `path` is a C string, both outlive the call.
    let (code, stat) = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut stat), stat)
    };
    (code == 0).then(|| (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}
