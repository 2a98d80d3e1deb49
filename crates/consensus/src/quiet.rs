//! Short ways through the steady state: a broker with thousands of groups spends its idle time
//! on followers that hear their leader and on leaders whose followers have everything.
//!
//! Invariant: a short way does to raft and to the outside what the long way would have done,
//! field by field, and is taken only where the long way would have done nothing else; the tests
//! run random schedules both ways and compare every byte.

use model::{Now, limits};
use raft::eraftpb::{Message, MessageType};
use raft::{INVALID_ID, INVALID_INDEX, ProgressState, StateRole};

use crate::group::Group;
use crate::truth::Report;

impl Group {
    /// Counts a tick of a follower that has a leader and does not time out by it, or of a leader
    /// between two heartbeats or whose next one is `kept_back`. False: the long way must be taken.
    pub(crate) fn tick_quietly(&mut self, now: Now, kept_back: bool) -> bool {
        #[cfg(test)]
        if self.planted.long_way {
            return false;
        }
        let raft = &mut self.raw.raft;
        match raft.state {
            StateRole::Follower
                if raft.leader_id != INVALID_ID
                    && raft.election_elapsed + 1 < raft.randomized_election_timeout()
                    && !self.elections.is_dead(raft.leader_id) =>
            {
                raft.election_elapsed += 1;
            }
            StateRole::Leader if raft.election_elapsed + 1 < raft.election_timeout() => {
                if kept_back {
                    raft.election_elapsed += 1;
                } else if raft.heartbeat_elapsed() + 1 < raft.heartbeat_timeout() {
                    self.raw.tick();
                } else {
                    return false;
                }
                self.watch_snapshots(now);
                self.note_lease(now);
            }
            _ => return false,
        }
        self.last_now = now;
        self.trim_view();
        true
    }

    /// A leader whose log did not move lately and whose members all have it.
    pub(crate) fn is_quiet(&self, now: Now) -> bool {
        let raft = &self.raw.raft;
        let last_index = raft.raft_log.last_index();
        now.ms_since(self.moved_ns) >= limits::QUIET_AFTER_MS
            && raft.raft_log.committed == last_index
            && raft.prs().iter().all(|(_, progress)| progress.matched == last_index)
    }

    /// Takes a message that tells nothing but that its sender lives, lease stamps apart. False:
    /// raft must see it.
    pub(crate) fn receive_quietly(
        &mut self,
        now: Now,
        msg: &mut Message,
        report: Option<Report>,
    ) -> bool {
        #[cfg(test)]
        if self.planted.long_way {
            return false;
        }
        match msg.get_msg_type() {
            MessageType::MsgHeartbeat => self.hear_leader(now, msg),
            MessageType::MsgHeartbeatResponse => self.hear_follower(now, msg, report),
            _ => false,
        }
    }

    /// A heartbeat of the leader that is followed, without news of the commit. Its answer
    /// promises nothing but the term, which is durable: no Ready has to carry it.
    fn hear_leader(&mut self, now: Now, msg: &mut Message) -> bool {
        let report = self.own_report();
        let raft = &mut self.raw.raft;
        let quiet = raft.state == StateRole::Follower
            && msg.term == raft.term
            && msg.from == raft.leader_id
            && msg.commit <= raft.raft_log.committed
            && raft.term == self.durable_term
            && raft.pending_request_snapshot == INVALID_INDEX
            && self.installing.is_none();
        if !quiet {
            return false;
        }
        raft.election_elapsed = 0;
        let mut answer = Message {
            to: msg.from,
            from: raft.id,
            term: raft.term,
            commit: raft.raft_log.committed,
            context: msg.take_context(),
            ..Message::default()
        };
        answer.set_msg_type(MessageType::MsgHeartbeatResponse);
        report.write_to(&mut answer);
        self.answers.push(answer);
        self.last_now = now;
        self.leader_contact_ns = now.boot_ns;
        self.promise(now);
        true
    }

    /// An answer, of a follower that lacks nothing, to a heartbeat that no read rode on.
    fn hear_follower(&mut self, now: Now, msg: &Message, report: Option<Report>) -> bool {
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Leader || msg.term != raft.term || !msg.context.is_empty() {
            return false;
        }
        let last_index = raft.raft_log.last_index();
        let Some(progress) = raft.mut_prs().get_mut(msg.from) else { return false };
        let quiet = progress.state == ProgressState::Replicate
            && progress.matched == last_index
            && progress.pending_request_snapshot == INVALID_INDEX
            && !progress.ins.full();
        if quiet {
            progress.update_committed(msg.commit);
            progress.recent_active = true;
            self.last_now = now;
            self.note_contact(now, msg.from, report);
            self.note_lease(now);
        }
        quiet
    }
}
