//! When to try a peer again, and when its silence is proven to be death. Pure: told what
//! happened and when, it answers how long to wait.
//!
//! Invariant: `died` needs an established link that closed, followed by a refused connection;
//! time-outs and unreachable machines never prove it. A kernel closes the sockets of a killed
//! process one by one, so for a short while after the link closed anything but a refusal is
//! asked again at once.

use model::limits;

/// How an attempt or a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// ECONNREFUSED: nobody listens on that port of that machine.
    Refused,
    /// Closed by the other side, or in the middle.
    Closed,
    /// No answer in time, no route, no such name.
    Silent,
    /// Answered, with a no.
    Rejected,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub wait_ms: u64,
    /// The peer's process was just found to be gone. Said once per death.
    pub died: bool,
}

/// One peer's history, as far as it matters for the next attempt.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// An established link closed at this time and no new one stands yet.
    lost_at_ms: Option<u64>,
    dead: bool,
    failures: u32,
    /// Spreads attempts of brokers that fail together.
    seed: u64,
}

impl Evidence {
    pub fn new(seed: u64) -> Evidence {
        Evidence { seed, ..Default::default() }
    }

    /// A link stands.
    pub fn connected(&mut self) {
        self.lost_at_ms = None;
        self.dead = false;
    }

    /// An established link ended. `stood_ms`: how long it stood.
    pub fn lost(&mut self, now_ms: u64, stood_ms: u64, why: Failure) -> Next {
        if stood_ms >= limits::PEER_BACKOFF_MS_MAX {
            self.failures = 0;
        }
        if why == Failure::Rejected {
            return self.backoff();
        }
        self.lost_at_ms = Some(now_ms);
        Next { wait_ms: 0, died: false }
    }

    /// An attempt failed.
    pub fn failed(&mut self, now_ms: u64, why: Failure) -> Next {
        match (why, self.lost_at_ms) {
            (Failure::Refused, Some(_)) => {
                let died = !std::mem::replace(&mut self.dead, true);
                Next { wait_ms: limits::PEER_DEAD_RETRY_MS, died }
            }
            (Failure::Closed, Some(lost_at_ms))
                if now_ms < lost_at_ms + limits::PEER_EVIDENCE_WINDOW_MS =>
            {
                Next { wait_ms: limits::PEER_EVIDENCE_RETRY_MS, died: false }
            }
            _ => self.backoff(),
        }
    }

    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// 50 ms doubling to 1 s, of which the upper half is drawn by lot.
    fn backoff(&mut self) -> Next {
        let doubled = limits::PEER_BACKOFF_MS_MIN << self.failures.min(16);
        let whole = doubled.min(limits::PEER_BACKOFF_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        self.seed = mix(self.seed);
        Next { wait_ms: whole / 2 + self.seed % (whole / 2 + 1), died: false }
    }
}

/// One step of splitmix64 (Steele, Lea, Flood 2014).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_was_never_up_is_absent_not_dead() {
        let mut peer = Evidence::new(1);
        for _ in 0..10 {
            assert!(!peer.failed(0, Failure::Refused).died);
        }
    }

    #[test]
    fn closed_then_refused_is_death_said_once_until_the_peer_is_back() {
        let mut peer = Evidence::new(1);
        peer.connected();
        assert_eq!(peer.lost(100, 5, Failure::Closed), Next { wait_ms: 0, died: false });
        // Its listener still stood for a moment.
        let again = peer.failed(101, Failure::Closed);
        assert_eq!(again, Next { wait_ms: limits::PEER_EVIDENCE_RETRY_MS, died: false });
        let dead = Next { wait_ms: limits::PEER_DEAD_RETRY_MS, died: true };
        assert_eq!(peer.failed(107, Failure::Refused), dead);
        assert_eq!(peer.failed(208, Failure::Refused), Next { died: false, ..dead });
        assert!(peer.is_dead());
        peer.connected();
        assert!(!peer.is_dead());
        peer.lost(900, 5, Failure::Closed);
        assert!(peer.failed(901, Failure::Refused).died, "a second death is news");
    }

    #[test]
    fn silence_and_refusal_by_word_are_not_death() {
        let mut peer = Evidence::new(1);
        peer.connected();
        peer.lost(100, 5_000, Failure::Silent);
        assert!(!peer.failed(1_100, Failure::Silent).died);
        assert!(!peer.failed(2_100, Failure::Closed).died);
        peer.connected();
        assert!(peer.lost(3_000, 1, Failure::Rejected).wait_ms > 0, "no spinning");
        assert!(!peer.failed(3_100, Failure::Refused).died, "it said no: it is alive");
    }

    #[test]
    fn backoff_doubles_to_its_cap_and_is_spread() {
        let mut peers: Vec<_> = (0..50).map(Evidence::new).collect();
        for attempt in 0..12 {
            let whole = (50u64 << attempt).min(1_000);
            let waits: Vec<_> =
                peers.iter_mut().map(|p| p.failed(0, Failure::Silent).wait_ms).collect();
            assert!(waits.iter().all(|w| (whole / 2..=whole).contains(w)), "{waits:?}");
            assert!(waits.iter().min() < waits.iter().max(), "{waits:?}");
        }
    }
}
