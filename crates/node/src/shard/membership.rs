//! From the membership a group has to the one metadata wants, one step at a time.
//!
//! Metadata's placement is the target, ConfState the truth; the group's leader compares them at
//! every tick. New replicas come as learners, vote once they are caught up, and as many old ones
//! leave in the same joint state. What is gone is reported, so that its broker may forget it.
//!
//! Invariants: one change at a time, and none in a joint state; the number of voters never falls
//! below what it was while new ones are missing; a leader that has to go hands over first.

use std::collections::BTreeSet;

use consensus::{MembershipChange, PeerProgress, ReplicationState};
use model::{BrokerId, GroupId, Now, ReplicaId, limits};

use super::member::Member;
use super::spec::ReplicaRef;
use super::{Event, Out, ShardConfig};

/// Where metadata wants a group's replicas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// First is preferred.
    pub replicas: Vec<ReplicaRef>,
    /// How many of them vote, from the first on.
    pub voters: usize,
    /// To be removed, if they are members still.
    pub removing: Vec<ReplicaRef>,
    /// Counts changes; reports name it.
    pub epoch: u64,
}

/// The leader's word that these replicas are members no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    pub group: GroupId,
    pub epoch: u64,
    pub replicas: Vec<ReplicaId>,
}

/// What a leader does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Change(MembershipChange),
    HandOver(ReplicaId),
}

struct Situation<'a> {
    me: u64,
    voters: &'a [u64],
    learners: &'a [u64],
    target_voters: Vec<u64>,
    target_learners: Vec<u64>,
    caught_up: &'a dyn Fn(u64) -> bool,
}

/// A replica that may vote: it has all but the newest entries, and spoke lately. One that was filled
/// by a snapshot is probed until the next entry, and in a quiet group there is none.
fn is_caught_up(peer: &PeerProgress, last: u64, now: Now) -> bool {
    let recent = peer.contact_ns.is_some_and(|ns| now.ms_since(ns) <= 1_000);
    let filling = peer.state == ReplicationState::Snapshot;
    recent && !filling && peer.matched + limits::LEARNER_LAG_ENTRIES_MAX >= last
}

/// `None`: as wanted, or nothing can be done yet.
fn next(s: &Situation<'_>) -> Option<Step> {
    let member = |id: &u64| s.voters.contains(id) || s.learners.contains(id);
    let wanted = |id: &u64| s.target_voters.contains(id) || s.target_learners.contains(id);
    let ids = |all: &[u64]| all.iter().copied().map(ReplicaId).collect::<Vec<_>>();
    if s.target_voters.is_empty() {
        return None;
    }
    let mut missing = s.target_voters.iter().chain(&s.target_learners).filter(|id| !member(id));
    if let Some(id) = missing.next() {
        return Some(Step::Change(MembershipChange::AddLearner(ReplicaId(*id))));
    }
    if let Some(id) = s.learners.iter().find(|id| !wanted(id)) {
        return Some(Step::Change(MembershipChange::RemoveLearner(ReplicaId(*id))));
    }
    let ready = |id: &&u64| s.learners.contains(id) && (s.caught_up)(**id);
    let add: Vec<u64> = s.target_voters.iter().filter(ready).copied().collect();
    let voting = |id: &&u64| s.voters.contains(id) || add.contains(id);
    let complete = s.target_voters.iter().filter(voting).count() == s.target_voters.len();
    let leaving =
        s.voters.iter().copied().filter(|id| *id != s.me && !s.target_voters.contains(id));
    let most = if complete { usize::MAX } else { add.len() };
    let remove: Vec<u64> = leaving.take(most).collect();
    if !add.is_empty() || !remove.is_empty() {
        let (add, remove) = (ids(&add), ids(&remove));
        return Some(Step::Change(MembershipChange::Swap { add, remove }));
    }
    if complete && !s.target_voters.contains(&s.me) {
        let heir = s.target_voters.iter().find(|id| (s.caught_up)(**id))?;
        return Some(Step::HandOver(ReplicaId(*heir)));
    }
    None
}

