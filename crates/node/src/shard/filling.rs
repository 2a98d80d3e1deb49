//! A replica whose next entry lies behind its leader's log start, filled by a snapshot: the part
//! of both sides that raft and machine take.
//!
//! A leader marks its state behind one entry ([`SegmentWork::Manifest`]); what is made of that is
//! offered to raft, which names it in a MsgSnapshot. The follower's bytes are fetched elsewhere
//! ([`SnapshotIn`]); when all are synced, raft takes the snapshot and the journal forgets what lies
//! above it. Only then, and only once a synced checkpoint names the new segments
//! ([`SegmentWork::Install`]), raft hears that the snapshot is durable: before, a restart would
//! find the old log, and the leader must not believe otherwise.
//!
//! Invariants: from the moment raft took a snapshot until it is installed nothing is marked,
//! nothing of that time is told to raft as durable, and the group is not rebuilt; the machine is
//! replaced in one step, readers see the old log or the new one.

use consensus::{Role, SnapshotLog, SnapshotVerdict, eraftpb};
use model::{BrokerId, ErrorCode, GroupId, Now, ReplicaId, limits};
use storage::{Manifest, SegmentPosition, SegmentSummary};

use crate::manifest::GroupEnd;

use super::answer::Answer;
use super::apply::Machine;
use super::checkpoint::GroupMark;
use super::member::Member;
use super::spec::conf_state_bytes;
use super::{Out, SegmentWork};

/// A snapshot a leader named: to be fetched from its broker, then [`super::Input::Fetched`].
#[derive(Debug, Clone)]
pub struct SnapshotIn {
    pub group: GroupId,
    pub name: String,
    /// Of this broker: who fetches.
    pub replica: ReplicaId,
    pub sender: ReplicaId,
    pub broker: BrokerId,
    pub message: Box<eraftpb::Message>,
}

/// What the segment thread makes the group's own.
#[derive(Debug)]
pub struct Install {
    /// The snapshot's state.
    pub mark: GroupMark,
    /// Its files, synced, in the home they were fetched into.
    pub position: SegmentPosition,
    pub segment_bytes: u64,
}

/// The segments of an installed snapshot, once the checkpoint that names them is synced.
#[derive(Debug, Clone)]
pub struct Installed {
    pub index: u64,
    pub start_index: u64,
    pub segments: Vec<SegmentSummary>,
}

/// A leader's side.
#[derive(Debug, Default)]
pub(super) struct Offering {
    /// Boot time at which raft last asked for a snapshot in vain, or a peer fetched one.
    wanted_ns: u64,
    /// One is being made.
    making: bool,
    /// One is kept for peers, as far as this shard knows.
    kept: bool,
    /// The last one's beginning, and the entry it stands behind.
    begun_ns: u64,
    index: u64,
}

/// A follower's side, from raft's taking until it is installed.
pub(super) struct Installing<R> {
    machine: Machine,
    /// Of which machine and position were made.
    manifest: Manifest,
    reply: R,
    /// The Ready that carries it; `None`: not flushed yet.
    ready: Option<u64>,
    /// The highest Ready from it on that the journal has.
    durable: u64,
    handed_over: bool,
    /// Where the old log ends for good: what a shutdown in between writes down.
    pub before: Before,
}

/// A log that is about to be replaced. Its tail may be in conflict with what replaces it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    commit: u64,
    commit_term: u64,
    applied: u64,
}

impl Before {
    /// Where the replica ends if the snapshot never gets there.
    pub fn end(self, end: GroupEnd) -> GroupEnd {
        GroupEnd {
            last_index: self.commit,
            last_term: self.commit_term,
            durable: end.durable.min(self.commit),
            acked: end.acked.min(self.commit),
            committed: self.commit,
            applied: self.applied,
            ..end
        }
    }
}

