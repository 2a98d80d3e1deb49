//! What can be asked of a group. Queries never change it, never panic, and are cheap except
//! [`Group::status`] and [`Group::progress`], which allocate.

use model::{GroupId, HardState, LogEntry, Now, ReplicaId};
use raft::eraftpb::ConfState;
use raft::{INVALID_ID, ProgressState};

use crate::convert;
use crate::event::{Ballot, ElectionReason, Role};
use crate::group::Group;

/// How a leader replicates to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplicationState {
    /// One message at a time, to find where the logs meet.
    Probe,
    /// Pipelined.
    Replicate,
    /// Waits for a snapshot.
    Snapshot,
}

impl ReplicationState {
    pub fn as_str(self) -> &'static str {
        match self {
            ReplicationState::Probe => "probe",
            ReplicationState::Replicate => "replicate",
            ReplicationState::Snapshot => "snapshot",
        }
    }
}

/// A leader's view of one member (raft's Progress and more).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    pub replica: ReplicaId,
    pub voter: bool,
    /// Known to be durable there up to this index.
    pub matched: u64,
    pub next_index: u64,
    pub state: ReplicationState,
    /// Nothing is sent until it answers.
    pub paused: bool,
    pub recently_active: bool,
    /// Bytes of entries sent and not acknowledged.
    pub inflight_bytes: u64,
    /// Boot time at which it had everything we had; `None`: not in this term.
    pub caught_up_ns: Option<u64>,
    /// Boot time of its last response; `None`: none in this term.
    pub contact_ns: Option<u64>,
    /// The last index it reports for its own log. Below `matched`: it forgot. Below
    /// `next_index - 1` for long: it starves (failure F1).
    pub reported_last_index: Option<u64>,
    /// Behind our log start.
    pub snapshot_needed: bool,
}

/// An election under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptStatus {
    pub reason: ElectionReason,
    /// Since it began.
    pub ms: u64,
    pub rounds: u32,
    /// Of this round, one for each voter.
    pub ballots: Vec<Ballot>,
}

/// One group, for `/debug/groups` and sampled gauges.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    pub group: GroupId,
    pub replica: ReplicaId,
    pub role: Role,
    pub term: u64,
    pub vote: Option<ReplicaId>,
    pub leader: Option<ReplicaId>,
    pub first_index: u64,
    /// First index still in memory, and the bytes from there on.
    pub memory_first_index: u64,
    pub memory_bytes: usize,
    pub last_index: u64,
    pub persisted_index: u64,
    pub commit_index: u64,
    pub delivered_index: u64,
    pub applied_index: u64,
    pub suspect: bool,
    pub held: bool,
    /// A broken invariant stopped it.
    pub broken: bool,
    pub lease_remaining_ms: Option<u64>,
    /// MsgTimeoutNow was sent: no lease for the rest of this term.
    pub handed_over: bool,
    pub promise_remaining_ms: u64,
    pub leader_contact_ms: u64,
    /// The election it began and that has not ended.
    pub attempt: Option<AttemptStatus>,
    pub election_timeout_ticks: usize,
    pub readys_in_flight: usize,
    pub fetches_in_flight: usize,
    pub uncommitted_bytes: usize,
    pub transferring_to: Option<ReplicaId>,
    pub voters: Vec<ReplicaId>,
    /// Not empty: a joint state.
    pub outgoing: Vec<ReplicaId>,
    pub learners: Vec<ReplicaId>,
    pub peers: Vec<PeerProgress>,
}

fn some_id(id: u64) -> Option<ReplicaId> {
    (id != INVALID_ID).then_some(ReplicaId(id))
}

impl Group {
    pub fn group(&self) -> GroupId {
        self.cfg.group
    }

    pub fn replica(&self) -> ReplicaId {
        self.cfg.replica
    }

    /// The election it began and that has not ended.
    pub fn attempt(&self, now: Now) -> Option<AttemptStatus> {
        let attempt = self.attempt.as_ref()?;
        Some(AttemptStatus {
            reason: attempt.reason,
            ms: now.ms_since(attempt.began_ns),
            rounds: attempt.rounds,
            ballots: attempt.ballots.of(&self.members, self.cfg.replica.0),
        })
    }

    pub fn role(&self) -> Role {
        self.raw.raft.state.into()
    }

    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// The leader this replica follows, or itself.
    pub fn leader(&self) -> Option<ReplicaId> {
        some_id(self.raw.raft.leader_id)
    }

