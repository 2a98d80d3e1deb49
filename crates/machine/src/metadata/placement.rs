//! Where a new topic's replicas go.
//!
//! Within the topic leaders and replicas are spread evenly; between brokers equal in that, the
//! one with less of the whole cluster's load is taken, then the order begins at a different
//! broker for every topic. Replicas of one partition go to different racks while there are any.
//! Brokers that are not alive come last.
//!
//! Invariant: a function of its arguments; no two replicas of a partition share a broker.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use model::BrokerId;

use super::{Image, Topic};

/// What is known about a broker while replicas are dealt.
struct Seat<'a> {
    id: BrokerId,
    dead: bool,
    rack: Option<&'a str>,
    rotation: usize,
    topic_leaders: usize,
    topic_replicas: usize,
    cluster_leaders: usize,
    cluster_replicas: usize,
}

/// Deals `partitions` x `replication_factor` replicas over the registered brokers; `seed` says
/// where the order begins. Partitions added to a topic count with those it has. `None`: fewer
/// brokers than replicas.
pub(super) fn place(
    image: &Image,
    alive: &dyn Fn(BrokerId) -> bool,
    grown: Option<&Topic>,
    partitions: usize,
    replication_factor: usize,
    seed: u64,
) -> Option<Vec<Vec<BrokerId>>> {
    let mut seats = seats(image, alive, seed);
    for partition in grown.into_iter().flat_map(|topic| &topic.partitions) {
        for (at, replica) in partition.replicas.iter().enumerate() {
            let seat = seats.iter_mut().find(|seat| seat.id == replica.broker);
            let Some(seat) = seat else { continue };
            seat.topic_leaders += usize::from(at == 0);
            seat.topic_replicas += 1;
        }
    }
    if replication_factor == 0 || seats.len() < replication_factor {
        return None;
    }
    Some((0..partitions).map(|_| deal(&mut seats, replication_factor)).collect())
}

fn seats<'a>(image: &'a Image, alive: &dyn Fn(BrokerId) -> bool, seed: u64) -> Vec<Seat<'a>> {
    let mut load: BTreeMap<BrokerId, (usize, usize)> = BTreeMap::new();
    for (_, partition) in image.partitions() {
        for (at, replica) in partition.replicas.iter().enumerate() {
            let (leaders, replicas) = load.entry(replica.broker).or_default();
            *leaders += usize::from(at == 0);
            *replicas += 1;
        }
    }
    let takes = |id: BrokerId| !image.leaving().contains(&id);
    let count = image.brokers().filter(|broker| takes(broker.id)).count();
    let shift = (seed % count.max(1) as u64) as usize;
    image
        .brokers()
        .filter(|broker| takes(broker.id))
        .enumerate()
        .map(|(at, broker)| {
            let (cluster_leaders, cluster_replicas) =
                load.get(&broker.id).copied().unwrap_or((0, 0));
            Seat {
                id: broker.id,
                dead: !alive(broker.id),
                rack: broker.rack.as_deref(),
                rotation: (at + shift) % count,
                topic_leaders: 0,
                topic_replicas: 0,
                cluster_leaders,
                cluster_replicas,
            }
        })
        .collect()
}

fn deal(seats: &mut [Seat<'_>], replication_factor: usize) -> Vec<BrokerId> {
    let leader = (0..seats.len())
        .min_by_key(|at| {
            let s = &seats[*at];
            (
                s.dead,
                s.topic_leaders,
                s.topic_replicas,
                s.cluster_leaders,
                s.cluster_replicas,
                s.rotation,
            )
        })
        .expect("at least as many seats as replicas");
    seats[leader].topic_leaders += 1;
    seats[leader].cluster_leaders += 1;
    let mut chosen = vec![leader];
    while chosen.len() < replication_factor {
        let free = (0..seats.len()).filter(|at| !chosen.contains(at));
        let next = free
            .min_by_key(|at| {
                let s = &seats[*at];
                let rack_taken = chosen.iter().filter(|c| seats[**c].rack == s.rack).count();
                let racks = usize::from(seats.iter().any(|seat| seat.rack.is_some()));
                // Among equals the one that leads most: the others are due to lead next.
                let due = Reverse(s.topic_leaders);
                (s.dead, rack_taken * racks, s.topic_replicas, due, s.cluster_replicas, s.rotation)
            })
            .expect("at least as many seats as replicas");
        chosen.push(next);
    }
    for at in &chosen {
        seats[*at].topic_replicas += 1;
        seats[*at].cluster_replicas += 1;
    }
    chosen.into_iter().map(|at| seats[at].id).collect()
}
