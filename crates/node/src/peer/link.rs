//! Our link to one peer: opened, kept and opened again, by one task per peer.
//!
//! Invariants: both lanes stand or neither does; callbacks about one peer come from this one
//! task, so in order; the published session is withdrawn before anyone is told that it ended.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::{BrokerId, DirectoryId, limits};
use telemetry::labels::{Lane, LockClass, LogEvent, PeerDropWhy};
use telemetry::{Lock, log_limited, metrics};
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::evidence::{Evidence, Failure, Next};
use super::fault::{Fault, chain, ended, fault_of, kind_of};
use super::identity::{Identity, PeerHello, Refusal};
use super::lane::{self, LaneQueue, LaneStream};
use super::proto::peer_client::PeerClient;
use super::{CallError, Inbound, PeerError, PeerStatus, RaftItem, SnapshotRead, codec, proto};

// So that whatever the bulk lane takes fits one envelope.
const _: () = assert!(limits::PEER_BULK_BYTES_MAX <= limits::ENVELOPE_BYTES_MAX);

pub(super) struct Link {
    broker: BrokerId,
    address: String,
    endpoint: Endpoint,
    identity: Identity,
    inbound: Arc<dyn Inbound>,
    /// The standing link, if any. Read on every send; written when a link comes or goes.
    session: watch::Sender<Option<Session>>,
    /// The directory raft is bound to. Held while a session is published.
    bound: Lock<Option<DirectoryId>>,
    note: Lock<Note>,
}

/// A standing link. Dropping it ends both lanes after what they hold.
struct Session {
    peer: PeerHello,
    control: LaneQueue,
    bulk: LaneQueue,
    client: PeerClient<Channel>,
    /// On the bulk lane's connection.
    reader: PeerClient<Channel>,
    raft_allowed: AtomicBool,
}

impl Session {
    fn queue(&self, lane: Lane) -> &LaneQueue {
        match lane {
            Lane::Control => &self.control,
            Lane::Bulk => &self.bulk,
        }
    }
}

/// For people.
struct Note {
    since: Instant,
    last_error: Option<String>,
    dead: bool,
    /// Where its admin HTTP was when it last said so.
    admin: Option<String>,
}

/// Two connections whose other ends said who they are.
struct Opened {
    peer: PeerHello,
    control: PeerClient<Channel>,
    bulk: PeerClient<Channel>,
    /// Our half of the handshake carried the birth record.
    born: bool,
}

impl Link {
    pub fn new(
        broker: BrokerId,
        address: String,
        identity: Identity,
        inbound: Arc<dyn Inbound>,
    ) -> Result<Link, PeerError> {
        let endpoint = endpoint(&address);
        let endpoint =
            endpoint.ok_or_else(|| PeerError::Address { broker, address: address.clone() })?;
        let note = Note { since: Instant::now(), last_error: None, dead: false, admin: None };
        Ok(Link {
            broker,
            address,
            endpoint,
            identity,
            inbound,
            session: watch::Sender::new(None),
            bound: Lock::new(LockClass::Peers, None),
            note: Lock::new(LockClass::Peers, note),
        })
    }

    pub fn broker(&self) -> BrokerId {
        self.broker
    }

    #[allow(clippy::result_large_err)] // the caller gets its own message back
    pub fn send(&self, item: RaftItem) -> Result<(), RaftItem> {
        let lane = if codec::is_bulk(&item.message) { Lane::Bulk } else { Lane::Control };
        let (why, item) = {
            let session = self.session.borrow();
            match session.as_ref() {
                None => (PeerDropWhy::NotConnected, item),
                Some(session) if !session.raft_allowed.load(Ordering::Relaxed) => {
                    self.inbound.refused(Some(self.broker), Refusal::Directory);
                    (PeerDropWhy::NoRoute, item)
                }
                Some(session) => match session.queue(lane).push_raft(item) {
                    Ok(()) => return Ok(()),
                    Err(item) => (PeerDropWhy::QueueFull, item),
                },
            }
        };
        let too_large =
            why == PeerDropWhy::QueueFull && codec::cost(&item) > limits::ENVELOPE_BYTES_MAX;
        let why = if too_large { PeerDropWhy::TooLarge } else { why };
        metrics().peer_dropped_total.at(lane, why).inc();
        Err(item)
    }