impl<R> Member<R> {
    /// Metadata says where this group belongs.
    pub(super) fn place(&mut self, placement: Placement) {
        self.group.set_preferred(placement.replicas.first().map(|r| r.replica));
        self.placement = Some(placement);
    }

    /// Brings the membership one step nearer to the placement, and reports who is gone.
    pub(super) fn look_at_membership(
        &mut self,
        cfg: &ShardConfig,
        now: Now,
        draining: &BTreeSet<BrokerId>,
        out: &mut Out<R>,
    ) {
        let Some(placement) = &self.placement else { return };
        let leads = self.lead.is_some() && self.held.is_none();
        if !leads || !self.group.may_change() || self.group.lease_remaining_ms(now).is_none() {
            return;
        }
        let (voters, learners) = (self.group.voters(), self.group.learners());
        let id = |r: &ReplicaRef| r.replica.0;
        let split = placement.voters.min(placement.replicas.len());
        let settled = placement.removing.is_empty()
            && voters.len() == split
            && learners.len() + split == placement.replicas.len()
            && placement.replicas[..split].iter().all(|r| voters.contains(&id(r)));
        if settled {
            return self.look_at_preference(cfg, now, draining, out);
        }
        let progress = self.group.progress();
        let last = self.group.last_index();
        let caught_up = |id: u64| {
            let peer = progress.iter().find(|peer| peer.replica.0 == id);
            peer.is_some_and(|peer| is_caught_up(peer, last, now))
        };
        let step = next(&Situation {
            me: self.spec.replica.0,
            voters,
            learners,
            target_voters: placement.replicas[..split].iter().map(id).collect(),
            target_learners: placement.replicas[split..].iter().map(id).collect(),
            caught_up: &caught_up,
        });
        let member = |id: u64| voters.contains(&id) || learners.contains(&id);
        let gone = placement.removing.iter().map(|r| r.replica).filter(|r| !member(r.0));
        let gone: Vec<ReplicaId> = gone.collect();
        if !gone.is_empty() && now.ms_since(self.reported_ns) >= limits::DEPARTED_REPORT_MS {
            self.reported_ns = now.boot_ns;
            let (group, epoch) = (self.spec.group, placement.epoch);
            out.departed.push(Departed { group, epoch, replicas: gone });
        }
        let group = self.spec.group;
        match step {
            None => {}
            Some(Step::HandOver(to)) => self.group.transfer_leader(now, Some(to)),
            Some(Step::Change(change)) => {
                let kind = change.as_str();
                let outcome = match self.group.propose_change(&change) {
                    Ok(_) => "proposed",
                    Err(why) => why.as_str(),
                };
                out.events.push(Event::MembershipStep { group, kind, outcome });
            }
        }
    }

    /// The preferred replica gets leadership back once it was in sync for a while.
    fn look_at_preference(
        &mut self,
        cfg: &ShardConfig,
        now: Now,
        draining: &BTreeSet<BrokerId>,
        out: &mut Out<R>,
    ) {
        let Some(ReplicaRef { replica: preferred, broker, .. }) = self.preferred() else { return };
        // One that cannot be trusted would refuse, and the attempt costs the lease of this term.
        let doubted = self.doubted.iter().any(|(replica, _)| *replica == preferred);
        let wanted = cfg.leader_rebalance && !draining.contains(&broker) && !doubted;
        if !wanted || preferred == self.spec.replica {
            self.preferred_since_ns = 0;
            return;
        }
        let level = |peer: &PeerProgress| {
            let recent = peer.contact_ns.is_some_and(|ns| now.ms_since(ns) <= 1_000);
            peer.replica == preferred && recent && peer.caught_up_ns.is_some()
        };
        let progress = self.group.progress();
        let in_sync = self.group.isr(now, cfg.replica_lag_ms_max).contains(&preferred);
        if !in_sync || !progress.iter().any(level) {
            self.preferred_since_ns = 0;
            return;
        }
        if self.preferred_since_ns == 0 {
            self.preferred_since_ns = now.boot_ns;
        }
        if now.ms_since(self.preferred_since_ns) >= cfg.leader_rebalance_ms {
            self.preferred_since_ns = 0;
            self.group.transfer_leader(now, Some(preferred));
            let (group, kind) = (self.spec.group, "prefer");
            out.events.push(Event::MembershipStep { group, kind, outcome: "proposed" });
        }
    }

