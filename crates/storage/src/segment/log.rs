//! The writer half of one group's segments.
//!
//! Invariants: nothing becomes visible (view, position, last index) before its bytes were
//! written; a failed append changes nothing and is repeated over the same bytes; files leave
//! the view first, the position with the next checkpoint, the disk only after that.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use model::{EntryKind, GroupId, PrefixChecksum, limits};

use super::SegmentEntry;
use super::draft::Draft;
use super::list::{Files, Segment, SegmentList};
use super::position::{SegmentMark, SegmentPosition};
use crate::disk::{Disk, DiskError, DiskPath, FileHandle, Op, Outcome, call};
use crate::error::StorageError;

/// Written bytes after which write-back is started, so that a sync finds little.
const WRITE_BACK_BYTES: u64 = 1 << 20;

/// The writer half; owned by the segment thread.
#[derive(Debug)]
pub struct SegmentLog {
    dir: DiskPath,
    home: u64,
    segment_bytes: u64,
    /// What readers see.
    list: SegmentList,
    prefix: PrefixChecksum,
    /// Bytes of batches since the last point in the sidecar.
    since_point: u64,
    /// Where write-back of the active segment stands.
    written_back: u64,
    /// Files with unsynced bytes, and whether the directory has unsynced names.
    dirty: BTreeSet<DiskPath>,
    dir_dirty: bool,
    dir_exists: bool,
    /// The directory's own name is not durable yet.
    dir_made: bool,
    /// Left the view, still on the disk: with the last index of each.
    doomed: Vec<(u64, Arc<Files>)>,
    /// `list`, shared with readers.
    view: Arc<SegmentList>,
}

impl SegmentLog {
    /// Cuts the files in `dir` to `position`; without one, nothing in `dir` is trusted and
    /// everything is discarded. `Damaged`: a file is shorter than the checkpoint says.
    pub fn open(
        disk: &mut dyn Disk,
        dir: DiskPath,
        position: Option<SegmentPosition>,
        segment_bytes: u64,
    ) -> Result<SegmentLog, StorageError> {
        let position = position.unwrap_or_default();
        let (home, dir) = (position.home, home_dir(&dir, position.home));
        let dir_exists = discard_unknown(disk, &dir, &position)?;
        let mut segments = Vec::new();
        for mark in &position.segments {
            let files = files_of(&dir, mark);
            cut(disk, files.log.path(), mark.log_bytes)?;
            cut(disk, files.side.path(), mark.side_bytes)?;
            segments.push(Segment::recovered(files, *mark));
        }
        let active = segments.pop();
        let written_back = active.as_ref().map_or(0, |segment| segment.mark.log_bytes);
        let list = SegmentList { sealed: Arc::new(segments), active, ..position.empty_view() };
        let view = Arc::new(list.clone());
        Ok(SegmentLog {
            dir,
            home,
            segment_bytes,
            list,
            prefix: position.prefix,
            since_point: limits::SIDECAR_STRIDE_BYTES,
            written_back,
            dirty: BTreeSet::new(),
            dir_dirty: false,
            dir_exists,
            dir_made: dir_exists,
            doomed: Vec::new(),
            view,
        })
    }

