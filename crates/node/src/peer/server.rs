//! The listening side: handshakes, lanes and calls of peers, and who each peer currently is.
//!
//! Invariants: every envelope and call is checked against our identity and against the sender's
//! latest handshake before anything in it is looked at. A mismatch of identity ends the stream,
//! so that the sender shakes hands anew; what merely comes too early (before birth) is dropped
//! and counted, since raft repeats itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::{BrokerId, DirectoryId, GroupId, Incarnation, ReplicaId, limits};
use telemetry::labels::{Lane, LockClass, LogEvent};
use telemetry::{Lock, log_limited, metrics};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::identity::{Identity, PeerHello, Refusal, Refused, Sender};
use super::link::stop;
use super::proto::peer_server::{Peer, PeerServer};
use super::{Inbound, PeerError, ReadRefused, SnapshotRead, codec, proto};

/// Who each peer currently is.
pub(super) struct Registry {
    identity: Identity,
    inbound: Arc<dyn Inbound>,
    book: Lock<Book>,
}

#[derive(Default)]
struct Book {
    known: BTreeMap<BrokerId, Known>,
    bound: BTreeMap<BrokerId, DirectoryId>,
    /// Refusals already on the log, until the broker's next accepted handshake.
    said: BTreeSet<(Option<BrokerId>, Refusal)>,
}

/// A peer by its latest handshake.
struct Known {
    directory: DirectoryId,
    incarnation: Incarnation,
    /// Each of its open streams holds a clone.
    streams: Arc<()>,
}

impl Known {
    fn is_streaming(&self) -> bool {
        Arc::strong_count(&self.streams) > 1
    }
}

impl Registry {
    pub fn new(identity: Identity, inbound: Arc<dyn Inbound>) -> Registry {
        Registry { identity, inbound, book: Lock::new(LockClass::Peers, Book::default()) }
    }

    pub fn bind(&self, broker: BrokerId, directory: DirectoryId) {
        self.book.lock().bound.insert(broker, directory);
    }

    /// A peer's half of a handshake, answered with ours.
    fn greet(&self, hello: proto::Hello) -> Result<proto::Hello, Refused> {
        if hello.to_broker != self.identity.broker().0 {
            let line = format!(
                "broker {} looks for broker {} at this address, which is broker {}",
                hello.broker,
                hello.to_broker,
                self.identity.broker()
            );
            return Err(Refused::new(Refusal::BrokerId, line));
        }
        let peer = self.identity.check_hello(hello)?;
        self.register(&peer)?;
        self.inbound.hello(&peer);
        Ok(self.identity.hello(peer.broker))
    }

    /// The newest life of a broker wins, but not against another directory that is streaming.
    fn register(&self, peer: &PeerHello) -> Result<(), Refused> {
        let mut book = self.book.lock();
        let full = book.known.len() >= limits::PEERS_MAX;
        match book.known.get(&peer.broker) {
            Some(known) if known.directory != peer.directory && known.is_streaming() => {
                let line = format!(
                    "two processes run as broker {}, on directories {} and {}",
                    peer.broker, known.directory, peer.directory
                );
                return Err(Refused::new(Refusal::Directory, line));
            }
            Some(known)
                if (known.directory, known.incarnation) == (peer.directory, peer.incarnation) => {}
            None if full => return Err(Refused::new(Refusal::TooLarge, "too many brokers")),
            Some(_) | None => {
                let known = Known {
                    directory: peer.directory,
                    incarnation: peer.incarnation,
                    streams: Arc::new(()),
                };
                book.known.insert(peer.broker, known);
            }
        }
        book.said.retain(|(broker, _)| *broker != Some(peer.broker));
        Ok(())
    }

