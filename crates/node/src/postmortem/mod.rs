//! Post-mortems: a record of every election that a replica of this broker stood in and of every
//! leadership it lost, with what is needed to say why: how long the leader had been silent, what
//! each voter answered, and what the loop did meanwhile.
//!
//! Invariants: the newest [`limits::POSTMORTEMS_KEPT_MAX`] are kept; a shard only pushes, under a
//! lock that is held for nothing else; ids rise by one, so a reader knows what it missed.

mod history;
mod publish;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use consensus::{Ballot, Event, Role};
use machine::metadata::Image;
use model::{BrokerId, GroupId, limits};
use serde::Serialize;
use telemetry::labels::{BlockedBy, InputKind, LockClass};
use telemetry::{Lock, clock};

use crate::shard::GroupKind;

pub use history::{History, LoopReport, Spent};
pub(crate) use publish::publish;
pub use publish::{is_written_by_brokers, new_topic_id};

/// How far back the loop is looked at when nothing else says it, milliseconds.
const LOOK_BACK_MS: u64 = 2_000;
const LOOK_BACK_MS_MAX: u64 = 10_000;

/// What one voter said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BallotView {
    pub replica: u64,
    /// `None`: metadata does not know the replica any more.
    pub broker: Option<i32>,
    pub answer: &'static str,
}

/// What happened to the leadership of one group, as one of its replicas saw it.
#[derive(Clone, Debug, Serialize)]
pub struct Postmortem {
    pub id: u64,
    /// Who tells it.
    pub broker: i32,
    /// When it was over, milliseconds since 1970.
    pub at_ms: i64,
    /// `election`, or `leadership_lost`.
    pub what: &'static str,
    pub group: u64,
    pub name: String,
    pub kind: &'static str,
    /// Why it began.
    pub reason: &'static str,
    /// How the election ended for this replica.
    pub outcome: Option<&'static str>,
    pub term_before: u64,
    pub term: u64,
    /// When it began: since the last sign of a leader, milliseconds.
    pub ms_since_leader: u64,
    /// How long it took.
    pub ms: u64,
    /// How often everybody was asked.
    pub rounds: u32,
    /// Of the last round.
    pub ballots: Vec<BallotView>,
    pub shard: usize,
    /// The shard's loop since the last sign of a leader.
    #[serde(rename = "loop")]
    pub loop_report: LoopReport,
    /// One sentence.
    pub says: String,
}

/// The records of a broker.
pub struct Postmortems(Lock<Kept>);

#[derive(Default)]
struct Kept {
    records: VecDeque<Postmortem>,
    last_id: u64,
}

impl Default for Postmortems {
    fn default() -> Self {
        Postmortems(Lock::new(LockClass::Debug, Kept::default()))
    }
}

impl Postmortems {
    pub fn keep(&self, mut record: Postmortem) {
        let mut kept = self.0.lock();
        kept.last_id += 1;
        record.id = kept.last_id;
        if kept.records.len() == limits::POSTMORTEMS_KEPT_MAX {
            kept.records.pop_front();
        }
        kept.records.push_back(record);
    }

    /// Those with an id above `id`, oldest first, and how many of those are forgotten already.
    pub fn after(&self, id: u64) -> (Vec<Postmortem>, u64) {
        let kept = self.0.lock();
        let new: Vec<_> = kept.records.iter().filter(|record| record.id > id).cloned().collect();
        let lost = kept.last_id - id.min(kept.last_id) - new.len() as u64;
        (new, lost)
    }
}

/// An election whose end is still to come.
struct Begun {
    reason: &'static str,
    term: u64,
    ms_since_leader: u64,
    loop_report: LoopReport,
}

/// Who writes the records of one shard.
pub struct Coroner {
    shard: usize,
    broker: BrokerId,
    history: History,
    begun: BTreeMap<GroupId, Begun>,
    /// The term each group is led in here.
    led: BTreeMap<GroupId, u64>,
}

impl Coroner {
    pub fn new(broker: BrokerId, shard: usize) -> Coroner {
        let history = History::default();
        Coroner { shard, broker, history, begun: BTreeMap::new(), led: BTreeMap::new() }
    }

