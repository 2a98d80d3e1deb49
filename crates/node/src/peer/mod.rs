//! The peer transport: raft messages, gossip and calls between brokers, over tonic.
//!
//! Per ordered pair of brokers there is one link of two connections, the *control* lane
//! (heartbeats, votes, acknowledgements, gossip, calls) and the *bulk* lane (MsgAppend and
//! MsgSnapshot, in order), so that a megabyte of log never stands before a heartbeat. The sender
//! opens both; they live and die together.
//!
//! Invariants: `send` never blocks and never encodes: a full or missing lane hands the message
//! back, so that its group can report the peer unreachable. What was queued when a link broke is
//! gone with it (`Inbound::disconnected` says so); a new link starts empty. Nothing reaches raft
//! from another cluster, another data directory or an earlier life of either side. eraftpb
//! bytes travel verbatim. Death is claimed only of a peer whose connection closed *and* whose
//! machine then refused a new one; silence is never death.

mod codec;
mod evidence;
mod fault;
mod identity;
mod judge;
mod lane;
mod link;
mod server;
#[cfg(test)]
mod tests;

/// Generated from `proto/peer.proto`.
mod proto {
    #![allow(clippy::all, clippy::disallowed_methods, clippy::disallowed_types)]
    tonic::include_proto!("glasslog.peer.v1");
}

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use consensus::eraftpb;
use model::{BrokerId, DirectoryId, GroupId, ReplicaId, limits};
use telemetry::labels::LockClass;
use telemetry::{Lock, RwLock};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use identity::{Identity, PeerHello, Refusal};
pub use judge::{decode_envelope, encode_envelope};
use link::Link;
use server::Registry;

/// One raft message on its way between two replicas.
#[derive(Debug, Clone, PartialEq)]
pub struct RaftItem {
    pub group: GroupId,
    pub from: ReplicaId,
    pub to: ReplicaId,
    pub message: eraftpb::Message,
    /// W3C trace context of a request that is being kept; empty for all others.
    pub trace: Bytes,
}

impl RaftItem {
    /// An item without trace context.
    pub fn new(
        group: GroupId,
        from: ReplicaId,
        to: ReplicaId,
        message: eraftpb::Message,
    ) -> RaftItem {
        RaftItem { group, from, to, message, trace: Bytes::new() }
    }
}

/// Which bytes of a snapshot a peer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRead {
    pub group: GroupId,
    /// Who is filled with it.
    pub replica: ReplicaId,
    pub index: u64,
    /// `None`: of the manifest. Else the manifest's CRC-32C, and a file's place in it.
    pub file: Option<(u32, u32)>,
    pub at: u64,
    /// 0: only a sign of life.
    pub len: usize,
}

/// Why a snapshot is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadRefused {
    /// It is not, or no longer, offered here.
    Gone(String),
    /// It could not be read now.
    Failed(String),
}

/// The bytes of a snapshot, on their way from the disk.
pub type ReadReply = Pin<Box<dyn Future<Output = Result<Bytes, ReadRefused>> + Send>>;

/// The answer to a call, in the making.
pub type CallReply = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// Whom the transport tells. Called on the transport's threads: return quickly, never block.
/// Of one peer, `connected`, `disconnected` and `died` come in order, never side by side.
pub trait Inbound: Send + Sync + 'static {
    /// Messages of one envelope, in the order they were sent.
    fn raft(&self, from: BrokerId, items: Vec<RaftItem>);
    /// A peer said who it is, in either direction and again whenever it has news: food for
    /// [`crate::formation::Formation`].
    fn hello(&self, peer: &PeerHello);
    /// Our link to this peer is up. Takes back an earlier `died`.
    fn connected(&self, peer: &PeerHello);
    /// Our link broke; everything queued for the peer, or under way to it, may be lost.
    fn disconnected(&self, peer: BrokerId);
    /// An established link closed and the peer's machine refuses a new one: its process is gone.
    /// Holds until `connected`.
    fn died(&self, peer: BrokerId);
    /// Gossip, best effort.
    fn gossip(&self, from: BrokerId, body: Bytes);
    /// A request; the future is dropped when the caller gives up.
    fn call(&self, from: BrokerId, body: Bytes) -> CallReply;
    /// A peer fetches a snapshot; the future is dropped when it gives up.
    fn read(&self, from: BrokerId, ask: SnapshotRead) -> ReadReply;
    /// Something was refused before it could do harm: feeds `peer_refused_total{why}`. The
    /// transport has logged it, with names.
    fn refused(&self, peer: Option<BrokerId>, why: Refusal);
}

