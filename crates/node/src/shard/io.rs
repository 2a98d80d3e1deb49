//! What happens to a shard and what it wants done: plain data, carried by the driver and by the
//! simulator alike. A reply handle `R` is only carried.

use std::sync::Arc;

use bytes::Bytes;
use consensus::{EntryFetch, Restored, eraftpb};
use machine::config::TopicConfig;
use machine::{groups, metadata};
use model::{BrokerId, ErrorCode, GroupId, LogEntry, ReplicaId};
use serde::Serialize;
use storage::{JournalWrite, Manifest, SegmentEntry, SegmentSummary};

use super::admin::AdminAsk;
use super::answer::{Answer, Refusal};
use super::checkpoint::GroupMark;
use super::filling::{Install, Installed, SnapshotIn};
use super::ledger::LedgerBreach;
use super::membership::{Departed, Placement};
use super::spec::{GroupKind, GroupSpec};
use crate::budget::Charge;

/// One batch on its way into a partition.
pub struct ProduceInput<R> {
    /// Validated (`machine::records::validate`); stamped in place when nobody else holds it.
    pub batch: Bytes,
    /// The batch's share of the memory budget: tied to its bytes once they are stamped, given
    /// back when the last holder of them lets go.
    pub charge: Option<Charge>,
    /// 0, 1 or -1 (all).
    pub acks: i16,
    /// `None` with acks=0.
    pub reply: Option<R>,
    /// Boot time at which the shard takes it from its inbox, nanoseconds; set there.
    pub arrived_ns: u64,
    /// When the requester stops waiting, boot nanoseconds.
    pub deadline_ns: u64,
}

/// Everything that can happen to a shard.
pub enum Input<R> {
    /// One wheel slot's groups tick.
    Tick {
        slot: u64,
    },
    /// Messages of one envelope from one broker.
    Raft {
        from: BrokerId,
        items: Vec<RaftIn>,
    },
    Produce {
        group: GroupId,
        request: ProduceInput<R>,
    },
    /// A read that must not be stale: answered with the state at or after its arrival.
    Guard {
        group: GroupId,
        deadline_ns: u64,
        reply: R,
    },
    /// A request to a coordinator of consumer groups.
    Coordinate {
        group: GroupId,
        request: Box<groups::Request>,
        /// At least as new as the one the request was made with.
        image: Arc<metadata::Image>,
        reply: R,
    },
    /// Metadata moved: its newest image.
    Image {
        image: Arc<metadata::Image>,
    },
    /// An operator's question; see [`AdminAsk`].
    Admin {
        group: GroupId,
        ask: AdminAsk,
        deadline_ns: u64,
        reply: R,
    },
    /// A command for the metadata group.
    Metadata {
        request: metadata::Request,
        reply: R,
    },
    /// These Readys, and all before them in their group, are durable.
    /// `written_ns`: boot time at which the last of them was written, before its sync.
    Durable {
        done: Vec<(GroupId, u64)>,
        written_ns: u64,
    },
    /// The segment thread made entries readable.
    Readable {
        group: GroupId,
        index: u64,
        start_index: u64,
        segments: Option<Vec<SegmentSummary>>,
    },
    /// Older entries for a lagging follower.
    Entries {
        group: GroupId,
        fetch: u64,
        entries: Result<Vec<LogEntry>, ()>,
    },
    /// What a [`SegmentWork::Manifest`] became, for raft to offer. `None`: nothing, or it is no
    /// longer kept.
    Offer {
        group: GroupId,
        offer: Option<Box<eraftpb::Snapshot>>,
    },
    /// A peer fetches what was offered.
    SnapshotRead {
        group: GroupId,
        peer: ReplicaId,
        from: BrokerId,
    },
    /// A peer gave its transfer up.
    SnapshotFailed {
        group: GroupId,
        peer: ReplicaId,
        from: BrokerId,
    },
    /// All that a [`SnapshotIn`] names is here and synced, in a home of its own.
    Fetched {
        group: GroupId,
        sender: ReplicaId,
        message: Box<eraftpb::Message>,
        manifest: Box<Manifest>,
        /// Answered when it is installed, or refused.
        reply: R,
    },
    /// The checkpoint that names a snapshot's segments is synced.
    Installed {
        group: GroupId,
        news: Installed,
    },
    PeerConnected {
        broker: BrokerId,
    },
    PeerDisconnected {
        broker: BrokerId,
    },
    PeerDied {
        broker: BrokerId,
    },
    /// A peer takes no leadership, or takes it again.
    PeerDraining {
        broker: BrokerId,
        draining: bool,
    },
    Create {
        spec: Box<GroupSpec>,
    },
    Remove {
        group: GroupId,
    },
    Configure {
        group: GroupId,
        config: Box<TopicConfig>,
    },
    /// Where metadata wants a group's replicas.
    Place {
        group: GroupId,
        placement: Box<Placement>,
    },
    /// Of a group that belongs here nothing is left, and it may have made promises: it is not
    /// formed anew, and the journal says so.
    KeepOut {
        group: GroupId,
    },
    /// Take leaderships again after a [`Input::HandOver`].
    Undrain,
    /// Emit a mark of every group changed since the last one.
    Checkpoint {
        id: u64,
    },
    /// Hand every leadership over (shutdown, drain); new ones are handed on as well.
    HandOver,
    /// The disk is too full for new records (or has room again).
    DiskFull {
        full: bool,
    },
    /// The journal no longer trusts a group's log.
    Distrust {
        group: GroupId,
    },
    /// A group that panicked, as the journal has it; `Err` says why it cannot be read.
    Rebuild {
        group: GroupId,
        log: Result<Box<Restored>, String>,
    },
    #[cfg(test)]
    Panic {
        group: GroupId,
    },
}

