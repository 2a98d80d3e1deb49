//! Changes of membership: proposed by the leader one at a time, in force when delivered.
//!
//! A new replica comes as a learner; learners become voters, and voters leave, through a joint
//! state (raft thesis 4.3), so that no moment exists in which two majorities do not meet.
//!
//! Invariants: raft-rs turns a second pending change into an empty entry and says Ok
//! (raft.rs:2088), so nothing is proposed while one is pending; a leader never removes itself
//! (it would go on leading, raft.rs:2674): it hands over first, and one that is elected by the
//! outgoing half steps down before it applies its own removal. What is caught up enough to vote
//! is the caller's to know.

use model::ReplicaId;
use raft::StateRole;
use raft::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, Entry,
    EntryType, Message,
};

use crate::event::{Event, Invariant};
use crate::group::Group;
use crate::members::Members;

/// One step towards another membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// A replica that never was a member, with an empty log.
    AddLearner(ReplicaId),
    RemoveLearner(ReplicaId),
    /// Enters a joint state: learners `add` become voters, voters `remove` leave the group.
    Swap {
        add: Vec<ReplicaId>,
        remove: Vec<ReplicaId>,
    },
}

impl MembershipChange {
    /// A closed label.
    pub fn as_str(&self) -> &'static str {
        match self {
            MembershipChange::AddLearner(_) => "add_learner",
            MembershipChange::RemoveLearner(_) => "remove_learner",
            MembershipChange::Swap { .. } => "swap_voters",
        }
    }
}

/// Why a change was not proposed. Nothing of it entered the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    #[error("not the leader")]
    NotLeader,
    /// A change is pending, a joint state is not left, or the term has committed nothing yet.
    #[error("an earlier change is not finished")]
    Busy,
    #[error("the proposal was dropped")]
    Dropped,
    #[error("a leader does not remove itself")]
    RemovesLeader,
    /// A learner that is a member already, a voter that is none, or nothing to do.
    #[error("the change does not fit the membership")]
    Unfit,
    #[error("too many voters, or none")]
    Voters,
}

impl ChangeRefused {
    /// A closed label.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeRefused::NotLeader => "not_leader",
            ChangeRefused::Busy => "busy",
            ChangeRefused::Dropped => "dropped",
            ChangeRefused::RemovesLeader => "removes_leader",
            ChangeRefused::Unfit => "unfit",
            ChangeRefused::Voters => "voters",
        }
    }
}

impl Group {
    /// Proposes a change on the leader; returns its index. It is in force when the entry is
    /// delivered; the joint state of a swap is left by whoever leads then.
    pub fn propose_change(&mut self, change: &MembershipChange) -> Result<u64, ChangeRefused> {
        if self.broken || self.raw.raft.state != StateRole::Leader {
            return Err(ChangeRefused::NotLeader);
        }
        if !self.may_change() {
            return Err(ChangeRefused::Busy);
        }
        let encoded = self.encode_change(change)?;
        self.propose_membership(&encoded).map_err(|_| ChangeRefused::Dropped)
    }

    /// Leading, nothing pending, in no joint state, and sure of what earlier leaders committed.
    pub fn may_change(&self) -> bool {
        let raft = &self.raw.raft;
        raft.state == StateRole::Leader
            && !self.members.is_joint()
            && !raft.has_pending_conf()
            && raft.commit_to_current_term()
            && raft.lead_transferee.is_none()
    }

    fn encode_change(&self, change: &MembershipChange) -> Result<ConfChangeV2, ChangeRefused> {
        use ConfChangeType::{AddLearnerNode, AddNode, RemoveNode};
        let members = &self.members;
        let fit = |fits: bool| if fits { Ok(()) } else { Err(ChangeRefused::Unfit) };
        match change {
            MembershipChange::AddLearner(id) => {
                fit(id.0 != raft::INVALID_ID && !members.is_member(id.0))?;
                if members.learners.len() >= model::limits::GROUP_VOTERS_MAX {
                    return Err(ChangeRefused::Voters);
                }
                Ok(encode(&[(AddLearnerNode, *id)], ConfChangeTransition::Auto))
            }
            MembershipChange::RemoveLearner(id) => {
                fit(members.is_learner(id.0))?;
                Ok(encode(&[(RemoveNode, *id)], ConfChangeTransition::Auto))
            }
            MembershipChange::Swap { add, remove } => {
                fit(!add.is_empty() || !remove.is_empty())?;
                fit(add.iter().all(|id| members.is_learner(id.0)))?;
                fit(remove.iter().all(|id| members.voters.contains(&id.0)))?;
                if remove.contains(&self.cfg.replica) {
                    return Err(ChangeRefused::RemovesLeader);
                }
                let voters = (members.voters.len() + add.len()).saturating_sub(remove.len());
                if voters == 0 || voters > model::limits::GROUP_VOTERS_MAX {
                    return Err(ChangeRefused::Voters);
                }
                let adding = add.iter().map(|id| (AddNode, *id));
                let all: Vec<_> = adding.chain(remove.iter().map(|id| (RemoveNode, *id))).collect();
                Ok(encode(&all, ConfChangeTransition::Explicit))
            }
        }
    }

