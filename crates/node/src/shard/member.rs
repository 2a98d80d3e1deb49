//! One group on one shard: raft, machine, the leader's half, and who waits for what.
//!
//! Invariants: the leader's half exists only while this replica is *Serving*: leader, with an
//! entry of its own term applied. Whoever waits is answered when that ends. The machine sees
//! every committed entry once, in order, or is held at the first it refuses.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use consensus::{Beat, Group, GroupConfig, GroupOut, Role};
use machine::config::TopicConfig;
use machine::groups::{GroupsConfig, GroupsLead};
use machine::metadata::Image;
use model::{BrokerId, ErrorCode, GroupId, Now, ReplicaId};
use storage::{GroupBirth, JournalWrite, SegmentSummary};

use crate::manifest::GroupEnd;

use super::admin::Trim;
use super::apply::Machine;
use super::coordinate::Coordinating;
use super::filling::{Installing, Offering};
use super::lead::{Lead, Owed, Pending};
use super::ledger::LedgerBreach;
use super::{
    Event, GroupKind, GroupSpec, MemberStatus, Out, ProduceInput, QUEUE_MAX, RaftOut,
    RestoredGroup, ShardConfig, StarvedView, ViewUpdate,
};

/// A guarded read that waits for `index` to be applied.
pub(super) struct Waiting<R> {
    pub index: u64,
    pub deadline_ns: u64,
    /// Set once a ReadIndex round vouches for it; else the lease must.
    pub confirmed: bool,
    /// The ReadIndex round that was asked for it.
    pub round: Option<u64>,
    pub reply: R,
}

/// One replica of one group; see the module.
pub struct Member<R> {
    pub(super) spec: GroupSpec,
    pub group: Group,
    pub(super) machine: Machine,
    pub(super) config: TopicConfig,
    /// Where metadata wants the replicas, once it said so.
    pub(super) placement: Option<super::Placement>,
    /// Replicas whose broker only their messages told.
    pub(super) heard: Vec<(ReplicaId, BrokerId)>,
    pub(super) reported_ns: u64,
    /// Since when the preferred replica could lead; 0: it could not lately.
    pub(super) preferred_since_ns: u64,
    pub(super) lead: Option<Lead>,
    /// Not stamped yet, in arrival order.
    pub(super) queued: VecDeque<ProduceInput<R>>,
    /// Proposed, in log order.
    pub(super) pending: VecDeque<Pending<R>>,
    /// Committed, and not as safe yet as somebody demanded.
    pub(super) owed: VecDeque<Owed<R>>,
    pub(super) waiting: Vec<Waiting<R>>,
    /// A coordinator's leading half; beside `lead`, in the same term.
    pub(super) groups: Option<GroupsLead<R>>,
    pub(super) coordinating: Coordinating<R>,
    pub(super) groups_config: GroupsConfig,
    /// Replicas of which this leader heard that they cannot be trusted, and when it first did.
    pub(super) doubted: Vec<(ReplicaId, u64)>,
    /// Log starts that wait for a voter that lags.
    pub(super) trims: Vec<Trim<R>>,
    pub(super) next_round: u64,
    /// Why the machine stands still, and before which entry.
    pub(super) held: Option<(u64, String)>,
    /// What this replica, leading, offers to those that lag behind its log start.
    pub(super) offering: Offering,
    /// A snapshot between raft and the checkpoint that names it.
    pub(super) installing: Option<Installing<R>>,
    /// Birth to hand to the journal with the first write.
    birth: Option<GroupBirth>,
    /// Last entry index of each Ready that is not durable yet.
    unsynced: VecDeque<(u64, u64)>,
    /// Entries at or below it are durable here.
    pub(super) durable_index: u64,
    /// What was told of its ledger.
    pub(super) breach: Option<LedgerBreach>,
    /// Highest index acknowledged to a producer by this replica in this life.
    pub(super) acked: u64,
    /// Term of the last applied entry: equal to raft's term means Serving may begin.
    pub(super) applied_term: u64,
    /// Next offset that readers have not seen.
    pub(super) published: i64,
    pub(super) last_isr: Vec<BrokerId>,
    pub(super) segments: Vec<SegmentSummary>,
    /// (base offset of the active segment, wall clock when this leader first saw it).
    pub(super) active_since: (i64, i64),
    /// The next offset when the last `Roll` was applied: what lies below is sealed.
    pub(super) rolled_at: i64,
    pub(super) retention_at_ns: u64,
    pub(super) marked: u64,
    /// Last index whose consequences all left: machine and segments agree there.
    pub(super) settled: u64,
    /// True while committed entries are being taken: a panic then leaves machine and segments
    /// apart.
    pub(super) applying: bool,
    /// Journal tokens of earlier lives of this group in this process; see [`Fallen`].
    token_base: u64,
    last_token: u64,
    #[cfg(test)]
    pub(super) planted_panic: bool,
    out: GroupOut,
}

