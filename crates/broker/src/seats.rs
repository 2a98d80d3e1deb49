//! Room for connections: `max.connections` of the broker and `max.connections.per.ip`.
//!
//! Invariants: a seat is given back when its connection is gone, however it ended; an address
//! without a connection takes no memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use telemetry::Lock;
use telemetry::labels::{ConnectionOutcome, LockClass};
use tokio::sync::Notify;

/// All seats of a broker.
pub(crate) struct Seats {
    max_per_ip: usize,
    taken: AtomicUsize,
    by_ip: Lock<HashMap<IpAddr, usize>>,
    left: Notify,
}

/// One connection's seat.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    ip: IpAddr,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("max.connections is {0}")]
    Broker(usize),
    #[error("max.connections.per.ip is {0}")]
    Ip(usize),
}

impl Full {
    pub fn outcome(self) -> ConnectionOutcome {
        match self {
            Full::Broker(_) => ConnectionOutcome::RefusedLimit,
            Full::Ip(_) => ConnectionOutcome::RefusedIpLimit,
        }
    }
}

impl Seats {
    pub fn new(max_per_ip: usize) -> Seats {
        let by_ip = Lock::new(LockClass::Connections, HashMap::new());
        Seats { max_per_ip, taken: AtomicUsize::new(0), by_ip, left: Notify::new() }
    }

    /// A seat, if fewer than `max` are taken; `max.connections` may change at any time.
    pub fn take(self: &Arc<Self>, ip: IpAddr, max: usize) -> Result<Seat, Full> {
        {
            let mut by_ip = self.by_ip.lock();
            let of_ip = by_ip.get(&ip).copied().unwrap_or(0);
            if of_ip >= self.max_per_ip {
                return Err(Full::Ip(self.max_per_ip));
            }
            by_ip.insert(ip, of_ip + 1);
        }
        let seat = Seat { seats: Arc::clone(self), ip };
        // On the way out the seat is given back.
        let fits = self.taken.fetch_add(1, Ordering::AcqRel) < max;
        if fits { Ok(seat) } else { Err(Full::Broker(max)) }
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Returns once every seat was given back.
    pub async fn empty(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.taken() == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        {
            let mut by_ip = self.seats.by_ip.lock();
            match by_ip.get_mut(&self.ip) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(by_ip.remove(&self.ip)),
            }
        }
        if self.seats.taken.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.seats.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn seats_are_limited_and_given_back() {
        let seats = Arc::new(Seats::new(5));
        let first = seats.take(HERE, 1);
        assert!(first.is_ok());
        assert_eq!(seats.take(THERE, 1).err(), Some(Full::Broker(1)));
        drop(first);
        assert!(seats.take(THERE, 1).is_ok());
        assert_eq!((seats.taken(), seats.by_ip.lock().len()), (0, 0));
    }

    #[test]
    fn one_address_may_not_take_all() {
        let seats = Arc::new(Seats::new(2));
        let held = [seats.take(HERE, 10), seats.take(HERE, 10)];
        assert_eq!(seats.take(HERE, 10).err(), Some(Full::Ip(2)));
        assert!(seats.take(THERE, 10).is_ok());
        drop(held);
        assert!(seats.take(HERE, 10).is_ok());
        assert_eq!((seats.taken(), seats.by_ip.lock().len()), (0, 0));
    }
}
