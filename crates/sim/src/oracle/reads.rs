//! Guarded reads are linearizable: no answer lies below what was acknowledged, or read, before
//! the question was asked.

use std::collections::BTreeMap;

use model::GroupId;

#[derive(Default)]
pub struct Reads {
    known: BTreeMap<GroupId, i64>,
}

impl Reads {
    /// Somebody outside knows that the log reaches up to `next_offset`.
    pub fn wrote(&mut self, group: GroupId, next_offset: i64) {
        let known = self.known.entry(group).or_default();
        *known = (*known).max(next_offset);
    }

    pub fn floor(&self, group: GroupId) -> i64 {
        self.known.get(&group).copied().unwrap_or(0)
    }
}