    /// A replica id speaks from one broker: the one it is placed on or, before the placement is
    /// known here, the one it was first heard from.
    pub(super) fn speaks_from(&mut self, sender: ReplicaId, from: BrokerId) -> bool {
        match self.broker_of(sender) {
            Some(broker) => broker == from,
            None => {
                if self.heard.len() >= limits::GROUP_VOTERS_MAX {
                    self.heard.remove(0);
                }
                self.heard.push((sender, from));
                true
            }
        }
    }

    /// Where a replica is, as far as metadata said.
    pub(super) fn placed(&self, replica: ReplicaId) -> Option<&ReplicaRef> {
        let placed = self.placement.iter().flat_map(|p| p.replicas.iter().chain(&p.removing));
        placed.chain(&self.spec.replicas).find(|placed| placed.replica == replica)
    }

    pub(super) fn broker_of(&self, replica: ReplicaId) -> Option<BrokerId> {
        let heard = || self.heard.iter().find(|(id, _)| *id == replica).map(|(_, broker)| *broker);
        self.placed(replica).map(|placed| placed.broker).or_else(heard)
    }

    /// Who should lead.
    pub(super) fn preferred(&self) -> Option<ReplicaRef> {
        let wanted = self.placement.as_ref().map_or(&self.spec.replicas, |p| &p.replicas);
        wanted.first().copied()
    }

    /// Voters, of both halves of a joint state.
    pub(super) fn voting(&self) -> Vec<ReplicaId> {
        let (voters, outgoing) = (self.group.voters(), self.group.outgoing());
        let leaving = outgoing.iter().filter(|id| !voters.contains(id));
        voters.iter().chain(leaving).map(|id| ReplicaId(*id)).collect()
    }

    /// Members of this group on a broker.
    pub(super) fn replicas_on(&self, broker: BrokerId) -> Vec<ReplicaId> {
        let learners = self.group.learners().iter().map(|id| ReplicaId(*id));
        let members = self.voting().into_iter().chain(learners);
        members.filter(|replica| self.broker_of(*replica) == Some(broker)).collect()
    }

    pub(super) fn leads_others(&self) -> bool {
        self.group.role() == consensus::Role::Leader && self.group.voters().len() > 1
    }