    pub fn gossip(&self, body: Bytes) {
        if body.len() > limits::PEER_CALL_BYTES_MAX {
            return metrics().peer_dropped_total.at(Lane::Control, PeerDropWhy::TooLarge).inc();
        }
        if let Some(session) = self.session.borrow().as_ref()
            && !session.control.push_gossip(body)
        {
            metrics().peer_dropped_total.at(Lane::Control, PeerDropWhy::QueueFull).inc();
        }
    }

    pub async fn call(&self, body: Bytes, deadline: Duration) -> Result<Bytes, CallError> {
        if body.len() > limits::PEER_CALL_BYTES_MAX {
            return Err(CallError::TooLarge(body.len()));
        }
        let (mut client, route) = {
            let session = self.session.borrow();
            let session = session.as_ref().ok_or(CallError::NotConnected(self.broker))?;
            (session.client.clone(), self.identity.route(&session.peer))
        };
        let request = proto::CallRequest { route: Some(route), body };
        match tokio::time::timeout(deadline, client.call(request)).await {
            Err(_) => Err(CallError::Deadline),
            Ok(Ok(answer)) => Ok(answer.into_inner().body),
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => {
                Err(CallError::Refused(status.message().to_owned()))
            }
            Ok(Err(status)) => Err(CallError::Lost(fault_of(&status).line)),
        }
    }

    pub async fn read(&self, ask: SnapshotRead, deadline: Duration) -> Result<Bytes, CallError> {
        let (mut client, route) = {
            let session = self.session.borrow();
            let session = session.as_ref().ok_or(CallError::NotConnected(self.broker))?;
            (session.reader.clone(), self.identity.route(&session.peer))
        };
        let (manifest, file) = ask.file.map_or((0, 0), |(manifest, file)| (manifest, file + 1));
        let request = proto::ReadRequest {
            route: Some(route),
            group: ask.group.0,
            replica: ask.replica.0,
            index: ask.index,
            manifest,
            file,
            at: ask.at,
            len: ask.len as u32,
        };
        match tokio::time::timeout(deadline, client.read(request)).await {
            Err(_) => Err(CallError::Deadline),
            Ok(Ok(answer)) => Ok(answer.into_inner().body),
            Ok(Err(status)) => Err(match status.code() {
                Code::NotFound => CallError::Gone(status.message().to_owned()),
                Code::FailedPrecondition => CallError::Refused(status.message().to_owned()),
                _ => CallError::Lost(fault_of(&status).line),
            }),
        }
    }

    pub fn bind(&self, directory: DirectoryId) {
        let mut bound = self.bound.lock();
        *bound = Some(directory);
        if let Some(session) = self.session.borrow().as_ref() {
            session.raft_allowed.store(session.peer.directory == directory, Ordering::Relaxed);
        }
    }

    pub fn is_connected(&self) -> bool {
        self.session.borrow().is_some()
    }

    pub fn status(&self) -> PeerStatus {
        let note = self.note.lock();
        let session = self.session.borrow();
        let session = session.as_ref();
        PeerStatus {
            broker: self.broker,
            address: self.address.clone(),
            connected: session.is_some(),
            dead: note.dead,
            since: note.since,
            last_error: note.last_error.clone(),
            admin: note.admin.clone(),
            queued_bytes: session.map_or(0, |s| s.control.bytes() + s.bulk.bytes()),
            queued_bulk_bytes: session.map_or(0, |s| s.bulk.bytes()),
            queued_control: session.map_or(0, |s| s.control.messages()),
        }
    }

    /// Keeps the link until told to stop.
    pub async fn keep(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let started = Instant::now();
        let seed = self.identity.incarnation().0 ^ (self.broker.0 as u64) << 48;
        let mut evidence = Evidence::new(seed);
        loop {
            let opened = tokio::select! {
                biased;
                () = stop(&mut stopped) => return,
                opened = self.open() => opened,
            };
            let next = match opened {
                Ok(opened) => {
                    evidence.connected();
                    let stood = Instant::now();
                    let Some(fault) = self.stand(opened, &mut stopped).await else { return };
                    evidence.lost(millis(started), millis(stood), fault.kind)
                }
                Err(fault) => {
                    self.note_failure(&fault);
                    evidence.failed(millis(started), fault.kind)
                }
            };
            self.heed(next, &evidence);
            tokio::select! {
                biased;
                () = stop(&mut stopped) => return,
                () = tokio::time::sleep(Duration::from_millis(next.wait_ms)) => {}
            }
        }
    }

