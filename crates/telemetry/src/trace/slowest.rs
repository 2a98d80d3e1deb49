//! The slowest requests of the last minute, whole, and the waterfalls: what `/debug/requests`
//! shows.
//!
//! Invariants: only the keeper's thread and whoever reads the page take the lock here; the number
//! kept is bounded; no broker thread ever waits for either.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::limits;
use serde::Serialize;

use super::context::hex;
use super::request::{Api, FLOOR_NS, Request};
use super::waterfall::{StageMs, Totals, Waterfall, ms};
use crate::clock;

const MINUTE_NS: u64 = 60_000_000_000;
/// How often the totals are noted that a window begins with.
pub(super) const NOTE_EVERY_NS: u64 = 10_000_000_000;
const NOTES: usize = (MINUTE_NS / NOTE_EVERY_NS) as usize;

/// A request among the slowest.
struct Slow {
    number: u64,
    ended_ns: u64,
    wall_ms: i64,
    trace: Option<[u8; 16]>,
    request: Request,
    peers: Vec<PeerMs>,
}

/// How long a follower took to acknowledge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerMs {
    pub broker: i32,
    /// From the first message with the entry to the acknowledgement; `None`: it did not come.
    pub ms: Option<f64>,
}

struct Kept {
    slow: [Vec<Slow>; Api::ALL.len()],
    notes: VecDeque<(u64, Totals)>,
}

static KEPT: Mutex<Kept> =
    Mutex::new(Kept { slow: [Vec::new(), Vec::new()], notes: VecDeque::new() });

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests may be among the slowest from now on.
pub(super) fn switch_on() {
    FLOOR_NS.iter().for_each(|floor| floor.store(0, Ordering::Relaxed));
}

/// Takes a request in if it is slow enough.
pub(super) fn offer(number: u64, request: &Request, ended_ns: u64, trace: Option<[u8; 16]>) {
    let api = request.way.api();
    let age_ms = clock::mono_ns().saturating_sub(ended_ns) / 1_000_000;
    let slow = Slow {
        number,
        ended_ns,
        wall_ms: clock::wall_ms() - age_ms as i64,
        trace,
        request: request.clone(),
        peers: Vec::new(),
    };
    let mut kept = kept();
    let list = &mut kept.slow[api.index()];
    // The slowest first; of equals the later one goes.
    let at = list.partition_point(|other| other.busy_ns() >= slow.busy_ns());
    list.insert(at, slow);
    list.truncate(limits::TRACE_SLOWEST_MAX);
    set_floor(api, list);
}

impl Slow {
    fn busy_ns(&self) -> u64 {
        self.request.way.busy_ns()
    }
}

fn set_floor(api: Api, list: &[Slow]) {
    let full = list.len() == limits::TRACE_SLOWEST_MAX;
    let floor_ns = list.last().filter(|_| full).map_or(0, Slow::busy_ns);
    FLOOR_NS[api.index()].store(floor_ns, Ordering::Relaxed);
}

/// What became known of the followers of a request that was offered.
pub(super) fn set_peers(number: u64, peers: Vec<PeerMs>) {
    let mut kept = kept();
    let found = kept.slow.iter_mut().flatten().find(|slow| slow.number == number);
    if let Some(slow) = found {
        slow.peers = peers;
    }
}

/// Forgets what is older than a minute, and notes where the next window begins.
pub(super) fn note(now_ns: u64) {
    let totals = Totals::now();
    let mut kept = kept();
    for api in Api::ALL {
        let list = &mut kept.slow[api.index()];
        list.retain(|slow| now_ns.saturating_sub(slow.ended_ns) < MINUTE_NS);
        set_floor(*api, list);
    }
    kept.notes.push_back((now_ns, totals));
    while kept.notes.len() > NOTES {
        kept.notes.pop_front();
    }
}

/// What `/debug/requests` shows.
#[derive(Debug, Serialize)]
pub struct RequestsPage {
    /// What the numbers below are about.
    pub says: &'static str,
    pub window_seconds: f64,
    pub produce: Waterfall,
    pub fetch: Waterfall,
    /// Slowest first, at most so many of each API.
    pub slowest: Vec<SlowView>,
}

/// One request, whole.
#[derive(Clone, Debug, Serialize)]
pub struct SlowView {
    pub api: &'static str,
    pub version: i16,
    pub topic: String,
    pub partition: i32,
    pub client: String,
    /// The client's port, and its own number of the request: `glasslog blackbox --request`.
    pub connection: u16,
    pub correlation: i32,
    /// If its spans were exported.
    pub trace_id: Option<String>,
    pub error: Option<&'static str>,
    /// When it ended, milliseconds since 1970.
    pub at_ms: i64,
    pub total_ms: f64,
    pub stages: Vec<StageMs>,
    /// Of the entry it became.
    pub group: u64,
    pub index: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicate: Vec<PeerMs>,
}

const SAYS: &str = "p50 and p99: the mean of all requests of the window whose time lies in the \
    same bucket (a quarter of a power of two) as that quantile; stages add up. Fetches are ranked \
    by the time beyond their long poll's wait. slowest: of the last minute, each as it was.";

/// The page as of now.
pub fn page() -> RequestsPage {
    let (now_ns, totals) = (clock::mono_ns(), Totals::now());
    let kept = kept();
    let (begun_ns, window) = match kept.notes.front() {
        Some((at_ns, before)) => (*at_ns, totals.since(before)),
        None => (now_ns, totals),
    };
    let fresh = |slow: &&Slow| now_ns.saturating_sub(slow.ended_ns) < MINUTE_NS;
    let mut slowest: Vec<&Slow> = kept.slow.iter().flatten().filter(fresh).collect();
    slowest.sort_by_key(|slow| std::cmp::Reverse(slow.busy_ns()));
    RequestsPage {
        says: SAYS,
        window_seconds: ms(now_ns.saturating_sub(begun_ns)) / 1e3,
        produce: window.produce(),
        fetch: window.fetch(),
        slowest: slowest.into_iter().map(SlowView::of).collect(),
    }
}

impl SlowView {
    fn of(slow: &Slow) -> SlowView {
        let request = &slow.request;
        SlowView {
            api: request.way.api().as_str(),
            version: request.version,
            topic: request.topic.clone(),
            partition: request.partition,
            client: request.client.clone(),
            connection: request.connection,
            correlation: request.correlation,
            trace_id: slow.trace.map(|id| hex(&id)),
            error: request.fault.map(model::ErrorCode::as_str),
            at_ms: slow.wall_ms,
            total_ms: ms(request.way.whole_ns()),
            stages: request.way.stages_ms(),
            group: request.entry.group,
            index: request.entry.index,
            replicate: slow.peers.clone(),
        }
    }
}
