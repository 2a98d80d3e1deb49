//! When a replica campaigns, other than by raft's own time-out; and when it must not.
//!
//! Three shortcuts, all hints to liveness only: a group that is formed now, a cold start with a
//! majority connected, and "death has a sound" (the leader's process is known to be dead). Each
//! repeats while the replica is PreCandidate: an unanswered pre-vote would otherwise wait out a
//! whole time-out. Two survivors whose pre-votes cross both win them, and each votes for itself:
//! an election that nobody can win any more is begun again, in rank order, a bounded number of
//! times. What holds it all back is the vote promise.
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
    /// What it knows of this term is on its disk: its vote has been asked for.
    pub term_durable: bool,
    /// Voters that refused it in this round.
    pub refusals: usize,
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

/// An election in which this replica is, or was, a candidate.
#[derive(Clone, Copy, Debug)]
struct Stand {
    term: u64,
    /// Since when everybody has been asked.
    asked_ns: Option<u64>,
    /// Since when it cannot be won any more.
    lost_ns: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Elections {
    timing: Timing,
    promise_until_ns: u64,
    dead: Vec<u64>,
    evidence: Option<Evidence>,
    /// The latest, until it is begun again or a leader is known.
    stand: Option<Stand>,
    /// Terms it stood in since a leader was last known.
    stands: u32,
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
            stand: None,
            stands: 0,
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
        self.evidence = None;
        self.stand = None;
        self.stands = 0;
    }

    /// The replica votes for itself in `term`.
    pub fn stands(&mut self, term: u64) {
        self.stand = Some(Stand { term, asked_ns: None, lost_ns: None });
        self.stands += 1;
    }

    /// The replica begins with a pre-vote: what came of the election before is settled.
    pub fn asks_again(&mut self) {
        self.stand = None;
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
        let Situation { role, term, leader, may_campaign, .. } = *situation;
        if let Some(leader) = leader {
            if role != Role::Follower || !self.dead.contains(&leader) || !self.promise_lapsed(now) {
                return Step::Wait;
            }
            // Survivors in rank order, one retry apart, so that they do not split the vote.
            let rank = survivor_rank(situation, leader);
            let wait_ms = rank as u64 * self.timing.campaign_retry_ms;
            let campaign_at_ns = now.plus_ms(wait_ms).boot_ns;
            self.evidence = Some(Evidence { leader, term, campaign_at_ns, campaigned: false });
            return Step::ForgetLeader;
        }
        let Some(mut evidence) = self.evidence else { return Step::Wait };
        let due = now.boot_ns >= evidence.campaign_at_ns;
        let turn = match role {
            Role::PreCandidate => due,
            Role::Follower if evidence.term == term && !evidence.campaigned => due,
            // In a later term somebody else stands, and is left alone.
            Role::Follower | Role::Candidate => {
                self.stands_in_vain(now, situation, survivor_rank(situation, evidence.leader))
            }
            Role::Leader => false,
        };
        if !turn || !may_campaign {
            return Step::Wait;
        }
        evidence.campaigned = true;
        evidence.campaign_at_ns = now.plus_ms(self.timing.campaign_retry_ms).boot_ns;
        self.evidence = Some(evidence);
        Step::Campaign(ElectionReason::DeathEvidence)
    }

    /// Whether the replica stands in an election that it cannot win any more, or hears nothing
    /// of, and it is its turn to begin another. The first in rank does at once, the others one
    /// retry apart, so that the next votes do not split as well. Silence is given the time two
    /// slow disks may need: whoever asks again gives up the votes that are under way.
    fn stands_in_vain(&mut self, now: Now, situation: &Situation<'_>, rank: usize) -> bool {
        let Situation { role, term, members, may_campaign, term_durable, refusals, .. } =
            *situation;
        let Some(stand) = self.stand.as_mut().filter(|stand| stand.term == term) else {
            return false;
        };
        if !term_durable || self.stands > model::limits::CAMPAIGN_TERMS_MAX {
            return false;
        }
        let living = members.voters.iter().filter(|id| !self.dead.contains(id)).count();
        let lost =
            role == Role::Follower || living.saturating_sub(refusals) <= members.voters.len() / 2;
        let (since, patience_ms) = match lost {
            true => (&mut stand.lost_ns, 0),
            false => (&mut stand.asked_ns, self.timing.vote_promise_ms),
        };
        let since_ns = *since.get_or_insert(now.boot_ns);
        let wait_ms = patience_ms + rank as u64 * self.timing.campaign_retry_ms;
        may_campaign && now.boot_ns >= since_ns + wait_ms * 1_000_000
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
            // Nobody else is in a hurry.
            _ if wanted => self.stands_in_vain(now, situation, 0),
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

/// Position among the voters that are left without `leader`.
fn survivor_rank(situation: &Situation<'_>, leader: u64) -> usize {
    let before = |id: &u64| *id < situation.me && *id != leader;
    situation.members.all_voters().filter(before).count()
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
    fn an_election_without_a_winner_is_begun_again_in_rank_order_and_not_for_ever() {
        let members = Members { voters: vec![1, 2, 3], ..Default::default() };
        let at = |ms: u64| Now { boot_ns: ms * 1_000_000, wall_ms: 0 };
        let begun_again = |me: u64| {
            let mut elections = Elections::new(Timing::default(), true, at(0));
            elections.died(1);
            let mut situation = Situation {
                me,
                role: Role::Follower,
                term: 1,
                leader: Some(1),
                members: &members,
                preferred: Some(1),
                may_campaign: true,
                term_durable: true,
                refusals: 0,
            };
            assert_eq!(elections.next(at(0), &situation), Step::ForgetLeader);
            situation.leader = None;
            situation.refusals = 1;
            let mut begun = Vec::new();
            for round in 1..=6 {
                (situation.role, situation.term) = (Role::Candidate, 1 + round);
                elections.stands(situation.term);
                let from = round * 1_000;
                let again = (from..from + 1_000).step_by(50).find(|ms| {
                    let step = elections.next(at(*ms), &situation);
                    step == Step::Campaign(ElectionReason::DeathEvidence)
                });
                // Raft may refuse for now; it is asked once more at the next tick.
                let refused = elections.next(at(from + 500), &situation);
                assert_eq!(matches!(refused, Step::Campaign(_)), again.is_some());
                elections.asks_again();
                situation.role = Role::Follower;
                let lost = elections.next(at(from + 999), &situation);
                assert_eq!(lost, Step::Wait, "a pre-vote that is refused is not repeated");
                begun.push(again.map(|ms| ms - from));
            }
            begun
        };
        assert_eq!(begun_again(2), [Some(0), Some(0), Some(0), Some(0), None, None]);
        assert_eq!(begun_again(3), [Some(100), Some(100), Some(100), Some(100), None, None]);
    }

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
