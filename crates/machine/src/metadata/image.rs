//! Metadata at one point of its log, as readers see it.
//!
//! Invariants: an image never changes; cloning one costs a few reference counts; the three ways
//! to find a topic (name, id, group) always agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{BrokerId, DirectoryId, GroupId, Incarnation, ReplicaId, TopicId};
use serde::{Deserialize, Serialize};

use super::ids;
use super::namesakes::Namesakes;

/// Where clients reach a broker under one listener name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub name: String,
    pub host: String,
    pub port: u16,
}

/// What a broker says about itself at every start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRegistration {
    #[serde(with = "ids::broker")]
    pub id: BrokerId,
    /// The data directory. Another one under a known id is a new disk: its replicas are new.
    #[serde(with = "ids::directory")]
    pub directory: DirectoryId,
    #[serde(with = "ids::incarnation")]
    pub incarnation: Incarnation,
    pub listeners: Vec<Listener>,
    /// `host:port` of its peer listener, for brokers that no configuration names.
    #[serde(default)]
    pub peer_address: Option<String>,
    #[serde(default)]
    pub rack: Option<String>,
    /// Feature name -> highest level this broker supports.
    #[serde(default)]
    pub features: BTreeMap<String, i16>,
}

/// One replica of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    #[serde(with = "ids::broker")]
    pub broker: BrokerId,
    #[serde(with = "ids::replica")]
    pub replica: ReplicaId,
    #[serde(with = "ids::directory")]
    pub directory: DirectoryId,
}

/// One partition and its raft group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    pub index: i32,
    #[serde(with = "ids::group")]
    pub group: GroupId,
    /// The target placement; the first is the preferred leader.
    pub replicas: Vec<Replica>,
    /// Voters of the group's first membership, once the placement differs from it: a replica
    /// that comes later replays the log from there. Empty: `replicas` are they.
    #[serde(default, with = "ids::replicas", skip_serializing_if = "Vec::is_empty")]
    pub founders: Vec<ReplicaId>,
    /// Replaced or moved away, and perhaps members of the group still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<Replica>,
    /// Counts changes of the placement, so that a late report is told from a current one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
}

fn is_zero(epoch: &u64) -> bool {
    *epoch == 0
}

impl Partition {
    /// A partition as it is born.
    pub fn new(index: i32, group: GroupId, replicas: Vec<Replica>) -> Partition {
        let (founders, removing) = (Vec::new(), Vec::new());
        Partition { index, group, replicas, founders, removing, epoch: 0 }
    }

    /// Voters of the first membership.
    pub fn founders(&self) -> Vec<ReplicaId> {
        match self.founders.is_empty() {
            true => self.replicas.iter().map(|replica| replica.replica).collect(),
            false => self.founders.clone(),
        }
    }

    /// The replica that belongs on this disk: `None` in neither list.
    pub fn on(&self, directory: DirectoryId) -> Option<&Replica> {
        self.replicas.iter().chain(&self.removing).find(|r| r.directory == directory)
    }
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    #[serde(with = "ids::topic")]
    pub id: TopicId,
    /// Ascending by index, without gaps.
    pub partitions: Vec<Partition>,
    /// Overrides only; see [`crate::config::TopicConfig::resolve`].
    pub configs: BTreeMap<String, String>,
    pub created_ms: i64,
    /// Producers with ids below may have written to a deleted topic of this name, and go on here
    /// at whatever sequence.
    #[serde(default)]
    pub producers_before: i64,
}

/// Groups whose topic was deleted, as ranges (first -> last): the committed reason, and the
/// only one, to remove a group's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedGroups {
    ranges: BTreeMap<u64, u64>,
}

impl DeletedGroups {
    pub fn contains(&self, group: GroupId) -> bool {
        self.ranges.range(..=group.0).next_back().is_some_and(|(_, last)| *last >= group.0)
    }

    /// Ranges (first, last), both inclusive, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }

    /// Adds a group, joining the ranges it touches.
    pub(super) fn insert(&mut self, group: GroupId) {
        if self.contains(group) {
            return;
        }
        let before = self.ranges.range(..group.0).next_back().map(|(first, last)| (*first, *last));
        let first = match before {
            Some((first, last)) if last + 1 == group.0 => first,
            _ => group.0,
        };
        let after = group.0.checked_add(1).and_then(|next| self.ranges.remove(&next));
        self.ranges.insert(first, after.unwrap_or(group.0));
    }

    /// Adds a range read from a snapshot; false if it does not lie behind the others.
    pub(super) fn restore(&mut self, first: u64, last: u64) -> bool {
        let behind = self.ranges.last_key_value().is_none_or(|(_, end)| end + 1 < first);
        if behind && first <= last && last < u64::MAX {
            self.ranges.insert(first, last);
            return true;
        }
        false
    }
}

/// A partition found by its group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    topic: Arc<Topic>,
    at: usize,
}

/// The metadata of the cluster, immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Index of the last entry that changed anything.
    pub(super) version: u64,
    brokers: Arc<BTreeMap<BrokerId, Arc<BrokerRegistration>>>,
    by_name: Arc<BTreeMap<String, Arc<Topic>>>,
    by_id: Arc<BTreeMap<TopicId, Arc<Topic>>>,
    by_group: Arc<BTreeMap<GroupId, Place>>,
    /// Configs of brokers, by broker; `None`: of all of them. None is empty.
    broker_configs: Arc<BTreeMap<Option<BrokerId>, BTreeMap<String, String>>>,
    pub(super) deleted: Arc<DeletedGroups>,
    pub(super) namesakes: Arc<Namesakes>,
    /// The metadata group's own placement; without replicas until its first leader said it.
    pub(super) quorum: Arc<Partition>,
    /// Brokers that are being emptied: they get no new replica.
    pub(super) leaving: Arc<std::collections::BTreeSet<BrokerId>>,
    pub(super) next_producer_id: i64,
    pub(super) next_group: u64,
    pub(super) next_replica: u64,
    pub(super) feature_level: u16,
}

