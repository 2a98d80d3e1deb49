//! The files of a simulated machine: what programs see, and what would survive.
//!
//! A file has two contents, current and durable. A write changes the current one and marks
//! sectors; a sync copies; a crash keeps any subset. Names likewise, per directory.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::content::{Content, PAGE};
use crate::disk::{DiskError, DiskPath, Op, OpKind, Outcome};

#[derive(Clone, Debug, Default)]
struct Inode {
    current: Content,
    durable: Content,
    /// Sectors written since the last sync.
    dirty: BTreeSet<u64>,
    /// Sectors a failed sync gave up: programs see them, and no later sync writes them (Linux
    /// marks such pages clean). Only writing them again makes them dirty.
    lost: BTreeSet<u64>,
    /// The shortest it was since the last sync.
    cut: Option<u64>,
}

impl Inode {
    /// All that is dirty becomes durable, in sectors of `size` bytes.
    fn sync(&mut self, size: usize) {
        let cut = self.cut.take().unwrap_or(u64::MAX);
        self.durable.set_len(self.durable.len.min(cut));
        self.durable.set_len(self.current.len);
        if self.lost.is_empty() {
            for page in self.dirty.iter().map(|sector| sector * size as u64 / PAGE as u64) {
                self.durable.share_page(&self.current, page);
            }
        } else {
            for sector in &self.dirty {
                let at = sector * size as u64;
                let bytes = self.current.read(at, size);
                self.durable.write(at, &bytes);
            }
        }
        self.dirty.clear();
    }
}

/// A change of names that is not durable yet.
#[derive(Clone, Debug)]
enum NameChange {
    Link { path: DiskPath, inode: usize },
    Unlink { path: DiskPath, inode: usize },
    Rename { from: DiskPath, to: DiskPath, inode: usize },
}

impl NameChange {
    fn dir(&self) -> DiskPath {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path, .. } => path.parent(),
            NameChange::Rename { to, .. } => to.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<DiskPath, usize>) {
        match self {
            NameChange::Link { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Unlink { path, inode } => {
                if names.get(path) == Some(inode) {
                    names.remove(path);
                }
            }
            NameChange::Rename { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }
}

/// One thing a crash may keep or lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsynced {
    Sector {
        path: DiskPath,
        sector: u64,
    },
    Length {
        path: DiskPath,
    },
    /// The n-th change of names since the oldest unsynced one.
    Name {
        change: usize,
    },
}

/// What a sync of a file does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncDoes {
    #[default]
    Sync,
    /// It says Ok.
    Nothing,
    /// One that fails is asked for again, and then says Ok.
    Retry,
}

/// An operation that will fail.
#[derive(Clone, Debug)]
pub struct Fault {
    pub kind: OpKind,
    /// Only on paths that contain this.
    pub path_part: String,
    /// Matching operations that still succeed before it.
    pub after: usize,
    pub error: DiskError,
    /// Fails from then on, not only once.
    pub for_ever: bool,
}

/// All files of one machine. Cloning is cheap: unchanged pages are shared.
#[derive(Clone, Debug)]
pub struct World {
    sector_bytes: usize,
    inodes: Vec<Inode>,
    names: BTreeMap<DiskPath, usize>,
    durable_names: BTreeMap<DiskPath, usize>,
    changes: Vec<NameChange>,
    dirs: BTreeSet<DiskPath>,
    /// Bytes all files together may have.
    pub capacity: Option<u64>,
    pub faults: Vec<Fault>,
    /// Planted: what a sync does. A real disk that does this breaks its promise.
    pub sync: SyncDoes,
    /// Successful operations so far, by kind.
    pub counts: BTreeMap<OpKind, u64>,
}

impl World {
    pub fn new(sector_bytes: usize) -> World {
        assert!(sector_bytes > 0 && PAGE.is_multiple_of(sector_bytes), "a page is made of sectors");
        World {
            sector_bytes,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            dirs: BTreeSet::from([DiskPath::new("")]),
            capacity: None,
            faults: Vec::new(),
            sync: SyncDoes::Sync,
            counts: BTreeMap::new(),
        }
    }

