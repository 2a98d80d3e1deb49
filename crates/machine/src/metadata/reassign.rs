//! Where replicas belong, after their topic was created: new disks under known brokers, replicas
//! that cannot be trusted or used, moves, brokers that are emptied and go.
//!
//! Metadata holds the target; a group's leader brings its membership there and then says which
//! replicas are gone. Until it did they stay in `removing`, and their broker keeps them.
//!
//! Invariants: a replica id is handed out once; only a replica that is in neither list may be
//! removed from its disk; a report about an older placement changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{BrokerId, DirectoryId, ErrorCode, GroupId, ReplicaId, limits};
use serde::{Deserialize, Serialize};

use super::ids;
use super::image::{BrokerRegistration, Image, Partition, Replica, Topic};
use super::machine::Change;
use super::protocol::{Command, Response};

/// One partition and the brokers it shall be on, the preferred first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    #[serde(with = "ids::group")]
    pub group: GroupId,
    #[serde(with = "ids::brokers")]
    pub brokers: Vec<BrokerId>,
}

/// A change of placement: asked for and logged in the same form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placing {
    /// The metadata group as it was born; only the first counts.
    AdoptQuorum {
        replicas: Vec<Replica>,
    },
    Move(Vec<Move>),
    /// Every replica off this broker; `avoid` take none.
    Empty {
        #[serde(with = "ids::broker")]
        broker: BrokerId,
        #[serde(default, with = "ids::brokers")]
        avoid: Vec<BrokerId>,
    },
    /// The leader's word: these are members of the group no more.
    Gone {
        #[serde(with = "ids::group")]
        group: GroupId,
        epoch: u64,
        #[serde(with = "ids::replicas")]
        replicas: Vec<ReplicaId>,
    },
    /// A broker without partitions leaves the metadata group; asked again, it is forgotten.
    Unregister {
        #[serde(with = "ids::broker")]
        broker: BrokerId,
    },
    /// This replica cannot be trusted or used any more: its disk gets a new one in its place.
    Renew {
        #[serde(with = "ids::group")]
        group: GroupId,
        #[serde(with = "ids::replica")]
        replica: ReplicaId,
    },
}

fn refuse<T>(code: ErrorCode, why: impl Into<String>) -> Result<T, Response> {
    Err(Response::rejected(code, why))
}

/// Checks a wish against the image; see [`super::decide`].
pub(super) fn decide(
    image: &Image,
    placing: Placing,
    alive: &dyn Fn(BrokerId) -> bool,
) -> Result<Command, Response> {
    match &placing {
        Placing::AdoptQuorum { replicas } => {
            if !image.quorum().replicas.is_empty() || replicas.is_empty() {
                return Err(Response::Placed);
            }
        }
        Placing::Move(moves) => {
            for wish in moves {
                check_move(image, wish)?;
            }
        }
        Placing::Empty { broker, .. } => {
            if image.leaving().contains(broker) && replicas_on(image, *broker) == 0 {
                return Err(Response::Placed);
            }
            let seats = image.brokers().map(|broker| broker.id);
            let avoid: Vec<BrokerId> = seats.filter(|id| !alive(*id)).collect();
            check_empty(image, *broker, &avoid)?;
            return Ok(Command::Place(Placing::Empty { broker: *broker, avoid }));
        }
        Placing::Gone { group, epoch, replicas } => {
            let stays = |p: &&Partition| p.epoch == *epoch;
            let known = image.placement_of(*group).filter(stays);
            let some = |p: &Partition| p.removing.iter().any(|r| replicas.contains(&r.replica));
            if !known.is_some_and(some) {
                return Err(Response::Placed);
            }
        }
        Placing::Unregister { broker } => {
            if image.broker(*broker).is_none() {
                return Err(Response::Placed);
            }
            let left = partitions_on(image, *broker);
            if left > 0 || image.quorum().replicas.iter().all(|r| r.broker == *broker) {
                let why = format!("broker {broker} still has {left} replicas");
                return refuse(ErrorCode::InvalidRequest, why);
            }
        }
        Placing::Renew { group, replica } => {
            if !check_renew(image, *group, *replica)? {
                return Err(Response::Placed);
            }
        }
    }
    Ok(Command::Place(placing))
}

