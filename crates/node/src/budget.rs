//! The one memory budget of a broker: frames, proposals, unstable entries, peer queues and the
//! tail cache are charged here, from the socket until the last reference is gone.
//!
//! Invariants: charges are granted in the order they were asked for, so a connection that waits
//! stops *reading* and no later request overtakes it (refusing one pipelined batch and taking
//! the next would reorder a producer). A charge above the whole limit is granted alone instead
//! of waiting for ever. A reserve that only control traffic may use keeps votes, heartbeats and
//! the requests of operators alive while clients have spent everything else.
//!
//! What waits for a peer is charged by what it holds: a batch's bytes carry their charge from the
//! socket through every queue, so a peer's queue adds none of its own and nothing is counted
//! twice. What a queue holds besides (message heads, gossip, older entries read for a laggard) is
//! bounded apart, in bytes and in messages per lane and peer, and shown as `peer_queue_bytes`: a
//! charge that had to be waited for there could wait for the very follower it is to help.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use model::limits;
use tokio::sync::Semaphore;

/// A cheap handle; clones share one counter.
#[derive(Clone)]
pub struct Budget {
    pools: Arc<Pools>,
}

struct Pools {
    clients: Pool,
    control: Pool,
}

struct Pool {
    limit: usize,
    /// Bytes charged, exactly; above `limit` only while an oversized charge is alone.
    used: AtomicUsize,
    /// One permit per byte; tokio's semaphore is first come, first served.
    permits: Semaphore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Clients,
    Control,
}

/// Bytes of the budget in use by their holder; given back when dropped.
#[must_use = "a dropped charge is given back at once"]
pub struct Charge {
    pools: Arc<Pools>,
    lane: Lane,
    bytes: usize,
    /// At most `bytes`; less only for a charge above the pool's limit.
    permits: usize,
}

impl Budget {
    /// A budget of `limit` bytes, of which [`limits::CONTROL_RESERVE_BYTES`] (at most a quarter)
    /// are kept for control traffic.
    pub fn new(limit: usize) -> Budget {
        assert!(limit > 0, "a budget of nothing admits nothing");
        let reserve = limits::CONTROL_RESERVE_BYTES.min(limit / 4);
        let pools = Pools { clients: Pool::new(limit - reserve), control: Pool::new(reserve) };
        Budget { pools: Arc::new(pools) }
    }

    /// Waits, in order, until `bytes` are free. Cancel-safe: a dropped future gives up its place.
    pub async fn acquire(&self, bytes: usize) -> Charge {
        let permits = self.pools.clients.permits_for(bytes);
        let granted = self.pools.clients.permits.acquire_many(permits).await;
        granted.expect("the budget's semaphore is never closed").forget();
        Charge::granted(&self.pools, Lane::Clients, bytes, permits)
    }

    /// `bytes` if they are free now and nobody waits for them.
    pub fn try_acquire(&self, bytes: usize) -> Option<Charge> {
        self.try_lane(Lane::Clients, bytes)
    }

    /// `bytes` of the control reserve, if they are free now.
    pub fn try_control(&self, bytes: usize) -> Option<Charge> {
        self.try_lane(Lane::Control, bytes)
    }

    /// Bytes charged now, the control reserve's included.
    pub fn used(&self) -> usize {
        self.pools.clients.used.load(Ordering::Relaxed)
            + self.pools.control.used.load(Ordering::Relaxed)
    }

    /// Bytes charged to clients, and how many may be.
    pub fn clients(&self) -> (usize, usize) {
        (self.pools.clients.used.load(Ordering::Relaxed), self.pools.clients.limit)
    }

    /// The same of the control reserve.
    pub fn control(&self) -> (usize, usize) {
        (self.pools.control.used.load(Ordering::Relaxed), self.pools.control.limit)
    }

    /// The whole budget in bytes, the control reserve included.
    pub fn limit(&self) -> usize {
        self.pools.clients.limit + self.pools.control.limit
    }

    fn try_lane(&self, lane: Lane, bytes: usize) -> Option<Charge> {
        let pool = self.pools.of(lane);
        let permits = pool.permits_for(bytes);
        pool.permits.try_acquire_many(permits).ok()?.forget();
        Some(Charge::granted(&self.pools, lane, bytes, permits))
    }
}

impl Charge {
    /// Bytes this charge holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `bytes` off into a charge of their own, e.g. one per batch of a request. Dropping
    /// the part gives them back early.
    pub fn split(&mut self, bytes: usize) -> Charge {
        assert!(bytes <= self.bytes, "split {bytes} of a charge of {}", self.bytes);
        let permits = bytes.min(self.permits);
        self.bytes -= bytes;
        self.permits -= permits;
        Charge { pools: self.pools.clone(), lane: self.lane, bytes, permits }
    }