    /// Checks an address; the token marks the sender as streaming while it is held.
    fn admit(&self, route: Option<proto::Route>) -> Result<(Sender, Arc<()>), Refused> {
        let sender = self.identity.check_route(route)?;
        let book = self.book.lock();
        let broker = sender.broker;
        let Some(known) = book.known.get(&broker) else {
            let line = format!("broker {broker} writes before a handshake");
            return Err(Refused::new(Refusal::Incarnation, line));
        };
        if known.directory != sender.directory {
            let line = format!("broker {broker} is now on another directory");
            return Err(Refused::new(Refusal::Directory, line));
        }
        if known.incarnation != sender.incarnation {
            let line = format!("an earlier life of broker {broker} still writes");
            return Err(Refused::new(Refusal::Incarnation, line));
        }
        Ok((sender, known.streams.clone()))
    }

    /// One envelope to its end.
    fn deliver(&self, envelope: proto::Envelope) -> Result<(Sender, Arc<()>), Refused> {
        let (sender, token) = self.admit(envelope.route)?;
        if envelope.items.len() > limits::ENVELOPE_ITEMS_MAX {
            return Err(Refused::new(Refusal::TooLarge, "an envelope with too many items"));
        }
        if let Some(early) = self.not_for_raft(&sender) {
            if !envelope.items.is_empty() {
                self.refuse(Some(sender.broker), &early);
            }
        } else if !envelope.items.is_empty() {
            self.inbound.raft(sender.broker, codec::decode(envelope.items)?);
        }
        for body in envelope.gossip.into_iter().filter(|_| sender.same_cluster) {
            self.inbound.gossip(sender.broker, body);
        }
        Ok((sender, token))
    }

    /// Why this sender's raft messages are dropped although it is who it says it is.
    fn not_for_raft(&self, sender: &Sender) -> Option<Refused> {
        let broker = sender.broker;
        if !sender.same_cluster {
            let line = format!("broker {broker} sends raft messages before both sides are born");
            return Some(Refused::new(Refusal::Unborn, line));
        }
        let bound = self.book.lock().bound.get(&broker).copied()?;
        (bound != sender.directory).then(|| {
            let line = format!(
                "broker {broker} came with directory {}, but its replicas are on {bound}",
                sender.directory
            );
            Refused::new(Refusal::Directory, line)
        })
    }

    /// Counts every refusal, logs each kind once per broker and life.
    fn refuse(&self, broker: Option<BrokerId>, refused: &Refused) {
        self.inbound.refused(broker, refused.why);
        let mut book = self.book.lock();
        let room = book.said.len() < limits::PEERS_MAX;
        if room && book.said.insert((broker, refused.why)) {
            let peer = broker.map_or(-1, |id| id.0);
            let why = refused.why.as_str();
            let error = &refused.line;
            log_limited!(warn, LogEvent::PeerRefused, peer, why, %error, "refused a peer");
        }
    }

    fn refusal(&self, broker: Option<BrokerId>, refused: Refused) -> Status {
        self.refuse(broker, &refused);
        Status::failed_precondition(refused.line)
    }
}

/// The service tonic drives.
struct Door {
    registry: Arc<Registry>,
    stopped: watch::Receiver<bool>,
}

impl Door {
    async fn lane(
        &self,
        lane: Lane,
        request: Request<Streaming<proto::Envelope>>,
    ) -> Result<Response<proto::Closed>, Status> {
        let mut stream = request.into_inner();
        let mut stopped = self.stopped.clone();
        let mut from = None;
        let mut _streaming = None;
        loop {
            let envelope = tokio::select! {
                biased;
                () = stop(&mut stopped) => None,
                envelope = stream.message() => envelope?,
            };
            let Some(envelope) = envelope else { return Ok(Response::new(proto::Closed {})) };
            metrics().peer_received_bytes_total.at(lane).add(codec::size(&envelope));
            match self.registry.deliver(envelope) {
                Ok((sender, token)) => {
                    from = Some(sender.broker);
                    _streaming = Some(token);
                }
                Err(refused) => return Err(self.registry.refusal(from, refused)),
            }
        }
    }
}

