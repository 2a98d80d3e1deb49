//! Reading the journal back: which files there are, what their records prove, what they say.
//!
//! Two passes over the files: the first only collects evidence and judges, the second applies
//! every record up to the cut. Invariants: what is returned is durable (a process that was killed,
//! or ended by a failed sync, may leave records only in the page cache: what nothing proves to be
//! on the disk is written again, the same bytes at the same place, and synced before it is
//! believed); nothing else is written.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{GroupId, Lsn};

use super::evidence::{Corrupt, Evidence, Verdict};
use super::files::{FreeFile, JournalFile, Run, slot_of};
use super::frame::{BLOCK, DATA_START, FileHeader};
use super::replay::Replay;
use super::scan::{Body, Found, Ground, Next, scan_chunk};
use super::{CorruptRecord, Damage, DamageReport, Recovered, RecoveredGroup};
use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, DiskError, DiskPath, Op, Outcome, call};
use crate::error::StorageError;

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// A file with a readable header.
#[derive(Clone, Debug)]
pub(super) struct HeadedFile {
    pub path: DiskPath,
    pub header: FileHeader,
    pub ground: Ground,
    /// Its records above this are dead: a later run was cut there.
    pub dead_above: Lsn,
    pub has_records: bool,
    /// The highest LSN of them.
    pub last_lsn: Lsn,
}

/// All journal files of a directory.
#[derive(Debug, Default)]
struct Inventory {
    headed: Vec<HeadedFile>,
    free: Vec<FreeFile>,
    unreadable: Vec<DiskPath>,
}

/// Reads the checkpoint in `checkpoint_dir` and the journal in `journal_dir` (both are made
/// when missing) and syncs what it found. Damage is not an error: it is reported, per group.
pub fn recover(
    disk: &mut dyn Disk,
    checkpoint_dir: &DiskPath,
    journal_dir: &DiskPath,
) -> Result<Recovered, StorageError> {
    for dir in [checkpoint_dir, journal_dir] {
        call(disk, Op::MakeDir { path: dir.clone() })?;
        call(disk, Op::SyncDir { path: dir.parent() })?;
        call(disk, Op::SyncDir { path: dir.clone() })?;
    }
    let checkpoint = Checkpoint::read(disk, checkpoint_dir)?;
    let mut inventory = take_inventory(disk, journal_dir)?;
    let (verdict, max_lsn) = judge(disk, &mut inventory, checkpoint.as_ref())?;
    for file in inventory.headed.iter().filter(|file| file.has_records) {
        write_again(disk, file, verdict.synced, verdict.cut)?;
        call(disk, Op::Sync { path: file.path.clone() })?;
    }
    let mut replay = Replay::new(checkpoint.as_ref(), verdict.cut);
    for file in inventory.headed.iter().filter(|file| file.has_records) {
        let damaged = verdict.corrupt.iter().any(|corrupt| corrupt.path == file.path);
        replay.enter(file, damaged || !verdict.unreadable.is_empty());
        walk(disk, file, |found| replay.record(found))?;
    }
    Ok(conclude(checkpoint, inventory, verdict, replay, max_lsn))
}

/// Writes the blocks of a file's living records above `synced` again. After a failed sync the
/// kernel calls such pages clean: syncing them once more would say Ok and write nothing.
fn write_again(
    disk: &mut dyn Disk,
    file: &HeadedFile,
    synced: Lsn,
    cut: Lsn,
) -> Result<(), StorageError> {
    if file.last_lsn <= synced {
        return Ok(());
    }
    let mut doubtful: Option<(u64, u64)> = None;
    walk(disk, file, |found| {
        let lsn = found.header.lsn;
        if lsn > synced && lsn <= cut.min(file.dead_above) {
            let end = found.at + found.header.stride();
            let (from, to) = doubtful.get_or_insert((found.at, end));
            (*from, *to) = ((*from).min(found.at), (*to).max(end));
        }
    })?;
    let Some((from, to)) = doubtful else { return Ok(()) };
    let (mut at, to) = (from - from % BLOCK, to.next_multiple_of(BLOCK).min(file.ground.len));
    while at < to {
        let bytes = read(disk, &file.path, at, READ_BYTES.min((to - at) as usize))?;
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len() as u64;
        call(disk, Op::Write { path: file.path.clone(), at, bufs: vec![bytes] })?;
        at += len;
    }
    Ok(())
}