impl<R> Member<R> {
    /// A leader looks after what it offers, with every tick.
    pub(super) fn look_at_offer(&mut self, now: Now, out: &mut Out<R>) {
        // Serving or not: the one to be filled may be who is missing for a majority.
        let leads = self.group.role() == Role::Leader && self.held.is_none();
        if self.offering.kept && !self.group.snapshots_under_way().is_empty() {
            self.offering.wanted_ns = now.boot_ns;
        }
        let wanted = self.offering.wanted_ns > 0
            && now.ms_since(self.offering.wanted_ns) < limits::SNAPSHOT_IDLE_MS;
        let helps = self.group.snapshot_offered().is_some();
        if self.offering.kept && !(leads && wanted && helps) {
            self.offering.kept = false;
            self.group.offer_snapshot(None);
            out.offers_done.push(self.spec.group);
        }
        let lately = self.offering.begun_ns > 0
            && now.ms_since(self.offering.begun_ns) < limits::SNAPSHOT_EVERY_MS;
        if !leads || !wanted || helps || lately || self.offering.making || !self.in_journal() {
            return;
        }
        let mark = self.mark_here();
        self.offering.making = true;
        (self.offering.begun_ns, self.offering.index) = (now.boot_ns, mark.applied_index);
        out.segments.push(SegmentWork::Manifest { mark: Box::new(mark) });
    }

    /// No entry above it may leave for a snapshot's sake: whoever is being filled goes on there.
    /// Bounded in time, for one that never gets that far.
    pub(super) fn snapshot_floor(&self, now: Now) -> Option<u64> {
        let Offering { making, kept, begun_ns, index, .. } = self.offering;
        let lately = now.ms_since(begun_ns) < limits::SNAPSHOT_HOLD_MS;
        ((making || kept) && lately).then_some(index)
    }

    pub(super) fn snapshot_wanted(&mut self, now: Now) {
        self.offering.wanted_ns = now.boot_ns;
    }

    /// What became of the manifest that was asked for, or of one that was kept.
    pub(super) fn offer(&mut self, offer: Option<eraftpb::Snapshot>) {
        self.offering.making = false;
        self.offering.kept = offer.is_some();
        self.group.offer_snapshot(offer);
    }

    /// A peer reads what was offered.
    pub(super) fn snapshot_read(&mut self, now: Now, peer: ReplicaId, from: BrokerId) {
        if self.broker_of(peer) == Some(from) {
            self.group.snapshot_lives(now, peer);
        }
    }

    /// A peer gave up.
    pub(super) fn snapshot_failed(&mut self, now: Now, peer: ReplicaId, from: BrokerId) {
        if self.broker_of(peer) == Some(from) {
            self.group.snapshot_failed(now, peer);
        }
    }

    /// A MsgSnapshot arrived: raft sees it when its contents are here.
    pub(super) fn snapshot_arrived(
        &mut self,
        now: Now,
        sender: ReplicaId,
        broker: BrokerId,
        message: eraftpb::Message,
        out: &mut Out<R>,
    ) {
        match self.group.judge_snapshot(sender, &message) {
            SnapshotVerdict::Fetch if self.installing.is_some() => {}
            SnapshotVerdict::Fetch => out.snapshots.push(SnapshotIn {
                group: self.spec.group,
                name: self.spec.name.clone(),
                replica: self.spec.replica,
                sender,
                broker,
                message: Box::new(message),
            }),
            // A refusal is named there.
            SnapshotVerdict::Step | SnapshotVerdict::Refuse(_) => {
                self.group.step_snapshot(now, sender, message);
            }
        }
    }