/// `Ok(false)`: it is on its way out already.
fn check_renew(image: &Image, group: GroupId, replica: ReplicaId) -> Result<bool, Response> {
    let Some((topic, partition)) = image.partition_of(group) else {
        let why = format!("group {group} is no partition: its replicas are not renewed");
        return refuse(ErrorCode::UnknownTopicOrPartition, why);
    };
    let name = format!("{}-{}", topic.name, partition.index);
    if partition.removing.iter().any(|r| r.replica == replica) {
        return Ok(false);
    }
    let Some(own) = partition.replicas.iter().find(|r| r.replica == replica) else {
        let why = format!("{name}: replica {replica} is not placed");
        return refuse(ErrorCode::InvalidRequest, why);
    };
    // One broker at a time: the others have to carry the group meanwhile. What the same broker
    // had before does not count: a new replica may turn out as bad as the old one.
    if let Some(other) = partition.removing.iter().find(|r| r.broker != own.broker) {
        let why = format!("{name}: replica {} is to leave it first", other.replica);
        return refuse(ErrorCode::ReassignmentInProgress, why);
    }
    Ok(true)
}

/// A new id on the same disk. The old one's disk is [`DirectoryId::LOST`] from now on: nothing
/// may open it again, wherever the partition is moved before it has left its group.
fn renew(partition: &mut Partition, replica: ReplicaId, next: &mut u64) {
    let founders = partition.founders();
    let Some(own) = partition.replicas.iter_mut().find(|r| r.replica == replica) else { return };
    let old = Replica { directory: DirectoryId::LOST, ..*own };
    own.replica = ReplicaId(*next);
    *next += 1;
    partition.removing.push(old);
    partition.founders = founders;
}

fn check_move(image: &Image, wish: &Move) -> Result<(), Response> {
    let Some((topic, partition)) = image.partition_of(wish.group) else {
        return refuse(ErrorCode::UnknownTopicOrPartition, "there is no such partition");
    };
    let name = format!("{}-{}", topic.name, partition.index);
    let distinct: std::collections::BTreeSet<_> = wish.brokers.iter().collect();
    if wish.brokers.is_empty() || distinct.len() != wish.brokers.len() {
        let why = format!("{name}: no broker, or one twice");
        return refuse(ErrorCode::InvalidReplicaAssignment, why);
    }
    if wish.brokers.len() > limits::GROUP_VOTERS_MAX {
        let why = format!("{name}: {} replicas", wish.brokers.len());
        return refuse(ErrorCode::InvalidReplicaAssignment, why);
    }
    if let Some(id) = wish.brokers.iter().find(|id| image.broker(**id).is_none()) {
        let why = format!("{name}: broker {id} is not registered");
        return refuse(ErrorCode::InvalidReplicaAssignment, why);
    }
    Ok(())
}

fn check_empty(image: &Image, broker: BrokerId, avoid: &[BrokerId]) -> Result<(), Response> {
    if image.broker(broker).is_none() {
        let why = format!("broker {broker} is not registered");
        return refuse(ErrorCode::InvalidRequest, why);
    }
    for (topic, partition) in image.partitions() {
        let here = partition.replicas.iter().any(|replica| replica.broker == broker);
        if here && heir(image, partition, broker, avoid, &BTreeMap::new()).is_none() {
            let why = format!(
                "no other living broker has room for a replica of {}-{}: {} replicas need as many \
                 brokers; add a broker first",
                topic.name,
                partition.index,
                partition.replicas.len()
            );
            return refuse(ErrorCode::InvalidReplicaAssignment, why);
        }
    }
    let quorum = image.quorum();
    if quorum.replicas.len() < 2 && quorum.replicas.iter().any(|r| r.broker == broker) {
        let why = "it holds the only replica of the metadata; add a broker first";
        return refuse(ErrorCode::InvalidReplicaAssignment, why);
    }
    Ok(())
}