fn conclude(
    checkpoint: Option<Checkpoint>,
    inventory: Inventory,
    verdict: Verdict,
    replay: Replay,
    max_lsn: Lsn,
) -> Recovered {
    let last_seq = inventory.headed.iter().map(|file| file.header.seq).max().unwrap_or(0);
    let spares = inventory.headed.iter().filter(|file| !file.has_records);
    let spares = spares.map(|file| FreeFile { path: file.path.clone(), bytes: file.ground.len });
    let mut free: Vec<FreeFile> = inventory.free.into_iter().chain(spares).collect();
    let mut suspects = verdict.suspects;
    if !inventory.unreadable.is_empty() {
        for group in replay.group_ids() {
            suspects.entry(group).or_insert(Damage::FileUnreadable);
        }
    }
    let (torn_records, torn_bytes, own_sequence) =
        (replay.torn_records, replay.torn_bytes, replay.own_sequence);
    let (groups, mut files, dead) = replay.finish(&suspects);
    // A file whose records are all dead or torn is as free as a blank one.
    free.extend(dead.into_iter().map(|file| FreeFile { path: file.path, bytes: file.bytes }));
    let living = groups.iter().filter(|(_, group)| !group.removed);
    let damage = DamageReport {
        torn_records,
        torn_bytes,
        corrupt: verdict.corrupt.into_iter().map(name_corrupt).collect(),
        unreadable: verdict.unreadable,
        unreadable_files: inventory.unreadable,
        groups: living.filter_map(|(id, group)| Some((*id, group.suspect?))).collect(),
    };
    if !damage.is_damaged() {
        free_prefix(&mut files, &mut free, &groups);
    }
    Recovered {
        cut_lsn: verdict.cut,
        next_lsn: Lsn(max_lsn.0.max(verdict.cut.0) + 1),
        next_file_seq: last_seq + 1,
        checkpoint,
        groups,
        damage,
        files,
        free,
        own_sequence,
    }
}

/// The oldest files that nothing needs are free at once, or each start would add a file. The
/// newest stays: the next run begins behind it. With damage all stay: they are its evidence.
fn free_prefix(
    files: &mut Vec<JournalFile>,
    free: &mut Vec<FreeFile>,
    groups: &BTreeMap<GroupId, RecoveredGroup>,
) {
    let needed = |file: &JournalFile| {
        let promised = groups.values().any(|group| group.pins.promises_lie_in(file));
        promised || !file.max_index.is_empty()
    };
    let first = files.iter().position(needed).unwrap_or(files.len());
    let first = first.min(files.len().saturating_sub(1));
    free.extend(files.drain(..first).map(|file| FreeFile { path: file.path, bytes: file.bytes }));
}

fn name_corrupt(corrupt: Corrupt) -> CorruptRecord {
    let Corrupt { path, at, header } = corrupt;
    CorruptRecord { path, at, lsn: header.lsn, group: header.group }
}

/// Finds every journal file and reads its header.
fn take_inventory(disk: &mut dyn Disk, dir: &DiskPath) -> Result<Inventory, StorageError> {
    let names = match call(disk, Op::List { path: dir.clone() })? {
        Outcome::Names(names) => names,
        other => unreachable!("names were asked for, not {other:?}"),
    };
    let mut inventory = Inventory::default();
    for path in names.iter().map(|name| dir.join(name)).filter(|path| slot_of(path).is_some()) {
        let bytes = length(disk, &path)?;
        match read_header(disk, &path)? {
            Some(header) => {
                let ground = Ground { key: header.key, len: bytes.min(header.bytes) };
                let dead_above = Lsn(u64::MAX);
                let (has_records, last_lsn) = (false, Lsn(0));
                let file = HeadedFile { path, header, ground, dead_above, has_records, last_lsn };
                inventory.headed.push(file);
            }
            None if is_blank(disk, &path, bytes)? => inventory.free.push(FreeFile { path, bytes }),
            None => inventory.unreadable.push(path),
        }
    }
    inventory.headed.sort_by_key(|file| file.header.seq);
    let mut later: Option<Run> = None;
    let mut lowest_cut = Lsn(u64::MAX);
    for file in inventory.headed.iter_mut().rev() {
        if let Some(run) = later.filter(|run| *run != file.header.run) {
            lowest_cut = lowest_cut.min(run.cut_lsn);
        }
        later = Some(file.header.run);
        file.dead_above = lowest_cut;
        #[cfg(test)]
        if super::crash_test::planted::forget_cuts() {
            file.dead_above = Lsn(u64::MAX);
        }
    }
    Ok(inventory)
}

