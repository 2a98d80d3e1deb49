//! How much memory bytes can claim, measured with a counting allocator: a lying length claims
//! none, and an honest message at most a small multiple of its own size. Alone in its binary,
//! since it counts what the whole thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use model::ApiKey;
use wire::api::{
    create_topics::CreateTopicsRequest, delete_topics::DeleteTopicsRequest,
    describe_configs::DescribeConfigsRequest, fetch::FetchRequest,
    list_offsets::ListOffsetsRequest, metadata::MetadataRequest,
    offset_for_leader_epoch::OffsetForLeaderEpochRequest, produce::ProduceRequest,
};
use wire::{Decoder, Message, decode_request};

/// Bytes of memory that one byte of a message may become at most: a one-byte empty string is
/// a `String` in a `Vec` that has just doubled.
const BYTES_PER_BYTE_MAX: usize = 100;

struct Counting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    LARGEST.set(LARGEST.get().max(bytes));
    HELD.set(HELD.get().saturating_add(bytes));
    PEAK.set(PEAK.get().max(HELD.get()));
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches only
// thread-local cells, which need no allocation and no destructor.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().saturating_sub(layout.size()));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The largest allocation and the peak of memory held while `work` runs, in bytes.
fn measure(work: impl FnOnce()) -> (usize, usize) {
    LARGEST.set(0);
    HELD.set(0);
    PEAK.set(0);
    work();
    (LARGEST.get(), PEAK.get())
}

fn claims<M: Message>(body: &[u8], version: i16) -> (usize, usize) {
    let mut decoder = Decoder::new(Bytes::copy_from_slice(body));
    measure(|| drop(M::decode(&mut decoder, version)))
}

/// Every short body made of the bytes lengths lie with, in every version of `M`.
fn lies_claim_nothing<M: Message>() {
    let lies: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x00, 0x0f, 0x42, 0x40],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x80, 0x94, 0xeb, 0xdc, 0x03],
        &[0, 0, 0, 1],
        &[2],
    ];
    for version in M::VERSIONS {
        for first in lies {
            for second in lies {
                for padding in 0..24 {
                    let mut body = vec![0; padding];
                    body.extend(first.iter().chain(second).chain([0; 8].iter()));
                    let (largest, peak) = claims::<M>(&body, version);
                    let bound = body.len() * BYTES_PER_BYTE_MAX;
                    assert!(
                        largest <= bound && peak <= bound,
                        "{} v{version}: {} bytes claim {peak}: {body:x?}",
                        M::KEY.as_str(),
                        body.len(),
                    );
                }
            }
        }
    }
}

#[test]
fn a_lying_length_claims_no_memory() {
    lies_claim_nothing::<ProduceRequest>();
    lies_claim_nothing::<FetchRequest>();
    lies_claim_nothing::<ListOffsetsRequest>();
    lies_claim_nothing::<MetadataRequest>();
    lies_claim_nothing::<CreateTopicsRequest>();
    lies_claim_nothing::<DeleteTopicsRequest>();
    lies_claim_nothing::<OffsetForLeaderEpochRequest>();
    lies_claim_nothing::<DescribeConfigsRequest>();
}

#[test]
fn a_lying_client_id_claims_no_memory() {
    for length in [i16::MAX, 1, -2] {
        let mut header = (ApiKey::Metadata as i16).to_be_bytes().to_vec();
        header.extend([0, 1, 0, 0, 0, 1]);
        header.extend(length.to_be_bytes());
        let header = Bytes::from(header);
        let (_, peak) = measure(|| assert!(decode_request(header).is_err()));
        assert!(peak < 1024, "{peak} bytes for a client id of {length}");
    }
}

#[test]
fn an_honest_message_takes_a_small_multiple_of_its_bytes() {
    // The smallest elements there are: empty names of version 4, one byte each.
    let names = 300_000_u32;
    let mut body =
        vec![0x80 | (names + 1) as u8, 0x80 | ((names + 1) >> 7) as u8, ((names + 1) >> 14) as u8];
    body.resize(body.len() + names as usize, 1);
    body.extend([0, 0, 0, 0, 0]);
    let mut decoder = Decoder::new(Bytes::from(body.clone()));
    let mut decoded = 0;
    let (_, peak) = measure(|| {
        decoded = DeleteTopicsRequest::decode(&mut decoder, 4).expect("valid").topic_names.len();
    });
    assert_eq!(decoded, names as usize);
    assert!(peak <= body.len() * BYTES_PER_BYTE_MAX, "{peak} bytes for {}", body.len());
}

#[test]
fn the_allocator_counts() {
    let (largest, peak) = measure(|| drop((vec![0_u8; 10_000], vec![0_u8; 5_000])));
    assert!(largest == 10_000 && peak >= 15_000, "{largest} {peak}");
}
