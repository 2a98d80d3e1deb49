//! A snapshot from one disk to another: interrupted anywhere, resumed, and never half there.

use bytes::Bytes;
use model::GroupId;

use super::tests::{Leader, dir, log_entries, open};
use super::*;
use crate::checkpoint::{Checkpoint, GroupCheckpoint};
use crate::disk::{Completion, Disk, DiskError, DiskPath, Op, OpId, OpKind};
use crate::error::StorageError;
use crate::manifest::Manifest;
use crate::testing::{Dice, Fault, SimDisk};
use crate::transfer::{Transfer, sweep_homes};

const SEGMENT: u64 = 30_000;

/// A leader's disk, its log, and all that was ever appended to it.
struct Source {
    leader: Leader,
    disk: SimDisk,
    log: SegmentLog,
    entries: Vec<SegmentEntry>,
}

impl Source {
    fn new(seed: u64) -> Source {
        let mut disk = SimDisk::new(512);
        let log = open(&mut disk, None, SEGMENT);
        let mut source = Source { leader: Leader::new(seed), disk, log, entries: Vec::new() };
        source.append(300);
        source
    }

    fn append(&mut self, count: usize) {
        let more = self.leader.mixture(count);
        self.log.append(&mut self.disk, &more).expect("the disk works");
        self.entries.extend(more);
    }

    /// Drops the oldest segments.
    fn retain(&mut self, segments: usize) {
        let all = self.log.view().segments();
        let first = all[all.len() - segments];
        self.log.set_log_start(first.base_offset);
    }

    fn manifest(&self) -> (Manifest, std::sync::Arc<SegmentList>) {
        let (position, view) = (self.log.position(), self.log.view());
        let manifest = Manifest {
            group: GroupId(7),
            term: self.entries.last().expect("some").entry.term,
            conf_state: Bytes::from_static(b"members"),
            machine: Bytes::from_static(b"machine"),
            position,
            sums: view.checksums(&self.disk.reader()).expect("readable"),
        };
        (manifest, view)
    }
}

/// The disk of a machine that stops after so many operations.
struct Dying {
    disk: SimDisk,
    left: usize,
    done: Option<Completion>,
}

impl Disk for Dying {
    fn submit(&mut self, op: Op) -> OpId {
        if self.left == 0 {
            let id = OpId(u64::MAX);
            self.done = Some(Completion { id, result: Err(DiskError::Crashed) });
            return id;
        }
        self.left -= 1;
        self.disk.submit(op)
    }

    fn complete(&mut self) -> Option<Completion> {
        self.done.take().or_else(|| self.disk.complete())
    }
}

fn fetch(
    disk: &mut dyn Disk,
    transfer: &mut Transfer,
    source: (&SegmentList, &dyn crate::disk::ReadAt),
    dice: &mut Dice,
) -> Result<(), StorageError> {
    while let Some(wanted) = transfer.wanted() {
        let len = 1 + dice.below(wanted.len.min(20_000) as u64) as usize;
        let bytes = source.0.read_file(source.1, wanted.file, wanted.at, len).expect("pinned");
        transfer.took(disk, bytes)?;
    }
    Ok(())
}

fn checkpoint_of(manifest: &Manifest, home: u64) -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    let group = GroupCheckpoint {
        applied_index: manifest.index(),
        machine: manifest.machine.clone(),
        segments: SegmentPosition { home, ..manifest.position.clone() },
        ..GroupCheckpoint::default()
    };
    checkpoint.groups.insert(manifest.group, group);
    checkpoint
}

/// The whole way: fetch, sync, the checkpoint that names it, and what it frees.
fn install(
    disk: &mut dyn Disk,
    manifest: &Manifest,
    source: (&SegmentList, &dyn crate::disk::ReadAt),
    dice: &mut Dice,
) -> Result<Transfer, StorageError> {
    let mut transfer = Transfer::begin(disk, &dir(), 0, manifest)?;
    fetch(disk, &mut transfer, source, dice)?;
    transfer.finish(disk)?;
    checkpoint_of(manifest, manifest.index()).write(disk, &root())?;
    sweep_homes(disk, &dir(), manifest.index(), manifest.index())?;
    Ok(transfer)
}

fn root() -> DiskPath {
    DiskPath::new("")
}

/// The log a checkpoint names holds exactly what the source has from its start on.
fn expect_whole(disk: &mut SimDisk, checkpoint: &Checkpoint, entries: &[SegmentEntry]) {
    let position = checkpoint.groups[&GroupId(7)].segments.clone();
    let log = open(disk, Some(position), SEGMENT);
    let (view, reader) = (log.view(), disk.reader());
    let (lo, hi) = (view.first_index(), view.last_index() + 1);
    let found = view.entries(&reader, lo, hi, u64::MAX).expect("readable");
    assert_eq!(found, log_entries(&entries[lo as usize - 1..hi as usize - 1]));
    let below = view.term(lo - 1);
    assert_eq!(below, if lo == 1 { Some(0) } else { Some(entries[lo as usize - 2].entry.term) });
}

