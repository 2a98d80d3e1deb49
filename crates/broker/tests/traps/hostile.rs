//! Bytes and clients that mean harm. Whatever they do costs their own connection; a client
//! beside them is served, and each refusal is counted by its reason.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use broker::BrokerConfig;
use bytes::BytesMut;
use decoders::seeds::{self, Dice};
use model::ErrorCode;
use telemetry::labels::{ConnectionOutcome, FrameRefusedWhy};
use telemetry::metrics;
use wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use wire::api::metadata::MetadataRequest;
use wire::records::{BATCH_HEADER_LEN, BatchBuilder, put_varint};
use wire::{encode_request, supported_versions};

use crate::harness::{Client, Topic, batch, fetch, front, node, produce, topic};

/// Malformed frames sent to a broker.
const FRAMES: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn some_request(dice: &mut Dice) -> Vec<u8> {
    let apis = supported_versions();
    let api = &apis[dice.below(apis.len() as u64) as usize];
    let versions = u64::from((api.max - api.min_served + 1).unsigned_abs());
    seeds::request(api, api.min_served + dice.below(versions) as i16, dice)
}

fn malformed(seed: u64, known: &[Vec<u8>]) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut frame = match dice.below(4) {
        0 => known[dice.below(known.len() as u64) as usize].clone(),
        1 => {
            let length = 1 + dice.below(80) as usize;
            dice.bytes(length).to_vec()
        }
        _ => some_request(&mut dice),
    };
    seeds::lie(&mut frame, &mut dice);
    let length = match dice.below(12) {
        0 => dice.roll() as i32,
        1 => frame.len() as i32 + 3,
        _ => frame.len() as i32,
    };
    [&length.to_be_bytes()[..], &frame].concat()
}

fn refusals() -> u64 {
    let all = FrameRefusedWhy::ALL.iter();
    all.map(|why| metrics().frames_refused_total.at(*why).get()).sum()
}

#[test]
fn ten_thousand_malformed_frames_harm_nobody_else() {
    let (topic, mut beside) = (topic(1), Client::new());
    let (_handle, address) = front(BrokerConfig { idle_ms: 2_000, ..BrokerConfig::default() });
    let known: Vec<Vec<u8>> = [
        encode_request(9, 1, None, &produce(9, &topic, -1, batch(&["a", "b"]))).unwrap(),
        encode_request(12, 1, None, &fetch(12, &topic, 0)).unwrap(),
        encode_request(9, 1, None, &MetadataRequest::default()).unwrap(),
    ]
    .map(|frame| frame.to_bytes()[4..].to_vec())
    .into();
    let (refused, began) = (refusals(), Instant::now());
    let mut stored = 0;
    for seed in 0..FRAMES {
        if let Ok(mut socket) = TcpStream::connect(address) {
            // The broker may close before all is written.
            let _ = socket.write_all(&malformed(seed, &known));
            let _ = socket.shutdown(std::net::Shutdown::Write);
        }
        if seed % 500 == 0 {
            assert_eq!(beside.produce(9, &topic, -1, batch(&["x"])).error_code, ErrorCode::None);
            stored += 1;
            assert!(began.elapsed() < PATIENCE, "{seed} frames took {:?}", began.elapsed());
        }
    }
    assert_eq!(beside.produce(9, &topic, -1, batch(&["x"])).error_code, ErrorCode::None);
    assert!(beside.fetch(12, &topic, 0).high_watermark > stored);
    let refused = refusals() - refused;
    assert!(refused > FRAMES / 3, "only {refused} were refused and counted");
    assert!(node().budget().used() < node().budget().limit(), "memory was given back");
}

#[test]
fn a_frame_that_dribbles_is_given_up_in_time() {
    let late = || metrics().frames_refused_total.at(FrameRefusedWhy::Late).get();
    let before = late();
    let mut slow = Client::new();
    slow.raw(&[0, 0]);
    assert!(slow.is_closed(), "half a length, and then nothing");
    assert!(late() > before);
}

#[test]
fn one_address_cannot_take_every_seat() {
    let limits = BrokerConfig { connections_max_per_ip: 2, ..BrokerConfig::default() };
    let (_handle, address) = front(limits);
    let refused = || metrics().connections_total.at(ConnectionOutcome::RefusedIpLimit).get();
    let before = refused();
    let mut held = [Client::to(address), Client::to(address)];
    held.iter_mut().for_each(|client| drop(client.call(9, &MetadataRequest::default())));
    assert!(Client::to(address).is_closed());
    assert!(refused() > before);
}

