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

/// Whose heartbeats leave with a tick of many groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    None,
    /// Those of leaders with something to do.
    Busy,
    Every,
}

impl Beat {
    /// Of the `tick`-th tick: quiet leaders leave every second heartbeat out.
    pub fn of(tick: u64, heartbeat_ticks: usize) -> Beat {
        let every = heartbeat_ticks as u64;
        match (tick.is_multiple_of(every), tick.is_multiple_of(2 * every)) {
            (_, true) => Beat::Every,
            (true, false) => Beat::Busy,
            (false, false) => Beat::None,
        }
    }
}

impl Group {
    /// One tick of `timing.tick_ms`. Never in bursts: drain the inbox before ticking. Leaders of
    /// many groups send their heartbeats together, on every `heartbeat_ticks`-th tick, see
    /// [`Beat::of`]; a new one's first waits for it. False: it left nothing to flush.
    pub fn tick(&mut self, now: Now, beat: Beat) -> bool {
        if self.broken {
            return false;
        }
        #[cfg(test)]
        self.planted.count_tick();
        let kept_back = self.keeps_heartbeat_back(now, beat);
        if self.tick_quietly(now, kept_back) {
            return !self.events.is_empty();
        }
        let raft = &mut self.raw.raft;
        let times_out = raft.state != StateRole::Leader
            && raft.promotable()
            && raft.election_elapsed + 1 >= raft.randomized_election_timeout();
        if kept_back || (times_out && !self.may_campaign(now)) {
            // Raft would send, or campaign, by itself. Time goes on without it, so that a leader
            // looks for its quorum when it should, and a follower neither campaigns nor clings
            // to a leader it no longer hears.
            self.raw.raft.election_elapsed += 1;
        } else {
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

    /// A leader's next heartbeat waits for those of others, unless its quorum is looked for now.
    fn keeps_heartbeat_back(&self, now: Now, beat: Beat) -> bool {
        let raft = &self.raw.raft;
        let ripe = raft.state == StateRole::Leader
            && raft.heartbeat_elapsed() + 1 >= raft.heartbeat_timeout()
            && raft.election_elapsed + 1 < raft.election_timeout();
        ripe && match beat {
            Beat::None => true,
            Beat::Busy => self.is_quiet(now),
            Beat::Every => false,
        }
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
                term_durable: self.seen.term == self.durable_term,
                refusals: self.attempt.as_ref().map_or(0, |attempt| attempt.ballots.refusals()),
            };
            #[cfg(test)]
            let situation = self.planted.election(situation);
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
