//! The leader's half at work: stamping what is queued, proposing it, answering upon commit.
//!
//! Invariants: stamping happens immediately before the proposal, in one go; a dropped proposal
//! takes the stamps back and leaves the requests queued, in order; an answer names a commit
//! that happened.

use bytes::Bytes;
use consensus::{PeerProgress, ProposeError, ReplicationState};
use machine::metadata::{self, MetadataLead};
use machine::partition::{PartitionLead, Proposal, SegmentInfo, Stamp, retention};
use model::{BrokerId, ErrorCode, Now};

use super::admin::AdminAnswer;
use super::answer::{Answer, Produced, Stages};
use super::apply::Machine;
use super::member::Member;
use super::{Event, GroupKind, Out, ProduceInput, ShardConfig};

/// The leader's half of a group in one term.
pub(super) struct Lead {
    pub term: u64,
    /// Boot time.
    pub begun_ns: u64,
    pub half: Half,
}

pub(super) enum Half {
    Partition(PartitionLead),
    Metadata(MetadataLead),
}

impl Lead {
    pub fn new(machine: &Machine, term: u64, now: Now) -> Lead {
        let half = match machine {
            Machine::Partition(partition) => Half::Partition(partition.lead(term)),
            Machine::Coordinator(coordinator) => {
                Half::Partition(coordinator.partition().lead(term))
            }
            Machine::Metadata(metadata) => Half::Metadata(metadata.lead()),
        };
        Lead { term, begun_ns: now.boot_ns, half }
    }
}

/// What waits for an index of this leader's term.
pub(super) struct Pending<R> {
    pub index: u64,
    pub deed: Deed<R>,
}

pub(super) enum Deed<R> {
    Batch {
        base_offset: i64,
        last_offset: i64,
        append_time_ms: i64,
        data: Bytes,
        records: u64,
        stages: Stages,
        /// The producer, and retries of the same batch that arrived meanwhile.
        replies: Vec<Asker<R>>,
    },
    /// Answered by the machine when it applies the entry.
    Command {
        reply: R,
    },
    /// Records of a coordinator; it is told when they are applied.
    Groups {
        token: u64,
    },
    /// Answered with the log start once it is applied here.
    LogStart {
        reply: R,
    },
    Control,
}

/// Who waits for a batch, and for how much.
pub(super) struct Asker<R> {
    pub reply: R,
    /// 1 or -1.
    pub acks: i16,
}

/// A committed batch that is not as safe yet as somebody demanded: not on this broker's disk
/// (acks=1), or on fewer disks than min.insync.replicas (acks=all).
pub(super) struct Owed<R> {
    pub index: u64,
    pub asker: Asker<R>,
    pub produced: Produced,
}

impl<R> Pending<R> {
    pub fn refuse(self, code: ErrorCode, why: &str, out: &mut Out<R>) {
        match self.deed {
            Deed::Batch { replies, .. } => {
                replies.into_iter().for_each(|asker| out.refuse(Some(asker.reply), code, why));
            }
            Deed::Command { reply } | Deed::LogStart { reply } => {
                out.refuse(Some(reply), code, why);
            }
            Deed::Groups { .. } | Deed::Control => {}
        }
    }
}

