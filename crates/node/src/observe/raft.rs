//! What raft did: elections, roles, leases, conflicts, members, transfers.

use consensus::VoteAnswer;
use consensus::eraftpb::{Message, MessageType};
use model::GroupId;
use telemetry::flight::{self, DumpReason, kinds};
use telemetry::labels::{
    Direction, ElectionOutcome, ElectionReason, GroupKind as KindLabel, Invariant,
    LeaderChangeReason, LogEvent, MessageRefusal, MessageType as MessageLabel, RaftRole,
    SnapshotOutcome, SuspectReason,
};
use telemetry::{log_limited, metrics};

use super::violated;
use crate::shard::GroupKind;

pub(super) fn consensus_event(group: GroupId, kind: GroupKind, event: &consensus::Event) {
    use consensus::Event as E;
    let kind_label = KindLabel::from_name(kind.as_str()).unwrap_or(KindLabel::Partition);
    let group = group.0;
    match event {
        E::RoleChanged { to, term, reason, .. } => {
            let role = RaftRole::from_name(to.as_str()).unwrap_or(RaftRole::Follower);
            metrics().raft_role_changes_total.at(role).inc();
            let why = LeaderChangeReason::from_name(reason.as_str());
            let why = why.unwrap_or(LeaderChangeReason::Other);
            metrics().raft_leader_changes_total.at(kind_label, why).inc();
            kinds::role_changed(group, *term, role, why);
            let (to, reason) = (to.as_str(), reason.as_str());
            log_limited!(info, LogEvent::LeaderChanged, group, to, term, reason, "role changed");
        }
        E::LeaderChanged { .. } | E::HardStateClamped { .. } | E::JointLeaveProposed { .. } => {}
        E::ElectionStarted { term, reason, ms_since_leader } => {
            let label = ElectionReason::from_name(reason.as_str()).unwrap_or(ElectionReason::Other);
            metrics().raft_elections_total.at(kind_label, label).inc();
            kinds::election_started(group, *ms_since_leader, *term, label);
            flight::dump(DumpReason::Election);
            let reason = reason.as_str();
            log_limited!(
                info,
                LogEvent::ElectionStarted,
                group,
                term,
                reason,
                ms_since_leader,
                "election"
            );
        }
        // Told with its post-mortem.
        E::ElectionEnded { term, outcome, ballots, ms, .. } => {
            let label =
                ElectionOutcome::from_name(outcome.as_str()).unwrap_or(ElectionOutcome::Other);
            metrics().raft_elections_ended_total.at(label).inc();
            let count = |told: fn(VoteAnswer) -> bool| {
                ballots.iter().filter(|ballot| told(ballot.answer)).count() as u16
            };
            let votes = count(|answer| answer == VoteAnswer::Granted);
            let refusals =
                count(|answer| !matches!(answer, VoteAnswer::Granted | VoteAnswer::Silent));
            kinds::election_ended(group, *ms, *term, votes, refusals, label);
            metrics().raft_election_seconds.observe(ms * 1_000_000);
        }
        E::LogTruncated { from, removed, term } => {
            kinds::log_truncated(group, *from, *removed, *term);
            metrics().raft_log_conflicts_total.inc();
            metrics().raft_log_truncated_entries_total.add(*removed);
            log_limited!(
                warn,
                LogEvent::LogTruncated,
                group,
                from,
                removed,
                term,
                "conflicting entries replaced"
            );
        }
        E::Suspected { why, commit, last_index } => {
            let label = SuspectReason::from_name(why.as_str()).unwrap_or(SuspectReason::Other);
            kinds::suspected(group, *commit, *last_index, label);
            metrics().groups_suspected_total.at(label).inc();
            if label == SuspectReason::CommitBeyondLog {
                violated(group, Invariant::CommitBeyondLog);
            }
            let why = why.as_str();
            log_limited!(
                error,
                LogEvent::GroupSuspect,
                group,
                why,
                commit,
                last_index,
                "replica is suspect: it neither votes nor leads"
            );
        }
        E::LeaseAcquired { .. } => {}
        E::LeaseExpired { term } => {
            kinds::lease_expired(group, *term);
            metrics().lease_expiries_total.inc();
            telemetry::tracing::debug!(group, term, "lease expired");
        }
        E::MessageRefused { from, kind, why } => {
            let label = MessageRefusal::from_name(why.as_str()).unwrap_or(MessageRefusal::Other);
            metrics().raft_messages_refused_total.at(label).inc();
            kinds::message_refused(group, from.0, label);
            let (from, why) = (from.0, why.as_str());
            telemetry::tracing::debug!(group, from, kind, why, "message refused");
        }
        E::TransferStarted { term, to } => {
            kinds::transfer(group, to.0, *term);
            telemetry::tracing::debug!(group, to = to.0, "handing leadership over");
        }
        E::SnapshotNeeded { peer, first_index } => {
            metrics().raft_snapshots_needed_total.inc();
            log_limited!(
                error,
                LogEvent::SnapshotNeeded,
                group,
                peer = peer.0,
                first_index,
                "a follower is behind the log start"
            );
        }
        E::SnapshotSent { peer, index } => {
            metrics().raft_snapshots_total.at(Direction::Sent, SnapshotOutcome::Begun).inc();
            let peer = peer.0;
            kinds::snapshot_sent(group, *index, peer);
            log_limited!(info, LogEvent::Snapshot, group, peer, index, "sends a snapshot");
        }
        E::SnapshotEnded { peer, outcome } => {
            let outcome = outcome.as_str();
            let label = SnapshotOutcome::from_name(outcome).unwrap_or(SnapshotOutcome::Failed);
            metrics().raft_snapshots_total.at(Direction::Sent, label).inc();
            let peer = peer.0;
            log_limited!(info, LogEvent::Snapshot, group, peer, outcome, "snapshot for a follower");
        }
        E::SnapshotRestored { index, term } => {
            kinds::snapshot_restored(group, *index, *term);
            log_limited!(info, LogEvent::Snapshot, group, index, term, "installs a snapshot");
        }
        E::SnapshotIgnored { index } => {
            metrics().raft_snapshots_total.at(Direction::Received, SnapshotOutcome::Ignored).inc();
            telemetry::tracing::debug!(group, index, "snapshot not needed");
        }
        E::MembershipChanged { index, voters, learners, .. } => {
            kinds::membership(group, *index, *voters as u16, *learners as u16);
            log_limited!(
                info,
                LogEvent::MembershipChanged,
                group,
                index,
                voters,
                learners,
                "membership changed"
            );
        }
        E::FollowerDisagrees { peer, what, index, matched } => {
            let label = Invariant::from_name(&format!("follower_{}", what.as_str()));
            let label = label.unwrap_or(Invariant::Other);
            violated(group, label);
            let (peer, what) = (peer.0, what.as_str());
            log_limited!(
                error,
                LogEvent::FollowerDisagrees,
                group,
                replica = peer,
                what,
                index,
                matched,
                "a follower's log is not what it acknowledged"
            );
        }
        E::InvariantViolated { invariant } => {
            let label = Invariant::from_name(invariant.as_str()).unwrap_or(Invariant::Other);
            violated(group, label);
            let invariant = invariant.as_str();
            log_limited!(
                error,
                LogEvent::InvariantViolated,
                group,
                invariant,
                "invariant violated"
            );
        }
    }
}

/// The catalogue's name of a raft message.
pub fn message_label(message: &Message) -> MessageLabel {
    match message.get_msg_type() {
        MessageType::MsgAppend if message.entries.is_empty() => MessageLabel::AppendEmpty,
        MessageType::MsgAppend => MessageLabel::Append,
        MessageType::MsgAppendResponse => MessageLabel::AppendResponse,
        MessageType::MsgHeartbeat => MessageLabel::Heartbeat,
        MessageType::MsgHeartbeatResponse => MessageLabel::HeartbeatResponse,
        MessageType::MsgRequestPreVote => MessageLabel::PreVote,
        MessageType::MsgRequestPreVoteResponse => MessageLabel::PreVoteResponse,
        MessageType::MsgRequestVote => MessageLabel::Vote,
        MessageType::MsgRequestVoteResponse => MessageLabel::VoteResponse,
        MessageType::MsgTimeoutNow => MessageLabel::TimeoutNow,
        MessageType::MsgSnapshot => MessageLabel::Snapshot,
        MessageType::MsgReadIndex => MessageLabel::ReadIndex,
        MessageType::MsgReadIndexResp => MessageLabel::ReadIndexResponse,
        _ => MessageLabel::Other,
    }
}
