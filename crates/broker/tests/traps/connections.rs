//! Clients that lie, idle, crowd or die, and a broker that leaves.

use std::time::{Duration, Instant};

use broker::BrokerConfig;
use bytes::Buf;
use model::ErrorCode;
use telemetry::labels::FrameRefusedWhy;
use telemetry::metrics;
use wire::api::fetch::FetchResponse;
use wire::api::metadata::MetadataRequest;
use wire::api::produce::ProduceResponse;
use wire::encode_request;

use crate::harness::{Client, batch, block_on, fetch, front, node, produce, topic};

fn refused(why: FrameRefusedWhy) -> u64 {
    metrics().frames_refused_total.at(why).get()
}

#[test]
fn bytes_that_lie_cost_one_connection_and_are_counted() {
    let good = encode_request(9, 1, None, &MetadataRequest::default()).unwrap().to_bytes();
    let frame = |body: &[u8]| [&(body.len() as i32).to_be_bytes()[..], body].concat();
    let with = |at: usize, bytes: &[u8]| {
        let mut body = good[4..].to_vec();
        body[at..at + bytes.len()].copy_from_slice(bytes);
        frame(&body)
    };
    let cases = [
        ("a negative length", (-5i32).to_be_bytes().to_vec(), FrameRefusedWhy::NegativeLength),
        ("2 GiB", i32::MAX.to_be_bytes().to_vec(), FrameRefusedWhy::TooLarge),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), FrameRefusedWhy::TooLarge),
        ("nothing", frame(&[]), FrameRefusedWhy::Truncated),
        ("half a header", frame(&good[4..9]), FrameRefusedWhy::Truncated),
        ("an unknown API", with(0, &[0x7f, 0]), FrameRefusedWhy::UnknownApi),
        ("Produce 2", with(0, &[0, 0, 0, 2]), FrameRefusedWhy::UnsupportedVersion),
    ];
    for (what, bytes, why) in cases {
        let before = refused(why);
        let mut client = Client::new();
        client.raw(&bytes);
        assert!(client.is_closed(), "{what}");
        assert!(refused(why) > before, "{what} is counted as {}", why.as_str());
    }
    let mut lying = Client::new();
    // An array of two billion topics in a frame of forty bytes.
    let mut body =
        encode_request(1, 1, None, &MetadataRequest::default()).unwrap().to_bytes()[4..].to_vec();
    let at = body.len() - 4;
    body[at..].copy_from_slice(&i32::MAX.to_be_bytes());
    lying.raw(&frame(&body));
    assert!(lying.is_closed());
    assert!(!Client::new().call(9, &MetadataRequest::default()).brokers.is_empty());
}

#[test]
fn a_frame_that_is_never_finished_hurts_nobody() {
    let mut half = Client::new();
    half.raw(&1_000_000i32.to_be_bytes());
    half.raw(&[0; 100]);
    assert!(!Client::new().call(9, &MetadataRequest::default()).brokers.is_empty());
    let before = refused(FrameRefusedWhy::Truncated);
    drop(half);
    let patience = Instant::now() + Duration::from_secs(10);
    while refused(FrameRefusedWhy::Truncated) == before {
        assert!(Instant::now() < patience, "an abandoned frame is counted");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_was_asked_before_a_lie_was_done() {
    let (topic, mut client) = (topic(1), Client::new());
    client.send(9, &produce(9, &topic, -1, batch(&["kept"])));
    client.raw(&(-1i32).to_be_bytes());
    while client.frame().is_some() {}
    let patience = Instant::now() + Duration::from_secs(10);
    while Client::new().fetch(12, &topic, 0).high_watermark != 1 {
        assert!(Instant::now() < patience, "a batch that was read is stored");
    }
}

#[test]
fn a_spent_budget_stops_producers_and_nobody_else() {
    let (topic, mut producer) = (topic(1), Client::new());
    let budget = node().budget();
    // Others of these tests use it too: take what they leave until nothing is left.
    let mut held = Vec::new();
    for bytes in (0..26).rev().map(|power| 1usize << power) {
        held.extend(std::iter::from_fn(|| budget.try_acquire(bytes)));
    }
    let paused = metrics().reads_paused_total.get();
    producer.send(9, &produce(9, &topic, -1, batch(&["waits"])));
    let patience = Instant::now() + Duration::from_secs(10);
    while metrics().reads_paused_total.get() == paused {
        assert!(Instant::now() < patience, "the producer's connection stops reading");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut other = Client::new();
    assert!(!other.call(9, &MetadataRequest::default()).brokers.is_empty());
    assert_eq!(other.fetch(12, &topic, 0).high_watermark, 0);
    drop(held);
    let (_, stored) = producer.receive::<ProduceResponse>(9);
    assert_eq!(stored.responses[0].partition_responses[0].error_code, ErrorCode::None);
}

#[test]
fn limits_of_size_number_and_patience() {
    let config = BrokerConfig {
        request_bytes_max: 1_000,
        connections_max: 1,
        // A machine that stands still for a moment is not an idle client.
        idle_ms: 1_500,
        ..BrokerConfig::default()
    };
    let (handle, address) = front(config);
    let (topic, mut first) = (topic(1), Client::to(address));
    assert_eq!(first.produce(9, &topic, -1, batch(&["fits"])).error_code, ErrorCode::None);
    assert!(Client::to(address).is_closed(), "one too many");
    let mut waiting = fetch(12, &topic, 1);
    (waiting.max_wait_ms, waiting.min_bytes) = (4_000, 1);
    assert_eq!(first.call(12, &waiting).error_code, ErrorCode::None, "who waits is not idle");
    let began = Instant::now();
    assert!(first.is_closed(), "idle");
    assert!(began.elapsed() < Duration::from_secs(5));
    let patience = Instant::now() + Duration::from_secs(5);
    while handle.connections() > 0 && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut second = Client::to(address);
    second.send(9, &produce(9, &topic, -1, batch(&["x".repeat(2_000).as_str()])));
    assert!(second.is_closed(), "too large");
}

#[test]
fn draining_answers_long_polls_and_ends() {
    let (handle, address) = front(BrokerConfig::default());
    let (topic, mut polling) = (topic(1), Client::to(address));
    let mut request = fetch(12, &topic, 0);
    (request.max_wait_ms, request.min_bytes) = (60_000, 1);
    polling.send(12, &request);
    let mut resting = Client::to(address);
    resting.call(9, &MetadataRequest::default());
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    assert_eq!(block_on(handle.drain(Duration::from_secs(10))), 0, "nobody was cut off");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let (_, response) = polling.receive::<FetchResponse>(12);
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::None);
    assert!(polling.is_closed() && resting.is_closed());
    assert!(std::net::TcpStream::connect(address).is_err(), "the port is free");
}

/// What librdkafka 2.16 sends for `list_topics()`: Metadata v13 with a byte behind its body.
/// Kafka never looks there.
#[test]
fn bytes_behind_a_request_are_let_be() {
    let sent: &[u8] = b"\0\0\0\x19\0\x03\0\x0d\0\0\0\x04\0\x07rdkafka\0\0\0\0\0\x01\0\0";
    let mut client = Client::new();
    client.raw(sent);
    let mut answer = client.frame().expect("an answer, not a closed connection");
    assert_eq!(answer.get_i32(), 4);
}