impl<R> Member<R> {
    /// Stamps and proposes everything queued, as one multi-entry proposal.
    pub(super) fn propose_queued(&mut self, cfg: &ShardConfig, now: Now, out: &mut Out<R>) {
        if self.queued.is_empty() || self.lead.is_none() {
            return;
        }
        let in_sync = self.group.isr(now, cfg.replica_lag_ms_max).len();
        let needed = self.config.min_insync_replicas;
        let mut entries = Vec::new();
        let mut batches: Vec<(usize, ProduceInput<R>, Pending<R>)> = Vec::new();
        let mut requests = std::mem::take(&mut self.queued);
        let mark = self.partition_lead().mark();
        while let Some(mut request) = requests.pop_front() {
            if request.acks == -1 && in_sync < needed {
                let why = format!("{in_sync} in-sync replicas, min.insync.replicas is {needed}");
                out.refuse(request.reply.take(), ErrorCode::NotEnoughReplicas, why);
                continue;
            }
            let batch = std::mem::take(&mut request.batch);
            match self.stamp(now, batch) {
                Stamp::Append { context, data, base_offset, last_offset, append_time_ms } => {
                    let data = match request.charge.take() {
                        Some(charge) => charge.bytes_with(data),
                        None => data,
                    };
                    entries.push((context, data.clone()));
                    let deed = Deed::Batch {
                        base_offset,
                        last_offset,
                        append_time_ms,
                        data: data.clone(),
                        records: (last_offset - base_offset + 1) as u64,
                        stages: Stages {
                            taken_ns: request.arrived_ns,
                            stamped_ns: now.boot_ns,
                            ..Stages::default()
                        },
                        replies: Vec::new(),
                    };
                    // If the proposal is dropped these bytes are stamped again.
                    request.batch = data;
                    batches.push((entries.len() - 1, request, Pending { index: 0, deed }));
                }
                Stamp::Duplicate { base_offset, last_offset, append_time_ms } => {
                    let first = batches.iter_mut().map(|(_, _, pending)| pending).find(|p| {
                        matches!(&p.deed, Deed::Batch { base_offset: b, .. } if *b == base_offset)
                    });
                    let again = (base_offset, last_offset, append_time_ms);
                    let acks = request.acks;
                    let asker = request.reply.map(|reply| Asker { reply, acks });
                    self.answer_duplicate(now, asker, first, again, out);
                }
                Stamp::Reject(code, why) => out.refuse(request.reply, code, why),
            }
        }
        if entries.is_empty() {
            return;
        }
        match self.group.propose(entries) {
            Ok(first) => {
                for (at, mut request, mut pending) in batches {
                    pending.index = first + at as u64;
                    let acks = request.acks;
                    let asker = request.reply.take().map(|reply| Asker { reply, acks });
                    if let Deed::Batch { replies, .. } = &mut pending.deed {
                        replies.extend(asker);
                    }
                    self.pending.push_back(pending);
                }
            }
            Err(error) => {
                self.partition_lead().rollback(mark);
                let why = match &error {
                    ProposeError::NotLeader { .. } => "not_leader",
                    ProposeError::Dropped(reason) => reason.as_str(),
                };
                out.events.push(Event::ProposalDropped { group: self.spec.group, why });
                for (_, request, pending) in batches {
                    // A duplicate that was attached meanwhile waits for a batch that is not
                    // in the log: its client asks again.
                    pending.refuse(ErrorCode::NotLeaderOrFollower, "not appended; retry", out);
                    self.queued.push_back(request);
                }
            }
        }
    }

    pub(super) fn partition_lead(&mut self) -> &mut PartitionLead {
        match self.lead.as_mut().map(|lead| &mut lead.half) {
            Some(Half::Partition(lead)) => lead,
            _ => panic!("only a serving partition stamps"),
        }
    }

    pub(super) fn stamp(&mut self, now: Now, batch: Bytes) -> Stamp {
        let config = self.config.stamp();
        let (Some(Lead { half: Half::Partition(lead), .. }), Some(machine)) =
            (self.lead.as_mut(), self.machine.partition())
        else {
            panic!("only a serving partition stamps");
        };
        lead.stamp(machine, now, batch, &config)
    }

    /// A retry: answered like the first, once the first is as safe as this one demands.
    fn answer_duplicate(
        &mut self,
        now: Now,
        asker: Option<Asker<R>>,
        in_this_proposal: Option<&mut Pending<R>>,
        again: (i64, i64, i64),
        out: &mut Out<R>,
    ) {
        out.events.push(Event::Duplicate { group: self.spec.group });
        let Some(asker) = asker else { return };
        let (base_offset, _, append_time_ms) = again;
        let in_flight = self
            .pending
            .iter_mut()
            .find(|p| matches!(&p.deed, Deed::Batch { base_offset: b, .. } if *b == base_offset));
        if let Some(Pending { deed: Deed::Batch { replies, .. }, .. }) =
            in_this_proposal.or(in_flight)
        {
            replies.push(asker);
            return;
        }
        let produced = Produced {
            base_offset,
            append_time_ms,
            log_start: self.machine.log_start(),
            index: 0,
            term: self.lead_term(),
            stages: Stages { stamped_ns: now.boot_ns, ..Stages::default() },
        };
        // Its index is forgotten, but it is committed: what covers all that is committed by now
        // covers it.
        let index = self.group.commit_index();
        self.owe(Owed { index, asker, produced }, out);
    }

