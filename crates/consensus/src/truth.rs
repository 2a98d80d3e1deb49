//! The truth check: what a follower says of its own log, compared with what its leader believes.
//!
//! A follower's answer to a heartbeat carries, in fields that raft leaves empty there, the last
//! index and term of its log and the rolling checksum that the machine's last entry at or below it
//! was stamped with. A leader holds that against raft's Progress and its own log. So a follower
//! that acknowledged and forgot, or that holds other bytes, is named by the leader at the next
//! heartbeat: before raft panics on it, and before a consumer could read from it.
//!
//! Invariants: nothing here changes what raft does; an answer counts against a follower only if
//! the heartbeat it answers left after the acknowledgement it contradicts had arrived, so answers
//! that were overtaken accuse nobody; what one follower is accused of is told once a term.

use model::{LogEntry, Now, ReplicaId};
use raft::ProgressState;
use raft::eraftpb::{Entry, Message, MessageType};

use crate::event::{Disagreement, Event, RefusedMessage, Role, Starvation};
use crate::group::Group;
use crate::lease::Stamp;

/// How a follower is seen to starve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starved {
    pub replica: ReplicaId,
    /// Since its log last grew, while it lacked what is committed.
    pub ms: u64,
    pub why: Starvation,
}

/// What a replica says of its own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub last_index: u64,
    /// 0: an older broker's answer, which has the index only.
    pub last_term: u64,
    pub stamp: Option<u32>,
    /// When the heartbeat it answers left, the leader's boot time; 0: not known.
    pub sent_ns: u64,
}

/// Marks a stamp in the 64 bits that carry it.
const STAMPED: u64 = 1 << 32;

impl Report {
    pub fn write_to(self, answer: &mut Message) {
        answer.index = self.last_index;
        answer.log_term = self.last_term;
        answer.reject_hint = self.stamp.map_or(0, |stamp| STAMPED | u64::from(stamp));
    }

    /// `sent_ns`: from the stamp that the answer echoes.
    pub fn of(answer: &Message, sent_ns: u64) -> Report {
        let hint = answer.reject_hint;
        Report {
            last_index: answer.index,
            last_term: answer.log_term,
            stamp: (hint & STAMPED != 0).then_some(hint as u32),
            sent_ns,
        }
    }
}

/// The rolling checksum an entry was stamped with; raft's own entries have none.
pub(crate) fn stamp_of(entry: &Entry) -> Option<u32> {
    let stamp = entry.context.get(1..LogEntry::CONTEXT_LEN)?;
    Some(u32::from_le_bytes(stamp.try_into().ok()?))
}

/// A heartbeat that commits what this replica forgot is withheld from raft, and so never answered.
/// Its leader is told aside: the answer says no, and raft there does not see it either.
pub(crate) fn forgot(own: Report, heartbeat: &Message, why: RefusedMessage) -> Option<Message> {
    if why != RefusedMessage::CommitBeyondLog {
        return None;
    }
    let mut answer = Message {
        to: heartbeat.from,
        from: heartbeat.to,
        term: heartbeat.term,
        reject: true,
        context: heartbeat.context.clone(),
        ..Message::default()
    };
    answer.set_msg_type(MessageType::MsgHeartbeatResponse);
    own.write_to(&mut answer);
    Some(answer)
}

/// A follower that lacks something and does not grow is said to starve after this long.
const STARVED_MS_MIN: u64 = 1_000;
/// Who was not heard of for this long is gone, which is another matter.
const SILENT_MS: u64 = 2_000;

impl Group {
    /// For an answer to a heartbeat.
    pub(crate) fn own_report(&self) -> Report {
        let log = &self.raw.raft.raft_log;
        let last_index = log.last_index();
        let last_term = log.term(last_index).unwrap_or(0);
        Report { last_index, last_term, stamp: self.checksum_at(last_index, last_term), sent_ns: 0 }
    }

    /// The rolling checksum of the log up to this entry. `None` also while raft has replaced it,
    /// and the view not yet: until the next Ready what is there is of another term.
    fn checksum_at(&self, index: u64, term: u64) -> Option<u32> {
        let view = self.raw.store();
        if view.term_of(index) == Some(term) { view.stamp_at(index) } else { None }
    }

