//! Traffic by topic, and who gets a row.
//!
//! The rule: a topic with a replica here gets one of [`limits::TOPIC_LABELS_MAX`] rows while there are
//! free ones, those with most bytes first; a row in which something was counted stays its topic's
//! until that is deleted, one that is still 0 gives way to a topic with traffic. What a topic moved
//! before it had a row is the rest's and stays there, so no row ever counts backwards, and all rows
//! of living topics together are what this broker's replicas of them moved since it started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use machine::metadata::Image;
use model::{GroupId, TopicId, limits};
use telemetry::{Open, metrics};

use super::{Counts, Traffic};
use crate::view::PartitionView;

/// What is known of the replicas' cells, and the rows.
#[derive(Default)]
pub(super) struct Topics {
    cells: BTreeMap<GroupId, Cell>,
    topics: BTreeMap<TopicId, Topic>,
    pub(super) rest: Counts,
    strangers: Counts,
}

/// One replica's counts, and what of them was taken.
struct Cell {
    topic: TopicId,
    traffic: Arc<Traffic>,
    taken: Counts,
}

impl Cell {
    fn take(&mut self) -> Counts {
        let now = self.traffic.counts();
        let grown = now.since(self.taken);
        self.taken = now;
        grown
    }
}

#[derive(Default)]
struct Topic {
    name: String,
    /// Bytes of its whole life here.
    bytes: u64,
    /// What was counted since the last look.
    fresh: Counts,
    row: Option<Counts>,
}

impl Topic {
    /// It may keep its row, or should have one: nothing counts before traffic.
    fn moved(&self) -> bool {
        self.fresh != Counts::default() || self.row.is_some_and(|row| row != Counts::default())
    }
}

impl Topics {
    /// Takes what the replicas counted since the last look. `strangers`: what was counted for
    /// partitions without a replica here, of this broker's whole life.
    pub fn look(&mut self, image: &Image, views: &[Arc<PartitionView>], strangers: Counts) {
        let mut known = BTreeSet::new();
        for view in views {
            let group = view.group();
            known.insert(group);
            let same = |cell: &Cell| Arc::ptr_eq(&cell.traffic, view.traffic());
            if self.cells.get(&group).is_some_and(same) {
                continue;
            }
            let Some((topic, _)) = image.partition_of(group) else { continue };
            let taken = Counts::default();
            let new = Cell { topic: topic.id, traffic: view.traffic().clone(), taken };
            // The replica was here, left, and is back: what it had counted last is still to be taken.
            if let Some(mut old) = self.cells.insert(group, new) {
                self.topics.entry(old.topic).or_default().fresh.add(old.take());
            }
        }
        for cell in self.cells.values_mut() {
            self.topics.entry(cell.topic).or_default().fresh.add(cell.take());
        }
        self.cells.retain(|group, _| known.contains(group));
        self.topics.retain(|id, topic| match image.topic_by_id(*id) {
            Some(there) => {
                topic.name.clone_from(&there.name);
                topic.bytes = topic.bytes.saturating_add(topic.fresh.bytes());
                true
            }
            None => false,
        });
        self.award();
        for topic in self.topics.values_mut() {
            let fresh = std::mem::take(&mut topic.fresh);
            topic.row.as_mut().unwrap_or(&mut self.rest).add(fresh);
        }
        self.rest.add(strangers.since(self.strangers));
        self.strangers = strangers;
    }

    fn award(&mut self) {
        let free = |topics: &BTreeMap<TopicId, Topic>| {
            limits::TOPIC_LABELS_MAX - topics.values().filter(|topic| topic.row.is_some()).count()
        };
        let mut without: Vec<(bool, u64, TopicId)> = self
            .topics
            .iter()
            .filter(|(_, topic)| topic.row.is_none() && Open::takes(&topic.name))
            .map(|(id, topic)| (topic.moved(), topic.bytes, *id))
            .collect();
        let moved = without.iter().filter(|(moved, ..)| *moved).count();
        let mut give_way = moved.saturating_sub(free(&self.topics));
        for topic in self.topics.values_mut().filter(|topic| topic.row.is_some()) {
            if give_way > 0 && !topic.moved() {
                topic.row = None;
                give_way -= 1;
            }
        }
        let free = free(&self.topics);
        if free > 0 {
            without.sort_unstable_by(|a, b| b.cmp(a));
        }
        for (.., id) in without.into_iter().take(free) {
            if let Some(topic) = self.topics.get_mut(&id) {
                topic.row = Some(Counts::default());
            }
        }
    }

    pub(super) fn rows(&self, at: usize) -> impl Iterator<Item = (String, u64)> {
        let rows = self.topics.values();
        rows.filter_map(move |topic| Some((topic.name.clone(), topic.row?.0[at])))
    }

    pub fn publish(&self) {
        let rest = self.rest.0;
        let rows = self.rows(0);
        #[cfg(feature = "planted")]
        let rows = rows.chain(crate::planted::topic_rows());
        metrics().topic_records_in_total.replace(rows, rest[0]);
        metrics().topic_bytes_in_total.replace(self.rows(1), rest[1]);
        metrics().topic_bytes_out_total.replace(self.rows(2), rest[2]);
        metrics().topic_errors_total.replace(self.rows(3), rest[3]);
    }
}
