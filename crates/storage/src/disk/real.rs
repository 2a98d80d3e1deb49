//! Files of the operating system. Operations run on the thread that asks for completions, in
//! the order they were submitted.
//!
//! Invariants: a descriptor that failed to sync is never synced again (the kernel forgets the
//! pages it could not write and the retry says Ok); at most [`limits::OPEN_SEGMENTS_MAX`]
//! descriptors are kept per writer and as many by all readers together.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use model::limits;

use super::{Completion, Disk, DiskError, DiskPath, FileHandle, Op, OpId, OpKind, Outcome, ReadAt};

/// One writer's door to a data directory. Not shared: each thread that writes has its own.
pub struct RealDisk {
    root: PathBuf,
    next_id: u64,
    queue: VecDeque<(OpId, Op)>,
    open: DescriptorCache,
    /// The first failed sync: from then on every write and sync answers with it.
    poison: Option<DiskError>,
}

impl RealDisk {
    /// A disk whose paths lie below `root`, which must exist.
    pub fn new(root: impl Into<PathBuf>) -> RealDisk {
        RealDisk {
            root: root.into(),
            next_id: 0,
            queue: VecDeque::new(),
            open: DescriptorCache::default(),
            poison: None,
        }
    }

    /// Readers of the same directory.
    pub fn reader(&self) -> RealReader {
        RealReader::new(self.root.clone())
    }

    fn run(&mut self, op: Op) -> Result<Outcome, DiskError> {
        let (kind, path) = (op.kind(), op.path());
        if matches!(kind, OpKind::Write | OpKind::Sync | OpKind::SyncDir)
            && let Some(error) = &self.poison
        {
            return Err(error.clone());
        }
        let result = self.execute(op).map_err(|error| classify(kind, &path, &error));
        if matches!(kind, OpKind::Sync | OpKind::SyncDir)
            && let Err(error) = &result
        {
            // ENOSPC from a sync means pages were dropped, not that a write was refused.
            let message = error.to_string();
            let error = DiskError::Io { op: kind, path, message };
            self.poison = Some(error.clone());
            return Err(error);
        }
        result
    }

    fn execute(&mut self, op: Op) -> io::Result<Outcome> {
        match op {
            Op::Create { path } => {
                self.open.forget(&path);
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(self.full(&path))?;
                self.open.insert(path, file);
            }
            Op::Write { path, at, bufs } => write_all_at(self.file(&path)?, at, &bufs)?,
            Op::Sync { path } => self.file(&path)?.sync_data()?,
            Op::SyncDir { path } => File::open(self.full(&path))?.sync_all()?,
            Op::WriteBack { path, at, len } => start_write_back(self.file(&path)?, at, len),
            Op::Rename { from, to } => {
                self.open.forget(&from);
                self.open.forget(&to);
                std::fs::rename(self.full(&from), self.full(&to))?;
            }
            Op::Remove { path } => {
                self.open.forget(&path);
                absent_is_fine(std::fs::remove_file(self.full(&path)))?;
            }
            Op::RemoveDir { path } => {
                self.open.forget_below(&path);
                absent_is_fine(std::fs::remove_dir_all(self.full(&path)))?;
            }
            Op::Allocate { path, len } => allocate(self.file(&path)?, len)?,
            Op::Truncate { path, len } => self.file(&path)?.set_len(len)?,
            Op::Read { path, at, len } => {
                return Ok(Outcome::Bytes(read_up_to(self.file(&path)?, at, len)?));
            }
            Op::List { path } => return Ok(Outcome::Names(self.list(&path)?)),
            Op::Len { path } => return Ok(Outcome::Len(self.file(&path)?.metadata()?.len())),
            Op::MakeDir { path } => std::fs::create_dir_all(self.full(&path))?,
            Op::FreeSpace => return Ok(Outcome::Free(free_bytes(&self.root)?)),
        }
        Ok(Outcome::Done)
    }

    fn list(&self, path: &DiskPath) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.full(path))? {
            // A name that is not UTF-8 is not ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn full(&self, path: &DiskPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    fn file(&mut self, path: &DiskPath) -> io::Result<&File> {
        if !self.open.touch(path) {
            let file = OpenOptions::new().read(true).write(true).open(self.full(path))?;
            self.open.insert(path.clone(), file);
        }
        Ok(self.open.get(path))
    }
}

impl Disk for RealDisk {
    fn submit(&mut self, op: Op) -> OpId {
        self.next_id += 1;
        let id = OpId(self.next_id);
        self.queue.push_back((id, op));
        id
    }

    fn complete(&mut self) -> Option<Completion> {
        let (id, op) = self.queue.pop_front()?;
        Some(Completion { id, result: self.run(op) })
    }
}

/// Descriptors by path; the one used longest ago is closed first.
#[derive(Default)]
struct DescriptorCache {
    files: HashMap<DiskPath, (File, u64)>,
    clock: u64,
}

impl DescriptorCache {
    fn touch(&mut self, path: &DiskPath) -> bool {
        self.clock += 1;
        match self.files.get_mut(path) {
            Some((_, used)) => {
                *used = self.clock;
                true
            }
            None => false,
        }
    }

    fn get(&self, path: &DiskPath) -> &File {
        &self.files[path].0
    }

