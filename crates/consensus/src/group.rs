//! The group's verbs: what goes in. Time and campaigns are in `campaign.rs`, what comes out in
//! `output.rs`, what can be asked in `status.rs`, what an observer hears in `observe.rs`.
//!
//! Every verb ends in [`Group::settle`]: raft's random election time-out is replaced by ours
//! before anything can depend on it, changes of role become events, the lease is looked at.

use std::collections::VecDeque;

use bytes::Bytes;
use model::{GroupId, HardState, LogEntry, Now, ReplicaId, limits};
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, INVALID_ID, RawNode};

use crate::ballots::{self, Wish};
use crate::config::{GroupConfig, Restored};
use crate::elections::{self, Elections};
use crate::error::{ConsensusError, DropReason, ProposeError};
use crate::event::{ElectionReason, Event, Invariant, RefusedMessage, Role, SuspectReason};
use crate::guard::{self, Facts};
use crate::lease::{Lease, Stamp};
use crate::log_view::LogView;
use crate::members::Members;
use crate::observe::{Attempt, Seen};
use crate::output::HeldReady;
use crate::peers::Peers;
use crate::snapshot::Installing;
use crate::truth::{self, Report};

/// Context of a ReadIndex: replica, incarnation and the caller's number, so that it is unique in
/// the cluster (raft-rs keys pending reads by it).
pub(crate) const READ_CONTEXT_LEN: usize = 24;

/// One replica of one raft group.
pub struct Group {
    pub(crate) cfg: GroupConfig,
    pub(crate) raw: RawNode<LogView>,
    pub(crate) members: Members,
    /// Who should lead, as its shard was told; see [`Group::set_preferred`].
    pub(crate) preferred: Option<u64>,
    pub(crate) elections: Elections,
    pub(crate) lease: Lease,
    pub(crate) peers: Peers,
    /// Readys that are not durable yet, with the messages that wait for it, oldest first.
    pub(crate) held_readys: VecDeque<HeldReady>,
    /// Answers to heartbeats that need no Ready.
    pub(crate) answers: Vec<Message>,
    /// Last hard state handed to the journal, and the term that is durable.
    pub(crate) written: HardState,
    pub(crate) durable_term: u64,
    /// Last index handed out as committed.
    pub(crate) delivered: u64,
    /// Entries up to here can be read from segments.
    readable_up_to: u64,
    /// Applied entries kept in memory for voters that lack them, bytes.
    keep_bytes: usize,
    pub(crate) events: Vec<Event>,
    pub(crate) seen: Seen,
    pub(crate) intent: Option<ElectionReason>,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) leader_contact_ns: u64,
    /// When this leader's log last grew, or its leadership began.
    pub(crate) moved_ns: u64,
    pub(crate) had_lease: bool,
    pub(crate) suspect: bool,
    pub(crate) machine_held: bool,
    /// A snapshot between raft and the disk.
    pub(crate) installing: Option<Installing>,
    /// An invariant broke: the group does nothing more.
    pub(crate) broken: bool,
    pub(crate) last_now: Now,
    #[cfg(test)]
    pub(crate) planted: crate::harness::Planted,
}

