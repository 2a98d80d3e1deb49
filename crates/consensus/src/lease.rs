//! The leader's lease and the voters' promise it rests on (raft thesis 6.4.1, on a clock).
//!
//! Every MsgHeartbeat carries a trailer behind raft's own context: this life's incarnation, the
//! term, and CLOCK_BOOTTIME at the start of the turn that sent it. Followers echo the context
//! unread. A lease runs `lease_ms` from the quorum-th newest echo; a voter that answered a
//! heartbeat neither votes nor campaigns for `vote_promise_ms`, which is longer. The stamp is
//! taken before the heartbeat leaves and the promise begins after it arrived, so an older lease
//! ends before a newer leader can exist, as long as clock *rates* differ by less than the gap.
//!
//! Invariants: time of receipt never enters a lease; once MsgTimeoutNow was in a Ready there is
//! no lease for the rest of the term, because a delayed one may still depose us.

use bytes::{Bytes, BytesMut};
use model::limits;

use crate::members::Members;

/// Trailer: incarnation, term, boot time in ns, each u64 little-endian.
pub(crate) const TRAILER_LEN: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub incarnation: u64,
    pub term: u64,
    pub boot_ns: u64,
}

impl Stamp {
    /// `context` with the trailer behind it.
    pub fn append_to(self, context: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(context.len() + TRAILER_LEN);
        out.extend_from_slice(context);
        for word in [self.incarnation, self.term, self.boot_ns] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.freeze()
    }

    /// Cuts the trailer off, leaving exactly the context raft sent: ReadIndex compares it whole
    /// (raft.rs:1853). `None`: too short to carry one; the context stays as it is.
    pub fn cut_from(context: &mut Bytes) -> Option<Stamp> {
        let at = context.len().checked_sub(TRAILER_LEN)?;
        let trailer = context.split_off(at);
        let word = |from: usize| {
            let bytes = trailer[from..from + 8].try_into();
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        Some(Stamp { incarnation: word(0), term: word(8), boot_ns: word(16) })
    }
}

/// A leader's side of the contract, for one term at a time.
#[derive(Debug)]
pub(crate) struct Lease {
    incarnation: u64,
    lease_ns: u64,
    term: u64,
    /// Newest echoed stamp per voter.
    echoes: Vec<(u64, u64)>,
    /// MsgTimeoutNow was in a Ready of this term.
    handed_over: bool,
}

impl Lease {
    pub fn new(incarnation: u64, lease_ms: u64) -> Lease {
        Lease {
            incarnation,
            lease_ns: lease_ms * 1_000_000,
            term: 0,
            echoes: Vec::new(),
            handed_over: false,
        }
    }

    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// A new term began, here or elsewhere: nothing heard before counts.
    pub fn begin(&mut self, term: u64) {
        if term != self.term {
            self.term = term;
            self.handed_over = false;
            self.echoes.clear();
        }
    }

    pub fn hand_over(&mut self) {
        self.handed_over = true;
    }

    pub fn handed_over(&self) -> bool {
        self.handed_over
    }

    /// This life and term made it.
    pub fn is_own(&self, stamp: Stamp) -> bool {
        stamp.incarnation == self.incarnation && stamp.term == self.term
    }

    /// False: the echo of another life or term, which counts for nothing.
    pub fn echo(&mut self, from: u64, stamp: Stamp) -> bool {
        if !self.is_own(stamp) {
            return false;
        }
        match self.echoes.iter_mut().find(|(id, _)| *id == from) {
            Some((_, newest)) => *newest = stamp.boot_ns.max(*newest),
            None => self.echoes.push((from, stamp.boot_ns)),
        }
        true
    }

    /// Boot time at which the lease ends; `u64::MAX` for a group whose only voter is `me`;
    /// `None` while no quorum has echoed. In a joint state both halves must have. The own vote
    /// counts as `now_ns`.
    pub fn expires_ns(&self, me: u64, now_ns: u64, members: &Members) -> Option<u64> {
        if self.handed_over {
            return None;
        }
        let newest = self.quorum_echo(me, now_ns, &members.voters)?;
        let newest = match members.outgoing.is_empty() {
            true => newest,
            false => newest.min(self.quorum_echo(me, now_ns, &members.outgoing)?),
        };
        Some(newest.saturating_add(self.lease_ns))
    }

    fn quorum_echo(&self, me: u64, now_ns: u64, voters: &[u64]) -> Option<u64> {
        if voters == [me] {
            return Some(u64::MAX);
        }
        let stamp_of = |id: &u64| match *id == me {
            true => Some(now_ns),
            false => self.echoes.iter().find(|(from, _)| from == id).map(|(_, ns)| *ns),
        };
        // On the stack: this runs for every message.
        let mut stamps = [0; limits::GROUP_VOTERS_MAX];
        let mut heard = 0;
        for (slot, stamp) in stamps.iter_mut().zip(voters.iter().filter_map(stamp_of)) {
            *slot = stamp;
            heard += 1;
        }
        stamps[..heard].sort_unstable_by(|a, b| b.cmp(a));
        stamps[..heard].get(voters.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(voters: &[u64], outgoing: &[u64]) -> Members {
        let (voters, outgoing) = (voters.to_vec(), outgoing.to_vec());
        Members { voters, outgoing, learners: vec![] }
    }

    #[test]
    fn the_trailer_leaves_the_read_context_as_raft_sent_it() {
        let stamp = Stamp { incarnation: 7, term: 3, boot_ns: 99 };
        for context in [&b""[..], b"read", &[0; 24]] {
            let mut echoed = stamp.append_to(context);
            assert_eq!(Stamp::cut_from(&mut echoed), Some(stamp));
            assert_eq!(echoed, context);
        }
        let mut short = Bytes::from_static(b"short");
        assert_eq!(Stamp::cut_from(&mut short), None);
        assert_eq!(short, b"short"[..]);
    }

    #[test]
    fn a_lease_runs_from_the_quorum_th_newest_echo_of_this_life_and_term() {
        let ms = |ms: u64| ms * 1_000_000;
        let mut lease = Lease::new(7, 450);
        lease.begin(3);
        let three = members(&[1, 2, 3], &[]);
        assert_eq!(lease.expires_ns(1, ms(1000), &three), None);
        lease.echo(2, Stamp { incarnation: 8, term: 3, boot_ns: ms(900) });
        lease.echo(2, Stamp { incarnation: 7, term: 2, boot_ns: ms(900) });
        assert_eq!(lease.expires_ns(1, ms(1000), &three), None);
        lease.echo(2, Stamp { incarnation: 7, term: 3, boot_ns: ms(900) });
        lease.echo(2, Stamp { incarnation: 7, term: 3, boot_ns: ms(800) });
        lease.echo(3, Stamp { incarnation: 7, term: 3, boot_ns: ms(700) });
        assert_eq!(lease.expires_ns(1, ms(1000), &three), Some(ms(1350)));
        // Joint: the older of both halves; a stranger's echo helps neither.
        let joint = members(&[1, 2, 3], &[1, 3, 4]);
        assert_eq!(lease.expires_ns(1, ms(1000), &joint), Some(ms(1150)));
        assert_eq!(lease.expires_ns(1, ms(1000), &members(&[1, 4, 5], &[])), None);
        assert_eq!(lease.expires_ns(1, ms(1000), &members(&[1], &[])), Some(u64::MAX));
        lease.hand_over();
        assert_eq!(lease.expires_ns(1, ms(1000), &three), None);
        lease.begin(4);
        assert_eq!((lease.handed_over(), lease.expires_ns(1, ms(1000), &three)), (false, None));
    }
}