    /// Everything committed by now: readers see it, then producers hear of it.
    pub(super) fn commit(&mut self, now: Now, turn_ns: u64, out: &mut Out<R>) {
        let Some(lead) = &self.lead else { return };
        let term = lead.term;
        let committed = self.group.commit_index();
        let log_start = self.machine.log_start();
        let mut batches = Vec::new();
        let (mut count, mut records, mut bytes, mut oldest_ns) = (0u64, 0u64, 0u64, u64::MAX);
        let mut answers = Vec::new();
        while let Some(pending) = self.pending.front() {
            if pending.index > committed {
                break;
            }
            let awaits_apply = matches!(
                pending.deed,
                Deed::Command { .. } | Deed::Groups { .. } | Deed::LogStart { .. }
            );
            if awaits_apply && pending.index > self.machine.applied() {
                break;
            }
            let Some(Pending { index, deed }) = self.pending.pop_front() else { break };
            if let Deed::LogStart { reply } = deed {
                out.replies.push((reply, Answer::Admin(AdminAnswer::LogStart(log_start))));
                continue;
            }
            let Deed::Batch {
                base_offset,
                last_offset,
                append_time_ms,
                data,
                stages,
                replies,
                records: of_batch,
            } = deed
            else {
                continue;
            };
            count += 1;
            records += of_batch;
            bytes += data.len() as u64;
            oldest_ns = oldest_ns.min(stages.stamped_ns);
            let stages = Stages { replicated_ns: turn_ns, committed_ns: now.boot_ns, ..stages };
            if base_offset >= self.published {
                self.published = last_offset + 1;
                batches.push((base_offset, last_offset, data));
            }
            let produced = Produced { base_offset, append_time_ms, log_start, index, term, stages };
            answers.extend(replies.into_iter().map(|asker| Owed { index, asker, produced }));
        }
        // What was applied in the same turn is published already, and counts all the same.
        if count > 0 {
            let group = self.spec.group;
            let propose_to_commit_ns = now.boot_ns.saturating_sub(oldest_ns);
            out.events.push(Event::Committed {
                group,
                batches: count,
                records,
                bytes,
                propose_to_commit_ns,
            });
        }
        if count > 0 {
            self.publish(batches, out);
            out.views.last_mut().expect("just published").took = (records, bytes);
        }
        self.answer_owed(out);
        answers.into_iter().for_each(|owed| self.owe(owed, out));
    }

    /// Answers who waits for a committed batch, now or once it is safe enough.
    fn owe(&mut self, owed: Owed<R>, out: &mut Out<R>) {
        if self.is_safe_for(owed.asker.acks, owed.index) {
            self.acknowledge(owed.asker.reply, owed.produced, out);
        } else {
            self.owed.push_back(owed);
        }
    }

    /// The one place where a producer hears yes. What was promised is watched apart from what
    /// decided it: a batch that is neither committed nor on this disk is named at once.
    fn acknowledge(&mut self, reply: R, produced: Produced, out: &mut Out<R>) {
        let index = produced.index;
        #[cfg(feature = "planted")]
        let index = crate::planted::acknowledged(index);
        self.acked = self.acked.max(index);
        let durable = self.durable_index.max(self.group.commit_index());
        if index > durable {
            let group = self.spec.group;
            out.events.push(Event::AckedBeyondDurable { group, index, durable });
        }
        out.replies.push((reply, Answer::Produced(produced)));
    }

    /// Of those that waited for more than a commit, the ones whose batch is safe enough by now.
    pub(super) fn answer_owed(&mut self, out: &mut Out<R>) {
        for owed in std::mem::take(&mut self.owed) {
            self.owe(owed, out);
        }
    }

