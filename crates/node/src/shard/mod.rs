//! The shard: all raft groups of one thread as one plain value, stepped from one seam.
//!
//! [`Shard::step`] takes one input and marks the groups it touched dirty; [`Shard::flush`] makes
//! one proposal and one raft Ready per dirty group and writes every consequence into [`Out`].
//! Invariants (absences above all): nothing here reads a clock, takes a lock, awaits, logs or
//! touches a file; a reply handle `R` is only carried; a panic inside one group stays in it.

mod admin;
mod answer;
mod apply;
mod checkpoint;
mod coordinate;
mod filling;
mod guard;
mod io;
mod lead;
mod ledger;
mod member;
mod membership;
pub(crate) mod spec;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use consensus::eraftpb::MessageType;
use consensus::{Beat, Restored, Timing};
use machine::metadata;
use model::{BrokerId, ErrorCode, GroupId, Now, ReplicaId, limits};
use storage::JournalWrite;

use crate::manifest::GroupEnd;

pub use admin::{AdminAnswer, AdminAsk, ProducerStatus, QuorumReplica, QuorumStatus};
pub use answer::{Answer, Guarded, Produced, Refusal, Stages};
pub(crate) use apply::Machine;
pub use checkpoint::{GroupMark, PlacedMark};
pub use filling::{Install, Installed, SnapshotIn};
pub use io::{
    AttemptView, Event, HeldWhy, Input, MemberStatus, Out, ProduceInput, RaftIn, RaftOut,
    SegmentWork, StarvedView, ViewUpdate,
};
pub use ledger::LedgerBreach;
use member::{Fallen, Member};
pub use membership::{Departed, Placement};
pub(crate) use spec::conf_state_from;
pub use spec::{GroupKind, GroupSpec, ReplicaRef, RestoredGroup};

/// Groups tick in this many slots, so that heartbeats spread and coalesce per slot and peer.
pub const WHEEL_SLOTS: u64 = 5;
/// Groups that the first slot takes before the others get any.
const SLOT_GROUPS_MIN: usize = 64;
/// The token of a group's removal: behind it comes nothing.
const REMOVED: u64 = u64::MAX;

/// What every group of a shard shares.
pub struct ShardConfig {
    pub shard: usize,
    pub broker: BrokerId,
    pub directory: model::DirectoryId,
    /// Feeds election jitter and lease identities; drawn anew at every start.
    pub seed: u64,
    pub timing: Timing,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_ms_max: u64,
    /// How often a leader looks at retention, milliseconds.
    pub retention_check_ms: u64,
    /// Retention waits for a voter that was heard from within this time; others are filled by a
    /// snapshot.
    pub retention_waits_ms: u64,
    pub groups: machine::groups::GroupsConfig,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: u64,
    /// `auto.leader.rebalance.enable`.
    pub leader_rebalance: bool,
    /// `leader.imbalance.check.interval.seconds`, milliseconds: how long the preferred replica
    /// must have been in sync before it gets leadership back.
    pub leader_rebalance_ms: u64,
}

/// All groups of one thread.
pub struct Shard<R> {
    cfg: ShardConfig,
    members: HashMap<GroupId, Member<R>>,
    /// Groups by wheel slot; BTree so that a turn's order does not depend on hashing.
    slots: Vec<BTreeSet<GroupId>>,
    dirty: BTreeSet<GroupId>,
    connected: BTreeSet<BrokerId>,
    dead: BTreeSet<BrokerId>,
    /// Peers that take no leadership.
    draining: BTreeSet<BrokerId>,
    quarantined: BTreeMap<GroupId, String>,
    fallen: BTreeMap<GroupId, Fallen>,
    /// Groups without a member here of which the journal has records all the same.
    kept_out: BTreeSet<GroupId>,
    /// As metadata said it last, also of groups that are yet to be created or to be rebuilt: it is
    /// said once.
    placements: HashMap<GroupId, Placement>,
    /// Boot time of each group's last rebuilding.
    rebuilt_ns: BTreeMap<GroupId, u64>,
    /// The newest that was heard of.
    image: Arc<metadata::Image>,
    disk_full: bool,
    handing_over: bool,
    /// As the last input was told.
    now: Now,
}

