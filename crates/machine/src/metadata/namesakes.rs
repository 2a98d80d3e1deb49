//! Names of deleted topics, and which producers may have written to them.
//!
//! A client counts a producer's sequences by the topic's name: one that lives on while a topic is
//! deleted and created again goes on in the middle. To the new topic it must look like a producer
//! that was forgotten, not like a new one whose first batch is missing. Producer ids are handed out
//! ascending, so one id per name says who is that old.
//!
//! Invariants: bounded; what is dropped for it makes producers look older, never newer.

use std::collections::BTreeMap;

use model::limits::DELETED_TOPIC_NAMES_MAX;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Namesakes {
    /// Per name the first producer id that nobody had when the topic was deleted.
    bounds: BTreeMap<String, i64>,
    /// The same for names that had to go.
    others: i64,
}

impl Namesakes {
    /// Producers below this id may have written to a topic of this name that was deleted.
    pub(super) fn producers_before(&self, name: &str) -> i64 {
        self.bounds.get(name).copied().unwrap_or(0).max(self.others)
    }

    /// A topic went when `next_producer_id` had not been handed out yet.
    pub(super) fn deleted(&mut self, name: &str, next_producer_id: i64) {
        // No producer is younger than those that count for every name.
        if next_producer_id <= self.others {
            return;
        }
        self.bounds.insert(name.to_owned(), next_producer_id);
        if self.bounds.len() > DELETED_TOPIC_NAMES_MAX
            && let Some((name, bound)) = self.bounds.iter().min_by_key(|(_, bound)| **bound)
        {
            let (name, bound) = (name.clone(), *bound);
            self.bounds.remove(&name);
            self.others = self.others.max(bound);
        }
    }

    /// Names and bounds, ascending by name, and the bound of all others.
    pub(super) fn parts(&self) -> (&BTreeMap<String, i64>, i64) {
        (&self.bounds, self.others)
    }

    /// From a snapshot of a cluster that handed out producer ids below `next_producer_id`.
    pub(super) fn restore(
        bounds: BTreeMap<String, i64>,
        others: i64,
        next_producer_id: i64,
    ) -> Result<Namesakes, String> {
        let possible = 0..=next_producer_id;
        let impossible = bounds.iter().find(|(_, bound)| !possible.contains(bound));
        if let Some((name, bound)) = impossible {
            return Err(format!("producers before {bound} of deleted topic {name}"));
        }
        if bounds.len() > DELETED_TOPIC_NAMES_MAX || !possible.contains(&others) {
            return Err(format!("{} deleted topics, others before {others}", bounds.len()));
        }
        Ok(Namesakes { bounds, others })
    }
}
