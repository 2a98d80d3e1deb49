//! The committed corpus, made by our own encoders: `cargo run -p decoders` writes it.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use consensus::eraftpb;
use model::{
    EntryKind, GroupId, HardState, LogEntry, PrefixChecksum, RaftEntryType, ReplicaId, SyncPolicy,
};
use node::peer::{RaftItem, encode_envelope};
pub use storage::testing::Dice;
use storage::testing::{SimDisk, path};
use storage::{
    Checkpoint, Disk, DiskPath, GroupBirth, GroupCheckpoint, Journal, JournalConfig, JournalWrite,
    Manifest, SegmentEntry, SegmentLog, recover,
};
use wire::records::{BATCH_HEADER_LEN, BatchBuilder, RecordHeader, Stamping, put_varint, stamp};
use wire::{ApiSupport, WireError, decode_request, supported_versions};

/// A sound input: the target it is for, its name, its bytes.
pub struct Seed {
    pub target: &'static str,
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Entries of the segment that [`segment`] writes.
pub const SEGMENT_ENTRIES: u64 = 8;

/// Requests that are drawn until one is sound and small.
const DRAWS_MAX: usize = 1_000;
const REQUEST_BYTES_MAX: usize = 1_000;

/// Steps in which a request grows: longer ones are left as they are.
const GROWTH_MAX: usize = 200;

/// The whole corpus, the same at every call.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| {
        seeds.push(Seed { target, name: name.to_owned(), bytes });
    };
    let mut dice = Dice(7);
    let mut frames = Vec::new();
    for api in supported_versions() {
        let newest = (api.max > api.min_served).then_some(api.max);
        for version in [Some(api.min_served), newest].into_iter().flatten() {
            let mut drawn = (0..DRAWS_MAX).map(|_| request(api, version, &mut dice));
            let bytes = drawn.find(|bytes| is_sound(bytes)).unwrap_or_default();
            if frames.len() < 400 {
                frames.extend((bytes.len() as u32).to_be_bytes());
                frames.extend(&bytes);
            }
            add("request", &format!("{}-{version}", api.key.as_str()), bytes);
        }
    }
    add("frame", "several", frames);
    let batch = batch();
    add("batch", "plain", batch.to_vec());
    let records = &batch[BATCH_HEADER_LEN..];
    for (codec, name) in ["gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let body = compress(codec, records);
        add("compressed", name, [&[codec as u8, 3], &body[..]].concat());
        let packed = BatchBuilder::new(1_000).attributes(codec as i16 + 1).raw(3, &body).build();
        add("batch", name, packed.to_vec());
    }
    let mut xerial = vec![1, 3];
    xerial.extend(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    for part in records.chunks(40) {
        let block = compress(1, part);
        xerial.extend((block.len() as u32).to_be_bytes());
        xerial.extend(block);
    }
    add("compressed", "snappy-java", xerial);
    add("envelope", "several", envelope(&batch));
    add("journal", "one", journal());
    let (position, files) = segment();
    add("segment", "one", files);
    let manifest = Manifest {
        group: GroupId(3),
        term: 1,
        machine: Bytes::from_static(b"machine"),
        sums: vec![7; position.file_names().len()],
        position: position.clone(),
        ..Manifest::default()
    };
    add("manifest", "one", manifest.encode().to_vec());
    let group = GroupCheckpoint {
        replica: ReplicaId(1),
        birth: Bytes::from_static(b"birth"),
        applied_index: position.last_index,
        segments: position,
        term_starts: vec![(1, 1), (4, 2)],
        ..GroupCheckpoint::default()
    };
    let checkpoint = Checkpoint { groups: [(GroupId(3), group)].into(), extra: Bytes::new() };
    let mut disk = SimDisk::new(512);
    checkpoint.write(&mut disk, &path("")).expect("a sound world");
    add("checkpoint", "one", file(&disk, &path("checkpoint")));
    seeds
}

