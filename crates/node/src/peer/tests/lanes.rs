//! What travels: order, bounds, gossip, calls, births, three brokers forming a cluster.

use super::super::proto::peer_server::{Peer, PeerServer};
use super::super::proto::{
    CallRequest, CallResponse, Closed, Envelope, Hello, ReadRequest, ReadResponse,
};
use super::*;
use crate::formation::{Birth, Formation, FormationInput, FormationOutput, Founder};
use eraftpb::MessageType::{MsgAppend, MsgHeartbeat};
use telemetry::labels::{Lane, PeerDropWhy};
use tonic::{Request, Response, Status, Streaming};

type Threads = Result<(), Box<dyn std::error::Error>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_lane_keeps_its_order_and_loses_nothing() {
    let (one, mut two) = pair().await;
    const EACH: u64 = 3_000;
    for index in 1..=EACH {
        let append = item(MsgAppend, index, 700);
        let mut left = one.peers.send(BrokerId(2), append);
        while let Err(back) = left {
            tokio::task::yield_now().await;
            left = one.peers.send(BrokerId(2), back);
        }
        one.peers.send(BrokerId(2), item(MsgHeartbeat, index, 0)).unwrap();
    }
    let (mut appends, mut beats, mut envelopes) = (0, 0, 0u64);
    two.until("all messages", |seen| {
        let Seen::Raft(BrokerId(1), items) = seen else { return None };
        envelopes += 1;
        for item in items {
            let last = match item.message.get_msg_type() {
                MsgAppend => &mut appends,
                _ => &mut beats,
            };
            assert_eq!(item.message.index, *last + 1);
            *last += 1;
        }
        (appends == EACH && beats == EACH).then_some(())
    })
    .await;
    assert!(envelopes < EACH, "messages are batched: {envelopes} envelopes");
    assert_eq!(one.peers.status()[0].queued_bulk_bytes, 0);
}

/// Shakes hands properly, reads control, never reads bulk.
struct Stalled {
    identity: Identity,
    beats: mpsc::Sender<usize>,
}