    /// All a MsgSnapshot names is here and synced. Answered when it is installed, or refused.
    pub(super) fn fetched(
        &mut self,
        now: Now,
        sender: ReplicaId,
        message: eraftpb::Message,
        manifest: Manifest,
        reply: R,
        out: &mut Out<R>,
    ) {
        let refuse = |out: &mut Out<R>, reply: R, why: String| {
            out.refuse(Some(reply), ErrorCode::InvalidRequest, why);
        };
        if self.installing.is_some() {
            return refuse(out, reply, "another snapshot is being installed".into());
        }
        let machine = match Machine::restore(&self.spec, Some(&manifest.machine)) {
            Ok(machine) => machine,
            Err(why) => return refuse(out, reply, format!("its machine cannot be read: {why}")),
        };
        if machine.applied() != manifest.index() {
            let why = format!("its machine stands at {}", machine.applied());
            return refuse(out, reply, why);
        }
        let commit = self.group.commit_index();
        let commit_term = self.group.term_of(commit).unwrap_or(0);
        let before = Before { commit, commit_term, applied: self.group.applied_index() };
        let log = SnapshotLog {
            start_index: manifest.position.start_index,
            terms: manifest.term_starts(),
        };
        if !self.group.install_snapshot(now, sender, message, log) {
            return refuse(out, reply, "raft does not need it any more".into());
        }
        self.installing = Some(Installing {
            machine,
            manifest,
            reply,
            ready: None,
            durable: 0,
            handed_over: false,
            before,
        });
    }

    /// The write that carries the snapshot is on its way to the journal.
    pub(super) fn snapshot_written(&mut self, ready: u64) {
        let installing = self.installing.as_mut().expect("raft took what was fetched");
        installing.ready = Some(ready);
    }

    /// The journal has all up to this Ready. How much of that raft may hear: nothing from the
    /// snapshot's on, until it is installed.
    pub(super) fn hold_back(&mut self, ready: u64, out: &mut Out<R>) -> u64 {
        let Some(installing) = self.installing.as_mut() else { return ready };
        let Some(own) = installing.ready.filter(|own| *own <= ready) else { return ready };
        installing.durable = installing.durable.max(ready);
        if !std::mem::replace(&mut installing.handed_over, true) {
            let manifest = &installing.manifest;
            let mark = GroupMark {
                group: self.spec.group,
                birth: self.spec.birth(),
                conf_state: manifest.conf_state.clone(),
                applied_index: manifest.index(),
                applied_term: manifest.term,
                machine: manifest.machine.clone(),
            };
            let (position, segment_bytes) = (manifest.position.clone(), self.config.segment_bytes);
            let install = Install { mark, position, segment_bytes };
            out.segments.push(SegmentWork::Install { install: Box::new(install) });
        }
        own - 1
    }

    /// The checkpoint that names the snapshot's segments is synced: the log begins anew. `false`:
    /// nobody waited for it.
    pub(super) fn installed(&mut self, now: Now, news: Installed, out: &mut Out<R>) -> bool {
        let index = news.index;
        let Some(installing) = self.installing.take_if(|it| it.manifest.index() == index) else {
            return false;
        };
        let Installing { machine, manifest: Manifest { term, .. }, durable, reply, .. } =
            installing;
        self.machine = machine;
        (self.settled, self.marked, self.applied_term) = (index, index, term);
        self.durable_index = index;
        self.forget_unsynced(durable);
        (self.active_since, self.rolled_at) = ((-1, 0), -1);
        self.segments = news.segments;
        self.held = None;
        self.published = self.published.max(self.machine.next_offset());
        self.publish(Vec::new(), out);
        if let Machine::Metadata(machine) = &self.machine {
            out.image = Some(machine.image());
        }
        self.tell_persisted(now, durable, out);
        self.group.release_log(index);
        self.group.set_start_index(news.start_index);
        out.replies.push((reply, Answer::Done));
        true
    }

    /// What is to be in a checkpoint or manifest of this group, as of the last entry applied.
    pub(super) fn mark_here(&self) -> GroupMark {
        GroupMark {
            group: self.spec.group,
            birth: self.spec.birth(),
            conf_state: conf_state_bytes(&self.group.conf_state()),
            applied_index: self.group.applied_index(),
            applied_term: self.applied_term,
            machine: self.machine.snapshot().into(),
        }
    }
}
