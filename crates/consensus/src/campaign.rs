//! Time passes: ticks, and what `elections.rs` decided is done to raft.
//!
//! Invariants: raft's own random election time-out is replaced before anything can depend on it;
//! raft never campaigns while [`Group::may_campaign`] says no, except when the leader itself asks
//! (MsgTimeoutNow).

use model::Now;
use raft::{INVALID_ID, StateRole};

use crate::elections::{self, Situation, Step};
use crate::event::{ChangeReason, ElectionReason};
use crate::group::Group;

impl Group {
    /// One tick of `timing.tick_ms`. Never in bursts: drain the inbox before ticking.
    pub fn tick(&mut self, now: Now) {
        let _ = self.tick_in_step(now, true);
    }

    /// The same, for groups whose leaders send their heartbeats together: those of this group are
    /// `due` on every `heartbeat_ticks`-th of its ticks. A new leader's first one waits for it,
    /// which shifts its count of ticks once, by less than that. False: it left nothing to flush.
    pub fn tick_in_step(&mut self, now: Now, due: bool) -> bool {
        if self.broken {
            return false;
        }
        #[cfg(test)]
        self.planted.count_tick();
        if self.tick_quietly(now) {
            return !self.events.is_empty();
        }
        let raft = &self.raw.raft;
        let early = raft.state == StateRole::Leader
            && raft.heartbeat_elapsed() + 1 >= raft.heartbeat_timeout()
            && !due;
        let raft = &mut self.raw.raft;
        let times_out = raft.state != StateRole::Leader
            && raft.promotable()
            && raft.election_elapsed + 1 >= raft.randomized_election_timeout();
        if times_out && !self.may_campaign(now) {
            // Raft would campaign by itself. Time goes on without it, so that it neither
            // campaigns nor clings to a leader it no longer hears.
            self.raw.raft.election_elapsed += 1;
        } else if !early {
            if times_out {
                self.intent = Some(ElectionReason::Timeout);
                self.next_round();
            }
            self.raw.tick();
        }
        self.settle(now, None);
        self.drive_elections(now);
        self.watch_snapshots(now);
        self.trim_view();
        true
    }

    /// A heartbeat is answered.
    pub(crate) fn promise(&mut self, now: Now) {
        #[cfg(test)]
        if self.planted.forgets_promise {
            return;
        }
        self.elections.promise(now);
    }

    /// A promise runs, or another reason forbids it. A single voter with entries in flight
    /// would become leader with a log that is not durable (raft.rs:1214 asserts it is).
    pub(crate) fn may_campaign(&self, now: Now) -> bool {
        let raft = &self.raw.raft;
        let alone = self.members.is_single_voter(self.cfg.replica.0);
        let log_durable = raft.raft_log.persisted == raft.raft_log.last_index();
        let free = self.elections.promise_lapsed(now) || alone;
        free && !self.suspect
            && !self.machine_held
            && self.installing.is_none()
            && !self.broken
            && raft.state != StateRole::Leader
            && raft.promotable()
            && (!alone || log_durable)
    }

    pub(crate) fn drive_elections(&mut self, now: Now) {
        // A step changes the situation; two follow each other at most.
        for _ in 0..2 {
            if self.broken {
                return;
            }
            let situation = Situation {
                me: self.cfg.replica.0,
                role: self.seen.role,
                term: self.seen.term,
                leader: self.seen.leader,
                members: &self.members,
                preferred: self.members.preferred(self.preferred),
                may_campaign: self.may_campaign(now),
            };
            match self.elections.next(now, &situation) {
                Step::Wait => return,
                Step::ForgetLeader => {
                    let term = self.raw.raft.term;
                    self.raw.raft.become_follower(term, INVALID_ID);
                    self.settle(now, Some(ChangeReason::DeathEvidence));
                }
                Step::Campaign(reason) => {
                    self.intent = Some(reason);
                    self.next_round();
                    let before = self.raw.raft.msgs.len();
                    // Hup never fails; refused, it leaves the role and no message.
                    let _ = self.raw.campaign();
                    let moved = self.role() != self.seen.role;
                    if !moved && self.raw.raft.msgs.len() == before {
                        self.intent = None;
                        self.elections.campaign_refused();
                        return;
                    }
                    self.settle(now, None);
                }
            }
        }
    }

    /// After every input: our election time-out instead of raft's random one, events, lease.
    pub(crate) fn settle(&mut self, now: Now, reason: Option<ChangeReason>) {
        self.last_now = now;
        let me = self.cfg.replica.0;
        let rank = self.members.rank(me);
        let term = self.raw.raft.term;
        let ticks = elections::timeout_ticks(&self.cfg.timing, self.cfg.seed, me, term, rank);
        self.raw.raft.set_randomized_election_timeout(ticks);
        if self.observe(now, reason) {
            // A lease should not wait for the first heartbeat's turn.
            self.raw.ping();
        }
        self.note_lease(now);
    }
}