/// A sound request of any API and version, without knowing its fields: whatever the decoder
/// still wants is given to it, small numbers above all, until it is content.
pub fn request(api: &ApiSupport, version: i16, dice: &mut Dice) -> Vec<u8> {
    let mut frame = (api.key as i16).to_be_bytes().to_vec();
    frame.extend(version.to_be_bytes());
    frame.extend([0, 0, 0, 7, 0, 1, b'h']);
    if api.is_flexible(version) {
        frame.push(0);
    }
    for _ in 0..GROWTH_MAX {
        let checked = decode_request(frame.clone().into()).and_then(|request| request.check());
        let Err(WireError::Truncated { needed, remaining }) = checked else { break };
        let missing = (needed - remaining).min(64);
        let mut bytes = vec![0; missing];
        if let Some(last) = bytes.last_mut() {
            *last = dice.below(4) as u8;
        }
        frame.extend(bytes);
    }
    frame
}

fn is_sound(bytes: &[u8]) -> bool {
    let decoded = decode_request(Bytes::copy_from_slice(bytes));
    bytes.len() <= REQUEST_BYTES_MAX && decoded.is_ok_and(|request| request.check().is_ok())
}

/// The largest there is; a million, which is as many as an array may have, plain and as a varint.
const LENGTHS: [[u8; 4]; 3] =
    [[0x7f, 0xff, 0xff, 0xff], [0, 0x0f, 0x42, 0x40], [0xc1, 0x84, 0x3d, 0]];

/// One to four lies, of the kinds that lengths and tags are told in.
pub fn lie(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        if bytes.is_empty() {
            bytes.push(dice.roll() as u8);
        }
        let at = dice.below(bytes.len() as u64) as usize;
        let end = (at + 4).min(bytes.len());
        match dice.below(7) {
            0 => bytes[at..end].fill(0xff),
            1 => {
                let length = LENGTHS[dice.below(LENGTHS.len() as u64) as usize];
                bytes[at..end].copy_from_slice(&length[..end - at]);
            }
            2 => bytes.truncate(at.max(1)),
            3 => bytes.insert(at, dice.roll() as u8),
            4 => {
                let more = dice.below(40) as usize;
                bytes.extend(dice.bytes(more));
            }
            5 => bytes[at] |= 0x80,
            _ => bytes[at] = dice.roll() as u8,
        }
    }
}

fn batch() -> Bytes {
    BatchBuilder::new(1_000)
        .producer(7, 0, 3)
        .record(1_000, Some(b"k"), Some(b"value"), &[])
        .record(900, None, None, &[RecordHeader { key: b"h", value: None }])
        .record(5_000, Some(b""), Some(&[9; 90]), &[RecordHeader { key: b"", value: Some(b"x") }])
        .build()
}

/// Number 0 is gzip, in the order of Kafka's codecs.
pub fn compress(codec: usize, bytes: &[u8]) -> Vec<u8> {
    match codec {
        0 => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            out.write_all(bytes).and_then(|()| out.finish()).expect("memory takes every byte")
        }
        1 => snap::raw::Encoder::new().compress_vec(bytes).expect("less than 4 GiB"),
        2 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(bytes).expect("memory takes every byte");
            out.finish().expect("memory takes every byte")
        }
        _ => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(bytes, level)
        }
    }
}

fn envelope(data: &Bytes) -> Vec<u8> {
    let message = |kind, entries: u64| {
        let mut message = eraftpb::Message { term: 7, from: 1, to: 2, ..Default::default() };
        message.set_msg_type(kind);
        for index in 1..=entries {
            let data = data.clone();
            message.mut_entries().push(eraftpb::Entry { index, data, ..Default::default() });
        }
        RaftItem::new(GroupId(3), ReplicaId(1), ReplicaId(2), message)
    };
    encode_envelope(vec![
        message(eraftpb::MessageType::MsgHeartbeat, 0),
        message(eraftpb::MessageType::MsgAppend, 2),
    ])
    .to_vec()
}

/// Where a journal's first file lies.
pub fn journal_file() -> DiskPath {
    path("journal").join("00000001.log")
}

