//! Spans, built afterwards from stamps and marks with explicit times.
//!
//! Invariants: times are this broker's own, turned into wall time once per trace, so the spans of
//! one broker keep their distances and nothing is computed across brokers; the children of a
//! request that carry `glasslog.stage` add up to it, exactly.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData};

use super::Election;
use super::context::Caller;
use super::marks::Way as EntryWay;
use super::request::{Api, Request};
use crate::clock;
use crate::labels::KeptWhy;

/// A span others can hang theirs below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanRef {
    pub trace: [u8; 16],
    pub span: [u8; 8],
}

impl SpanRef {
    /// The root of a new trace.
    pub fn root() -> SpanRef {
        let ids = RandomIdGenerator::default();
        SpanRef { trace: ids.new_trace_id().to_bytes(), span: ids.new_span_id().to_bytes() }
    }
}

/// Turns this broker's times into wall time.
#[derive(Clone, Copy)]
pub(super) struct WallClock {
    mono_ns: u64,
    wall_ns: u64,
}

impl WallClock {
    pub fn now() -> WallClock {
        WallClock { mono_ns: clock::mono_ns(), wall_ns: clock::wall_ns() }
    }

    fn at(&self, mono_ns: u64) -> SystemTime {
        let age_ns = self.mono_ns.saturating_sub(mono_ns);
        UNIX_EPOCH + Duration::from_nanos(self.wall_ns.saturating_sub(age_ns))
    }
}

/// Writes the spans of one trace.
pub(super) struct Writer {
    clock: WallClock,
    root: SpanRef,
    out: Vec<SpanData>,
}

/// One span before it has a parent.
struct Draft {
    name: Cow<'static, str>,
    kind: SpanKind,
    start_ns: u64,
    end_ns: u64,
    attributes: Vec<KeyValue>,
}

impl Draft {
    fn new(name: impl Into<Cow<'static, str>>, start_ns: u64, end_ns: u64) -> Draft {
        let (kind, attributes) = (SpanKind::Internal, Vec::new());
        Draft { name: name.into(), kind, start_ns, end_ns, attributes }
    }

    fn with(mut self, key: &'static str, value: impl Into<Value>) -> Draft {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    fn of(mut self, kind: SpanKind) -> Draft {
        self.kind = kind;
        self
    }
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("glasslog").with_version(env!("CARGO_PKG_VERSION")).build()
}

impl Writer {
    pub fn new(root: SpanRef) -> Writer {
        Writer { clock: WallClock::now(), root, out: Vec::new() }
    }

    pub fn done(self) -> Vec<SpanData> {
        self.out
    }

