//! What brokers ask the metadata leader, what its log holds, and what it answers.
//!
//! All three are JSON inside `{"v": 1, "body": ...}`: fields may be added (readers ignore what
//! they do not know, new fields have defaults), anything else is a new version.
//!
//! Invariant: bytes are bounded before they are parsed, and refused by name, never by panic.

use std::collections::BTreeMap;

use model::{BrokerId, ErrorCode, TopicId, limits};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::ids;
use super::image::BrokerRegistration;
use super::reassign::Placing;
use crate::config::ConfigChange;

const FORMAT: u16 = 1;

/// A topic by one of its two names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicRef {
    Name(String),
    Id(#[serde(with = "ids::topic")] TopicId),
}

/// A topic to be created. Sent again with the same id it succeeds with the same result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    pub name: String,
    /// Drawn by the caller, once per wish: what makes a retry safe.
    #[serde(with = "ids::topic")]
    pub id: TopicId,
    /// -1: `default_partitions`.
    pub partitions: i32,
    /// -1: `default_replication_factor`, or `internal_replication_factor` for names that start
    /// with `__`.
    pub replication_factor: i16,
    /// Per partition its brokers, first is preferred; not empty: the two fields above are -1.
    #[serde(default, with = "ids::assignments")]
    pub assignments: Vec<Vec<BrokerId>>,
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
    /// Check everything, create nothing.
    #[serde(default)]
    pub validate_only: bool,
    /// The calling broker's `num.partitions`.
    pub default_partitions: i32,
    /// The calling broker's `default.replication.factor`.
    pub default_replication_factor: i16,
    /// min(3, number of initial brokers).
    pub internal_replication_factor: i16,
}

/// What a broker asks of the metadata leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    RegisterBroker(BrokerRegistration),
    CreateTopic(CreateTopic),
    DeleteTopic(TopicRef),
    AllocateProducerIds {
        #[serde(with = "ids::broker")]
        broker: BrokerId,
    },
    AlterConfigs {
        resource: ConfigResource,
        change: ConfigChange,
        #[serde(default)]
        validate_only: bool,
    },
    AddPartitions(AddPartitions),
    /// Changes where replicas belong.
    Place(Placing),
    /// Which replica of the metadata group belongs on this disk.
    QuorumReplica {
        #[serde(with = "ids::directory")]
        directory: model::DirectoryId,
    },
}

/// What has configs of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigResource {
    /// A topic by name.
    Topic(String),
    /// One broker.
    Broker(#[serde(with = "ids::broker")] BrokerId),
    /// All brokers: what holds where a broker has no value of its own.
    Cluster,
}

/// A topic that shall have more partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddPartitions {
    pub name: String,
    /// How many it has, as far as the caller knows. A topic that has `total` and had fewer here
    /// was grown meanwhile, perhaps by this very request: asked again, it succeeds.
    pub seen: i32,
    /// How many it shall have.
    pub total: i32,
    /// Per new partition its brokers, first is preferred; empty: the leader places them.
    #[serde(default, with = "ids::assignments")]
    pub assignments: Vec<Vec<BrokerId>>,
    /// Check everything, add nothing.
    #[serde(default)]
    pub validate_only: bool,
}

impl Request {
    /// A closed label for metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Request::RegisterBroker(_) => "register_broker",
            Request::CreateTopic(_) => "create_topic",
            Request::DeleteTopic(_) => "delete_topic",
            Request::AllocateProducerIds { .. } => "allocate_producer_ids",
            Request::AlterConfigs { .. } => "alter_configs",
            Request::AddPartitions(_) => "add_partitions",
            Request::Place(_) => "place",
            Request::QuorumReplica { .. } => "quorum_replica",
        }
    }
}

/// A topic whose placement is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedTopic {
    pub name: String,
    #[serde(with = "ids::topic")]
    pub id: TopicId,
    #[serde(with = "ids::assignments")]
    pub assignments: Vec<Vec<BrokerId>>,
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
    pub created_ms: i64,
}

