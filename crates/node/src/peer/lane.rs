//! One lane of one link: a bounded queue that a shard fills without waiting, and the stream of
//! envelopes that the connection draws from it when it has room.
//!
//! Invariants: what is queued is bounded in messages and in bytes; it is encoded only when the
//! connection asks for more; an envelope never exceeds `limits::ENVELOPE_BYTES_MAX`; order is
//! kept.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use model::{ClusterId, limits};
use telemetry::labels::Lane;
use telemetry::metrics;
use tokio::sync::mpsc;
use tokio_stream::Stream;

use super::identity::{Identity, PeerHello};
use super::{RaftItem, codec, proto};

/// What one lane carries.
#[allow(clippy::large_enum_variant)] // nearly all of them are raft messages
pub(super) enum Load {
    Raft(RaftItem),
    Gossip(Bytes),
}

struct Queued {
    load: Load,
    cost: usize,
}

/// The filling end.
pub(super) struct LaneQueue {
    sender: mpsc::Sender<Queued>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The drawing end: a stream of envelopes. The first is empty, so that the receiver knows whose
/// stream it is before anything happens on it.
pub(super) struct LaneStream {
    lane: Lane,
    receiver: mpsc::Receiver<Queued>,
    bytes: Arc<AtomicUsize>,
    /// Taken from the queue, but too large for the envelope it came up for.
    carried: Option<Queued>,
    identity: Identity,
    peer: PeerHello,
    route: proto::Route,
    route_cluster: Option<ClusterId>,
    opened: bool,
}

/// A lane to `peer` that holds at most `bytes_max` bytes.
pub(super) fn open(
    lane: Lane,
    identity: &Identity,
    peer: &PeerHello,
    bytes_max: usize,
) -> (LaneQueue, LaneStream) {
    let (sender, receiver) = mpsc::channel(limits::PEER_CONTROL_MESSAGES_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    let stream = LaneStream {
        lane,
        receiver,
        bytes: bytes.clone(),
        carried: None,
        identity: identity.clone(),
        peer: peer.clone(),
        route: identity.route(peer),
        route_cluster: identity.cluster(),
        opened: false,
    };
    (LaneQueue { sender, bytes, bytes_max }, stream)
}

impl LaneQueue {
    /// Queues a message, or hands it back if the lane is full or closed.
    #[allow(clippy::result_large_err)] // the caller gets its own message back
    pub fn push_raft(&self, item: RaftItem) -> Result<(), RaftItem> {
        let cost = codec::cost(&item);
        match self.room_for(cost) {
            Some(room) => room.send(Queued { load: Load::Raft(item), cost }),
            None => return Err(item),
        }
        Ok(())
    }

    /// False: the lane is full or closed, the gossip is lost.
    pub fn push_gossip(&self, body: Bytes) -> bool {
        let cost = body.len();
        let room = self.room_for(cost);
        let fits = room.is_some();
        if let Some(room) = room {
            room.send(Queued { load: Load::Gossip(body), cost });
        }
        fits
    }

    /// A place in the queue, its bytes counted.
    fn room_for(&self, cost: usize) -> Option<mpsc::Permit<'_, Queued>> {
        let before = self.bytes.fetch_add(cost, Ordering::Relaxed);
        let room = (before + cost <= self.bytes_max).then(|| self.sender.try_reserve().ok());
        let room = room.flatten();
        if room.is_none() {
            self.bytes.fetch_sub(cost, Ordering::Relaxed);
        }
        room
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Messages waiting.
    pub fn messages(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }
}

impl LaneStream {
    fn empty_envelope(&mut self) -> proto::Envelope {
        let cluster = self.identity.cluster();
        if cluster != self.route_cluster {
            self.route = self.identity.route(&self.peer);
            self.route_cluster = cluster;
        }
        proto::Envelope { route: Some(self.route.clone()), items: Vec::new(), gossip: Vec::new() }
    }

    /// `first` and whatever else is queued and fits.
    fn fill(&mut self, first: Queued) -> proto::Envelope {
        let mut envelope = self.empty_envelope();
        let mut next = Some(first);
        let (mut size, mut items) = (0, 0);
        while let Some(queued) = next.take() {
            if items > 0 && size + queued.cost > limits::ENVELOPE_BYTES_MAX {
                self.carried = Some(queued);
                break;
            }
            size += queued.cost;
            items += 1;
            self.bytes.fetch_sub(queued.cost, Ordering::Relaxed);
            match queued.load {
                Load::Raft(item) => envelope.items.push(codec::encode(item)),
                Load::Gossip(body) => envelope.gossip.push(body),
            }
            if size < limits::ENVELOPE_TARGET_BYTES && items < limits::ENVELOPE_ITEMS_MAX {
                next = self.receiver.try_recv().ok();
            }
        }
        metrics().peer_envelopes_sent_total.at(self.lane).inc();
        metrics().peer_sent_bytes_total.at(self.lane).add(codec::size(&envelope));
        envelope
    }
}

impl Stream for LaneStream {
    type Item = proto::Envelope;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<proto::Envelope>> {
        let lane = self.get_mut();
        if !std::mem::replace(&mut lane.opened, true) {
            return Poll::Ready(Some(lane.empty_envelope()));
        }
        let first = match lane.carried.take() {
            Some(queued) => Some(queued),
            None => ready!(lane.receiver.poll_recv(cx)),
        };
        Poll::Ready(first.map(|first| lane.fill(first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::eraftpb;
    use model::{BrokerId, DirectoryId, GroupId, Incarnation, ReplicaId};
    use tokio_stream::StreamExt;

    fn test_lane(bytes_max: usize) -> (LaneQueue, LaneStream) {
        let own = Identity::new(BrokerId(1), DirectoryId([1; 16]), Incarnation(1), None);
        let peer = PeerHello {
            version: 1,
            broker: BrokerId(2),
            directory: DirectoryId([2; 16]),
            incarnation: Incarnation(2),
            cluster: None,
            birth: None,
            admin: None,
        };
        open(Lane::Bulk, &own, &peer, bytes_max)
    }

    fn item(term: u64, bytes: usize) -> RaftItem {
        let mut message = eraftpb::Message { term, ..Default::default() };
        message.context = Bytes::from(vec![1; bytes]);
        RaftItem::new(GroupId(1), ReplicaId(1), ReplicaId(2), message)
    }

    fn terms(envelope: proto::Envelope) -> Vec<u64> {
        codec::decode(envelope.items).unwrap().iter().map(|item| item.message.term).collect()
    }

    #[tokio::test]
    async fn what_is_queued_leaves_in_one_envelope_and_a_full_lane_hands_back() {
        let (queue, mut stream) = test_lane(10_000);
        assert!(terms(stream.next().await.unwrap()).is_empty(), "the opening envelope");
        let mut pushed = Vec::new();
        for term in 1.. {
            match queue.push_raft(item(term, 1_000)) {
                Ok(()) => pushed.push(term),
                Err(back) => {
                    assert_eq!(back.message.term, term);
                    break;
                }
            }
        }
        assert_eq!(pushed.len(), 9);
        assert_eq!(queue.messages(), 9);
        assert!(queue.bytes() <= 10_000);
        assert!(!queue.push_gossip(Bytes::from(vec![0; 1_000])), "full for gossip too");
        assert_eq!(terms(stream.next().await.unwrap()), pushed);
        assert_eq!((queue.bytes(), queue.messages()), (0, 0));
        drop(queue);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn an_envelope_keeps_to_its_bound_and_its_order() {
        let (queue, mut stream) = test_lane(64 << 20);
        stream.next().await.unwrap();
        let large = limits::ENVELOPE_BYTES_MAX - 500_000;
        for (term, bytes) in [(1, 10), (2, 600_000), (3, large), (4, 10), (5, 10)] {
            assert!(queue.push_raft(item(term, bytes)).is_ok());
        }
        let mut seen = Vec::new();
        drop(queue);
        while let Some(envelope) = stream.next().await {
            assert!(prost::Message::encoded_len(&envelope) <= limits::ENVELOPE_BYTES_MAX + 1_000);
            seen.push(terms(envelope));
        }
        assert_eq!(seen, [vec![1, 2], vec![3], vec![4, 5]]);
    }
}