/// One raft message as it arrives.
pub struct RaftIn {
    pub group: GroupId,
    pub from: ReplicaId,
    pub to: ReplicaId,
    pub message: eraftpb::Message,
}

/// One raft message as it leaves.
#[derive(Debug)]
pub struct RaftOut {
    pub broker: BrokerId,
    pub group: GroupId,
    pub from: ReplicaId,
    pub to: ReplicaId,
    pub message: eraftpb::Message,
}

/// Work for the segment thread, in order per group.
#[derive(Debug)]
pub enum SegmentWork {
    Append {
        group: GroupId,
        entries: Vec<SegmentEntry>,
    },
    LogStart {
        group: GroupId,
        offset: i64,
    },
    SegmentBytes {
        group: GroupId,
        bytes: u64,
    },
    /// The group's state as of exactly the entries sent before.
    Mark {
        checkpoint: u64,
        mark: Box<GroupMark>,
    },
    /// All marks of this checkpoint from this shard were sent.
    Marked {
        checkpoint: u64,
        shard: usize,
    },
    /// A snapshot is wanted, of exactly the entries sent before.
    Manifest {
        mark: Box<GroupMark>,
    },
    /// A fetched snapshot takes the place of the group's segments. Answered with
    /// [`Input::Installed`].
    Install {
        install: Box<Install>,
    },
    Delete {
        group: GroupId,
    },
}

/// What readers of a partition see after this turn.
#[derive(Debug, Default)]
pub struct ViewUpdate {
    pub group: GroupId,
    /// The term this replica serves as Kafka leader, if it does.
    pub serving: Option<u64>,
    pub term: u64,
    pub high_watermark: i64,
    pub log_start: i64,
    /// Newly committed batches: (base offset, last offset, bytes).
    pub batches: Vec<(i64, i64, Bytes)>,
    /// In-sync brokers, only from a serving leader and only when they changed.
    pub isr: Option<Vec<BrokerId>>,
    /// Records, and bytes of batches, that producers brought and that are committed since the
    /// update before.
    pub took: (u64, u64),
    pub status: Option<Box<MemberStatus>>,
}

/// One group for people: what `/debug/groups` shows. Copied out at most once a second.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MemberStatus {
    pub name: String,
    pub replica: u64,
    pub role: &'static str,
    pub term: u64,
    pub leader: Option<u64>,
    pub serving: bool,
    pub commit: u64,
    pub applied: u64,
    pub last_index: u64,
    /// Highest index acknowledged to a producer here, and the highest on this broker's disk.
    pub acked: u64,
    pub durable: u64,
    /// The highest index that a majority is known to have on its disks, as a leader knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum_durable: Option<u64>,
    /// In-sync replicas, as published; only of a group that serves here.
    pub isr: usize,
    pub replicas: usize,
    pub min_insync_replicas: usize,
    /// False: the metadata group.
    pub partition: bool,
    /// Entries the slowest member lacks, as a leader knows.
    pub peer_lag: u64,
    pub next_offset: i64,
    pub log_start: i64,
    pub suspect: bool,
    pub held: Option<String>,
    pub pending: usize,
    pub queued: usize,
    pub lease_remaining_ms: Option<u64>,
    /// The membership as applied; `outgoing` is not empty in a joint state.
    pub voters: Vec<u64>,
    pub outgoing: Vec<u64>,
    pub learners: Vec<u64>,
    /// To a leader: followers that answer and do not get what they lack.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub starved: Vec<StarvedView>,
    /// Replicas metadata wants, the preferred first.
    pub target: Vec<u64>,
    /// The election it stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptView>,
}

