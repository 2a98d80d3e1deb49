//! Events become counters and log lines here, each kind in one match; nothing else in this crate counts
//! what the pure core did.

mod journal;
mod raft;

use std::sync::Arc;
use std::time::Duration;

use consensus::eraftpb::Message;
use machine::groups::lead::{Observed, RebalanceReason};
use model::{BrokerId, GroupId, Now, limits};
use telemetry::flight::{self, DumpReason, PeerChange, kinds};
use telemetry::labels::{
    BlockedBy, Direction, InputKind, Invariant, LogEvent, MembershipStep, MessageOutcome,
    MessageRefusal, MessageType as MessageLabel, PanicRoom, Phase, RebalanceWhy, StepOutcome,
};
use telemetry::{Beat, Local, LocalHistogram, clock, log_limited, metrics};

pub use self::journal::{JournalObserver, io_op};
use self::raft::{consensus_event, message_label};
use crate::plumbing::Plumbing;
use crate::postmortem::Coroner;
use crate::shard::{Event, HeldWhy, Input, RaftOut};
use crate::traces::{self, Marker};

/// An ordinary event that other brokers' records need not match: beyond so many a second none of
/// its kind is recorded.
pub const UNSAMPLED: u64 = 1;

/// What one shard's driver observes with.
pub struct Observer {
    status_at_ns: u64,
    plumbing: Arc<Plumbing>,
    coroner: Coroner,
    /// Nanoseconds that the steps of this turn took.
    step_ns: u64,
    second: Second,
    times: Times,
    /// What traces are put together from.
    pub marker: Marker,
}

/// This thread's own shares of the histograms that every turn moves.
struct Times {
    step: Local<InputKind>,
    inputs: LocalHistogram,
}

impl Default for Times {
    fn default() -> Self {
        Times { step: metrics().step_seconds.local(), inputs: metrics().turn_inputs.local() }
    }
}

/// What the flight recorder is told once a second: an idle broker's ring must not be full of
/// heartbeats.
#[derive(Default)]
struct Second {
    told_ns: u64,
    longest_ns: u64,
    turns: u32,
    inputs: u32,
    beats_sent: u32,
    beats_received: u32,
}

const SECOND_NS: u64 = 1_000_000_000;

impl Observer {
    pub fn new(now: Now, shard: usize, plumbing: Arc<Plumbing>) -> Observer {
        let (coroner, second) = (Coroner::new(plumbing.own, shard), Second::default());
        let (status_at_ns, marker) = (now.boot_ns, Marker::default());
        let times = Times::default();
        Observer { status_at_ns, plumbing, coroner, step_ns: 0, second, times, marker }
    }

    /// A step ended at `now_ns` ([`clock::mono_ns`]).
    pub fn stepped(&mut self, kind: InputKind, now_ns: u64, took_ns: u64) {
        self.step_ns += took_ns;
        self.times.step.observe(kind, took_ns);
        self.coroner.stepped(now_ns, kind, took_ns);
    }

    /// A turn is over; when its flush began, its outputs were carried out, and it ended
    /// ([`clock::mono_ns`]).
    pub fn turn(&mut self, inputs: usize, [flush, carry, end]: [u64; 3]) {
        self.times.inputs.observe(inputs as u64);
        let step_ns = std::mem::take(&mut self.step_ns);
        let (flush_ns, carry_ns) = (carry.saturating_sub(flush), end.saturating_sub(carry));
        let whole_ns = step_ns + flush_ns + carry_ns;
        if whole_ns >= limits::FLIGHT_SLOW_TURN_NS {
            kinds::turn(step_ns, flush_ns, carry_ns, inputs as u32);
        }
        let second = &mut self.second;
        second.longest_ns = second.longest_ns.max(whole_ns);
        second.turns += 1;
        second.inputs += inputs as u32;
        if end.saturating_sub(second.told_ns) >= SECOND_NS {
            let Second { longest_ns, turns, inputs, beats_sent, beats_received, .. } = *second;
            kinds::turns(longest_ns, turns, inputs, beats_sent, beats_received);
            *second = Second { told_ns: end, ..Second::default() };
        }
    }

    /// An input is about to be stepped, at `now_ns` ([`clock::mono_ns`]) and `now`.
    pub fn received<R>(&mut self, input: &Input<R>, now_ns: u64, now: Now) {
        self.marker.received(input, now_ns, now);
        match input {
            Input::Raft { from, items } => {
                for item in items {
                    self.message(Direction::Received, *from, item.group, &item.message);
                }
            }
            Input::PeerConnected { broker } => kinds::peer(broker.0, PeerChange::Connected),
            Input::PeerDisconnected { broker } => kinds::peer(broker.0, PeerChange::Disconnected),
            Input::PeerDied { broker } => kinds::peer(broker.0, PeerChange::Died),
            _ => {}
        }
    }