impl<R> Shard<R> {
    pub fn new(cfg: ShardConfig) -> Shard<R> {
        Shard {
            cfg,
            members: HashMap::new(),
            slots: (0..WHEEL_SLOTS).map(|_| BTreeSet::new()).collect(),
            dirty: BTreeSet::new(),
            connected: BTreeSet::new(),
            dead: BTreeSet::new(),
            draining: BTreeSet::new(),
            quarantined: BTreeMap::new(),
            fallen: BTreeMap::new(),
            kept_out: BTreeSet::new(),
            placements: HashMap::new(),
            rebuilt_ns: BTreeMap::new(),
            image: Arc::default(),
            disk_full: false,
            handing_over: false,
            now: Now::default(),
        }
    }

    /// Takes a group back as checkpoint, journal and segments have it. A group that does not fit
    /// together is quarantined and named, the others live.
    pub fn restore(&mut self, now: Now, restored: RestoredGroup, out: &mut Out<R>) {
        let (group, in_journal) = (restored.spec.group, restored.in_journal);
        let cfg = &self.cfg;
        let built = contained(|| Member::restore(cfg, now, restored));
        match built {
            Ok(Ok(member)) => self.insert(now, group, member),
            Ok(Err(why)) | Err(why) => {
                if in_journal {
                    self.keep_out(group);
                }
                self.quarantine(now, group, why, out);
            }
        }
    }

    /// A group that could not be put together, but made promises: it is not formed anew, and its
    /// removal is for the journal to know.
    pub fn keep_out(&mut self, group: GroupId) {
        self.kept_out.insert(group);
    }

    /// One input. Marks what it touched dirty; outputs only what cannot wait for the flush.
    pub fn step(&mut self, now: Now, input: Input<R>, out: &mut Out<R>) {
        self.now = now;
        match input {
            Input::Tick { slot } => self.tick(now, slot, out),
            Input::Raft { from, items } => self.receive(now, from, items, out),
            Input::Produce { group, request } => match self.members.get_mut(&group) {
                Some(member) => {
                    member.enqueue(now, request, self.disk_full, out);
                    self.dirty.insert(group);
                }
                None => self.refuse_unknown(group, request.reply, out),
            },
            Input::Guard { group, deadline_ns, reply } => match self.members.get_mut(&group) {
                Some(member) => {
                    member.guard(deadline_ns, reply, out);
                    self.dirty.insert(group);
                }
                None => self.refuse_unknown(group, Some(reply), out),
            },
            Input::Coordinate { group, request, image, reply } => {
                self.see(image);
                self.coordinate(now, group, *request, reply, out);
            }
            Input::Admin { group, ask, deadline_ns, reply } => match self.members.get_mut(&group) {
                Some(member) => {
                    member.admin(&self.cfg, now, ask, deadline_ns, reply, out);
                    self.dirty.insert(group);
                }
                None => self.refuse_unknown(group, Some(reply), out),
            },
            Input::Image { image } => self.see(image),
            Input::Metadata { request, reply } => {
                self.metadata(now, request, reply, out);
            }
            Input::Durable { done, written_ns } => self.durable(now, done, written_ns, out),
            Input::Readable { group, index, start_index, segments } => {
                self.with(group, out, |member, _, _| member.readable(index, start_index, segments));
            }
            Input::Entries { group, fetch, entries } => {
                self.with(group, out, |member, _, _| member.group.entries_fetched(fetch, entries));
            }
            Input::Offer { group, offer } => {
                self.with(group, out, |member, _, _| member.offer(offer.map(|offer| *offer)));
            }
            Input::SnapshotRead { group, peer, from } => {
                self.with(group, out, |member, _, _| member.snapshot_read(now, peer, from));
            }
            Input::SnapshotFailed { group, peer, from } => {
                self.with(group, out, |member, _, _| member.snapshot_failed(now, peer, from));
            }
            Input::Fetched { group, sender, message, manifest, reply } => {
                if !self.members.contains_key(&group) {
                    return self.refuse_unknown(group, Some(reply), out);
                }
                self.with(group, out, |member, _, out| {
                    member.fetched(now, sender, *message, *manifest, reply, out);
                });
            }
            Input::Installed { group, news } => {
                let handing_over = self.handing_over;
                self.with(group, out, |member, _, out| {
                    if member.installed(now, news, out) && !handing_over {
                        member.unhold();
                    }
                });
            }
            Input::PeerConnected { broker } => self.peer_connected(now, broker, out),
            Input::PeerDisconnected { broker } => {
                self.connected.remove(&broker);
                self.tell_majorities(now, out);
            }
            Input::PeerDraining { broker, draining: true } => _ = self.draining.insert(broker),
            Input::PeerDraining { broker, draining: false } => _ = self.draining.remove(&broker),
            Input::PeerDied { broker } => self.peer_died(now, broker, out),
            Input::Create { spec } => self.create(now, *spec, out),
            Input::Remove { group } => self.remove(group, out),
            Input::Configure { group, config } => {
                self.with(group, out, |member, _, out| member.configure(*config, out));
            }
            Input::Place { group, placement } => {
                let connected = self.connected.clone();
                self.placements.insert(group, (*placement).clone());
                self.with(group, out, |member, cfg, _| {
                    member.place(*placement);
                    member.tell_majority(now, &connected, cfg.broker);
                });
            }
            Input::KeepOut { group } => {
                self.keep_out(group);
                let suspect = Some(storage::Damage::RecordMaybeLost);
                out.journal.push(JournalWrite { group, suspect, ..Default::default() });
            }
            Input::Undrain => {
                self.handing_over = false;
                self.each(out, |member, _, _| member.unhold());
            }
            Input::Checkpoint { id } => self.checkpoint(id, out),
            Input::HandOver => {
                self.handing_over = true;
                // Held: it hands over, and takes nothing back.
                self.each(out, |member, _, _| member.group.hold());
            }
            Input::DiskFull { full } => self.disk_full = full,
            Input::Distrust { group } => self.with(group, out, |member, _, _| member.distrust()),
            Input::Rebuild { group, log } => self.rebuild(now, group, log, out),
            #[cfg(test)]
            Input::Panic { group } => {
                self.with(group, out, |member, _, _| member.planted_panic = true);
            }
        }
    }

