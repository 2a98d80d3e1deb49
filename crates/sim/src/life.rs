//! One life from beginning to end: the cluster starts, faults strike, the world heals, every
//! group must serve again, the replicas come to rest, and everything is read back.

use std::panic::{AssertUnwindSafe, catch_unwind};

use model::GroupId;
use node::shard::ReplicaRef;
use storage::SegmentList;

use crate::oracle::Invariant;
use crate::profile::Profile;
use crate::report::Report;
use crate::world::{BROKERS, MS, PARTITIONS, SECOND, What, World, groups};

const LOOK_NS: u64 = 50 * MS;

pub fn run(seed: u64, profile: &Profile) -> Report {
    #[cfg(feature = "planted")]
    model::planted::plant(profile.plant.and_then(crate::plant::Plant::defect));
    let mut world = World::new(seed, profile);
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    if let Err(panic) = lived {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
            .unwrap_or_default();
        world.oracle.unexpected(world.now_ns, format!("panic: {text}"));
    }
    Report {
        seed,
        profile: profile.schedule.map(|schedule| schedule.name),
        hash: world.trace.hash(),
        events: world.trace.events,
        simulated_ms: world.now_ns / MS,
        faults_fired: world.faults.fired,
        operations: world.clients.requests.len() as u64,
        faults_struck: world.faults.struck_in_all,
        candidacies_most: world.oracle.churn.most,
        recovered_ms: world.calm_ns.zip(world.healed_ns).map(|(calm, healed)| (calm - healed) / MS),
        reached: world.reached,
        violations: world.oracle.violations,
        lines: world.trace.lines,
    }
}

impl World {
    fn live(&mut self) {
        self.net.delay_us_max = 1_500;
        for b in 0..BROKERS {
            let at_ns = self.between(0, 400 * MS);
            self.schedule(at_ns, What::Start { b });
        }
        for producer in 0..self.clients.producers.len() {
            let at_ns = self.between(200 * MS, 900 * MS);
            self.schedule(at_ns, What::Produce { producer });
        }
        for group in PARTITIONS {
            let at_ns = self.between(200 * MS, 900 * MS);
            self.schedule(at_ns, What::Read { group });
        }
        self.schedule(500 * MS, What::AllocateIds);
        let first_ns = self.between(300 * MS, 2_500 * MS);
        self.schedule(first_ns, What::Fault);
        let end_ns = self.profile.fault_seconds * SECOND;
        self.run_until(end_ns);
        self.heal();
        self.schedule(LOOK_NS, What::Look);
        self.run_until(end_ns + self.profile.heal_seconds_max * SECOND);
        if !self.over {
            let text = self.what_is_missing();
            self.oracle.broken(self.now_ns, Invariant::Liveness, text);
        }
        self.joint_states_are_left();
        self.read_back();
        for b in 0..BROKERS {
            if self.flush_journal(b) {
                self.disk_is_as_seen(b);
            }
        }
    }

    /// After the heal: first everything must serve, then everything must come to rest.
    pub fn look(&mut self) {
        match self.calm_ns {
            None if self.clients.served.len() == groups().count() => {
                self.calm_ns = Some(self.now_ns);
            }
            Some(_) if self.is_at_rest() => {
                self.over = true;
                return;
            }
            _ => {}
        }
        self.schedule(LOOK_NS, What::Look);
    }

    fn is_at_rest(&self) -> bool {
        let answered = self.clients.producers.iter().all(|p| p.outstanding.is_empty());
        let settled = self.seats.settled();
        answered && settled && groups().all(|group| (0..BROKERS).all(|b| self.has_all(b, group)))
    }

    /// Broker `b` has applied, and written to segments, all that is committed.
    fn has_all(&self, b: usize, group: GroupId) -> bool {
        let Some(process) = &self.brokers[b].process else { return false };
        let last = self.oracle.values.last_index(group);
        let member = process.shard.member(group);
        let own = self.seats.of(group).own(b);
        if !member.is_some_and(|m| m.spec().replica == own && m.group.outgoing().is_empty()) {
            return false;
        }
        let applied = member.map(|member| member.group.applied_index());
        let view = process.segments.views.get(&group).map(|view| view.last_index());
        applied == Some(last) && view == Some(last) && process.segments.is_idle()
    }

    fn what_is_missing(&self) -> String {
        let unserved: Vec<GroupId> =
            groups().filter(|group| !self.clients.served.contains(group)).collect();
        let behind: Vec<(usize, GroupId)> = (0..BROKERS)
            .flat_map(|b| groups().map(move |group| (b, group)))
            .filter(|(b, group)| !self.has_all(*b, *group))
            .map(|(b, group)| (b + 1, group))
            .collect();
        let unanswered: usize = self.clients.producers.iter().map(|p| p.outstanding.len()).sum();
        format!(
            "after the heal: not served {unserved:?}, (broker, group) behind {behind:?}, \
             {unanswered} batches unanswered, {}",
            self.unsettled()
        )
    }