    fn insert(&mut self, path: DiskPath, file: File) {
        if self.files.len() >= limits::OPEN_SEGMENTS_MAX {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used);
            let oldest = oldest.map(|(path, _)| path.clone()).expect("the cache is not empty");
            self.files.remove(&oldest);
        }
        self.clock += 1;
        self.files.insert(path, (file, self.clock));
    }

    fn forget(&mut self, path: &DiskPath) {
        self.files.remove(path);
    }

    fn forget_below(&mut self, dir: &DiskPath) {
        let prefix = format!("{}/", dir.as_str());
        self.files.retain(|path, _| !path.as_str().starts_with(&prefix));
    }
}

/// Reads of one data directory by any thread.
#[derive(Clone)]
pub struct RealReader {
    root: Arc<PathBuf>,
    open: Arc<AtomicUsize>,
}

/// A reader's descriptor, counted while it lives.
pub(super) struct CachedFile {
    file: File,
    count: Arc<AtomicUsize>,
}

impl Drop for CachedFile {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RealReader {
    pub fn new(root: impl Into<PathBuf>) -> RealReader {
        RealReader { root: Arc::new(root.into()), open: Arc::default() }
    }

    /// The shared descriptor while there is room for one, else one for this read only.
    fn with_file<T>(
        &self,
        handle: &FileHandle,
        read: impl FnOnce(&File) -> io::Result<T>,
    ) -> io::Result<T> {
        if let Some(cached) = handle.slot.get() {
            return read(&cached.file);
        }
        let file = File::open(self.root.join(handle.path.as_str()))?;
        if self.open.fetch_add(1, Ordering::Relaxed) >= limits::OPEN_SEGMENTS_MAX {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return read(&file);
        }
        let cached = CachedFile { file, count: self.open.clone() };
        read(&handle.slot.get_or_init(|| cached).file)
    }
}

impl ReadAt for RealReader {
    fn read_at(&self, file: &FileHandle, at: u64, len: usize) -> Result<Bytes, DiskError> {
        self.with_file(file, |open| read_up_to(open, at, len))
            .map_err(|error| classify(OpKind::Read, file.path(), &error))
    }
}

fn classify(op: OpKind, path: &DiskPath, error: &io::Error) -> DiskError {
    let path = path.clone();
    match error.kind() {
        ErrorKind::NotFound => DiskError::NotFound { path },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskError::Full { op, path },
        _ => DiskError::Io { op, path, message: error.to_string() },
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn read_up_to(file: &File, at: u64, len: usize) -> io::Result<Bytes> {
    // The file's own length bounds the buffer, whatever was asked for.
    let there = file.metadata()?.len().saturating_sub(at);
    let len = len.min(usize::try_from(there).unwrap_or(usize::MAX));
    // Filled by the kernel only: zeroing it first was a tenth of the broker's time in a fetch.
    let mut buffer: Vec<u8> = Vec::with_capacity(len);
    while buffer.len() < len {
        let next = at + buffer.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buffer), next) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    buffer.truncate(len);
    Ok(Bytes::from(buffer))
}

/// Buffers one system call takes (IOV_MAX of Linux).
const VECTORS_MAX: usize = 1024;

/// pwritev until every byte is written.
#[allow(unsafe_code)]
fn write_all_at(file: &File, at: u64, bufs: &[Bytes]) -> io::Result<()> {
    let (mut at, mut first, mut skip) = (at, 0, 0);
    while first < bufs.len() {
        if bufs[first].len() == skip {
            (first, skip) = (first + 1, 0);
            continue;
        }
        let vectors: Vec<libc::iovec> = bufs[first..]
            .iter()
            .take(VECTORS_MAX)
            .enumerate()
            .map(|(i, buf)| if i == 0 { &buf[skip..] } else { &buf[..] })
            .map(|buf| libc::iovec { iov_base: buf.as_ptr() as *mut _, iov_len: buf.len() })
            .collect();
        // SAFETY: every iovec points into a `Bytes` that `bufs` keeps alive across the call,
        // and pwritev only reads from them.
        let wrote = unsafe {
            libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as i32, at as i64)
        };
        if wrote < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        if wrote == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        at += wrote as u64;
        let mut rest = wrote as usize;
        while rest > 0 {
            let here = rest.min(bufs[first].len() - skip);
            (rest, skip) = (rest - here, skip + here);
            if skip == bufs[first].len() {
                (first, skip) = (first + 1, 0);
            }
        }
    }
    Ok(())
}

/// fallocate; where the file system has none, the length alone is set.
#[allow(unsafe_code)]
fn allocate(file: &File, len: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call; no memory is passed.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len as i64) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            file.set_len(file.metadata()?.len().max(len))
        }
        error => Err(error),
    }
}

/// sync_file_range(WRITE): only a hint, so its error says nothing a sync would not say.
#[allow(unsafe_code)]
fn start_write_back(file: &File, at: u64, len: u64) {
    // SAFETY: the descriptor is open for the length of the call; no memory is passed.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), at as i64, len as i64, libc::SYNC_FILE_RANGE_WRITE);
    }
}

#[allow(unsafe_code)]
fn free_bytes(root: &std::path::Path) -> io::Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(root.as_os_str().as_bytes())?;
    // SAFETY: statvfs is plain old data, for which all zeroes is a value.
    let mut stats: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` ends in NUL and `stats` is a valid place to write to.
    if unsafe { libc::statvfs(path.as_ptr(), &mut stats) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stats.f_bavail * stats.f_frsize)
}
