//! What became of peers, on its way to every shard: the newest state of each peer arrives, and
//! never an older one after it.
//!
//! Invariants: telling never waits; what a full lane does not take is kept, one state per peer
//! and matter, and delivered by a task once there is room; while something is kept for a shard
//! nothing overtakes it. A state that was replaced before it could be delivered is no loss: the
//! newer one says all that a shard needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::BrokerId;
use telemetry::Lock;
use telemetry::labels::LockClass;
use tokio::runtime::Handle;

use crate::mailbox::{Reply, ShardHandle, Shards};
use crate::shard::Input;

/// A peer as shards see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    Connected,
    Disconnected,
    /// Its process is known to be gone.
    Died,
    /// Whether it takes leaderships: a matter of its own.
    Draining(bool),
}

/// A newer state replaces an older one of the same peer in the same matter.
type Matter = (BrokerId, bool);

impl PeerState {
    fn input(self, broker: BrokerId) -> Input<Reply> {
        match self {
            PeerState::Connected => Input::PeerConnected { broker },
            PeerState::Disconnected => Input::PeerDisconnected { broker },
            PeerState::Died => Input::PeerDied { broker },
            PeerState::Draining(draining) => Input::PeerDraining { broker, draining },
        }
    }

    fn matter(self, broker: BrokerId) -> Matter {
        (broker, matches!(self, PeerState::Draining(_)))
    }
}

/// The way to all shards of a broker.
pub struct PeerNews {
    runtime: Handle,
    shards: Vec<Arc<Kept>>,
}

/// What one shard's lane had no room for.
struct Kept {
    shard: ShardHandle,
    states: Lock<BTreeMap<Matter, PeerState>>,
}

impl PeerNews {
    pub fn new(runtime: Handle, shards: &Shards) -> PeerNews {
        let kept = |shard: &ShardHandle| {
            let states = Lock::new(LockClass::Peers, BTreeMap::new());
            Arc::new(Kept { shard: shard.clone(), states })
        };
        PeerNews { runtime, shards: shards.all().iter().map(kept).collect() }
    }

    pub fn tell(&self, broker: BrokerId, state: PeerState) {
        for kept in &self.shards {
            let mut states = kept.states.lock();
            let first = states.is_empty();
            if first && kept.shard.try_tell(state.input(broker)) {
                continue;
            }
            states.insert(state.matter(broker), state);
            drop(states);
            if first {
                telemetry::task::spawn_on(&self.runtime, "peer news", deliver(kept.clone()));
            }
        }
    }
}

/// Ends with the last kept state: whoever finds nothing kept starts another.
async fn deliver(kept: Arc<Kept>) {
    loop {
        let next = kept.states.lock().first_key_value().map(|(matter, state)| (*matter, *state));
        let Some((matter, state)) = next else { return };
        // A shard that is gone hears nothing more, and needs nothing more.
        let there = kept.shard.tell(state.input(matter.0)).await;
        let mut states = kept.states.lock();
        if !there || states.get(&matter) == Some(&state) {
            states.remove(&matter);
        }
        if states.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_newest_state_arrives_last_also_through_a_full_lane() {
        let (shard, mut inbox) = ShardHandle::new();
        let news = PeerNews::new(Handle::current(), &Shards::new(vec![shard.clone()]));
        while shard.try_tell(Input::Tick { slot: 0 }) {}
        let (one, two) = (BrokerId(1), BrokerId(2));
        for state in [PeerState::Connected, PeerState::Died, PeerState::Connected] {
            news.tell(one, state);
        }
        for draining in [true, false, true, false] {
            news.tell(one, PeerState::Draining(draining));
        }
        news.tell(two, PeerState::Disconnected);
        news.tell(two, PeerState::Died);
        let mut last = BTreeMap::new();
        let patience = Duration::from_secs(20);
        let mut draining = None;
        while last.get(&one) != Some(&"connected")
            || last.get(&two) != Some(&"died")
            || draining != Some(false)
        {
            let input = tokio::time::timeout(patience, inbox.raft.recv()).await;
            match input.expect("all of it arrives").expect("the lane is open") {
                Input::PeerConnected { broker } => last.insert(broker, "connected"),
                Input::PeerDisconnected { broker } => last.insert(broker, "disconnected"),
                Input::PeerDied { broker } => last.insert(broker, "died"),
                Input::PeerDraining { broker, draining: news } if broker == one => {
                    draining = Some(news);
                    None
                }
                _ => None,
            };
        }
        tokio::task::yield_now().await;
        assert!(inbox.raft.try_recv().is_err(), "and nothing older behind it");
    }
}
