//! What the check of a produced batch costs: nanoseconds per record of batches of 1 MiB.
//! `cargo run --release -p decoders --example cost`

use std::time::Instant;

use decoders::seeds::compress;
use wire::records::{BATCH_HEADER_LEN, BatchBuilder, BatchRules, validate, validate_compressed};

const ROUNDS: u32 = 20;
const BATCH_BYTES: usize = 1 << 20;

fn main() {
    for size in [100, 1_024] {
        let words: Vec<u8> = (0..size - 8).map(|n| b"some words, repeated, "[n * 7 % 22]).collect();
        let records = (BATCH_BYTES / size) as i32;
        let batch = (0..records).fold(BatchBuilder::new(0), |batch, n| {
            let noise = i64::from(n).wrapping_mul(0x9e37_79b9).to_be_bytes();
            batch.record(n.into(), None, Some(&[&words[..], &noise].concat()), &[])
        });
        let batch = batch.build();
        cost(&format!("{size} B, none"), records, || {
            validate(&batch, &BatchRules::for_produce(9)).expect("a sound batch");
        });
        for (codec, name) in ["gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
            let body = compress(codec, &batch[BATCH_HEADER_LEN..]);
            let attributes = codec as i16 + 1;
            let packed = BatchBuilder::new(0).attributes(attributes).raw(records, &body).build();
            cost(&format!("{size} B, {name}, {} bytes", packed.len()), records, || {
                validate(&packed, &BatchRules::for_produce(9)).expect("a sound batch");
                validate_compressed(&packed, usize::MAX).expect("sound records");
            });
        }
    }
}

fn cost(what: &str, records: i32, mut check: impl FnMut()) {
    let began = Instant::now();
    (0..ROUNDS).for_each(|_| check());
    let ns = began.elapsed().as_nanos() / u128::from(ROUNDS) / records as u128;
    println!("{what}: {ns} ns per record");
}
