//! Every label of the catalogue, as a closed enum.
//!
//! Labels that name something another room knows (an election's reason, a disk operation)
//! carry that room's own words, so `X::from_name(theirs.as_str())` is the whole conversion.

use crate::label_enum;

label_enum! {
    /// How a Kafka request ended.
    pub enum Outcome {
        /// Answered without any error code.
        Ok = "ok",
        /// Answered with at least one error code.
        Error = "error",
        /// Refused before a handler saw it: unknown API, bad version, bytes that lie.
        Refused = "refused",
        /// The connection ended before the answer.
        Abandoned = "abandoned",
    }
}

label_enum! {
    /// The way of a produce request, in order. What follows the reply (`apply` on the leader)
    /// is left out of a request that does not wait for it.
    pub enum ProduceStage {
        /// Bytes of the frame are here -> decoded, validated, charged.
        Parse = "parse",
        /// -> the shard took it from its inbox.
        Queue = "queue",
        /// -> stamped and proposed.
        Propose = "propose",
        /// -> written to the journal file of this broker.
        JournalAppend = "journal_append",
        /// -> synced on this broker.
        Fsync = "fsync",
        /// -> acknowledged by enough followers.
        Replicate = "replicate",
        /// -> the shard saw the commit index pass it.
        Commit = "commit",
        /// -> applied, where the reply waits for that.
        Apply = "apply",
        /// -> the reply is in the socket.
        Ack = "ack",
    }
}

label_enum! {
    /// The way of a fetch request, in order.
    pub enum FetchStage {
        /// Bytes of the frame are here -> decoded.
        Parse = "parse",
        /// -> enough bytes, or the deadline (long poll).
        Wait = "wait",
        /// -> read from tail cache or segment, lease checked.
        Read = "read",
        /// -> the reply is in the socket.
        Send = "send",
    }
}

label_enum! {
    /// What a request that is in flight waits for.
    pub enum InflightStage {
        ProduceParse = "produce_parse",
        ProduceQueue = "produce_queue",
        ProducePropose = "produce_propose",
        ProduceJournalAppend = "produce_journal_append",
        ProduceFsync = "produce_fsync",
        ProduceReplicate = "produce_replicate",
        ProduceCommit = "produce_commit",
        ProduceApply = "produce_apply",
        ProduceAck = "produce_ack",
        FetchParse = "fetch_parse",
        FetchWait = "fetch_wait",
        FetchRead = "fetch_read",
        FetchSend = "fetch_send",
        /// Any other API, as a whole.
        Other = "other",
    }
}

label_enum! {
    /// A loop the watchdog sees.
    pub enum Loop {
        Shard = "shard",
        Journal = "journal",
        Segment = "segment",
        Checkpoint = "checkpoint",
        /// A thread that executes disk operations for others.
        Disk = "disk",
        PeerSend = "peer_send",
        PeerReceive = "peer_receive",
        Formation = "formation",
        Acceptor = "acceptor",
        /// Answers long polls whose bytes arrived or whose deadline passed.
        Waiter = "waiter",
        Retention = "retention",
        Reconcile = "reconcile",
        /// A probe task that shows whether the async runtime still schedules.
        Runtime = "runtime",
        Admin = "admin",
        /// For tests and tools.
        Test = "test",
    }
}

impl Loop {
    /// What stands still for clients when this loop does.
    pub const fn tier(self) -> Tier {
        match self {
            Loop::Shard => Tier::Raft,
            Loop::Journal | Loop::Segment | Loop::Checkpoint | Loop::Disk => Tier::Disk,
            Loop::PeerSend | Loop::PeerReceive | Loop::Formation => Tier::Peers,
            Loop::Acceptor | Loop::Waiter | Loop::Runtime => Tier::Clients,
            Loop::Retention | Loop::Reconcile | Loop::Admin | Loop::Test => Tier::Background,
        }
    }

    /// True for a loop that wakes by itself at least every second: silence is a defect there.
    /// Any other may rest in `idle` for ever.
    pub const fn never_rests(self) -> bool {
        matches!(self, Loop::Shard | Loop::Runtime)
    }
}

label_enum! {
    /// What a loop works for.
    pub enum Tier {
        Raft = "raft",
        Disk = "disk",
        Peers = "peers",
        Clients = "clients",
        Background = "background",
    }
}

