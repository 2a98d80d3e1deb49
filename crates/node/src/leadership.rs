//! Who serves which group, as every broker knows it: told by the servers themselves, gossiped
//! to all, whole upon each new connection.
//!
//! Invariants: a newer epoch always wins; within an epoch only its one leader speaks; a leader
//! whose process is known to be gone is not named.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use model::{BrokerId, GroupId};
use serde::{Deserialize, Serialize};
use telemetry::RwLock;
use telemetry::labels::LockClass;

/// The Kafka-ready leader of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    pub broker: BrokerId,
    /// Leader epoch: the raft term.
    pub epoch: i32,
    /// In-sync replicas, ascending by broker.
    pub isr: Vec<BrokerId>,
}

/// One piece of news about a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    #[serde(rename = "g")]
    pub group: u64,
    #[serde(rename = "e")]
    pub epoch: u64,
    /// False: this broker stopped serving in this epoch.
    #[serde(rename = "s")]
    pub serving: bool,
    #[serde(rename = "i", default)]
    pub isr: Vec<i32>,
}

#[derive(Debug, Clone)]
struct Known {
    broker: BrokerId,
    epoch: u64,
    serving: bool,
    isr: Vec<BrokerId>,
}

/// What one broker tells another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gossip {
    /// It is shutting down: it takes no leadership any more.
    #[serde(default)]
    pub draining: bool,
    pub news: Vec<News>,
}

/// The table of all groups.
pub struct Leaderships {
    known: RwLock<BTreeMap<GroupId, Known>>,
    draining: RwLock<BTreeSet<BrokerId>>,
}

impl Default for Leaderships {
    fn default() -> Self {
        Leaderships {
            known: RwLock::new(LockClass::Router, BTreeMap::new()),
            draining: RwLock::new(LockClass::Debug, BTreeSet::new()),
        }
    }
}

impl Leaderships {
    /// Takes news that `from` tells about itself. True if it was new.
    pub fn hear(&self, from: BrokerId, news: &News) -> bool {
        let mut known = self.known.write();
        let isr: Vec<BrokerId> = news.isr.iter().copied().map(BrokerId).collect();
        let next = Known { broker: from, epoch: news.epoch, serving: news.serving, isr };
        match known.get_mut(&GroupId(news.group)) {
            Some(old) if old.epoch > next.epoch => false,
            Some(old) if old.epoch == next.epoch && old.broker != from => false,
            Some(old) => {
                *old = next;
                true
            }
            None => {
                known.insert(GroupId(news.group), next);
                true
            }
        }
    }

    pub fn of(&self, group: GroupId) -> Option<Leadership> {
        let known = self.known.read();
        let known = known.get(&group).filter(|known| known.serving)?;
        Some(Leadership { broker: known.broker, epoch: known.epoch as i32, isr: known.isr.clone() })
    }

    /// A broker says whether it is on its way out. True if that is new.
    pub fn set_draining(&self, broker: BrokerId, draining: bool) -> bool {
        let mut all = self.draining.write();
        if draining { all.insert(broker) } else { all.remove(&broker) }
    }

    pub fn is_draining(&self, broker: BrokerId) -> bool {
        self.draining.read().contains(&broker)
    }

    pub fn forget(&self, group: GroupId) {
        self.known.write().remove(&group);
    }

    /// Everything `own` serves, for a peer that has just connected.
    pub fn told_by(&self, own: BrokerId) -> Vec<News> {
        let known = self.known.read();
        let mine = known.iter().filter(|(_, known)| known.broker == own && known.serving);
        mine.map(|(group, known)| News {
            group: group.0,
            epoch: known.epoch,
            serving: true,
            isr: known.isr.iter().map(|broker| broker.0).collect(),
        })
        .collect()
    }
}

pub fn encode(draining: bool, news: &[News]) -> Bytes {
    let gossip = Gossip { draining, news: news.to_vec() };
    serde_json::to_vec(&gossip).expect("plain data encodes").into()
}

/// Gossip of a peer; what does not parse is nobody's news.
pub fn decode(body: &[u8]) -> Option<Gossip> {
    serde_json::from_slice(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(epoch: u64, serving: bool) -> News {
        News { group: 7, epoch, serving, isr: vec![1, 2] }
    }

    #[test]
    fn newer_epochs_win_and_only_the_leader_of_an_epoch_speaks() {
        let table = Leaderships::default();
        let (one, two) = (BrokerId(1), BrokerId(2));
        assert!(table.hear(one, &news(3, true)));
        assert!(!table.hear(two, &news(2, true)), "an older epoch");
        assert!(!table.hear(two, &news(3, false)), "not its epoch");
        assert_eq!(table.of(GroupId(7)).unwrap().broker, one);
        assert!(table.hear(two, &news(4, true)));
        assert!(!table.hear(one, &news(3, false)), "the old leader's farewell comes late");
        assert_eq!(table.of(GroupId(7)).unwrap().epoch, 4);
        assert!(table.hear(two, &news(4, false)));
        assert_eq!(table.of(GroupId(7)), None);
        let gossip = Gossip { draining: true, news: vec![news(4, true)] };
        assert_eq!(decode(&encode(true, &gossip.news)), Some(gossip));
        assert_eq!(decode(b"{"), None);
    }
}