    /// A message for the flight recorder: heartbeats are counted, what comes by the thousand is
    /// thinned out, elections are told whole.
    fn message(&mut self, way: Direction, peer: BrokerId, group: GroupId, message: &Message) {
        use MessageLabel as M;
        let sent = way == Direction::Sent;
        let label = message_label(message);
        match label {
            M::Heartbeat | M::HeartbeatResponse => {
                let second = &mut self.second;
                let count = if sent { &mut second.beats_sent } else { &mut second.beats_received };
                *count += 1;
                return;
            }
            M::Append | M::AppendEmpty | M::AppendResponse if !flight::ordinary(message.index) => {
                return;
            }
            M::Vote | M::PreVote => flight::dump(DumpReason::Election),
            _ => {}
        }
        let say = if sent { kinds::message_sent } else { kinds::message_received };
        let entries = u16::try_from(message.entries.len()).unwrap_or(u16::MAX);
        say(
            group.0,
            message.index,
            message.commit,
            peer.0,
            message.term,
            message.log_term,
            entries,
            label,
            message.reject,
        );
    }

    pub fn is_status_due(&mut self, now_ns: u64, every_ns: u64) -> bool {
        let due = now_ns.saturating_sub(self.status_at_ns) >= every_ns;
        if due {
            self.status_at_ns = now_ns;
        }
        due
    }

    /// A tick that comes late by half a heartbeat is named with the phase that used the time.
    pub fn ticked(&mut self, beat: &Beat, late: Duration) {
        metrics().raft_ticks_total.inc();
        let now_ns = clock::mono_ns();
        let spent = beat.take_spent(now_ns);
        let bound = limits::TICK_MS * limits::HEARTBEAT_TICKS as u64 / 2;
        if late.as_millis() < u128::from(bound) {
            self.coroner.ticked(now_ns, &spent, None);
            return;
        }
        let busiest = Phase::ALL.iter().filter(|phase| **phase != Phase::Idle);
        let busiest = busiest.max_by_key(|phase| spent[phase.index()]).copied();
        let accounted: u64 = busiest.map_or(0, |phase| spent[phase.index()]);
        let blocked_by = match busiest {
            _ if u128::from(accounted) < late.as_nanos() / 2 => BlockedBy::Cpu,
            Some(Phase::Persist) => BlockedBy::Persist,
            Some(Phase::Send | Phase::Publish | Phase::Reply) => BlockedBy::Send,
            Some(Phase::Flush | Phase::Apply) => BlockedBy::Apply,
            _ => BlockedBy::Step,
        };
        metrics().raft_ticks_late_total.at(blocked_by).inc();
        self.coroner.ticked(now_ns, &spent, Some((late.as_nanos() as u64, blocked_by)));
        kinds::tick_late(u32::try_from(late.as_millis()).unwrap_or(u32::MAX), blocked_by);
        let (late_ms, blocked_by) = (late.as_millis() as u64, blocked_by.as_str());
        log_limited!(warn, LogEvent::TickLate, late_ms, blocked_by, "a raft tick came late");
    }

    /// A message is about to leave.
    pub fn sent(&mut self, out: &RaftOut) {
        let message = &out.message;
        self.marker.sent(out);
        self.message(Direction::Sent, out.broker, out.group, message);
        let kind = message_label(message);
        metrics().raft_messages_total.at(kind, Direction::Sent, MessageOutcome::Ok).inc();
        metrics().raft_entries_sent_total.add(message.entries.len() as u64);
    }