#[test]
fn a_client_that_never_reads_is_given_up() {
    let given_up = || metrics().connections_total.at(ConnectionOutcome::NotReading).get();
    let (topic, before) = (topic(1), given_up());
    let large = "x".repeat(900_000);
    assert_eq!(Client::new().produce(9, &topic, -1, batch(&[&large])).error_code, ErrorCode::None);
    let (_handle, address) = front(BrokerConfig { idle_ms: 500, ..BrokerConfig::default() });
    let frame = encode_request(12, 1, None, &fetch(12, &topic, 0)).unwrap().to_bytes();
    let mut deaf = TcpStream::connect(address).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // Thousands of requests in a row; the broker takes as many as it may owe.
    for _ in 0..2_000 {
        if deaf.write_all(&frame).is_err() {
            break;
        }
    }
    let patience = Instant::now() + Duration::from_secs(20);
    while given_up() == before {
        assert!(Instant::now() < patience, "still waiting for a client that does not read");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut rest = [0; 1 << 16];
    while deaf.read(&mut rest).is_ok_and(|read| read > 0) {}
    assert!(!Client::new().call(9, &MetadataRequest::default()).brokers.is_empty());
}

fn by_time(topic: &Topic, timestamp: i64) -> (ErrorCode, i64, i64) {
    let partition = ListOffsetsPartition { timestamp, ..Default::default() };
    let asked = ListOffsetsTopic { name: topic.name.clone(), partitions: vec![partition] };
    let request = ListOffsetsRequest { topics: vec![asked], ..Default::default() };
    let answer = Client::new().call(7, &request).topics.remove(0).partitions.remove(0);
    (answer.error_code, answer.offset, answer.timestamp)
}

#[test]
fn a_time_inside_a_compressed_batch_is_found_exactly() {
    const START: i64 = 1_700_000_000_000;
    let plain = (0..50)
        .fold(BatchBuilder::new(START), |batch, n| batch.record(START + n, None, Some(b"v"), &[]))
        .build();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    gzip.write_all(&plain[BATCH_HEADER_LEN..]).unwrap();
    // The builder knows no timestamp of bytes it is given: the header gets it by hand.
    let packed = BatchBuilder::new(START).attributes(1).raw(50, &gzip.finish().unwrap());
    let packed = packed.max_timestamp(START + 49).build();
    let topic = topic(1);
    assert_eq!(Client::new().produce(9, &topic, -1, packed).error_code, ErrorCode::None);
    assert_eq!(by_time(&topic, START + 17), (ErrorCode::None, 17, START + 17));
    assert_eq!(by_time(&topic, -3), (ErrorCode::None, 49, START + 49));
    assert_eq!(by_time(&topic, START + 50).1, -1);
}

#[test]
fn records_that_do_not_open_are_refused_before_they_are_in_the_log() {
    let (topic, mut client) = (topic(1), Client::new());
    let gzip = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    let packed = |count, body: &[u8]| BatchBuilder::new(0).attributes(1).raw(count, body).build();
    let sound = batch(&["a", "b", "c"]).slice(BATCH_HEADER_LEN..);
    let mut damaged = gzip(&sound);
    damaged[12] ^= 0x55;
    // A well-formed record of 130 MiB of zeros, in 130 KiB.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    let mut head = BytesMut::new();
    put_varint(&mut head, 10 + (130 << 20));
    head.extend_from_slice(&[0, 0, 0, 1]);
    put_varint(&mut head, 130 << 20);
    bomb.write_all(&head).unwrap();
    (0..130).for_each(|_| bomb.write_all(&[0; 1 << 20]).unwrap());
    bomb.write_all(&[0]).unwrap();
    let bomb = bomb.finish().unwrap();
    let cases = [
        ("no gzip", packed(1, b"no gzip"), ErrorCode::CorruptMessage),
        ("damaged", packed(3, &damaged), ErrorCode::CorruptMessage),
        ("a record more", packed(4, &gzip(&sound)), ErrorCode::InvalidRecord),
        ("a record less", packed(2, &gzip(&sound)), ErrorCode::InvalidRecord),
        ("a bomb", packed(1, &bomb), ErrorCode::InvalidRecord),
        ("half of a record", packed(3, &gzip(&sound[..20])), ErrorCode::InvalidRecord),
    ];
    for (what, batch, code) in cases {
        let answer = client.produce(9, &topic, -1, batch);
        assert_eq!((answer.error_code, answer.base_offset), (code, -1), "{what}");
        let why = answer.error_message.unwrap();
        assert_eq!(why.contains("open to more"), what == "a bomb", "{what}: {why}");
    }
    let stored = client.produce(9, &topic, -1, packed(3, &gzip(&sound)));
    assert_eq!((stored.error_code, stored.base_offset), (ErrorCode::None, 0));
    // Much more than is opened where it is read.
    let long = gzip(&batch(&["x".repeat(900_000).as_str()])[BATCH_HEADER_LEN..]);
    assert_eq!(client.produce(9, &topic, -1, packed(1, &long)).base_offset, 3);
}