    /// One proposal and one Ready per dirty group. `turn_ns`: boot time at the turn's start, when
    /// what the heartbeats of this turn promise began.
    pub fn flush(&mut self, now: Now, turn_ns: u64, out: &mut Out<R>) {
        for group in std::mem::take(&mut self.dirty) {
            let (cfg, handing_over) = (&self.cfg, self.handing_over);
            let Some(member) = self.members.get_mut(&group) else { continue };
            match contained(|| member.flush(cfg, now, turn_ns, handing_over, out)) {
                Ok(()) if member.group.is_broken() => {
                    self.quarantine(now, group, "an invariant of its log broke".into(), out);
                }
                // More than one Ready's worth is committed: the next turn takes the rest.
                Ok(()) if member.group.has_ready() => {
                    self.dirty.insert(group);
                }
                Ok(()) => {}
                Err(why) => self.quarantine(now, group, why, out),
            }
        }
    }

    /// True when the last flush left something for the next one.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// A message could not leave: raft probes that peer again.
    pub fn unreachable(&mut self, group: GroupId, to: ReplicaId) {
        if let Some(member) = self.members.get_mut(&group) {
            member.group.report_unreachable(to);
        }
    }

    /// Where every group ends, for the shutdown manifest; see [`GroupEnd`].
    pub fn closing(&self, durable_tokens: &HashMap<GroupId, u64>) -> Vec<GroupEnd> {
        let token = |group: &GroupId| durable_tokens.get(group).copied().unwrap_or(0);
        self.members.iter().map(|(group, member)| member.closing(token(group))).collect()
    }

    /// Status of every group, for people.
    pub fn statuses(&self, now: Now) -> Vec<(GroupId, MemberStatus)> {
        let mut all: Vec<_> = self.members.iter().map(|(id, m)| (*id, m.status(now))).collect();
        all.sort_by_key(|(id, _)| *id);
        all
    }