/// Group ids below belong to metadata and to groups yet to be invented.
pub(super) const FIRST_GROUP: u64 = 2;
/// Replica ids below belong to the metadata group, see its birth record.
pub(super) const FIRST_REPLICA: u64 = 1_000;

impl Default for Image {
    fn default() -> Self {
        Image {
            version: 0,
            brokers: Arc::default(),
            by_name: Arc::default(),
            by_id: Arc::default(),
            by_group: Arc::default(),
            broker_configs: Arc::default(),
            deleted: Arc::default(),
            namesakes: Arc::default(),
            quorum: Arc::new(Partition::new(0, GroupId::METADATA, Vec::new())),
            leaving: Arc::default(),
            next_producer_id: 0,
            next_group: FIRST_GROUP,
            next_replica: FIRST_REPLICA,
            feature_level: 1,
        }
    }
}

impl Image {
    /// Index of the last entry that changed anything.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What every broker of the cluster has to understand.
    pub fn feature_level(&self) -> u16 {
        self.feature_level
    }

    /// Registered brokers, ascending by id; dead ones too.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<BrokerRegistration>> {
        self.brokers.values()
    }

    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerRegistration>> {
        self.brokers.get(&id)
    }

    /// Topics, ascending by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// The partition a group replicates.
    pub fn partition_of(&self, group: GroupId) -> Option<(&Arc<Topic>, &Partition)> {
        let place = self.by_group.get(&group)?;
        Some((&place.topic, &place.topic.partitions[place.at]))
    }

    /// Every partition, ascending by group.
    pub fn partitions(&self) -> impl Iterator<Item = (&Arc<Topic>, &Partition)> {
        self.by_group.values().map(|place| (&place.topic, &place.topic.partitions[place.at]))
    }

    pub fn partition_count(&self) -> usize {
        self.by_group.len()
    }

    /// What is set for one broker, or with `None` for all of them.
    pub fn broker_configs(&self, broker: Option<BrokerId>) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.broker_configs.get(&broker).unwrap_or(&NONE)
    }

    /// Everything that is set for brokers; `None` first.
    pub fn all_broker_configs(
        &self,
    ) -> impl Iterator<Item = (Option<BrokerId>, &BTreeMap<String, String>)> {
        self.broker_configs.iter().map(|(broker, configs)| (*broker, configs))
    }

    /// Groups whose files may go.
    pub fn deleted_groups(&self) -> &DeletedGroups {
        &self.deleted
    }

    /// The metadata group's own placement. The first `limits::METADATA_VOTERS_MAX` vote.
    pub fn quorum(&self) -> &Partition {
        &self.quorum
    }

    /// Brokers that are being emptied.
    pub fn leaving(&self) -> &std::collections::BTreeSet<BrokerId> {
        &self.leaving
    }

    /// Replica ids below it were handed out at or before this image.
    pub fn next_replica(&self) -> u64 {
        self.next_replica
    }

    /// The placement of any group, the metadata group included.
    pub fn placement_of(&self, group: GroupId) -> Option<&Partition> {
        match group {
            GroupId::METADATA => Some(&*self.quorum),
            group => self.partition_of(group).map(|(_, partition)| partition),
        }
    }

    /// The next producer id a block will begin with.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    #[cfg(test)]
    pub(crate) fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    pub(super) fn put_broker(&mut self, broker: Arc<BrokerRegistration>) {
        Arc::make_mut(&mut self.brokers).insert(broker.id, broker);
    }

    pub(super) fn put_broker_configs(
        &mut self,
        broker: Option<BrokerId>,
        configs: BTreeMap<String, String>,
    ) {
        let all = Arc::make_mut(&mut self.broker_configs);
        if configs.is_empty() {
            all.remove(&broker);
        } else {
            all.insert(broker, configs);
        }
    }

    pub(super) fn remove_broker(&mut self, id: BrokerId) {
        Arc::make_mut(&mut self.brokers).remove(&id);
        Arc::make_mut(&mut self.leaving).remove(&id);
    }

    /// Adds a topic, or replaces the one with the same id and name.
    pub(crate) fn put_topic(&mut self, topic: &Arc<Topic>) {
        Arc::make_mut(&mut self.by_name).insert(topic.name.clone(), Arc::clone(topic));
        Arc::make_mut(&mut self.by_id).insert(topic.id, Arc::clone(topic));
        let by_group = Arc::make_mut(&mut self.by_group);
        for (at, partition) in topic.partitions.iter().enumerate() {
            by_group.insert(partition.group, Place { topic: Arc::clone(topic), at });
        }
    }

    /// Removes a topic and names its groups as deleted.
    pub(crate) fn remove_topic(&mut self, topic: &Topic) {
        Arc::make_mut(&mut self.namesakes).deleted(&topic.name, self.next_producer_id);
        Arc::make_mut(&mut self.by_name).remove(&topic.name);
        Arc::make_mut(&mut self.by_id).remove(&topic.id);
        let by_group = Arc::make_mut(&mut self.by_group);
        let deleted = Arc::make_mut(&mut self.deleted);
        for partition in &topic.partitions {
            by_group.remove(&partition.group);
            deleted.insert(partition.group);
        }
    }
}