label_enum! {
    /// Why a loop stands still, as far as it was seen.
    pub enum StallCause {
        /// Threads wait for each other's locks.
        Deadlock = "deadlock",
        /// A lock is held by a thread that sleeps, for a reason of its own.
        LockWait = "lock_wait",
        FsyncInflight = "fsync_inflight",
        /// A disk operation other than a sync.
        IoInflight = "io_inflight",
        ChannelFull = "channel_full",
        ApplySlow = "apply_slow",
        /// Runnable, and other threads or processes have the CPU.
        CpuStarved = "cpu_starved",
        CpuBusy = "cpu_busy",
        /// In an uninterruptible sleep of the kernel.
        DState = "d_state",
        /// The async runtime does not schedule its tasks.
        RuntimeStarved = "runtime_starved",
        Unknown = "unknown",
    }
}

label_enum! {
    /// What a loop does right now.
    pub enum Phase {
        /// Waits for input.
        Idle = "idle",
        /// Takes inputs from its queues.
        Drain = "drain",
        /// One input through the pure core.
        Step = "step",
        Tick = "tick",
        /// Proposes and readies of the turn's dirty groups.
        Flush = "flush",
        /// Committed entries through the state machines.
        Apply = "apply",
        /// Turns events into counters and log lines.
        Observe = "observe",
        /// Hands writes to the journal.
        Persist = "persist",
        Publish = "publish",
        Send = "send",
        Receive = "receive",
        Reply = "reply",
        Read = "read",
        Write = "write",
        Sync = "sync",
        Recover = "recover",
        Maintain = "maintain",
        Connect = "connect",
        /// Waits for room in a full queue.
        ChannelFull = "channel_full",
    }
}

label_enum! {
    /// What a step was given.
    pub enum InputKind {
        None = "none",
        Tick = "tick",
        Produce = "produce",
        Message = "message",
        Durable = "durable",
        EntriesRead = "entries_read",
        Applied = "applied",
        ReadIndex = "read_index",
        Request = "request",
        Image = "image",
        PeerState = "peer_state",
        Segment = "segment",
        Retention = "retention",
        Open = "open",
        Close = "close",
        Control = "control",
    }
}

label_enum! {
    /// What used the time a tick came late by.
    pub enum BlockedBy {
        Apply = "apply",
        Persist = "persist",
        Send = "send",
        Lock = "lock",
        Step = "step",
        /// The loop was not running: starved of CPU, or the whole process stood still.
        Cpu = "cpu",
    }
}

label_enum! {
    pub enum GroupKind {
        Metadata = "metadata",
        Partition = "partition",
        Coordinator = "coordinator",
    }
}

label_enum! {
    /// Why a consumer group rebalances.
    pub enum RebalanceWhy {
        Joined = "joined",
        Rejoined = "rejoined",
        Left = "left",
        SessionExpired = "session_expired",
        NotSynced = "not_synced",
        StaticReplaced = "static_replaced",
    }
}

label_enum! {
    /// Why an election began; consensus' own words.
    pub enum ElectionReason {
        Timeout = "timeout",
        DeathEvidence = "death_evidence",
        Preferred = "preferred",
        NewGroup = "new_group",
        SingleVoter = "single_voter",
        Transfer = "transfer",
        Other = "other",
    }
}

label_enum! {
    /// How an election ended for the replica that began it; consensus' own words.
    pub enum ElectionOutcome {
        Won = "won",
        Refused = "refused",
        Superseded = "superseded",
        Other = "other",
    }
}

label_enum! {
    /// Why a replica follows another leader, or none; consensus' own words.
    pub enum LeaderChangeReason {
        Campaign = "campaign",
        PreVoteWon = "pre_vote_won",
        ElectionWon = "election_won",
        ElectionLost = "election_lost",
        LeaderFound = "leader_found",
        HigherTerm = "higher_term",
        QuorumLost = "quorum_lost",
        DeathEvidence = "death_evidence",
        Other = "other",
    }
}

label_enum! {
    pub enum RaftRole {
        Follower = "follower",
        PreCandidate = "pre_candidate",
        Candidate = "candidate",
        Leader = "leader",
    }
}

