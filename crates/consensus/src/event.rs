//! Everything a group can tell an observer, as one closed union. The crate never logs or counts:
//! the seam matches each event once and makes a counter, a log line or a page of it.
//!
//! Labels are closed enums with `as_str`; ids and indexes are fields, never labels.

use model::ReplicaId;

/// What a replica is to its group right now (raft thesis, section 3.3; pre-vote: 9.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    #[default]
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Follower => "follower",
            Role::PreCandidate => "pre_candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        }
    }
}

impl From<raft::StateRole> for Role {
    fn from(role: raft::StateRole) -> Self {
        match role {
            raft::StateRole::Follower => Role::Follower,
            raft::StateRole::PreCandidate => Role::PreCandidate,
            raft::StateRole::Candidate => Role::Candidate,
            raft::StateRole::Leader => Role::Leader,
        }
    }
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

labels! {
    /// Why an election began.
    ElectionReason {
        /// No leader was heard from for a whole election time-out.
        Timeout => "timeout",
        /// The leader's process is known to be dead.
        DeathEvidence => "death_evidence",
        /// First replica of the group after a cold start.
        Preferred => "preferred",
        /// First replica of a group that is formed now.
        NewGroup => "new_group",
        /// The only voter needs nobody's consent.
        SingleVoter => "single_voter",
        /// The leader handed over (MsgTimeoutNow).
        Transfer => "transfer",
    }
}

labels! {
    /// Why the role or the known leader changed.
    ChangeReason {
        Campaign => "campaign",
        /// Pre-votes of a majority: the real election begins.
        PreVoteWon => "pre_vote_won",
        ElectionWon => "election_won",
        ElectionLost => "election_lost",
        /// A leader made itself known.
        LeaderFound => "leader_found",
        /// A message of a later term arrived.
        HigherTerm => "higher_term",
        /// A leader did not hear from a majority for an election time-out (check quorum).
        QuorumLost => "quorum_lost",
        /// The followed leader's process is known to be dead.
        DeathEvidence => "death_evidence",
    }
}

labels! {
    /// How an election ended for the replica that began it.
    ElectionOutcome {
        Won => "won",
        /// A majority refused.
        Refused => "refused",
        /// Another leader or a later term came first.
        Superseded => "superseded",
    }
}

labels! {
    /// What a voter said to a candidate, and why not.
    VoteAnswer {
        Granted => "granted",
        /// The voter's log has entries that the candidate's lacks (thesis, 3.6.1).
        LogBehind => "log_behind",
        /// It voted for somebody else in that term.
        AlreadyVoted => "already_voted",
        /// It knows a later term.
        LaterTerm => "later_term",
        /// It hears from a leader (thesis, 4.2.3).
        LeaderKnown => "leader_known",
        /// It promised a leader not to vote for a while.
        VotePromise => "vote_promise",
        /// A suspect replica does not vote.
        Suspect => "suspect",
        /// No, without a reason that is known here.
        Refused => "refused",
        /// Nothing was heard of it.
        Silent => "silent",
    }
}

labels! {
    /// Why a message from a peer never reached raft.
    RefusedMessage {
        WrongSender => "wrong_sender",
        WrongReceiver => "wrong_receiver",
        /// Neither voter nor learner here, and of a kind only members send.
        UnknownSender => "unknown_sender",
        /// Of a kind that raft keeps to itself, or that we never forward.
        LocalKind => "local_kind",
        /// Fields no correct peer sends; raft would panic on some of them.
        Malformed => "malformed",
        /// A snapshot, or a request for one, where none is taken.
        Snapshot => "snapshot",
        /// Acknowledges entries this leader does not have.
        AckBeyondLog => "ack_beyond_log",
        /// A forwarded ReadIndex found no leader here; its sender asks again.
        NotLeader => "not_leader",
        /// A hand-over reached a replica that must not lead, or came from no leader.
        TimeoutNow => "timeout_now",
        /// The sender commits what we forgot; see [`SuspectReason::CommitBeyondLog`].
        CommitBeyondLog => "commit_beyond_log",
        /// Voting is refused while a promise to a leader runs.
        VotePromise => "vote_promise",
        /// A suspect replica does not vote.
        Suspect => "suspect",
    }
}

labels! {
    /// How a leader's snapshot for a peer ended.
    SnapshotOutcome {
        /// The peer acknowledged it, or something newer.
        Finished => "finished",
        /// The peer or the transport reported that it cannot be had.
        Failed => "failed",
        /// The peer showed no sign of life.
        TimedOut => "timed_out",
    }
}

labels! {
    /// Why a replica no longer trusts its own memory.
    SuspectReason {
        /// The leader's heartbeat commits beyond our log: we acknowledged, and forgot.
        CommitBeyondLog => "commit_beyond_log",
        /// The broker restored it as suspect.
        Restored => "restored",
        /// The journal found damage below what was synced.
        Journal => "journal",
    }
}

labels! {
    /// Invariants that are checked before raft would panic on them.
    Invariant {
        /// Nothing is unstable, yet raft's next index is not one past the log view's last. The
        /// group does nothing more: rebuild it from the journal or quarantine it.
        LogViewMismatch => "log_view_mismatch",
        /// Entries read back for a follower are not the ones in the log; they are not sent.
        FetchedEntriesMismatch => "fetched_entries_mismatch",
        /// A committed membership change does not apply here: this replica has another idea of
        /// who votes. The group does nothing more.
        ConfChangeInapplicable => "conf_change_inapplicable",
    }
}

labels! {
    /// How a follower's log is not what its leader believes.
    Disagreement {
        /// It ends before what it had acknowledged.
        Forgot => "forgot",
        /// What it acknowledged is of another term there.
        OtherTerm => "other_term",
        /// The same index and term, and another checksum of all that was before.
        OtherContent => "other_content",
    }
}

labels! {
    /// Why a follower that answers does not get what it lacks.
    Starvation {
        /// It forgot what it had acknowledged: raft does not send that again.
        Forgot => "forgot",
        /// Raft believes that it has more than it has (failure F1).
        NextIndexPastLast => "next_index_past_last",
        /// Nothing is sent until it answers something that it does not answer.
        Paused => "paused",
        /// A snapshot is on its way, or waited for.
        Snapshot => "snapshot",
        /// Entries are on their way, and none arrives.
        Lagging => "lagging",
    }
}

/// What one voter answered a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ballot {
    pub voter: ReplicaId,
    pub answer: VoteAnswer,
}