#[tonic::async_trait]
impl Peer for Door {
    async fn handshake(
        &self,
        request: Request<proto::Hello>,
    ) -> Result<Response<proto::Hello>, Status> {
        let hello = request.into_inner();
        let broker = Some(BrokerId(hello.broker)).filter(|id| id.0 >= 0);
        let answer = self.registry.greet(hello);
        answer.map(Response::new).map_err(|refused| self.registry.refusal(broker, refused))
    }

    async fn control(
        &self,
        request: Request<Streaming<proto::Envelope>>,
    ) -> Result<Response<proto::Closed>, Status> {
        self.lane(Lane::Control, request).await
    }

    async fn bulk(
        &self,
        request: Request<Streaming<proto::Envelope>>,
    ) -> Result<Response<proto::Closed>, Status> {
        self.lane(Lane::Bulk, request).await
    }

    async fn call(
        &self,
        request: Request<proto::CallRequest>,
    ) -> Result<Response<proto::CallResponse>, Status> {
        let request = request.into_inner();
        let admitted = self.registry.admit(request.route);
        let (sender, _) = admitted.map_err(|refused| self.registry.refusal(None, refused))?;
        let body = self.registry.inbound.call(sender.broker, request.body).await;
        if body.len() > limits::PEER_CALL_BYTES_MAX {
            return Err(Status::out_of_range("the answer is too large"));
        }
        Ok(Response::new(proto::CallResponse { body }))
    }

    async fn read(
        &self,
        request: Request<proto::ReadRequest>,
    ) -> Result<Response<proto::ReadResponse>, Status> {
        let request = request.into_inner();
        let admitted = self.registry.admit(request.route);
        let (sender, _) = admitted.map_err(|refused| self.registry.refusal(None, refused))?;
        // A snapshot is raft's: who may not send its messages may not be filled.
        if let Some(early) = self.registry.not_for_raft(&sender) {
            return Err(self.registry.refusal(Some(sender.broker), early));
        }
        let len = request.len as usize;
        if len > limits::TRANSFER_READ_BYTES {
            return Err(Status::out_of_range("a read of a snapshot that is too large"));
        }
        let file = request.file.checked_sub(1).map(|file| (request.manifest, file));
        let ask = SnapshotRead {
            group: GroupId(request.group),
            replica: ReplicaId(request.replica),
            index: request.index,
            file,
            at: request.at,
            len,
        };
        match self.registry.inbound.read(sender.broker, ask).await {
            Ok(body) => Ok(Response::new(proto::ReadResponse { body })),
            Err(ReadRefused::Gone(why)) => Err(Status::not_found(why)),
            Err(ReadRefused::Failed(why)) => Err(Status::unavailable(why)),
        }
    }
}

/// Binds the listener and serves until stopped.
pub(super) async fn serve(
    address: &str,
    registry: Arc<Registry>,
    stopped: watch::Receiver<bool>,
) -> Result<(SocketAddr, JoinHandle<()>), PeerError> {
    let failed = |source| PeerError::Listen { address: address.to_owned(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    // tonic applies nodelay to connections it accepts only if told here.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut until = stopped.clone();
    let door = PeerServer::new(Door { registry, stopped })
        .max_decoding_message_size(limits::ENVELOPE_BYTES_MAX + limits::ENVELOPE_TARGET_BYTES);
    let keepalive = Duration::from_millis(limits::PEER_KEEPALIVE_MS);
    let server = Server::builder()
        .initial_stream_window_size(limits::PEER_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::PEER_CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::PEER_FRAME_BYTES)
        .max_concurrent_streams(limits::PEER_STREAMS_MAX)
        // Calls that were given up while we were stopped or starved are no attack.
        .http2_max_pending_accept_reset_streams(Some(limits::PEER_STREAMS_MAX as usize))
        .http2_keepalive_interval(Some(keepalive))
        .http2_keepalive_timeout(Some(keepalive));
    let task = telemetry::task::spawn("peer listener", async move {
        let serving = async { stop(&mut until).await };
        if let Err(error) = server.serve_with_incoming_shutdown(door, incoming, serving).await {
            log_limited!(error, LogEvent::PeerLost, %error, "the peer listener failed");
        }
    });
    Ok((local, task))
}