    /// What [`forgot`] tells a leader.
    pub(crate) fn hear_aside(&mut self, now: Now, answer: &mut Message) {
        let stamp = Stamp::cut_from(&mut answer.context);
        let sent_ns = stamp.filter(|stamp| self.lease.is_own(*stamp)).map_or(0, |s| s.boot_ns);
        if self.role() == Role::Leader && answer.term == self.term() {
            self.check_truth(now, answer.from, Report::of(answer, sent_ns));
        }
    }

    /// A leader hears what a follower says of itself.
    pub(crate) fn check_truth(&mut self, now: Now, from: u64, report: Report) {
        let commit = self.commit_index();
        let (log, index) = (&self.raw.raft.raft_log, report.last_index);
        let own_term = if index <= log.last_index() { log.term(index).unwrap_or(0) } else { 0 };
        let own_stamp = self.checksum_at(index, own_term);
        let peer = self.peers.entry(from);
        if peer.reported_last != Some(index) || index >= commit {
            peer.grew_ns = now.boot_ns;
        }
        peer.reported_last = Some(index);
        let fresh = report.sent_ns > peer.matched_ns;
        let what = if fresh && index < peer.matched {
            Disagreement::Forgot
        } else if report.last_term == 0 || own_term == 0 {
            return;
        } else if fresh && index == peer.matched && report.last_term != own_term {
            Disagreement::OtherTerm
        } else if report.last_term == own_term
            && let (Some(theirs), Some(own)) = (report.stamp, own_stamp)
            && theirs != own
        {
            Disagreement::OtherContent
        } else {
            return;
        };
        if peer.disagrees.replace(what) != Some(what) {
            let (peer, matched) = (ReplicaId(from), peer.matched);
            self.events.push(Event::FollowerDisagrees { peer, what, index, matched });
        }
    }

    /// Followers that answer, lack what is committed, and whose logs do not grow. Empty unless
    /// leading.
    pub fn starved(&self, now: Now) -> Vec<Starved> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        let (me, commit) = (self.cfg.replica.0, self.commit_index());
        let mut all: Vec<Starved> = self
            .raw
            .raft
            .prs()
            .iter()
            .filter(|(id, _)| **id != me)
            .filter_map(|(id, progress)| {
                let peer = self.peers.get(*id)?;
                let reported = peer.reported_last?;
                let ms = now.ms_since(peer.grew_ns);
                let heard = now.ms_since(peer.contact_ns) < SILENT_MS;
                if reported >= commit || ms < STARVED_MS_MIN || !heard {
                    return None;
                }
                let why = match progress.state {
                    ProgressState::Snapshot => Starvation::Snapshot,
                    _ if reported < progress.matched => Starvation::Forgot,
                    _ if progress.next_idx > reported + 1 => Starvation::NextIndexPastLast,
                    _ if progress.is_paused() => Starvation::Paused,
                    _ => Starvation::Lagging,
                };
                Some(Starved { replica: ReplicaId(*id), ms, why })
            })
            .collect();
        all.sort_unstable_by_key(|starved| starved.replica);
        all
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::{EntryKind, PrefixChecksum};

    use super::*;
    use crate::harness::World;

    #[test]
    fn a_report_travels_in_fields_that_raft_leaves_empty() {
        let report = Report { last_index: 7, last_term: 3, stamp: Some(0), sent_ns: 5 };
        let mut answer = Message::default();
        report.write_to(&mut answer);
        assert_eq!(Report::of(&answer, 5), report);
        let older = Message { index: 9, ..Message::default() };
        assert_eq!(Report::of(&older, 0), Report { last_index: 9, ..Report::default() });
    }

    #[test]
    fn an_entry_of_raft_has_no_stamp_and_one_of_the_machine_has() {
        let context = LogEntry::encode_context(EntryKind::Batch, PrefixChecksum(0xdead_beef));
        assert_eq!(stamp_of(&Entry { context, ..Entry::default() }), Some(0xdead_beef));
        assert_eq!(stamp_of(&Entry::default()), None);
        let short = Entry { context: Bytes::from_static(&[1, 2]), ..Entry::default() };
        assert_eq!(stamp_of(&short), None);
    }