    /// Runs one operation to its end.
    pub fn run(&mut self, op: Op) -> Result<Outcome, DiskError> {
        let (kind, path) = (op.kind(), op.path());
        if let Some(error) = self.strike(kind, &path) {
            if kind == OpKind::Sync
                && let Some(inode) = self.names.get(&path)
            {
                // The kernel forgets what it could not write: a retry would say Ok.
                let inode = &mut self.inodes[*inode];
                inode.lost.append(&mut inode.dirty);
                if self.sync == SyncDoes::Retry && error != DiskError::Crashed {
                    return Ok(Outcome::Done);
                }
            }
            return Err(error);
        }
        let outcome = self.execute(op)?;
        *self.counts.entry(kind).or_default() += 1;
        Ok(outcome)
    }

    fn strike(&mut self, kind: OpKind, path: &DiskPath) -> Option<DiskError> {
        let matches =
            |fault: &Fault| fault.kind == kind && path.as_str().contains(&fault.path_part);
        let at = self.faults.iter().position(matches)?;
        if self.faults[at].after > 0 {
            self.faults[at].after -= 1;
            return None;
        }
        let error = self.faults[at].error.clone();
        if !self.faults[at].for_ever {
            self.faults.remove(at);
        }
        Some(error)
    }

    fn execute(&mut self, op: Op) -> Result<Outcome, DiskError> {
        match op {
            Op::Create { path } => self.create(path)?,
            Op::Write { path, at, bufs } => self.write(&path, at, &bufs)?,
            Op::Sync { .. } if self.sync == SyncDoes::Nothing => {}
            Op::Sync { path } => {
                let size = self.sector_bytes;
                self.inode(&path)?.sync(size);
            }
            Op::SyncDir { path } => self.sync_dir(&path)?,
            Op::WriteBack { path, .. } => drop(self.inode(&path)?),
            Op::Rename { from, to } => self.rename(from, to)?,
            Op::Remove { path } => self.remove(&path),
            Op::RemoveDir { path } => self.remove_dir(&path),
            Op::Allocate { path, len } => {
                let grown = len.saturating_sub(self.inode(&path)?.current.len);
                self.need_space(OpKind::Allocate, &path, grown)?;
                let content = &mut self.inode(&path)?.current;
                content.len = content.len.max(len);
            }
            Op::Truncate { path, len } => self.truncate(&path, len)?,
            Op::Read { path, at, len } => return Ok(Outcome::Bytes(self.read(&path, at, len)?)),
            Op::List { path } => return Ok(Outcome::Names(self.list(&path)?)),
            Op::Len { path } => return Ok(Outcome::Len(self.inode(&path)?.current.len)),
            Op::MakeDir { path } => {
                let mut dir = path;
                while !self.dirs.contains(&dir) {
                    self.dirs.insert(dir.clone());
                    dir = dir.parent();
                }
            }
            Op::FreeSpace => {
                let free = self.capacity.map_or(u64::MAX, |all| all.saturating_sub(self.used()));
                return Ok(Outcome::Free(free));
            }
        }
        Ok(Outcome::Done)
    }