impl Group {
    /// Builds a group from what the broker restored. A group that is formed now campaigns at
    /// once if this is its first replica, and so does a single voter.
    ///
    /// A hard state that a crash left one record behind the log is fitted to it: commit into
    /// [applied, last index]; a term below the last entry's becomes that term without a vote
    /// (a vote is durable before it is answered, so none can have been cast in it).
    pub fn new(
        cfg: GroupConfig,
        mut restored: Restored,
        now: Now,
    ) -> Result<Group, ConsensusError> {
        cfg.timing.validate()?;
        if cfg.replica.0 == INVALID_ID {
            return Err(ConsensusError::ReplicaZero);
        }
        // Tolerated in what was checkpointed; we never enter a joint state that leaves itself.
        restored.conf_state.auto_leave = false;
        let members = Members::new(&restored.conf_state);
        let voters = members.all_voters().count();
        if voters > 2 * limits::GROUP_VOTERS_MAX || members.voters.len() > limits::GROUP_VOTERS_MAX
        {
            return Err(ConsensusError::TooManyVoters { voters, max: limits::GROUP_VOTERS_MAX });
        }
        let (applied, given, suspect) = (restored.applied, restored.hard_state, restored.suspect);
        let new_group = restored.new_group && given == HardState::default();
        let mut view = LogView::restore(restored)?;
        let last_term = view.term_of(view.last_index()).unwrap_or(0);
        let mut hard_state = given;
        if hard_state.term < last_term {
            hard_state = HardState { term: last_term, vote: INVALID_ID, ..hard_state };
        }
        hard_state.commit = hard_state.commit.clamp(applied, view.last_index());
        view.set_initial(hard_state);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config(&cfg, applied), view, &logger)
            .map_err(|error| ConsensusError::Raft(error.to_string()))?;
        let replica = cfg.replica.0;
        let incarnation =
            elections::mix(cfg.seed ^ elections::mix(replica ^ elections::mix(now.boot_ns)));
        let mut group = Group {
            preferred: None,
            elections: Elections::new(cfg.timing, new_group, now),
            lease: Lease::new(incarnation, cfg.timing.lease_ms),
            peers: Peers::default(),
            held_readys: VecDeque::new(),
            answers: Vec::new(),
            written: hard_state,
            durable_term: given.term,
            delivered: applied,
            readable_up_to: 0,
            keep_bytes: limits::LOG_VIEW_KEEP_BYTES,
            events: Vec::new(),
            seen: Seen { role: Role::Follower, term: hard_state.term, leader: None },
            intent: None,
            attempt: None,
            leader_contact_ns: now.boot_ns,
            moved_ns: now.boot_ns,
            had_lease: false,
            suspect,
            machine_held: false,
            installing: None,
            broken: false,
            last_now: now,
            #[cfg(test)]
            planted: Default::default(),
            cfg,
            raw,
            members,
        };
        if hard_state != given {
            let HardState { term, commit, .. } = hard_state;
            // Commit is a hint; only a term that must be written again is worth a write.
            group.written = HardState { commit: given.commit, ..given };
            group.events.push(Event::HardStateClamped { term, commit });
        }
        if suspect {
            let (commit, last_index) = (hard_state.commit, group.last_index());
            let why = SuspectReason::Restored;
            group.events.push(Event::Suspected { why, commit, last_index });
        }
        group.settle(now, None);
        group.drive_elections(now);
        Ok(group)
    }

    /// A message from a peer. `now` must have been read after the message arrived: the vote
    /// promise begins then. What raft must not see is refused with an event.
    pub fn receive(&mut self, now: Now, from: ReplicaId, mut msg: Message) {
        if self.broken {
            return;
        }
        let kind = msg.get_msg_type();
        if kind == MessageType::MsgAppend && self.installing.is_some() {
            // The leader repeats it once the snapshot is acknowledged.
            return;
        }
        let verdict = guard::check(&self.facts(now), from.0, &msg);
        #[cfg(test)]
        let verdict = if self.planted.unchecked { Ok(()) } else { verdict };
        if let Err(why) = verdict {
            self.events.push(Event::MessageRefused { from, kind: guard::kind_str(kind), why });
            if why == RefusedMessage::CommitBeyondLog {
                self.turn_suspect(SuspectReason::CommitBeyondLog, msg.commit);
            }
            self.answers.extend(ballots::refusal(&msg, why));
            self.answers.extend(truth::forgot(self.own_report(), &msg, why));
            return;
        }
        if kind == MessageType::MsgHeartbeatResponse && msg.reject {
            return self.hear_aside(now, &mut msg);
        }
        let vote = matches!(
            kind,
            MessageType::MsgRequestPreVoteResponse | MessageType::MsgRequestVoteResponse
        );
        if vote && self.count_vote(&msg) {
            return;
        }
        let mut report = None;
        match kind {
            MessageType::MsgHeartbeatResponse => {
                let stamp = Stamp::cut_from(&mut msg.context);
                let own = stamp.filter(|stamp| self.lease.echo(from.0, *stamp));
                #[cfg(test)]
                if stamp.is_some() {
                    self.planted.echoed();
                }
                report = Some(Report::of(&msg, own.map_or(0, |stamp| stamp.boot_ns)));
            }
            MessageType::MsgTimeoutNow => self.intent = Some(ElectionReason::Transfer),
            MessageType::MsgAppendResponse if !msg.reject && msg.term == self.term() => {
                self.make_room(from.0, msg.index);
            }
            _ => {}
        }
        if self.receive_quietly(now, &mut msg, report) {
            return;
        }
        let term = msg.term;
        let wish = Wish::of(&msg);
        let sent = self.raw.raft.msgs.len();
        // Errors are stale responses and dropped proposals: nothing was changed.
        let _ = self.raw.step(msg);
        if let Some(wish) = wish {
            self.say_why_not(&wish, sent);
        }
        self.settle(now, None);
        let current = term == self.raw.raft.term;
        match kind {
            MessageType::MsgHeartbeat | MessageType::MsgAppend
                if current && self.leader() == Some(from) =>
            {
                self.leader_contact_ns = now.boot_ns;
                if kind == MessageType::MsgHeartbeat {
                    self.promise(now);
                }
            }
            MessageType::MsgHeartbeatResponse | MessageType::MsgAppendResponse if current => {
                self.note_contact(now, from.0, report);
            }
            _ => {}
        }
    }

    /// Appends entries of (context, data) to the log of this leader in one MsgPropose. The bytes
    /// are shared, not copied. Returns the index of the first; the others follow it.
    ///
    /// # Panics
    /// On an empty list.
    pub fn propose(&mut self, entries: Vec<(Bytes, Bytes)>) -> Result<u64, ProposeError> {
        assert!(!entries.is_empty(), "an empty proposal has no index");
        let mut msg = Message::default();
        let raft_entry = |(context, data)| Entry { context, data, ..Entry::default() };
        msg.set_entries(entries.into_iter().map(raft_entry).collect::<Vec<_>>().into());
        self.step_proposal(msg)
    }

    pub(crate) fn step_proposal(&mut self, mut msg: Message) -> Result<u64, ProposeError> {
        if self.broken || self.role() != Role::Leader {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        }
        if self.raw.raft.lead_transferee.is_some() {
            return Err(ProposeError::Dropped(DropReason::Transfer));
        }
        msg.set_msg_type(MessageType::MsgPropose);
        msg.from = self.cfg.replica.0;
        let first = self.last_index() + 1;
        match self.raw.step(msg) {
            Ok(()) => {
                self.moved_ns = self.last_now.boot_ns;
                Ok(first)
            }
            Err(_) => Err(ProposeError::Dropped(DropReason::UncommittedLimit)),
        }
    }

    /// The answer to an [`crate::EntryFetch`]: entries from its `lo` on, at least one. `Err`: the
    /// read failed; the follower's next heartbeat response asks again.
    pub fn entries_fetched(&mut self, fetch: u64, entries: Result<Vec<LogEntry>, ()>) {
        let Some((asked, waiting)) = self.raw.mut_store().finish_fetch(fetch) else { return };
        let Ok(entries) = entries else { return };
        if self.broken || entries.is_empty() {
            return;
        }
        if !self.raw.mut_store().offer(asked.lo, entries) {
            let invariant = Invariant::FetchedEntriesMismatch;
            self.events.push(Event::InvariantViolated { invariant });
            return;
        }
        for context in waiting {
            self.raw.on_entries_fetched(context);
        }
    }

    /// The machine (or, while it is held, the shard in its place) took everything up to `index`.
    /// An index that was passed before is ignored.
    ///
    /// # Panics
    /// On an index that was not handed out as committed.
    pub fn applied(&mut self, index: u64) {
        assert!(index <= self.delivered, "applied {index}, but delivered {}", self.delivered);
        // What a snapshot brings counts as applied once it is durable.
        if index > self.applied_index() && self.installing.is_none() {
            self.raw.advance_apply_to(index);
        }
    }

    /// Entries up to `readable_up_to` can be read from segments: the view may forget those that
    /// are applied. A leader keeps up to `limits::LOG_VIEW_KEEP_BYTES` of what a voter still lacks.
    pub fn release_log(&mut self, readable_up_to: u64) {
        self.readable_up_to = self.readable_up_to.max(readable_up_to);
        self.trim_view();
    }

    /// How much a leader keeps in memory of what a voter still lacks, at most
    /// `limits::LOG_VIEW_KEEP_BYTES`. The rest is read back from segments.
    pub fn set_keep_bytes(&mut self, bytes: usize) {
        self.keep_bytes = bytes.min(limits::LOG_VIEW_KEEP_BYTES);
    }

    pub(crate) fn trim_view(&mut self) {
        let limit = self.readable_up_to.min(self.applied_index());
        if self.raw.store().memory_first() > limit {
            return;
        }
        let is_leader = self.role() == Role::Leader;
        let unneeded = if is_leader { limit.min(self.min_matched()) } else { limit };
        let keep_bytes = self.keep_bytes;
        let view = self.raw.mut_store();
        view.release(unneeded, 0);
        view.release(limit, keep_bytes);
    }

    /// The log now starts behind `index` (retention). Never moves past the applied index.
    pub fn set_start_index(&mut self, index: u64) {
        let index = index.min(self.applied_index());
        self.raw.mut_store().set_start_index(index);
    }

    /// The broker of `replica` closed its connections and refuses new ones. A hint only.
    pub fn peer_died(&mut self, now: Now, replica: ReplicaId) {
        self.elections.died(replica.0);
        self.drive_elections(now);
    }

    /// The evidence against `replica` is gone.
    pub fn peer_alive(&mut self, _now: Now, replica: ReplicaId) {
        self.elections.alive(replica.0);
    }

    /// Whether brokers of a majority of the group are connected; lets the preferred replica
    /// campaign after a cold start.
    pub fn majority_connected(&mut self, now: Now, connected: bool) {
        self.elections.connected(connected);
        self.drive_elections(now);
    }

    /// Reports that a message to `peer` was dropped on its way: raft probes it again.
    pub fn report_unreachable(&mut self, peer: ReplicaId) {
        if !self.broken {
            self.raw.report_unreachable(peer.0);
            // Raft itself waits for an answer to a lost MsgSnapshot for ever.
            self.snapshot_failed(self.last_now, peer);
        }
    }

    /// The machine is held: this replica neither campaigns nor obeys MsgTimeoutNow; a leader
    /// hands over. Raft itself goes on.
    pub fn hold(&mut self) {
        self.machine_held = true;
        self.transfer_leader(self.last_now, None);
    }

    /// Takes back [`Group::hold`]: for a broker that was only drained.
    pub fn unhold(&mut self) {
        self.machine_held = false;
    }

    /// The journal no longer trusts what this replica wrote: it is suspect from now on. It
    /// neither votes nor campaigns, and a leader has no lease and hands over; it still follows.
    pub fn distrust(&mut self) {
        self.turn_suspect(SuspectReason::Journal, self.commit_index());
        self.transfer_leader(self.last_now, None);
    }

    /// The replica that should lead when nothing speaks against it: it campaigns first after a
    /// cold start and is handed leadership among equals. Without a wish, or when the wished one
    /// does not vote, the lowest voter.
    pub fn set_preferred(&mut self, replica: Option<ReplicaId>) {
        self.preferred = replica.map(|id| id.0);
    }

    /// Hands leadership to `to`, or to the voter that has most of the log (`None`). Without a
    /// candidate, or when not leading, nothing happens. Proposals are dropped until it is done
    /// or an election time-out has passed; asking again meanwhile changes nothing, unless for
    /// another replica by name.
    pub fn transfer_leader(&mut self, now: Now, to: Option<ReplicaId>) {
        if self.broken || self.role() != Role::Leader {
            return;
        }
        let under_way = self.raw.raft.lead_transferee.map(ReplicaId);
        if under_way.is_some() && (to.is_none() || to == under_way) {
            return;
        }
        let Some(to) = to.or_else(|| self.best_successor()) else { return };
        if to == self.cfg.replica || !self.members.voters.contains(&to.0) {
            return;
        }
        self.raw.transfer_leader(to.0);
        self.peers.entry(to.0).asked_to_lead = true;
        self.events.push(Event::TransferStarted { term: self.term(), to });
        self.settle(now, None);
    }

    /// Asks for an index up to which a read must have applied to be linearizable (raft thesis
    /// 6.4, on any replica). `ctx` must be new in this life. The answer comes as
    /// `GroupOut::reads`, or never: without a leader, before the term's first commit, upon a
    /// change of role or a lost message. At most one per turn, and with a deadline.
    pub fn read_index(&mut self, ctx: u64) {
        if self.broken {
            return;
        }
        let mut data = Vec::with_capacity(READ_CONTEXT_LEN);
        for word in [self.cfg.replica.0, self.lease.incarnation(), ctx] {
            data.extend_from_slice(&word.to_le_bytes());
        }
        self.raw.read_index(data);
    }

    pub(crate) fn facts(&self, now: Now) -> Facts<'_> {
        Facts {
            me: self.cfg.replica.0,
            term: self.raw.raft.term,
            role: self.role(),
            leader: self.leader().map(|id| id.0),
            last_index: self.last_index(),
            members: &self.members,
            suspect: self.suspect,
            held: self.machine_held || self.installing.is_some(),
            promise_lapsed: self.elections.promise_lapsed(now),
            read_context_len: READ_CONTEXT_LEN,
        }
    }

    fn turn_suspect(&mut self, why: SuspectReason, commit: u64) {
        if !std::mem::replace(&mut self.suspect, true) {
            let last_index = self.last_index();
            self.events.push(Event::Suspected { why, commit, last_index });
        }
    }

    fn best_successor(&self) -> Option<ReplicaId> {
        let me = self.cfg.replica.0;
        let of = |id: &u64| self.raw.raft.prs().get(*id).map(|pr| (pr.recent_active, pr.matched));
        let others = self.members.voters.iter().filter(|id| **id != me);
        let preferred = self.members.preferred(self.preferred);
        // Of what it makes of MsgTimeoutNow a replica says nothing: one whose machine is held, for
        // example, ignores it. Whoever was asked in vain is asked again when nobody else is left.
        let asked = |id: &u64| self.peers.get(*id).is_some_and(|peer| peer.asked_to_lead);
        // Among equals the preferred replica, then the lowest id.
        let wish = |id: &u64| (of(id), !asked(id), Some(*id) == preferred);
        others.rev().max_by_key(|id| wish(id)).map(|id| ReplicaId(*id))
    }
}

fn raft_config(cfg: &GroupConfig, applied: u64) -> Config {
    Config {
        id: cfg.replica.0,
        election_tick: cfg.timing.election_ticks,
        heartbeat_tick: cfg.timing.heartbeat_ticks,
        applied,
        max_size_per_msg: limits::APPEND_BYTES_MAX,
        max_inflight_msgs: limits::INFLIGHT_APPENDS_MAX,
        check_quorum: true,
        pre_vote: true,
        min_election_tick: cfg.timing.election_ticks,
        max_election_tick: cfg.timing.election_ticks_end(),
        // Followers of a partition learn a commit with the next append or heartbeat: nobody
        // waits for them, and a round of messages per commit is saved. Metadata is waited for.
        skip_bcast_commit: cfg.group != GroupId::METADATA,
        max_uncommitted_size: limits::UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: limits::COMMITTED_BYTES_PER_READY_MAX,
        ..Config::default()
    }
}
