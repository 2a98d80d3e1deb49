//! Traces, put together afterwards: a request is judged when it ends, and only of one that is
//! slow, failed, drawn or asked for by its caller spans are built, from its stage stamps and from
//! the marks of the shards, on every broker that had a part in it.
//!
//! Invariants: before it is judged a request costs stamps and marks, plain numbers in fixed
//! places; building and exporting happens on a thread of its own behind a bounded queue, and what
//! does not fit is dropped and counted; no broker thread ever waits for any of it.

mod context;
mod exemplars;
mod exporter;
mod keeper;
mod marks;
mod request;
mod slowest;
mod spans;
mod waterfall;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use model::limits;
use tokio::sync::mpsc;

pub use context::{Caller, TRACEPARENT, hex};
pub use exemplars::{Exemplar, at as exemplar};
pub use marks::{Mark, MarkKind, Marks, ring};
pub use request::{Api, Entry, Request, Verdict, Way, is_fault, is_on, judge};
pub use slowest::{PeerMs, RequestsPage, SlowView, page};
pub use spans::SpanRef;
pub use waterfall::{Fall, StageMs, Waterfall, record};

use crate::labels::DropKind;
use crate::{clock, metrics};

/// What is kept, and where it goes.
#[derive(Clone, Debug)]
pub struct Setup {
    pub broker: i32,
    /// `http://host:port` of a collector. `None`: nothing is exported.
    pub endpoint: Option<String>,
    /// A request that takes so long is kept.
    pub slow_ns: u64,
    /// One of so many is kept; 0: none.
    pub one_in: u64,
}

/// A leader's question: what did you do for this entry?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The request it belongs to.
    pub span: SpanRef,
    pub group: u64,
    pub index: u64,
}

/// An election that is over.
#[derive(Clone, Debug)]
pub struct Election {
    /// `election`, or `leadership_lost`.
    pub what: &'static str,
    /// When it was over, milliseconds since 1970, and how long it took.
    pub at_ms: i64,
    pub ms: u64,
    pub group: u64,
    pub name: String,
    pub reason: &'static str,
    pub outcome: Option<&'static str>,
    pub term_before: u64,
    pub term: u64,
    pub ms_since_leader: u64,
    pub rounds: u32,
    /// Who answered what, in words.
    pub ballots: Vec<String>,
    pub says: String,
}

/// What the keeper is told.
enum Note {
    Request {
        number: u64,
        ended_ns: u64,
        verdict: Verdict,
        span: Option<SpanRef>,
        request: Request,
    },
    Asked(Ask),
    Elected(Election),
}

static QUEUE: OnceLock<mpsc::Sender<Box<Note>>> = OnceLock::new();
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Begins to keep: once per process. `Err`: why it cannot.
pub fn start(setup: &Setup) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a runtime for traces: {error}"))?;
    let exporter = {
        let _inside = runtime.enter();
        setup.endpoint.as_deref().map(|at| exporter::build(at, setup.broker)).transpose()?
    };
    let (queue, notes) = mpsc::channel(limits::TRACE_QUEUE_MAX);
    QUEUE.set(queue).map_err(|_| "traces are kept already".to_owned())?;
    let exports = exporter.is_some();
    let run = move || runtime.block_on(keeper::run(notes, exporter));
    std::thread::Builder::new()
        .name("traces".into())
        .spawn(run)
        .map_err(|error| format!("cannot start a thread for traces: {error}"))?;
    slowest::switch_on();
    if exports {
        request::switch_on(setup.slow_ns, setup.one_in);
    }
    Ok(())
}

/// Keeps a request as it was judged. `Some`: the root of its trace, to ask other brokers with.
pub fn keep(verdict: Verdict, request: Request) -> Option<SpanRef> {
    let span = verdict.trace.map(|_| SpanRef::root());
    let (number, ended_ns) = (NUMBER.fetch_add(1, Ordering::Relaxed), clock::mono_ns());
    let kept = tell(Note::Request { number, ended_ns, verdict, span, request });
    if let (true, Some(why)) = (kept, verdict.trace) {
        metrics().requests_kept_total.at(why).inc();
    }
    span.filter(|_| kept)
}

/// A leader asks: answered with spans of this broker's own, if it exports any.
pub fn asked(ask: Ask) {
    if is_on() {
        tell(Note::Asked(ask));
    }
}

/// An election ended.
pub fn elected(election: impl FnOnce() -> Election) {
    if is_on() {
        tell(Note::Elected(election()));
    }
}

/// False: nobody listens, or too much waits.
fn tell(note: Note) -> bool {
    let Some(queue) = QUEUE.get() else { return false };
    let told = queue.try_send(Box::new(note)).is_ok();
    if !told {
        metrics().telemetry_dropped_total.at(DropKind::Trace).inc();
    }
    told
}

/// A produce request of such a duration, with such a sync, as the keeper notes it.
#[cfg(test)]
pub(crate) fn exemplars_for_tests(whole_ns: u64, fsync_ns: u64) {
    use crate::labels::ProduceStage;
    let mut stamps = crate::Stamps::<ProduceStage>::new(clock::mono_ns());
    let start_ns = stamps.start_ns();
    stamps.mark(ProduceStage::Fsync, start_ns + fsync_ns);
    stamps.mark(ProduceStage::Ack, start_ns + whole_ns);
    let request = Request {
        way: Way::Produce(stamps),
        topic: "t".into(),
        partition: 0,
        client: "c".into(),
        connection: 1,
        correlation: 1,
        version: 9,
        entry: Entry::default(),
        fault: None,
        caller: None,
        lease: None,
    };
    exemplars::note(&request, [9; 16], start_ns + whole_ns);
}