fn journal() -> Vec<u8> {
    let config = JournalConfig {
        dir: path("journal"),
        file_bytes: 64 << 10,
        bytes_max: 1 << 20,
        sync: SyncPolicy::Group,
        sync_bytes_max: 1 << 16,
    };
    let mut disk = SimDisk::new(512);
    let found = recover(&mut disk, &path("meta"), &config.dir).expect("an empty directory");
    let mut journal = Journal::open(&found, config, 5);
    let group = GroupId(7);
    let create = Some(GroupBirth { replica: ReplicaId(1), body: Bytes::from_static(b"birth") });
    journal.enqueue(JournalWrite { group, token: 1, create, ..JournalWrite::default() });
    for index in 1..=3 {
        let entries = vec![LogEntry {
            index,
            term: 1,
            entry_type: RaftEntryType::Normal,
            context: Bytes::new(),
            data: Bytes::from_static(b"what was said"),
        }];
        let hard_state = Some(HardState { term: 1, vote: 1, commit: index - 1 });
        let token = index + 1;
        journal.enqueue(JournalWrite {
            group,
            token,
            entries,
            hard_state,
            ..JournalWrite::default()
        });
        loop {
            journal.submit(&mut disk);
            let Some(done) = disk.complete() else { break };
            journal.complete(done);
        }
    }
    let mut bytes = file(&disk, &journal_file());
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    bytes.truncate(end);
    bytes
}

fn segment() -> (storage::SegmentPosition, Vec<u8>) {
    let mut disk = SimDisk::new(512);
    let dir = path("segments");
    let mut log =
        SegmentLog::open(&mut disk, dir.clone(), None, 1 << 20).expect("an empty directory");
    let entries: Vec<SegmentEntry> = (0..SEGMENT_ENTRIES as i64).map(segment_entry).collect();
    log.append(&mut disk, &entries).expect("a sound world");
    let position = log.position();
    let mut bytes = Vec::new();
    for (name, length) in position.file_names() {
        if bytes.is_empty() {
            bytes.extend((length as u16).to_le_bytes());
        }
        bytes.extend(file(&disk, &dir.join(&name)));
    }
    (position, bytes)
}

fn segment_entry(offset: i64) -> SegmentEntry {
    let timestamp = 1_000 + offset;
    let stamping = Stamping { base_offset: offset, leader_epoch: 1, log_append_time_ms: None };
    let batch = BatchBuilder::new(timestamp).value(b"a value").build();
    let kind = EntryKind::Batch;
    let entry = LogEntry {
        index: offset as u64 + 1,
        term: 1,
        entry_type: RaftEntryType::Normal,
        context: LogEntry::encode_context(kind, PrefixChecksum::default()),
        data: stamp(batch, &stamping),
    };
    let (base_offset, last_offset, max_timestamp) = (offset, offset, timestamp);
    SegmentEntry { entry, kind, base_offset, last_offset, max_timestamp }
}

fn file(disk: &SimDisk, path: &DiskPath) -> Vec<u8> {
    disk.world().read(path, 0, 1 << 20).expect("written just now").to_vec()
}

/// Inputs that say much with few bytes: they are no encoder's work.
pub fn bombs() -> Vec<Seed> {
    let mut value = BytesMut::new();
    put_varint(&mut value, 10 + (2 << 20));
    value.extend_from_slice(&[0, 0, 0, 1]);
    put_varint(&mut value, 2 << 20);
    value.resize(value.len() + (2 << 20) + 1, 0);
    let bomb = |codec: usize| [&[codec as u8, 1], &compress(codec, &value)[..]].concat();
    let seed = |name: &str, bytes| Seed { target: "compressed", name: name.to_owned(), bytes };
    vec![
        seed("bomb-gzip", bomb(0)),
        seed("bomb-zstd", bomb(3)),
        // Blocks that say they are 2 GiB, and a history of 2 GiB.
        seed("lie-snappy", vec![1, 1, 0xff, 0xff, 0xff, 0xff, 0x07, 0]),
        seed("lie-zstd", vec![3, 1, 0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0]),
    ]
}
