//! What a group is built from: identity, timing and the state its broker restored.
//!
//! All durations come from `model::limits` by default; an operator may change them within the
//! relations that [`Timing::validate`] checks, because lease and vote promise are one contract.

use model::{GroupId, HardState, LogEntry, ReplicaId, limits};
use raft::eraftpb::ConfState;

use crate::error::ConsensusError;

/// Identity and timing of one replica of one group.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    pub group: GroupId,
    /// This replica's raft peer id: never 0, never reused.
    pub replica: ReplicaId,
    /// Feeds the election jitter and this life's lease identity. Draw it anew at every start
    /// (the simulator derives it from its own seed).
    pub seed: u64,
    pub timing: Timing,
}

/// Ticks and milliseconds of elections and leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub tick_ms: u64,
    pub heartbeat_ticks: usize,
    /// Election time-out of rank 0 without jitter.
    pub election_ticks: usize,
    /// Added per rank: the replica's position among the sorted voters.
    pub election_rank_ticks: usize,
    /// Jitter on top, exclusive.
    pub election_jitter_ticks: usize,
    /// A lease runs this long from the quorum-th newest echoed heartbeat.
    pub lease_ms: u64,
    /// Neither vote nor campaign this long after answering a heartbeat, and after a start.
    pub vote_promise_ms: u64,
    /// Distance between repeated campaigns of a preferred replica or a survivor.
    pub campaign_retry_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            tick_ms: limits::TICK_MS,
            heartbeat_ticks: limits::HEARTBEAT_TICKS,
            election_ticks: limits::ELECTION_TICKS,
            election_rank_ticks: limits::ELECTION_RANK_TICKS,
            election_jitter_ticks: limits::ELECTION_JITTER_TICKS,
            lease_ms: limits::LEASE_MS,
            vote_promise_ms: limits::VOTE_PROMISE_MS,
            campaign_retry_ms: limits::CAMPAIGN_RETRY_MS,
        }
    }
}

impl Timing {
    /// Relations that safety (lease below promise, with room for clock rates that differ by one
    /// per cent) and liveness (time-outs above heartbeats and promise) rest on.
    pub fn validate(&self) -> Result<(), ConsensusError> {
        let error = |why| Err(ConsensusError::Timing(why));
        if self.tick_ms == 0 || self.heartbeat_ticks == 0 || self.campaign_retry_ms == 0 {
            return error("a period is zero");
        }
        if self.election_ticks <= self.heartbeat_ticks * 2 {
            return error("the election time-out must exceed two heartbeats");
        }
        if self.lease_ms + self.lease_ms / 50 + 1 > self.vote_promise_ms {
            return error("the lease must end well before the vote promise it rests on");
        }
        if self.vote_promise_ms > self.election_ticks as u64 * self.tick_ms {
            return error("the vote promise must not outlast the election time-out");
        }
        Ok(())
    }

    /// First value beyond every possible election time-out, ticks.
    pub(crate) fn election_ticks_end(&self) -> usize {
        self.election_ticks
            + limits::GROUP_VOTERS_MAX * self.election_rank_ticks
            + self.election_jitter_ticks
            + 1
    }
}

/// What journal, checkpoint and segments know about a group at start.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    pub hard_state: HardState,
    /// The membership as of `applied`.
    pub conf_state: ConfState,
    /// Last index raft counts as applied; committed entries are delivered again from
    /// `applied + 1`. Not below `start_index`.
    pub applied: u64,
    /// Last index that is no longer readable (0: none); `first_index = start_index + 1`.
    pub start_index: u64,
    /// Runs of (first index, term), ascending, that cover `start_index` up to `applied`. Runs
    /// at or above the first of `entries` may be given too; the entries are the truth there.
    pub terms: Vec<(u64, u64)>,
    /// Contiguous, from `applied + 1` or earlier up to the last index of the log.
    pub entries: Vec<LogEntry>,
    /// This replica may have forgotten acknowledged entries or votes.
    pub suspect: bool,
    /// The group is formed now: it never promised anything to anybody.
    pub new_group: bool,
}
