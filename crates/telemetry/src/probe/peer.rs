//! The probe of a link to another broker.

use model::BrokerId;

use crate::label::Peer;
use crate::labels::{Lane, PeerDropWhy, PeerRefusedWhy};
use crate::metrics;

/// One per other broker; cheap to clone and to share.
#[derive(Clone, Copy, Debug)]
pub struct PeerProbe {
    peer: Peer,
}

impl PeerProbe {
    pub fn new(broker: BrokerId) -> PeerProbe {
        PeerProbe { peer: Peer::of(broker) }
    }

    pub fn connected(&self) {
        metrics().peer_connects_total.at(self.peer).inc();
        metrics().peer_connected.at(self.peer).set(1);
    }

    pub fn disconnected(&self) {
        metrics().peer_connected.at(self.peer).set(0);
    }

    /// One envelope left.
    #[inline]
    pub fn sent(&self, lane: Lane, bytes: u64) {
        metrics().peer_envelopes_sent_total.at(lane).inc();
        metrics().peer_sent_bytes_total.at(lane).add(bytes);
    }

    #[inline]
    pub fn received(&self, lane: Lane, bytes: u64) {
        metrics().peer_received_bytes_total.at(lane).add(bytes);
    }

    pub fn dropped(&self, lane: Lane, why: PeerDropWhy, messages: u64) {
        metrics().peer_dropped_total.at(lane, why).add(messages);
    }

    /// Bytes entered the lane's queue.
    #[inline]
    pub fn queued(&self, lane: Lane, bytes: u64) {
        metrics().peer_queue_bytes.at(lane).add(bytes as i64);
    }

    /// Bytes left the lane's queue, sent or dropped.
    #[inline]
    pub fn dequeued(&self, lane: Lane, bytes: u64) {
        metrics().peer_queue_bytes.at(lane).sub(bytes as i64);
    }
}

/// A connection or envelope was refused before it could do harm; `why` is the transport's word.
pub fn peer_refused(why: &str) {
    let why = PeerRefusedWhy::from_name(why).unwrap_or(PeerRefusedWhy::Other);
    metrics().peer_refused_total.at(why).inc();
}

/// A peer's process is known to be gone.
pub fn peer_died() {
    metrics().peer_deaths_total.inc();
}
