//! Every decoder that meets bytes nobody vouches for, as a function of bytes: what the fuzz
//! targets in `tests/fuzz` and the replay of their corpus call.
//!
//! A target that returns is content; refusing is its right. It may not panic, and not take more
//! memory than its bound.

pub mod seeds;

use bytes::{Bytes, BytesMut};
use model::{PrefixChecksum, limits};
use storage::testing::{SimDisk, World, path};
use storage::{Checkpoint, DiskPath, Manifest, Op, SegmentLog, SegmentMark, SegmentPosition, call};
use wire::records::{
    BATCH_HEADER_LEN, BatchBuilder, BatchRules, Records, validate, validate_compressed,
};

/// One decoder.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the name of its file in `tests/fuzz/fuzz_targets` and of its folder in `corpus`.
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Bytes of memory it may hold for an input of so many bytes.
    pub memory_max: fn(usize) -> usize,
}

pub const TARGETS: [Target; 9] = [
    Target { name: "frame", run: frame, memory_max: message_memory },
    Target { name: "request", run: request, memory_max: message_memory },
    Target { name: "batch", run: batch, memory_max: opened_memory },
    Target { name: "compressed", run: compressed, memory_max: opened_memory },
    Target { name: "envelope", run: envelope, memory_max: message_memory },
    Target { name: "journal", run: journal, memory_max: disk_memory },
    Target { name: "checkpoint", run: checkpoint, memory_max: disk_memory },
    Target { name: "manifest", run: manifest, memory_max: message_memory },
    Target { name: "segment", run: segment, memory_max: disk_memory },
];

/// Runs a target by name.
///
/// # Panics
/// When there is none of that name; else only when a decoder has a bug.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of that name").run)(data);
}

/// A one-byte element becomes a structure in a vector that has just doubled.
fn message_memory(input: usize) -> usize {
    input * 128 + (16 << 10)
}

/// The codecs' own state above all: a block of lz4 is up to 8 MiB, twice.
fn opened_memory(input: usize) -> usize {
    input * limits::OPENED_RATIO_MAX + (24 << 20)
}

/// The world is a file or two, and recovery reads in runs.
fn disk_memory(input: usize) -> usize {
    input * 64 + (8 << 20)
}

fn frame(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(frame)) = wire::frame::take_frame(&mut buffer, 1 << 20) {
        request(&frame);
    }
}

/// Key and version are the first four bytes, so every request of every version is reached.
fn request(data: &[u8]) {
    if let Ok(request) = wire::decode_request(Bytes::copy_from_slice(data)) {
        let _ = request.check();
    }
}

/// As it is, and once more with its length and checksum made right: no mutation finds those.
fn batch(data: &[u8]) {
    judge(data);
    if data.len() >= BATCH_HEADER_LEN {
        let mut mended = data.to_vec();
        mended[8..12].copy_from_slice(&((data.len() - 12) as i32).to_be_bytes());

        let crc = crc32c::crc32c(&mended[21..]);
        mended[17..21].copy_from_slice(&crc.to_be_bytes());
        judge(&mended);
    }
}

fn judge(data: &[u8]) {
    let header = match validate(data, &BatchRules::for_produce(9)) {
        Ok(header) => header,
        Err(_) => return,
    };
    match Records::new(data) {
        Ok(records) => {
            let count = records.map(|record| record.map(|record| record.headers().count()));
            let count = count.filter(Result::is_ok).count();
            assert_eq!(count as i32, header.records_count, "what was valid can be walked");
        }
        Err(_) => drop(validate_compressed(data, limits::OPENED_BYTES_MAX)),
    }
}

/// Codec, count, body.
fn compressed(data: &[u8]) {
    let [codec, count, body @ ..] = data else { return };
    let batch = BatchBuilder::new(0).attributes(i16::from(codec % 4) + 1);
    judge(&batch.raw(i32::from(*count), body).build());
}

fn envelope(data: &[u8]) {
    drop(node::peer::decode_envelope(Bytes::copy_from_slice(data)));
}

/// A data directory's disk with these files.
fn disk(files: &[(DiskPath, &[u8])]) -> SimDisk {
    let mut disk = SimDisk::open(World::new(512));
    for (path, bytes) in files {
        let bufs = vec![Bytes::copy_from_slice(bytes)];
        for op in [
            Op::MakeDir { path: path.parent() },
            Op::Create { path: path.clone() },
            Op::Write { path: path.clone(), at: 0, bufs },
        ] {
            call(&mut disk, op).expect("a sound world");
        }
    }
    disk
}

/// The first file of a journal.
fn journal(data: &[u8]) {
    let mut disk = disk(&[(seeds::journal_file(), data)]);
    drop(storage::recover(&mut disk, &path("meta"), &path("journal")));
}

fn checkpoint(data: &[u8]) {
    let dir = path("meta");
    for bytes in [data, &mended(data)] {
        let mut disk = disk(&[(dir.join("checkpoint"), bytes)]);
        drop(Checkpoint::read(&mut disk, &dir));
    }
}

fn manifest(data: &[u8]) {
    for bytes in [data, &mended(data)] {
        if let Some(manifest) = Manifest::decode(Bytes::copy_from_slice(bytes)) {
            assert!(manifest.files().len() <= data.len(), "a file takes more than a byte");
            drop(manifest.term_starts());
        }
    }
}

/// Checkpoint and manifest begin alike: magic, version, then length and checksum of the rest, which
/// are made right here.
fn mended(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if let Some((head, body)) = bytes.split_first_chunk_mut::<24>() {
        head[12..20].copy_from_slice(&(body.len() as u64).to_le_bytes());
        head[20..24].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    }
    bytes
}

/// Two bytes that say how long the batches are, the batches, the sidecar; behind a checkpoint
/// that trusts both, as it does when a disk flips bits.
fn segment(data: &[u8]) {
    let [low, high, files @ ..] = data else { return };
    let length = usize::from(u16::from_le_bytes([*low, *high])).min(files.len());
    let (log, side) = files.split_at(length);
    let mark = SegmentMark {
        base_index: 1,
        base_offset: 0,
        last_index: seeds::SEGMENT_ENTRIES,
        next_offset: seeds::SEGMENT_ENTRIES as i64,
        log_bytes: log.len() as u64,
        side_bytes: side.len() as u64,
        max_timestamp: i64::MAX,
        base_prefix: PrefixChecksum::default(),
    };
    let position = SegmentPosition {
        segments: vec![mark],
        last_index: mark.last_index,
        next_offset: mark.next_offset,
        ..SegmentPosition::default()
    };
    let names = position.file_names();
    let dir = path("segments");
    let files: Vec<(DiskPath, &[u8])> = names
        .iter()
        .map(|(name, _)| (dir.join(name), if name.ends_with(".log") { log } else { side }))
        .collect();
    let mut disk = disk(&files);
    let Ok(opened) = SegmentLog::open(&mut disk, dir, Some(position), 1 << 20) else { return };
    let (view, reader) = (opened.view(), disk.reader());
    for offset in [0, 3, mark.next_offset - 1] {
        drop(view.read(&reader, offset, 1 << 16, mark.next_offset));
    }
    for timestamp in [0, 1_003, i64::MAX] {
        drop(view.offset_for_timestamp(&reader, timestamp));
    }
    for from in [1, 4] {
        drop(view.entries(&reader, from, mark.last_index + 1, 1 << 16));
    }
    drop(view.checksums(&reader));
}
