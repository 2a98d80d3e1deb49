//! Who waits for whom: from a stalled thread along the locks to the holder that waits for nothing,
//! or back to a thread that was met before.
//!
//! Invariant: a chain is finite; it ends at the first thread met twice.

use crate::lock::{HeldLock, Waiting};

/// One step: `thread` waits for a lock, and who holds it.
#[derive(Clone, Debug)]
pub struct Edge {
    pub waiter: Waiting,
    /// `None`: the lock was just changing hands.
    pub held: Option<HeldLock>,
}

/// The chain from a stalled thread.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    pub edges: Vec<Edge>,
    /// The last holder waits, directly or not, for a lock that a thread of the chain holds.
    pub cycle: bool,
}

impl Chain {
    /// Follows `thread` through everybody who waits.
    pub fn from(thread: u32, waiting: &[Waiting]) -> Chain {
        let mut chain = Chain::default();
        let mut met = vec![thread];
        let mut at = thread;
        while let Some(waiter) = waiting.iter().find(|waiter| waiter.thread == at) {
            let held = waiter.lock.held();
            let holder = held.as_ref().map(|held| held.thread);
            chain.edges.push(Edge { waiter: waiter.clone(), held });
            let Some(holder) = holder else { break };
            if met.contains(&holder) {
                chain.cycle = true;
                break;
            }
            met.push(holder);
            at = holder;
        }
        chain
    }

    /// The thread at the end: it holds what the others wait for and waits for nothing itself.
    pub fn root(&self) -> Option<u32> {
        self.edges.last()?.held.as_ref().map(|held| held.thread)
    }
}