    pub fn quarantined(&self) -> &BTreeMap<GroupId, String> {
        &self.quarantined
    }

    /// The member of a group, for tests, the simulator's oracle and checkpoints.
    pub fn member(&self, group: GroupId) -> Option<&Member<R>> {
        self.members.get(&group)
    }

    pub fn groups(&self) -> Vec<GroupId> {
        let mut all: Vec<_> = self.members.keys().copied().collect();
        all.sort();
        all
    }

    /// True when no leadership is held that another replica could take.
    pub fn handed_over(&self) -> bool {
        self.members.values().all(|member| !member.leads_others())
    }

    fn insert(&mut self, now: Now, group: GroupId, mut member: Member<R>) {
        for broker in &self.dead {
            member.peer_died(now, *broker);
        }
        if let Some(placement) = self.placements.get(&group) {
            member.place(placement.clone());
        }
        member.tell_majority(now, &self.connected, self.cfg.broker);
        self.slot_for_one_more().insert(group);
        self.kept_out.remove(&group);
        self.members.insert(group, member);
        self.dirty.insert(group);
    }

    /// One slot serves a few groups, so that a shard with little to do wakes up seldom; more of
    /// them are spread.
    fn slot_for_one_more(&mut self) -> &mut BTreeSet<GroupId> {
        let full = self.slots[0].len() >= SLOT_GROUPS_MIN;
        let emptiest = self.slots.iter_mut().enumerate().min_by_key(|(at, slot)| (slot.len(), *at));
        let emptiest = emptiest.map_or(0, |(at, _)| at);
        &mut self.slots[if full { emptiest } else { 0 }]
    }

    /// How many slots after `slot` the next one with groups comes: one to [`WHEEL_SLOTS`].
    pub fn slots_until_next(&self, slot: u64) -> u64 {
        let busy = |after: &u64| !self.slots[((slot + after) % WHEEL_SLOTS) as usize].is_empty();
        (1..=WHEEL_SLOTS).find(busy).unwrap_or(WHEEL_SLOTS)
    }

    fn tick(&mut self, now: Now, slot: u64, out: &mut Out<R>) {
        let groups: Vec<GroupId> =
            self.slots[(slot % WHEEL_SLOTS) as usize].iter().copied().collect();
        let keep = limits::LOG_VIEWS_KEEP_BYTES / self.members.len().max(1);
        let beat = Beat::of(slot / WHEEL_SLOTS, limits::HEARTBEAT_TICKS);
        let beats = beat != Beat::None;
        let image = Arc::clone(&self.image);
        let handing_over = self.handing_over;
        let draining = self.draining.clone();
        for group in groups {
            self.touch(group, out, |member, cfg, out| {
                member.group.set_keep_bytes(keep);
                let moved = member.tick(cfg, now, &image, beat, out);
                if beats && !handing_over {
                    member.look_at_membership(cfg, now, &draining, out);
                }
                moved || beats
            });
        }
    }

    /// Images come on several ways; an older one is no news.
    fn see(&mut self, image: Arc<metadata::Image>) {
        if image.version() > self.image.version() {
            self.image = image;
        }
    }

    fn receive(&mut self, now: Now, from: BrokerId, items: Vec<RaftIn>, out: &mut Out<R>) {
        for item in items {
            let RaftIn { group, from: sender, to, message } = item;
            if !self.members.contains_key(&group) {
                out.events.push(Event::UnknownGroup { group });
                continue;
            }
            self.touch(group, out, |member, _, out| {
                // A replica id speaks only from the broker it is bound to.
                if member.replica() != to || !member.speaks_from(sender, from) {
                } else if message.get_msg_type() == MessageType::MsgSnapshot {
                    member.snapshot_arrived(now, sender, from, message, out);
                } else {
                    member.group.receive(now, sender, message);
                }
                true
            });
        }
    }