#[test]
fn a_snapshot_is_the_log_from_its_start_and_the_log_goes_on_behind_it() {
    let mut source = Source::new(1);
    source.retain(4);
    let (manifest, view) = source.manifest();
    assert_eq!(Manifest::decode(manifest.encode()), Some(manifest.clone()));
    let reader = source.disk.reader();
    // What a transfer pins stays, although retention goes on.
    source.retain(1);
    assert!(source.log.reap(&mut source.disk, u64::MAX).expect("the disk works") > 0);
    let mut disk = SimDisk::new(512);
    let dice = &mut Dice(3);
    let transfer = install(&mut disk, &manifest, (&view, &reader), dice).expect("the disk works");
    assert_eq!((transfer.resumed, transfer.fetched), (0, manifest.bytes()));
    let checkpoint = Checkpoint::read(&mut disk, &root()).expect("sound").expect("there");
    expect_whole(&mut disk, &checkpoint, &source.entries);
    let position = checkpoint.groups[&GroupId(7)].segments.clone();
    let mut log = open(&mut disk, Some(position), SEGMENT);
    let more = source.leader.mixture(40);
    log.append(&mut disk, &more).expect("it goes on");
    source.entries.extend(more);
    log.sync(&mut disk).expect("the disk works");
    let mut after = checkpoint;
    after.groups.get_mut(&GroupId(7)).expect("there").segments = log.position();
    assert_eq!(log.position().home, manifest.index());
    expect_whole(&mut disk, &after, &source.entries);
    drop(view);
    assert_eq!(source.log.reap(&mut source.disk, u64::MAX), Ok(0));
}

/// Every operation is the last one of a crash that keeps any of what was not synced; then the
/// transfer is begun again and ends.
#[test]
fn a_crash_at_any_operation_leaves_the_old_log_or_the_new_one() {
    let mut source = Source::new(2);
    source.retain(3);
    let (manifest, view) = source.manifest();
    let reader = source.disk.reader();
    let old = {
        let mut disk = SimDisk::new(512);
        let mut log = open(&mut disk, None, SEGMENT);
        log.append(&mut disk, &source.entries[..60]).expect("the disk works");
        log.sync(&mut disk).expect("the disk works");
        let position = log.position();
        let kept = Manifest { position, group: GroupId(7), ..Manifest::default() };
        checkpoint_of(&kept, 0).write(&mut disk, &root()).expect("the disk works");
        disk.world().clone()
    };
    let (mut crashes, mut olds, mut news, mut resumed) = (0, 0, 0, 0);
    for ops in 0.. {
        let mut ended = true;
        for seed in 0..4 {
            let mut dice = Dice(seed * 1_000 + ops);
            let mut dying = Dying { disk: SimDisk::open(old.clone()), left: 0, done: None };
            dying.left = ops as usize;
            let result = install(&mut dying, &manifest, (&view, &reader), &mut dice);
            ended &= result.is_ok();
            let mut world = dying.disk.world().clone();
            world.crash(|_| dice.chance(2));
            let mut disk = SimDisk::open(world);
            let checkpoint = Checkpoint::read(&mut disk, &root()).expect("sound").expect("there");
            let home = checkpoint.groups[&GroupId(7)].segments.home;
            expect_whole(&mut disk, &checkpoint, &source.entries);
            (olds, news) = (olds + u64::from(home == 0), news + u64::from(home > 0));
            crashes += 1;
            if home == 0 {
                let again = install(&mut disk, &manifest, (&view, &reader), &mut dice);
                let again = again.expect("the disk works");
                assert!(again.resumed + again.fetched >= manifest.bytes());
                resumed += again.resumed;
                let checkpoint = Checkpoint::read(&mut disk, &root()).expect("sound");
                expect_whole(&mut disk, &checkpoint.expect("there"), &source.entries);
            }
        }
        if ended {
            break;
        }
    }
    assert!(crashes > 150 && olds > 100 && news > 4, "{crashes} crashes, {olds} old, {news} new");
    assert!(resumed > manifest.bytes(), "only {resumed} bytes were kept");
}

/// The process that could not sync what it had fetched is gone, its page cache is not: the next one
/// finds every byte, and the kernel calls them all clean.
#[test]
fn what_a_failed_sync_left_of_a_snapshot_is_written_again_before_it_counts() {
    let source = Source::new(6);
    let (manifest, view) = source.manifest();
    let reader = source.disk.reader();
    let mut dice = Dice(5);
    let files = manifest.files().len();
    for after in 0..files {
        let mut disk = SimDisk::new(512);
        let message = "an input/output error".to_owned();
        let error = DiskError::Io { op: OpKind::Sync, path: dir(), message };
        let fault =
            Fault { kind: OpKind::Sync, path_part: ".s".into(), after, error, for_ever: false };
        disk.world().faults.push(fault);
        install(&mut disk, &manifest, (&view, &reader), &mut dice).expect_err("a sync fails");
        let again = install(&mut disk, &manifest, (&view, &reader), &mut dice);
        assert_eq!(again.expect("the disk works").fetched, 0, "all of it is there");
        disk.world().crash(|_| false);
        let checkpoint = Checkpoint::read(&mut disk, &root()).expect("sound").expect("there");
        expect_whole(&mut disk, &checkpoint, &source.entries);
    }
}