/// Replicas that are on a broker, or not known to have left it.
pub fn replicas_on(image: &Image, broker: BrokerId) -> usize {
    let all = image.partitions().map(|(_, partition)| partition).chain([image.quorum()]);
    all.flat_map(|p| p.replicas.iter().chain(&p.removing)).filter(|r| r.broker == broker).count()
}

/// Of those, the replicas of partitions.
pub fn partitions_on(image: &Image, broker: BrokerId) -> usize {
    let all = image.partitions().flat_map(|(_, p)| p.replicas.iter().chain(&p.removing));
    all.filter(|replica| replica.broker == broker).count()
}

/// Who takes over a replica: the broker with the fewest, then the lowest id.
fn heir(
    image: &Image,
    partition: &Partition,
    from: BrokerId,
    avoid: &[BrokerId],
    load: &BTreeMap<BrokerId, usize>,
) -> Option<BrokerId> {
    let taken = |id: BrokerId| partition.replicas.iter().any(|replica| replica.broker == id);
    let seats = image.brokers().map(|broker| broker.id).filter(|id| {
        *id != from && !taken(*id) && !avoid.contains(id) && !image.leaving().contains(id)
    });
    seats.min_by_key(|id| (load.get(id).copied().unwrap_or(0), *id))
}

/// Applies a change, on every replica alike.
pub(super) fn run(
    image: &mut Image,
    placing: Placing,
) -> Result<(Response, Vec<Change>), Response> {
    match placing {
        Placing::AdoptQuorum { replicas } => {
            if image.quorum.replicas.is_empty() {
                image.quorum = Arc::new(Partition::new(0, GroupId::METADATA, replicas));
                for broker in image.brokers().cloned().collect::<Vec<_>>() {
                    seat_in_quorum(image, &broker);
                }
            }
        }
        Placing::Move(moves) => {
            for wish in moves {
                check_move(image, &wish)?;
                let disks: Vec<_> = wish
                    .brokers
                    .iter()
                    .filter_map(|id| image.broker(*id).map(|b| (*id, b.directory)))
                    .collect();
                change(image, wish.group, |partition, next| retarget(partition, &disks, next));
            }
        }
        Placing::Empty { broker, avoid } => empty(image, broker, &avoid)?,
        Placing::Gone { group, epoch, replicas } => {
            if image.placement_of(group).is_some_and(|known| known.epoch == epoch) {
                change(image, group, |partition, _| {
                    partition.removing.retain(|r| !replicas.contains(&r.replica));
                });
            }
        }
        Placing::Unregister { broker } => {
            if partitions_on(image, broker) > 0 {
                return refuse(ErrorCode::InvalidRequest, "it still has replicas");
            }
            // The metadata last: from it the broker learns what to forget.
            change(image, GroupId::METADATA, |quorum, _| {
                let (gone, stay) = quorum.replicas.drain(..).partition(|r| r.broker == broker);
                quorum.replicas = stay;
                quorum.removing.extend::<Vec<Replica>>(gone);
            });
            if replicas_on(image, broker) == 0 {
                image.remove_broker(broker);
            }
        }
        Placing::Renew { group, replica } => {
            if check_renew(image, group, replica)? {
                change(image, group, |partition, next| renew(partition, replica, next));
            }
        }
    }
    Ok((Response::Placed, vec![Change::PlacementChanged]))
}

fn empty(image: &mut Image, broker: BrokerId, avoid: &[BrokerId]) -> Result<(), Response> {
    check_empty(image, broker, avoid)?;
    Arc::make_mut(&mut image.leaving).insert(broker);
    let mut load: BTreeMap<BrokerId, usize> = BTreeMap::new();
    for (_, partition) in image.partitions() {
        partition.replicas.iter().for_each(|r| *load.entry(r.broker).or_default() += 1);
    }
    let here: Vec<Partition> = image
        .partitions()
        .map(|(_, partition)| partition)
        .filter(|partition| partition.replicas.iter().any(|r| r.broker == broker))
        .cloned()
        .collect();
    for partition in here {
        let Some(heir) = heir(image, &partition, broker, avoid, &load) else { continue };
        *load.entry(heir).or_default() += 1;
        let Some(directory) = image.broker(heir).map(|b| b.directory) else { continue };
        let to = |r: &Replica| match r.broker == broker {
            true => (heir, directory),
            false => (r.broker, r.directory),
        };
        let disks: Vec<_> = partition.replicas.iter().map(to).collect();
        change(image, partition.group, |partition, next| retarget(partition, &disks, next));
    }
    Ok(())
}

