//! What every replica of a coordinator knows: completed rebalances and committed offsets.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use model::GroupId;

use super::record::{self, Key, Record};
use crate::metadata::Image;

/// One committed offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    /// -1: not told.
    pub leader_epoch: i32,
    /// Whatever the client wants to keep beside it.
    pub metadata: String,
    /// Milliseconds since 1970.
    pub commit_ms: i64,
    /// The raft group of the partition it was committed for, which tells a topic from its
    /// namesakes; `None`: written before it was told.
    pub raft_group: Option<GroupId>,
}

impl CommittedOffset {
    /// Its topic was deleted. A topic that `image` merely does not know may be a newer one.
    pub fn is_orphan(&self, image: &Image) -> bool {
        self.raft_group.is_some_and(|group| image.deleted_groups().contains(group))
    }
}

/// A member as of the last completed rebalance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredMember {
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The member's metadata under the chosen protocol.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A group as of its last completed rebalance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredGroup {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// When it came into this state, milliseconds since 1970; -1: not told.
    pub state_ms: i64,
    pub members: Vec<StoredMember>,
}

/// A change that an entry made, decoded before anything is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Offset { group: String, topic: String, partition: i32, value: Option<CommittedOffset> },
    Group { group: String, value: Option<StoredGroup> },
}

impl Change {
    /// `Ok(None)`: nothing that this version knows.
    pub(super) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Change>, &'static str> {
        let Some(key) = record::decode_key(key)? else { return Ok(None) };
        Ok(match (key, value) {
            (Key::Offset { group, topic, partition }, None) => {
                Some(Change::Offset { group, topic, partition, value: None })
            }
            (Key::Offset { group, topic, partition }, Some(value)) => record::decode_offset(value)?
                .map(|value| Change::Offset { group, topic, partition, value: Some(value) }),
            (Key::Group { group }, None) => Some(Change::Group { group, value: None }),
            (Key::Group { group }, Some(value)) => record::decode_group(value)?
                .map(|value| Change::Group { group, value: Some(value) }),
        })
    }
}

type Offsets = BTreeMap<String, BTreeMap<i32, CommittedOffset>>;

/// All groups of one coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    groups: BTreeMap<String, StoredGroup>,
    /// By group, topic, partition; never empty inside.
    offsets: BTreeMap<String, Offsets>,
}

impl Groups {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Group { group, value: Some(value) } => {
                self.groups.insert(group, value);
            }
            Change::Group { group, value: None } => {
                self.groups.remove(&group);
            }
            Change::Offset { group, topic, partition, value: Some(value) } => {
                let topics = self.offsets.entry(group).or_default();
                topics.entry(topic).or_default().insert(partition, value);
            }
            Change::Offset { group, topic, partition, value: None } => {
                self.forget_offset(&group, &topic, partition);
            }
        }
    }

    fn forget_offset(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(topics) = self.offsets.get_mut(group) else { return };
        if let Some(partitions) = topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                topics.remove(topic);
            }
        }
        if topics.is_empty() {
            self.offsets.remove(group);
        }
    }

    pub fn group(&self, group: &str) -> Option<&StoredGroup> {
        self.groups.get(group)
    }

    /// Groups that completed a rebalance once, by id.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &StoredGroup)> {
        self.groups.iter().map(|(id, group)| (id.as_str(), group))
    }

    /// Everybody known: with members, with offsets, or both.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let without_group = self.offsets.keys().filter(|id| !self.groups.contains_key(*id));
        self.groups.keys().chain(without_group).map(String::as_str)
    }

    pub fn knows(&self, group: &str) -> bool {
        self.groups.contains_key(group) || self.offsets.contains_key(group)
    }

    pub fn offset(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.offsets.get(group)?.get(topic)?.get(&partition)
    }

    /// Committed offsets of a group: topic, partition, offset.
    pub fn offsets<'a>(
        &'a self,
        group: &str,
    ) -> impl Iterator<Item = (&'a str, i32, &'a CommittedOffset)> {
        let topics = self.offsets.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, offset)| (topic.as_str(), *partition, offset))
        })
    }

    /// Committed offsets of all groups, in the order of group, topic and partition; those behind
    /// `after`.
    pub fn offsets_after<'a>(
        &'a self,
        after: Option<(&'a str, &'a str, i32)>,
    ) -> impl Iterator<Item = (&'a str, &'a str, i32, &'a CommittedOffset)> {
        let from = after.map_or(Bound::Unbounded, |(group, ..)| Bound::Included(group));
        let groups = self.offsets.range::<str, _>((from, Bound::Unbounded));
        groups.flat_map(move |(group, topics)| {
            let after = after.filter(|(known, ..)| known == group);
            let from = after.map_or(Bound::Unbounded, |(_, topic, _)| Bound::Included(topic));
            let topics = topics.range::<str, _>((from, Bound::Unbounded));
            topics.flat_map(move |(topic, partitions)| {
                let after = after.filter(|(_, known, _)| known == topic);
                let from = after.map_or(Bound::Unbounded, |(.., last)| Bound::Excluded(last));
                let partitions = partitions.range((from, Bound::Unbounded));
                partitions.map(move |(partition, offset)| {
                    (group.as_str(), topic.as_str(), *partition, offset)
                })
            })
        })
    }

    pub fn len(&self) -> usize {
        self.ids().count()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.offsets.is_empty()
    }

    /// The records that make this state from nothing, in one order on every replica.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let groups = self.groups.iter().map(|(id, group)| Record::group(id, Some(group)));
        let offsets = self.offsets.keys().flat_map(|group| {
            self.offsets(group).map(move |(topic, partition, offset)| {
                Record::offset(group, topic, partition, Some(offset))
            })
        });
        groups.chain(offsets)
    }
}
