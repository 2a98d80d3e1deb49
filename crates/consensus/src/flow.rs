//! Bytes in flight to each follower, bounded by closing raft's message window.
//!
//! raft-rs bounds appends in flight by count. A leader adds up their bytes as they leave; above
//! `limits::INFLIGHT_APPEND_BYTES_MAX` the window of that peer is closed until acknowledgements
//! brought it to half.
//!
//! A full window whose appends were lost silently would be worked off by raft-rs one slot per
//! heartbeat response: 19 s for 128. Followers report how long their log is; one that lacks what
//! was sent and gains nothing for two heartbeats is probed anew.

use model::{Now, limits};
use raft::ProgressState;
use raft::eraftpb::{Message, MessageType};

use crate::event::Role;
use crate::group::Group;

impl Group {
    /// A leader's messages leave.
    pub(crate) fn count_flight(&mut self, messages: &[Message]) {
        for msg in messages.iter().filter(|m| m.get_msg_type() == MessageType::MsgAppend) {
            let Some(last) = msg.entries.last() else { continue };
            let bytes = msg.entries.iter().map(|e| (e.data.len() + e.context.len()) as u64).sum();
            let (to, last) = (msg.to, last.index);
            let flight = &mut self.peers.entry(to).flight;
            flight.sent(last, bytes);
            if flight.bytes > limits::INFLIGHT_APPEND_BYTES_MAX && !flight.closed {
                flight.closed = true;
                self.raw.raft.adjust_max_inflight_msgs(to, 1);
            }
        }
    }

    /// An acknowledgement up to `index` is about to be stepped.
    pub(crate) fn make_room(&mut self, from: u64, index: u64) {
        if self.role() == Role::Leader {
            self.peers.entry(from).flight.acknowledged(index);
            self.maybe_open(from);
        }
    }

    /// After a response of a follower whose log ends at `reported`, if it said so.
    pub(crate) fn check_flight(&mut self, now: Now, from: u64, reported: Option<u64>) {
        let Some(progress) = self.raw.raft.prs().get(from) else { return };
        let flight = &mut self.peers.entry(from).flight;
        if progress.state != ProgressState::Replicate {
            // Raft forgot what was in flight.
            flight.forget();
            return self.maybe_open(from);
        }
        let all_arrived = |reported: u64| reported + 1 >= progress.next_idx;
        if !progress.is_paused() || reported.is_some_and(all_arrived) {
            flight.stalled = None;
            return;
        }
        let Some(reported) = reported else { return };
        let state = (progress.matched, reported);
        let patience_ms = 2 * self.cfg.timing.heartbeat_ticks as u64 * self.cfg.timing.tick_ms;
        match flight.stalled {
            Some((seen, since_ns)) if seen == state => {
                if now.ms_since(since_ns) >= patience_ms {
                    flight.forget();
                    self.maybe_open(from);
                    self.raw.report_unreachable(from);
                }
            }
            _ => flight.stalled = Some((state, now.boot_ns)),
        }
    }

    fn maybe_open(&mut self, peer: u64) {
        let flight = &mut self.peers.entry(peer).flight;
        if flight.closed && flight.bytes <= limits::INFLIGHT_APPEND_BYTES_MAX / 2 {
            flight.closed = false;
            self.raw.raft.adjust_max_inflight_msgs(peer, limits::INFLIGHT_APPENDS_MAX);
        }
    }

    /// Windows belong to a term of leadership.
    pub(crate) fn open_windows(&mut self) {
        for peer in self.peers.closed_windows() {
            self.raw.raft.adjust_max_inflight_msgs(peer, limits::INFLIGHT_APPENDS_MAX);
        }
    }
}
