//! How far consumer groups are behind.
//!
//! Lag is the sum, over the partitions that a group committed an offset of, of the records between
//! that and the partition's high watermark, never below 0. What was committed for a partition that
//! is gone counts nothing. Ends never move back, so while nobody tells a partition's end the one
//! told last is a bound from below: it is counted with that, and as unknown; without one it is left
//! out, and counted as unknown.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use machine::groups::Committed;
use machine::metadata::Image;
use model::{GroupId, limits};
use serde::{Serialize, Serializer};
use telemetry::{Open, metrics};

/// What groups committed, by group.
#[derive(Default)]
pub(super) struct Offsets {
    groups: BTreeMap<String, Vec<Offset>>,
    /// Each name once, however many partitions and groups have it.
    topics: BTreeSet<Arc<str>>,
    kept: usize,
    /// Beyond [`limits::LAG_OFFSETS_MAX`].
    left_out: usize,
}

struct Offset {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    raft_group: Option<GroupId>,
}

impl Offsets {
    pub fn take(&mut self, row: Committed) {
        let Committed { group, topic, partition, offset, raft_group } = row;
        let topic = self.topics.get(topic.as_str()).cloned().unwrap_or_else(|| {
            let topic: Arc<str> = topic.into();
            self.topics.insert(topic.clone());
            topic
        });
        self.keep(group, [Offset { topic, partition, offset, raft_group }]);
    }

    /// Those of another coordinator: a group has one.
    pub fn append(&mut self, other: Offsets) {
        self.left_out += other.left_out;
        for (group, offsets) in other.groups {
            self.keep(group, offsets);
        }
    }

    fn keep(&mut self, group: String, offsets: impl IntoIterator<Item = Offset>) {
        let own = self.groups.entry(group).or_default();
        for offset in offsets {
            if self.kept == limits::LAG_OFFSETS_MAX {
                self.left_out += 1;
            } else {
                self.kept += 1;
                own.push(offset);
            }
        }
    }
}

/// One partition of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionLag {
    #[serde(serialize_with = "as_text")]
    pub topic: Arc<str>,
    pub partition: i32,
    /// The offset of the next record that the group wants.
    pub committed: i64,
    /// The high watermark, as known; `None`: nobody told it.
    pub end: Option<i64>,
    /// Records between the two.
    pub lag: Option<u64>,
}

fn as_text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

/// One consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GroupLag {
    pub group: String,
    /// Records, of all its partitions.
    pub lag: u64,
    /// Records, of the partition that lacks most.
    pub max: u64,
    /// Partitions whose end nobody told at the last look.
    pub unknown: usize,
    /// Those that lack most first.
    pub partitions: Vec<PartitionLag>,
}

/// Groups that this broker coordinates, as of the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConsumersPage {
    /// Those that lack most first.
    pub groups: Vec<GroupLag>,
    /// Partitions of groups whose end nobody told, or that were too many.
    pub unknown: usize,
}

impl ConsumersPage {
    /// The series of the groups that lack most, and of the rest.
    pub(super) fn publish(&self) {
        let (mut named, mut rest) = (Vec::new(), (0u64, 0u64));
        for group in &self.groups {
            if named.len() < limits::GROUP_LABELS_MAX && Open::takes(&group.group) {
                named.push(group);
            } else {
                rest = (rest.0.saturating_add(group.lag), rest.1.max(group.max));
            }
        }
        let rows = |lag: fn(&GroupLag) -> u64| {
            named.iter().map(move |group| (group.group.clone(), lag(group)))
        };
        metrics().consumer_group_lag_records.replace(rows(|group| group.lag), rest.0);
        metrics().consumer_group_lag_records_max.replace(rows(|group| group.max), rest.1);
        let unknown = i64::try_from(self.unknown).unwrap_or(i64::MAX);
        metrics().consumer_group_unknown_partitions.set(unknown);
    }
}

/// Between two looks, and in the middle of one.
#[derive(Default)]
pub(super) struct Lags {
    sought: Vec<(String, Vec<Sought>)>,
    left_out: usize,
    /// Ends told last, of partitions that somebody lags on.
    ends: BTreeMap<GroupId, i64>,
}

struct Sought {
    at: Offset,
    raft_group: GroupId,
}

impl Lags {
    /// The partitions whose ends have to be known.
    pub fn wanted(&mut self, image: &Image, offsets: Offsets) -> Vec<GroupId> {
        let there = |at: Offset| {
            let topic = image.topic(&at.topic)?;
            let partition = topic.partitions.get(usize::try_from(at.partition).ok()?)?;
            // Committed for a topic of the same name that was deleted since.
            let namesake = at.raft_group.is_some_and(|group| group != partition.group);
            (!namesake).then_some(Sought { raft_group: partition.group, at })
        };
        self.left_out = offsets.left_out;
        self.sought = offsets
            .groups
            .into_iter()
            .map(|(group, offsets)| (group, offsets.into_iter().filter_map(there).collect()))
            .filter(|(_, sought): &(_, Vec<_>)| !sought.is_empty())
            .collect();
        let all = self.sought.iter().flat_map(|(_, sought)| sought);
        let all: BTreeSet<GroupId> = all.map(|sought| sought.raft_group).collect();
        self.ends.retain(|group, _| all.contains(group));
        all.into_iter().collect()
    }

    /// `told`: ends that somebody told now.
    pub fn page(&mut self, told: BTreeMap<GroupId, i64>) -> ConsumersPage {
        let mut unknown = self.left_out;
        let mut groups = Vec::with_capacity(self.sought.len());
        for (group, sought) in std::mem::take(&mut self.sought) {
            let mut lag = GroupLag { group, ..GroupLag::default() };
            for Sought { at, raft_group } in sought {
                let end = told.get(&raft_group).copied();
                lag.unknown += usize::from(end.is_none());
                lag.add(at, end.or_else(|| self.ends.get(&raft_group).copied()));
            }
            lag.partitions.sort_by_key(|at| Reverse(at.lag));
            unknown += lag.unknown;
            groups.push(lag);
        }
        // Names are in order already.
        groups.sort_by_key(|group| Reverse(group.lag));
        self.ends.extend(told);
        ConsumersPage { groups, unknown }
    }
}

impl GroupLag {
    fn add(&mut self, at: Offset, end: Option<i64>) {
        let behind = |end: i64| u64::try_from(end.saturating_sub(at.offset)).unwrap_or(0);
        let lag = end.map(behind);
        self.lag = self.lag.saturating_add(lag.unwrap_or(0));
        self.max = self.max.max(lag.unwrap_or(0));
        let Offset { topic, partition, offset: committed, .. } = at;
        self.partitions.push(PartitionLag { topic, partition, committed, end, lag });
    }
}