/// A group between its panic and its rebuilding: everything but raft, which is read back from
/// the journal.
pub(super) struct Fallen {
    pub spec: GroupSpec,
    pub machine: Bytes,
    pub applied: u64,
    pub applied_term: u64,
    pub segments: Vec<SegmentSummary>,
    pub last_token: u64,
}

impl<R> Member<R> {
    pub(super) fn restore(
        cfg: &ShardConfig,
        now: Now,
        restored: RestoredGroup,
    ) -> Result<Member<R>, String> {
        let RestoredGroup { spec, log, machine, applied_term, in_journal, segments } = restored;
        let machine = Machine::restore(&spec, machine.as_deref())?;
        let config = GroupConfig {
            group: spec.group,
            replica: spec.replica,
            seed: cfg.seed,
            timing: cfg.timing,
        };
        let applied = log.applied;
        let durable_index = log.entries.last().map_or(log.applied, |entry| entry.index);
        let group = Group::new(config, log, now).map_err(|error| error.to_string())?;
        let published = machine.next_offset();
        Ok(Member {
            birth: (!in_journal).then(|| spec.birth()),
            config: spec.config.clone(),
            spec,
            group,
            machine,
            placement: None,
            heard: Vec::new(),
            reported_ns: 0,
            preferred_since_ns: 0,
            lead: None,
            queued: VecDeque::new(),
            pending: VecDeque::new(),
            owed: VecDeque::new(),
            waiting: Vec::new(),
            groups: None,
            coordinating: Coordinating::default(),
            groups_config: cfg.groups.clone(),
            doubted: Vec::new(),
            trims: Vec::new(),
            next_round: 0,
            held: None,
            offering: Offering::default(),
            installing: None,
            unsynced: VecDeque::new(),
            durable_index,
            breach: None,
            acked: 0,
            applied_term,
            published,
            last_isr: Vec::new(),
            segments,
            active_since: (-1, 0),
            rolled_at: -1,
            retention_at_ns: now.boot_ns,
            marked: 0,
            settled: applied,
            applying: false,
            token_base: 0,
            last_token: 0,
            #[cfg(test)]
            planted_panic: false,
            out: GroupOut::default(),
        })
    }

    pub fn replica(&self) -> ReplicaId {
        self.spec.replica
    }