#[test]
fn a_later_snapshot_keeps_the_batches_an_earlier_one_brought() {
    let mut source = Source::new(3);
    let (first, view) = source.manifest();
    let mut disk = SimDisk::new(512);
    let reader = source.disk.reader();
    let mut transfer = Transfer::begin(&mut disk, &dir(), 0, &first).expect("the disk works");
    while transfer.fetched < first.bytes() * 3 / 4 {
        let wanted = transfer.wanted().expect("not all is there");
        let len = wanted.len.min(5_000);
        let bytes = view.read_file(&reader, wanted.file, wanted.at, len).expect("pinned");
        transfer.took(&mut disk, bytes).expect("the disk works");
    }
    source.append(80);
    source.retain(5);
    let (second, view) = source.manifest();
    let mut dice = Dice(1);
    let transfer = install(&mut disk, &second, (&view, &reader), &mut dice).expect("it works");
    assert!(transfer.resumed > 0 && transfer.fetched < second.bytes());
    let checkpoint = Checkpoint::read(&mut disk, &root()).expect("sound").expect("there");
    expect_whole(&mut disk, &checkpoint, &source.entries);
    let gone = crate::disk::call(&mut disk, Op::List { path: home_dir(&dir(), first.index()) });
    assert!(matches!(gone, Err(DiskError::NotFound { .. })), "{gone:?}");
}

#[test]
fn homes_below_what_the_log_reached_go_and_later_ones_may_be_resumed() {
    let mut disk = SimDisk::new(512);
    for home in [0, 5, 9, 12] {
        let path = home_dir(&dir(), home);
        crate::disk::call(&mut disk, Op::MakeDir { path: path.clone() }).expect("the disk works");
        crate::disk::call(&mut disk, Op::Create { path: path.join("a") }).expect("the disk works");
    }
    let mut left = |home, last_index| {
        sweep_homes(&mut disk, &dir(), home, last_index).expect("the disk works");
        let names = names(&mut disk, &dir().parent()).expect("the disk works");
        names.iter().filter_map(|name| home_of(name)).map(|(_, home)| home).collect::<Vec<_>>()
    };
    assert_eq!(left(0, 6), [0, 12, 9], "nobody fills a log that is longer");
    assert_eq!(left(9, 9), [12, 9]);
}

#[test]
fn bytes_that_are_not_the_manifests_are_fetched_once_more_and_then_named() {
    let source = Source::new(4);
    let (manifest, view) = source.manifest();
    let reader = source.disk.reader();
    let mut disk = SimDisk::new(512);
    let mut transfer = Transfer::begin(&mut disk, &dir(), 0, &manifest).expect("the disk works");
    let lie = |transfer: &mut Transfer, disk: &mut SimDisk| {
        let wanted = transfer.wanted().expect("nothing is there");
        let bytes = view.read_file(&reader, wanted.file, wanted.at, wanted.len).expect("pinned");
        let mut bytes = bytes.to_vec();
        bytes[10] ^= 1;
        transfer.took(disk, bytes.into())
    };
    assert_eq!(lie(&mut transfer, &mut disk), Ok(()));
    let wanted = transfer.wanted().expect("it starts again");
    assert_eq!((wanted.file, wanted.at), (0, 0));
    let named = lie(&mut transfer, &mut disk);
    assert!(matches!(named, Err(StorageError::Damaged { .. })), "{named:?}");
    // Planted before a crash: a sector of what was staged is lost. It is noticed at the start.
    let mut dice = Dice(9);
    let mut transfer = Transfer::begin(&mut disk, &dir(), 0, &manifest).expect("the disk works");
    fetch(&mut disk, &mut transfer, (&view, &reader), &mut dice).expect("it works");
    let staged = home_dir(&dir(), manifest.index()).join(&manifest.files()[0].name);
    disk.world().flip_bit(&staged, 700, 3);
    let again = Transfer::begin(&mut disk, &dir(), 0, &manifest).expect("the disk works");
    assert_eq!(again.wanted().map(|wanted| (wanted.file, wanted.at)), Some((0, 0)));
}

#[test]
fn a_manifest_that_lies_is_none() {
    let source = Source::new(5);
    let (manifest, _) = source.manifest();
    let good = manifest.encode();
    for byte in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[byte] ^= 1 << (byte % 8);
        assert_eq!(Manifest::decode(bytes.into()), None, "byte {byte}");
    }
    type Lie = fn(&mut Manifest);
    let lies: [Lie; 8] = [
        |m| m.position.last_index += 1,
        |m| m.position.start_index += 1,
        |m| m.position.segments[1].base_index += 1,
        |m| m.position.segments[1].base_offset += 1,
        |m| m.position.terms.clear(),
        |m| m.term += 1,
        |m| m.sums.truncate(1),
        |m| m.position.home = 3,
    ];
    for (at, lie) in lies.into_iter().enumerate() {
        let mut manifest = manifest.clone();
        lie(&mut manifest);
        assert_eq!(Manifest::decode(manifest.encode()), None, "lie {at}");
    }
    assert!(Manifest::decode(good).is_some());
}
