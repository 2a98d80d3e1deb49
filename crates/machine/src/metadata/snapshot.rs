//! The metadata machine's state as bytes: JSON and its CRC-32C.
//!
//! Invariants: lists ascend, so equal states are equal bytes; a restored image satisfies what an
//! applied one does (ids below their counters, none twice), or restoring fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{BrokerId, GroupId, PrefixChecksum};
use serde::{Deserialize, Serialize};

use super::MetadataMachine;
use super::image::{BrokerRegistration, FIRST_GROUP, FIRST_REPLICA, Image, Topic};
use super::namesakes::Namesakes;
use crate::SnapshotError;

const FORMAT: u16 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    v: u16,
}

#[derive(Serialize, Deserialize)]
struct State<B, T, C, N> {
    v: u16,
    applied_index: u64,
    prefix: u32,
    version: u64,
    feature_level: u16,
    next_producer_id: i64,
    next_group: u64,
    next_replica: u64,
    brokers: Vec<B>,
    topics: Vec<T>,
    deleted_groups: Vec<(u64, u64)>,
    /// Per broker, `None` for all of them.
    #[serde(default)]
    broker_configs: Vec<(Option<i32>, C)>,
    /// Deleted topics by name; see [`Namesakes`].
    #[serde(default)]
    namesakes: N,
    #[serde(default)]
    namesakes_others: i64,
    /// The metadata group's own placement.
    #[serde(default)]
    quorum: Option<super::image::Partition>,
    #[serde(default)]
    leaving: Vec<i32>,
}

type Configs = BTreeMap<String, String>;
type Names = BTreeMap<String, i64>;
type Restored = State<BrokerRegistration, Topic, Configs, Names>;

pub(super) fn encode(machine: &MetadataMachine) -> Vec<u8> {
    let image = &machine.image;
    let (namesakes, namesakes_others) = image.namesakes.parts();
    let state: State<&BrokerRegistration, &Topic, &Configs, &Names> = State {
        v: FORMAT,
        applied_index: machine.applied_index,
        prefix: machine.prefix.0,
        version: image.version,
        feature_level: image.feature_level,
        next_producer_id: image.next_producer_id,
        next_group: image.next_group,
        next_replica: image.next_replica,
        brokers: image.brokers().map(Arc::as_ref).collect(),
        topics: image.topics().map(Arc::as_ref).collect(),
        deleted_groups: image.deleted.ranges().collect(),
        broker_configs: image
            .all_broker_configs()
            .map(|(broker, configs)| (broker.map(|id| id.0), configs))
            .collect(),
        namesakes,
        namesakes_others,
        quorum: (!image.quorum.replicas.is_empty()).then(|| image.quorum().clone()),
        leaving: image.leaving.iter().map(|broker| broker.0).collect(),
    };
    let mut out = serde_json::to_vec(&state).expect("no maps with keys that are not text");
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

pub(super) fn decode(bytes: &[u8]) -> Result<MetadataMachine, SnapshotError> {
    let (json, crc) = bytes.split_last_chunk::<4>().ok_or(SnapshotError::Truncated)?;
    if crc32c::crc32c(json) != u32::from_le_bytes(*crc) {
        return Err(SnapshotError::Checksum);
    }
    let malformed = |error: serde_json::Error| SnapshotError::Inconsistent(error.to_string());
    let Head { v } = serde_json::from_slice(json).map_err(malformed)?;
    if v != FORMAT {
        return Err(SnapshotError::Version(v));
    }
    let state: Restored = serde_json::from_slice(json).map_err(malformed)?;
    let machine = (state.applied_index, PrefixChecksum(state.prefix));
    let image = restore(state).map_err(SnapshotError::Inconsistent)?;
    Ok(MetadataMachine { applied_index: machine.0, prefix: machine.1, image: Arc::new(image) })
}

fn restore(state: Restored) -> Result<Image, String> {
    let Restored { next_producer_id, next_group, next_replica, .. } = state;
    if next_group < FIRST_GROUP || next_replica < FIRST_REPLICA || next_producer_id < 0 {
        return Err(format!("counters {next_group}, {next_replica}, {next_producer_id}"));
    }
    let mut image = Image::default();
    image.version = state.version;
    image.feature_level = state.feature_level;
    image.next_producer_id = next_producer_id;
    let names = Namesakes::restore(state.namesakes, state.namesakes_others, next_producer_id)?;
    image.namesakes = Arc::new(names);
    image.next_group = next_group;
    image.next_replica = next_replica;
    for broker in state.brokers {
        if image.broker(broker.id).is_some() {
            return Err(format!("broker {} twice", broker.id));
        }
        image.put_broker(Arc::new(broker));
    }
    if let Some(quorum) = state.quorum {
        let unknown = |replica: &super::image::Replica| replica.replica.0 >= next_replica;
        let all = quorum.replicas.iter().chain(&quorum.removing);
        if quorum.group != GroupId::METADATA || all.into_iter().any(unknown) {
            return Err("the metadata group's placement".into());
        }
        image.quorum = Arc::new(quorum);
    }
    image.leaving = Arc::new(state.leaving.into_iter().map(model::BrokerId).collect());
    let deleted = Arc::make_mut(&mut image.deleted);
    for (first, last) in state.deleted_groups {
        if first < FIRST_GROUP || last >= next_group || !deleted.restore(first, last) {
            return Err(format!("deleted groups {first} to {last}"));
        }
    }
    for (broker, configs) in state.broker_configs {
        let broker = broker.map(BrokerId);
        if configs.is_empty() || !image.broker_configs(broker).is_empty() {
            return Err(format!("configs of broker {broker:?}"));
        }
        image.put_broker_configs(broker, configs);
    }
    let mut replicas = BTreeSet::new();
    for topic in state.topics {
        check(&image, &topic, &mut replicas)?;
        image.put_topic(&Arc::new(topic));
    }
    Ok(image)
}

fn check(image: &Image, topic: &Topic, replicas: &mut BTreeSet<u64>) -> Result<(), String> {
    let name = &topic.name;
    if image.topic(name).is_some() || image.topic_by_id(topic.id).is_some() {
        return Err(format!("topic {name} twice"));
    }
    if topic.partitions.is_empty() {
        return Err(format!("topic {name} without partitions"));
    }
    let mut groups = BTreeSet::new();
    for (at, partition) in topic.partitions.iter().enumerate() {
        let GroupId(group) = partition.group;
        let known = image.partition_of(partition.group).is_some() || !groups.insert(group);
        let possible = (FIRST_GROUP..image.next_group).contains(&group);
        if known || !possible || image.deleted.contains(partition.group) {
            return Err(format!("topic {name} with group {group}"));
        }
        if i64::from(partition.index) != at as i64 || partition.replicas.is_empty() {
            return Err(format!("partition {} of topic {name}", partition.index));
        }
        for replica in partition.replicas.iter().chain(&partition.removing) {
            let id = replica.replica.0;
            if !(FIRST_REPLICA..image.next_replica).contains(&id) || !replicas.insert(id) {
                return Err(format!("replica {id} of topic {name}"));
            }
        }
    }
    Ok(())
}