label_enum! {
    /// raft messages that travel between brokers.
    pub enum MessageType {
        /// MsgAppend with entries.
        Append = "append",
        /// MsgAppend without entries: probes and commit news. A follower that gets only these
        /// never moves.
        AppendEmpty = "append_empty",
        AppendResponse = "append_response",
        Heartbeat = "heartbeat",
        HeartbeatResponse = "heartbeat_response",
        PreVote = "pre_vote",
        PreVoteResponse = "pre_vote_response",
        Vote = "vote",
        VoteResponse = "vote_response",
        TimeoutNow = "timeout_now",
        Snapshot = "snapshot",
        ReadIndex = "read_index",
        ReadIndexResponse = "read_index_response",
        Other = "other",
    }
}

label_enum! {
    pub enum Direction {
        Sent = "sent",
        Received = "received",
    }
}

label_enum! {
    pub enum MessageOutcome {
        Ok = "ok",
        /// No room, or nobody there; raft sends again.
        Dropped = "dropped",
        /// A guard withheld it from raft.
        Refused = "refused",
    }
}

label_enum! {
    /// Why a message never reached raft; consensus' own words.
    pub enum MessageRefusal {
        WrongSender = "wrong_sender",
        WrongReceiver = "wrong_receiver",
        UnknownSender = "unknown_sender",
        UnknownGroup = "unknown_group",
        LocalKind = "local_kind",
        Malformed = "malformed",
        Snapshot = "snapshot",
        AckBeyondLog = "ack_beyond_log",
        TimeoutNow = "timeout_now",
        CommitBeyondLog = "commit_beyond_log",
        VotePromise = "vote_promise",
        Suspect = "suspect",
        Other = "other",
    }
}

label_enum! {
    /// Why a replica no longer trusts its own memory.
    pub enum SuspectReason {
        CommitBeyondLog = "commit_beyond_log",
        Restored = "restored",
        /// The journal found damage below what was known to be synced.
        Damage = "damage",
        /// `sync = interval` and the machine went down unclean.
        UncleanInterval = "unclean_interval",
        Other = "other",
    }
}

label_enum! {
    /// Where a panic was contained.
    pub enum PanicRoom {
        /// Inside one raft group: it is rebuilt or quarantined.
        Group = "group",
        /// In a state machine: the machine is held.
        Apply = "apply",
        /// In the handler of one request.
        Handler = "handler",
        Task = "task",
        /// In a loop the broker cannot live without.
        Loop = "loop",
    }
}

label_enum! {
    /// A disk operation; storage's own words.
    pub enum IoOp {
        Create = "create",
        Write = "write",
        Sync = "sync",
        SyncDir = "sync_dir",
        WriteBack = "write_back",
        Rename = "rename",
        Remove = "remove",
        RemoveDir = "remove_dir",
        Allocate = "allocate",
        Truncate = "truncate",
        Read = "read",
        List = "list",
        Len = "len",
        MakeDir = "make_dir",
        FreeSpace = "free_space",
        Other = "other",
    }
}

label_enum! {
    pub enum CheckpointOutcome {
        Ok = "ok",
        Failed = "failed",
        /// Nothing had changed.
        Skipped = "skipped",
    }
}

label_enum! {
    /// Where bytes of the one memory budget, or beside it, wait.
    pub enum BufferStage {
        PeerQueues = "peer_queues",
        JournalQueue = "journal_queue",
        TailCache = "tail_cache",
    }
}

label_enum! {
    pub enum BudgetPool {
        Clients = "clients",
        /// The reserve for votes, heartbeats and operators.
        Control = "control",
    }
}

label_enum! {
    /// The two streams between a pair of brokers.
    pub enum Lane {
        Control = "control",
        Bulk = "bulk",
    }
}

label_enum! {
    pub enum PeerDropWhy {
        QueueFull = "queue_full",
        NotConnected = "not_connected",
        StreamFailed = "stream_failed",
        TooLarge = "too_large",
        NoRoute = "no_route",
        ShardFull = "shard_full",
    }
}

label_enum! {
    /// Why another broker's connection or envelope was refused; the transport's own words.
    pub enum PeerRefusedWhy {
        Version = "version",
        Cluster = "cluster",
        BrokerId = "broker_id",
        Directory = "directory",
        Incarnation = "incarnation",
        Unborn = "unborn",
        Garbled = "garbled",
        TooLarge = "too_large",
        Other = "other",
    }
}

