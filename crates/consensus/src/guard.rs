//! What a message from a peer must look like before raft may see it.
//!
//! raft-rs answers some messages that no correct peer sends with a panic, forwards others
//! silently, and trusts `from`. Each refusal here has a name. Nothing is refused for being old or
//! duplicated: raft handles that.

use raft::eraftpb::{Message, MessageType};

use crate::event::{RefusedMessage, Role};
use crate::members::Members;

/// What the verdict depends on.
pub(crate) struct Facts<'a> {
    pub me: u64,
    pub term: u64,
    pub role: Role,
    pub leader: Option<u64>,
    pub last_index: u64,
    pub members: &'a Members,
    pub suspect: bool,
    pub held: bool,
    pub promise_lapsed: bool,
    /// Length of the context of a ReadIndex request.
    pub read_context_len: usize,
}

/// Refuses what raft must not see.
pub(crate) fn check(facts: &Facts<'_>, from: u64, msg: &Message) -> Result<(), RefusedMessage> {
    use MessageType::*;
    if msg.from != from || from == facts.me || from == 0 {
        return Err(RefusedMessage::WrongSender);
    }
    if msg.to != facts.me {
        return Err(RefusedMessage::WrongReceiver);
    }
    let kind = msg.get_msg_type();
    let member = facts.members.is_member(from);
    match kind {
        MsgHup | MsgBeat | MsgUnreachable | MsgSnapStatus | MsgCheckQuorum | MsgPropose
        | MsgTransferLeader => return Err(RefusedMessage::LocalKind),
        // Judged apart (`check_snapshot`): it is held back from raft until its contents are there.
        MsgSnapshot => return Err(RefusedMessage::Snapshot),
        // A leader or candidate may be a member that a lagging replica does not know yet.
        MsgAppend | MsgHeartbeat | MsgRequestVote | MsgRequestPreVote => {}
        _ if !member => return Err(RefusedMessage::UnknownSender),
        _ => {}
    }
    // Term 0 would pass as a local message; only a forwarded ReadIndex carries none.
    if (msg.term == 0) != (kind == MsgReadIndex) {
        return Err(RefusedMessage::Malformed);
    }
    match kind {
        MsgAppend => well_formed_append(msg),
        MsgHeartbeat => match msg.term >= facts.term && msg.commit > facts.last_index {
            true => Err(RefusedMessage::CommitBeyondLog),
            false => Ok(()),
        },
        MsgAppendResponse => append_response(facts, msg),
        MsgRequestVote | MsgRequestPreVote => vote(facts, msg),
        MsgTimeoutNow => timeout_now(facts, from, msg),
        MsgReadIndex if facts.role != Role::Leader => Err(RefusedMessage::NotLeader),
        MsgReadIndex if !read_request(facts, msg) => Err(RefusedMessage::Malformed),
        _ => Ok(()),
    }
}

/// A snapshot's metadata, before anything is fetched for it.
pub(crate) fn check_snapshot(
    facts: &Facts<'_>,
    from: u64,
    msg: &Message,
) -> Result<(), RefusedMessage> {
    if msg.from != from || from == facts.me || from == 0 {
        return Err(RefusedMessage::WrongSender);
    }
    if msg.to != facts.me {
        return Err(RefusedMessage::WrongReceiver);
    }
    let metadata = msg.get_snapshot().get_metadata();
    let state = metadata.get_conf_state();
    let members = Members::new(state);
    let named = metadata.index > 0 && metadata.term > 0 && metadata.term <= msg.term;
    let usual = !state.auto_leave && members.voters.len() <= model::limits::GROUP_VOTERS_MAX;
    // Whoever leads in our own term is us.
    let led = facts.role == Role::Leader && msg.term == facts.term;
    match named && usual && members.is_member(facts.me) && !led {
        true => Ok(()),
        false => Err(RefusedMessage::Malformed),
    }
}

/// Contiguous entries of terms that never fall and never exceed the sender's, behind a known
/// position. `log_term` 0 behind index 0 only: raft takes "no term" for a match and then commits
/// beyond an empty log (raft_log.rs:125).
fn well_formed_append(msg: &Message) -> Result<(), RefusedMessage> {
    let mut ok = (msg.log_term == 0) == (msg.index == 0) && msg.request_snapshot == 0;
    let (mut index, mut term) = (msg.index, msg.log_term);
    for entry in msg.entries.iter() {
        index = index.saturating_add(1);
        ok &= entry.index == index && entry.term >= term && entry.term != 0;
        term = entry.term;
    }
    if ok && term <= msg.term { Ok(()) } else { Err(RefusedMessage::Malformed) }
}

fn append_response(facts: &Facts<'_>, msg: &Message) -> Result<(), RefusedMessage> {
    if msg.request_snapshot != 0 {
        return Err(RefusedMessage::Snapshot);
    }
    let ours = facts.role == Role::Leader && msg.term == facts.term;
    match ours && !msg.reject && msg.index > facts.last_index {
        true => Err(RefusedMessage::AckBeyondLog),
        false => Ok(()),
    }
}

fn vote(facts: &Facts<'_>, msg: &Message) -> Result<(), RefusedMessage> {
    // The leader itself asked for this election: it holds no lease any more.
    let handed_over = msg.get_msg_type() == MessageType::MsgRequestVote
        && msg.context.as_ref() == raft::CAMPAIGN_TRANSFER;
    if facts.suspect {
        Err(RefusedMessage::Suspect)
    } else if !facts.promise_lapsed && !handed_over {
        Err(RefusedMessage::VotePromise)
    } else {
        Ok(())
    }
}

fn timeout_now(facts: &Facts<'_>, from: u64, msg: &Message) -> Result<(), RefusedMessage> {
    let stale = msg.term < facts.term;
    let from_leader = msg.term > facts.term || facts.leader == Some(from);
    match facts.suspect || facts.held || (!stale && !from_leader) {
        true => Err(RefusedMessage::TimeoutNow),
        false => Ok(()),
    }
}

fn read_request(facts: &Facts<'_>, msg: &Message) -> bool {
    msg.entries.len() == 1 && msg.entries[0].data.len() == facts.read_context_len
}

/// raft's name of a message type, as a label.
pub(crate) fn kind_str(kind: MessageType) -> &'static str {
    use MessageType::*;
    match kind {
        MsgHup => "MsgHup",
        MsgBeat => "MsgBeat",
        MsgPropose => "MsgPropose",
        MsgAppend => "MsgAppend",
        MsgAppendResponse => "MsgAppendResponse",
        MsgRequestVote => "MsgRequestVote",
        MsgRequestVoteResponse => "MsgRequestVoteResponse",
        MsgSnapshot => "MsgSnapshot",
        MsgHeartbeat => "MsgHeartbeat",
        MsgHeartbeatResponse => "MsgHeartbeatResponse",
        MsgUnreachable => "MsgUnreachable",
        MsgSnapStatus => "MsgSnapStatus",
        MsgCheckQuorum => "MsgCheckQuorum",
        MsgTransferLeader => "MsgTransferLeader",
        MsgTimeoutNow => "MsgTimeoutNow",
        MsgReadIndex => "MsgReadIndex",
        MsgReadIndexResp => "MsgReadIndexResp",
        MsgRequestPreVote => "MsgRequestPreVote",
        MsgRequestPreVoteResponse => "MsgRequestPreVoteResponse",
    }
}
