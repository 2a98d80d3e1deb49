//! One request on its way: what a handler may use, and what is observed about it.
//!
//! Invariant: a request is observed exactly once, also when its connection dies under it.

use std::net::IpAddr;
use std::sync::Arc;

use model::{ApiKey, ErrorCode, GroupId, limits};
use node::Node;
use telemetry::labels::{FetchStage, InflightStage, Outcome, ProduceStage};
use telemetry::trace::{self, Caller, Entry, Verdict, Way};
use telemetry::{InFlight, Stamps, clock, probe};
use tokio::sync::watch;
use wire::Frame;

use crate::BrokerConfig;
use crate::authorize::{Authorizer, Principal};
use crate::responses::{ResponsePool, Share};

/// How far this broker is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Open,
    /// No new requests; those that were read are answered.
    Draining,
    /// Connections end, answered or not.
    Closed,
}

/// What all connections share.
pub(crate) struct Shared {
    pub node: Arc<Node>,
    pub config: BrokerConfig,
    pub authorizer: Authorizer,
    pub responses: Arc<ResponsePool>,
    pub stage: watch::Receiver<Stage>,
}

/// One request: its surroundings, its memory and its stamps.
pub(crate) struct Call {
    pub shared: Arc<Shared>,
    pub principal: Principal,
    /// Name of the listener the client came through.
    pub listener: Arc<str>,
    /// Where the client's connection comes from.
    pub peer: IpAddr,
    /// As the client names itself; may be empty.
    pub client_id: String,
    pub version: i16,
    pub correlation_id: i32,
    /// Bytes of the reply, until they are written.
    pub share: Option<Share>,
    pub flight: Flight,
}

/// Stage stamps of the APIs that have stages.
pub(crate) enum Stamped {
    Produce(Stamps<ProduceStage>),
    Fetch(Stamps<FetchStage>),
    Other,
}

/// The observed half of a request; observes when dropped.
pub(crate) struct Flight {
    pub api: ApiKey,
    pub stamps: Stamped,
    /// Abandoned until somebody says otherwise.
    pub outcome: Outcome,
    started_ns: u64,
    inflight: InFlight,
    /// How the client names it.
    correlation: i32,
    /// The client's port.
    connection: u16,
    /// The flight recorder knows of its begin.
    told: bool,
    pub traced: Traced,
}

/// What a trace of the request would tell beside its stages.
#[derive(Default)]
pub(crate) struct Traced {
    /// Who caused it, as the first record that says so has it.
    pub caller: Option<Caller>,
    /// Of the slowest part of a produce; of a fetch only the group, of its first partition.
    pub entry: Entry,
    /// The first error that was not the asker's.
    pub fault: Option<ErrorCode>,
    /// When a fetch asked whether this broker still leads, and was told.
    pub lease: Option<(u64, u64)>,
}

/// What the writer sends, and does, in this request's turn.
pub(crate) struct Reply {
    /// `None`: acks=0, nobody waits.
    pub frame: Option<Frame>,
    /// The connection ends behind this reply.
    pub close: bool,
    pub outcome: Outcome,
    pub call: Call,
}

