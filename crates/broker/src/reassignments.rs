//! A partition on its way from the brokers it is on to those it shall be on.
//!
//! Metadata knows the wish, the partition's leader who votes: both together are the answer.

use std::time::Duration;

use model::{BrokerId, ErrorCode, limits};
use node::metadata::Partition;
use node::{AdminAnswer, AdminAsk, Node, Refusal};

/// One that is under way. Brokers, the preferred first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reassignment {
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
    /// All there are at the moment.
    pub all: Vec<BrokerId>,
    /// Who voted before it began, as far as they still do.
    pub before: Vec<BrokerId>,
}

/// `None`: the partition is where it belongs.
pub(crate) async fn under_way(
    node: &Node,
    partition: &Partition,
) -> Result<Option<Reassignment>, Refusal> {
    // Its placement never changed.
    if partition.epoch == 0 {
        return Ok(None);
    }
    let within = Duration::from_millis(limits::GUARD_MS_MAX);
    let answer = node.admin(partition.group, AdminAsk::Quorum, within).await?;
    let AdminAnswer::Quorum(quorum) = answer else {
        return Err(Refusal { code: ErrorCode::UnknownServerError, why: "no answer".into() });
    };
    let voters: Vec<String> = quorum.voters.into_iter().map(|voter| voter.directory).collect();
    Ok(between(partition, &voters))
}

/// `voters`: their directories, 32 hexadecimal digits each.
fn between(partition: &Partition, voters: &[String]) -> Option<Reassignment> {
    let votes = |r: &&node::metadata::Replica| voters.contains(&r.directory.to_string());
    let brokers = |all: Vec<&node::metadata::Replica>| all.into_iter().map(|r| r.broker).collect();
    let (placed, leaving) = (&partition.replicas, &partition.removing);
    let adding: Vec<BrokerId> = brokers(placed.iter().filter(|r| !votes(r)).collect());
    if adding.is_empty() && leaving.is_empty() {
        return None;
    }
    Some(Reassignment {
        adding,
        removing: brokers(leaving.iter().collect()),
        all: brokers(placed.iter().chain(leaving).collect()),
        before: brokers(placed.iter().chain(leaving).filter(votes).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{DirectoryId, GroupId, ReplicaId};
    use node::metadata::Replica;

    fn replica(broker: i32) -> Replica {
        let directory = DirectoryId([broker as u8; 16]);
        Replica { broker: BrokerId(broker), replica: ReplicaId(broker as u64), directory }
    }

    fn voters(brokers: &[i32]) -> Vec<String> {
        brokers.iter().map(|id| replica(*id).directory.to_string()).collect()
    }

    #[test]
    fn a_move_is_under_way_until_the_new_one_votes_and_the_old_one_is_gone() {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let mut partition = Partition::new(0, GroupId(9), vec![replica(4), replica(2)]);
        partition.removing = vec![replica(1)];
        let moving = between(&partition, &voters(&[1, 2])).unwrap();
        assert_eq!((moving.adding, moving.removing), (ids(&[4]), ids(&[1])));
        assert_eq!((moving.all, moving.before), (ids(&[4, 2, 1]), ids(&[2, 1])));
        assert_eq!(between(&partition, &voters(&[4, 2])).unwrap().adding, []);
        partition.removing.clear();
        assert_eq!(between(&partition, &voters(&[4, 2])), None);
        // One more replica: nobody leaves.
        assert_eq!(between(&partition, &voters(&[2])).unwrap().adding, ids(&[4]));
    }
}