    fn heed(&self, next: Next, evidence: &Evidence) {
        self.note.lock().dead = evidence.is_dead();
        if next.died {
            let (peer, address) = (self.broker.0, &self.address);
            log_limited!(warn, LogEvent::PeerLost, peer, %address, "a peer's process is gone");
            self.inbound.died(self.broker);
        }
    }

    async fn open(&self) -> Result<Opened, Fault> {
        let born = self.identity.cluster().is_some();
        let mut control = self.connect().await?;
        let peer = self.handshake(&mut control).await?;
        let mut bulk = self.connect().await?;
        let again = self.handshake(&mut bulk).await?;
        if (again.directory, again.incarnation) != (peer.directory, peer.incarnation) {
            return Err(Fault::new(Failure::Closed, "the peer restarted in the middle"));
        }
        Ok(Opened { peer: again, control, bulk, born })
    }

    async fn connect(&self) -> Result<PeerClient<Channel>, Fault> {
        let bound = Duration::from_millis(limits::PEER_CONNECT_MS_MAX);
        match tokio::time::timeout(bound, self.endpoint.connect()).await {
            Err(_) => Err(Fault::new(Failure::Silent, "no connection in time")),
            Ok(Err(e)) => Err(Fault::new(kind_of(&e, Failure::Silent), chain(&e))),
            Ok(Ok(channel)) => {
                let client = PeerClient::new(channel);
                Ok(client.max_decoding_message_size(limits::PEER_CALL_BYTES_MAX + 1024))
            }
        }
    }

    async fn handshake(&self, client: &mut PeerClient<Channel>) -> Result<PeerHello, Fault> {
        let bound = Duration::from_millis(limits::PEER_HANDSHAKE_MS_MAX);
        let hello = self.identity.hello(self.broker);
        let answer = match tokio::time::timeout(bound, client.handshake(hello)).await {
            Err(_) => return Err(Fault::new(Failure::Silent, "no answer to our handshake")),
            Ok(answer) => answer.map_err(|status| fault_of(&status))?,
        };
        let checked = self.identity.check_hello(answer.into_inner());
        let peer = checked.map_err(|refused| {
            self.inbound.refused(Some(self.broker), refused.why);
            Fault::new(Failure::Rejected, refused.line)
        })?;
        if peer.broker != self.broker {
            self.inbound.refused(Some(self.broker), Refusal::BrokerId);
            let line =
                format!("broker {} answers at the address of broker {}", peer.broker, self.broker);
            return Err(Fault::new(Failure::Rejected, line));
        }
        self.inbound.hello(&peer);
        Ok(peer)
    }

    /// A link from its first to its last moment. None: told to stop.
    async fn stand(&self, opened: Opened, stopped: &mut watch::Receiver<bool>) -> Option<Fault> {
        let Opened { peer, control, bulk, born } = opened;
        let bytes_max = limits::PEER_BULK_BYTES_MAX;
        let (control_queue, control_stream) =
            lane::open(Lane::Control, &self.identity, &peer, bytes_max);
        let (bulk_queue, bulk_stream) = lane::open(Lane::Bulk, &self.identity, &peer, bytes_max);
        let clients = (control.clone(), bulk.clone());
        self.publish(&peer, control_queue, bulk_queue, clients);
        let control_ends = run_control(control.clone(), control_stream);
        let bulk_ends = run_bulk(bulk, bulk_stream);
        tokio::pin!(control_ends, bulk_ends);
        let fault = tokio::select! {
            biased;
            () = stop(stopped) => None,
            fault = &mut control_ends => Some(fault),
            fault = &mut bulk_ends => Some(fault),
            fault = self.greet_again(control, &peer, born) => Some(fault),
        };
        self.session.send_replace(None); // both lanes end after what they hold
        match fault {
            None => {
                let bound = Duration::from_millis(limits::PEER_DRAIN_MS_MAX);
                let drained = async { tokio::join!(control_ends, bulk_ends) };
                let _ = tokio::time::timeout(bound, drained).await;
                None
            }
            Some(fault) => {
                self.note_lost(&fault);
                self.inbound.disconnected(self.broker);
                Some(fault)
            }
        }
    }

