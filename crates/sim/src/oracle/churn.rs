//! Elections have reasons: after each fault a group elects a few times at most, and then is quiet
//! (failure F4: 1,000 elections a minute, none of them for a fault).

use std::collections::BTreeMap;

use model::GroupId;

/// Candidacies of one group between two disturbances. Three replicas may each try more than once
/// while messages are lost or disks are stuck for seconds; in thousands of lives it was 3 at most.
const CANDIDACIES_MAX: u64 = 12;

#[derive(Default)]
pub struct Churn {
    since: BTreeMap<GroupId, u64>,
    pub most: u64,
}

impl Churn {
    /// A fault began or ended, a process came or went, news of a death was heard.
    pub fn disturbed(&mut self) {
        self.since.clear();
    }

    pub fn election_started(&mut self, group: GroupId) -> Result<(), String> {
        let count = self.since.entry(group).or_default();
        *count += 1;
        self.most = self.most.max(*count);
        match *count <= CANDIDACIES_MAX {
            true => Ok(()),
            false => Err(format!("group {group}: {count} elections since the last disturbance")),
        }
    }
}
