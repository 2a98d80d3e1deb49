//! Peers that are not what they should be: each is refused, named, and never reaches raft.

use super::super::identity::PROTOCOL_VERSION;
use super::super::proto::peer_client::PeerClient;
use super::super::proto::{Envelope, Hello, Route, Side};
use super::*;
use eraftpb::MessageType::{MsgAppend, MsgHeartbeat};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A hand-made peer that can lie.
struct Liar {
    client: PeerClient<Channel>,
    hello: Hello,
    route: Route,
}

impl Liar {
    async fn connect(to: &TestBroker, broker: i32, life: u64) -> Liar {
        let address = format!("http://{}", to.peers.listen_address());
        let id = |id: [u8; 16]| Bytes::copy_from_slice(&id);
        let target = &to.identity;
        Liar {
            client: PeerClient::connect(address).await.unwrap(),
            hello: Hello {
                version: PROTOCOL_VERSION,
                cluster: id(CLUSTER.0),
                broker,
                directory: id(directory(broker).0),
                incarnation: life,
                birth: Bytes::new(),
                to_broker: target.broker().0,
                admin: String::new(),
            },
            route: Route {
                version: PROTOCOL_VERSION,
                cluster: id(CLUSTER.0),
                from: Some(Side { broker, directory: id(directory(broker).0), incarnation: life }),
                to: Some(Side {
                    broker: target.broker().0,
                    directory: id(target.directory().0),
                    incarnation: target.incarnation().0,
                }),
            },
        }
    }

    async fn shake(&mut self) -> Result<Hello, Status> {
        Ok(self.client.handshake(self.hello.clone()).await?.into_inner())
    }

    /// One envelope with one heartbeat, then the end of the stream.
    async fn write(&mut self) -> Result<(), Status> {
        let items = vec![codec::encode(item(MsgHeartbeat, 1, 0))];
        let envelope = Envelope { route: Some(self.route.clone()), items, gossip: Vec::new() };
        self.client.control(tokio_stream::iter([envelope])).await?;
        Ok(())
    }
}

async fn lone() -> TestBroker {
    TestBroker::start(identity(1, 11, Some(CLUSTER)), "127.0.0.1:0", &[]).await
}