    /// What a leader of three says of the others when their answers are changed on the way.
    fn accused(tamper: fn(&mut Message)) -> String {
        let mut world = World::new(3, 1);
        (1..=3).for_each(|id| world.start(id, true));
        world.run_ms(300);
        for n in 0..5 {
            let context = LogEntry::encode_context(EntryKind::Batch, PrefixChecksum(n));
            world.propose_in(1, context, "x").expect("it leads");
        }
        world.run_ms(300);
        world.tamper = tamper;
        world.run_ms(1_000);
        let said = |line: &&String| line.contains(" says n");
        world.log.iter().filter(said).cloned().collect::<Vec<_>>().join("; ")
    }

    fn answers_heartbeat(msg: &Message) -> bool {
        msg.get_msg_type() == MessageType::MsgHeartbeatResponse && msg.from == 2
    }

    #[test]
    fn a_follower_that_is_what_it_acknowledged_is_not_accused() {
        assert_eq!(accused(|_| ()), "");
        // Says less: an older broker.
        let older = |msg: &mut Message| {
            if answers_heartbeat(msg) {
                (msg.log_term, msg.reject_hint) = (0, 0);
            }
        };
        assert_eq!(accused(older), "");
    }

    #[test]
    fn whoever_forgot_or_holds_something_else_is_named_once() {
        let forgot = accused(|msg| {
            if answers_heartbeat(msg) {
                msg.index = 3;
            }
        });
        assert!(forgot.ends_with("n1 says n2 forgot: it ends at 3, acknowledged 6"), "{forgot}");
        let other = accused(|msg| {
            if answers_heartbeat(msg) {
                msg.log_term += 1;
            }
        });
        assert!(other.ends_with("n1 says n2 other_term: it ends at 6, acknowledged 6"), "{other}");
        let content = accused(|msg| {
            if answers_heartbeat(msg) {
                msg.reject_hint ^= 8;
            }
        });
        let named = "n1 says n2 other_content: it ends at 6, acknowledged 6";
        assert!(content.ends_with(named), "{content}");
        for said in [forgot, other, content] {
            assert_eq!(said.matches(" says ").count(), 1, "{said}");
        }
    }

    #[test]
    fn an_entry_that_is_being_replaced_lends_its_checksum_to_nobody() {
        let mut world = World::formed(3, 1);
        let group = world.group(2);
        let (index, log_term, term) = (group.last_index(), group.term(), group.term());
        let append = |from, term, stamp| {
            let context = LogEntry::encode_context(EntryKind::Batch, PrefixChecksum(stamp));
            let entry = Entry { term, index: index + 1, context, ..Entry::default() };
            let mut msg =
                Message { from, to: 2, term, index, log_term, commit: 0, ..Message::default() };
            msg.set_msg_type(MessageType::MsgAppend);
            msg.mut_entries().push(entry);
            msg
        };
        let mut reports = Vec::new();
        let first = append(1, term, 7);
        world.turn(2, |group, now, _| group.receive(now, ReplicaId(1), first));
        let second = append(3, term + 1, 8);
        world.turn(2, |group, now, _| {
            reports.push(group.own_report());
            group.receive(now, ReplicaId(3), second);
            reports.push(group.own_report());
        });
        reports.push(world.group(2).own_report());
        let told: Vec<_> = reports.iter().map(|r| (r.last_term - term, r.stamp)).collect();
        assert_eq!(told, [(0, Some(7)), (1, None), (1, Some(8))]);
    }

    #[test]
    fn an_answer_to_nobody_knows_which_heartbeat_accuses_nobody() {
        let late = accused(|msg| {
            if answers_heartbeat(msg) {
                (msg.index, msg.reject_hint) = (3, 0);
                msg.context = Bytes::new();
            }
        });
        assert_eq!(late, "");
    }
}