/// A follower that answers its leader, lacks what is committed, and does not grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StarvedView {
    pub broker: i32,
    pub replica: u64,
    pub ms: u64,
    pub why: &'static str,
}

/// An election of a group that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptView {
    pub reason: &'static str,
    pub ms: u64,
    pub rounds: u32,
    /// Replica and answer, of this round.
    pub ballots: Vec<(u64, &'static str)>,
}

impl From<consensus::AttemptStatus> for AttemptView {
    fn from(attempt: consensus::AttemptStatus) -> AttemptView {
        let ballots = attempt.ballots.iter().map(|b| (b.voter.0, b.answer.as_str()));
        AttemptView {
            reason: attempt.reason.as_str(),
            ms: attempt.ms,
            rounds: attempt.rounds,
            ballots: ballots.collect(),
        }
    }
}

/// What a machine that is held met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldWhy {
    Panicked,
    /// The entry contradicts its state; a [`machine::ApplyError`]'s name.
    Refused(&'static str),
}

/// Observations of the shard itself; those of consensus are carried along.
#[derive(Debug)]
pub enum Event {
    Consensus {
        group: GroupId,
        kind: GroupKind,
        event: consensus::Event,
    },
    Serving {
        group: GroupId,
        term: u64,
    },
    StoppedServing {
        group: GroupId,
        term: u64,
    },
    Applied {
        group: GroupId,
        entries: usize,
        /// Index of the last of them.
        last: u64,
    },
    Committed {
        group: GroupId,
        batches: u64,
        records: u64,
        bytes: u64,
        propose_to_commit_ns: u64,
    },
    /// A coordinator's groups moved.
    Group {
        observed: groups::lead::Observed,
    },
    /// The machine does not take an entry: it is held, raft goes on.
    Held {
        group: GroupId,
        index: u64,
        what: HeldWhy,
        why: String,
    },
    /// The group's numbers contradict each other.
    LedgerBroken {
        group: GroupId,
        breach: LedgerBreach,
        durable: u64,
        committed: u64,
        applied: u64,
    },
    /// Something panicked inside one group.
    Quarantined {
        group: GroupId,
        why: String,
    },
    /// It panicked, and serves again.
    Rebuilt {
        group: GroupId,
    },
    /// A leader takes a step towards the placement; closed labels.
    MembershipStep {
        group: GroupId,
        kind: &'static str,
        outcome: &'static str,
    },
    UnknownGroup {
        group: GroupId,
    },
    /// A producer was told yes for an entry that is neither committed nor durable here.
    AckedBeyondDurable {
        group: GroupId,
        index: u64,
        durable: u64,
    },
    /// A batch that was in the log already: its producer is answered as the first time.
    Duplicate {
        group: GroupId,
    },
    ProposalDropped {
        group: GroupId,
        why: &'static str,
    },
}

/// Everything a turn wants done, in the order of the seam.
pub struct Out<R> {
    pub events: Vec<Event>,
    pub journal: Vec<JournalWrite>,
    pub views: Vec<ViewUpdate>,
    pub peers: Vec<RaftOut>,
    pub replies: Vec<(R, Answer)>,
    pub segments: Vec<SegmentWork>,
    pub fetches: Vec<(GroupId, EntryFetch)>,
    /// Groups that panicked and may be rebuilt: to be answered with [`Input::Rebuild`].
    pub rebuilds: Vec<GroupId>,
    /// Snapshots that leaders named: to be fetched.
    pub snapshots: Vec<SnapshotIn>,
    /// Groups whose offered snapshot nobody needs any more.
    pub offers_done: Vec<GroupId>,
    /// Who left a group, for metadata to know.
    pub departed: Vec<Departed>,
    /// A newer metadata image, if one was applied.
    pub image: Option<Arc<metadata::Image>>,
}

impl<R> Default for Out<R> {
    fn default() -> Self {
        Out {
            events: Vec::new(),
            journal: Vec::new(),
            views: Vec::new(),
            peers: Vec::new(),
            replies: Vec::new(),
            segments: Vec::new(),
            fetches: Vec::new(),
            rebuilds: Vec::new(),
            snapshots: Vec::new(),
            offers_done: Vec::new(),
            departed: Vec::new(),
            image: None,
        }
    }
}

impl<R> Out<R> {
    pub(crate) fn refuse(&mut self, reply: Option<R>, code: ErrorCode, why: impl Into<String>) {
        if let Some(reply) = reply {
            self.replies.push((reply, Answer::Refused(Refusal { code, why: why.into() })));
        }
    }
}