    fn durable(&mut self, now: Now, done: Vec<(GroupId, u64)>, written_ns: u64, out: &mut Out<R>) {
        for (group, token) in done {
            if token == REMOVED {
                out.segments.push(SegmentWork::Delete { group });
                continue;
            }
            self.with(group, out, |member, _, out| member.persisted(now, token, written_ns, out));
        }
    }

    fn coordinate(
        &mut self,
        now: Now,
        group: GroupId,
        request: machine::groups::Request,
        reply: R,
        out: &mut Out<R>,
    ) {
        if !self.members.contains_key(&group) {
            return out.refuse(Some(reply), ErrorCode::NotCoordinator, "no replica here");
        }
        let image = Arc::clone(&self.image);
        self.with(group, out, |member, _, out| {
            member.coordinate(now, &image, request, reply, out);
        });
    }

    fn metadata(&mut self, now: Now, request: metadata::Request, reply: R, out: &mut Out<R>) {
        let connected = &self.connected;
        let own = self.cfg.broker;
        let alive = |broker: BrokerId| broker == own || connected.contains(&broker);
        let Some(member) = self.members.get_mut(&GroupId::METADATA) else {
            out.refuse(Some(reply), ErrorCode::NotController, "no metadata replica here");
            return;
        };
        member.metadata_request(now, request, reply, &alive, out);
        self.dirty.insert(GroupId::METADATA);
    }

    fn peer_connected(&mut self, now: Now, broker: BrokerId, out: &mut Out<R>) {
        self.dead.remove(&broker);
        self.connected.insert(broker);
        self.each(out, |member, _, _| member.peer_alive(now, broker));
        self.tell_majorities(now, out);
    }

    fn peer_died(&mut self, now: Now, broker: BrokerId, out: &mut Out<R>) {
        self.connected.remove(&broker);
        self.dead.insert(broker);
        self.each(out, |member, _, _| member.peer_died(now, broker));
        self.tell_majorities(now, out);
    }

    fn tell_majorities(&mut self, now: Now, out: &mut Out<R>) {
        let connected = self.connected.clone();
        self.each(out, |member, cfg, _| member.tell_majority(now, &connected, cfg.broker));
    }

    fn create(&mut self, now: Now, spec: GroupSpec, out: &mut Out<R>) {
        let group = spec.group;
        let out_of_service =
            self.quarantined.contains_key(&group) || self.kept_out.contains(&group);
        if self.members.contains_key(&group) || out_of_service {
            return;
        }
        // Else its segments would be cut as configured only after the next start.
        let bytes = spec.config.segment_bytes;
        out.segments.push(SegmentWork::SegmentBytes { group, bytes });
        self.restore(now, RestoredGroup::new(spec), out);
    }

    fn remove(&mut self, group: GroupId, out: &mut Out<R>) {
        self.quarantined.remove(&group);
        self.slots.iter_mut().for_each(|slot| _ = slot.remove(&group));
        self.dirty.remove(&group);
        if self.image.deleted_groups().contains(group) {
            self.placements.remove(&group);
        }
        // One that waits to be rebuilt is not.
        self.fallen.remove(&group);
        let mut in_journal = self.kept_out.remove(&group);
        if let Some(mut member) = self.members.remove(&group) {
            member.refuse_all(
                ErrorCode::UnknownTopicOrPartition,
                "the replica is no longer placed here",
                out,
            );
            in_journal |= member.in_journal();
        }
        if in_journal {
            // Files go once that is on disk.
            out.journal.push(JournalWrite {
                group,
                token: REMOVED,
                remove: true,
                ..Default::default()
            });
        } else {
            out.segments.push(SegmentWork::Delete { group });
        }
    }

    fn checkpoint(&mut self, id: u64, out: &mut Out<R>) {
        for group in self.groups() {
            self.with(group, out, |member, _, out| member.mark(id, out));
        }
        out.segments.push(SegmentWork::Marked { checkpoint: id, shard: self.cfg.shard });
    }

    fn refuse_unknown(&mut self, group: GroupId, reply: Option<R>, out: &mut Out<R>) {
        match self.quarantined.get(&group) {
            Some(why) => out.refuse(reply, ErrorCode::KafkaStorageError, why.clone()),
            None => out.refuse(reply, ErrorCode::NotLeaderOrFollower, "no replica here"),
        }
    }

