//! The thread that keeps: the slowest requests, exemplars, and spans, for which it looks up what
//! the shards of this broker did.
//!
//! Invariants: what waits to be looked up is bounded in number and in tries; what nobody knows
//! any more is left out and counted.

use std::collections::VecDeque;
use std::time::Duration;

use model::limits;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::marks::Way as EntryWay;
use super::request::{Request, Verdict};
use super::slowest::{self, PeerMs};
use super::spans::{self, SpanRef, Writer};
use super::waterfall::ms;
use super::{Ask, Note, exemplars, exporter};
use crate::labels::DropKind;
use crate::{clock, metrics};

const LOOK_EVERY: Duration = Duration::from_millis(limits::TRACE_LOOK_MS);
const NOTE_EVERY: Duration = Duration::from_nanos(slowest::NOTE_EVERY_NS);
/// A follower is asked about entries of now; what is older was of another log.
const ASKED_AGE_NS: u64 = 60_000_000_000;

/// Runs as long as the process.
pub(super) async fn run(mut notes: mpsc::Receiver<Box<Note>>, exporter: Option<SpanExporter>) {
    let out = exporter.map(|exporter| {
        let (out, spans) = mpsc::channel(limits::TRACE_SPANS_MAX);
        // Ends with the channel; the runtime lives as long as this future.
        drop(crate::task::spawn("trace exporter", exporter::run(exporter, spans)));
        out
    });
    let mut keeper = Keeper { out, pending: VecDeque::new() };
    slowest::note(clock::mono_ns());
    let mut note_at = Instant::now() + NOTE_EVERY;
    loop {
        let next = keeper.pending.front().map_or(note_at, |pending| pending.due.min(note_at));
        tokio::select! {
            note = notes.recv() => match note {
                Some(note) => keeper.take(*note),
                None => return,
            },
            () = tokio::time::sleep_until(next) => {}
        }
        let now = Instant::now();
        keeper.look(now);
        if now >= note_at {
            slowest::note(clock::mono_ns());
            note_at = now + NOTE_EVERY;
        }
    }
}

struct Keeper {
    out: Option<mpsc::Sender<SpanData>>,
    /// By the time of the next look.
    pending: VecDeque<Pending>,
}

/// An entry whose way is not known to its end.
struct Pending {
    due: Instant,
    tries: u32,
    group: u64,
    index: u64,
    since_ns: u64,
    way: EntryWay,
    whose: Whose,
}

enum Whose {
    /// Led here, for a request: its number, and its span if it has one.
    Led(u64, Option<SpanRef>),
    /// A leader asked.
    Followed(SpanRef),
}

impl Keeper {
    fn take(&mut self, note: Note) {
        match note {
            Note::Request { number, ended_ns, verdict, span, request } => {
                self.request(number, ended_ns, verdict, span, &request);
            }
            Note::Asked(Ask { span, group, index }) => {
                let since_ns = clock::mono_ns().saturating_sub(ASKED_AGE_NS);
                self.follow(group, index, since_ns, Whose::Followed(span));
            }
            Note::Elected(election) => self.send([spans::election(election)]),
        }
    }

    fn request(
        &mut self,
        number: u64,
        ended_ns: u64,
        verdict: Verdict,
        span: Option<SpanRef>,
        request: &Request,
    ) {
        if verdict.slow {
            slowest::offer(number, request, ended_ns, span.map(|span| span.trace));
        }
        if let (Some(span), Some(why)) = (span, verdict.trace) {
            exemplars::note(request, span.trace, ended_ns);
            let mut writer = Writer::new(span);
            writer.request(request, why);
            self.send(writer.done());
        }
        let entry = request.entry;
        if entry.index > 0 {
            let whose = Whose::Led(number, span);
            self.follow(entry.group, entry.index, request.way.start_ns(), whose);
        }
    }

    /// Looks now, and again until all is known or it is given up.
    fn follow(&mut self, group: u64, index: u64, since_ns: u64, whose: Whose) {
        if self.pending.len() >= limits::TRACE_PENDING_MAX {
            return metrics().telemetry_dropped_total.at(DropKind::Trace).inc();
        }
        let way = EntryWay::look(group, index, since_ns);
        let (due, tries) = (Instant::now() + LOOK_EVERY, limits::TRACE_LOOKS_MAX);
        let pending = Pending { due, tries, group, index, since_ns, way, whose };
        self.settle(pending);
    }

    fn look(&mut self, now: Instant) {
        while self.pending.front().is_some_and(|pending| pending.due <= now) {
            let Some(mut pending) = self.pending.pop_front() else { return };
            let again = EntryWay::look(pending.group, pending.index, pending.since_ns);
            pending.way = again.or(std::mem::take(&mut pending.way));
            pending.tries -= 1;
            pending.due = now + LOOK_EVERY;
            self.settle(pending);
        }
    }

    /// Tells what is known once that is all, or puts it off.
    fn settle(&mut self, pending: Pending) {
        let whole = match pending.whose {
            Whose::Led(..) => pending.way.is_led(),
            Whose::Followed(_) => pending.way.is_followed(),
        };
        if !whole && pending.tries > 0 {
            return self.pending.push_back(pending);
        }
        let Pending { group, index, way, whose, .. } = pending;
        let (span, spans) = match whose {
            Whose::Led(number, span) => {
                slowest::set_peers(number, peers(&way));
                let Some(span) = span else { return };
                let mut writer = Writer::new(span);
                writer.led(&way, clock::mono_ns());
                (span, writer)
            }
            Whose::Followed(span) => {
                let mut writer = Writer::new(span);
                writer.followed(&way, group, index);
                (span, writer)
            }
        };
        let spans = spans.done();
        if spans.is_empty() {
            let trace = super::hex(&span.trace);
            crate::tracing::debug!(group, index, trace, "no shard remembers the entry of a trace");
            metrics().telemetry_dropped_total.at(DropKind::Trace).inc();
        }
        self.send(spans);
    }

    fn send(&self, spans: impl IntoIterator<Item = SpanData>) {
        let Some(out) = &self.out else { return };
        for span in spans {
            if out.try_send(span).is_err() {
                metrics().telemetry_dropped_total.at(DropKind::Span).inc();
            }
        }
    }
}

fn peers(way: &EntryWay) -> Vec<PeerMs> {
    let took = |(broker, sent_ns, acked_ns): &(i32, u64, Option<u64>)| PeerMs {
        broker: *broker,
        ms: acked_ns.map(|acked_ns| ms(acked_ns.saturating_sub(*sent_ns))),
    };
    way.peers.iter().map(took).collect()
}
