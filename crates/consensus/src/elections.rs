//! When a replica campaigns, other than by raft's own time-out; and when it must not.
//!
//! Three shortcuts, all hints to liveness only: a group that is formed now, a cold start with a
//! majority connected, and "death has a sound" (the leader's process is known to be dead). Each
//! repeats only while the replica is PreCandidate: an unanswered pre-vote would otherwise wait
//! out a whole time-out. What holds it all back is the vote promise.
//!
//! This file decides; `group.rs` acts on raft.

use model::Now;

use crate::config::Timing;
use crate::event::{ElectionReason, Role};
use crate::members::Members;

/// What the decision is made from.
pub(crate) struct Situation<'a> {
    pub me: u64,
    pub role: Role,
    pub term: u64,
    pub leader: Option<u64>,
    pub members: &'a Members,
    /// The voter that leads when nothing speaks against it.
    pub preferred: Option<u64>,
    /// Promise lapsed, a voter, not suspect, not held, everything it wrote durable if alone.
    pub may_campaign: bool,
}

/// What to do with raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    /// Stop following a dead leader, so that votes are not ignored on its behalf.
    ForgetLeader,
    Campaign(ElectionReason),
}

#[derive(Clone, Copy, Debug)]
struct Evidence {
    leader: u64,
    term: u64,
    campaign_at_ns: u64,
    campaigned: bool,
}

#[derive(Debug)]
pub(crate) struct Elections {
    timing: Timing,
    promise_until_ns: u64,
    dead: Vec<u64>,
    evidence: Option<Evidence>,
    connected: bool,
    /// No leader was known in this life yet.
    starting: bool,
    new_group: bool,
    /// Next campaign of a starting replica; `None` before its first.
    start_retry_ns: Option<u64>,
}

impl Elections {
    pub fn new(timing: Timing, new_group: bool, now: Now) -> Elections {
        let promise = if new_group { 0 } else { timing.vote_promise_ms * 1_000_000 };
        Elections {
            timing,
            promise_until_ns: now.boot_ns + promise,
            dead: Vec::new(),
            evidence: None,
            connected: false,
            starting: true,
            new_group,
            start_retry_ns: None,
        }
    }

    /// A heartbeat was answered: neither vote nor campaign for a while.
    pub fn promise(&mut self, now: Now) {
        let until = now.boot_ns + self.timing.vote_promise_ms * 1_000_000;
        self.promise_until_ns = self.promise_until_ns.max(until);
    }

    pub fn promise_lapsed(&self, now: Now) -> bool {
        now.boot_ns >= self.promise_until_ns
    }

    pub fn promise_remaining_ms(&self, now: Now) -> u64 {
        self.promise_until_ns.saturating_sub(now.boot_ns).div_ceil(1_000_000)
    }

    /// Raft would not campaign yet (an unapplied membership change): try again later.
    pub fn campaign_refused(&mut self) {
        self.start_retry_ns = None;
        if let Some(evidence) = &mut self.evidence {
            evidence.campaigned = false;
        }
    }

    pub fn leader_seen(&mut self) {
        self.starting = false;
        self.new_group = false;
    }

    pub fn connected(&mut self, connected: bool) {
        self.connected = connected;
    }

    pub fn died(&mut self, replica: u64) {
        if !self.dead.contains(&replica) {
            self.dead.push(replica);
        }
    }

    pub fn is_dead(&self, replica: u64) -> bool {
        self.dead.contains(&replica)
    }

    pub fn alive(&mut self, replica: u64) {
        self.dead.retain(|dead| *dead != replica);
        self.evidence.take_if(|evidence| evidence.leader == replica);
    }

    /// Called whenever time moved or the situation changed, until it answers `Wait`.
    pub fn next(&mut self, now: Now, situation: &Situation<'_>) -> Step {
        let Situation { me, role, members, may_campaign, .. } = *situation;
        if role == Role::Leader || !members.is_voter(me) {
            self.evidence = None;
            return Step::Wait;
        }
        if members.is_single_voter(me) {
            let campaign = may_campaign && role == Role::Follower;
            return if campaign { Step::Campaign(ElectionReason::SingleVoter) } else { Step::Wait };
        }
        match self.death_step(now, situation) {
            Step::Wait => self.start_step(now, situation),
            step => step,
        }
    }