    /// Appends committed entries that follow upon `last_index()`. After an error, continue
    /// behind `last_index()`.
    ///
    /// # Panics
    /// When an index or a batch's offset does not follow upon the one before.
    pub fn append(
        &mut self,
        disk: &mut dyn Disk,
        entries: &[SegmentEntry],
    ) -> Result<(), StorageError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut draft = match &self.list.active {
            Some(active) => self.draft_on(active.clone(), self.since_point),
            None => self.next_segment(),
        };
        for entry in entries {
            if self.ends_before(&draft, entry) {
                self.write(disk, draft)?;
                draft = self.next_segment();
            }
            draft.push(entry, self.list.terms.last());
        }
        self.write(disk, draft)
    }

    fn next_segment(&self) -> Draft {
        let mark = SegmentMark {
            base_index: self.list.last_index + 1,
            base_offset: self.list.next_offset,
            last_index: self.list.last_index,
            next_offset: self.list.next_offset,
            max_timestamp: -1,
            base_prefix: self.prefix,
            ..SegmentMark::default()
        };
        let segment = Segment::recovered(files_of(&self.dir, &mark), mark);
        self.draft_on(segment, limits::SIDECAR_STRIDE_BYTES)
    }

    fn draft_on(&self, segment: Segment, since_point: u64) -> Draft {
        Draft {
            mark: segment.mark,
            segment,
            log: Vec::new(),
            side: BytesMut::new(),
            prefix: self.prefix,
            since_point,
            terms: Vec::new(),
            places: Vec::new(),
        }
    }

    /// True when `entry` belongs into the segment after `draft`'s.
    fn ends_before(&self, draft: &Draft, entry: &SegmentEntry) -> bool {
        let mark = &draft.mark;
        let full = entry.kind == EntryKind::Batch
            && mark.log_bytes + entry.entry.data.len() as u64 > self.segment_bytes;
        let roll = mark.log_bytes > 0 && (full || entry.kind == EntryKind::Roll);
        roll || mark.side_bytes > limits::SIDECAR_BYTES_MAX
    }

    /// Writes a draft; only then is it true.
    fn write(&mut self, disk: &mut dyn Disk, draft: Draft) -> Result<(), StorageError> {
        let Draft { mut segment, mark, log, side, prefix, since_point, terms, places } = draft;
        if mark.last_index == self.list.last_index {
            return Ok(());
        }
        if !self.dir_exists {
            call(disk, Op::MakeDir { path: self.dir.clone() })?;
            (self.dir_exists, self.dir_made) = (true, true);
        }
        if !log.is_empty() {
            let path = segment.files.log.path().clone();
            self.extend(disk, path, segment.mark.log_bytes, log)?;
        }
        if !side.is_empty() {
            let path = segment.files.side.path().clone();
            self.extend(disk, path, segment.mark.side_bytes, vec![side.freeze()])?;
        }
        if let Some(full) = self.list.active.take_if(|it| it.mark.base_index != mark.base_index) {
            Arc::make_mut(&mut self.list.sealed).push(full);
            self.written_back = 0;
        }
        segment.mark = mark;
        if !places.is_empty() {
            Arc::make_mut(&mut segment.fresh).extend(places);
        }
        if !terms.is_empty() {
            Arc::make_mut(&mut self.list.terms).extend(terms);
        }
        self.list.last_index = mark.last_index;
        self.list.next_offset = mark.next_offset;
        (self.prefix, self.since_point) = (prefix, since_point);
        self.write_back(disk, &segment);
        self.list.active = Some(segment);
        self.view = Arc::new(self.list.clone());
        Ok(())
    }

    fn extend(
        &mut self,
        disk: &mut dyn Disk,
        path: DiskPath,
        at: u64,
        bufs: Vec<Bytes>,
    ) -> Result<(), StorageError> {
        if at == 0 {
            call(disk, Op::Create { path: path.clone() })?;
            self.dir_dirty = true;
        }
        call(disk, Op::Write { path: path.clone(), at, bufs })?;
        self.dirty.insert(path);
        Ok(())
    }

    fn write_back(&mut self, disk: &mut dyn Disk, segment: &Segment) {
        let len = segment.mark.log_bytes - self.written_back;
        if len >= WRITE_BACK_BYTES {
            let path = segment.files.log.path().clone();
            // A hint: whatever is wrong, the sync will say.
            let _ = call(disk, Op::WriteBack { path, at: self.written_back, len });
            self.written_back = segment.mark.log_bytes;
        }
    }

    /// Syncs everything appended so far: call before a checkpoint carries `position()`.
    pub fn sync(&mut self, disk: &mut dyn Disk) -> Result<(), StorageError> {
        while let Some(path) = self.dirty.first().cloned() {
            call(disk, Op::Sync { path: path.clone() })?;
            self.dirty.remove(&path);
        }
        if self.dir_dirty {
            call(disk, Op::SyncDir { path: self.dir.clone() })?;
            self.dir_dirty = false;
        }
        if self.dir_made {
            call(disk, Op::SyncDir { path: self.dir.parent() })?;
            self.dir_made = false;
        }
        Ok(())
    }

    /// True when something appended is not synced.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || self.dir_dirty || self.dir_made
    }

    /// What a checkpoint says of these segments; true only after `sync`.
    pub fn position(&self) -> SegmentPosition {
        let all = self.list.sealed.iter().chain(&self.list.active);
        SegmentPosition {
            segments: all.map(|segment| segment.mark).collect(),
            last_index: self.list.last_index,
            next_offset: self.list.next_offset,
            prefix: self.prefix,
            log_start_offset: self.list.log_start_offset,
            start_index: self.list.start_index,
            terms: self.list.terms.to_vec(),
            home: self.home,
        }
    }

    pub fn last_index(&self) -> u64 {
        self.list.last_index
    }

    /// See [`SegmentPosition::home`].
    pub fn home(&self) -> u64 {
        self.home
    }

    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }

    /// Raises the log start: whole segments below leave the view and the position. Their files
    /// stay until `reap`.
    pub fn set_log_start(&mut self, offset: i64) {
        let offset = offset.min(self.list.next_offset);
        if offset > self.list.log_start_offset {
            self.list.log_start_offset = offset;
            self.leave(|mark| mark.next_offset <= offset);
        }
    }

    /// As `set_log_start`, by index: for groups without offsets (metadata). Entries at or
    /// below `index` may leave.
    pub fn set_start_index(&mut self, index: u64) {
        self.leave(|mark| mark.last_index <= index);
    }

    /// Whole sealed segments at the front leave the view.
    fn leave(&mut self, is_below: impl Fn(&SegmentMark) -> bool) {
        let count = self.list.sealed.iter().take_while(|it| is_below(&it.mark)).count();
        if count == 0 {
            self.view = Arc::new(self.list.clone());
            return;
        }
        let sealed = Arc::make_mut(&mut self.list.sealed);
        let gone: Vec<Segment> = sealed.drain(..count).collect();
        self.list.start_index = gone.last().expect("some are gone").mark.last_index;
        self.doomed.extend(gone.into_iter().map(|it| (it.mark.last_index, it.files)));
        // The term of the last index below the start is still asked for.
        let start = self.list.start_index;
        let terms = Arc::make_mut(&mut self.list.terms);
        let first = terms.partition_point(|term| term.first_index <= start);
        terms.drain(..first.saturating_sub(1));
        self.view = Arc::new(self.list.clone());
    }

    /// Removes files that left the view and that no reader holds; how many are still there.
    /// `start_index` is that of the synced checkpoint: what lies above it is still named there.
    pub fn reap(&mut self, disk: &mut dyn Disk, start_index: u64) -> Result<usize, StorageError> {
        let mut held = Vec::new();
        for (last_index, files) in std::mem::take(&mut self.doomed) {
            if last_index > start_index || Arc::strong_count(&files) > 1 {
                held.push((last_index, files));
                continue;
            }
            for path in [files.log.path(), files.side.path()] {
                call(disk, Op::Remove { path: path.clone() })?;
                self.dirty.remove(path);
            }
        }
        self.doomed = held;
        Ok(self.doomed.len())
    }

    /// The view as of the last append.
    pub fn view(&self) -> Arc<SegmentList> {
        self.view.clone()
    }

    /// True while somebody else holds a view, or part of one, of these files.
    pub fn is_read(&self) -> bool {
        let all = self.list.sealed.iter().chain(&self.list.active);
        // Ours are the list and the view; an active segment is cloned into both.
        Arc::strong_count(&self.view) > 1
            || all.into_iter().any(|segment| Arc::strong_count(&segment.files) > 2)
    }
}

