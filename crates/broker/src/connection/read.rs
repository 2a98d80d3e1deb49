//! The reading half: from the socket to queued work.
//!
//! Invariants: a frame's length is checked, then charged to the memory budget, then stored; a
//! connection whose charge waits reads nothing more, so its requests keep their order; no frame
//! asks for more than the budget can always grant.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::{ApiKey, limits};
use node::budget::{Budget, Charge};
use telemetry::labels::LogEvent;
use telemetry::{clock, log_limited, metrics};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use wire::frame::{LENGTH_BYTES, frame_length};

use super::{End, Refused};
use crate::authorize::Principal;
use crate::call::{Call, Flight, Shared, Stage};
use crate::dispatch::{self, Work};

/// Bytes of the API key, the first field of a request.
const API_KEY_BYTES: usize = 2;

/// Reads requests until the connection, or this broker's patience, ends. `End::Closed`: this
/// broker is draining.
pub(super) async fn requests(
    socket: OwnedReadHalf,
    listener: Arc<str>,
    shared: Arc<Shared>,
    queue: mpsc::Sender<Work>,
    unanswered: &AtomicUsize,
) -> End {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let peer = socket.peer_addr().unwrap_or(nowhere);
    let mut socket = BufReader::with_capacity(limits::CONNECTION_READ_BUFFER_BYTES, socket);
    loop {
        if let Err(end) = first_byte(&mut socket, &shared, unanswered).await {
            return end;
        }
        let (frame, charge) = match frame(&mut socket, &shared).await {
            Ok(frame) => frame,
            Err(end) => return end,
        };
        metrics().received_bytes_total.add((frame.len() + LENGTH_BYTES) as u64);
        let work = match begin(frame, charge, &listener, peer, &shared).await {
            Ok(work) => work,
            Err(refused) => return End::Refused(refused),
        };
        unanswered.fetch_add(1, Ordering::Relaxed);
        if queue.send(work).await.is_err() {
            return End::Client;
        }
    }
}

async fn begin(
    frame: Bytes,
    charge: Charge,
    listener: &Arc<str>,
    peer: SocketAddr,
    shared: &Arc<Shared>,
) -> Result<Work, Refused> {
    let started_ns = clock::mono_ns();
    let mut request = wire::decode_request(frame).map_err(Refused::Wire)?;
    let call = Call {
        shared: Arc::clone(shared),
        principal: Principal::Anonymous,
        listener: Arc::clone(listener),
        peer: peer.ip(),
        client_id: request.header.client_id.take().unwrap_or_default(),
        version: request.header.api_version,
        correlation_id: request.header.correlation_id,
        share: None,
        flight: Flight::begin(
            request.header.api_key,
            request.header.correlation_id,
            peer.port(),
            started_ns,
        ),
    };
    dispatch::begin(request, call, charge).await.map_err(Refused::Wire)
}

/// Waits for the next request to begin.
async fn first_byte(
    socket: &mut BufReader<OwnedReadHalf>,
    shared: &Shared,
    unanswered: &AtomicUsize,
) -> Result<(), End> {
    if shared.stage() != Stage::Open {
        return Err(End::Closed);
    }
    if !socket.buffer().is_empty() {
        return Ok(());
    }
    let idle = Duration::from_millis(shared.config.idle_ms);
    loop {
        let read = tokio::select! {
            read = timeout(idle, socket.fill_buf()) => read,
            () = shared.draining() => return Err(End::Closed),
        };
        match read {
            Ok(Ok([])) => return Err(End::Client),
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => return Err(End::Io(error)),
            // A client that waits for us is not idle.
            Err(_) if unanswered.load(Ordering::Relaxed) > 0 => {}
            Err(_) => return Err(End::Idle),
        }
    }
}

/// Reads one frame that has begun.
async fn frame(
    socket: &mut BufReader<OwnedReadHalf>,
    shared: &Shared,
) -> Result<(Bytes, Charge), End> {
    let mut prefix = [0; LENGTH_BYTES];
    let stall = Duration::from_millis(limits::FRAME_STALL_MS_MAX);
    match timeout(stall, socket.read_exact(&mut prefix)).await {
        Ok(read) => read.map_err(cut_short)?,
        Err(_) => return Err(End::Refused(Refused::Late)),
    };
    let length = frame_length(prefix, shared.config.request_bytes_max)
        .map_err(|error| End::Refused(Refused::Wire(error)))?;
    // The API's key comes first; what is waited for depends on it.
    let mut key = [0; API_KEY_BYTES];
    let known = API_KEY_BYTES.min(length);
    match timeout(stall, socket.read_exact(&mut key[..known])).await {
        Ok(read) => read.map_err(cut_short)?,
        Err(_) => return Err(End::Refused(Refused::Late)),
    };
    let produces = i16::from_be_bytes(key) == ApiKey::Produce as i16;
    let charge = charge(shared.node.budget(), length, produces).await;
    let patience_ms = limits::FRAME_MS_MAX + (length / limits::FRAME_BYTES_PER_MS_MIN) as u64;
    let whole_by = Instant::now() + Duration::from_millis(patience_ms);
    let mut frame = BytesMut::with_capacity(length);
    frame.extend_from_slice(&key[..known]);
    while frame.len() < length {
        let mut rest = (&mut *socket).take((length - frame.len()) as u64);
        let by = whole_by.min(Instant::now() + stall);
        match timeout_at(by, rest.read_buf(&mut frame)).await {
            Ok(Ok(0)) => return Err(End::Refused(Refused::CutShort)),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(cut_short(error)),
            Err(_) => return Err(End::Refused(Refused::Late)),
        }
    }
    Ok((frame.freeze(), charge))
}

/// Waits until the budget admits the frame. While producers wait, small requests of others
/// live on the reserve.
async fn charge(budget: &Budget, length: usize, produces: bool) -> Charge {
    let bytes = length.min(budget.limit() / limits::FRAME_BUDGET_DIVISOR);
    if let Some(charge) = budget.try_acquire(bytes) {
        return charge;
    }
    if !produces
        && length <= limits::SMALL_REQUEST_BYTES_MAX
        && let Some(charge) = budget.try_control(bytes)
    {
        return charge;
    }
    metrics().reads_paused_total.inc();
    log_limited!(warn, LogEvent::MemoryBudgetSpent, bytes, "a connection waits for memory");
    budget.acquire(bytes).await
}

fn cut_short(error: std::io::Error) -> End {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => End::Refused(Refused::CutShort),
        _ => End::Io(error),
    }
}