    /// Runs `f` on a member, contained, and marks it dirty.
    fn with(
        &mut self,
        group: GroupId,
        out: &mut Out<R>,
        f: impl FnOnce(&mut Member<R>, &ShardConfig, &mut Out<R>),
    ) {
        self.touch(group, out, |member, cfg, out| {
            f(member, cfg, out);
            false
        });
        if self.members.contains_key(&group) {
            self.dirty.insert(group);
        }
    }

    /// The same for what mostly leaves nothing to flush, ticks and messages. `f` is false when
    /// there is no need to look.
    fn touch(
        &mut self,
        group: GroupId,
        out: &mut Out<R>,
        f: impl FnOnce(&mut Member<R>, &ShardConfig, &mut Out<R>) -> bool,
    ) {
        let Some(member) = self.members.get_mut(&group) else { return };
        let cfg = &self.cfg;
        match contained(|| f(member, cfg, out)) {
            Ok(look) if look && member.has_work() => {
                self.dirty.insert(group);
            }
            Ok(_) => {}
            Err(why) => self.quarantine(self.now, group, why, out),
        }
    }

    fn each(&mut self, out: &mut Out<R>, f: impl Fn(&mut Member<R>, &ShardConfig, &mut Out<R>)) {
        for group in self.groups() {
            self.with(group, out, &f);
        }
    }

    /// A RawNode is never used again after unwinding: the group is dropped, the others live. It
    /// is rebuilt from the journal once in [`limits::REBUILD_INTERVAL_MS`], else it stays out.
    fn quarantine(&mut self, now: Now, group: GroupId, why: String, out: &mut Out<R>) {
        self.slots.iter_mut().for_each(|slot| _ = slot.remove(&group));
        self.dirty.remove(&group);
        if let Some(mut member) = self.members.remove(&group) {
            member.refuse_all(ErrorCode::NotLeaderOrFollower, "the replica is quarantined", out);
            out.views.push(ViewUpdate {
                group,
                high_watermark: -1,
                log_start: -1,
                ..Default::default()
            });
            if member.in_journal() {
                self.kept_out.insert(group);
            }
            let lately = self
                .rebuilt_ns
                .get(&group)
                .is_some_and(|rebuilt_ns| now.ms_since(*rebuilt_ns) < limits::REBUILD_INTERVAL_MS);
            if !lately && let Some(fallen) = member.into_fallen() {
                self.fallen.insert(group, fallen);
                out.rebuilds.push(group);
            }
        }
        self.quarantined.insert(group, why.clone());
        out.events.push(Event::Quarantined { group, why });
    }

    /// Machine and segments were sound; raft's half comes back from the journal.
    fn rebuild(
        &mut self,
        now: Now,
        group: GroupId,
        log: Result<Box<Restored>, String>,
        out: &mut Out<R>,
    ) {
        let Some(fallen) = self.fallen.remove(&group) else { return };
        let log = match log {
            Ok(log) => *log,
            Err(why) => {
                let before = self.quarantined.remove(&group).unwrap_or_default();
                self.quarantined.insert(group, format!("{before}; not rebuilt: {why}"));
                return;
            }
        };
        self.rebuilt_ns.insert(group, now.boot_ns);
        let restored = RestoredGroup {
            log: Restored { applied: fallen.applied, ..log },
            machine: Some(fallen.machine),
            applied_term: fallen.applied_term,
            in_journal: true,
            segments: fallen.segments,
            spec: fallen.spec,
        };
        self.quarantined.remove(&group);
        self.restore(now, restored, out);
        if let Some(member) = self.members.get_mut(&group) {
            member.continue_tokens(fallen.last_token);
            out.events.push(Event::Rebuilt { group });
        }
    }
}

/// Runs `f`; a panic becomes its message.
fn contained<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| panic_text(&*panic))
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
        .unwrap_or_else(|| "a panic without a message".into())
}

/// Requests one partition may hold before new ones are told to come back.
const QUEUE_MAX: usize = limits::PARTITION_REQUESTS_MAX;