async fn assert_refused(broker: &mut TestBroker, status: Result<(), Status>, why: Refusal) {
    let status = status.expect_err("must be refused");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    broker
        .until("the refusal", |seen| match seen {
            Seen::Raft(..) => panic!("it reached raft: {seen:?}"),
            Seen::Refused(_, seen) => {
                assert_eq!(*seen, why);
                Some(())
            }
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn an_honest_peer_is_heard() {
    let mut broker = lone().await;
    let mut honest = Liar::connect(&broker, 2, 21).await;
    assert_eq!(honest.shake().await.unwrap().incarnation, 11);
    honest.write().await.unwrap();
    broker.until("raft", |seen| matches!(seen, Seen::Raft(BrokerId(2), _)).then_some(())).await;
}

#[tokio::test]
async fn a_newer_peer_is_heard_and_an_ancient_one_refused() {
    let mut broker = lone().await;
    let mut newer = Liar::connect(&broker, 2, 21).await;
    (newer.hello.version, newer.route.version) = (99, 99);
    newer.shake().await.unwrap();
    newer.write().await.unwrap();
    broker.until("raft", |seen| matches!(seen, Seen::Raft(..)).then_some(())).await;
    let mut ancient = Liar::connect(&broker, 3, 31).await;
    ancient.hello.version = 0;
    let refused = ancient.shake().await.map(drop);
    assert_refused(&mut broker, refused, Refusal::Version).await;
}

#[tokio::test]
async fn writing_without_a_handshake_is_refused() {
    let mut broker = lone().await;
    let refused = Liar::connect(&broker, 2, 21).await.write().await;
    assert_refused(&mut broker, refused, Refusal::Incarnation).await;
}

#[tokio::test]
async fn an_earlier_life_of_the_sender_is_refused() {
    let mut broker = lone().await;
    let mut old = Liar::connect(&broker, 2, 21).await;
    old.shake().await.unwrap();
    Liar::connect(&broker, 2, 22).await.shake().await.unwrap();
    let refused = old.write().await;
    assert_refused(&mut broker, refused, Refusal::Incarnation).await;
}

#[tokio::test]
async fn envelopes_for_an_earlier_life_another_disk_or_broker_are_refused() {
    let mut broker = lone().await;
    let mut peer = Liar::connect(&broker, 2, 21).await;
    peer.shake().await.unwrap();
    let honest = peer.route.clone();
    let to = honest.to.clone().unwrap();
    let other = Bytes::from_static(&[9; 16]);
    for (to, why) in [
        (Side { incarnation: 10, ..to.clone() }, Refusal::Incarnation),
        (Side { directory: other, ..to.clone() }, Refusal::Directory),
        (Side { directory: Bytes::new(), ..to.clone() }, Refusal::Garbled),
        (Side { broker: 7, ..to }, Refusal::BrokerId),
    ] {
        peer.route = Route { to: Some(to), ..honest.clone() };
        let refused = peer.write().await;
        assert_refused(&mut broker, refused, why).await;
    }
    peer.route = Route { cluster: Bytes::from_static(&[8; 16]), ..honest };
    let refused = peer.write().await;
    assert_refused(&mut broker, refused, Refusal::Cluster).await;
}

#[tokio::test]
async fn another_directory_under_a_streaming_broker_id_is_refused() {
    let mut broker = lone().await;
    let mut first = Liar::connect(&broker, 2, 21).await;
    first.shake().await.unwrap();
    let (hold, stream) = mpsc::channel(1);
    let opening = Envelope { route: Some(first.route.clone()), ..Default::default() };
    hold.send(opening).await.unwrap();
    let mut client = first.client.clone();
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let streaming =
        telemetry::task::spawn("test", async move { client.control(stream).await.map(drop) });
    let mut second = Liar::connect(&broker, 2, 22).await;
    second.hello.directory = Bytes::from_static(&[9; 16]);
    let mut refused = second.shake().await;
    for _ in 0..100 {
        if refused.is_err() {
            break; // the first stream had not opened yet, so the second was believed
        }
        first.shake().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        refused = second.shake().await;
    }
    assert_refused(&mut broker, refused.map(drop), Refusal::Directory).await;
    drop(hold);
    streaming.await.unwrap().unwrap();
    second.shake().await.expect("a wiped disk may join once the old process is gone");
}

#[tokio::test]
async fn a_broker_with_its_own_id_or_directory_is_refused() {
    let mut broker = lone().await;
    let mut twin = Liar::connect(&broker, 1, 99).await;
    let refused = twin.shake().await.map(drop);
    assert_refused(&mut broker, refused, Refusal::BrokerId).await;
    let mut copy = Liar::connect(&broker, 2, 99).await;
    copy.hello.directory = Bytes::copy_from_slice(&directory(1).0);
    let refused = copy.shake().await.map(drop);
    assert_refused(&mut broker, refused, Refusal::Directory).await;
    let mut lost = Liar::connect(&broker, 2, 99).await;
    lost.hello.to_broker = 3;
    let refused = lost.shake().await.map(drop);
    assert_refused(&mut broker, refused, Refusal::BrokerId).await;
}

#[tokio::test]
async fn garbled_raft_bytes_close_the_stream() {
    let mut broker = lone().await;
    let mut peer = Liar::connect(&broker, 2, 21).await;
    peer.shake().await.unwrap();
    let mut bad = codec::encode(item(MsgHeartbeat, 1, 0));
    bad.message = Bytes::from_static(&[0xff; 32]);
    let route = Some(peer.route.clone());
    let envelope = Envelope { route, items: vec![bad], gossip: Vec::new() };
    let refused = peer.client.bulk(tokio_stream::iter([envelope])).await.map(drop);
    assert_refused(&mut broker, refused, Refusal::Garbled).await;
}

#[tokio::test]
async fn two_clusters_refuse_each_other_and_say_so() {
    let (at1, at2) = (free_address(), free_address());
    let foreign = ClusterId([0xc2; 16]);
    let mut one = TestBroker::start(identity(1, 11, Some(CLUSTER)), &at1, &[(2, &at2)]).await;
    let mut two = TestBroker::start(identity(2, 21, Some(foreign)), &at2, &[(1, &at1)]).await;
    for broker in [&mut one, &mut two] {
        broker
            .until("the refusal", |seen| match seen {
                Seen::Connected(_) | Seen::Raft(..) => panic!("{seen:?}"),
                Seen::Refused(_, why) => {
                    assert_eq!(*why, Refusal::Cluster);
                    Some(())
                }
                _ => None,
            })
            .await;
    }
    let seen = one.watch(Duration::from_millis(700)).await;
    assert!(!seen.iter().any(|s| matches!(s, Seen::Connected(_) | Seen::Died(_))), "{seen:?}");
    let status = &one.peers.status()[0];
    assert!(status.last_error.as_ref().unwrap().contains("two clusters never merge"), "{status:?}");
}

#[tokio::test]
async fn raft_is_bound_to_a_directory_while_calls_go_on() {
    let (mut one, two) = pair().await;
    let to = BrokerId(2);
    one.peers.bind(to, directory(2));
    one.peers.send(to, item(MsgAppend, 1, 0)).unwrap();
    one.peers.bind(to, directory(7));
    assert!(one.peers.send(to, item(MsgAppend, 2, 0)).is_err());
    let call = one.peers.call(to, Bytes::from_static(b"join"), PATIENCE).await;
    assert_eq!(call, Ok(Bytes::from_static(b"1:join")));
    two.peers.send(BrokerId(1), item(MsgHeartbeat, 3, 0)).unwrap();
    // Once for what was not sent, once for what was not heard.
    for _ in 0..2 {
        one.until("the refusal", |seen| {
            assert!(!matches!(seen, Seen::Raft(..)));
            (*seen == Seen::Refused(Some(to), Refusal::Directory)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_port_in_use_and_an_odd_address_are_one_clear_line() {
    let broker = lone().await;
    let start = |listen: String, peers| {
        let cfg = PeerConfig { listen, peers, identity: identity(2, 21, None) };
        Peers::start(cfg, Arc::new(Ear(mpsc::channel(1).0)))
    };
    let taken = broker.peers.listen_address().to_string();
    let line = start(taken.clone(), vec![]).await.err().unwrap().to_string();
    assert!(line.starts_with(&format!("cannot listen for peers on {taken}")), "{line}");
    assert!(line.contains("another process holds this port") && !line.contains('\n'), "{line}");
    for odd in ["", "host", "host:", ":1", "host:99999", "ho st:1"] {
        let peers = vec![(BrokerId(1), odd.to_owned())];
        let error = start("127.0.0.1:0".into(), peers).await.err();
        assert!(matches!(error, Some(PeerError::Address { .. })), "{odd}: {error:?}");
    }
}