    /// Groups whose membership is not what it should be, as their leaders see it.
    fn unsettled(&self) -> String {
        let mut text = String::from("unsettled:");
        for group in groups().filter(|group| !self.seats.of(*group).removing.is_empty()) {
            let seat = self.seats.of(group);
            let ids = |all: &[ReplicaRef]| all.iter().map(|r| r.replica.0).collect::<Vec<_>>();
            let (replicas, removing) = (ids(&seat.replicas), ids(&seat.removing));
            text.push_str(&format!(" {group} wants {replicas:?} without {removing:?}"));
            for b in 0..BROKERS {
                let process = self.brokers[b].process.as_ref();
                let Some(member) = process.and_then(|p| p.shard.member(group)) else { continue };
                let raft = &member.group;
                if raft.role() != consensus::Role::Leader {
                    continue;
                }
                let (voters, learners) = (raft.voters(), raft.learners());
                let progress = raft.progress();
                text.push_str(&format!(
                    ", led by {} with {voters:?}, {:?}, learners {learners:?}, {progress:?}",
                    member.spec().replica,
                    raft.outgoing()
                ));
            }
        }
        text
    }

    /// No replica knows of a half-done change (raft thesis, section 4.3).
    fn joint_states_are_left(&mut self) {
        for (b, group) in (0..BROKERS).flat_map(|b| groups().map(move |group| (b, group))) {
            let process = self.brokers[b].process.as_ref();
            let Some(member) = process.and_then(|p| p.shard.member(group)) else { continue };
            if !member.group.outgoing().is_empty() {
                let outgoing = member.group.outgoing();
                let text = format!("group {group} on b{} still has {outgoing:?}", b + 1);
                self.oracle.broken(self.now_ns, Invariant::JointLeft, text);
            }
        }
    }

    /// Every replica's segments hold every committed batch from its log start on, and every
    /// acknowledged batch at its offset.
    fn read_back(&mut self) {
        for group in PARTITIONS {
            let mut whole = 0;
            for b in 0..BROKERS {
                match self.read_replica(b, group) {
                    Ok(()) => whole += 1,
                    Err(text) if self.over => {
                        let text = format!("group {group} on b{}: {text}", b + 1);
                        self.oracle.broken(self.now_ns, Invariant::AckedIsKept, text);
                    }
                    // A life that did not come to rest is reported already.
                    Err(_) => {}
                }
            }
            if whole <= BROKERS / 2 {
                let text = format!("group {group}: {whole} replicas can be read to the end");
                self.oracle.broken(self.now_ns, Invariant::AckedIsKept, text);
            }
        }
        self.acked_is_there();
        self.producers_kept_their_order();
    }

    fn read_replica(&self, b: usize, group: GroupId) -> Result<(), String> {
        let process = self.brokers[b].process.as_ref().ok_or("it does not run")?;
        let view: &SegmentList = process.segments.views.get(&group).ok_or("it has no segments")?;
        let reader = process.segments.reader();
        let start = view.log_start_offset();
        // The view begins with a whole segment: at or below the log start.
        let read = view.read(&reader, start, usize::MAX, i64::MAX).map_err(|e| e.to_string())?;
        let bytes: Vec<u8> = read.concat();
        let mut at = 0;
        for chosen in self.oracle.values.batches(group) {
            let (base, next) = chosen.offsets.expect("a batch has offsets");
            if next <= start {
                continue;
            }
            let end = at + chosen.data.len();
            if bytes.get(at..end) != Some(&chosen.data[..]) {
                return Err(format!("offset {base} does not read back as committed"));
            }
            at = end;
        }
        match at == bytes.len() {
            true => Ok(()),
            false => Err(format!("{} bytes more than were committed", bytes.len() - at)),
        }
    }

    fn acked_is_there(&mut self) {
        let mut lost = Vec::new();
        for (op, group, offset) in self.oracle.acked.iter() {
            let there = self.oracle.values.at_offset(group, offset);
            let same = there.is_some_and(|(_, chosen)| self.clients.ops[op].is_in(&chosen.data));
            if !same {
                lost.push(format!(
                    "group {group}: acknowledged offset {offset} holds another batch"
                ));
            }
        }
        for text in lost {
            self.oracle.broken(self.now_ns, Invariant::AckedIsKept, text);
        }
    }

    /// A producer's acknowledged batches lie in the log in the order it sent them.
    fn producers_kept_their_order(&mut self) {
        let mut last = vec![-1; self.clients.producers.len()];
        let mut wrong = Vec::new();
        for (op, group, offset) in self.oracle.acked.iter() {
            let before = &mut last[self.clients.ops[op].producer];
            if offset <= *before {
                wrong.push(format!("group {group}: offset {offset} was sent after {before}"));
            }
            *before = offset;
        }
        for text in wrong {
            self.oracle.broken(self.now_ns, Invariant::AckedIsKept, text);
        }
    }
}