    fn inode(&mut self, path: &DiskPath) -> Result<&mut Inode, DiskError> {
        match self.names.get(path) {
            Some(inode) => Ok(&mut self.inodes[*inode]),
            None => Err(DiskError::NotFound { path: path.clone() }),
        }
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].current.len).sum()
    }

    fn need_space(&self, op: OpKind, path: &DiskPath, bytes: u64) -> Result<(), DiskError> {
        match self.capacity {
            Some(all) if self.used() + bytes > all => {
                Err(DiskError::Full { op, path: path.clone() })
            }
            _ => Ok(()),
        }
    }

    fn create(&mut self, path: DiskPath) -> Result<(), DiskError> {
        if !self.dirs.contains(&path.parent()) {
            return Err(DiskError::NotFound { path });
        }
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        self.names.insert(path.clone(), inode);
        self.changes.push(NameChange::Link { path, inode });
        Ok(())
    }

    fn write(&mut self, path: &DiskPath, at: u64, bufs: &[Bytes]) -> Result<(), DiskError> {
        let sector_bytes = self.sector_bytes as u64;
        let end = at + bufs.iter().map(|buf| buf.len() as u64).sum::<u64>();
        let grown = end.saturating_sub(self.inode(path)?.current.len);
        self.need_space(OpKind::Write, path, grown)?;
        let inode = self.inode(path)?;
        let mut position = at;
        for buf in bufs {
            inode.current.write(position, buf);
            position += buf.len() as u64;
        }
        if end > at {
            let sectors = at / sector_bytes..=(end - 1) / sector_bytes;
            inode.lost.retain(|sector| !sectors.contains(sector));
            inode.dirty.extend(sectors);
        }
        Ok(())
    }

    fn truncate(&mut self, path: &DiskPath, len: u64) -> Result<(), DiskError> {
        let inode = self.inode(path)?;
        inode.current.set_len(len);
        inode.cut = Some(inode.cut.unwrap_or(u64::MAX).min(len));
        Ok(())
    }

    fn sync_dir(&mut self, path: &DiskPath) -> Result<(), DiskError> {
        if !self.dirs.contains(path) {
            return Err(DiskError::NotFound { path: path.clone() });
        }
        let (here, elsewhere) =
            std::mem::take(&mut self.changes).into_iter().partition(|change| change.dir() == *path);
        self.changes = elsewhere;
        for change in here {
            NameChange::apply(&change, &mut self.durable_names);
        }
        Ok(())
    }

    fn rename(&mut self, from: DiskPath, to: DiskPath) -> Result<(), DiskError> {
        let Some(inode) = self.names.remove(&from) else {
            return Err(DiskError::NotFound { path: from });
        };
        self.names.insert(to.clone(), inode);
        self.changes.push(NameChange::Rename { from, to, inode });
        Ok(())
    }

    fn remove(&mut self, path: &DiskPath) {
        if let Some(inode) = self.names.remove(path) {
            self.changes.push(NameChange::Unlink { path: path.clone(), inode });
        }
    }

    fn remove_dir(&mut self, path: &DiskPath) {
        let below = format!("{}/", path.as_str());
        let inside = self.names.keys().filter(|name| name.as_str().starts_with(&below));
        for name in inside.cloned().collect::<Vec<_>>() {
            self.remove(&name);
        }
        self.dirs.retain(|dir| dir != path && !dir.as_str().starts_with(&below));
    }

    fn list(&self, path: &DiskPath) -> Result<Vec<String>, DiskError> {
        if !self.dirs.contains(path) {
            return Err(DiskError::NotFound { path: path.clone() });
        }
        let files = self.names.keys();
        let all = files.chain(&self.dirs).filter(|name| !name.as_str().is_empty());
        let here = all.filter(|name| name.parent() == *path);
        let name = |path: &DiskPath| path.as_str().rsplit('/').next().unwrap_or("").to_owned();
        let mut names: Vec<String> = here.map(name).collect();
        names.sort();
        Ok(names)
    }

    /// Up to `len` bytes of what programs see.
    pub fn read(&self, path: &DiskPath, at: u64, len: usize) -> Result<Bytes, DiskError> {
        match self.names.get(path) {
            Some(inode) => Ok(self.inodes[*inode].current.read(at, len).freeze()),
            None => Err(DiskError::NotFound { path: path.clone() }),
        }
    }

    /// Every file's path, sorted.
    pub fn files(&self) -> Vec<DiskPath> {
        self.names.keys().cloned().collect()
    }

    /// Everything a crash may keep or lose, in a fixed order. Sectors whose bytes would be the
    /// same either way are not listed.
    pub fn unsynced(&self) -> Vec<Unsynced> {
        let mut all = Vec::new();
        let size = self.sector_bytes;
        for (path, inode) in self.reachable() {
            let inode = &self.inodes[inode];
            for sector in &inode.dirty {
                let at = sector * size as u64;
                let (new, old) = (inode.current.read(at, size), inode.durable.read(at, size));
                let same = new.len() >= old.len()
                    && new[..old.len()] == old[..]
                    && new[old.len()..].iter().all(|byte| *byte == 0);
                if !same {
                    all.push(Unsynced::Sector { path: path.clone(), sector: *sector });
                }
            }
            if inode.current.len != inode.durable.len {
                all.push(Unsynced::Length { path });
            }
        }
        all.extend((0..self.changes.len()).map(|change| Unsynced::Name { change }));
        all
    }

    /// Files that some outcome of a crash may show, each once.
    fn reachable(&self) -> Vec<(DiskPath, usize)> {
        let linked = self.changes.iter().map(|change| match change {
            NameChange::Link { path, inode } | NameChange::Unlink { path, inode } => (path, inode),
            NameChange::Rename { to, inode, .. } => (to, inode),
        });
        let mut by_inode = BTreeMap::new();
        for (path, inode) in self.durable_names.iter().chain(linked).chain(&self.names) {
            by_inode.insert(*inode, path.clone());
        }
        by_inode.into_iter().map(|(inode, path)| (path, inode)).collect()
    }

    /// The power goes: of what is unsynced, only what `keep` says survives. Faults stay.
    pub fn crash(&mut self, mut keep: impl FnMut(&Unsynced) -> bool) {
        let size = self.sector_bytes;
        let unsynced = self.unsynced();
        let kept: Vec<&Unsynced> = unsynced.iter().filter(|item| keep(item)).collect();
        for (path, inode) in self.reachable() {
            let inode = &mut self.inodes[inode];
            if kept.contains(&&Unsynced::Length { path: path.clone() }) {
                inode.durable.set_len(inode.current.len);
            }
        }
        let by_path: BTreeMap<DiskPath, usize> = self.reachable().into_iter().collect();
        for item in &kept {
            if let Unsynced::Sector { path, sector } = item {
                let inode = &mut self.inodes[by_path[path]];
                let at = sector * size as u64;
                let bytes = inode.current.read(at, size);
                let room = inode.durable.len.saturating_sub(at).min(bytes.len() as u64) as usize;
                inode.durable.write(at, &bytes[..room]);
            }
        }
        for (number, change) in std::mem::take(&mut self.changes).iter().enumerate() {
            if kept.contains(&&Unsynced::Name { change: number }) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        for inode in &mut self.inodes {
            inode.current = inode.durable.clone();
            inode.dirty.clear();
            inode.lost.clear();
            inode.cut = None;
        }
        self.collect_garbage();
    }

    fn collect_garbage(&mut self) {
        let mut kept = Vec::new();
        let mut names = BTreeMap::new();
        for (path, inode) in &self.names {
            names.insert(path.clone(), kept.len());
            kept.push(self.inodes[*inode].clone());
        }
        (self.inodes, self.names, self.durable_names) = (kept, names.clone(), names);
    }

    /// Rot: one bit of a file is the other one from now on, in memory and on the platter.
    ///
    /// # Panics
    /// When the file has no such byte.
    pub fn flip_bit(&mut self, path: &DiskPath, byte: u64, bit: u8) {
        let inode = &mut self.inodes[self.names[path]];
        assert!(byte < inode.current.len, "{path} has no byte {byte}");
        for content in [&mut inode.current, &mut inode.durable] {
            if byte >= content.len {
                continue;
            }
            content.page_mut(byte / PAGE as u64)[(byte % PAGE as u64) as usize] ^= 1 << bit;
        }
    }
}