    /// As Kafka answers who waits for more copies than there are replicas in sync by now: the batch
    /// is in the log, and stays, and what was asked for cannot be promised.
    pub(super) fn refuse_owed(&mut self, cfg: &ShardConfig, now: Now, out: &mut Out<R>) {
        if self.owed.iter().all(|owed| owed.asker.acks != -1) {
            return;
        }
        let in_sync = self.group.isr(now, cfg.replica_lag_ms_max).len();
        let needed = self.config.min_insync_replicas.min(self.group.voters().len());
        if in_sync >= needed {
            return;
        }
        for owed in std::mem::take(&mut self.owed) {
            if owed.asker.acks == -1 {
                let why = format!("appended; {in_sync} in-sync replicas of {needed} are left");
                let code = ErrorCode::NotEnoughReplicasAfterAppend;
                out.refuse(Some(owed.asker.reply), code, why);
            } else {
                self.owed.push_back(owed);
            }
        }
    }

    /// Whether a *committed* entry is on as many disks as an acknowledgement promises.
    fn is_safe_for(&self, acks: i16, index: u64) -> bool {
        if acks == 1 {
            return self.durable_index >= index;
        }
        let voters = self.group.voters().len();
        let copies = self.config.min_insync_replicas.min(voters);
        copies <= voters / 2 + 1 || self.group.copies(index) >= copies
    }

    /// Of the entries that wait: a later term may have been heard of in this turn.
    fn lead_term(&self) -> u64 {
        self.lead.as_ref().map_or(self.group.term(), |lead| lead.term)
    }

    /// acks=1 and acks=0: our own fsync is enough.
    pub(super) fn answer_local(&mut self, now: Now, written_ns: u64, out: &mut Out<R>) {
        let (durable, log_start, term) =
            (self.durable_index, self.machine.log_start(), self.lead_term());
        let mut answers = Vec::new();
        for pending in self.pending.iter_mut().take_while(|pending| pending.index <= durable) {
            let index = pending.index;
            let Deed::Batch { base_offset, append_time_ms, stages, replies, .. } =
                &mut pending.deed
            else {
                continue;
            };
            if stages.synced_ns == 0 {
                stages.written_ns = written_ns.clamp(stages.stamped_ns, now.boot_ns);
                stages.synced_ns = now.boot_ns;
            }
            let (base_offset, append_time_ms) = (*base_offset, *append_time_ms);
            let produced =
                Produced { base_offset, append_time_ms, log_start, index, term, stages: *stages };
            let local = replies.extract_if(.., |asker| asker.acks == 1);
            answers.extend(local.map(|asker| (asker.reply, produced)));
        }
        for (reply, produced) in answers {
            self.acknowledge(reply, produced, out);
        }
        self.answer_owed(out);
    }

    pub(super) fn expire_queued(&mut self, now: Now, out: &mut Out<R>) {
        while self.queued.front().is_some_and(|request| request.deadline_ns <= now.boot_ns) {
            let request = self.queued.pop_front().expect("looked at");
            // It never entered the log, but a time-out always means "unknown" to the client.
            out.refuse(
                request.reply,
                ErrorCode::RequestTimedOut,
                "not stamped before the deadline",
            );
        }
    }

    pub(super) fn metadata_request(
        &mut self,
        now: Now,
        request: metadata::Request,
        reply: R,
        alive: &dyn Fn(BrokerId) -> bool,
        out: &mut Out<R>,
    ) {
        let (Some(Lead { half: Half::Metadata(lead), .. }), Machine::Metadata(machine)) =
            (self.lead.as_mut(), &self.machine)
        else {
            let why = "the metadata group is led elsewhere, or an election runs";
            return out.refuse(Some(reply), ErrorCode::NotController, why);
        };
        let command = match metadata::decide(now, &machine.image(), request, alive) {
            Ok(command) => command,
            Err(response) => return out.replies.push((reply, Answer::Metadata(response))),
        };
        let mark = lead.mark();
        let entry = lead.stamp(&command);
        match self.group.propose(vec![entry]) {
            Ok(index) => self.pending.push_back(Pending { index, deed: Deed::Command { reply } }),
            Err(_) => {
                lead.rollback(mark);
                out.refuse(Some(reply), ErrorCode::NotController, "not appended; retry");
            }
        }
    }

