//! Who belongs to the group, sorted: the order is the replicas' rank in elections.

use raft::eraftpb::ConfState;

/// Raft ids of voters, of the outgoing half of a joint state, and of learners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub voters: Vec<u64>,
    pub outgoing: Vec<u64>,
    pub learners: Vec<u64>,
}

impl Members {
    pub fn new(state: &ConfState) -> Members {
        let sorted = |ids: &[u64]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        let mut learners = sorted(&state.learners);
        learners.extend(sorted(&state.learners_next));
        Members {
            voters: sorted(&state.voters),
            outgoing: sorted(&state.voters_outgoing),
            learners,
        }
    }

    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    pub fn is_voter(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// A replica that gets the log and does not vote: not (yet) a voter of either half.
    pub fn is_learner(&self, id: u64) -> bool {
        self.learners.contains(&id) && !self.is_voter(id)
    }

    pub fn is_member(&self, id: u64) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Position among the sorted voters; learners and strangers come last.
    pub fn rank(&self, id: u64) -> usize {
        self.voters.iter().position(|voter| *voter == id).unwrap_or(self.voters.len())
    }

    /// The replica that leads when nothing speaks against it: `wished`, if it votes.
    pub fn preferred(&self, wished: Option<u64>) -> Option<u64> {
        let wished = wished.filter(|id| self.voters.contains(id));
        wished.or_else(|| self.voters.first().copied())
    }

    pub fn is_single_voter(&self, id: u64) -> bool {
        self.voters == [id] && self.outgoing.is_empty()
    }

    /// Voters of either half, each once.
    pub fn all_voters(&self) -> impl Iterator<Item = u64> + '_ {
        let outgoing = self.outgoing.iter().filter(|id| !self.voters.contains(id));
        self.voters.iter().chain(outgoing).copied()
    }
}