impl Shared {
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Returns once this broker is draining.
    pub async fn draining(&self) {
        let mut stage = self.stage.clone();
        // The sender lives in the handle; without it nobody can drain us any more.
        if stage.wait_for(|stage| *stage >= Stage::Draining).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Flight {
    pub fn begin(api: ApiKey, correlation: i32, connection: u16, started_ns: u64) -> Flight {
        let (stage, stamps) = match api {
            ApiKey::Produce => {
                (InflightStage::ProduceParse, Stamped::Produce(Stamps::new(started_ns)))
            }
            ApiKey::Fetch => (InflightStage::FetchParse, Stamped::Fetch(Stamps::new(started_ns))),
            _ => (InflightStage::Other, Stamped::Other),
        };
        let inflight = InFlight::begin(stage, started_ns);
        let told = probe::request_begun(api, correlation, connection);
        let (outcome, traced) = (Outcome::Abandoned, Traced::default());
        Flight { api, stamps, outcome, started_ns, inflight, correlation, connection, told, traced }
    }

    /// A stage of a fetch ended; the next one is what it now waits for.
    pub fn fetch_passed(&mut self, stage: FetchStage) {
        let now_ns = clock::mono_ns();
        if let Stamped::Fetch(stamps) = &mut self.stamps {
            stamps.mark(stage, now_ns);
        }
        let next = match stage {
            FetchStage::Parse => InflightStage::FetchWait,
            FetchStage::Wait => InflightStage::FetchRead,
            FetchStage::Read | FetchStage::Send => InflightStage::FetchSend,
        };
        self.inflight.stage(next, now_ns);
    }

    /// What a produce request waits for now.
    pub fn produce_waits(&mut self, passed: ProduceStage, next: InflightStage) {
        let now_ns = clock::mono_ns();
        if let Stamped::Produce(stamps) = &mut self.stamps {
            stamps.mark(passed, now_ns);
        }
        self.inflight.stage(next, now_ns);
    }

    /// The last byte of the reply is in the socket.
    pub fn sent(&mut self, outcome: Outcome) {
        let now_ns = clock::mono_ns();
        self.outcome = outcome;
        match &mut self.stamps {
            Stamped::Produce(stamps) => {
                stamps.mark(ProduceStage::Ack, now_ns);
                probe::produced(stamps);
            }
            Stamped::Fetch(stamps) => {
                stamps.mark(FetchStage::Send, now_ns);
                probe::fetched(stamps);
            }
            Stamped::Other => {}
        }
    }
}

impl Call {
    /// The last byte of the reply is in the socket: the request is observed, judged, and if it is
    /// worth it, kept.
    pub fn sent(&mut self, outcome: Outcome) {
        self.flight.sent(outcome);
        let way = match self.flight.stamps {
            Stamped::Produce(stamps) => Way::Produce(stamps),
            Stamped::Fetch(stamps) => Way::Fetch(stamps),
            Stamped::Other => return,
        };
        let traced = &self.flight.traced;
        let verdict = trace::judge(&way, traced.fault.is_some(), traced.caller.as_ref());
        if verdict.is_wanted() {
            self.keep(way, verdict);
        }
    }

    #[cold]
    fn keep(&mut self, way: Way, verdict: Verdict) {
        let (node, traced) = (&self.shared.node, &self.flight.traced);
        let (group, index) = (GroupId(traced.entry.group), traced.entry.index);
        let image = node.image();
        let place = image.partition_of(group);
        let (topic, partition) =
            place.map_or((String::new(), -1), |(topic, p)| (topic.name.clone(), p.index));
        let span = trace::keep(
            verdict,
            trace::Request {
                way,
                topic,
                partition,
                client: std::mem::take(&mut self.client_id),
                connection: self.flight.connection,
                correlation: self.correlation_id,
                version: self.version,
                entry: traced.entry,
                fault: traced.fault,
                caller: traced.caller,
                lease: traced.lease,
            },
        );
        if let Some(span) = span
            && index > 0
        {
            node.ask_for_spans(span, group, index);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let ns = clock::mono_ns().saturating_sub(self.started_ns);
        probe::request_done(self.api, self.outcome, ns);
        // A fetch may wait as long as it asked to.
        let odd = self.outcome != Outcome::Ok
            || (ns >= limits::FLIGHT_SLOW_WORK_NS && self.api != ApiKey::Fetch);
        if self.told || odd {
            probe::request_ended(self.api, self.correlation, self.connection, self.outcome, ns);
        }
    }
}

/// Counts the codes of one reply and says how it ended.
#[derive(Default)]
pub(crate) struct Codes {
    errors: usize,
    fault: Option<ErrorCode>,
}

impl Codes {
    pub fn add(&mut self, code: ErrorCode) {
        if code.is_err() {
            self.errors += 1;
            probe::error_code(code);
            if self.fault.is_none() && trace::is_fault(code) {
                self.fault = Some(code);
            }
        }
    }

    /// The first error that was not the asker's.
    pub fn fault(&self) -> Option<ErrorCode> {
        self.fault
    }

    pub fn outcome(&self) -> Outcome {
        if self.errors == 0 { Outcome::Ok } else { Outcome::Error }
    }
}
