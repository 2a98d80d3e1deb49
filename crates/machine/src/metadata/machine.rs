//! Applying metadata commands, on every replica alike.
//!
//! Invariants: a command that no longer fits (a name taken meanwhile) is answered with a
//! rejection and changes nothing, on every replica alike; ids are handed out here and nowhere
//! else.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use model::{BrokerId, EntryKind, ErrorCode, GroupId, LogEntry, PrefixChecksum, ReplicaId};

use super::decide::created;
use super::image::{BrokerRegistration, Image, Partition, Replica, Topic};
use super::names::collision;
use super::protocol::{self, Command, PlacedTopic, Response};
use super::reassign;
use super::snapshot;
use crate::chain::{self, Mark};
use crate::{ApplyError, SnapshotError};

/// What an applied command changed, for the node to reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    BrokerRegistered(Arc<BrokerRegistration>),
    TopicCreated(Arc<Topic>),
    TopicDeleted(Arc<Topic>),
    TopicConfigsChanged(Arc<Topic>),
    PartitionsAdded(Arc<Topic>),
    /// `None`: of all brokers.
    BrokerConfigsChanged(Option<BrokerId>),
    /// Where replicas belong, or which brokers there are.
    PlacementChanged,
}

/// The replicated metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataMachine {
    pub(super) applied_index: u64,
    pub(super) prefix: PrefixChecksum,
    pub(super) image: Arc<Image>,
}

impl Default for MetadataMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl MetadataMachine {
    /// The state before the first entry.
    pub fn new() -> MetadataMachine {
        MetadataMachine {
            applied_index: 0,
            prefix: PrefixChecksum::default(),
            image: Arc::default(),
        }
    }

    /// Reads what [`MetadataMachine::snapshot`] wrote. Any bytes are survived.
    pub fn restore(bytes: &[u8]) -> Result<MetadataMachine, SnapshotError> {
        snapshot::decode(bytes)
    }

    /// The whole state, byte-identical on every replica that applied the same entries.
    pub fn snapshot(&self) -> Vec<u8> {
        snapshot::encode(self)
    }

    /// The current image; it stays as it is while the machine goes on.
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image)
    }

    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    pub fn prefix(&self) -> PrefixChecksum {
        self.prefix
    }

    /// The leader's half. The caller must have applied the whole log up to the new term's
    /// first entry.
    pub fn lead(&self) -> MetadataLead {
        MetadataLead { prefix: self.prefix }
    }

    /// Applies one committed entry: the answer for whoever proposed it, and what changed.
    /// After an error the state is as before: the machine is to be held at this entry.
    pub fn apply(
        &mut self,
        entry: &LogEntry,
    ) -> Result<(Option<Response>, Vec<Change>), ApplyError> {
        let index = entry.index;
        let Some((kind, prefix)) = chain::check(entry, self.applied_index, self.prefix)? else {
            self.applied_index = index;
            return Ok((None, Vec::new()));
        };
        if kind != EntryKind::Metadata {
            return Err(ApplyError::Kind { index, kind });
        }
        let command = protocol::decode_command(&entry.data)
            .map_err(|e| ApplyError::Malformed { index, why: e.to_string() })?;
        let image = Arc::make_mut(&mut self.image);
        let (response, changes) = match run(image, command, index) {
            Ok(done) => done,
            Err(rejected) => (rejected, Vec::new()),
        };
        if !changes.is_empty() || matches!(response, Response::ProducerIds { .. }) {
            image.version = index;
        }
        self.prefix = prefix;
        self.applied_index = index;
        Ok((Some(response), changes))
    }
}

/// The leader's half: chains the log's checksum. Decisions are [`super::decide`]'s.
#[derive(Debug)]
pub struct MetadataLead {
    prefix: PrefixChecksum,
}

impl MetadataLead {
    /// The entry (context, data) to propose for `command`.
    pub fn stamp(&mut self, command: &Command) -> (Bytes, Bytes) {
        let data = Bytes::from(protocol::encode_command(command));
        (chain::stamp(&mut self.prefix, EntryKind::Metadata, &data), data)
    }

    pub fn mark(&self) -> Mark {
        Mark { next_offset: 0, prefix: self.prefix }
    }

    /// Takes back everything stamped since `mark`: the proposal was dropped.
    pub fn rollback(&mut self, mark: Mark) {
        self.prefix = mark.prefix;
    }
}

type Done = (Response, Vec<Change>);