/// A registered broker: replicas that were on another disk of its are new ones from now on.
pub(super) fn settle(image: &mut Image, broker: &BrokerRegistration) {
    let moved = |r: &Replica| r.broker == broker.id && r.directory != broker.directory;
    let groups: Vec<GroupId> = image
        .partitions()
        .filter(|(_, partition)| partition.replicas.iter().any(moved))
        .map(|(_, partition)| partition.group)
        .collect();
    for group in groups {
        change(image, group, |partition, next| {
            let to = |r: &Replica| match moved(r) {
                true => (r.broker, broker.directory),
                false => (r.broker, r.directory),
            };
            let disks: Vec<_> = partition.replicas.iter().map(to).collect();
            retarget(partition, &disks, next);
        });
    }
    seat_in_quorum(image, broker);
}

/// Every broker holds the metadata, unless it is being emptied.
fn seat_in_quorum(image: &mut Image, broker: &BrokerRegistration) {
    let quorum = &image.quorum.replicas;
    let seated = quorum.iter().any(|r| r.directory == broker.directory);
    if quorum.is_empty() || seated || image.leaving.contains(&broker.id) {
        return;
    }
    change(image, GroupId::METADATA, |quorum, next| {
        let mut disks: Vec<_> = quorum.replicas.iter().map(|r| (r.broker, r.directory)).collect();
        match disks.iter_mut().find(|(id, _)| *id == broker.id) {
            Some(known) => known.1 = broker.directory,
            None => disks.push((broker.id, broker.directory)),
        }
        retarget(quorum, &disks, next);
    });
}

/// The replicas a partition shall have: those that are on these disks stay what they are, also
/// when they were to be removed; the others are new.
fn retarget(partition: &mut Partition, disks: &[(BrokerId, DirectoryId)], next: &mut u64) {
    let founders = partition.founders();
    let mut known: Vec<Replica> = std::mem::take(&mut partition.replicas);
    known.append(&mut partition.removing);
    for (broker, directory) in disks {
        let held = known.iter().position(|r| r.directory == *directory);
        partition.replicas.push(match held {
            Some(at) => known.remove(at),
            None => {
                let replica = ReplicaId(*next);
                *next += 1;
                Replica { broker: *broker, replica, directory: *directory }
            }
        });
    }
    partition.removing = known;
    partition.founders = founders;
}