#[tonic::async_trait]
impl Peer for Stalled {
    async fn handshake(&self, request: Request<Hello>) -> Result<Response<Hello>, Status> {
        Ok(Response::new(self.identity.hello(BrokerId(request.into_inner().broker))))
    }
    async fn control(&self, r: Request<Streaming<Envelope>>) -> Result<Response<Closed>, Status> {
        let mut stream = r.into_inner();
        while let Some(envelope) = stream.message().await? {
            let _ = self.beats.try_send(envelope.items.len());
        }
        Ok(Response::new(Closed {}))
    }
    async fn bulk(&self, _open: Request<Streaming<Envelope>>) -> Result<Response<Closed>, Status> {
        std::future::pending().await
    }
    async fn call(&self, _: Request<CallRequest>) -> Result<Response<CallResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_bulk_lane_hands_back_at_its_bound_and_holds_no_heartbeat_up() {
    let (beats, mut heard) = mpsc::channel(1_000);
    let stalled = Stalled { identity: identity(2, 21, Some(CLUSTER)), beats };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder();
    telemetry::task::spawn(
        "test",
        server.serve_with_incoming_shutdown(
            PeerServer::new(stalled),
            incoming,
            std::future::pending(),
        ),
    );
    let own = identity(1, 11, Some(CLUSTER));
    let mut one = TestBroker::start(own, "127.0.0.1:0", &[(2, &at)]).await;
    one.until_connected(2).await;

    let chunk = 256 << 10;
    let mut accepted = 0;
    let full_at = loop {
        match one.peers.send(BrokerId(2), item(MsgAppend, 1, chunk)) {
            Ok(()) => accepted += chunk,
            Err(_) => {
                // What the connection has room for may still be on its way out of the queue.
                tokio::time::sleep(Duration::from_millis(50)).await;
                if one.peers.send(BrokerId(2), item(MsgAppend, 1, chunk)).is_err() {
                    break accepted;
                }
                accepted += chunk;
            }
        }
        assert!(accepted < 64 << 20, "the queue has no bound");
    };
    assert!(full_at >= limits::PEER_BULK_BYTES_MAX - 2 * chunk, "{full_at}");
    assert!(one.peers.status()[0].queued_bulk_bytes <= limits::PEER_BULK_BYTES_MAX);

    one.peers.send(BrokerId(2), item(MsgHeartbeat, 1, 0)).unwrap();
    let beat = async { while heard.recv().await != Some(1) {} };
    tokio::time::timeout(Duration::from_secs(5), beat).await.expect("the control lane is free");
}

#[tokio::test]
async fn an_item_above_the_envelope_is_handed_back_and_counted() {
    let (one, _two) = pair().await;
    let dropped = telemetry::metrics().peer_dropped_total.at(Lane::Bulk, PeerDropWhy::TooLarge);
    let before = dropped.get();
    let huge = item(MsgAppend, 1, limits::ENVELOPE_BYTES_MAX);
    assert!(one.peers.send(BrokerId(2), huge).is_err());
    assert_eq!(dropped.get(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_item_arrives() {
    let (one, mut two) = pair().await;
    let large = item(MsgAppend, 9, limits::ENVELOPE_BYTES_MAX - 4_096);
    one.peers.send(BrokerId(2), large.clone()).unwrap();
    let got = two.until("it", |seen| match seen {
        Seen::Raft(_, items) => Some(items.clone()),
        _ => None,
    });
    assert_eq!(got.await, [large]);
}

#[tokio::test]
async fn gossip_and_calls_arrive_and_calls_keep_their_deadline() {
    let (one, mut two) = pair().await;
    let to = BrokerId(2);
    one.peers.broadcast(Bytes::from_static(b"leader of 7"));
    let gossip = Seen::Gossip(BrokerId(1), Bytes::from_static(b"leader of 7"));
    two.until("the gossip", |seen| (*seen == gossip).then_some(())).await;

    let second = Duration::from_secs(5);
    let answer = one.peers.call(to, Bytes::from_static(b"hi"), second).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"1:hi")));
    let late = one.peers.call(to, Bytes::from_static(b"slow"), Duration::from_millis(50)).await;
    assert_eq!(late, Err(CallError::Deadline));
    let large = Bytes::from(vec![0; limits::PEER_CALL_BYTES_MAX + 1]);
    let large = one.peers.call(to, large, second).await;
    assert_eq!(large, Err(CallError::TooLarge(limits::PEER_CALL_BYTES_MAX + 1)));
    let nobody = one.peers.call(BrokerId(9), Bytes::new(), second).await;
    assert_eq!(nobody, Err(CallError::NotConnected(BrokerId(9))));
    two.peers.shutdown().await;
    while one.peers.connected() == [to] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let gone = one.peers.call(to, Bytes::new(), second).await;
    assert_eq!(gone, Err(CallError::NotConnected(to)));
}

#[tokio::test]
async fn raft_waits_for_the_birth_of_both_sides_and_a_birth_is_told_at_once() {
    let (at1, at2) = (free_address(), free_address());
    let mut one = TestBroker::start(identity(1, 11, None), &at1, &[(2, &at2)]).await;
    let mut two = TestBroker::start(identity(2, 21, None), &at2, &[(1, &at1)]).await;
    one.until_connected(2).await;
    two.until_connected(1).await;
    one.identity.set_birth(CLUSTER, Bytes::from_static(b"born"));
    two.until("the birth", |seen| match seen {
        Seen::Hello(peer) if peer.birth.as_deref() == Some(b"born") => Some(()),
        _ => None,
    })
    .await;
    one.peers.send(BrokerId(2), item(MsgHeartbeat, 1, 0)).unwrap();
    let early = Seen::Refused(Some(BrokerId(1)), Refusal::Unborn);
    two.until("the refusal", |seen| {
        assert!(!matches!(seen, Seen::Raft(..)));
        (*seen == early).then_some(())
    })
    .await;
    two.identity.set_birth(CLUSTER, Bytes::from_static(b"born"));
    one.peers.send(BrokerId(2), item(MsgHeartbeat, 2, 0)).unwrap();
    two.until("the heartbeat", |seen| match seen {
        Seen::Raft(_, items) => {
            assert_eq!(items[0].message.index, 2);
            Some(())
        }
        _ => None,
    })
    .await;
    let after = one.watch(Duration::from_millis(100)).await;
    assert!(!after.contains(&Seen::Disconnected(BrokerId(2))), "the link stood: {after:?}");
}

/// One broker's formation, driven by what its transport hears.
async fn form(mut broker: TestBroker, id: i32) -> (TestBroker, Birth) {
    let own = Founder {
        broker: BrokerId(id),
        directory: directory(id),
        cluster_if_founding: CLUSTER,
        cluster_required: None,
    };
    let mut formation = Formation::new(own, vec![BrokerId(1), BrokerId(2), BrokerId(3)], None);
    let mut inputs = vec![FormationInput::Start];
    loop {
        while let Some(input) = inputs.pop() {
            for output in formation.step(input) {
                match output {
                    FormationOutput::Persist(_) => inputs.push(FormationInput::Persisted),
                    FormationOutput::Offer(birth) => {
                        broker.identity.set_birth(birth.cluster, birth.encode().into());
                    }
                    FormationOutput::Done(birth) => return (broker, birth),
                    FormationOutput::Refuse { why, .. } => panic!("{why}"),
                }
            }
        }
        let hello = |seen: &Seen| match seen {
            Seen::Hello(peer) => Some(peer.clone()),
            _ => None,
        };
        let peer = broker.until("a hello", hello).await;
        let birth = peer.birth.map(|bytes| Birth::decode(&bytes).unwrap());
        let (broker, directory) = (peer.broker, peer.directory);
        inputs.push(FormationInput::Hello { broker, directory, birth });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_brokers_started_one_by_one_form_a_cluster() -> Threads {
    let at: Vec<_> = (0..3).map(|_| free_address()).collect();
    let others: Vec<_> = (1..).zip(at.iter().map(String::as_str)).collect();
    let mut forming = Vec::new();
    for id in [3, 1, 2] {
        let listen = &at[id as usize - 1];
        let broker = TestBroker::start(identity(id, 10, None), listen, &others).await;
        forming.push(telemetry::task::spawn("test", form(broker, id)));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let mut brokers = Vec::new();
    let mut births = Vec::new();
    for task in forming {
        let (broker, birth) = task.await?;
        brokers.push(broker);
        births.push(birth);
    }
    assert_eq!(births[0].voters(), [1, 2, 3].map(ReplicaId));
    assert!(births.iter().all(|birth| *birth == births[0]));
    Ok(())
}