/// How a broker meets its peers.
pub struct PeerConfig {
    /// `host:port` to listen on.
    pub listen: String,
    /// The other brokers and their `host:port`; this broker itself is skipped.
    pub peers: Vec<(BrokerId, String)>,
    /// Must already offer the birth record if the disk holds one: an omission would read as
    /// "holds none", on which a founder relies.
    pub identity: Identity,
}

/// Why the transport did not start. One line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("cannot listen for peers on {address}: {source}{}", hint(.source))]
    Listen { address: String, source: std::io::Error },
    #[error("the address of peer {broker}, `{address}`, is not host:port")]
    Address { broker: BrokerId, address: String },
}

fn hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another process holds this port: stop it, or give this broker another peer listener"
        }
        std::io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

/// Why a call has no answer. `Deadline` and `Lost` mean *unknown*: the peer may have acted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("not connected to broker {0}")]
    NotConnected(BrokerId),
    #[error("no answer within the deadline")]
    Deadline,
    #[error("a body of {0} bytes is too large")]
    TooLarge(usize),
    #[error("refused: {0}")]
    Refused(String),
    /// The snapshot is not offered there any more.
    #[error("{0}")]
    Gone(String),
    #[error("connection lost: {0}")]
    Lost(String),
}

impl CallError {
    pub fn as_str(&self) -> &'static str {
        match self {
            CallError::NotConnected(_) => "not_connected",
            CallError::Deadline => "deadline",
            CallError::TooLarge(_) => "too_large",
            CallError::Refused(_) => "refused",
            CallError::Gone(_) => "gone",
            CallError::Lost(_) => "lost",
        }
    }
}

/// What is known about one peer, for people.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    pub broker: BrokerId,
    pub address: String,
    pub connected: bool,
    /// Its process is known to be gone.
    pub dead: bool,
    /// Since when it is connected, or not.
    pub since: Instant,
    /// Why the last attempt or link failed; kept until the next link stands.
    pub last_error: Option<String>,
    /// Where its admin HTTP is reached, if it ever said so in this life of ours.
    pub admin: Option<String>,
    /// Bytes waiting on both lanes.
    pub queued_bytes: usize,
    /// Bytes waiting on the bulk lane.
    pub queued_bulk_bytes: usize,
    /// Messages waiting on the control lane.
    pub queued_control: usize,
}

/// The running transport.
pub struct Peers {
    links: RwLock<BTreeMap<BrokerId, Arc<Link>>>,
    identity: Identity,
    inbound: Arc<dyn Inbound>,
    registry: Arc<Registry>,
    listen: SocketAddr,
    /// Dropping it ends every task.
    stop: watch::Sender<bool>,
    /// Taken by the first shutdown.
    tasks: Lock<Vec<JoinHandle<()>>>,
}

impl Peers {
    /// Listens, and keeps trying to reach every peer with backoff; absent peers are no error.
    /// Runs on the calling tokio runtime.
    pub async fn start(cfg: PeerConfig, inbound: Arc<dyn Inbound>) -> Result<Peers, PeerError> {
        let own = cfg.identity.broker();
        let (stop, stopped) = watch::channel(false);
        let mut links = BTreeMap::new();
        for (broker, address) in cfg.peers.into_iter().filter(|(broker, _)| *broker != own) {
            let link = Link::new(broker, address, cfg.identity.clone(), inbound.clone())?;
            links.insert(broker, Arc::new(link));
        }
        let identity = cfg.identity.clone();
        let registry = Arc::new(Registry::new(cfg.identity, inbound.clone()));
        let (listen, server_task) =
            server::serve(&cfg.listen, registry.clone(), stopped.clone()).await?;
        let mut tasks = vec![server_task];
        let keep = |link: &Arc<Link>| {
            let kept = link.clone().keep(stopped.clone());
            telemetry::task::spawn("peer link", kept)
        };
        tasks.extend(links.values().map(keep));
        let tasks = Lock::new(LockClass::Peers, tasks);
        let links = RwLock::new(LockClass::Links, links);
        Ok(Peers { links, identity, inbound, registry, listen, stop, tasks })
    }