    pub fn ticked(&mut self, now_ns: u64, spent: &Spent, late: Option<(u64, BlockedBy)>) {
        self.history.ticked(now_ns, spent, late);
    }

    pub fn stepped(&mut self, now_ns: u64, input: InputKind, took_ns: u64) {
        self.history.stepped(now_ns, input, took_ns);
    }

    /// Takes note of what the core says; what is over becomes a record.
    pub fn hear(
        &mut self,
        group: GroupId,
        kind: GroupKind,
        event: &Event,
        image: impl FnOnce() -> std::sync::Arc<Image>,
    ) -> Option<Postmortem> {
        match event {
            Event::ElectionStarted { term, reason, ms_since_leader } => {
                let over_ms = (*ms_since_leader).clamp(LOOK_BACK_MS, LOOK_BACK_MS_MAX);
                let loop_report = self.history.report(clock::mono_ns(), over_ms);
                let (reason, term) = (reason.as_str(), *term);
                let ms_since_leader = *ms_since_leader;
                self.begun.insert(group, Begun { reason, term, ms_since_leader, loop_report });
                None
            }
            Event::ElectionEnded { term, outcome, rounds, ballots, ms, .. } => {
                let begun = self.begun.remove(&group)?;
                let mut record = self.record(group, kind, &image(), ballots);
                record.what = "election";
                record.outcome = Some(outcome.as_str());
                (record.reason, record.term_before, record.term) =
                    (begun.reason, begun.term, *term);
                (record.ms_since_leader, record.ms) = (begun.ms_since_leader, *ms);
                (record.rounds, record.loop_report) = (*rounds, begun.loop_report);
                record.says = record.sentence();
                Some(record)
            }
            Event::RoleChanged { to: Role::Leader, term, .. } => {
                self.led.insert(group, *term);
                None
            }
            Event::RoleChanged { from: Role::Leader, term, reason, .. } => {
                let term_before = self.led.remove(&group).unwrap_or(*term);
                let mut record = self.record(group, kind, &image(), &[]);
                record.what = "leadership_lost";
                record.reason = reason.as_str();
                (record.term_before, record.term) = (term_before, *term);
                record.loop_report = self.history.report(clock::mono_ns(), LOOK_BACK_MS);
                record.says = record.sentence();
                Some(record)
            }
            _ => None,
        }
    }

    fn record(
        &self,
        group: GroupId,
        kind: GroupKind,
        image: &Image,
        ballots: &[Ballot],
    ) -> Postmortem {
        let placed = image.placement_of(group);
        let broker_of = |replica| {
            let mut all = placed.iter().flat_map(|p| p.replicas.iter().chain(&p.removing));
            all.find(|known| known.replica == replica).map(|known| known.broker.0)
        };
        let ballots = ballots.iter().map(|ballot| BallotView {
            replica: ballot.voter.0,
            broker: broker_of(ballot.voter),
            answer: ballot.answer.as_str(),
        });
        let name = match image.partition_of(group) {
            Some((topic, partition)) => format!("{}-{}", topic.name, partition.index),
            None => kind.as_str().to_owned(),
        };
        Postmortem {
            id: 0,
            broker: self.broker.0,
            at_ms: clock::wall_ms(),
            what: "",
            group: group.0,
            name,
            kind: kind.as_str(),
            reason: "",
            outcome: None,
            term_before: 0,
            term: 0,
            ms_since_leader: 0,
            ms: 0,
            rounds: 0,
            ballots: ballots.collect(),
            shard: self.shard,
            loop_report: LoopReport::default(),
            says: String::new(),
        }
    }
}