    fn data(&self, draft: Draft, id: SpanId, parent: SpanId, remote: bool) -> SpanData {
        let trace = TraceId::from_bytes(self.root.trace);
        let context =
            SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::default());
        SpanData {
            span_context: context,
            parent_span_id: parent,
            parent_span_is_remote: remote,
            span_kind: draft.kind,
            name: draft.name,
            start_time: self.clock.at(draft.start_ns),
            end_time: self.clock.at(draft.end_ns.max(draft.start_ns)),
            attributes: draft.attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: Status::Unset,
            instrumentation_scope: scope(),
        }
    }

    fn below(&mut self, parent: SpanId, draft: Draft) -> SpanId {
        let id = RandomIdGenerator::default().new_span_id();
        let data = self.data(draft, id, parent, false);
        self.out.push(data);
        id
    }

    fn own(&self) -> SpanId {
        SpanId::from_bytes(self.root.span)
    }

    /// The request and its stages.
    pub fn request(&mut self, request: &Request, why: KeptWhy) {
        let start_ns = request.way.start_ns();
        let draft = request_draft(request, why);
        let mut data = self.data(draft, self.own(), SpanId::INVALID, false);
        if let Some(caller) = &request.caller {
            data.links.links.push(link(caller));
        }
        if let Some(fault) = request.fault {
            data.attributes.push(KeyValue::new("error.type", fault.as_str()));
            data.status = Status::error(fault.as_str());
        }
        self.out.push(data);
        let mut reached_ns = start_ns;
        let mut read = None;
        for (stage, ns) in request.way.stages() {
            let draft = Draft::new(stage_name(stage), reached_ns, reached_ns + ns);
            reached_ns += ns;
            let id = self.below(self.own(), draft.with("glasslog.stage", stage));
            if stage == "read" {
                read = Some(id);
            }
        }
        if let (Some(read), Some((start_ns, end_ns))) = (read, request.lease) {
            self.below(read, Draft::new("lease.check", start_ns, end_ns));
        }
    }

    /// What the leader's shard did for the entry, and each follower's acknowledgement.
    /// `looked_ns`: until then one was waited for in vain.
    pub fn led(&mut self, way: &EntryWay, looked_ns: u64) {
        if let Some((start_ns, end_ns)) = way.handed {
            self.below(self.own(), Draft::new("raft.turn", start_ns, end_ns));
        }
        for (broker, sent_ns, acked_ns) in &way.peers {
            let end_ns = acked_ns.unwrap_or(looked_ns);
            let draft = Draft::new("replicate", *sent_ns, end_ns).of(SpanKind::Client);
            let draft = draft
                .with("glasslog.peer.id", i64::from(*broker))
                .with("glasslog.acknowledged", acked_ns.is_some());
            self.below(self.own(), draft);
        }
        self.applied(self.own(), way);
    }

    /// What a follower did for the entry: a span below the leader's request, with its parts.
    pub fn followed(&mut self, way: &EntryWay, group: u64, index: u64) {
        let Some((turn_ns, handed_ns)) = way.handed else { return };
        let start_ns = way.received.map_or(turn_ns, |(at_ns, _)| at_ns);
        let durable_ns = way.durable.map(|(_, at_ns)| at_ns);
        let end_ns = way.answered.or(durable_ns).unwrap_or(handed_ns);
        let mut draft = Draft::new("replica", start_ns, end_ns)
            .of(SpanKind::Server)
            .with("glasslog.group", int(group))
            .with("glasslog.index", int(index));
        if let Some((_, leader)) = way.received {
            draft = draft.with("glasslog.leader.id", i64::from(leader));
        }
        let id = RandomIdGenerator::default().new_span_id();
        let data = self.data(draft, id, self.own(), true);
        self.out.push(data);
        self.below(id, Draft::new("append", start_ns, handed_ns));
        if let Some((written_ns, durable_ns)) = way.durable {
            self.below(id, Draft::new("journal.append", handed_ns, written_ns));
            self.below(id, Draft::new("journal.fsync", written_ns, durable_ns));
            if let Some(answered_ns) = way.answered {
                self.below(id, Draft::new("ack", durable_ns, answered_ns));
            }
        }
        self.applied(id, way);
    }

    fn applied(&mut self, parent: SpanId, way: &EntryWay) {
        if let Some((start_ns, end_ns, entries)) = way.applied {
            let draft = Draft::new("apply.batch", start_ns, end_ns);
            self.below(parent, draft.with("glasslog.entries", int(entries)));
        }
    }
}

