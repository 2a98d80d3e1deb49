//! Segments as a whole: what is appended is read back, rebuilt, cut, rolled, found and removed.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use model::{EntryKind, GroupId, LogEntry, PrefixChecksum, RaftEntryType};

use super::sidecar::chain;
use super::*;
use crate::disk::{DiskPath, Op, call};
use crate::error::StorageError;
use crate::testing::{Dice, SimDisk};

/// Makes a log the way a leader would: stamped batches among other entries.
pub(super) struct Leader {
    dice: Dice,
    term: u64,
    index: u64,
    offset: i64,
    prefix: PrefixChecksum,
}

fn batch(base_offset: i64, epoch: i32, records: i32, timestamp: i64, body: &Bytes) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i64(base_offset);
    out.put_i32((61 - 12 + body.len()) as i32);
    out.put_i32(epoch);
    out.put_u8(2);
    out.put_u32(0);
    out.put_i16(0);
    out.put_i32(records - 1);
    out.put_i64(timestamp);
    out.put_i64(timestamp);
    out.put_bytes(0xff, 14);
    out.put_i32(records);
    out.put_slice(body);
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

impl Leader {
    pub fn new(seed: u64) -> Leader {
        Leader { dice: Dice(seed), term: 1, index: 0, offset: 0, prefix: PrefixChecksum(0) }
    }

    fn entry(&mut self, kind: EntryKind, data: Bytes) -> LogEntry {
        self.index += 1;
        self.prefix = chain(self.prefix, kind, &data);
        let context = match kind {
            EntryKind::Raft => Bytes::new(),
            _ => LogEntry::encode_context(kind, self.prefix),
        };
        let entry_type = RaftEntryType::Normal;
        LogEntry { index: self.index, term: self.term, entry_type, context, data }
    }

    fn batch(&mut self, bytes: usize, timestamp: i64) -> SegmentEntry {
        let records = 1 + self.dice.below(5) as i32;
        let body = self.dice.bytes(bytes);
        let data = batch(self.offset, self.term as i32, records, timestamp, &body);
        let base_offset = self.offset;
        self.offset += i64::from(records);
        let entry = self.entry(EntryKind::Batch, data);
        let (kind, last_offset) = (EntryKind::Batch, self.offset - 1);
        SegmentEntry { entry, kind, base_offset, last_offset, max_timestamp: timestamp }
    }

    fn other(&mut self, kind: EntryKind) -> SegmentEntry {
        let data = if kind == EntryKind::Raft { Bytes::new() } else { self.dice.bytes(9) };
        let entry = self.entry(kind, data);
        SegmentEntry { entry, kind, base_offset: 0, last_offset: 0, max_timestamp: 0 }
    }

    /// A mixture; timestamps rise by 10 per entry.
    pub fn mixture(&mut self, count: usize) -> Vec<SegmentEntry> {
        (0..count)
            .map(|_| match self.dice.below(12) {
                0 => {
                    self.term += 1;
                    self.other(EntryKind::Raft)
                }
                1 => self.other(EntryKind::ExpireProducers),
                _ => {
                    let bytes = if self.dice.chance(8) { 9_000 } else { 300 };
                    let bytes = self.dice.below(bytes) as usize;
                    self.batch(bytes, self.index as i64 * 10)
                }
            })
            .collect()
    }
}

pub(super) fn dir() -> DiskPath {
    DiskPath::new("groups/7")
}

pub(super) fn open(
    disk: &mut SimDisk,
    position: Option<SegmentPosition>,
    bytes: u64,
) -> SegmentLog {
    SegmentLog::open(disk, dir(), position, bytes).expect("the disk works")
}

fn data_of(entries: &[SegmentEntry]) -> Vec<u8> {
    let batches = entries.iter().filter(|entry| entry.kind == EntryKind::Batch);
    batches.flat_map(|entry| entry.entry.data.to_vec()).collect()
}

fn joined(runs: &[Bytes]) -> Vec<u8> {
    runs.iter().flat_map(|run| run.to_vec()).collect()
}

pub(super) fn log_entries(entries: &[SegmentEntry]) -> Vec<LogEntry> {
    entries.iter().map(|entry| entry.entry.clone()).collect()
}

