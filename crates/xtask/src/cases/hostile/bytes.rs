//! Bytes that lie, made by hand.

use crate::cluster::kafka::{crc32c, varint};
use crate::dice::Dice;

/// A request with its length in front.
pub fn framed(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(api.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend([0, 0, 0, 7, 0, 1, b'h']);
    frame.extend(body);
    let length = frame.len() as u32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Fetch v4 of partition 0 from its beginning, as much as there is.
pub fn fetch(topic: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let numbers = [-1, 0, 1, i32::MAX];
    numbers.iter().for_each(|number: &i32| body.extend(number.to_be_bytes()));
    body.push(0);
    name(&mut body, topic);
    body.extend([0; 4]);
    body.extend([0; 8]);
    body.extend(i32::MAX.to_be_bytes());
    framed(1, 4, &body)
}

/// Metadata v1 of all topics.
pub fn metadata() -> Vec<u8> {
    framed(3, 1, &(-1i32).to_be_bytes())
}

/// Produce v7 with acks=all of one batch to partition 0.
pub fn produce(topic: &str, batch: &[u8]) -> Vec<u8> {
    let mut body = vec![0xff, 0xff, 0xff, 0xff];
    body.extend(5_000i32.to_be_bytes());
    name(&mut body, topic);
    body.extend([0; 4]);
    body.extend((batch.len() as u32).to_be_bytes());
    body.extend(batch);
    framed(0, 7, &body)
}

/// An array of one topic with an array of one partition behind it.
fn name(body: &mut Vec<u8>, topic: &str) {
    body.extend([0, 0, 0, 1]);
    body.extend((topic.len() as u16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend([0, 0, 0, 1]);
}

/// A batch of one record that zstd opens to some 150 MB: 250,000 runs of 600 zeros.
pub fn bomb() -> Vec<u8> {
    const RUNS: u32 = 250_000;
    const RUN_BYTES: u32 = 600;
    let value = RUNS as usize * RUN_BYTES as usize;
    let mut record = Vec::new();
    varint(&mut record, value + 10);
    record.extend([0, 0, 0, 1]);
    varint(&mut record, value);
    // Magic, no content size, a history of 1 MiB; a block as it is, then runs.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 10 << 3];
    frame.extend(&((record.len() as u32) << 3).to_le_bytes()[..3]);
    frame.extend(record);
    for run in 0..RUNS {
        let last = u32::from(run + 1 == RUNS);
        frame.extend(&((RUN_BYTES << 3) | (1 << 1) | last).to_le_bytes()[..3]);
        frame.push(0);
    }
    batch(4, &frame)
}

/// A batch of one record whose bytes are no records.
pub fn nonsense() -> Vec<u8> {
    batch(0, &[0x55; 40])
}

fn batch(codec: u8, records: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 8];
    out.extend((49 + records.len() as u32).to_be_bytes());
    out.extend([0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0, codec, 0, 0, 0, 0]);
    out.extend([0; 16]);
    // No producer, no epoch, no sequence; one record.
    out.extend([0xff; 14]);
    out.extend([0, 0, 0, 1]);
    out.extend(records);
    let crc = crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}

/// A frame with one to four lies in it, of the kinds that lengths and numbers are told in.
pub fn malformed(seed: u64, topic: &str) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut frame = match dice.below(5) {
        0 => metadata(),
        1 => fetch(topic),
        2 => produce(topic, &nonsense()),
        3 => framed(dice.below(80) as i16, dice.below(16) as i16, &[0; 24]),
        _ => framed(3, 1, &(0..dice.below(60)).map(|_| dice.roll() as u8).collect::<Vec<u8>>()),
    };
    for _ in 0..=dice.below(4) {
        // Behind the length, which is told right most of the time.
        let at = 4 + dice.below(frame.len() - 4);
        let end = (at + 4).min(frame.len());
        match dice.below(6) {
            0 => frame[at..end].fill(0xff),
            1 => frame[at..end].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff][..end - at]),
            2 => frame.truncate(at.max(5)),
            3 => frame.insert(at, dice.roll() as u8),
            4 => frame[at] |= 0x80,
            _ => frame[at] = dice.roll() as u8,
        }
    }
    let length = match dice.below(12) {
        0 => dice.roll() as i32,
        1 => frame.len() as i32,
        _ => frame.len() as i32 - 4,
    };
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert!(bomb().len() < 1_048_588, "it must pass for a batch of any topic");
    }
}
