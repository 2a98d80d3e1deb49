//! Turns changes of role, leader and lease into events, in one place: nothing else compares
//! before and after.

use model::{Now, ReplicaId};
use raft::INVALID_ID;
use raft::eraftpb::{Message, MessageType};

use crate::ballots::{self, Ballots};
use crate::event::{ChangeReason, ElectionOutcome, ElectionReason, Event, Role};
use crate::group::Group;
use crate::truth::Report;

/// What the last event said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub role: Role,
    pub term: u64,
    pub leader: Option<u64>,
}

/// An election this replica began and that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub reason: ElectionReason,
    pub began_ns: u64,
    pub rounds: u32,
    /// What was answered in this round.
    pub ballots: Ballots,
}

impl Group {
    /// Compares with what was seen last. `reason` overrides the derived one for a follower.
    /// True: this replica leads from now on.
    pub(crate) fn observe(&mut self, now: Now, reason: Option<ChangeReason>) -> bool {
        let raft = &self.raw.raft;
        let leader = (raft.leader_id != INVALID_ID).then_some(raft.leader_id);
        let seen = Seen { role: raft.state.into(), term: raft.term, leader };
        if seen == self.seen {
            return false;
        }
        let before = std::mem::replace(&mut self.seen, seen);
        if seen.term != before.term {
            self.lease.begin(seen.term);
        }
        if (seen.role == Role::Leader) != (before.role == Role::Leader) {
            self.open_windows();
            self.peers.clear();
            self.moved_ns = now.boot_ns;
            self.raw.mut_store().forget_fetched();
        }
        if leader.is_some() {
            self.elections.leader_seen();
        }
        match seen.role {
            Role::Candidate => self.elections.stands(seen.term),
            Role::PreCandidate => self.elections.asks_again(),
            Role::Follower | Role::Leader => {}
        }
        if seen.role != Role::Follower && self.attempt.is_none() {
            self.begin_attempt(now, before.term);
        }
        let reason = reason.unwrap_or_else(|| derive_reason(before, seen));
        let leader = leader.map(ReplicaId);
        let Seen { role: to, term, .. } = seen;
        if to != before.role {
            let from = before.role;
            self.events.push(Event::RoleChanged { from, to, term, leader, reason });
        } else if seen.leader != before.leader {
            self.events.push(Event::LeaderChanged { term, leader, reason });
        }
        if matches!(seen.role, Role::Leader | Role::Follower) {
            self.end_attempt(now, reason);
            self.intent = None;
        } else if reason == ChangeReason::PreVoteWon {
            self.recount();
        }
        to == Role::Leader && before.role != Role::Leader
    }

    fn begin_attempt(&mut self, now: Now, term: u64) {
        let reason = self.intent.take().unwrap_or(ElectionReason::Timeout);
        let began_ns = now.boot_ns;
        let ballots = Ballots::default();
        self.attempt = Some(Attempt { reason, began_ns, rounds: 1, ballots });
        let ms_since_leader = now.ms_since(self.leader_contact_ns);
        self.events.push(Event::ElectionStarted { term, reason, ms_since_leader });
    }

    fn end_attempt(&mut self, now: Now, reason: ChangeReason) {
        let Some(attempt) = self.attempt.take() else { return };
        let outcome = match reason {
            ChangeReason::ElectionWon => ElectionOutcome::Won,
            ChangeReason::ElectionLost => ElectionOutcome::Refused,
            _ => ElectionOutcome::Superseded,
        };
        let Attempt { reason, began_ns, rounds, ballots } = attempt;
        let (term, ms) = (self.seen.term, now.ms_since(began_ns));
        let ballots = ballots.of(&self.members, self.cfg.replica.0);
        self.events.push(Event::ElectionEnded { term, reason, outcome, rounds, ballots, ms });
    }

    /// The replica asks everybody once more.
    pub(crate) fn next_round(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.rounds += 1;
        }
        self.recount();
    }

    fn recount(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.ballots = Ballots::default();
        }
    }

    /// What a voter answered. True: raft is not to see it, only a reader is.
    pub(crate) fn count_vote(&mut self, msg: &Message) -> bool {
        let round = match msg.get_msg_type() {
            MessageType::MsgRequestVoteResponse => Role::Candidate,
            _ => Role::PreCandidate,
        };
        let answer = ballots::answer_of(msg);
        let aside = ballots::is_aside(answer);
        // A granted pre-vote carries the term it was asked for, a refusal the voter's own.
        let current = match (round, msg.reject && !aside) {
            (Role::PreCandidate, false) => msg.term == self.seen.term + 1,
            _ => msg.term == self.seen.term,
        };
        if let Some(attempt) = &mut self.attempt
            && self.seen.role == round
            && current
        {
            attempt.ballots.note(msg.from, answer);
        }
        aside
    }

    pub(crate) fn note_lease(&mut self, now: Now) {
        let has = self.lease_remaining_ms(now).is_some();
        if has != self.had_lease {
            self.had_lease = has;
            let term = self.seen.term;
            self.events.push(match has {
                true => Event::LeaseAcquired { term },
                false => Event::LeaseExpired { term },
            });
        }
    }

    /// A follower answered: when it was caught up, and what it says about itself if it answered a
    /// heartbeat.
    pub(crate) fn note_contact(&mut self, now: Now, from: u64, report: Option<Report>) {
        let last_index = self.last_index();
        let Some(matched) = self.raw.raft.prs().get(from).map(|pr| pr.matched) else { return };
        if self.seen.role != Role::Leader {
            return;
        }
        self.check_flight(now, from, report.map(|report| report.last_index));
        let readable = matched + 1 >= self.first_index();
        let peer = self.peers.entry(from);
        peer.contact(now, matched, last_index);
        if readable {
            peer.snapshot_needed = false;
        }
        if let Some(report) = report {
            self.check_truth(now, from, report);
        }
    }

    /// Names peers for whom raft asked the log view for a snapshot in vain, once each. True:
    /// there are some.
    pub(crate) fn note_snapshots_wanted(&mut self) -> bool {
        let first_index = self.first_index();
        let wanted = self.raw.mut_store().take_snapshot_wanted();
        for id in &wanted {
            let id = *id;
            let peer = self.peers.entry(id);
            if !std::mem::replace(&mut peer.snapshot_needed, true) {
                self.events.push(Event::SnapshotNeeded { peer: ReplicaId(id), first_index });
            }
        }
        !wanted.is_empty()
    }
}

fn derive_reason(before: Seen, after: Seen) -> ChangeReason {
    match (before.role, after.role) {
        (_, Role::Leader) => ChangeReason::ElectionWon,
        (Role::PreCandidate, Role::Candidate) => ChangeReason::PreVoteWon,
        (_, Role::PreCandidate | Role::Candidate) => ChangeReason::Campaign,
        _ if after.leader.is_some() => ChangeReason::LeaderFound,
        _ if after.term > before.term => ChangeReason::HigherTerm,
        (Role::Leader, _) => ChangeReason::QuorumLost,
        _ => ChangeReason::ElectionLost,
    }
}
