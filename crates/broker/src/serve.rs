//! Listeners: they accept, count, and hand each connection to a task of its own.
//!
//! Invariants: all ports are bound before anything is accepted; a connection above a limit is
//! closed at once; a panic in a connection ends that connection and is counted; draining ends
//! in the time it was given.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use model::limits;
use node::Node;
use telemetry::labels::{LogEvent, Loop, PanicRoom, Phase};
use telemetry::probe::ConnectionProbe;
use telemetry::{Beat, log_limited, metrics};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::authorize::Authorizer;
use crate::call::{Shared, Stage};
use crate::responses::ResponsePool;
use crate::seats::{Seat, Seats};
use crate::{BrokerConfig, connection};

/// Why the Kafka side of a broker could not start; one line each.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("no listener is configured")]
    NoListener,
    #[error("listener {name} cannot listen on {bind}: {source}")]
    Bind { name: String, bind: String, source: std::io::Error },
}

/// The running Kafka side. Dropping it closes every connection.
pub struct Handle {
    local_addrs: Vec<SocketAddr>,
    acceptors: Vec<JoinHandle<()>>,
    stage: watch::Sender<Stage>,
    seats: Arc<Seats>,
}

/// Binds every listener and starts to accept. Call it inside a tokio runtime.
pub fn serve(config: BrokerConfig, node: Arc<Node>) -> Result<Handle, ServeError> {
    if config.listeners.is_empty() {
        return Err(ServeError::NoListener);
    }
    let mut bound = Vec::new();
    for listener in &config.listeners {
        let socket = bind(&listener.bind).map_err(|source| ServeError::Bind {
            name: listener.name.clone(),
            bind: listener.bind.clone(),
            source,
        })?;
        bound.push((Arc::<str>::from(listener.name.as_str()), socket));
    }
    let local_addrs = bound.iter().filter_map(|(_, socket)| socket.local_addr().ok()).collect();
    let (stage, seen) = watch::channel(Stage::Open);
    let seats = Arc::new(Seats::new(config.connections_max_per_ip));
    let shared = Arc::new(Shared {
        node,
        config,
        authorizer: Authorizer,
        responses: ResponsePool::new(limits::RESPONSE_BYTES_MAX),
        stage: seen,
    });
    let acceptors = bound.into_iter().enumerate().map(|(at, (name, socket))| {
        let accept = accept(at as u16, name, socket, Arc::clone(&shared), Arc::clone(&seats));
        telemetry::task::spawn("acceptor", accept)
    });
    Ok(Handle { local_addrs, acceptors: acceptors.collect(), stage, seats })
}

fn bind(address: &str) -> std::io::Result<TcpListener> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let socket = std::net::TcpListener::bind(&addresses[..])?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

impl Handle {
    /// Where the listeners listen, in the order of the configuration.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Open client connections.
    pub fn connections(&self) -> usize {
        self.seats.taken()
    }

    /// No new connections from here on; the ports are free a moment later.
    pub fn stop_accepting(&self) {
        self.acceptors.iter().for_each(JoinHandle::abort);
    }

    /// Answers what was read, reads nothing more, and closes; after `within` it closes anyway.
    /// Returns how many connections were cut off.
    pub async fn drain(&self, within: Duration) -> usize {
        self.stop_accepting();
        self.stage.send_replace(Stage::Draining);
        let gone = async {
            // A port is free once its task has ended.
            while !self.acceptors.iter().all(JoinHandle::is_finished) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            self.seats.empty().await;
        };
        if tokio::time::timeout(within, gone).await.is_ok() {
            return 0;
        }
        let cut = self.connections();
        self.stage.send_replace(Stage::Closed);
        cut
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop_accepting();
        self.stage.send_replace(Stage::Closed);
    }
}

async fn accept(
    at: u16,
    listener: Arc<str>,
    socket: TcpListener,
    shared: Arc<Shared>,
    seats: Arc<Seats>,
) {
    let beat = Beat::task(Loop::Acceptor, at);
    loop {
        beat.idle();
        let accepted = socket.accept().await;
        beat.phase(Phase::Connect);
        match accepted {
            Ok((stream, peer)) => match seats.take(peer.ip(), connections_max(&shared)) {
                Ok(seat) => {
                    let served = connected(stream, peer, listener.clone(), shared.clone(), seat);
                    telemetry::task::spawn("connection", served);
                }
                Err(full) => {
                    ConnectionProbe::refused(full.outcome());
                    let event = LogEvent::ConnectionRefused;
                    log_limited!(warn, event, %peer, %full, "refused a connection");
                }
            },
            Err(error) => {
                log_limited!(warn, LogEvent::ConnectionFailed, %listener, %error, "accept failed");
                beat.idle();
                tokio::time::sleep(Duration::from_millis(limits::ACCEPT_RETRY_MS)).await;
            }
        }
    }
}

/// `max.connections`, as set while running or at the start.
fn connections_max(shared: &Shared) -> usize {
    let image = shared.node.image();
    let own = image.broker_configs(Some(shared.node.broker_id())).get("max.connections");
    let set = own.or_else(|| image.broker_configs(None).get("max.connections"));
    set.and_then(|max| max.trim().parse().ok()).unwrap_or(shared.config.connections_max)
}

async fn connected(
    stream: TcpStream,
    peer: SocketAddr,
    listener: Arc<str>,
    shared: Arc<Shared>,
    seat: Seat,
) {
    let _panics = CountPanic;
    let mut probe = ConnectionProbe::opened();
    let mut stage = shared.stage.clone();
    let ended = tokio::select! {
        ended = connection::run(stream, peer, listener, shared) => ended,
        _ = stage.wait_for(|stage| *stage == Stage::Closed) => connection::End::Closed,
    };
    probe.ends(ended.outcome());
    drop(seat);
}

/// A handler's panic unwinds through its connection's task, which tokio contains.
struct CountPanic;

impl Drop for CountPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            metrics().panics_total.at(PanicRoom::Handler).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_one_clear_line() {
        let taken = bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let source = bind(&address).unwrap_err();
        let error = ServeError::Bind { name: "INSIDE".into(), bind: address, source };
        let line = error.to_string();
        assert!(
            line.contains("INSIDE") && line.contains("in use") && !line.contains('\n'),
            "{line}"
        );
    }
}