    /// A committed change comes into force.
    pub(crate) fn apply_membership(&mut self, entry: &Entry) {
        let raft = &mut self.raw.raft;
        let leaves = self.members.is_joint() && !self.members.voters.contains(&self.cfg.replica.0);
        if leaves && raft.state == StateRole::Leader {
            // The outgoing half may elect one of its own, which then commits the end of its
            // membership: it steps down before, or raft-rs panics (raft.rs:943).
            let term = raft.term;
            raft.become_follower(term, raft::INVALID_ID);
        }
        let applied = match entry.get_entry_type() {
            EntryType::EntryConfChange => protobuf::Message::parse_from_bytes(&entry.data)
                .map_err(raft::Error::from)
                .and_then(|change: ConfChange| self.raw.apply_conf_change(&change)),
            _ => protobuf::Message::parse_from_bytes(&entry.data)
                .map_err(raft::Error::from)
                .and_then(|change: ConfChangeV2| self.raw.apply_conf_change(&change)),
        };
        let Ok(state) = applied else {
            // With another idea of who votes this replica could elect itself.
            self.broken = true;
            let invariant = Invariant::ConfChangeInapplicable;
            self.events.push(Event::InvariantViolated { invariant });
            return;
        };
        self.members = Members::new(&state);
        // A snapshot on offer names an older membership: a new member would refuse it.
        self.raw.mut_store().offer_snapshot(None);
        self.events.push(Event::MembershipChanged {
            index: entry.index,
            voters: self.members.voters.len(),
            outgoing: self.members.outgoing.len(),
            learners: self.members.learners.len(),
        });
    }

    /// Every leader leaves a joint state itself, also one it inherited: raft's own `auto_leave`
    /// can stick after a change of leader (raft.rs:962). Raft counts an unapplied membership
    /// change as pending, which makes this once per joint state.
    pub(crate) fn propose_leave(&mut self) {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader
            || !self.members.is_joint()
            || raft.has_pending_conf()
            || !raft.commit_to_current_term()
        {
            return;
        }
        if !self.members.voters.contains(&self.cfg.replica.0) {
            // Elected by the half that goes: one of those that stay must end the joint state.
            return self.transfer_leader(self.last_now, None);
        }
        if let Ok(index) = self.propose_membership(&ConfChangeV2::default()) {
            self.events.push(Event::JointLeaveProposed { index });
        }
    }

    fn propose_membership(&mut self, change: &ConfChangeV2) -> Result<u64, crate::ProposeError> {
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry.data = protobuf::Message::write_to_bytes(change).unwrap_or_default().into();
        let mut msg = Message::default();
        msg.set_entries(vec![entry].into());
        self.step_proposal(msg)
    }
}

fn encode(
    changes: &[(ConfChangeType, ReplicaId)],
    transition: ConfChangeTransition,
) -> ConfChangeV2 {
    let single = |(kind, id): &(ConfChangeType, ReplicaId)| {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(*kind);
        single.node_id = id.0;
        single
    };
    let mut change = ConfChangeV2::default();
    change.set_transition(transition);
    change.set_changes(changes.iter().map(single).collect::<Vec<_>>().into());
    change
}

#[cfg(test)]
impl Group {
    /// Raw changes, also such as the product never proposes.
    pub(crate) fn test_propose_membership(&mut self, change: &ConfChangeV2) -> u64 {
        self.propose_membership(change).expect("leader")
    }
}
