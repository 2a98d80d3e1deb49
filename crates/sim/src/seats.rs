//! Who has which replica: what the metadata of a real cluster decides and its brokers carry out.
//! A disk that was lost, or a replica that no longer trusts its log, comes back under a new
//! replica id: as a learner, then a voter, and the old id leaves.
//!
//! Invariants: a replica id is handed out once; an old replica is removed from its disk before a
//! new one of its group begins there; who is gone is known from the group's leader alone.

use std::collections::BTreeMap;

use model::{DirectoryId, GroupId, ReplicaId};
use node::shard::{Departed, Input, Placement, ReplicaRef};

use crate::broker::{broker_id, directory};
use crate::plant::Plant;
use crate::report::Reach;
use crate::trace::Who;
use crate::world::{BROKERS, MS, What, World, groups};

/// One group's placement.
pub struct Seat {
    /// By preference.
    pub replicas: Vec<ReplicaRef>,
    pub removing: Vec<ReplicaRef>,
    epoch: u64,
    founders: Vec<ReplicaId>,
}

impl Seat {
    fn new(group: GroupId) -> Seat {
        // The preferred replica differs from group to group.
        let order = (0..BROKERS).map(|at| (at + group.0 as usize) % BROKERS);
        let replicas = order.map(|b| ReplicaRef {
            replica: ReplicaId(group.0 * 10 + b as u64 + 1),
            broker: broker_id(b),
            directory: directory(b, 0),
        });
        let replicas: Vec<ReplicaRef> = replicas.collect();
        let founders = replicas.iter().map(|r| r.replica).collect();
        Seat { replicas, removing: Vec::new(), epoch: 0, founders }
    }

    /// The replica that belongs on broker `b`.
    pub fn own(&self, b: usize) -> ReplicaId {
        let found = self.replicas.iter().find(|r| r.broker == broker_id(b));
        found.expect("every broker has a replica of every group").replica
    }

    /// Voters of the first membership.
    pub fn founders(&self) -> Vec<ReplicaId> {
        self.founders.clone()
    }

    fn placement(&self) -> Placement {
        Placement {
            replicas: self.replicas.clone(),
            voters: self.replicas.len(),
            removing: self.removing.clone(),
            epoch: self.epoch,
        }
    }
}

pub struct Seats {
    seats: BTreeMap<GroupId, Seat>,
    next_replica: u64,
}

impl Default for Seats {
    fn default() -> Seats {
        let seats = groups().map(|group| (group, Seat::new(group))).collect();
        Seats { seats, next_replica: 1_000 }
    }
}

impl Seats {
    pub fn of(&self, group: GroupId) -> &Seat {
        &self.seats[&group]
    }

    /// Nobody is on the way in or out.
    pub fn settled(&self) -> bool {
        self.seats.values().all(|seat| seat.removing.is_empty())
    }

    /// Every replica so far is below it.
    pub fn next_replica(&self) -> ReplicaId {
        ReplicaId(self.next_replica)
    }

    /// Broker `b` gets a new replica of the group, on that disk.
    fn renew(&mut self, group: GroupId, b: usize, disk: DirectoryId) {
        let replica = ReplicaId(self.next_replica);
        self.next_replica += 1;
        let seat = self.seats.get_mut(&group).expect("every group has a seat");
        let own = seat.replicas.iter_mut().find(|r| r.broker == broker_id(b));
        let own = own.expect("every broker has a replica of every group");
        let old =
            std::mem::replace(own, ReplicaRef { replica, broker: broker_id(b), directory: disk });
        seat.removing.push(old);
        seat.epoch += 1;
    }

    fn gone(&mut self, departed: &Departed) -> bool {
        let seat = self.seats.get_mut(&departed.group).expect("every group has a seat");
        let before = seat.removing.len();
        if seat.epoch == departed.epoch {
            seat.removing.retain(|old| !departed.replicas.contains(&old.replica));
        }
        let changed = seat.removing.len() != before;
        seat.epoch += u64::from(changed);
        changed
    }
}

impl World {
    /// The disk of `b` is gone with all that was on it.
    pub fn wipe(&mut self, b: usize) {
        self.reach(Reach::Wiped);
        self.note(Who::Broker(b), "wiped", &[]);
        self.brokers[b].new_disk();
        self.faults.new_disk();
        self.oracle.wiped(b);
        if self.has(Plant::OldIdAfterWipe) {
            return;
        }
        for group in groups() {
            self.renew_seat(b, group);
        }
    }

    fn renew_seat(&mut self, b: usize, group: GroupId) {
        let disk = directory(b, self.brokers[b].disk_no);
        self.seats.renew(group, b, disk);
        let replica = self.seats.of(group).own(b).0;
        self.note(Who::Broker(b), "renewed", &[("group", group.0), ("replica", replica)]);
        self.place_everywhere(group);
    }

    /// A replica of `b` is suspect or out of service: soon it is replaced.
    pub fn doubt(&mut self, b: usize, group: GroupId) {
        let replica = self.seats.of(group).own(b);
        let wait_ns = self.between(200 * MS, 3_000 * MS);
        self.schedule(wait_ns, What::Renew { b, group, replica });
    }

    pub fn renew(&mut self, b: usize, group: GroupId, replica: ReplicaId) {
        if self.seats.of(group).own(b) != replica {
            return;
        }
        self.renew_seat(b, group);
        let here = self.with_process(b, |process| {
            process.shard.member(group).is_some() || process.is_out_of_service(group)
        });
        if here == Some(true) {
            self.expel(b, group);
        }
    }

    /// The old replica goes from its disk; a new one begins once it is gone.
    pub fn expel(&mut self, b: usize, group: GroupId) {
        self.oracle.expelled(b, group);
        self.with_process(b, |process| {
            process.segments.expect_gone(group);
            process.out_of_service.remove(&group);
        });
        self.tell(b, Input::Remove { group });
    }

    fn place_everywhere(&mut self, group: GroupId) {
        for b in 0..BROKERS {
            let wait_ns = self.between(MS, 300 * MS);
            self.schedule(wait_ns, What::Place { b, group });
        }
    }

    /// Broker `b` hears where the replicas of a group belong.
    pub fn place(&mut self, b: usize, group: GroupId) {
        let placement = Box::new(self.seats.of(group).placement());
        self.tell(b, Input::Place { group, placement });
    }

    pub fn departed(&mut self, b: usize, departed: &Departed) {
        if self.seats.gone(departed) {
            self.reach(Reach::Replaced);
            self.note(Who::Broker(b), "departed", &[("group", departed.group.0)]);
            self.place_everywhere(departed.group);
        }
    }
}