    /// What `/debug/groups` shows of the membership.
    pub(super) fn membership_status(&self, status: &mut super::MemberStatus) {
        status.voters = self.group.voters().to_vec();
        status.outgoing = self.group.outgoing().to_vec();
        status.learners = self.group.learners().to_vec();
        let target = self.placement.iter().flat_map(|p| &p.replicas);
        status.target = target.map(|r| r.replica.0).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Group {
        me: u64,
        voters: Vec<u64>,
        learners: Vec<u64>,
        behind: Vec<u64>,
    }

    impl Group {
        fn next(&self, voters: &[u64], learners: &[u64]) -> Option<Step> {
            next(&Situation {
                me: self.me,
                voters: &self.voters,
                learners: &self.learners,
                target_voters: voters.to_vec(),
                target_learners: learners.to_vec(),
                caught_up: &|id| !self.behind.contains(&id),
            })
        }

        /// Every step until none is left; how many it took.
        fn reach(&mut self, voters: &[u64], learners: &[u64]) -> usize {
            for steps in 0..50 {
                let most = self.voters.len();
                match self.next(voters, learners) {
                    None => return steps,
                    Some(Step::HandOver(to)) => self.me = to.0,
                    Some(Step::Change(MembershipChange::AddLearner(id))) => {
                        self.learners.push(id.0)
                    }
                    Some(Step::Change(MembershipChange::RemoveLearner(id))) => {
                        self.learners.retain(|known| *known != id.0);
                    }
                    Some(Step::Change(MembershipChange::Swap { add, remove })) => {
                        assert!(!remove.contains(&ReplicaId(self.me)), "it removes itself");
                        self.learners.retain(|id| !add.contains(&ReplicaId(*id)));
                        self.voters.extend(add.iter().map(|id| id.0));
                        self.voters.retain(|id| !remove.contains(&ReplicaId(*id)));
                    }
                }
                assert!(self.voters.len() >= most.min(voters.len()), "{:?}", self.voters);
            }
            panic!("it does not end");
        }
    }

    fn three() -> Group {
        Group { me: 1, voters: vec![1, 2, 3], learners: vec![], behind: vec![] }
    }

    #[test]
    fn every_target_is_reached_without_losing_voters_on_the_way() {
        for (target, learners) in [
            (&[1, 4, 3][..], &[][..]),
            (&[4, 5, 6], &[]),
            (&[4], &[]),
            (&[1], &[]),
            (&[1, 2, 3, 4], &[]),
            (&[2, 3, 4], &[5]),
        ] {
            let mut group = three();
            group.reach(target, learners);
            let sorted = |ids: &[u64]| {
                let mut ids = ids.to_vec();
                ids.sort_unstable();
                ids
            };
            assert_eq!(sorted(&group.voters), sorted(target));
            assert_eq!(group.learners, learners);
            assert_eq!(group.reach(target, learners), 0, "and then nothing more");
        }
        let mut alone = Group { voters: vec![1], ..three() };
        alone.reach(&[2], &[]);
        assert_eq!((alone.me, alone.voters), (2, vec![2]));
    }

    #[test]
    fn a_replica_that_a_snapshot_filled_may_vote_before_another_entry_comes() {
        let now = Now { boot_ns: 5_000_000_000, wall_ms: 0 };
        let peer = |state, matched, contact_ms: u64| PeerProgress {
            replica: ReplicaId(4),
            voter: false,
            matched,
            next_index: matched + 1,
            state,
            paused: false,
            recently_active: true,
            inflight_bytes: 0,
            caught_up_ns: None,
            contact_ns: Some(now.boot_ns - contact_ms * 1_000_000),
            reported_last_index: Some(matched),
            snapshot_needed: false,
        };
        let last = 2 * limits::LEARNER_LAG_ENTRIES_MAX;
        assert!(is_caught_up(&peer(ReplicationState::Probe, last, 300), last, now));
        assert!(is_caught_up(&peer(ReplicationState::Replicate, last, 300), last, now));
        assert!(!is_caught_up(&peer(ReplicationState::Snapshot, last, 300), last, now));
        assert!(!is_caught_up(&peer(ReplicationState::Replicate, 1, 300), last, now));
        assert!(!is_caught_up(&peer(ReplicationState::Replicate, last, 1_300), last, now));
    }

    #[test]
    fn a_learner_that_is_behind_does_not_vote_and_nobody_leaves_for_it() {
        let mut group = Group { behind: vec![4], ..three() };
        group.reach(&[1, 4, 3], &[]);
        assert_eq!((&group.voters, &group.learners), (&vec![1, 2, 3], &vec![4]));
        // One of two new ones is there: one old one leaves.
        group.reach(&[1, 4, 5], &[]);
        assert_eq!((group.voters.len(), group.voters.contains(&5)), (3, true));
        group.behind.clear();
        group.reach(&[1, 4, 5], &[]);
        assert_eq!(group.voters.len(), 3);
        assert!(group.voters.contains(&4) && group.learners.is_empty());
    }
}