    fn death_step(&mut self, now: Now, situation: &Situation<'_>) -> Step {
        let Situation { me, role, term, leader, members, may_campaign, .. } = *situation;
        if let Some(leader) = leader {
            if role != Role::Follower || !self.dead.contains(&leader) || !self.promise_lapsed(now) {
                return Step::Wait;
            }
            // Survivors in rank order, one retry apart, so that they do not split the vote.
            let survivor_rank = members.all_voters().filter(|id| *id < me && *id != leader).count();
            let wait_ms = survivor_rank as u64 * self.timing.campaign_retry_ms;
            let campaign_at_ns = now.plus_ms(wait_ms).boot_ns;
            self.evidence = Some(Evidence { leader, term, campaign_at_ns, campaigned: false });
            return Step::ForgetLeader;
        }
        let Some(evidence) = &mut self.evidence else { return Step::Wait };
        if evidence.term != term || !self.dead.contains(&evidence.leader) {
            self.evidence = None;
            return Step::Wait;
        }
        let turn = match role {
            Role::PreCandidate => true,
            Role::Follower => !evidence.campaigned,
            Role::Candidate | Role::Leader => false,
        };
        if !turn || !may_campaign || now.boot_ns < evidence.campaign_at_ns {
            return Step::Wait;
        }
        evidence.campaigned = true;
        evidence.campaign_at_ns = now.plus_ms(self.timing.campaign_retry_ms).boot_ns;
        Step::Campaign(ElectionReason::DeathEvidence)
    }

    fn start_step(&mut self, now: Now, situation: &Situation<'_>) -> Step {
        let Situation { me, role, leader, preferred, may_campaign, .. } = *situation;
        let wanted = self.starting
            && leader.is_none()
            && preferred == Some(me)
            && (self.new_group || self.connected);
        let turn = match (role, self.start_retry_ns) {
            (Role::Follower, None) => true,
            (Role::PreCandidate, retry_at) => retry_at.is_none_or(|at| now.boot_ns >= at),
            _ => false,
        };
        if !wanted || !turn || !may_campaign {
            return Step::Wait;
        }
        self.start_retry_ns = Some(now.plus_ms(self.timing.campaign_retry_ms).boot_ns);
        Step::Campaign(match self.new_group {
            true => ElectionReason::NewGroup,
            false => ElectionReason::Preferred,
        })
    }
}

/// Election time-out of one replica in one term, ticks: staggered by rank so that two replicas
/// never time out together, with a jitter that is a function, not a draw.
pub(crate) fn timeout_ticks(timing: &Timing, seed: u64, me: u64, term: u64, rank: usize) -> usize {
    let rank = rank.min(model::limits::GROUP_VOTERS_MAX);
    let jitter = mix(seed ^ mix(me ^ mix(term))) % timing.election_jitter_ticks.max(1) as u64;
    timing.election_ticks + rank * timing.election_rank_ticks + jitter as usize
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014): spreads every bit of the input.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_outs_of_different_ranks_never_meet_and_stay_in_raft_s_range() {
        let timing = Timing::default();
        for (rank, ticks) in (0..40).map(|rank| (rank, (0..200))) {
            for term in ticks {
                let own = timeout_ticks(&timing, 1, 10 + rank as u64, term, rank);
                let next = timeout_ticks(&timing, 2, 11 + rank as u64, term, rank + 1);
                assert!(own >= timing.election_ticks && own < timing.election_ticks_end());
                assert!(own < next || rank >= model::limits::GROUP_VOTERS_MAX);
            }
        }
        let spread: std::collections::BTreeSet<_> =
            (0..50).map(|term| timeout_ticks(&timing, 9, 1, term, 0)).collect();
        assert_eq!(spread.len(), timing.election_jitter_ticks);
    }
}