impl Postmortem {
    fn sentence(&self) -> String {
        let Postmortem { name, reason, term_before, term, ms, ms_since_leader, .. } = self;
        let mut text = match self.outcome {
            Some(outcome) => format!(
                "{name}: election {outcome} in term {term} (before: {term_before}) after {ms} ms and {} \
                 rounds, because of {reason}, {ms_since_leader} ms after the last sign of a leader",
                self.rounds
            ),
            None => {
                format!("{name}: leadership of term {term_before} lost: {reason}, now term {term}")
            }
        };
        for BallotView { replica, broker, answer } in &self.ballots {
            let _ = match broker {
                Some(broker) => write!(text, "; broker {broker} {answer}"),
                None => write!(text, "; replica {replica} {answer}"),
            };
        }
        let LoopReport { over_ms, ticks, ticks_late, late_ms_max, late_by, .. } = &self.loop_report;
        let _ = write!(text, "; shard {} in the {over_ms} ms before: ", self.shard);
        let _ = match late_by {
            Some(by) => write!(
                text,
                "{ticks_late} of {ticks} ticks late, at most {late_ms_max} ms, by {by}"
            ),
            None => write!(text, "{ticks} ticks, none late"),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::{ChangeReason, ElectionOutcome, ElectionReason, VoteAnswer};
    use model::ReplicaId;

    const GROUP: GroupId = GroupId(7);

    fn hear(coroner: &mut Coroner, event: Event) -> Option<Postmortem> {
        coroner.hear(GROUP, GroupKind::Partition, &event, || std::sync::Arc::new(Image::default()))
    }

    #[test]
    fn an_election_is_told_with_its_voters_and_what_the_loop_did() {
        let mut coroner = Coroner::new(BrokerId(2), 0);
        let spent = [0; telemetry::labels::Phase::ALL.len()];
        coroner.ticked(clock::mono_ns(), &spent, Some((900_000_000, BlockedBy::Apply)));
        let reason = ElectionReason::Timeout;
        let began = Event::ElectionStarted { term: 4, reason, ms_since_leader: 1_500 };
        assert!(hear(&mut coroner, began).is_none());
        let ballot = |voter, answer| Ballot { voter: ReplicaId(voter), answer };
        let ended = Event::ElectionEnded {
            term: 5,
            reason,
            outcome: ElectionOutcome::Won,
            rounds: 2,
            ballots: vec![ballot(11, VoteAnswer::Granted), ballot(12, VoteAnswer::LogBehind)],
            ms: 30,
        };
        let record = hear(&mut coroner, ended.clone()).expect("it is over");
        assert_eq!((record.term_before, record.term, record.rounds), (4, 5, 2));
        assert_eq!(record.loop_report.late_by, Some("apply"));
        for part in [
            "election won in term 5 (before: 4) after 30 ms and 2 rounds, because of timeout, 1500 ms",
            "replica 12 log_behind",
            "1 of 1 ticks late, at most 900 ms, by apply",
        ] {
            assert!(record.says.contains(part), "{}", record.says);
        }
        assert!(hear(&mut coroner, ended).is_none(), "told once");
    }

    #[test]
    fn a_lost_leadership_names_the_term_that_was_led() {
        let mut coroner = Coroner::new(BrokerId(2), 0);
        let change =
            |from, to, term, reason| Event::RoleChanged { from, to, term, leader: None, reason };
        let won = change(Role::Candidate, Role::Leader, 6, ChangeReason::ElectionWon);
        assert!(hear(&mut coroner, won).is_none());
        let lost = change(Role::Leader, Role::Follower, 8, ChangeReason::HigherTerm);
        let record = hear(&mut coroner, lost).expect("it is over");
        assert_eq!((record.what, record.term_before, record.term), ("leadership_lost", 6, 8));
        assert!(record.says.contains("leadership of term 6 lost: higher_term, now term 8"));
    }

    #[test]
    fn the_newest_are_kept_and_a_reader_knows_what_it_missed() {
        let kept = Postmortems::default();
        let mut coroner = Coroner::new(BrokerId(2), 0);
        let lost = Event::RoleChanged {
            from: Role::Leader,
            to: Role::Follower,
            term: 8,
            leader: None,
            reason: ChangeReason::QuorumLost,
        };
        for _ in 0..limits::POSTMORTEMS_KEPT_MAX + 5 {
            kept.keep(hear(&mut coroner, lost.clone()).expect("a record"));
        }
        let (all, missed) = kept.after(0);
        assert_eq!((all.len(), missed), (limits::POSTMORTEMS_KEPT_MAX, 5));
        let last = all.last().expect("some").id;
        assert_eq!(kept.after(last - 1).0.len(), 1);
        assert_eq!((kept.after(last).0.len(), kept.after(last).1), (0, 0));
    }
}
