//! What voters answer, with their reasons: a refusal carries why in raft's unused context, and a
//! voter that would say nothing (a promise, a leader it hears, a suspect log) says so aside.
//!
//! Invariant: raft decides exactly as it would without. An answer given aside never reaches the
//! candidate's raft: it neither ends a round nor counts as a refusal.

use model::ReplicaId;
use raft::eraftpb::{Message, MessageType};

use crate::event::{Ballot, RefusedMessage, VoteAnswer};
use crate::group::Group;
use crate::members::Members;

/// Answers of one round, by voter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ballots(Vec<(u64, VoteAnswer)>);

impl Ballots {
    /// The latest answer of a voter counts; one given aside never replaces another.
    pub fn note(&mut self, voter: u64, answer: VoteAnswer) {
        match self.0.iter_mut().find(|(known, _)| *known == voter) {
            Some((_, known)) if is_aside(*known) || !is_aside(answer) => *known = answer,
            Some(_) => {}
            None => self.0.push((voter, answer)),
        }
    }

    /// Voters that refused so that raft knows.
    pub fn refusals(&self) -> usize {
        self.0.iter().filter(|(_, a)| *a != VoteAnswer::Granted && !is_aside(*a)).count()
    }

    /// One for each voter; the candidate votes for itself.
    pub fn of(&self, members: &Members, me: u64) -> Vec<Ballot> {
        let answer = |voter: u64| match self.0.iter().find(|(known, _)| *known == voter) {
            _ if voter == me => VoteAnswer::Granted,
            Some((_, answer)) => *answer,
            None => VoteAnswer::Silent,
        };
        let ballot = |voter| Ballot { voter: ReplicaId(voter), answer: answer(voter) };
        members.all_voters().map(ballot).collect()
    }
}

/// Raft hears nothing of these: the voter keeps silent towards it.
pub(crate) fn is_aside(answer: VoteAnswer) -> bool {
    matches!(answer, VoteAnswer::LeaderKnown | VoteAnswer::VotePromise | VoteAnswer::Suspect)
}

/// What a vote's answer says.
pub(crate) fn answer_of(msg: &Message) -> VoteAnswer {
    if !msg.reject {
        return VoteAnswer::Granted;
    }
    let told = match msg.context.as_ref() {
        [code] => VoteAnswer::ALL.get(usize::from(*code)).copied(),
        _ => None,
    };
    let reason = |answer: &VoteAnswer| !matches!(answer, VoteAnswer::Granted | VoteAnswer::Silent);
    told.filter(reason).unwrap_or(VoteAnswer::Refused)
}

fn code(answer: VoteAnswer) -> Vec<u8> {
    vec![answer as u8]
}

fn response_to(kind: MessageType) -> Option<MessageType> {
    match kind {
        MessageType::MsgRequestVote => Some(MessageType::MsgRequestVoteResponse),
        MessageType::MsgRequestPreVote => Some(MessageType::MsgRequestPreVoteResponse),
        _ => None,
    }
}

/// What is said aside to a candidate whose wish raft never saw, or ignores.
fn aside(wish: &Wish, me: u64, answer: VoteAnswer) -> Message {
    let mut message = Message {
        to: wish.from,
        from: me,
        // The term the candidate asked for, which it knows.
        term: wish.term,
        reject: true,
        context: code(answer).into(),
        ..Message::default()
    };
    message.set_msg_type(wish.response);
    message
}

/// The answer to a vote's request that was refused before raft saw it.
pub(crate) fn refusal(msg: &Message, why: RefusedMessage) -> Option<Message> {
    let answer = match why {
        RefusedMessage::VotePromise => VoteAnswer::VotePromise,
        RefusedMessage::Suspect => VoteAnswer::Suspect,
        _ => return None,
    };
    Some(aside(&Wish::of(msg)?, msg.to, answer))
}

/// A candidate's request.
pub(crate) struct Wish {
    from: u64,
    term: u64,
    index: u64,
    log_term: u64,
    response: MessageType,
}

impl Wish {
    pub fn of(msg: &Message) -> Option<Wish> {
        let response = response_to(msg.get_msg_type())?;
        let Message { from, term, index, log_term, .. } = *msg;
        Some(Wish { from, term, index, log_term, response })
    }
}

impl Group {
    /// Raft has seen the wish: its refusal, behind the first `sent` messages, is told with the
    /// reason; where it said nothing because it hears from a leader, that is said aside.
    pub(crate) fn say_why_not(&mut self, wish: &Wish, sent: usize) {
        let last_index = self.last_index();
        let last_term = self.term_of(last_index).unwrap_or(0);
        let raft = &mut self.raw.raft;
        let (me, term) = (raft.id, raft.term);
        let behind = (wish.log_term, wish.index) < (last_term, last_index);
        let answer = match term > wish.term {
            true => VoteAnswer::LaterTerm,
            false if behind => VoteAnswer::LogBehind,
            false => VoteAnswer::AlreadyVoted,
        };
        let response = |m: &&mut Message| m.to == wish.from && m.get_msg_type() == wish.response;
        match raft.msgs.iter_mut().skip(sent).find(response) {
            Some(found) if found.reject => found.context = code(answer).into(),
            Some(_) => {}
            None if term < wish.term => {
                self.answers.push(aside(wish, me, VoteAnswer::LeaderKnown));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_crosses_and_foreign_bytes_are_a_plain_refusal() {
        let mut message = Message { reject: true, ..Message::default() };
        for answer in VoteAnswer::ALL {
            message.context = code(*answer).into();
            let expected = match answer {
                VoteAnswer::Granted | VoteAnswer::Silent => VoteAnswer::Refused,
                reason => *reason,
            };
            assert_eq!(answer_of(&message), expected);
        }
        for foreign in [&[][..], &[99], &[1, 1], &[255]] {
            message.context = foreign.to_vec().into();
            assert_eq!(answer_of(&message), VoteAnswer::Refused);
        }
        message.reject = false;
        assert_eq!(answer_of(&message), VoteAnswer::Granted);
    }

    #[test]
    fn what_is_said_aside_counts_for_readers_only() {
        let mut ballots = Ballots::default();
        ballots.note(2, VoteAnswer::VotePromise);
        ballots.note(3, VoteAnswer::LogBehind);
        ballots.note(3, VoteAnswer::Suspect);
        assert_eq!(ballots.refusals(), 1);
        ballots.note(2, VoteAnswer::Granted);
        let members = Members { voters: vec![1, 2, 3, 4], ..Default::default() };
        let answers: Vec<_> = ballots.of(&members, 1).iter().map(|b| b.answer.as_str()).collect();
        assert_eq!(answers, ["granted", "granted", "log_behind", "silent"]);
    }
}