#[test]
fn every_batch_is_read_and_every_entry_rebuilt_after_a_restart_too() {
    let mut leader = Leader::new(1);
    let entries = leader.mixture(900);
    let mut disk = SimDisk::new(4096);
    let mut log = open(&mut disk, None, 200_000);
    for chunk in entries.chunks(37) {
        log.append(&mut disk, chunk).expect("the disk works");
    }
    log.sync(&mut disk).expect("the disk works");
    let reader = disk.reader();
    let again = open(&mut disk, Some(log.position()), 200_000).view();
    for view in [log.view(), again] {
        assert!(view.segments().len() > 3, "{:?}", view.segments().len());
        assert_eq!((view.first_index(), view.last_index()), (1, 900));
        let all = view.read(&reader, 0, usize::MAX, i64::MAX).expect("readable");
        assert_eq!(joined(&all), data_of(&entries));
        let rebuilt = view.entries(&reader, 1, 901, u64::MAX).expect("readable");
        assert_eq!(rebuilt, log_entries(&entries));
        let mut dice = Dice(5);
        for _ in 0..300 {
            let lo = 1 + dice.below(900);
            let hi = lo + 1 + dice.below(901 - lo);
            let max = dice.below(30_000);
            let some = view.entries(&reader, lo, hi, max).expect("readable");
            let expected = &rebuilt[lo as usize - 1..hi as usize - 1];
            assert_eq!(some, expected[..some.len()], "{lo}..{hi}");
            let weight: usize = some.iter().map(LogEntry::weight).sum();
            assert!(some.len() == 1 || (weight as u64 <= max && !some.is_empty()));
            assert_eq!(view.term(lo), Some(entries[lo as usize - 1].entry.term));
        }
    }
}

#[test]
fn a_fetch_gets_whole_batches_within_its_bounds() {
    let mut leader = Leader::new(2);
    let entries = leader.mixture(600);
    let batches: Vec<&SegmentEntry> =
        entries.iter().filter(|entry| entry.kind == EntryKind::Batch).collect();
    let mut disk = SimDisk::new(4096);
    let mut log = open(&mut disk, None, 100_000);
    log.append(&mut disk, &entries).expect("the disk works");
    let (view, reader) = (log.view(), disk.reader());
    let mut dice = Dice(6);
    for _ in 0..500 {
        let offset = dice.below(view.next_offset() as u64) as i64;
        let up_to = offset + dice.below(400) as i64;
        let max = dice.below(40_000) as usize;
        let got = joined(&view.read(&reader, offset, max, up_to).expect("readable"));
        let mut expected = Vec::new();
        for batch in batches.iter().filter(|batch| batch.last_offset >= offset) {
            let fits = expected.is_empty() || expected.len() + batch.entry.data.len() <= max;
            if !fits || batch.base_offset >= up_to || offset >= up_to {
                break;
            }
            expected.extend_from_slice(&batch.entry.data);
        }
        assert_eq!(got, expected, "{offset} up to {up_to}, {max} bytes");
    }
    let end = view.next_offset();
    assert_eq!(view.read(&reader, end, 10, i64::MAX), Ok(Vec::new()));
    let above = view.read(&reader, end + 1, 10, i64::MAX);
    assert!(matches!(above, Err(StorageError::AboveEnd { .. })));
}

#[test]
fn timestamps_and_epochs_are_found() {
    let mut leader = Leader::new(3);
    let entries = leader.mixture(700);
    let mut disk = SimDisk::new(4096);
    let mut log = open(&mut disk, None, 150_000);
    log.append(&mut disk, &entries).expect("the disk works");
    let (view, reader) = (log.view(), disk.reader());
    let mut dice = Dice(7);
    for _ in 0..200 {
        let wanted = dice.below(7_100) as i64;
        let hit = view.offset_for_timestamp(&reader, wanted).expect("readable");
        let newer =
            |entry: &&SegmentEntry| entry.kind == EntryKind::Batch && entry.max_timestamp >= wanted;
        let expected = entries.iter().find(newer);
        let found = hit.as_ref().map(|hit| (hit.base_offset, hit.max_timestamp, hit.batch.clone()));
        let expected = expected.map(|it| (it.base_offset, it.max_timestamp, it.entry.data.clone()));
        assert_eq!(found, expected, "{wanted}");
    }
    for epoch in 0..leader.term + 3 {
        let newest = entries.iter().rev().find(|entry| entry.entry.term <= epoch);
        let next = entries.iter().position(|entry| entry.entry.term > epoch);
        let end = next.map_or(view.next_offset(), |at| {
            let batches = entries[..at].iter().rev();
            batches
                .filter(|it| it.kind == EntryKind::Batch)
                .map(|it| it.last_offset + 1)
                .next()
                .unwrap_or(0)
        });
        let expected = newest.map(|entry| (entry.entry.term as i32, end));
        assert_eq!(view.end_offset_for_epoch(epoch as i32), expected, "epoch {epoch}");
    }
}