    /// Committed on a majority; may run ahead of what is durable or delivered here.
    pub fn commit_index(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    pub fn applied_index(&self) -> u64 {
        self.raw.raft.raft_log.applied
    }

    /// Last index handed out through `GroupOut::committed`.
    pub fn delivered_index(&self) -> u64 {
        self.delivered
    }

    /// Durable here up to this index, as far as raft was told.
    pub fn persisted_index(&self) -> u64 {
        self.raw.raft.raft_log.persisted
    }

    pub fn first_index(&self) -> u64 {
        self.raw.store().start_index() + 1
    }

    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// Term of an index of the retained log or of the one before it.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        if index + 1 < self.first_index() || index > self.last_index() {
            return None;
        }
        self.raw.raft.raft_log.term(index).ok()
    }

    /// Runs of (first index, term) of the log as handed to the journal: for the checkpoint.
    pub fn term_runs(&self) -> &[(u64, u64)] {
        self.raw.store().term_runs()
    }

    /// An entry of the current term is committed: what leaders before committed is known.
    pub fn committed_in_term(&self) -> bool {
        self.raw.raft.commit_to_current_term()
    }

    /// Current term, vote and commit; not necessarily durable.
    pub fn hard_state(&self) -> HardState {
        convert::hard_state_from_raft(&self.raw.raft.hard_state())
    }

    /// Membership as of [`Group::delivered_index`].
    pub fn conf_state(&self) -> ConfState {
        self.raw.raft.prs().conf().to_conf_state()
    }

    /// Voters of the incoming half, ascending; as of [`Group::delivered_index`].
    pub fn voters(&self) -> &[u64] {
        &self.members.voters
    }

    /// Voters of the outgoing half; not empty in a joint state.
    pub fn outgoing(&self) -> &[u64] {
        &self.members.outgoing
    }

    /// Replicas that get the log and do not vote.
    pub fn learners(&self) -> &[u64] {
        &self.members.learners
    }

    /// This replica votes, in either half.
    pub fn is_voter(&self) -> bool {
        self.members.is_voter(self.cfg.replica.0)
    }

    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// An invariant broke; the group does nothing more and must be rebuilt.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Entries of [lo, hi) that are in memory and were handed to the journal, at most about
    /// `max_bytes`, one at least if any is there. The payload is shared.
    pub fn memory_entries(&self, lo: u64, hi: u64, max_bytes: u64) -> Vec<LogEntry> {
        let entries = self.raw.store().slice(lo, hi, max_bytes);
        entries.into_iter().map(convert::from_raft).collect()
    }

    /// Milliseconds this leader may still answer from its own state as if no newer leader could
    /// exist. `None`: it must not. `u64::MAX`: the only voter. Check it after the read.
    pub fn lease_remaining_ms(&self, now: Now) -> Option<u64> {
        if self.role() != Role::Leader || self.suspect || self.broken {
            return None;
        }
        #[cfg(test)]
        if self.planted.lease_on_ticks {
            return self.planted.lease_by_ticks(&self.cfg.timing);
        }
        let me = self.cfg.replica.0;
        let expires = self.lease.expires_ns(me, now.boot_ns, &self.members)?;
        if expires == u64::MAX {
            return Some(u64::MAX);
        }
        let left_ms = expires.saturating_sub(now.boot_ns) / 1_000_000;
        (left_ms > 0).then_some(left_ms)
    }

    /// In-sync replicas: voters whose process is not known to be gone and that had all the leader had
    /// at some time within `lag_ms_max` (self included). Empty unless leading.
    pub fn isr(&self, now: Now, lag_ms_max: u64) -> Vec<ReplicaId> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        let (prs, last_index) = (self.raw.raft.prs(), self.last_index());
        let in_sync = |id: &u64| {
            let level = prs.get(*id).is_some_and(|p| p.recent_active && p.matched == last_index);
            let lately = self.peers.get(*id).is_some_and(|peer| peer.in_sync(now, lag_ms_max));
            let alive = !self.elections.is_dead(*id);
            *id == self.cfg.replica.0 || alive && (level || lately)
        };
        self.members.all_voters().filter(in_sync).map(ReplicaId).collect()
    }

    /// Voters that are known to hold everything up to `index` durably, self included. 0 unless
    /// leading.
    pub fn copies(&self, index: u64) -> usize {
        self.voter_matches().filter(|matched| *matched >= index).count()
    }

    /// The least any voter is known to hold durably. 0 unless leading.
    pub fn min_matched(&self) -> u64 {
        self.voter_matches().min().unwrap_or(0)
    }

    /// The highest index that a majority of voters is known to hold durably, self included; in a
    /// joint state a majority of both halves. A new leader knows little. 0 unless leading.
    pub fn quorum_durable(&self) -> u64 {
        if self.role() != Role::Leader {
            return 0;
        }
        let prs = self.raw.raft.prs();
        let of_half = |ids: &[u64]| {
            let matched = |id: &u64| prs.get(*id).map_or(0, |progress| progress.matched);
            let mut all: Vec<u64> = ids.iter().map(matched).collect();
            all.sort_unstable();
            // Of five the third: two have less.
            all.len().checked_sub(1).map(|last| all[last / 2])
        };
        let halves = [&self.members.voters[..], &self.members.outgoing[..]];
        halves.into_iter().filter_map(of_half).min().unwrap_or(0)
    }

    fn voter_matches(&self) -> impl Iterator<Item = u64> + '_ {
        let leads = self.role() == Role::Leader;
        let prs = self.raw.raft.prs();
        let matched = move |id: u64| prs.get(id).map_or(0, |progress| progress.matched);
        self.members.all_voters().filter(move |_| leads).map(matched)
    }

    /// The leader's view of every member but itself, by id. Empty unless leading.
    pub fn progress(&self) -> Vec<PeerProgress> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        let me = self.cfg.replica.0;
        let others = self.raw.raft.prs().iter().filter(|(id, _)| **id != me);
        let mut out: Vec<PeerProgress> = others
            .map(|(&id, progress)| {
                let peer = self.peers.get(id);
                let at = |ns: u64| (ns > 0).then_some(ns);
                PeerProgress {
                    replica: ReplicaId(id),
                    voter: self.members.is_voter(id),
                    matched: progress.matched,
                    next_index: progress.next_idx,
                    state: match progress.state {
                        ProgressState::Probe => ReplicationState::Probe,
                        ProgressState::Replicate => ReplicationState::Replicate,
                        ProgressState::Snapshot => ReplicationState::Snapshot,
                    },
                    paused: progress.is_paused(),
                    recently_active: progress.recent_active,
                    inflight_bytes: peer.map_or(0, |peer| peer.flight.bytes),
                    caught_up_ns: peer.and_then(|peer| at(peer.caught_up_ns)),
                    contact_ns: peer.and_then(|peer| at(peer.contact_ns)),
                    reported_last_index: peer.and_then(|peer| peer.reported_last),
                    snapshot_needed: peer.is_some_and(|peer| peer.snapshot_needed),
                }
            })
            .collect();
        out.sort_unstable_by_key(|peer| peer.replica);
        out
    }

    pub fn status(&self, now: Now) -> GroupStatus {
        let raft = &self.raw.raft;
        let view = self.raw.store();
        let ids = |ids: &[u64]| ids.iter().map(|id| ReplicaId(*id)).collect();
        GroupStatus {
            group: self.cfg.group,
            replica: self.cfg.replica,
            role: self.role(),
            term: self.term(),
            vote: some_id(raft.vote),
            leader: self.leader(),
            first_index: self.first_index(),
            memory_first_index: view.memory_first(),
            memory_bytes: view.bytes(),
            last_index: self.last_index(),
            persisted_index: self.persisted_index(),
            commit_index: self.commit_index(),
            delivered_index: self.delivered,
            applied_index: self.applied_index(),
            suspect: self.suspect,
            held: self.machine_held,
            broken: self.broken,
            lease_remaining_ms: self.lease_remaining_ms(now),
            handed_over: self.lease.handed_over(),
            promise_remaining_ms: self.elections.promise_remaining_ms(now),
            leader_contact_ms: now.ms_since(self.leader_contact_ns),
            attempt: self.attempt(now),
            election_timeout_ticks: raft.randomized_election_timeout(),
            readys_in_flight: self.held_readys.len(),
            fetches_in_flight: view.pending_fetches(),
            uncommitted_bytes: raft.uncommitted_size(),
            transferring_to: raft.lead_transferee.map(ReplicaId),
            voters: ids(&self.members.voters),
            outgoing: ids(&self.members.outgoing),
            learners: ids(&self.members.learners),
            peers: self.progress(),
        }
    }
}