/// Edits one group's placement and counts it as a new one if it changed.
fn change(image: &mut Image, group: GroupId, edit: impl FnOnce(&mut Partition, &mut u64)) {
    let mut next = image.next_replica;
    if group == GroupId::METADATA {
        let mut quorum = image.quorum().clone();
        edit(&mut quorum, &mut next);
        if quorum != *image.quorum {
            quorum.epoch += 1;
            image.quorum = Arc::new(quorum);
        }
    } else {
        let Some((topic, partition)) = image.partition_of(group) else { return };
        let at = partition.index as usize;
        let mut topic = Topic::clone(topic);
        let Some(place) = topic.partitions.get_mut(at) else { return };
        let before = place.clone();
        edit(place, &mut next);
        if *place != before {
            place.epoch += 1;
            image.put_topic(&Arc::new(topic));
        }
    }
    image.next_replica = next;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Listener;
    use model::{Incarnation, TopicId};

    fn registration(id: i32, disk: u8) -> BrokerRegistration {
        BrokerRegistration {
            id: BrokerId(id),
            directory: DirectoryId([disk; 16]),
            incarnation: Incarnation(1),
            listeners: vec![Listener { name: "P".into(), host: "h".into(), port: 1 }],
            peer_address: None,
            rack: None,
            features: BTreeMap::new(),
        }
    }

    fn join(image: &mut Image, id: i32, disk: u8) {
        let broker = Arc::new(registration(id, disk));
        image.put_broker(Arc::clone(&broker));
        settle(image, &broker);
    }

    fn replica(id: u64, broker: i32) -> Replica {
        let directory = DirectoryId([broker as u8; 16]);
        Replica { broker: BrokerId(broker), replica: ReplicaId(id), directory }
    }

    /// Three brokers, their metadata replicas 1 to 3, and one partition, group 2.
    fn three() -> Image {
        let mut image = Image::default();
        (1..=3).for_each(|id| join(&mut image, id, id as u8));
        let replicas = (1..=3).map(|id| replica(id, id as i32)).collect();
        run(&mut image, Placing::AdoptQuorum { replicas }).unwrap();
        let replicas = (1..=3).map(|id| replica(999 + id, id as i32)).collect();
        (image.next_group, image.next_replica) = (3, 1_003);
        image.put_topic(&Arc::new(Topic {
            name: "t".into(),
            id: TopicId([1; 16]),
            partitions: vec![Partition::new(0, GroupId(2), replicas)],
            configs: BTreeMap::new(),
            created_ms: 0,
            producers_before: 0,
        }));
        image
    }

    fn ids(replicas: &[Replica]) -> Vec<u64> {
        replicas.iter().map(|r| r.replica.0).collect()
    }

    fn lists(image: &Image, group: u64) -> (Vec<u64>, Vec<u64>) {
        let placement = image.placement_of(GroupId(group)).unwrap();
        (ids(&placement.replicas), ids(&placement.removing))
    }

    fn gone(image: &mut Image, group: u64, epoch: u64, replicas: &[u64]) {
        let replicas = replicas.iter().copied().map(ReplicaId).collect();
        run(image, Placing::Gone { group: GroupId(group), epoch, replicas }).unwrap();
    }

    #[test]
    fn a_new_disk_gets_new_replicas_and_the_old_ones_leave_when_the_leader_says_so() {
        let mut image = three();
        join(&mut image, 2, 22);
        assert_eq!(lists(&image, 2), (vec![1_000, 1_003, 1_002], vec![1_001]));
        assert_eq!(lists(&image, 1), (vec![1, 1_004, 3], vec![2]));
        let placement = image.placement_of(GroupId(2)).unwrap();
        assert_eq!(placement.founders(), [1_000, 1_001, 1_002].map(ReplicaId));
        // The same registration again changes nothing; nor does a report about another epoch.
        let before = image.clone();
        join(&mut image, 2, 22);
        gone(&mut image, 2, 0, &[1_001]);
        assert_eq!(image, before);
        gone(&mut image, 2, 1, &[1_001]);
        assert_eq!(lists(&image, 2), (vec![1_000, 1_003, 1_002], vec![]));
    }

    #[test]
    fn a_broker_is_emptied_only_where_there_is_room_and_unregistered_when_empty() {
        let mut image = three();
        let empty = |broker| Placing::Empty { broker: BrokerId(broker), avoid: Vec::new() };
        let full = decide(&image, empty(3), &|_| true).unwrap_err();
        assert!(full.rejection().unwrap().1.contains("add a broker first"), "{full:?}");
        join(&mut image, 4, 4);
        assert_eq!(lists(&image, 1), (vec![1, 2, 3, 1_003], vec![]));
        let dead = decide(&image, empty(3), &|id| id != BrokerId(4)).unwrap_err();
        assert_eq!(dead.rejection().unwrap().0, ErrorCode::InvalidReplicaAssignment);
        run(&mut image, empty(3)).unwrap();
        assert_eq!(lists(&image, 2), (vec![1_000, 1_001, 1_004], vec![1_002]));
        // It comes back meanwhile and gets nothing.
        join(&mut image, 3, 33);
        assert_eq!(lists(&image, 1), (vec![1, 2, 3, 1_003], vec![]));
        let unregister = Placing::Unregister { broker: BrokerId(3) };
        assert!(decide(&image, unregister.clone(), &|_| true).is_err());
        gone(&mut image, 2, 1, &[1_002]);
        // The metadata last, and then its registration.
        run(&mut image, unregister.clone()).unwrap();
        assert_eq!(lists(&image, 1), (vec![1, 2, 1_003], vec![3]));
        assert!(image.broker(BrokerId(3)).is_some());
        let epoch = image.placement_of(GroupId(1)).unwrap().epoch;
        gone(&mut image, 1, epoch, &[3]);
        run(&mut image, unregister).unwrap();
        assert!(image.broker(BrokerId(3)).is_none() && image.leaving().is_empty());
    }

    #[test]
    fn a_move_keeps_who_stays_and_can_be_taken_back() {
        let mut image = three();
        join(&mut image, 4, 4);
        let to = |brokers: &[i32]| {
            let brokers = brokers.iter().copied().map(BrokerId).collect();
            Placing::Move(vec![Move { group: GroupId(2), brokers }])
        };
        run(&mut image, to(&[4, 2, 1])).unwrap();
        assert_eq!(lists(&image, 2), (vec![1_004, 1_001, 1_000], vec![1_002]));
        run(&mut image, to(&[1, 2, 3])).unwrap();
        assert_eq!(lists(&image, 2), (vec![1_000, 1_001, 1_002], vec![1_004]));
        for (brokers, why) in [(&[9][..], "not registered"), (&[1, 1], "twice"), (&[], "no broker")]
        {
            let refused = decide(&image, to(brokers), &|_| true).unwrap_err();
            assert!(refused.rejection().unwrap().1.contains(why), "{refused:?}");
        }
    }

    #[test]
    fn a_replica_is_renewed_once_on_its_own_disk_and_its_old_id_never_comes_back() {
        let mut image = three();
        let wish = |id| Placing::Renew { group: GroupId(2), replica: ReplicaId(id) };
        let ask = |image: &mut Image, id| match decide(image, wish(id), &|_| true) {
            Ok(_) => run(image, wish(id)).map(|(answer, _)| answer),
            Err(answer) => Err(answer),
        };
        assert_eq!(ask(&mut image, 1_001), Ok(Response::Placed));
        assert_eq!(lists(&image, 2), (vec![1_000, 1_003, 1_002], vec![1_001]));
        let placement = image.placement_of(GroupId(2)).unwrap();
        assert_eq!(placement.founders(), [1_000, 1_001, 1_002].map(ReplicaId));
        assert_eq!(placement.on(DirectoryId([2; 16])).unwrap().replica, ReplicaId(1_003));
        // Asked again, also by an entry that was on its way meanwhile, it is one renewal.
        let before = image.clone();
        assert_eq!(ask(&mut image, 1_001), Err(Response::Placed));
        run(&mut image, wish(1_001)).unwrap();
        assert_eq!(image, before);
        // Another broker's waits; the new one of the same broker may be as bad as the old one.
        let waits = ask(&mut image, 1_000).unwrap_err();
        assert_eq!(waits.rejection().unwrap().0, ErrorCode::ReassignmentInProgress);
        assert!(run(&mut image, wish(1_000)).is_err(), "nor by an entry on its way");
        assert_eq!(ask(&mut image, 1_003), Ok(Response::Placed));
        assert_eq!(lists(&image, 2), (vec![1_000, 1_004, 1_002], vec![1_001, 1_003]));
        // Moved away and back before the oldest has left: it has forgotten what it promised.
        join(&mut image, 4, 4);
        let epoch = image.placement_of(GroupId(2)).unwrap().epoch;
        let to = |brokers: [i32; 3]| {
            Placing::Move(vec![Move { group: GroupId(2), brokers: brokers.map(BrokerId).into() }])
        };
        run(&mut image, to([1, 4, 3])).unwrap();
        gone(&mut image, 2, epoch + 1, &[1_003, 1_004]);
        run(&mut image, to([1, 2, 3])).unwrap();
        let (replicas, removing) = lists(&image, 2);
        assert!(!replicas.contains(&1_001) && removing.contains(&1_001), "{replicas:?}");
        let unplaced = ask(&mut image, 1_003).unwrap_err();
        assert!(unplaced.rejection().unwrap().1.contains("not placed"), "{unplaced:?}");
        let metadata = Placing::Renew { group: GroupId::METADATA, replica: ReplicaId(1) };
        assert!(decide(&image, metadata, &|_| true).unwrap_err().rejection().is_some());
    }
}
