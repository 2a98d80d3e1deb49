//! A high watermark never moves back: not at one process, and not from a leader to the next.
//!
//! A leader begins to serve above everything that leaders of earlier terms have shown, and those
//! never show more than it began with.

use std::collections::BTreeMap;

use model::GroupId;
use node::shard::ViewUpdate;

/// What the leader of one term has shown.
struct Shown {
    first: i64,
    last: i64,
}

#[derive(Default)]
pub struct Watermark {
    by_process: BTreeMap<(usize, GroupId), i64>,
    by_term: BTreeMap<(GroupId, u64), Shown>,
}

impl Watermark {
    pub fn began(&mut self, b: usize) {
        self.by_process.retain(|(broker, _), _| *broker != b);
    }

    /// Another replica begins in its place.
    pub fn expelled(&mut self, b: usize, group: GroupId) {
        self.by_process.remove(&(b, group));
    }

    pub fn view(&mut self, b: usize, view: &ViewUpdate) -> Result<(), String> {
        let (group, high) = (view.group, view.high_watermark);
        let known = self.by_process.entry((b, group)).or_insert(high);
        if high < *known {
            return Err(format!("group {group}: b{} showed {known}, now {high}", b + 1));
        }
        *known = high;
        let Some(term) = view.serving else { return Ok(()) };
        let shown = self.by_term.entry((group, term)).or_insert(Shown { first: high, last: high });
        shown.last = shown.last.max(high);
        let (first, last) = (shown.first, shown.last);
        let earlier = self.by_term.range((group, 0)..(group, term)).next_back();
        if let Some(((_, old), shown)) = earlier.filter(|(_, shown)| shown.last > first) {
            let last = shown.last;
            return Err(format!("group {group}: term {old} showed {last}, term {term} {first}"));
        }
        let later = self.by_term.range((group, term + 1)..(group, u64::MAX)).next();
        match later.filter(|(_, shown)| shown.first < last) {
            None => Ok(()),
            Some(((_, new), shown)) => {
                let first = shown.first;
                Err(format!("group {group}: term {new} began at {first}, term {term} shows {last}"))
            }
        }
    }
}