    /// Adds `other`, which must come from the same budget and lane.
    pub fn merge(&mut self, mut other: Charge) {
        assert!(
            Arc::ptr_eq(&self.pools, &other.pools) && self.lane == other.lane,
            "merged charges of different budgets"
        );
        self.bytes += std::mem::take(&mut other.bytes);
        self.permits += std::mem::take(&mut other.permits);
    }

    /// `data` as [`Bytes`] that carry this charge: it is given back when the last slice or clone
    /// of them is dropped, on whichever thread that is. Such bytes are frozen
    /// (`Bytes::try_into_mut` refuses them), so stamp a batch before wrapping it.
    pub fn bytes_with<T: AsRef<[u8]> + Send + 'static>(self, data: T) -> Bytes {
        Bytes::from_owner(Charged { data, _charge: self })
    }

    fn granted(pools: &Arc<Pools>, lane: Lane, bytes: usize, permits: u32) -> Charge {
        pools.of(lane).used.fetch_add(bytes, Ordering::Relaxed);
        Charge { pools: pools.clone(), lane, bytes, permits: permits as usize }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let pool = self.pools.of(self.lane);
        pool.used.fetch_sub(self.bytes, Ordering::Relaxed);
        pool.permits.add_permits(self.permits);
    }
}

impl Pools {
    fn of(&self, lane: Lane) -> &Pool {
        match lane {
            Lane::Clients => &self.clients,
            Lane::Control => &self.control,
        }
    }
}

impl Pool {
    fn new(limit: usize) -> Pool {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Pool { limit, used: AtomicUsize::new(0), permits: Semaphore::new(limit) }
    }

    /// What a charge takes off the semaphore: all of it for one above the limit.
    fn permits_for(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.limit)).unwrap_or(u32::MAX)
    }
}

struct Charged<T> {
    data: T,
    _charge: Charge,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Charged<T> {
    fn as_ref(&self) -> &[u8] {
        self.data.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn waiters_are_served_in_order_and_nobody_overtakes() {
        let budget = Budget::new(400); // 300 for clients, 100 for control
        let held = budget.acquire(250).await;
        let large = telemetry::task::spawn("test", {
            let budget = budget.clone();
            async move { budget.acquire(200).await }
        });
        tokio::time::sleep(SOON).await;
        assert!(budget.try_acquire(10).is_none(), "a small one must not overtake the large one");
        let small = telemetry::task::spawn("test", {
            let budget = budget.clone();
            async move { budget.acquire(10).await }
        });
        tokio::time::sleep(SOON).await;
        assert!(!large.is_finished() && !small.is_finished());
        drop(held);
        assert_eq!(large.await.unwrap().bytes(), 200);
        assert_eq!(small.await.unwrap().bytes(), 10);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_charge_above_the_limit_is_admitted_alone() {
        let budget = Budget::new(400);
        let first = budget.acquire(1).await;
        let huge = budget.acquire(1_000);
        tokio::pin!(huge);
        assert!(tokio::time::timeout(SOON, &mut huge).await.is_err(), "it is not alone yet");
        drop(first);
        let mut huge = huge.await;
        assert_eq!(budget.used(), 1_000);
        assert!(budget.try_acquire(1).is_none());
        let part = huge.split(400);
        drop(huge);
        drop(part);
        assert_eq!(budget.used(), 0);
        assert_eq!(budget.acquire(300).await.bytes(), 300, "every permit came back");
    }

    #[tokio::test]
    async fn a_cancelled_waiter_frees_its_place() {
        let budget = Budget::new(400);
        let held = budget.acquire(200).await;
        assert!(tokio::time::timeout(SOON, budget.acquire(200)).await.is_err());
        assert_eq!(budget.try_acquire(100).expect("100 of 300 are free").bytes(), 100);
        drop(held);
    }

    #[test]
    fn control_has_a_reserve_of_its_own() {
        let budget = Budget::new(400);
        let _all = budget.try_acquire(300).expect("all of the clients' share");
        assert!(budget.try_acquire(1).is_none());
        assert!(budget.try_control(100).is_some());
        assert_eq!(budget.limit(), 400);
    }

    #[test]
    fn bytes_carry_their_charge_to_the_last_reference() {
        let budget = Budget::new(400);
        let mut charge = budget.try_acquire(100).unwrap();
        let part = charge.split(40);
        assert_eq!((charge.bytes(), part.bytes()), (60, 40));
        let bytes = charge.bytes_with(vec![7u8; 60]);
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(budget.used(), 100);
        drop(slice);
        assert_eq!(budget.used(), 40);
        let mut whole = budget.try_acquire(5).unwrap();
        whole.merge(part);
        assert_eq!(whole.bytes(), 45);
        drop(whole);
        assert_eq!(budget.used(), 0);
    }
}