/// One entry of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    RegisterBroker(BrokerRegistration),
    CreateTopic(PlacedTopic),
    DeleteTopic {
        #[serde(with = "ids::topic")]
        id: TopicId,
    },
    AllocateProducerIds {
        #[serde(with = "ids::broker")]
        broker: BrokerId,
        count: i64,
    },
    Place(Placing),
    AlterTopicConfigs {
        #[serde(with = "ids::topic")]
        id: TopicId,
        change: ConfigChange,
    },
    /// `None`: of all brokers.
    AlterBrokerConfigs {
        broker: Option<i32>,
        change: ConfigChange,
    },
    AddPartitions {
        #[serde(with = "ids::topic")]
        id: TopicId,
        /// Index of the first new partition.
        first: i32,
        #[serde(with = "ids::assignments")]
        assignments: Vec<Vec<BrokerId>>,
    },
}

/// The answer to a request, upon commit or refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    BrokerRegistered,
    /// Also the answer to `validate_only`.
    TopicCreated {
        name: String,
        #[serde(with = "ids::topic")]
        id: TopicId,
        partitions: i32,
        replication_factor: i16,
    },
    TopicDeleted {
        name: String,
        #[serde(with = "ids::topic")]
        id: TopicId,
    },
    /// `first..first + count` are the caller's alone.
    ProducerIds {
        first: i64,
        count: i64,
    },
    /// Also the answer to `validate_only`. In force in images of this version.
    ConfigsAltered {
        version: u64,
    },
    /// Also the answer to `validate_only`, with the id zero.
    PartitionsAdded {
        #[serde(with = "ids::topic")]
        id: TopicId,
        total: i32,
    },
    /// The placement is as asked.
    Placed,
    QuorumReplica {
        #[serde(with = "ids::replica")]
        replica: model::ReplicaId,
    },
    /// Kafka's code and a text for the user.
    Rejected {
        code: i16,
        message: String,
    },
}

impl Response {
    pub fn rejected(code: ErrorCode, message: impl Into<String>) -> Response {
        Response::Rejected { code: code.code(), message: message.into() }
    }

    /// `None` unless it was rejected; a code this version does not know is a server error.
    pub fn rejection(&self) -> Option<(ErrorCode, &str)> {
        match self {
            Response::Rejected { code, message } => {
                let code = ErrorCode::from_i16(*code).filter(|code| code.is_err());
                Some((code.unwrap_or(ErrorCode::UnknownServerError), message))
            }
            _ => None,
        }
    }
}

/// Bytes that are not a request, command or response of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{0} bytes of metadata, the bound is {max}", max = limits::METADATA_COMMAND_BYTES_MAX)]
    TooLarge(usize),
    #[error("metadata format {0} is not supported")]
    Version(u16),
    #[error("not metadata: {0}")]
    Json(String),
}

pub fn encode_request(request: &Request) -> Vec<u8> {
    encode(request)
}

pub fn decode_request(bytes: &[u8]) -> Result<Request, DecodeError> {
    decode(bytes)
}

pub fn encode_command(command: &Command) -> Vec<u8> {
    encode(command)
}

pub fn decode_command(bytes: &[u8]) -> Result<Command, DecodeError> {
    decode(bytes)
}

pub fn encode_response(response: &Response) -> Vec<u8> {
    encode(response)
}

pub fn decode_response(bytes: &[u8]) -> Result<Response, DecodeError> {
    decode(bytes)
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    v: u16,
    body: T,
}

/// The version alone, readable whatever the body has become.
#[derive(Deserialize)]
struct Head {
    v: u16,
}

fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(&Envelope { v: FORMAT, body }).expect("no maps with keys that are not text")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > limits::METADATA_COMMAND_BYTES_MAX {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let json = |error: serde_json::Error| DecodeError::Json(error.to_string());
    let Head { v } = serde_json::from_slice(bytes).map_err(json)?;
    if v != FORMAT {
        return Err(DecodeError::Version(v));
    }
    Ok(serde_json::from_slice::<Envelope<T>>(bytes).map_err(json)?.body)
}