#[test]
fn what_lies_beyond_the_checkpoint_is_cut_and_written_again() {
    let mut leader = Leader::new(4);
    let (kept, lost) = (leader.mixture(200), leader.mixture(150));
    let mut disk = SimDisk::new(512);
    let mut log = open(&mut disk, None, 60_000);
    log.append(&mut disk, &kept).expect("the disk works");
    log.sync(&mut disk).expect("the disk works");
    let position = log.position();
    log.append(&mut disk, &lost).expect("the disk works");
    let mut dice = Dice(8);
    for _ in 0..20 {
        let mut world = disk.world().clone();
        world.crash(|_| dice.chance(2));
        let mut disk = SimDisk::open(world);
        let mut log = open(&mut disk, Some(position.clone()), 60_000);
        assert_eq!(log.last_index(), 200);
        log.append(&mut disk, &lost).expect("the disk works");
        let view = log.view();
        let all: Vec<SegmentEntry> = kept.iter().chain(&lost).cloned().collect();
        let rebuilt = view.entries(&disk.reader(), 1, 351, u64::MAX).expect("readable");
        assert_eq!(rebuilt, log_entries(&all));
    }
}

#[test]
fn a_synced_file_that_shrank_is_damage() {
    let mut leader = Leader::new(5);
    let mut disk = SimDisk::new(512);
    let mut log = open(&mut disk, None, 1 << 20);
    log.append(&mut disk, &leader.mixture(50)).expect("the disk works");
    let position = log.position();
    let path = disk.world().files().into_iter().find(|path| path.as_str().ends_with(".log"));
    let path = path.expect("there are batches");
    call(&mut disk, Op::Truncate { path, len: 100 }).expect("the disk works");
    let result = SegmentLog::open(&mut disk, dir(), Some(position), 1 << 20);
    assert!(matches!(result, Err(StorageError::Damaged { .. })), "{result:?}");
}

