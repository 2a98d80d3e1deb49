//! Growing a topic (KIP-195). Records stay where they are: keys of new records may map to other
//! partitions, which is why a topic never shrinks and never grows by itself.

use model::{BrokerId, ErrorCode, TopicId, limits};

use super::decide::{check_assignments, check_total, find, seed};
use super::image::{Image, Topic};
use super::placement::place;
use super::protocol::{AddPartitions, Command, Response, TopicRef};

pub(super) fn add(
    image: &Image,
    wish: AddPartitions,
    alive: &dyn Fn(BrokerId) -> bool,
) -> Result<Command, Response> {
    let topic = find(image, &TopicRef::Name(wish.name.clone()))?;
    let count = topic.partitions.len() as i32;
    if wish.total == count && wish.seen < count {
        return Err(Response::PartitionsAdded { id: topic.id, total: count });
    }
    let added = check_count(topic, wish.total)?;
    check_total(image, added)?;
    let factor = topic.partitions[0].replicas.len();
    let assignments = if wish.assignments.is_empty() {
        place(image, alive, Some(topic), added, factor, seed(&topic.id)).ok_or_else(|| {
            let why = format!("{factor} replicas do not fit the registered brokers");
            Response::rejected(ErrorCode::InvalidReplicationFactor, why)
        })?
    } else {
        if wish.assignments.len() != added {
            let given = wish.assignments.len();
            let why = format!("{added} partitions are to be added, {given} are assigned");
            return Err(Response::rejected(ErrorCode::InvalidReplicaAssignment, why));
        }
        check_assignments(image, count, factor, &wish.assignments)?;
        wish.assignments
    };
    if wish.validate_only {
        return Err(Response::PartitionsAdded { id: TopicId::ZERO, total: wish.total });
    }
    Ok(Command::AddPartitions { id: topic.id, first: count, assignments })
}

/// How many are to be added.
fn check_count(topic: &Topic, total: i32) -> Result<usize, Response> {
    let count = topic.partitions.len() as i32;
    let max = limits::PARTITIONS_PER_TOPIC_MAX;
    let name = &topic.name;
    let why = if total == count {
        format!("topic '{name}' has {count} partitions already")
    } else if total < count {
        format!("topic '{name}' has {count} partitions and cannot shrink to {total}")
    } else if total > max {
        format!("{total} partitions: at most {max} are possible")
    } else {
        return Ok((total - count) as usize);
    };
    Err(Response::rejected(ErrorCode::InvalidPartitions, why))
}