label_enum! {
    /// Why a client's frame was refused.
    pub enum FrameRefusedWhy {
        TooLarge = "too_large",
        NegativeLength = "negative_length",
        Truncated = "truncated",
        Malformed = "malformed",
        UnknownApi = "unknown_api",
        UnsupportedVersion = "unsupported_version",
        Unauthenticated = "unauthenticated",
        /// More array elements or tagged fields than a message may have.
        TooManyElements = "too_many_elements",
        /// It began and did not arrive in time.
        Late = "late",
    }
}

label_enum! {
    pub enum ConnectionOutcome {
        Accepted = "accepted",
        /// `max.connections` reached.
        RefusedLimit = "refused_limit",
        ClosedByClient = "closed_by_client",
        ClosedByBroker = "closed_by_broker",
        Idle = "idle",
        ProtocolError = "protocol_error",
        IoError = "io_error",
        /// `max.connections.per.ip` reached.
        RefusedIpLimit = "refused_ip_limit",
        /// It asked and then took nothing of the reply.
        NotReading = "not_reading",
    }
}

label_enum! {
    pub enum ReadSource {
        TailCache = "tail_cache",
        Segment = "segment",
    }
}

label_enum! {
    /// What must never happen, and is checked all the same.
    pub enum Invariant {
        LogViewMismatch = "log_view_mismatch",
        FetchedEntriesMismatch = "fetched_entries_mismatch",
        ConfChangeInapplicable = "conf_change_inapplicable",
        /// An entry's stamp is not the running record count.
        StampMismatch = "stamp_mismatch",
        /// The bytes of the log up to an entry are not the ones its leader stamped.
        PrefixChecksumMismatch = "prefix_checksum_mismatch",
        AckedBeyondDurable = "acked_beyond_durable",
        CommittedBeyondDurable = "committed_beyond_durable",
        AppliedBeyondCommitted = "applied_beyond_committed",
        HighWatermarkMovedBack = "high_watermark_moved_back",
        /// A heartbeat commits what this replica forgot.
        CommitBeyondLog = "commit_beyond_log",
        ShutdownManifest = "shutdown_manifest",
        /// A follower's log ends before what it had acknowledged (failure F1).
        FollowerForgot = "follower_forgot",
        /// What a follower acknowledged is of another term there.
        FollowerOtherTerm = "follower_other_term",
        /// A follower's entry has the leader's index and term, and another checksum.
        FollowerOtherContent = "follower_other_content",
        LockOrder = "lock_order",
        Other = "other",
    }
}

label_enum! {
    /// Why the broker ends itself.
    pub enum FatalReason {
        /// A journal write or sync failed: nothing more may be acknowledged.
        JournalFailed = "journal_failed",
        SegmentFailed = "segment_failed",
        CheckpointFailed = "checkpoint_failed",
        Invariant = "invariant",
        Panic = "panic",
        /// An operation outlived every budget.
        Fenced = "fenced",
        PeerConflict = "peer_conflict",
        /// By somebody else, or the machine died; only ever said of a life before.
        Killed = "killed",
    }
}

label_enum! {
    /// What telemetry could not keep.
    pub enum DropKind {
        /// A line over the rate limit of its kind.
        LogLimited = "log_limited",
        /// A line that found stderr's queue full.
        LogQueue = "log_queue",
        BeatSlot = "beat_slot",
        /// A thread that waits for a lock beyond the table of those.
        LockWaiter = "lock_waiter",
        InflightSlot = "inflight_slot",
        PeerLabel = "peer_label",
        /// A post-mortem that its topic did not get in time.
        Postmortem = "postmortem",
        /// A ring of the flight recorder that could not be had or mirrored.
        FlightRing = "flight_ring",
        /// A request, a leader's question or an election that the keeper of traces had no room
        /// for, or an entry of a trace that no shard remembered.
        Trace = "trace",
        /// A span that did not reach the collector.
        Span = "span",
    }
}

label_enum! {
    /// Why spans of a request are exported.
    pub enum KeptWhy {
        /// It took `tracing.slow.ms` or longer.
        Slow = "slow",
        /// It failed by the fault of a broker.
        Failed = "failed",
        /// Drawn: one in `tracing.sample.one.in`.
        Sampled = "sampled",
        /// A record of it carries a sampled `traceparent`.
        Caller = "caller",
    }
}

