//! The metadata leader's half: from a request to the command to be proposed, or to an answer
//! that needs no entry.
//!
//! Everything a user can get wrong is caught here. Decisions rest on applied state only; two
//! requests in flight may both pass, and apply lets the first one win.

use std::collections::BTreeSet;

use model::{BrokerId, ErrorCode, Now, TopicId, limits};

use super::image::{BrokerRegistration, Image, Topic};
use super::names::{collision, is_internal, validate_topic_name};
use super::placement::place;
use super::protocol::{Command, CreateTopic, PlacedTopic, Request, Response, TopicRef};
use super::{decide_configs, decide_partitions};
use crate::config;

/// `Ok`: propose this; the answer comes when it is applied. `Err`: answer this now.
/// `alive` says which brokers the leader hears; placement prefers them.
pub fn decide(
    now: Now,
    image: &Image,
    request: Request,
    alive: &dyn Fn(BrokerId) -> bool,
) -> Result<Command, Response> {
    match request {
        Request::RegisterBroker(broker) => register(image, broker),
        Request::CreateTopic(wish) => create(now, image, wish, alive),
        Request::DeleteTopic(topic) => {
            find(image, &topic).map(|topic| Command::DeleteTopic { id: topic.id })
        }
        Request::AllocateProducerIds { broker } => {
            Ok(Command::AllocateProducerIds { broker, count: limits::PRODUCER_ID_BLOCK })
        }
        Request::AlterConfigs { resource, change, validate_only } => {
            decide_configs::alter(image, resource, change, validate_only)
        }
        Request::Place(placing) => super::reassign::decide(image, placing, alive),
        Request::QuorumReplica { directory } => {
            let own = image.quorum().replicas.iter().find(|r| r.directory == directory);
            Err(match own {
                Some(own) => Response::QuorumReplica { replica: own.replica },
                None => Response::rejected(
                    ErrorCode::NotController,
                    "no replica of the metadata group is placed on this disk yet",
                ),
            })
        }
        Request::AddPartitions(wish) => decide_partitions::add(image, wish, alive),
    }
}

fn register(image: &Image, broker: BrokerRegistration) -> Result<Command, Response> {
    let invalid = |why: String| Err(Response::rejected(ErrorCode::InvalidRequest, why));
    let too_long = |text: &String| text.is_empty() || text.len() > limits::BROKER_TEXT_LEN_MAX;
    let listeners = &broker.listeners;
    if broker.id.0 < 0 || broker.directory.is_zero() {
        return invalid(format!("broker {}, directory {}", broker.id, broker.directory));
    }
    if listeners.is_empty() || listeners.len() > limits::LISTENERS_PER_BROKER_MAX {
        return invalid(format!("broker {} has {} listeners", broker.id, listeners.len()));
    }
    if let Some(bad) =
        listeners.iter().find(|l| too_long(&l.name) || too_long(&l.host) || l.port == 0)
    {
        return invalid(format!("listener {}://{}:{}", bad.name, bad.host, bad.port));
    }
    if broker.peer_address.as_ref().is_some_and(too_long) {
        return invalid(format!("peer address of broker {}", broker.id));
    }
    if broker.rack.as_ref().is_some_and(too_long) {
        return invalid(format!("rack of broker {}", broker.id));
    }
    match image.broker(broker.id) {
        Some(known) if **known == broker => return Err(Response::BrokerRegistered),
        None if image.brokers().len() >= limits::BROKERS_MAX => {
            return invalid(format!("{} brokers are registered", limits::BROKERS_MAX));
        }
        _ => {}
    }
    Ok(Command::RegisterBroker(broker))
}

fn create(
    now: Now,
    image: &Image,
    wish: CreateTopic,
    alive: &dyn Fn(BrokerId) -> bool,
) -> Result<Command, Response> {
    if let Some(topic) = image.topic(&wish.name)
        && topic.id == wish.id
    {
        return Err(created(topic));
    }
    check_name(image, &wish.name)?;
    if wish.id.is_zero() || image.topic_by_id(wish.id).is_some() {
        let why = format!("topic id {} is not a new one", wish.id);
        return Err(Response::rejected(ErrorCode::InvalidRequest, why));
    }
    config::validate(&wish.configs)
        .map_err(|e| Response::rejected(ErrorCode::InvalidConfig, e.to_string()))?;
    let assignments = if wish.assignments.is_empty() {
        assign(image, &wish, alive)?
    } else {
        if wish.partitions != -1 || wish.replication_factor != -1 {
            let why = "partitions and replication factor must be -1 beside a replica assignment";
            return Err(Response::rejected(ErrorCode::InvalidRequest, why));
        }
        check_assignments(image, 0, wish.assignments[0].len(), &wish.assignments)?;
        wish.assignments
    };
    check_total(image, assignments.len())?;
    if wish.validate_only {
        return Err(Response::TopicCreated {
            name: wish.name,
            id: TopicId::ZERO,
            partitions: assignments.len() as i32,
            replication_factor: assignments[0].len() as i16,
        });
    }
    Ok(Command::CreateTopic(PlacedTopic {
        name: wish.name,
        id: wish.id,
        assignments,
        configs: wish.configs,
        created_ms: now.wall_ms,
    }))
}

