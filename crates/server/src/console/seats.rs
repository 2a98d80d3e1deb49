//! Who watches: a bounded number of seats, and how lately each took what it was given.
//!
//! Invariants: atomics only; never more viewers than seats. A viewer that has not taken anything
//! for long (a phone that left its network, whose connection the kernel still believes in) keeps
//! nobody else out: its seat goes to whoever comes, and it learns of that when it wakes.

use std::sync::atomic::{AtomicU64, Ordering};

use model::limits;

/// One seat; owner 0: it is free.
#[derive(Default)]
struct Seat {
    owner: AtomicU64,
    seen_ns: AtomicU64,
}

/// All of them.
#[derive(Default)]
pub struct Seats {
    seats: [Seat; limits::CONSOLE_VIEWERS_MAX],
    last: AtomicU64,
}

/// A place among the viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    seat: usize,
    owner: u64,
}

const IDLE_NS_MAX: u64 = limits::CONSOLE_IDLE_MS_MAX * 1_000_000;

impl Seat {
    fn is_idle(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.seen_ns.load(Ordering::Acquire)) > IDLE_NS_MAX
    }

    fn give(&self, from: u64, to: u64, now_ns: u64) -> bool {
        let given = self.owner.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        if given.is_ok() {
            self.seen_ns.store(now_ns, Ordering::Release);
        }
        given.is_ok()
    }
}

impl Seats {
    /// A free seat, or one whose viewer is gone; `None`: all are taken.
    pub fn take(&self, now_ns: u64) -> Option<Ticket> {
        let owner = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let free = self.seats.iter().position(|seat| seat.give(0, owner, now_ns));
        let left = || {
            self.seats.iter().position(|seat| {
                let before = seat.owner.load(Ordering::Acquire);
                seat.is_idle(now_ns) && seat.give(before, owner, now_ns)
            })
        };
        free.or_else(left).map(|seat| Ticket { seat, owner })
    }

    /// A viewer asks for more; false: its seat was given away.
    pub fn seen(&self, ticket: Ticket, now_ns: u64) -> bool {
        let seat = &self.seats[ticket.seat];
        let own = seat.owner.load(Ordering::Acquire) == ticket.owner;
        if own {
            seat.seen_ns.store(now_ns, Ordering::Release);
        }
        own
    }

    pub fn leave(&self, ticket: Ticket) {
        // Fails if somebody else has it now, which is as good.
        let seat = &self.seats[ticket.seat].owner;
        let _ = seat.compare_exchange(ticket.owner, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether anybody watches who is not gone.
    pub fn is_watched(&self, now_ns: u64) -> bool {
        let taken = |seat: &&Seat| seat.owner.load(Ordering::Acquire) != 0;
        self.seats.iter().filter(taken).any(|seat| !seat.is_idle(now_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_seats_and_one_that_is_left_is_given_again() {
        let seats = Seats::default();
        assert!(!seats.is_watched(1));
        let all: Vec<Ticket> =
            (0..limits::CONSOLE_VIEWERS_MAX).map(|_| seats.take(1).expect("a seat")).collect();
        assert_eq!(seats.take(1), None);
        seats.leave(all[3]);
        let again = seats.take(1).expect("the one that was left");
        assert_eq!(again.seat, all[3].seat);
        // Its first owner leaves a second time, as a stream that is dropped late does.
        seats.leave(all[3]);
        assert!(seats.seen(again, 2) && seats.take(2).is_none());
    }

    #[test]
    fn a_viewer_that_is_gone_keeps_nobody_out() {
        let seats = Seats::default();
        let all: Vec<Ticket> =
            (0..limits::CONSOLE_VIEWERS_MAX).map(|_| seats.take(1).expect("a seat")).collect();
        let later = IDLE_NS_MAX + 2;
        let (gone, here) = (all[0], &all[1..]);
        assert!(here.iter().all(|ticket| seats.seen(*ticket, later)));
        let new = seats.take(later).expect("the seat of the one that is gone");
        assert!(!seats.seen(gone, later) && seats.seen(new, later));
        assert_eq!(seats.take(later), None);
        assert!(!seats.is_watched(2 * later));
    }
}
