//! What peers tell this broker, on its way to shards, formation and the metadata leader.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use model::{BrokerId, ErrorCode, GroupId};
use telemetry::labels::{Lane, LogEvent, PeerDropWhy, PeerRefusedWhy};
use telemetry::{Peer, log_limited, metrics, trace};
use tokio::sync::mpsc;

use crate::leadership;
use crate::peer::{
    CallReply, Inbound, PeerHello, RaftItem, ReadReply, Refusal as PeerRefusal, SnapshotRead,
};
use crate::peer_news::{PeerNews, PeerState};
use crate::plumbing::Plumbing;
use crate::question::{self, Question};
use crate::shard::{Answer, Input, RaftIn, Refusal};
use crate::traces;

/// Receives for one broker.
pub struct Receiver {
    pub plumbing: Arc<Plumbing>,
    /// Every hello, for formation.
    pub hellos: mpsc::Sender<PeerHello>,
    pub news: PeerNews,
    /// Set once the node stands; calls before that are refused.
    pub node: Weak<crate::Node>,
}

impl Inbound for Receiver {
    fn raft(&self, from: BrokerId, items: Vec<RaftItem>) {
        let shards = &self.plumbing.shards;
        let convert = |item: RaftItem| RaftIn {
            group: item.group,
            from: item.from,
            to: item.to,
            message: item.message,
        };
        let mut by_shard: Vec<Vec<RaftIn>> = shards.all().iter().map(|_| Vec::new()).collect();
        for item in items {
            by_shard[shards.index_of(item.group)].push(convert(item));
        }
        for (shard, items) in shards.all().iter().zip(by_shard) {
            if !items.is_empty() && !shard.try_tell(Input::Raft { from, items }) {
                metrics().peer_dropped_total.at(Lane::Control, PeerDropWhy::ShardFull).inc();
            }
        }
    }

    fn hello(&self, peer: &PeerHello) {
        if self.hellos.try_send(peer.clone()).is_err() {
            // Formation hears it again: hellos repeat.
            telemetry::tracing::debug!(peer = peer.broker.0, "a hello came too fast");
        }
    }

    fn connected(&self, peer: &PeerHello) {
        let broker = peer.broker;
        let label = Peer::of(broker);
        metrics().peer_connected.at(label).set(1);
        metrics().peer_connects_total.at(label).inc();
        self.news.tell(broker, PeerState::Connected);
        self.plumbing.tell_all(broker);
    }

    fn disconnected(&self, peer: BrokerId) {
        metrics().peer_connected.at(Peer::of(peer)).set(0);
        self.news.tell(peer, PeerState::Disconnected);
    }

    fn died(&self, peer: BrokerId) {
        metrics().peer_deaths_total.inc();
        self.news.tell(peer, PeerState::Died);
    }

    fn gossip(&self, from: BrokerId, body: Bytes) {
        if let Some(ask) = traces::decode(&body) {
            return trace::asked(ask);
        }
        let Some(gossip) = leadership::decode(&body) else {
            log_limited!(warn, LogEvent::PeerRefused, peer = from.0, "gossip that does not parse");
            return;
        };
        let draining = gossip.draining;
        if self.plumbing.leaderships.set_draining(from, draining) {
            self.news.tell(from, PeerState::Draining(draining));
        }
        for news in gossip.news {
            self.plumbing.leaderships.hear(from, &news);
        }
    }

    fn call(&self, from: BrokerId, body: Bytes) -> CallReply {
        let node = self.node.upgrade();
        Box::pin(async move {
            let Some(node) = node else {
                return question::encode_answer(&Answer::Refused(Refusal {
                    code: ErrorCode::NotController,
                    why: "the broker is starting".into(),
                }));
            };
            let answer = match question::decode(&body) {
                Ok(Question::Metadata(request)) => node.metadata_here(request).await,
                Ok(Question::Admin { group, ask, within_ms }) => {
                    node.admin_here(GroupId(group), ask, Duration::from_millis(within_ms)).await
                }
                Ok(Question::Append { group, within_ms, batch }) => {
                    let within = Duration::from_millis(within_ms.into());
                    match node.append_here(GroupId(group), batch, within).await {
                        Ok(()) => Answer::Done,
                        Err(refusal) => Answer::Refused(refusal),
                    }
                }
                Ok(Question::Ends { groups }) => node.ends_here(&groups),
                Ok(Question::SnapshotFailed(failed)) => node.snapshot_failed(from, failed).await,
                Err(why) => Answer::Refused(Refusal {
                    code: ErrorCode::InvalidRequest,
                    why: format!("broker {from} asked what this version cannot read: {why}"),
                }),
            };
            question::encode_answer(&answer)
        })
    }

    fn read(&self, from: BrokerId, ask: SnapshotRead) -> ReadReply {
        Box::pin(self.plumbing.clone().read_offer(from, ask))
    }

    fn refused(&self, peer: Option<BrokerId>, why: PeerRefusal) {
        let label = PeerRefusedWhy::from_name(why.as_str()).unwrap_or(PeerRefusedWhy::Other);
        metrics().peer_refused_total.at(label).inc();
        let (peer, why) = (peer.map(|peer| peer.0), why.as_str());
        log_limited!(warn, LogEvent::PeerRefused, ?peer, why, "refused a peer");
    }
}
