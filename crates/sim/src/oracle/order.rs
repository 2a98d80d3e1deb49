//! What a replica knows lies in this order: applied, committed, in its log; and what a process once
//! called committed it never calls uncommitted (raft paper, figure 2).

use std::collections::BTreeMap;

use consensus::Group;
use model::GroupId;

#[derive(Default)]
pub struct Order {
    commits: BTreeMap<(usize, GroupId), u64>,
}

impl Order {
    /// A new process may know less than the one before.
    pub fn began(&mut self, b: usize) {
        self.commits.retain(|(broker, _), _| *broker != b);
    }

    pub fn expelled(&mut self, b: usize, group: GroupId) {
        self.commits.remove(&(b, group));
    }

    pub fn seen(&mut self, b: usize, raft: &Group, machine_applied: u64) -> Result<(), String> {
        let (applied, commit, last) =
            (raft.applied_index(), raft.commit_index(), raft.last_index());
        let group = raft.group();
        let known = self.commits.entry((b, group)).or_default();
        let before = std::mem::replace(known, commit);
        if machine_applied <= commit && applied <= commit && commit <= last && before <= commit {
            return Ok(());
        }
        Err(format!(
            "group {group} on b{}: machine applied {machine_applied}, raft {applied}, \
             committed {commit} (before: {before}), last {last}",
            b + 1
        ))
    }
}