fn length(disk: &mut dyn Disk, path: &DiskPath) -> Result<u64, DiskError> {
    match call(disk, Op::Len { path: path.clone() })? {
        Outcome::Len(len) => Ok(len),
        other => unreachable!("a length was asked for, not {other:?}"),
    }
}

fn read(disk: &mut dyn Disk, path: &DiskPath, at: u64, len: usize) -> Result<Bytes, DiskError> {
    match call(disk, Op::Read { path: path.clone(), at, len })? {
        Outcome::Bytes(bytes) => Ok(bytes),
        other => unreachable!("bytes were asked for, not {other:?}"),
    }
}

/// The newer of the two copies; `None` when neither is readable.
fn read_header(disk: &mut dyn Disk, path: &DiskPath) -> Result<Option<FileHeader>, StorageError> {
    let mut newest: Option<FileHeader> = None;
    for copy in 0..2 {
        let bytes = read(disk, path, copy * BLOCK, BLOCK as usize)?;
        match FileHeader::parse(&bytes) {
            Ok(Some(header)) if newest.is_none_or(|it| it.seq < header.seq) => {
                newest = Some(header)
            }
            Ok(_) => {}
            Err(found) => {
                let known = FileHeader::version();
                return Err(StorageError::Version { path: path.clone(), found, known });
            }
        }
    }
    Ok(newest)
}

/// True when nothing was ever written behind the header: the file never came into use.
fn is_blank(disk: &mut dyn Disk, path: &DiskPath, len: u64) -> Result<bool, DiskError> {
    let mut at = DATA_START;
    while at < len {
        let bytes = read(disk, path, at, READ_BYTES)?;
        if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
            return Ok(bytes.is_empty());
        }
        at += bytes.len() as u64;
    }
    Ok(true)
}

/// The first pass.
fn judge(
    disk: &mut dyn Disk,
    inventory: &mut Inventory,
    checkpoint: Option<&Checkpoint>,
) -> Result<(Verdict, Lsn), StorageError> {
    let mut evidence = Evidence::default();
    for file in &mut inventory.headed {
        evidence.saw_run(file.header.run);
        let (mut has_records, mut last_lsn) = (false, Lsn(0));
        let (path, dead_above, run) = (file.path.clone(), file.dead_above, file.header.run);
        walk(disk, file, |found| {
            has_records = true;
            last_lsn = last_lsn.max(found.header.lsn);
            weigh(&mut evidence, &path, dead_above, run, found);
        })?;
        (file.has_records, file.last_lsn) = (has_records, last_lsn);
    }
    let max_lsn = Lsn(evidence.max_lsn);
    Ok((evidence.judge(checkpoint), max_lsn))
}

fn weigh(evidence: &mut Evidence, path: &DiskPath, dead_above: Lsn, run: Run, found: Found) {
    let Found { at, header, payload } = found;
    evidence.vouch(&header);
    if header.lsn > dead_above {
        return;
    }
    evidence.enter(run);
    if !evidence.record(&header) {
        return;
    }
    match payload.and_then(|payload| Body::decode(&header, payload)) {
        Some(Body::Mark(mark)) => evidence.mark(header.lsn, &mark),
        Some(_) => {}
        None => evidence.corrupt(Corrupt { path: path.clone(), at, header }),
    }
}

/// Calls `each` for every record of a file, in order.
pub(super) fn walk(
    disk: &mut dyn Disk,
    file: &HeadedFile,
    mut each: impl FnMut(Found),
) -> Result<(), DiskError> {
    let mut next = Some(Next { at: DATA_START, need: 0 });
    while let Some(Next { at, need }) = next {
        let bytes = read(disk, &file.path, at, need.max(READ_BYTES))?;
        if bytes.is_empty() || bytes.len() < need {
            return Ok(());
        }
        next = scan_chunk(file.ground, at, &bytes, &mut each);
    }
    Ok(())
}

/// Every record with a readable header, in order, dead ones included: for tests.
#[cfg(test)]
pub(super) fn all_records(
    disk: &mut dyn Disk,
    dir: &DiskPath,
) -> Result<Vec<(HeadedFile, Found)>, StorageError> {
    let mut all = Vec::new();
    for file in take_inventory(disk, dir)?.headed {
        walk(disk, &file, |found| all.push((file.clone(), found)))?;
    }
    Ok(all)
}
