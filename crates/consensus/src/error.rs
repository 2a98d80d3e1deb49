//! What can go wrong when a group is built, and why a proposal is not taken. Both are values:
//! the caller answers a client or quarantines a group, it never unwinds for them.

use model::ReplicaId;

/// A restored state that no correct journal and checkpoint can produce, or impossible timing.
/// The group is not built; the caller quarantines it and names the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsensusError {
    #[error("timing cannot work: {0}")]
    Timing(&'static str),
    #[error("replica id 0 is reserved")]
    ReplicaZero,
    #[error("a group of {voters} voters exceeds the bound of {max}")]
    TooManyVoters { voters: usize, max: usize },
    #[error("applied index {applied} lies before the start of the log at {start}")]
    AppliedBeforeStart { applied: u64, start: u64 },
    #[error("entries must follow one another: expected index {expected}, found {found}")]
    EntryGap { expected: u64, found: u64 },
    #[error("entries start at {first}, but everything above applied index {applied} is needed")]
    EntriesMissing { first: u64, applied: u64 },
    #[error("the term of index {index} is unknown")]
    TermUnknown { index: u64 },
    #[error("the term falls at index {index}")]
    TermFalls { index: u64 },
    #[error("raft refused the restored state: {0}")]
    Raft(String),
}

/// Why a proposal was not appended. Nothing of it entered the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Only a leader proposes; raft's own silent forwarding is never used.
    #[error("not the leader")]
    NotLeader { leader: Option<ReplicaId> },
    #[error("dropped: {}", .0.as_str())]
    Dropped(DropReason),
}

/// Why a leader drops a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// `limits::UNCOMMITTED_BYTES_MAX` are proposed and not yet committed.
    UncommittedLimit,
    /// Leadership is being handed over.
    Transfer,
}

impl DropReason {
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::UncommittedLimit => "uncommitted_limit",
            DropReason::Transfer => "transfer",
        }
    }
}