fn stage_name(stage: &'static str) -> &'static str {
    match stage {
        "journal_append" => "journal.append",
        "fsync" => "journal.fsync",
        // `replicate` is what one peer took; this is what the request waited for them.
        "replicate" => "replicate.wait",
        other => other,
    }
}

/// Names and attributes follow OpenTelemetry's conventions for messaging and for Kafka.
fn request_draft(request: &Request, why: KeptWhy) -> Draft {
    let (name, kind) = match request.way.api() {
        Api::Produce => ("produce", "send"),
        Api::Fetch => ("fetch", "receive"),
    };
    let start_ns = request.way.start_ns();
    let draft = Draft::new(
        format!("{name} {}", request.topic),
        start_ns,
        start_ns + request.way.whole_ns(),
    );
    let mut draft = draft
        .of(SpanKind::Server)
        .with("messaging.system", "kafka")
        .with("messaging.operation.name", name)
        .with("messaging.operation.type", kind)
        .with("messaging.destination.name", request.topic.clone())
        .with("messaging.destination.partition.id", request.partition.to_string())
        .with("messaging.client.id", request.client.clone())
        .with("network.peer.port", i64::from(request.connection))
        .with("glasslog.correlation_id", i64::from(request.correlation))
        .with("glasslog.api.version", i64::from(request.version))
        .with("glasslog.kept", why.as_str());
    if request.entry.index > 0 {
        draft = draft
            .with("messaging.kafka.offset", request.entry.base_offset)
            .with("glasslog.group", int(request.entry.group))
            .with("glasslog.index", int(request.entry.index))
            .with("glasslog.term", int(request.entry.term));
    }
    draft
}

fn link(caller: &Caller) -> Link {
    let flags = if caller.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    Link::with_context(SpanContext::new(
        TraceId::from_bytes(caller.trace),
        SpanId::from_bytes(caller.span),
        flags,
        true,
        TraceState::default(),
    ))
}

/// An election, or a leadership that was lost, as a trace of its own.
pub(super) fn election(election: Election) -> SpanData {
    let writer = Writer::new(SpanRef::root());
    let end = UNIX_EPOCH + Duration::from_millis(u64::try_from(election.at_ms).unwrap_or(0));
    let draft = Draft::new(election.what, 0, 0)
        .with("glasslog.group", int(election.group))
        .with("glasslog.group.name", election.name)
        .with("glasslog.election.reason", election.reason)
        .with("glasslog.election.outcome", election.outcome.unwrap_or("none"))
        .with("glasslog.term", int(election.term))
        .with("glasslog.term.before", int(election.term_before))
        .with("glasslog.election.rounds", i64::from(election.rounds))
        .with("glasslog.leader.silent_ms", int(election.ms_since_leader))
        .with("glasslog.says", election.says);
    let ballots = election.ballots.into_iter().map(StringValue::from).collect();
    let draft = draft.with("glasslog.election.ballots", Value::Array(Array::String(ballots)));
    let mut data = writer.data(draft, writer.own(), SpanId::INVALID, false);
    data.start_time = end - Duration::from_millis(election.ms);
    data.end_time = end;
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::ProduceStage;
    use crate::stamps::Stamps;
    use crate::trace::request::{Entry, Way};

    fn request() -> Request {
        let mut stamps = Stamps::<ProduceStage>::new(clock::mono_ns() - 50_000_000);
        let start = stamps.start_ns();
        for (stage, at) in ProduceStage::ALL.iter().zip([1, 3, 4, 9, 7, 30, 31, 32, 40]) {
            stamps.mark(*stage, start + at * 1_000_000);
        }
        Request {
            way: Way::Produce(stamps),
            topic: "t".into(),
            partition: 3,
            client: "c".into(),
            connection: 40_000,
            correlation: 7,
            version: 9,
            entry: Entry { group: 5, index: 11, term: 2, base_offset: 90 },
            fault: None,
            caller: Some(Caller { trace: [7; 16], span: [8; 8], sampled: true }),
            lease: None,
        }
    }

    fn took(span: &SpanData) -> Duration {
        span.end_time.duration_since(span.start_time).unwrap()
    }

    #[test]
    fn the_stages_of_a_produce_are_its_children_and_add_up() {
        let root = SpanRef::root();
        let mut writer = Writer::new(root);
        writer.request(&request(), KeptWhy::Caller);
        let spans = writer.done();
        let (whole, parts) = spans.split_first().unwrap();
        assert_eq!((whole.name.as_ref(), took(whole)), ("produce t", Duration::from_millis(40)));
        assert_eq!(whole.links.links[0].span_context.trace_id(), TraceId::from_bytes([7; 16]));
        assert!(parts.iter().all(|span| span.parent_span_id == whole.span_context.span_id()));
        assert_eq!(parts.iter().map(took).sum::<Duration>(), took(whole));
        let names: Vec<_> = parts.iter().map(|span| span.name.as_ref()).collect();
        let wanted = [
            "parse",
            "queue",
            "propose",
            "journal.append",
            "journal.fsync",
            "replicate.wait",
            "commit",
            "apply",
            "ack",
        ];
        assert_eq!(names, wanted);
        for pair in parts.windows(2) {
            assert_eq!(pair[0].end_time, pair[1].start_time);
        }
    }

    #[test]
    fn a_follower_hangs_its_own_spans_below_the_leaders_request() {
        let root = SpanRef::root();
        let mut writer = Writer::new(root);
        let mut way = EntryWay::default();
        (way.received, way.handed) = (Some((1_000, 1)), Some((900, 2_000)));
        (way.durable, way.answered) = (Some((3_000, 4_000)), Some(4_500));
        way.applied = Some((9_000, 9_100, 1));
        writer.followed(&way, 5, 11);
        let spans = writer.done();
        assert_eq!(spans[0].parent_span_id, SpanId::from_bytes(root.span));
        assert!(spans[0].parent_span_is_remote);
        let names: Vec<_> = spans[1..].iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["append", "journal.append", "journal.fsync", "ack", "apply.batch"]);
        let id = spans[0].span_context.span_id();
        assert!(spans[1..].iter().all(|span| span.parent_span_id == id));
        // Nothing of it was seen: nothing is said.
        let mut silent = Writer::new(root);
        silent.followed(&EntryWay::default(), 5, 11);
        assert!(silent.done().is_empty());
    }

    #[test]
    fn a_silent_follower_is_told_as_such() {
        let mut writer = Writer::new(SpanRef::root());
        let mut way = EntryWay::default();
        way.peers = vec![(2, 100, Some(200)), (3, 100, None)];
        writer.led(&way, 900);
        let spans = writer.done();
        let acknowledged = |span: &SpanData| {
            let found =
                span.attributes.iter().find(|kv| kv.key.as_str() == "glasslog.acknowledged");
            found.map(|kv| kv.value.clone())
        };
        let told: Vec<_> = spans.iter().map(|s| (took(s).as_nanos(), acknowledged(s))).collect();
        assert_eq!(told, [(100, Some(true.into())), (800, Some(false.into()))]);
    }
}
