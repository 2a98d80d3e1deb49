//! What a leader knows about its followers beyond raft's Progress: when each was last caught up
//! (Kafka's `lastCaughtUpTimeMs`, KIP-16), what it says its own log ends with, and whether it
//! has fallen behind the log start.
//!
//! Invariants: held for one term of leadership only; driven by messages, never by a clock.

use std::collections::VecDeque;

use model::Now;

use crate::event::Disagreement;

#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    pub id: u64,
    /// Boot time at which the peer had everything the leader had; 0: not in this term.
    pub caught_up_ns: u64,
    /// Boot time of the last append or heartbeat response.
    pub contact_ns: u64,
    /// The leader's last index at that contact.
    end_at_contact: u64,
    /// Last index the peer reported for its own log.
    pub reported_last: Option<u64>,
    /// Boot time at which that last moved, or was all that is committed.
    pub grew_ns: u64,
    /// Highest index it acknowledged, and the boot time at which that was heard.
    pub matched: u64,
    pub matched_ns: u64,
    /// What it was accused of last.
    pub disagrees: Option<Disagreement>,
    pub snapshot_needed: bool,
    /// Leadership was to go to it, in this term.
    pub asked_to_lead: bool,
    /// Boot time of the last sign of life of a snapshot's transfer; 0: none is under way.
    pub snapshot_sign_ns: u64,
    pub flight: Flight,
}

/// Appends on their way to a peer, by their last index. raft-rs counts messages only; large
/// batches to a slow peer would pile up unseen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flight {
    sent: VecDeque<(u64, u64)>,
    pub bytes: u64,
    /// raft's window was closed because of the bytes.
    pub closed: bool,
    /// ((matched, reported last index), since when) while the window is full.
    pub stalled: Option<((u64, u64), u64)>,
}

impl Flight {
    pub fn sent(&mut self, last_index: u64, bytes: u64) {
        self.sent.push_back((last_index, bytes));
        self.bytes += bytes;
    }

    pub fn acknowledged(&mut self, index: u64) {
        while let Some((_, bytes)) = self.sent.pop_front_if(|(last, _)| *last <= index) {
            self.bytes -= bytes;
        }
    }

    /// The peer is probed anew: raft forgot what was in flight.
    pub fn forget(&mut self) {
        self.sent.clear();
        self.bytes = 0;
        self.stalled = None;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: Vec<Peer>,
}

impl Peers {
    pub fn clear(&mut self) {
        self.peers.clear();
    }

    pub fn get(&self, id: u64) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    pub fn awaiting_snapshot(&self) -> Vec<u64> {
        let awaiting = self.peers.iter().filter(|peer| peer.snapshot_sign_ns > 0);
        awaiting.map(|peer| peer.id).collect()
    }

    pub fn closed_windows(&self) -> Vec<u64> {
        self.peers.iter().filter(|peer| peer.flight.closed).map(|peer| peer.id).collect()
    }

    pub fn entry(&mut self, id: u64) -> &mut Peer {
        let at = self.peers.iter().position(|peer| peer.id == id).unwrap_or_else(|| {
            self.peers.push(Peer { id, ..Peer::default() });
            self.peers.len() - 1
        });
        &mut self.peers[at]
    }
}

impl Peer {
    /// The peer answered and has `matched`, while the leader's log ends at `last_index`. Having
    /// everything that existed at the contact before means it was caught up then.
    pub fn contact(&mut self, now: Now, matched: u64, last_index: u64) {
        if matched >= last_index {
            self.caught_up_ns = now.boot_ns;
        } else if self.contact_ns > 0 && matched >= self.end_at_contact {
            self.caught_up_ns = self.caught_up_ns.max(self.contact_ns);
        }
        if matched > self.matched {
            (self.matched, self.matched_ns) = (matched, now.boot_ns);
        }
        self.contact_ns = now.boot_ns;
        self.end_at_contact = last_index;
    }

    /// Caught up at some time within `lag_ms_max`.
    pub fn in_sync(&self, now: Now, lag_ms_max: u64) -> bool {
        self.caught_up_ns > 0 && now.ms_since(self.caught_up_ns) <= lag_ms_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_trails_a_moving_log_stays_in_sync_and_one_that_stops_does_not() {
        let mut peer = Peer::default();
        let at = |ms: u64| Now { boot_ns: ms * 1_000_000, wall_ms: 0 };
        assert!(!peer.in_sync(at(1), 100));
        // Always 10 behind, but it reaches the end seen at the contact before.
        for step in 1..50u64 {
            peer.contact(at(step * 10), step * 10, step * 10 + 10);
        }
        assert!(peer.in_sync(at(500), 100));
        // From here it answers and never gets further.
        for step in 50..70u64 {
            peer.contact(at(step * 10), 490, step * 10 + 10);
        }
        assert!(!peer.in_sync(at(700), 100));
        peer.contact(at(710), 710, 710);
        assert!(peer.in_sync(at(810), 100) && !peer.in_sync(at(811), 100));
    }
}