    pub fn observe(&mut self, event: &Event) {
        match event {
            Event::Consensus { group, kind, event } => {
                consensus_event(*group, *kind, event);
                let image = || self.plumbing.image.borrow().clone();
                if let Some(record) = self.coroner.hear(*group, *kind, event, image) {
                    log_limited!(info, LogEvent::ElectionEnded, group = group.0, "{}", record.says);
                    traces::elected(&record);
                    self.plumbing.postmortems.keep(record);
                }
            }
            Event::Serving { group, term } => {
                kinds::serving(group.0, *term);
                flight::dump(DumpReason::Election);
                log_limited!(info, LogEvent::LeaderChanged, group = group.0, term, "serving");
            }
            Event::StoppedServing { group, term } => {
                kinds::stopped_serving(group.0, *term);
                log_limited!(
                    info,
                    LogEvent::LeaderChanged,
                    group = group.0,
                    term,
                    "stopped serving"
                );
            }
            Event::Applied { group, entries, last } => {
                self.marker.applied(*group, *last, *entries);
                metrics().apply_entries_total.add(*entries as u64);
                if flight::ordinary(UNSAMPLED) {
                    kinds::applied(group.0, *entries as u32);
                }
            }
            Event::Duplicate { .. } => metrics().duplicate_batches_total.inc(),
            Event::Committed { group, batches, records, bytes, .. } => {
                if flight::ordinary(UNSAMPLED) {
                    kinds::committed(group.0, *bytes, *batches as u32, *records as u32);
                }
                metrics().batches_in_total.add(*batches);
                metrics().records_in_total.add(*records);
                metrics().bytes_in_total.add(*bytes);
            }
            Event::Group { observed } => group_event(*observed),
            Event::Held { group, index, what, why } => {
                kinds::held(group.0, *index);
                match what {
                    HeldWhy::Panicked => metrics().panics_total.at(PanicRoom::Apply).inc(),
                    HeldWhy::Refused(name) => {
                        violated(group.0, contradicted(name));
                    }
                }
                log_limited!(error, LogEvent::GroupHeld, group = group.0, index, %why, "machine held");
            }
            Event::Quarantined { group, why } => {
                kinds::quarantined(group.0);
                metrics().panics_total.at(PanicRoom::Group).inc();
                log_limited!(error, LogEvent::GroupQuarantined, group = group.0, %why, "group quarantined");
            }
            Event::Rebuilt { group } => {
                kinds::rebuilt(group.0);
                metrics().groups_rebuilt_total.inc();
                log_limited!(
                    warn,
                    LogEvent::GroupRebuilt,
                    group = group.0,
                    "group rebuilt from the journal"
                );
            }
            Event::MembershipStep { group, kind, outcome } => {
                let step = MembershipStep::from_name(kind).unwrap_or(MembershipStep::Other);
                let end = StepOutcome::from_name(outcome).unwrap_or(StepOutcome::Other);
                metrics().raft_membership_steps_total.at(step, end).inc();
                let group = group.0;
                log_limited!(info, LogEvent::MembershipChanged, group, kind, outcome, "a step");
            }
            Event::UnknownGroup { .. } => {
                metrics().raft_messages_refused_total.at(MessageRefusal::UnknownGroup).inc();
            }
            Event::LedgerBroken { group, breach, durable, committed, applied } => {
                let label = Invariant::from_name(breach.as_str()).unwrap_or(Invariant::Other);
                violated(group.0, label);
                let (group, breach) = (group.0, breach.as_str());
                log_limited!(
                    error,
                    LogEvent::InvariantViolated,
                    group,
                    breach,
                    durable,
                    committed,
                    applied,
                    "the ledger is broken"
                );
            }
            Event::AckedBeyondDurable { group, index, durable } => {
                violated(group.0, Invariant::AckedBeyondDurable);
                log_limited!(
                    error,
                    LogEvent::InvariantViolated,
                    group = group.0,
                    index,
                    durable,
                    "acknowledged, and neither committed nor durable here"
                );
            }
            Event::ProposalDropped { group, why } => {
                metrics().raft_proposals_dropped_total.inc();
                telemetry::tracing::debug!(group = group.0, why, "proposal dropped");
            }
        }
    }
}

/// What must never happen, counted and for the flight recorder.
fn violated(group: u64, invariant: Invariant) {
    kinds::invariant_violated(group, invariant);
    metrics().invariant_violations_total.at(invariant).inc();
}

/// The invariant that an entry breaks which a machine refuses.
fn contradicted(refusal: &str) -> Invariant {
    match refusal {
        "prefix" => Invariant::PrefixChecksumMismatch,
        "offset" => Invariant::StampMismatch,
        _ => Invariant::Other,
    }
}

/// What happened to consumer groups.
fn group_event(observed: Observed) {
    match observed {
        Observed::RebalanceBegan(reason) => {
            let reason = match reason {
                RebalanceReason::Joined => RebalanceWhy::Joined,
                RebalanceReason::Rejoined => RebalanceWhy::Rejoined,
                RebalanceReason::Left => RebalanceWhy::Left,
                RebalanceReason::SessionExpired => RebalanceWhy::SessionExpired,
                RebalanceReason::NotSynced => RebalanceWhy::NotSynced,
                RebalanceReason::StaticReplaced => RebalanceWhy::StaticReplaced,
            };
            metrics().group_rebalances_total.at(reason).inc();
        }
        Observed::RebalanceEnded { .. } => metrics().group_rebalances_ended_total.inc(),
        Observed::SessionExpired => metrics().group_sessions_expired_total.inc(),
        Observed::OffsetsCommitted { offsets } => {
            metrics().group_offsets_committed_total.add(offsets as u64);
        }
        Observed::OffsetsExpired { offsets } => {
            metrics().group_offsets_expired_total.add(offsets as u64);
        }
    }
}
