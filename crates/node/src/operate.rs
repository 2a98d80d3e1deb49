//! What an operator asks of a running broker: to hand its leaderships over, to be emptied.
//!
//! Invariants: every request may be repeated; each answers where things stand, and none waits
//! for its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use machine::metadata::{self, Placing, Request};
use model::{BrokerId, GroupId};
use serde::Serialize;

use crate::node::Node;
use crate::shard::Input;

/// One attempt at the metadata leader.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Where a broker's emptying stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Emptying {
    pub broker: i32,
    /// Replicas that are on it still, the metadata's included.
    pub replicas_left: usize,
    /// It is empty and forgotten: its process may be stopped for good.
    pub done: bool,
}

/// Where a drain stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Draining {
    pub broker: i32,
    pub draining: bool,
    /// Groups this broker still leads although others could.
    pub leaderships_left: usize,
}

impl Node {
    /// Moves every replica off `broker` and forgets it then. `Err`: why that cannot be.
    pub async fn decommission(&self, broker: BrokerId) -> Result<Emptying, String> {
        if self.image().broker(broker).is_some() {
            let empty = Placing::Empty { broker, avoid: Vec::new() };
            let answer = self.metadata(Request::Place(empty), ASK_MAX).await;
            let answer = answer.map_err(|refusal| refusal.why)?;
            if let Some((_, why)) = answer.rejection() {
                return Err(why.to_owned());
            }
        }
        let image = self.image();
        Ok(Emptying {
            broker: broker.0,
            replicas_left: metadata::replicas_on(&image, broker),
            done: image.broker(broker).is_none(),
        })
    }

    /// Hands every leadership over and takes none until [`Node::undrain`] or a restart; the
    /// broker goes on replicating.
    pub async fn drain(&self) -> Draining {
        // From here on because somebody asked.
        self.stepped_aside.store(false, Ordering::Release);
        self.give_leaderships_away().await;
        self.draining()
    }

    pub(crate) async fn give_leaderships_away(&self) {
        self.plumbing.set_draining();
        for shard in self.plumbing.shards.all() {
            shard.tell(Input::HandOver).await;
        }
    }

    /// Takes leaderships again.
    pub async fn undrain(&self) -> Draining {
        self.plumbing.set_undrained();
        for shard in self.plumbing.shards.all() {
            shard.tell(Input::Undrain).await;
        }
        self.draining()
    }

    fn draining(&self) -> Draining {
        let image = self.image();
        let lonely = |group| image.placement_of(group).is_some_and(|p| p.replicas.len() < 2);
        let led = self.plumbing.leaderships.told_by(self.cfg.broker);
        let leaderships_left = led.iter().filter(|news| !lonely(GroupId(news.group))).count();
        let (broker, draining) = (self.cfg.broker.0, self.plumbing.is_draining());
        Draining { broker, draining, leaderships_left }
    }

    /// Runs an operator's request to its answer, from a thread that may wait.
    pub fn wait_for<T>(&self, request: impl Future<Output = T>) -> T {
        self.plumbing.runtime.block_on(request)
    }
}
