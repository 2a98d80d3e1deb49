//! One broker for people: what `/readyz` and `/debug/groups` show, from published state only.

use std::collections::BTreeMap;

use machine::metadata;
use model::GroupId;
use serde::Serialize;

use crate::node::Node;
use crate::offers::OfferView;
use crate::postmortem::Postmortem;
use crate::shard::{AttemptView, MemberStatus};
use crate::transfers::TransferView;

/// Whether clients can be served, and if not, what this broker waits for.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub waiting_for: Vec<String>,
}

/// One peer for people.
#[derive(Debug, Clone, Serialize)]
pub struct PeerView {
    pub broker: i32,
    pub address: String,
    pub connected: bool,
    pub dead: bool,
    pub last_error: Option<String>,
    /// Where its admin HTTP is reached from here.
    pub admin: Option<String>,
    pub queued_bytes: usize,
}

/// One group for people.
#[derive(Debug, Clone, Serialize)]
pub struct GroupView {
    pub group: u64,
    pub high_watermark: i64,
    #[serde(flatten)]
    pub status: MemberStatus,
}

/// A group that is out of service here, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Trouble {
    pub group: u64,
    pub why: String,
}

/// Partitions whose leader this broker cannot name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Unled {
    pub count: usize,
    /// The first of them.
    pub names: Vec<String>,
}

/// Where metadata wants the replicas of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlacementView {
    pub name: String,
    pub group: u64,
    /// The preferred leader first.
    pub replicas: Vec<Placed>,
}

/// One replica and its broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placed {
    pub replica: u64,
    pub broker: i32,
}

/// Everything `/debug/groups` shows, from published state only.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    pub broker: i32,
    pub cluster: Option<String>,
    pub ready: bool,
    pub waiting_for: Vec<String>,
    pub journal_full: Option<&'static str>,
    pub unled: Unled,
    pub peers: Vec<PeerView>,
    pub groups: Vec<GroupView>,
    pub quarantined: Vec<Trouble>,
    /// Snapshots on their way into this broker.
    pub transfers: Vec<TransferView>,
    /// Snapshots this broker offers to others.
    pub offers: Vec<OfferView>,
}

/// An election of one group that has not ended.
#[derive(Debug, Clone, Serialize)]
pub struct UnderWay {
    pub group: u64,
    pub name: String,
    pub term: u64,
    #[serde(flatten)]
    pub attempt: AttemptView,
}

/// Everything `/debug/elections` shows.
#[derive(Debug, Clone, Serialize)]
pub struct ElectionsPage {
    pub broker: i32,
    pub under_way: Vec<UnderWay>,
    /// Newest last.
    pub elections: Vec<Postmortem>,
}

/// Partitions named in one answer or log line.
pub(crate) const NAMED_UNLED_MAX: usize = 5;

/// What the metadata group calls itself.
const METADATA_NAME: &str = "metadata";

fn first(mut names: Vec<String>, most: usize) -> Vec<String> {
    names.truncate(most);
    names
}

impl Node {
    pub fn readiness(&self) -> Readiness {
        let mut waiting_for = self.waiting_for.lock().clone();
        let ready = self.ready.get().is_some();
        if !ready && waiting_for.is_empty() {
            let registered = self.registered.get().is_some();
            let unled = if registered { self.unled(NAMED_UNLED_MAX) } else { Vec::new() };
            waiting_for.extend(unled.into_iter().map(|name| format!("a leader of {name}")));
        }
        if !ready && waiting_for.is_empty() {
            waiting_for.push("a leader of the metadata group".into());
        }
        Readiness { ready, waiting_for: if ready { Vec::new() } else { waiting_for } }
    }

    /// Up to `most` partitions whose leader this broker cannot name now.
    pub(crate) fn unled(&self, most: usize) -> Vec<String> {
        let image = self.image();
        let partitions = image
            .topics()
            .flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)));
        let unled = partitions.filter(|(_, partition)| self.leader(partition.group).is_none());
        unled.take(most).map(|(topic, p)| format!("{}-{}", topic.name, p.index)).collect()
    }

    /// The placements of a topic's partitions, or of one that is called `name` (`orders-3`), or
    /// of the metadata group.
    pub fn placements(&self, name: &str) -> Vec<PlacementView> {
        let image = self.image();
        let view = |name: String, partition: &metadata::Partition| PlacementView {
            name,
            group: partition.group.0,
            replicas: partition
                .replicas
                .iter()
                .map(|at| Placed { replica: at.replica.0, broker: at.broker.0 })
                .collect(),
        };
        let own = (name == METADATA_NAME).then(|| view(name.to_owned(), image.quorum()));
        let whole = image.topic(name).into_iter();
        let whole = whole.flat_map(|topic| topic.partitions.iter().map(move |part| (topic, part)));
        let one = name.rsplit_once('-').and_then(|(topic, index)| {
            let (topic, index) = (image.topic(topic)?, index.parse::<i32>().ok()?);
            let partition = topic.partitions.iter().find(|partition| partition.index == index)?;
            Some((topic, partition))
        });
        let all = whole.chain(one);
        let named = all.map(|(topic, part)| view(format!("{}-{}", topic.name, part.index), part));
        own.into_iter().chain(named).collect()
    }

    /// Asks no shard: what they published last.
    pub fn status(&self) -> NodeStatus {
        let Readiness { ready, waiting_for } = self.readiness();
        let peers = self.plumbing.peers().map(|peers| peers.status()).unwrap_or_default();
        let peers = peers.into_iter().map(|peer| PeerView {
            broker: peer.broker.0,
            address: peer.address,
            connected: peer.connected,
            dead: peer.dead,
            last_error: peer.last_error,
            admin: peer.admin,
            queued_bytes: peer.queued_bytes,
        });
        let groups = self.plumbing.views().into_iter().map(|view| GroupView {
            group: view.group().0,
            high_watermark: view.state().high_watermark,
            status: view.status(),
        });
        let unopened = self.plumbing.unopened().into_iter().map(|(id, found)| (id, found.why));
        let mut trouble: BTreeMap<GroupId, String> = unopened.collect();
        trouble.extend(self.plumbing.quarantined());
        let unled = self.unled(usize::MAX);
        NodeStatus {
            broker: self.cfg.broker.0,
            cluster: self.cluster_id().map(|id| id.to_string()),
            ready,
            waiting_for,
            journal_full: self.plumbing.journal_full(),
            unled: Unled { count: unled.len(), names: first(unled, NAMED_UNLED_MAX) },
            peers: peers.collect(),
            groups: groups.collect(),
            quarantined: trouble
                .into_iter()
                .map(|(group, why)| Trouble { group: group.0, why })
                .collect(),
            transfers: self.plumbing.transfers.status(),
            offers: self.plumbing.offers.status(),
        }
    }
}