    fn publish(
        &self,
        peer: &PeerHello,
        control: LaneQueue,
        bulk: LaneQueue,
        (client, reader): (PeerClient<Channel>, PeerClient<Channel>),
    ) {
        log_limited!(
            info, LogEvent::PeerConnected, peer = self.broker.0, address = %self.address,
            directory = %peer.directory, incarnation = %peer.incarnation, "connected to a peer"
        );
        let admin = peer.admin.as_ref().and_then(|admin| reachable(admin, &self.address));
        *self.note.lock() = Note { since: Instant::now(), last_error: None, dead: false, admin };
        {
            let bound = self.bound.lock();
            let allowed = bound.is_none_or(|directory| directory == peer.directory);
            let raft_allowed = AtomicBool::new(allowed);
            let peer = peer.clone();
            let session = Session { peer, control, bulk, client, reader, raft_allowed };
            self.session.send_replace(Some(session));
        }
        self.inbound.connected(peer);
    }

    /// Shakes hands again while either side may have news: until we are born, regularly, and
    /// once at our birth. Ends only with the link.
    async fn greet_again(
        &self,
        mut client: PeerClient<Channel>,
        peer: &PeerHello,
        mut told: bool,
    ) -> Fault {
        let mut births = self.identity.births();
        let pause = Duration::from_millis(limits::PEER_UNBORN_HELLO_MS);
        loop {
            if told {
                return std::future::pending().await;
            }
            if births.borrow_and_update().is_none() {
                let _ = tokio::time::timeout(pause, births.changed()).await;
            }
            told = self.identity.cluster().is_some();
            match self.handshake(&mut client).await {
                Err(fault) => return fault,
                Ok(now) if now.incarnation != peer.incarnation => {
                    return Fault::new(Failure::Closed, "the peer restarted");
                }
                Ok(_) => {}
            }
        }
    }

    fn note_lost(&self, fault: &Fault) {
        log_limited!(
            warn, LogEvent::PeerLost, peer = self.broker.0, address = %self.address,
            error = %fault.line, "lost a peer"
        );
        let mut note = self.note.lock();
        (note.since, note.dead) = (Instant::now(), false);
        note.last_error = Some(fault.line.clone());
    }

    /// Logs an attempt's failure when it is another one than before.
    fn note_failure(&self, fault: &Fault) {
        let mut note = self.note.lock();
        if note.last_error.as_ref() != Some(&fault.line) {
            log_limited!(
                info, LogEvent::PeerLost, peer = self.broker.0, address = %self.address,
                error = %fault.line, "a peer is not reached, trying on"
            );
            note.last_error = Some(fault.line.clone());
        }
    }
}

async fn run_control(mut client: PeerClient<Channel>, stream: LaneStream) -> Fault {
    ended(client.control(stream).await)
}

async fn run_bulk(mut client: PeerClient<Channel>, stream: LaneStream) -> Fault {
    ended(client.bulk(stream).await)
}

fn endpoint(address: &str) -> Option<Endpoint> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    if host.is_empty() {
        return None;
    }
    let keepalive = Duration::from_millis(limits::PEER_KEEPALIVE_MS);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    let endpoint = endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(limits::PEER_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::PEER_CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(keepalive)
        .keep_alive_timeout(keepalive)
        .keep_alive_while_idle(true);
    Some(endpoint)
}

/// A peer's admin HTTP as it is reached from here, where the peer itself is at `address`. `None`:
/// it listens where only its own machine gets to.
fn reachable(admin: &str, address: &str) -> Option<String> {
    let (host, port) = admin.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let (machine, _) = address.rsplit_once(':')?;
    match host {
        "" => Some(format!("{machine}:{port}")),
        _ if is_loopback(host) && !is_loopback(machine) => None,
        _ => Some(admin.to_owned()),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Resolves when the transport stops (or was dropped).
pub(super) async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_admin_http_is_where_it_is_reached_from_here() {
        let cases = [
            (":9292", "10.0.0.2:9192", Some("10.0.0.2:9292")),
            (":9292", "[::2]:9192", Some("[::2]:9292")),
            ("10.1.0.2:9292", "10.0.0.2:9192", Some("10.1.0.2:9292")),
            ("127.0.0.1:9293", "127.0.0.1:9193", Some("127.0.0.1:9293")),
            ("localhost:9293", "[::1]:9193", Some("localhost:9293")),
            ("127.0.0.1:9293", "10.0.0.2:9193", None),
            ("[::1]:9293", "broker-2:9193", None),
            ("nonsense", "10.0.0.2:9193", None),
            ("host:99999", "10.0.0.2:9193", None),
        ];
        for (admin, address, expected) in cases {
            assert_eq!(reachable(admin, address).as_deref(), expected, "{admin} {address}");
        }
    }
}