    pub fn spec(&self) -> &GroupSpec {
        &self.spec
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    pub fn is_serving(&self) -> bool {
        self.lead.is_some()
    }

    /// Index of the last committed entry that readers may have seen, and the next offset.
    pub fn published_offset(&self) -> i64 {
        self.published
    }

    pub(super) fn in_journal(&self) -> bool {
        self.birth.is_none()
    }

    /// The broker takes leaderships again; a machine that stands still does not.
    pub(super) fn unhold(&mut self) {
        if self.held.is_none() {
            self.group.unhold();
        }
    }

    /// `beat`: whether leaders of the shard send heartbeats on this tick. What only a leader has
    /// to look at more often, others look at then. False: it left nothing to flush.
    pub(super) fn tick(
        &mut self,
        cfg: &ShardConfig,
        now: Now,
        image: &Image,
        beat: Beat,
        out: &mut Out<R>,
    ) -> bool {
        let moved = self.group.tick(now, beat);
        if beat == Beat::None && self.lead.is_none() {
            return moved;
        }
        self.expire_waiting(now, out);
        self.expire_queued(now, out);
        self.refuse_owed(cfg, now, out);
        self.tick_groups(now, image);
        self.expire_trims(now, out);
        self.propose_trims(cfg, now, out);
        self.look_at_age(cfg, now);
        self.look_at_offer(now, out);
        true
    }

    /// False: a flush would find nothing to do. What time alone changes waits for the next
    /// heartbeat.
    pub(super) fn has_work(&self) -> bool {
        self.group.has_ready()
            || !self.queued.is_empty()
            || !self.waiting.is_empty()
            || !self.owed.is_empty()
            || self.coordinating.has_work()
    }

    pub(super) fn enqueue(
        &mut self,
        now: Now,
        mut request: ProduceInput<R>,
        disk_full: bool,
        out: &mut Out<R>,
    ) {
        request.arrived_ns = now.boot_ns;
        let refusal = if self.spec.kind != GroupKind::Partition {
            Some((ErrorCode::InvalidTopicException, "only its coordinator writes to it"))
        } else if self.lead.is_none() {
            Some((ErrorCode::NotLeaderOrFollower, "another broker leads, or an election runs"))
        } else if self.held.is_some() {
            Some((ErrorCode::KafkaStorageError, "the partition is held at an entry it refuses"))
        } else if disk_full {
            Some((
                ErrorCode::KafkaStorageError,
                "the disk is full; free space on the log directory",
            ))
        } else if self.queued.len() + self.pending.len() + self.owed.len() >= QUEUE_MAX {
            Some((ErrorCode::ThrottlingQuotaExceeded, "too many batches wait for this partition"))
        } else {
            None
        };
        match refusal {
            Some((code, why)) => out.refuse(request.reply, code, why),
            None => self.queued.push_back(request),
        }
    }

    pub(super) fn persisted(&mut self, now: Now, token: u64, written_ns: u64, out: &mut Out<R>) {
        // Durable only now, but written by a life of this group that panicked since.
        let Some(token) = token.checked_sub(self.token_base).filter(|token| *token > 0) else {
            return;
        };
        let told = self.hold_back(token, out);
        while let Some((ready, index)) = self.unsynced.front().copied() {
            if ready > told {
                break;
            }
            self.durable_index = self.durable_index.max(index);
            self.unsynced.pop_front();
        }
        self.tell_persisted(now, told, out);
        self.answer_local(now, written_ns, out);
    }

    pub(super) fn tell_persisted(&mut self, now: Now, ready: u64, out: &mut Out<R>) {
        self.group.persisted(now, ready, &mut self.out);
        self.take_output(out);
    }

    /// Entries of a log that a snapshot replaced.
    pub(super) fn forget_unsynced(&mut self, up_to: u64) {
        self.unsynced.retain(|(ready, _)| *ready > up_to);
    }

    pub(super) fn readable(
        &mut self,
        index: u64,
        start_index: u64,
        segments: Option<Vec<SegmentSummary>>,
    ) {
        if self.installing.is_some() {
            // Of a log that is being replaced.
            return;
        }
        self.group.release_log(index);
        self.group.set_start_index(start_index);
        if let Some(segments) = segments {
            self.segments = segments;
        }
    }

    pub(super) fn peer_died(&mut self, now: Now, broker: BrokerId) {
        for replica in self.replicas_on(broker) {
            self.group.peer_died(now, replica);
        }
    }

    pub(super) fn peer_alive(&mut self, now: Now, broker: BrokerId) {
        for replica in self.replicas_on(broker) {
            self.group.peer_alive(now, replica);
        }
    }

    pub(super) fn tell_majority(
        &mut self,
        now: Now,
        connected: &BTreeSet<BrokerId>,
        own: BrokerId,
    ) {
        let here = |id: &&u64| {
            let broker = self.broker_of(ReplicaId(**id));
            broker.is_some_and(|broker| broker == own || connected.contains(&broker))
        };
        let most = |ids: &[u64]| ids.iter().filter(here).count() > ids.len() / 2;
        let outgoing = self.group.outgoing();
        let there = most(self.group.voters()) && (outgoing.is_empty() || most(outgoing));
        self.group.majority_connected(now, there);
    }

    pub(super) fn distrust(&mut self) {
        self.group.distrust();
    }

    pub(super) fn configure(&mut self, config: TopicConfig, out: &mut Out<R>) {
        if config.segment_bytes != self.config.segment_bytes {
            let (group, bytes) = (self.spec.group, config.segment_bytes);
            out.segments.push(super::SegmentWork::SegmentBytes { group, bytes });
        }
        self.config = config;
    }

    /// One proposal, one Ready, and everything that follows from them.
    pub(super) fn flush(
        &mut self,
        cfg: &ShardConfig,
        now: Now,
        turn_ns: u64,
        handing_over: bool,
        out: &mut Out<R>,
    ) {
        #[cfg(test)]
        assert!(!std::mem::take(&mut self.planted_panic), "a planted panic");
        self.check_lead(now, out);
        self.propose_queued(cfg, now, out);
        self.propose_groups(now, out);
        self.ask_round(now);
        self.group.flush(now, turn_ns, &mut self.out);
        if std::mem::take(&mut self.out.snapshot_wanted) {
            self.snapshot_wanted(now);
        }
        self.take_output(out);
        self.check_lead(now, out);
        self.commit(now, turn_ns, out);
        self.answer_waiting(now, out);
        self.answer_groups(now, out);
        self.publish_isr(cfg, now, out);
        self.check_ledger(out);
        if handing_over && self.leads_others() && self.lead.is_some() {
            // A group that came or led only now is handed on as well.
            self.group.hold();
        }
    }

    /// Moves what consensus produced to where it belongs.
    fn take_output(&mut self, out: &mut Out<R>) {
        let mut taken = std::mem::take(&mut self.out);
        let group = self.spec.group;
        for write in taken.writes.drain(..) {
            if let Some(last) = write.entries.last() {
                self.unsynced.push_back((write.ready, last.index));
                // A shorter log after a conflict: what was durable above it is gone.
                let first = write.entries[0].index;
                self.durable_index = self.durable_index.min(first - 1);
            }
            if write.snapshot.is_some() {
                self.snapshot_written(write.ready);
            }
            self.last_token = self.token_base + write.ready;
            out.journal.push(JournalWrite {
                group,
                token: self.last_token,
                truncate_from: write.snapshot.map(|point| point.index + 1),
                entries: write.entries,
                hard_state: write.hard_state,
                urgent: write.vote_or_term_changed,
                create: self.birth.take(),
                remove: false,
                suspect: None,
            });
        }
        for message in taken.messages.drain(..) {
            let to = ReplicaId(message.to);
            if let Some(broker) = self.broker_of(to) {
                out.peers.push(RaftOut { broker, group, from: self.spec.replica, to, message });
            }
        }
        let kind = self.spec.kind;
        let events = taken.events.drain(..);
        out.events.extend(events.map(|event| Event::Consensus { group, kind, event }));
        out.fetches.extend(taken.fetches.drain(..).map(|fetch| (group, fetch)));
        for read in taken.reads.drain(..) {
            for waiting in self.waiting.iter_mut().filter(|w| w.round == Some(read.ctx)) {
                waiting.confirmed = true;
                waiting.index = waiting.index.max(read.index);
            }
            self.coordinating.vouched(read.ctx, out);
        }
        let committed = std::mem::take(&mut taken.committed);
        self.out = taken;
        if !committed.is_empty() {
            self.apply(committed, out);
        }
    }

    /// Starts and ends the leader's half.
    fn check_lead(&mut self, now: Now, out: &mut Out<R>) {
        let term = self.group.term();
        let leads = self.group.role() == Role::Leader;
        if let Some(lead) = &self.lead
            && (!leads || lead.term != term)
        {
            let term = lead.term;
            self.lead = None;
            self.last_isr.clear();
            self.doubted.clear();
            self.refuse_all(ErrorCode::NotLeaderOrFollower, "leadership was lost", out);
            out.events.push(Event::StoppedServing { group: self.spec.group, term });
            self.publish(Vec::new(), out);
        }
        if leads && self.lead.is_none() && self.applied_term == term && self.held.is_none() {
            self.lead = Some(Lead::new(&self.machine, term, now));
            self.lead_groups(now);
            self.active_since = (-1, now.wall_ms);
            self.published = self.published.max(self.machine.next_offset());
            out.events.push(Event::Serving { group: self.spec.group, term });
            self.publish(Vec::new(), out);
        }
    }

    pub(super) fn refuse_all(&mut self, code: ErrorCode, why: &str, out: &mut Out<R>) {
        for request in self.queued.drain(..) {
            out.refuse(request.reply, code, why);
        }
        for pending in self.pending.drain(..) {
            pending.refuse(code, why, out);
        }
        for owed in self.owed.drain(..) {
            out.refuse(Some(owed.asker.reply), code, why);
        }
        for waiting in self.waiting.drain(..) {
            out.refuse(Some(waiting.reply), code, why);
        }
        self.end_groups(why, out);
        for trim in self.trims.drain(..) {
            out.refuse(Some(trim.reply), code, why);
        }
    }

    /// Tells readers where this partition stands.
    pub(super) fn publish(&mut self, batches: Vec<(i64, i64, Bytes)>, out: &mut Out<R>) {
        out.views.push(ViewUpdate {
            group: self.spec.group,
            serving: self.lead.as_ref().map(|lead| lead.term),
            term: self.group.term(),
            high_watermark: self.published,
            log_start: self.machine.log_start(),
            batches,
            isr: None,
            took: (0, 0),
            status: None,
        });
    }

    fn publish_isr(&mut self, cfg: &ShardConfig, now: Now, out: &mut Out<R>) {
        if self.lead.is_none() {
            return;
        }
        let in_sync = self.group.isr(now, cfg.replica_lag_ms_max);
        let mut isr: Vec<BrokerId> =
            in_sync.into_iter().filter_map(|replica| self.broker_of(replica)).collect();
        isr.sort_unstable();
        isr.dedup();
        if isr != self.last_isr {
            self.last_isr.clone_from(&isr);
            self.publish(Vec::new(), out);
            out.views.last_mut().expect("just published").isr = Some(isr);
        }
    }

    pub(super) fn status(&self, now: Now) -> MemberStatus {
        let mut status = MemberStatus {
            name: self.spec.name.clone(),
            replica: self.spec.replica.0,
            role: self.group.role().as_str(),
            term: self.group.term(),
            leader: self.group.leader().map(|id| id.0),
            serving: self.lead.is_some(),
            commit: self.group.commit_index(),
            applied: self.group.applied_index(),
            last_index: self.group.last_index(),
            acked: self.acked,
            durable: self.durable_index,
            quorum_durable: self.quorum_durable(),
            isr: self.last_isr.len(),
            replicas: self.placement.as_ref().map_or(&self.spec.replicas, |p| &p.replicas).len(),
            min_insync_replicas: self.config.min_insync_replicas,
            partition: self.spec.kind != GroupKind::Metadata,
            peer_lag: self.group.last_index().saturating_sub(match self.group.role() {
                Role::Leader => self.group.min_matched(),
                _ => self.group.last_index(),
            }),
            next_offset: self.machine.next_offset(),
            log_start: self.machine.log_start(),
            suspect: self.group.is_suspect(),
            held: self.held.as_ref().map(|(index, why)| format!("at entry {index}: {why}")),
            pending: self.pending.len(),
            queued: self.queued.len(),
            lease_remaining_ms: self.group.lease_remaining_ms(now),
            attempt: self.group.attempt(now).map(super::AttemptView::from),
            starved: self.starved(now),
            ..MemberStatus::default()
        };
        self.membership_status(&mut status);
        status
    }

    fn starved(&self, now: Now) -> Vec<StarvedView> {
        let shown = |starved: consensus::Starved| StarvedView {
            broker: self.broker_of(starved.replica).unwrap_or(BrokerId(-1)).0,
            replica: starved.replica.0,
            ms: starved.ms,
            why: starved.why.as_str(),
        };
        self.group.starved(now).into_iter().map(shown).collect()
    }

    /// Where this replica ends, for the shutdown manifest. `durable_token`: what the journal made
    /// durable of this group in this life, of which the shard may not have heard any more.
    pub(super) fn closing(&self, durable_token: u64) -> GroupEnd {
        let token = durable_token.saturating_sub(self.token_base);
        let durable = self.unsynced.iter().take_while(|(ready, _)| *ready <= token);
        let last_index = self.group.last_index();
        let end = GroupEnd {
            group: self.spec.group.0,
            name: self.spec.name.clone(),
            term: self.group.term(),
            last_index,
            last_term: self.group.term_of(last_index).unwrap_or(0),
            acked: self.acked,
            durable: durable.map(|(_, index)| *index).fold(self.durable_index, u64::max),
            committed: self.group.commit_index(),
            applied: self.group.applied_index(),
            log_start: self.machine.log_start(),
            high_watermark: self.published,
        };
        match &self.installing {
            None => end,
            // The next start finds the old log, or more: its committed part at least.
            Some(installing) => installing.before.end(end),
        }
    }

    /// What is worth keeping of a member whose raft half panicked. `None`: the machine is held,
    /// or was amid an apply; only a restart's replay can be trusted then.
    pub(super) fn into_fallen(self) -> Option<Fallen> {
        let whole = !self.applying && self.installing.is_none();
        let sound = self.held.is_none() && whole && self.birth.is_none();
        sound.then(|| Fallen {
            spec: self.spec,
            machine: self.machine.snapshot().into(),
            applied: self.settled,
            applied_term: self.applied_term,
            segments: self.segments,
            last_token: self.last_token,
        })
    }

    /// Tokens of this life begin above those of the one before.
    pub(super) fn continue_tokens(&mut self, last_token: u64) {
        (self.token_base, self.last_token) = (last_token, last_token);
    }

    pub fn group_id(&self) -> GroupId {
        self.spec.group
    }
}