#[test]
fn rotten_bytes_never_reach_a_follower() {
    let mut leader = Leader::new(6);
    let entries = leader.mixture(120);
    let mut disk = SimDisk::new(512);
    let mut log = open(&mut disk, None, 1 << 30);
    log.append(&mut disk, &entries).expect("the disk works");
    let view = log.view();
    let files = disk.world().files();
    let mut dice = Dice(9);
    let mut refused = 0;
    for round in 0..200 {
        let mut world = disk.world().clone();
        let path = &files[round % files.len()];
        let len = world.read(path, 0, usize::MAX).expect("it exists").len() as u64;
        world.flip_bit(path, dice.below(len), dice.below(8) as u8);
        let reader = SimDisk::open(world).reader();
        match view.entries(&reader, 1, 121, u64::MAX) {
            Ok(found) => assert_eq!(found, log_entries(&entries)),
            Err(StorageError::Damaged { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(refused, 200, "every byte is covered by something");
}

#[test]
fn a_roll_entry_and_a_full_segment_start_a_new_file_everywhere_alike() {
    let mut names = Vec::new();
    for chunk in [1, 7, 1000] {
        let mut leader = Leader::new(7);
        let mut entries = leader.mixture(100);
        entries.push(leader.other(EntryKind::Roll));
        entries.push(leader.other(EntryKind::Roll));
        entries.extend(leader.mixture(100));
        let mut disk = SimDisk::new(512);
        let mut log = open(&mut disk, None, 40_000);
        for part in entries.chunks(chunk) {
            log.append(&mut disk, part).expect("the disk works");
        }
        let roll = log.view().segments().iter().any(|segment| segment.base_index == 101);
        assert!(roll, "the first of two rolls starts a segment, the second has nothing to roll");
        let world = disk.world();
        let files = world.files().into_iter().filter(|path| path.as_str().ends_with(".log"));
        let read =
            |path: DiskPath| (path.clone(), world.read(&path, 0, usize::MAX).expect("there"));
        names.push(files.map(read).collect::<Vec<_>>());
    }
    assert!(names.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ by how they wrote");
}

#[test]
fn files_go_when_the_start_has_passed_them_and_nobody_reads() {
    let mut leader = Leader::new(8);
    let entries = leader.mixture(400);
    let mut disk = SimDisk::new(512);
    let mut log = open(&mut disk, None, 50_000);
    log.append(&mut disk, &entries).expect("the disk works");
    let before = log.view();
    let start = before.segments()[2].base_offset + 1;
    let reader = disk.reader();
    log.set_log_start(start);
    let view = log.view();
    assert_eq!(view.segments().len(), before.segments().len() - 2);
    assert_eq!(view.log_start_offset(), start);
    assert!(view.term(view.first_index() - 1).is_some(), "the term below the start is known");
    let below = view.read(&reader, start - 1, 10, i64::MAX);
    assert!(matches!(below, Err(StorageError::BelowStart { .. })));
    let lost = view.entries(&reader, 1, 3, 10);
    assert!(matches!(lost, Err(StorageError::BelowStart { .. })));

    assert_eq!(log.reap(&mut disk, u64::MAX), Ok(2), "the old view still reads them");
    let all = before.read(&reader, 0, usize::MAX, i64::MAX).expect("still there");
    assert_eq!(joined(&all), data_of(&entries));
    drop(before);
    let still_named = view.first_index() - 2;
    assert_eq!(log.reap(&mut disk, still_named), Ok(1), "a checkpoint names the second one");
    assert_eq!(log.reap(&mut disk, u64::MAX), Ok(0));
    let position = log.position();
    let files = disk.world().files().len();
    assert_eq!(files, 2 * position.segments.len());
    let again = open(&mut disk, Some(position), 50_000);
    let first = again.view().first_index();
    let rest = again.view().entries(&reader, first, 401, u64::MAX).expect("readable");
    assert_eq!(rest, log_entries(&entries[first as usize - 1..]));
}

#[test]
fn a_group_without_batches_has_only_a_sidecar_and_an_empty_one_nothing() {
    let mut leader = Leader::new(9);
    let mut disk = SimDisk::new(512);
    let mut log = open(&mut disk, None, 1 << 20);
    log.append(&mut disk, &[]).expect("nothing to do");
    log.sync(&mut disk).expect("nothing to do");
    assert_eq!(disk.world().files(), Vec::new());
    let entries: Vec<SegmentEntry> = (0..50).map(|_| leader.other(EntryKind::Metadata)).collect();
    log.append(&mut disk, &entries).expect("the disk works");
    assert_eq!(disk.world().files().len(), 1);
    let found = log.view().entries(&disk.reader(), 10, 51, u64::MAX).expect("readable");
    assert_eq!(found, log_entries(&entries[9..]));
    let view: Arc<SegmentList> = log.view();
    assert_eq!((view.next_offset(), view.bytes() > 0), (0, true));
    let neighbour = DiskPath::new("groups/71").join("a.log");
    for dir in [home_dir(&dir(), 12), DiskPath::new("groups/71")] {
        call(&mut disk, Op::MakeDir { path: dir.clone() }).expect("the disk works");
        call(&mut disk, Op::Create { path: dir.join("a.log") }).expect("the disk works");
    }
    let groups = [GroupId(7)].into_iter().collect();
    delete_segments(&mut disk, &dir().parent(), &groups).expect("the disk works");
    assert_eq!(disk.world().files(), vec![neighbour], "snapshots on their way go too");
}

#[test]
fn a_refused_append_changes_nothing_and_is_repeated() {
    let mut leader = Leader::new(10);
    let entries = leader.mixture(100);
    let mut disk = SimDisk::new(512);
    disk.world().capacity = Some(20_000);
    let mut log = open(&mut disk, None, 8_000);
    let refused = log.append(&mut disk, &entries);
    assert!(matches!(refused, Err(StorageError::Disk(_))), "{refused:?}");
    let done = log.last_index() as usize;
    assert!(done < 100);
    disk.world().capacity = None;
    log.append(&mut disk, &entries[done..]).expect("there is room again");
    let found = log.view().entries(&disk.reader(), 1, 101, u64::MAX).expect("readable");
    assert_eq!(found, log_entries(&entries));
}