/// The answer for a topic that exists as wished.
pub(super) fn created(topic: &Topic) -> Response {
    Response::TopicCreated {
        name: topic.name.clone(),
        id: topic.id,
        partitions: topic.partitions.len() as i32,
        replication_factor: topic.partitions.first().map_or(0, |p| p.replicas.len() as i16),
    }
}

fn check_name(image: &Image, name: &str) -> Result<(), Response> {
    validate_topic_name(name)
        .map_err(|why| Response::rejected(ErrorCode::InvalidTopicException, why))?;
    if image.topic(name).is_some() {
        let why = format!("topic '{name}' already exists");
        return Err(Response::rejected(ErrorCode::TopicAlreadyExists, why));
    }
    if let Some(other) = collision(image, name) {
        let why = format!("topic '{name}' collides with existing topic '{other}'");
        return Err(Response::rejected(ErrorCode::InvalidTopicException, why));
    }
    Ok(())
}

fn assign(
    image: &Image,
    wish: &CreateTopic,
    alive: &dyn Fn(BrokerId) -> bool,
) -> Result<Vec<Vec<BrokerId>>, Response> {
    let partitions = match wish.partitions {
        -1 => wish.default_partitions,
        partitions => partitions,
    };
    if !(1..=limits::PARTITIONS_PER_TOPIC_MAX).contains(&partitions) {
        let max = limits::PARTITIONS_PER_TOPIC_MAX;
        let why = format!("{partitions} partitions: between 1 and {max} are possible");
        return Err(Response::rejected(ErrorCode::InvalidPartitions, why));
    }
    let factor = match wish.replication_factor {
        -1 if is_internal(&wish.name) => wish.internal_replication_factor,
        -1 => wish.default_replication_factor,
        factor => factor,
    };
    let known = image.brokers().len();
    let bad_factor = || {
        let why = format!("replication factor {factor}: {known} brokers are registered");
        Response::rejected(ErrorCode::InvalidReplicationFactor, why)
    };
    let factor = usize::try_from(factor).map_err(|_| bad_factor())?;
    check_total(image, partitions as usize)?;
    place(image, alive, None, partitions as usize, factor, seed(&wish.id)).ok_or_else(bad_factor)
}

/// Where placement begins: at another broker for every topic.
pub(super) fn seed(id: &TopicId) -> u64 {
    id.0.iter().fold(0u64, |seed, byte| seed.rotate_left(5) ^ u64::from(*byte))
}

pub(super) fn check_total(image: &Image, more: usize) -> Result<(), Response> {
    if more > limits::PARTITIONS_PER_TOPIC_MAX as usize
        || image.partition_count() + more > limits::PARTITIONS_MAX
    {
        let why = format!(
            "{more} more partitions: a topic may have {}, the cluster {} and has {}",
            limits::PARTITIONS_PER_TOPIC_MAX,
            limits::PARTITIONS_MAX,
            image.partition_count()
        );
        return Err(Response::rejected(ErrorCode::InvalidPartitions, why));
    }
    Ok(())
}

/// Kafka's rules for a manual assignment: registered brokers, none twice, one length.
pub(super) fn check_assignments(
    image: &Image,
    first: i32,
    factor: usize,
    assignments: &[Vec<BrokerId>],
) -> Result<(), Response> {
    let invalid = |why: String| Err(Response::rejected(ErrorCode::InvalidReplicaAssignment, why));
    for (at, brokers) in assignments.iter().enumerate() {
        let partition = first + at as i32;
        if brokers.is_empty() || brokers.len() != factor {
            let count = brokers.len();
            let why = format!("partition {partition} has {count} replicas, the others {factor}");
            return invalid(why);
        }
        if let Some(unknown) = brokers.iter().find(|id| image.broker(**id).is_none()) {
            return invalid(format!("partition {partition}: broker {unknown} is not registered"));
        }
        if brokers.iter().collect::<BTreeSet<_>>().len() != brokers.len() {
            return invalid(format!("partition {partition} names a broker twice"));
        }
    }
    Ok(())
}

pub(super) fn find<'a>(image: &'a Image, topic: &TopicRef) -> Result<&'a Topic, Response> {
    let (found, code, name) = match topic {
        TopicRef::Name(name) => {
            (image.topic(name), ErrorCode::UnknownTopicOrPartition, name.clone())
        }
        TopicRef::Id(id) => (image.topic_by_id(*id), ErrorCode::UnknownTopicId, id.to_string()),
    };
    match found {
        Some(topic) => Ok(topic),
        None => Err(Response::rejected(code, format!("there is no topic {name}"))),
    }
}
