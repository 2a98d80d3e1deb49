//! One node for all tests of this file, as many listeners as they like, and a blocking client.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use broker::{BrokerConfig, Handle, ListenerConfig};
use bytes::Bytes;
use model::{BrokerId, ErrorCode, TopicId};
use node::metadata::Listener;
use node::{InitialBroker, Node, NodeConfig};
use tokio::runtime::Runtime;
use wire::api::create_topics::{CreatableTopic, CreateTopicsRequest};
use wire::api::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use wire::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use wire::records::{BATCH_HEADER_LEN, BatchBuilder};
use wire::{Message, Request, decode_response, encode_request};

pub const LISTENER: &str = "TEST";

struct World {
    runtime: Runtime,
    node: Arc<Node>,
    address: SocketAddr,
    _handle: Handle,
    _data: tempfile::TempDir,
}

static WORLD: OnceLock<World> = OnceLock::new();

fn world() -> &'static World {
    WORLD.get_or_init(|| {
        let data = tempfile::tempdir().unwrap();
        let peer = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut config = NodeConfig::new(BrokerId(1), data.path().join("broker"), peer.clone());
        config.peers = vec![InitialBroker { id: BrokerId(1), address: peer }];
        config.listeners =
            vec![Listener { name: LISTENER.into(), host: "localhost".into(), port: 9092 }];
        let node = Node::start(config).unwrap();
        let patience = Instant::now() + Duration::from_secs(20);
        while !node.readiness().ready {
            assert!(Instant::now() < patience, "never ready: {:?}", node.readiness().waiting_for);
            std::thread::sleep(Duration::from_millis(10));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let handle = serve_on(&runtime, node.clone(), BrokerConfig::default());
        let address = handle.local_addrs()[0];
        World { runtime, node, address, _handle: handle, _data: data }
    })
}

fn serve_on(runtime: &Runtime, node: Arc<Node>, config: BrokerConfig) -> Handle {
    let _inside = runtime.enter();
    let listener = ListenerConfig { name: LISTENER.into(), bind: "127.0.0.1:0".into() };
    broker::serve(BrokerConfig { listeners: vec![listener], ..config }, node).unwrap()
}

/// One more front of the same node, with limits of its own.
pub fn front(config: BrokerConfig) -> (Handle, SocketAddr) {
    let world = world();
    let handle = serve_on(&world.runtime, world.node.clone(), config);
    let address = handle.local_addrs()[0];
    (handle, address)
}

pub fn node() -> &'static Node {
    &world().node
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    world().runtime.block_on(future)
}

/// A client that waits for its answers.
pub struct Client {
    socket: TcpStream,
    next_id: i32,
}

impl Client {
    pub fn new() -> Client {
        Client::to(world().address)
    }

    pub fn to(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { socket, next_id: 0 }
    }

    /// Sends without waiting; returns the correlation id.
    pub fn send<R: Message>(&mut self, version: i16, request: &R) -> i32 {
        self.next_id += 1;
        let frame = encode_request(version, self.next_id, Some("traps"), request).unwrap();
        self.raw(&frame.to_bytes());
        self.next_id
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        // The broker may have closed already; what counts is what can be read.
        let _ = self.socket.write_all(bytes);
    }

    /// The next frame without its length; `None`: the broker closed the connection.
    pub fn frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        match self.socket.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer in time"),
            Err(_) => return None,
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut frame).unwrap();
        Some(frame.into())
    }

    pub fn receive<M: Message>(&mut self, version: i16) -> (i32, M) {
        let frame = self.frame().expect("an answer");
        decode_response(frame, version).unwrap()
    }

    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request);
        let (answered, response) = self.receive(version);
        assert_eq!(answered, id);
        response
    }

    pub fn is_closed(&mut self) -> bool {
        self.frame().is_none()
    }

    pub fn produce(
        &mut self,
        version: i16,
        topic: &Topic,
        acks: i16,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let mut response = self.call(version, &produce(version, topic, acks, batch));
        response.responses.remove(0).partition_responses.remove(0)
    }

    pub fn fetch(&mut self, version: i16, topic: &Topic, offset: i64) -> PartitionData {
        let mut response = self.call(version, &fetch(version, topic, offset));
        assert_eq!((response.error_code, response.session_id), (ErrorCode::None, 0));
        response.responses.remove(0).partitions.remove(0)
    }
}

/// A topic of a test's own.
#[derive(Clone)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
}

pub fn topic(partitions: i32) -> Topic {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("topic-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let wish = CreatableTopic {
        name: name.clone(),
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![wish], timeout_ms: 10_000, ..Default::default() };
    let created = Client::new().call(7, &request).topics.remove(0);
    assert_eq!(created.error_code, ErrorCode::None, "{:?}", created.error_message);
    assert_eq!((created.num_partitions, created.replication_factor), (partitions, 1));
    Topic { name, id: created.topic_id }
}

/// Records with these values, one batch.
pub fn batch(values: &[&str]) -> Bytes {
    let builder = BatchBuilder::new(1_700_000_000_000);
    values.iter().fold(builder, |batch, value| batch.value(value.as_bytes())).build()
}

pub fn produce(version: i16, topic: &Topic, acks: i16, batch: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData { index: 0, records: Some(batch) };
    let topic = TopicProduceData {
        name: if version < 13 { topic.name.clone() } else { String::new() },
        topic_id: if version < 13 { TopicId::ZERO } else { topic.id },
        partition_data: vec![partition],
    };
    let topic_data = vec![topic];
    ProduceRequest { acks, timeout_ms: 10_000, topic_data, ..Default::default() }
}

/// One partition, no waiting; tests change what they are about.
pub fn fetch(version: i16, topic: &Topic, offset: i64) -> FetchRequest {
    let partition =
        FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic {
        topic: if version < 13 { topic.name.clone() } else { String::new() },
        topic_id: if version < 13 { TopicId::ZERO } else { topic.id },
        partitions: vec![partition],
    };
    FetchRequest { max_bytes: 1 << 20, topics: vec![topic], ..Default::default() }
}

/// A batch of one record in a zstd frame of one block, which is stored as it is.
pub fn zstd_batch() -> Bytes {
    let plain = batch(&["v"]);
    let records = &plain[BATCH_HEADER_LEN..];
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, records.len() as u8];
    frame.extend_from_slice(&(((records.len() as u32) << 3) | 1).to_le_bytes()[..3]);
    frame.extend_from_slice(records);
    BatchBuilder::new(0).attributes(4).raw(1, &frame).build()
}