    /// Proposes what time asks for, one thing at a time: silent producers are forgotten, then
    /// retention.
    pub(super) fn look_at_age(&mut self, cfg: &ShardConfig, now: Now) {
        if now.ms_since(self.retention_at_ns) < cfg.retention_check_ms {
            return;
        }
        self.retention_at_ns = now.boot_ns;
        let busy = self.pending.iter().any(|p| matches!(p.deed, Deed::Control));
        let (Some(Lead { half: Half::Partition(lead), .. }), Some(machine)) =
            (self.lead.as_mut(), self.machine.partition())
        else {
            return;
        };
        if busy || self.held.is_some() {
            return;
        }
        match lead.expire(machine, now, cfg.producer_expiration_ms) {
            Some(proposal) => self.propose_control(proposal),
            None => self.look_at_retention(cfg, now),
        }
    }

    fn look_at_retention(&mut self, cfg: &ShardConfig, now: Now) {
        let Some(machine) = self.machine.partition() else { return };
        let Some(active) = self.segments.last() else { return };
        if self.active_since.0 != active.base_offset {
            self.active_since = (active.base_offset, now.wall_ms);
        }
        let last = self.segments.len() - 1;
        let infos: Vec<SegmentInfo> = self
            .segments
            .iter()
            .enumerate()
            .map(|(at, segment)| SegmentInfo {
                base_offset: segment.base_offset,
                bytes: segment.log_bytes,
                first_timestamp: if at == last { self.active_since.1 } else { -1 },
                max_timestamp: segment.max_timestamp,
                sealed: at != last || segment.next_offset <= self.rolled_at,
            })
            .collect();
        let floor = self.floor_offset(cfg, now);
        let (start, high) = (machine.log_start(), self.published);
        if self.spec.kind == GroupKind::Coordinator {
            // Its snapshot holds all that counts: whole segments go once they are behind it.
            let offset = floor.min(active.base_offset);
            if offset > start {
                self.propose_control(Proposal::LogStart { offset });
            }
            return;
        }
        let wanted = retention(now.wall_ms, &infos, &self.config.retention(), start, high, floor);
        if let Some(proposal) = wanted {
            self.propose_control(proposal);
        }
    }

    /// The highest segment boundary that everybody has passed who is waited for: voters that were
    /// heard from lately and can still be served entries. Others are filled by a snapshot.
    pub(super) fn floor_offset(&self, cfg: &ShardConfig, now: Now) -> i64 {
        let matched = self.waited_for(cfg, now);
        let passed = self.segments.iter().take_while(|segment| segment.base_index <= matched + 1);
        passed.last().map_or(0, |segment| segment.base_offset)
    }

    /// The least of what those hold for whom the log is kept.
    pub(super) fn waited_for(&self, cfg: &ShardConfig, now: Now) -> u64 {
        let led_ns = self.lead.as_ref().map_or(0, |lead| lead.begun_ns);
        let first = self.group.first_index();
        let waits = |peer: &PeerProgress| {
            let heard_ns = peer.contact_ns.unwrap_or(0).max(led_ns);
            let behind = peer.snapshot_needed
                || peer.state == ReplicationState::Snapshot
                || (peer.matched > 0 && peer.matched + 1 < first);
            let lately = now.ms_since(heard_ns) < cfg.retention_waits_ms;
            peer.voter && lately && !behind
        };
        let progress = self.group.progress();
        let matched = progress.iter().filter(|peer| waits(peer)).map(|peer| peer.matched);
        let all = matched.chain(self.snapshot_floor(now)).chain([self.group.last_index()]);
        all.min().unwrap_or(0)
    }

    fn propose_control(&mut self, proposal: Proposal) {
        if let Some(index) = self.propose_entry(proposal) {
            self.pending.push_back(Pending { index, deed: Deed::Control });
        }
    }

    /// The index it was proposed at, unless it was dropped.
    pub(super) fn propose_entry(&mut self, proposal: Proposal) -> Option<u64> {
        let lead = self.partition_lead();
        let mark = lead.mark();
        let data = proposal.data();
        let context = lead.control(proposal.kind(), &data);
        match self.group.propose(vec![(context, data)]) {
            Ok(index) => Some(index),
            Err(_) => {
                self.partition_lead().rollback(mark);
                None
            }
        }
    }
}
