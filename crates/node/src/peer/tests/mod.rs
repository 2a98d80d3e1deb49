//! Transports over loopback: brokers in one process, broker processes that are killed and
//! stopped, and peers that are not what they claim.

mod death;
mod lanes;
mod refusal;

use super::*;
use model::{ClusterId, Incarnation};
use std::net::TcpListener;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);
const CLUSTER: ClusterId = ClusterId([0xc1; 16]);

/// What an [`Inbound`] was told.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Raft(BrokerId, Vec<RaftItem>),
    Hello(PeerHello),
    Connected(PeerHello),
    Disconnected(BrokerId),
    Died(BrokerId),
    Gossip(BrokerId, Bytes),
    Refused(Option<BrokerId>, Refusal),
}

struct Ear(mpsc::Sender<Seen>);

impl Ear {
    fn hear(&self, seen: Seen) {
        self.0.try_send(seen).expect("the test listens");
    }
}

impl Inbound for Ear {
    fn raft(&self, from: BrokerId, items: Vec<RaftItem>) {
        self.hear(Seen::Raft(from, items));
    }
    fn hello(&self, peer: &PeerHello) {
        self.hear(Seen::Hello(peer.clone()));
    }
    fn connected(&self, peer: &PeerHello) {
        self.hear(Seen::Connected(peer.clone()));
    }
    fn disconnected(&self, peer: BrokerId) {
        self.hear(Seen::Disconnected(peer));
    }
    fn died(&self, peer: BrokerId) {
        self.hear(Seen::Died(peer));
    }
    fn gossip(&self, from: BrokerId, body: Bytes) {
        self.hear(Seen::Gossip(from, body));
    }
    /// Echoes, unless asked to be slow.
    fn call(&self, from: BrokerId, body: Bytes) -> CallReply {
        Box::pin(async move {
            if body.as_ref() == b"slow" {
                tokio::time::sleep(PATIENCE).await;
            }
            Bytes::from(format!("{from}:{}", String::from_utf8_lossy(&body)))
        })
    }
    fn read(&self, _: BrokerId, ask: SnapshotRead) -> ReadReply {
        Box::pin(async move {
            match ask.index {
                0 => Err(ReadRefused::Gone("not offered".into())),
                _ => Ok(Bytes::from(vec![ask.index as u8; ask.len])),
            }
        })
    }
    fn refused(&self, peer: Option<BrokerId>, why: Refusal) {
        self.hear(Seen::Refused(peer, why));
    }
}

struct TestBroker {
    peers: Peers,
    identity: Identity,
    seen: mpsc::Receiver<Seen>,
}

impl TestBroker {
    async fn start(identity: Identity, listen: &str, others: &[(i32, &str)]) -> TestBroker {
        let (ear, seen) = mpsc::channel(1 << 16);
        let peers = others.iter().map(|(id, at)| (BrokerId(*id), at.to_string())).collect();
        let cfg = PeerConfig { listen: listen.to_owned(), peers, identity: identity.clone() };
        let peers = Peers::start(cfg, Arc::new(Ear(ear))).await.unwrap();
        TestBroker { peers, identity, seen }
    }

    /// The first sight that `wanted` picks something from.
    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Seen) -> Option<T>) -> T {
        let found = async {
            loop {
                let seen = self.seen.recv().await.expect("the transport lives");
                if let Some(found) = wanted(&seen) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("never saw {what}"))
    }

    async fn until_connected(&mut self, broker: i32) -> PeerHello {
        self.until("the peer connect", |seen| match seen {
            Seen::Connected(peer) if peer.broker == BrokerId(broker) => Some(peer.clone()),
            _ => None,
        })
        .await
    }

    /// Everything seen within `time`.
    async fn watch(&mut self, time: Duration) -> Vec<Seen> {
        let mut all = Vec::new();
        let end = tokio::time::Instant::now() + time;
        while let Ok(Some(seen)) = tokio::time::timeout_at(end, self.seen.recv()).await {
            all.push(seen);
        }
        all
    }
}

fn identity(broker: i32, life: u64, cluster: Option<ClusterId>) -> Identity {
    let birth = cluster.map(|id| (id, Bytes::from_static(b"record")));
    Identity::new(BrokerId(broker), directory(broker), Incarnation(life), birth)
}

fn directory(broker: i32) -> DirectoryId {
    DirectoryId([broker as u8; 16])
}

fn free_address() -> String {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

async fn pair() -> (TestBroker, TestBroker) {
    let (at1, at2) = (free_address(), free_address());
    let mut one = TestBroker::start(identity(1, 11, Some(CLUSTER)), &at1, &[(2, &at2)]).await;
    let mut two = TestBroker::start(identity(2, 21, Some(CLUSTER)), &at2, &[(1, &at1)]).await;
    one.until_connected(2).await;
    two.until_connected(1).await;
    (one, two)
}

fn item(kind: eraftpb::MessageType, index: u64, bytes: usize) -> RaftItem {
    let mut message = eraftpb::Message { index, ..Default::default() };
    message.set_msg_type(kind);
    if bytes > 0 {
        let entry = eraftpb::Entry { data: vec![7u8; bytes].into(), ..Default::default() };
        message.mut_entries().push(entry);
    }
    RaftItem::new(GroupId(1), ReplicaId(1), ReplicaId(2), message)
}