    /// A broker no configuration named: a link to it is kept from now on. Known ones keep the
    /// address they have. Call it on a tokio runtime.
    pub fn add(&self, broker: BrokerId, address: &str) -> Result<(), PeerError> {
        if broker == self.identity.broker() || self.link(broker).is_some() {
            return Ok(());
        }
        let (identity, inbound) = (self.identity.clone(), self.inbound.clone());
        let link = Arc::new(Link::new(broker, address.to_owned(), identity, inbound)?);
        self.links.write().insert(broker, link.clone());
        let task = telemetry::task::spawn("peer link", link.keep(self.stop.subscribe()));
        self.tasks.lock().push(task);
        Ok(())
    }

    fn link(&self, broker: BrokerId) -> Option<Arc<Link>> {
        self.links.read().get(&broker).cloned()
    }

    fn all(&self) -> Vec<Arc<Link>> {
        self.links.read().values().cloned().collect()
    }

    /// Queues a raft message. Never blocks; an error hands the message back (no link, a full
    /// lane, a peer on another disk, or a message above [`limits::ENVELOPE_BYTES_MAX`]) after
    /// counting it in `peer_dropped_total`.
    #[allow(clippy::result_large_err)] // the caller gets its own message back
    pub fn send(&self, to: BrokerId, item: RaftItem) -> Result<(), RaftItem> {
        match self.link(to) {
            Some(link) => link.send(item),
            None => Err(item),
        }
    }

    /// Queues gossip for one peer; dropped if its control lane is full or down.
    pub fn gossip(&self, to: BrokerId, body: Bytes) {
        if let Some(link) = self.link(to) {
            link.gossip(body);
        }
    }

    /// Queues gossip for every connected peer.
    pub fn broadcast(&self, body: Bytes) {
        for link in self.all() {
            link.gossip(body.clone());
        }
    }

    /// Asks a peer and waits for its answer, at most until `deadline` from now.
    pub async fn call(
        &self,
        to: BrokerId,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let link = self.link(to).ok_or(CallError::NotConnected(to))?;
        link.call(body, deadline).await
    }

    /// Reads bytes of a snapshot a peer offers.
    pub async fn read(
        &self,
        to: BrokerId,
        ask: SnapshotRead,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let link = self.link(to).ok_or(CallError::NotConnected(to))?;
        link.read(ask, deadline).await
    }

    /// From now on raft messages are exchanged with `broker` only while it runs on `directory`
    /// (birth record, registrations). Handshakes, gossip and calls stay possible, so that a
    /// broker with a new disk can join.
    pub fn bind(&self, broker: BrokerId, directory: DirectoryId) {
        self.registry.bind(broker, directory);
        if let Some(link) = self.link(broker) {
            link.bind(directory);
        }
    }

    /// Peers to which our link is up.
    pub fn connected(&self) -> Vec<BrokerId> {
        self.all().iter().filter(|l| l.is_connected()).map(|l| l.broker()).collect()
    }

    /// Whether our link to this peer is up; as cheap as a look into a table of a few links.
    pub fn is_connected(&self, broker: BrokerId) -> bool {
        self.link(broker).is_some_and(|link| link.is_connected())
    }

    /// Every configured peer, by broker id.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.all().iter().map(|link| link.status()).collect()
    }

    /// Where this broker listens; tells the port if the configuration said 0.
    pub fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    /// Lets queued messages leave (bounded by [`limits::PEER_DRAIN_MS_MAX`]), then closes links
    /// and listener. After it `send` hands everything back.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let bound = Duration::from_millis(2 * limits::PEER_DRAIN_MS_MAX);
        let ends = tokio::time::Instant::now() + bound;
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for mut task in tasks {
            if tokio::time::timeout_at(ends, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}