/// Where a group's segments lie: the plain directory, or that of the snapshot that filled it.
pub fn home_dir(base: &DiskPath, home: u64) -> DiskPath {
    match home {
        0 => base.clone(),
        home => DiskPath::new(&format!("{base}.s{home}")),
    }
}

/// Names in a directory; none where there is no directory.
pub fn names(disk: &mut dyn Disk, dir: &DiskPath) -> Result<Vec<String>, StorageError> {
    match call(disk, Op::List { path: dir.clone() }) {
        Ok(Outcome::Names(names)) => Ok(names),
        Ok(other) => unreachable!("names were asked for, not {other:?}"),
        Err(DiskError::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Removes the segments of these groups, durably, whether or not they were ever opened, in
/// whatever home, snapshots on their way included. Views that are still held fail to read.
/// `parent` holds the groups' directories.
pub fn delete_segments(
    disk: &mut dyn Disk,
    parent: &DiskPath,
    groups: &BTreeSet<GroupId>,
) -> Result<(), StorageError> {
    for name in names(disk, parent)? {
        if home_of(&name).is_some_and(|(group, _)| groups.contains(&group)) {
            call(disk, Op::RemoveDir { path: parent.join(&name) })?;
        }
    }
    call(disk, Op::SyncDir { path: parent.clone() })?;
    Ok(())
}

/// Whose directory this is, and which of that group's homes: what [`home_dir`] made of them.
pub fn home_of(name: &str) -> Option<(GroupId, u64)> {
    let (group, home) = match name.split_once(".s") {
        None => (name, 0),
        Some((group, home)) => (group, home.parse().ok().filter(|home| *home > 0)?),
    };
    Some((GroupId(group.parse().ok()?), home))
}

fn files_of(dir: &DiskPath, mark: &SegmentMark) -> Files {
    let [log, side] = mark.names();
    Files { log: FileHandle::new(dir.join(&log)), side: FileHandle::new(dir.join(&side)) }
}

/// Removes every file the position does not name; whether the directory exists.
fn discard_unknown(
    disk: &mut dyn Disk,
    dir: &DiskPath,
    position: &SegmentPosition,
) -> Result<bool, StorageError> {
    let names = match call(disk, Op::List { path: dir.clone() }) {
        Ok(Outcome::Names(names)) => names,
        Ok(other) => unreachable!("names were asked for, not {other:?}"),
        Err(DiskError::NotFound { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let mut known = BTreeSet::new();
    for mark in &position.segments {
        let files = files_of(dir, mark);
        known.extend((mark.log_bytes > 0).then(|| files.log.path().clone()));
        known.extend((mark.side_bytes > 0).then(|| files.side.path().clone()));
    }
    for path in names.iter().map(|name| dir.join(name)).filter(|path| !known.contains(path)) {
        call(disk, Op::Remove { path })?;
    }
    Ok(true)
}

/// Cuts a file to the bytes that are trusted.
fn cut(disk: &mut dyn Disk, path: &DiskPath, bytes: u64) -> Result<(), StorageError> {
    if bytes == 0 {
        return Ok(());
    }
    let damaged = |what| StorageError::Damaged { path: path.clone(), what };
    let len = match call(disk, Op::Len { path: path.clone() }) {
        Ok(Outcome::Len(len)) => len,
        Ok(other) => unreachable!("a length was asked for, not {other:?}"),
        Err(DiskError::NotFound { .. }) => return Err(damaged("the file is gone")),
        Err(error) => return Err(error.into()),
    };
    if len < bytes {
        return Err(damaged("the file is shorter than its checkpoint says"));
    }
    if len > bytes {
        call(disk, Op::Truncate { path: path.clone(), len: bytes })?;
    }
    Ok(())
}