/// One observation. Times are milliseconds of boot time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    RoleChanged {
        from: Role,
        to: Role,
        term: u64,
        leader: Option<ReplicaId>,
        reason: ChangeReason,
    },
    /// A follower follows somebody else, or nobody, without a change of its own role.
    LeaderChanged {
        term: u64,
        leader: Option<ReplicaId>,
        reason: ChangeReason,
    },
    /// `ms_since_leader`: since the last message of a leader, or since the start.
    ElectionStarted {
        term: u64,
        reason: ElectionReason,
        ms_since_leader: u64,
    },
    /// `ballots` of the last round, one for each voter.
    ElectionEnded {
        term: u64,
        reason: ElectionReason,
        outcome: ElectionOutcome,
        rounds: u32,
        ballots: Vec<Ballot>,
        ms: u64,
    },
    /// A leader of a later term replaced entries from `from` on.
    LogTruncated {
        from: u64,
        removed: u64,
        term: u64,
    },
    Suspected {
        why: SuspectReason,
        commit: u64,
        last_index: u64,
    },
    LeaseAcquired {
        term: u64,
    },
    LeaseExpired {
        term: u64,
    },
    /// `kind` is raft's name of the message type.
    MessageRefused {
        from: ReplicaId,
        kind: &'static str,
        why: RefusedMessage,
    },
    TransferStarted {
        term: u64,
        to: ReplicaId,
    },
    /// The peer is behind `first_index`: entries cannot help it any more.
    SnapshotNeeded {
        peer: ReplicaId,
        first_index: u64,
    },
    /// A leader waits for `peer` to fetch its snapshot.
    SnapshotSent {
        peer: ReplicaId,
        index: u64,
    },
    SnapshotEnded {
        peer: ReplicaId,
        outcome: SnapshotOutcome,
    },
    /// This replica's log begins anew behind a snapshot.
    SnapshotRestored {
        index: u64,
        term: u64,
    },
    /// A snapshot that this replica does not need (any more).
    SnapshotIgnored {
        index: u64,
    },
    /// Membership after the entry at `index`.
    MembershipChanged {
        index: u64,
        voters: usize,
        outgoing: usize,
        learners: usize,
    },
    JointLeaveProposed {
        index: u64,
    },
    /// The restored hard state did not fit the restored log (a crash between two records).
    HardStateClamped {
        term: u64,
        commit: u64,
    },
    InvariantViolated {
        invariant: Invariant,
    },
    /// To a leader: a follower's log ends at `index`, and is not what was acknowledged up to
    /// `matched`. Once for each follower, term and way of disagreeing.
    FollowerDisagrees {
        peer: ReplicaId,
        what: Disagreement,
        index: u64,
        matched: u64,
    },
}

impl Event {
    /// Name for metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Event::RoleChanged { .. } => "role_changed",
            Event::LeaderChanged { .. } => "leader_changed",
            Event::ElectionStarted { .. } => "election_started",
            Event::ElectionEnded { .. } => "election_ended",
            Event::LogTruncated { .. } => "log_truncated",
            Event::Suspected { .. } => "suspected",
            Event::LeaseAcquired { .. } => "lease_acquired",
            Event::LeaseExpired { .. } => "lease_expired",
            Event::MessageRefused { .. } => "message_refused",
            Event::TransferStarted { .. } => "transfer_started",
            Event::SnapshotNeeded { .. } => "snapshot_needed",
            Event::SnapshotSent { .. } => "snapshot_sent",
            Event::SnapshotEnded { .. } => "snapshot_ended",
            Event::SnapshotRestored { .. } => "snapshot_restored",
            Event::SnapshotIgnored { .. } => "snapshot_ignored",
            Event::MembershipChanged { .. } => "membership_changed",
            Event::JointLeaveProposed { .. } => "joint_leave_proposed",
            Event::HardStateClamped { .. } => "hard_state_clamped",
            Event::InvariantViolated { .. } => "invariant_violated",
            Event::FollowerDisagrees { .. } => "follower_disagrees",
        }
    }
}
