//! One leader per term and group (raft thesis 3.4).

use std::collections::BTreeMap;

use model::GroupId;

#[derive(Default)]
pub struct Leaders {
    by_term: BTreeMap<(GroupId, u64), usize>,
}

impl Leaders {
    pub fn leads(&mut self, b: usize, group: GroupId, term: u64) -> Result<(), String> {
        let first = *self.by_term.entry((group, term)).or_insert(b);
        match first == b {
            true => Ok(()),
            false => Err(format!("group {group}: b{} and b{} lead term {term}", first + 1, b + 1)),
        }
    }
}
