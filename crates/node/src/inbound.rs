//! What peers tell this broker, on its way to shards, formation and the metadata leader.

use std::sync::{Arc, Weak};

use bytes::{BufMut, Bytes, BytesMut};
use machine::metadata;
use model::{BrokerId, ErrorCode};
use telemetry::labels::{Lane, LogEvent, PeerDropWhy, PeerRefusedWhy};
use telemetry::{Peer, log_limited, metrics};
use tokio::sync::mpsc;

use crate::leadership;
use crate::peer::{CallReply, Inbound, PeerHello, RaftItem, Refusal as PeerRefusal};
use crate::peer_news::{PeerNews, PeerState};
use crate::plumbing::Plumbing;
use crate::shard::{Answer, Input, RaftIn, Refusal};

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
        let Some(gossip) = leadership::decode(&body) else {
            log_limited!(warn, LogEvent::PeerRefused, peer = from.0, "gossip that does not parse");
            return;
        };
        self.plumbing.leaderships.set_draining(from, gossip.draining);
        for news in gossip.news {
            self.plumbing.leaderships.hear(from, &news);
        }
    }

    fn call(&self, from: BrokerId, body: Bytes) -> CallReply {
        let node = self.node.upgrade();
        Box::pin(async move {
            let Some(node) = node else {
                return encode_answer(&Answer::Refused(Refusal {
                    code: ErrorCode::NotController,
                    why: "the broker is starting".into(),
                }));
            };
            let answer = match metadata::decode_request(&body) {
                Ok(request) => node.metadata_here(request).await,
                Err(error) => Answer::Refused(Refusal {
                    code: ErrorCode::InvalidRequest,
                    why: format!("broker {from} asked what this version cannot read: {error}"),
                }),
            };
            encode_answer(&answer)
        })
    }

    fn refused(&self, peer: Option<BrokerId>, why: PeerRefusal) {
        let label = PeerRefusedWhy::from_name(why.as_str()).unwrap_or(PeerRefusedWhy::Other);
        metrics().peer_refused_total.at(label).inc();
        let (peer, why) = (peer.map(|peer| peer.0), why.as_str());
        log_limited!(warn, LogEvent::PeerRefused, ?peer, why, "refused a peer");
    }
}

const ANSWERED: u8 = 0;
const REFUSED: u8 = 1;

/// An answer between brokers: one byte, then the response, or Kafka's code and a text.
fn encode_answer(answer: &Answer) -> Bytes {
    let mut out = BytesMut::new();
    match answer {
        Answer::Metadata(response) => {
            out.put_u8(ANSWERED);
            out.put_slice(&metadata::encode_response(response));
        }
        Answer::Refused(refusal) => {
            out.put_u8(REFUSED);
            out.put_i16(refusal.code.code());
            out.put_slice(refusal.why.as_bytes());
        }
        Answer::Produced(_) | Answer::Guarded(_) | Answer::Group(_) => {
            out.put_u8(REFUSED);
            out.put_i16(ErrorCode::UnknownServerError.code());
        }
    }
    out.freeze()
}

/// Reads [`encode_answer`]; foreign bytes are a refusal.
pub fn decode_answer(body: &[u8]) -> Result<metadata::Response, Refusal> {
    let garbled = |why: String| Refusal { code: ErrorCode::UnknownServerError, why };
    match body.split_first() {
        Some((&ANSWERED, rest)) => {
            metadata::decode_response(rest).map_err(|error| garbled(error.to_string()))
        }
        Some((&REFUSED, [high, low, text @ ..])) => {
            let code = ErrorCode::from_i16(i16::from_be_bytes([*high, *low]));
            Err(Refusal {
                code: code.unwrap_or(ErrorCode::UnknownServerError),
                why: String::from_utf8_lossy(text).into_owned(),
            })
        }
        _ => Err(garbled("a peer's answer does not parse".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_cross_and_foreign_bytes_are_refusals() {
        let refusal = Refusal { code: ErrorCode::NotController, why: "later".into() };
        let crossed = decode_answer(&encode_answer(&Answer::Refused(refusal.clone())));
        assert_eq!(crossed, Err(refusal));
        let response = metadata::Response::BrokerRegistered;
        let crossed = decode_answer(&encode_answer(&Answer::Metadata(response.clone())));
        assert_eq!(crossed, Ok(response));
        assert!(decode_answer(&[]).is_err() && decode_answer(&[1, 2]).is_err());
        assert!(decode_answer(&[0, b'{']).is_err());
    }
}
