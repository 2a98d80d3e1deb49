//! A shard's part in traces: marks of what happened to which entries, written always, and the
//! question with which a leader asks its followers for theirs, once a request turned out to be
//! worth a trace.
//!
//! Invariants: a mark costs a few stores and no clock of its own; the question has one length,
//! its answer goes to the asked broker's own collector and never back; foreign bytes are no
//! question.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use consensus::eraftpb::MessageType;
use model::{GroupId, Now};
use storage::JournalWrite;
use telemetry::trace::{self, Ask, Election, Mark, MarkKind, Marks, SpanRef};

use crate::Node;
use crate::postmortem::Postmortem;
use crate::shard::{Input, RaftOut};

/// What one shard's driver marks with.
pub struct Marker {
    marks: Arc<Marks>,
    /// Of this turn: its begin, and when it had done all but carry out its outputs.
    turn_ns: [u64; 2],
}

impl Default for Marker {
    fn default() -> Self {
        Marker { marks: trace::ring(), turn_ns: [0; 2] }
    }
}

impl Marker {
    /// What is carried out next comes from a turn that began, and was flushed, at these times.
    pub fn turn(&mut self, begun_ns: u64, carry_ns: u64) {
        self.turn_ns = [begun_ns, carry_ns];
    }

    fn mark(&self, kind: MarkKind, at_ns: u64, group: GroupId, index: u64, [a, b]: [u64; 2]) {
        self.marks.mark(Mark { kind, at_ns, group: group.0, index, a, b });
    }

    /// An input is about to be stepped.
    pub fn received<R>(&self, input: &Input<R>, now_ns: u64, now: Now) {
        match input {
            Input::Raft { from, items } => {
                let from = u64::from(from.0.cast_unsigned());
                for item in items {
                    let message = &item.message;
                    match (message.get_msg_type(), message.entries.last()) {
                        (MessageType::MsgAppend, Some(last)) => {
                            let at = last.index;
                            self.mark(MarkKind::Received, now_ns, item.group, at, [from, 0]);
                        }
                        (MessageType::MsgAppendResponse, _) if !message.reject => {
                            let at = message.index;
                            self.mark(MarkKind::Acked, now_ns, item.group, at, [from, 0]);
                        }
                        _ => {}
                    }
                }
            }
            Input::Durable { done, written_ns } => {
                let ago_ns = now.boot_ns.saturating_sub(*written_ns);
                let written_ns = now_ns.saturating_sub(ago_ns);
                for (group, token) in done {
                    self.mark(MarkKind::Durable, now_ns, *group, 0, [*token, written_ns]);
                }
            }
            _ => {}
        }
    }

    /// A write goes to the journal.
    pub fn handed(&self, write: &JournalWrite) {
        let Some(last) = write.entries.last() else { return };
        let [begun_ns, now_ns] = self.turn_ns;
        self.mark(MarkKind::Handed, now_ns, write.group, last.index, [write.token, begun_ns]);
    }

    /// A message leaves.
    pub fn sent(&self, out: &RaftOut) {
        let (message, now_ns) = (&out.message, self.turn_ns[1]);
        let to = u64::from(out.broker.0.cast_unsigned());
        match (message.get_msg_type(), message.entries.last()) {
            (MessageType::MsgAppend, Some(last)) => {
                self.mark(MarkKind::Sent, now_ns, out.group, last.index, [to, 0]);
            }
            (MessageType::MsgAppendResponse, _) if !message.reject => {
                self.mark(MarkKind::Answered, now_ns, out.group, message.index, [to, 0]);
            }
            _ => {}
        }
    }

    /// Entries up to `last` were applied in this turn.
    pub fn applied(&self, group: GroupId, last: u64, entries: usize) {
        let [begun_ns, now_ns] = self.turn_ns;
        self.mark(MarkKind::Applied, now_ns, group, last, [begun_ns, entries as u64]);
    }
}

/// A post-mortem as a span.
pub fn elected(record: &Postmortem) {
    trace::elected(|| Election {
        what: record.what,
        at_ms: record.at_ms,
        ms: record.ms,
        group: record.group,
        name: record.name.clone(),
        reason: record.reason,
        outcome: record.outcome,
        term_before: record.term_before,
        term: record.term,
        ms_since_leader: record.ms_since_leader,
        rounds: record.rounds,
        ballots: record.ballots.iter().map(ballot).collect(),
        says: record.says.clone(),
    });
}

fn ballot(ballot: &crate::postmortem::BallotView) -> String {
    match ballot.broker {
        Some(broker) => format!("broker {broker}: {}", ballot.answer),
        None => format!("replica {}: {}", ballot.replica, ballot.answer),
    }
}

/// Other gossip is JSON and begins with its brace.
const ASK: u8 = 1;
const ASK_BYTES: usize = 1 + 16 + 8 + 8 + 8;

pub fn encode(ask: &Ask) -> Bytes {
    let mut out = BytesMut::with_capacity(ASK_BYTES);
    out.put_u8(ASK);
    out.put_slice(&ask.span.trace);
    out.put_slice(&ask.span.span);
    out.put_u64(ask.group);
    out.put_u64(ask.index);
    out.freeze()
}

/// `None`: it is other gossip, or nothing.
pub fn decode(mut body: &[u8]) -> Option<Ask> {
    if body.len() != ASK_BYTES || body.get_u8() != ASK {
        return None;
    }
    let mut span = SpanRef { trace: [0; 16], span: [0; 8] };
    body.copy_to_slice(&mut span.trace);
    body.copy_to_slice(&mut span.span);
    let (group, index) = (body.get_u64(), body.get_u64());
    let sound = span.trace != [0; 16] && span.span != [0; 8] && index > 0;
    sound.then_some(Ask { span, group, index })
}

impl Node {
    /// Asks every other broker with a replica of the group for its spans of an entry. Lost where
    /// a lane is full or down: then the trace lacks that broker.
    pub fn ask_for_spans(&self, span: SpanRef, group: GroupId, index: u64) {
        let Some(peers) = self.plumbing.peers() else { return };
        let image = self.image();
        let Some((_, partition)) = image.partition_of(group) else { return };
        let body = encode(&Ask { span, group: group.0, index });
        let others = partition.replicas.iter().map(|replica| replica.broker);
        for broker in others.filter(|broker| *broker != self.broker_id()) {
            peers.gossip(broker, body.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leadership;

    #[test]
    fn a_question_crosses_and_other_gossip_is_none() {
        let span = SpanRef { trace: [7; 16], span: [8; 8] };
        let ask = Ask { span, group: 3, index: u64::MAX };
        let body = encode(&ask);
        assert_eq!(decode(&body), Some(ask));
        assert_eq!(leadership::decode(&body), None, "an older broker drops it");
        assert_eq!(decode(&leadership::encode(true, &[])), None);
        for cut in 0..body.len() {
            assert_eq!(decode(&body[..cut]), None);
        }
        let zeroed = |range: std::ops::Range<usize>| {
            let mut bytes = body.to_vec();
            bytes[range].fill(0);
            decode(&bytes)
        };
        assert_eq!([zeroed(0..1), zeroed(1..17), zeroed(17..25), zeroed(33..41)], [None; 4]);
        let longer: Vec<u8> = body.iter().copied().chain([0]).collect();
        assert_eq!(decode(&longer), None);
    }
}
