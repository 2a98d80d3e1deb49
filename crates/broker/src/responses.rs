//! Bytes of replies that clients have asked for and not yet read.
//!
//! They are no part of the memory budget that producers wait for: a Java consumer without a
//! group reads its socket only when it polls, and may hold a reply for minutes.
//!
//! Invariant: the pool never makes anyone wait; when it is spent it grants less.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound on reply bytes that is given out in shares.
#[derive(Debug)]
pub(crate) struct ResponsePool {
    free: AtomicUsize,
}

/// Part of the pool; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    pool: Arc<ResponsePool>,
    bytes: usize,
}

impl ResponsePool {
    pub fn new(bytes: usize) -> Arc<ResponsePool> {
        Arc::new(ResponsePool { free: AtomicUsize::new(bytes) })
    }

    /// As much of `wanted` as is free, possibly nothing.
    pub fn take(self: &Arc<Self>, wanted: usize) -> Share {
        let less = |free: usize| Some(free - free.min(wanted));
        let before = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let bytes = before.expect("the closure always has a value").min(wanted);
        Share { pool: Arc::clone(self), bytes }
    }
}

impl Share {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps what is used of it.
    pub fn shrink_to(&mut self, used: usize) {
        let back = self.bytes.saturating_sub(used);
        self.bytes -= back;
        self.pool.free.fetch_add(back, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.free.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_pool_grants_less_and_gets_everything_back() {
        let pool = ResponsePool::new(100);
        let mut first = pool.take(80);
        let second = pool.take(80);
        assert_eq!((first.bytes(), second.bytes(), pool.take(1).bytes()), (80, 20, 0));
        first.shrink_to(30);
        assert_eq!(pool.take(usize::MAX).bytes(), 50);
        first.shrink_to(60);
        drop((first, second));
        assert_eq!(pool.free.load(Ordering::Relaxed), 100);
    }
}
