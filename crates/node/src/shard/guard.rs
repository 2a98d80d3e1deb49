//! Guarded reads: an answer that is not older than its question (raft thesis 6.4).
//!
//! A read takes `committed` on arrival, waits until the machine has applied it, and is answered
//! under a lease that is checked *after* the read; without a lease a ReadIndex round vouches.

use model::{ErrorCode, Now};

use super::Out;
use super::answer::{Answer, Guarded};
use super::member::{Member, Waiting};

impl<R> Member<R> {
    pub(super) fn guard(&mut self, deadline_ns: u64, reply: R, out: &mut Out<R>) {
        if self.lead.is_none() {
            let why = "another broker leads, or an election runs";
            return out.refuse(Some(reply), ErrorCode::NotLeaderOrFollower, why);
        }
        if self.waiting.len() >= super::QUEUE_MAX {
            let why = "too many reads wait for this partition";
            return out.refuse(Some(reply), ErrorCode::ThrottlingQuotaExceeded, why);
        }
        let index = self.group.commit_index();
        self.waiting.push(Waiting { index, deadline_ns, confirmed: false, round: None, reply });
    }

    /// At most one ReadIndex round per turn, for all reads that have none yet.
    pub(super) fn ask_round(&mut self, now: Now) {
        let leased = self.group.lease_remaining_ms(now).is_some();
        let asked = self.waiting.iter().any(|w| !w.confirmed && w.round.is_none());
        if leased || !(asked || self.coordinating.wants_round()) {
            return;
        }
        self.next_round += 1;
        let round = self.next_round;
        self.coordinating.ask(round);
        for waiting in self.waiting.iter_mut().filter(|w| !w.confirmed && w.round.is_none()) {
            waiting.round = Some(round);
        }
        self.group.read_index(round);
    }

    pub(super) fn answer_waiting(&mut self, now: Now, out: &mut Out<R>) {
        let (Some(lead), false) = (&self.lead, self.waiting.is_empty()) else { return };
        let guarded = Guarded {
            high_watermark: self.published,
            log_start: self.machine.log_start(),
            leader_epoch: lead.term as i32,
            prefix: self.machine.prefix(),
        };
        let applied = self.group.applied_index();
        let leased = self.group.lease_remaining_ms(now).is_some();
        let mut left = Vec::new();
        for waiting in self.waiting.drain(..) {
            if waiting.index <= applied && (leased || waiting.confirmed) {
                out.replies.push((waiting.reply, Answer::Guarded(guarded)));
            } else {
                left.push(waiting);
            }
        }
        self.waiting = left;
    }

    pub(super) fn expire_waiting(&mut self, now: Now, out: &mut Out<R>) {
        if !self.waiting.iter().any(|w| w.deadline_ns <= now.boot_ns) {
            return;
        }
        let (late, left): (Vec<_>, Vec<_>) =
            self.waiting.drain(..).partition(|w| w.deadline_ns <= now.boot_ns);
        self.waiting = left;
        for waiting in late {
            // Nobody vouched for this leader in time: there may be a newer one.
            let why = "neither lease nor quorum within the deadline";
            out.refuse(Some(waiting.reply), ErrorCode::NotLeaderOrFollower, why);
        }
    }
}