label_enum! {
    /// Classes of locks **in the order they may be taken**: the position is the rank, and
    /// whoever holds one takes only later ones. All are leaf caches; nothing waits for I/O or
    /// another loop inside.
    pub enum LockClass {
        Formation = "formation",
        Lifecycle = "lifecycle",
        /// Links to peers, by broker.
        Links = "links",
        Peers = "peers",
        PeerQueue = "peer_queue",
        Router = "router",
        Image = "image",
        Connections = "connections",
        Waiters = "waiters",
        ProducerIds = "producer_ids",
        Budget = "budget",
        Views = "views",
        View = "view",
        SegmentList = "segment_list",
        TailCache = "tail_cache",
        OpenFiles = "open_files",
        Disk = "disk",
        Inbox = "inbox",
        Debug = "debug",
        /// For tests of the order itself.
        TestOuter = "test_outer",
        TestInner = "test_inner",
    }
}

impl LockClass {
    /// Higher ranks are taken later.
    #[inline]
    pub const fn rank(self) -> u32 {
        self as u32
    }
}

label_enum! {
    /// Where the transfer of a snapshot stands, or how it ended.
    pub enum SnapshotOutcome {
        /// A leader sent its manifest's name; a follower began to fetch.
        Begun = "begun",
        /// Acknowledged by the follower; installed by it.
        Finished = "finished",
        /// Given up; it is tried again.
        Failed = "failed",
        /// No sign of life in time.
        TimedOut = "timed_out",
        /// Another one, of a newer leader, is fetched in its place.
        Superseded = "superseded",
        /// The follower had it already.
        Ignored = "ignored",
    }
}

label_enum! {
    /// A leader's step towards the membership that metadata wants.
    pub enum MembershipStep {
        AddLearner = "add_learner",
        RemoveLearner = "remove_learner",
        /// Through a joint state: learners become voters, voters leave.
        SwapVoters = "swap_voters",
        /// Leadership goes back to the preferred replica.
        Prefer = "prefer",
        Other = "other",
    }
}

label_enum! {
    /// What became of a step: proposed, or why not.
    pub enum StepOutcome {
        Proposed = "proposed",
        NotLeader = "not_leader",
        /// An earlier change is not finished.
        Busy = "busy",
        Dropped = "dropped",
        RemovesLeader = "removes_leader",
        Unfit = "unfit",
        Voters = "voters",
        Other = "other",
    }
}

label_enum! {
    /// Kinds of log lines: the unit of the rate limit, and `event` in the structured line.
    pub enum LogEvent {
        BrokerStarted = "broker_started",
        BrokerStopping = "broker_stopping",
        BrokerStopped = "broker_stopped",
        Fatal = "fatal",
        Recovered = "recovered",
        Formation = "formation",
        PeerConnected = "peer_connected",
        PeerLost = "peer_lost",
        PeerRefused = "peer_refused",
        ElectionStarted = "election_started",
        ElectionEnded = "election_ended",
        LeaderChanged = "leader_changed",
        GroupSuspect = "group_suspect",
        GroupHealed = "group_healed",
        GroupHeld = "group_held",
        GroupRebuilt = "group_rebuilt",
        GroupQuarantined = "group_quarantined",
        GroupDeleted = "group_deleted",
        LogTruncated = "log_truncated",
        MembershipChanged = "membership_changed",
        SnapshotNeeded = "snapshot_needed",
        Snapshot = "snapshot",
        InvariantViolated = "invariant_violated",
        Panic = "panic",
        JournalFull = "journal_full",
        JournalDamage = "journal_damage",
        DiskFull = "disk_full",
        DiskFailed = "disk_failed",
        ConnectionRefused = "connection_refused",
        ConnectionFailed = "connection_failed",
        FrameRefused = "frame_refused",
        RequestFailed = "request_failed",
        MemoryBudgetSpent = "memory_budget_spent",
        TickLate = "tick_late",
        StallBegan = "stall_began",
        StallEnded = "stall_ended",
        HostPaused = "host_paused",
        ClockStepped = "clock_stepped",
        LockOrder = "lock_order",
        ConfigWeak = "config_weak",
        SteppedAside = "stepped_aside",
        LastCrash = "last_crash",
        FollowerDisagrees = "follower_disagrees",
        TracesNotExported = "traces_not_exported",
    }
}