/// `version`: what the image becomes.
fn run(image: &mut Image, command: Command, version: u64) -> Result<Done, Response> {
    match command {
        Command::RegisterBroker(broker) => {
            let broker = Arc::new(broker);
            image.put_broker(Arc::clone(&broker));
            reassign::settle(image, &broker);
            Ok((Response::BrokerRegistered, vec![Change::BrokerRegistered(broker)]))
        }
        Command::CreateTopic(topic) => create(image, topic),
        Command::DeleteTopic { id } => {
            let topic = image.topic_by_id(id).cloned().ok_or_else(|| unknown(id))?;
            image.remove_topic(&topic);
            let (name, id) = (topic.name.clone(), topic.id);
            Ok((Response::TopicDeleted { name, id }, vec![Change::TopicDeleted(topic)]))
        }
        Command::AllocateProducerIds { broker: _, count } => {
            let first = image.next_producer_id;
            let next = first.checked_add(count).filter(|_| count > 0).ok_or_else(|| {
                Response::rejected(ErrorCode::UnknownServerError, "producer ids are used up")
            })?;
            image.next_producer_id = next;
            Ok((Response::ProducerIds { first, count }, Vec::new()))
        }
        Command::Place(placing) => reassign::run(image, placing),
        Command::AlterTopicConfigs { id, change } => {
            let topic = image.topic_by_id(id).ok_or_else(|| unknown(id))?;
            let configs = change.apply(&topic.configs);
            let topic = Arc::new(Topic { configs, ..Topic::clone(topic) });
            image.put_topic(&topic);
            Ok((Response::ConfigsAltered { version }, vec![Change::TopicConfigsChanged(topic)]))
        }
        Command::AlterBrokerConfigs { broker, change } => {
            let broker = broker.map(BrokerId);
            let configs = change.apply(image.broker_configs(broker));
            image.put_broker_configs(broker, configs);
            Ok((Response::ConfigsAltered { version }, vec![Change::BrokerConfigsChanged(broker)]))
        }
        Command::AddPartitions { id, first, assignments } => {
            add_partitions(image, id, first, assignments)
        }
    }
}

fn unknown(id: model::TopicId) -> Response {
    Response::rejected(ErrorCode::UnknownTopicOrPartition, format!("there is no topic {id}"))
}

fn create(image: &mut Image, placed: PlacedTopic) -> Result<Done, Response> {
    if let Some(topic) = image.topic(&placed.name) {
        if topic.id == placed.id {
            return Ok((created(topic), Vec::new()));
        }
        let why = format!("topic '{}' already exists", placed.name);
        return Err(Response::rejected(ErrorCode::TopicAlreadyExists, why));
    }
    if let Some(other) = collision(image, &placed.name) {
        let why = format!("topic '{}' collides with existing topic '{other}'", placed.name);
        return Err(Response::rejected(ErrorCode::InvalidTopicException, why));
    }
    if placed.id.is_zero() || image.topic_by_id(placed.id).is_some() {
        let why = format!("topic id {} is not a new one", placed.id);
        return Err(Response::rejected(ErrorCode::InvalidRequest, why));
    }
    let partitions = partitions(image, 0, &placed.assignments)?;
    let used: usize = partitions.iter().map(|partition| partition.replicas.len()).sum();
    image.next_group += partitions.len() as u64;
    image.next_replica += used as u64;
    let PlacedTopic { name, id, configs, created_ms, .. } = placed;
    let producers_before = image.namesakes.producers_before(&name);
    let topic = Topic { name, id, partitions, configs, created_ms, producers_before };
    let topic = Arc::new(topic);
    image.put_topic(&topic);
    Ok((created(&topic), vec![Change::TopicCreated(topic)]))
}

fn add_partitions(
    image: &mut Image,
    id: model::TopicId,
    first: i32,
    assignments: Vec<Vec<BrokerId>>,
) -> Result<Done, Response> {
    let topic = image.topic_by_id(id).cloned().ok_or_else(|| unknown(id))?;
    let count = topic.partitions.len() as i32;
    if count != first {
        let why = format!("topic '{}' was grown to {count} partitions meanwhile", topic.name);
        return Err(Response::rejected(ErrorCode::InvalidPartitions, why));
    }
    let added = partitions(image, first, &assignments)?;
    image.next_group += added.len() as u64;
    image.next_replica +=
        added.iter().map(|partition| partition.replicas.len() as u64).sum::<u64>();
    let mut topic = Topic::clone(&topic);
    topic.partitions.extend(added);
    let topic = Arc::new(topic);
    image.put_topic(&topic);
    let total = topic.partitions.len() as i32;
    Ok((Response::PartitionsAdded { id, total }, vec![Change::PartitionsAdded(topic)]))
}

/// Numbers groups and replicas from the image's counters, without advancing them; partitions
/// from `first` on.
fn partitions(
    image: &Image,
    first: i32,
    assignments: &[Vec<BrokerId>],
) -> Result<Vec<Partition>, Response> {
    let invalid = |why: String| Response::rejected(ErrorCode::InvalidReplicaAssignment, why);
    if assignments.is_empty() {
        return Err(invalid("no partitions".into()));
    }
    let mut next_replica = image.next_replica;
    let mut partitions = Vec::with_capacity(assignments.len());
    for (at, brokers) in assignments.iter().enumerate() {
        let distinct = brokers.iter().collect::<BTreeSet<_>>().len();
        if brokers.is_empty() || distinct != brokers.len() {
            return Err(invalid(format!("partition {at} has no replica, or a broker twice")));
        }
        let mut replicas = Vec::with_capacity(brokers.len());
        for id in brokers {
            let broker = image
                .broker(*id)
                .ok_or_else(|| invalid(format!("partition {at}: broker {id} is not registered")))?;
            let replica = ReplicaId(next_replica);
            next_replica += 1;
            replicas.push(Replica { broker: *id, replica, directory: broker.directory });
        }
        let group = GroupId(image.next_group + at as u64);
        partitions.push(Partition::new(first + at as i32, group, replicas));
    }
    Ok(partitions)
}
