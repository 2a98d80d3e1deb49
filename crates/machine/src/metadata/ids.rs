//! How identifiers look in JSON: numbers as numbers, random ids as 32 hexadecimal digits.
//!
//! The words themselves live in `model`, which knows no encoding; fields name one of these
//! modules with `#[serde(with = ...)]`.

use model::{BrokerId, DirectoryId, GroupId, Incarnation, ReplicaId, TopicId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

macro_rules! number {
    ($module:ident, $id:ident) => {
        pub(super) mod $module {
            use super::*;

            pub fn serialize<S: Serializer>(id: &$id, to: S) -> Result<S::Ok, S::Error> {
                id.0.serialize(to)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<$id, D::Error> {
                Deserialize::deserialize(from).map($id)
            }
        }
    };
}

macro_rules! text {
    ($module:ident, $id:ident) => {
        pub(super) mod $module {
            use super::*;

            pub fn serialize<S: Serializer>(id: &$id, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(id)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<$id, D::Error> {
                String::deserialize(from)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

number!(broker, BrokerId);
number!(group, GroupId);
number!(replica, ReplicaId);
number!(incarnation, Incarnation);
text!(directory, DirectoryId);
text!(topic, TopicId);

/// Lists of replica ids.
pub(super) mod replicas {
    use super::*;

    pub fn serialize<S: Serializer>(list: &[ReplicaId], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|id| id.0))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ReplicaId>, D::Error> {
        Ok(Vec::<u64>::deserialize(from)?.into_iter().map(ReplicaId).collect())
    }
}

/// Lists of broker ids.
pub(super) mod brokers {
    use super::*;

    pub fn serialize<S: Serializer>(list: &[BrokerId], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|id| id.0))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<BrokerId>, D::Error> {
        Ok(Vec::<i32>::deserialize(from)?.into_iter().map(BrokerId).collect())
    }
}

/// Replica assignments: per partition the brokers, first is preferred.
pub(super) mod assignments {
    use super::*;

    pub fn serialize<S: Serializer>(lists: &[Vec<BrokerId>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(lists.iter().map(|list| list.iter().map(|id| id.0).collect::<Vec<i32>>()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<BrokerId>>, D::Error> {
        let lists = Vec::<Vec<i32>>::deserialize(from)?;
        Ok(lists.into_iter().map(|list| list.into_iter().map(BrokerId).collect()).collect())
    }
}
