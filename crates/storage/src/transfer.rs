//! The receiving side of a snapshot: a stepper that says which bytes it lacks and keeps what it
//! is given in a directory of its own beside the group's.
//!
//! That directory becomes the group's own when a checkpoint names it
//! ([`SegmentPosition::home`](crate::SegmentPosition)): nothing is renamed over anything, so a
//! crash leaves the old log or the new one. Invariants: what is there is never asked for again
//! unless it does not verify; a file counts only once its checksum was compared; `finish` syncs
//! all of it, files before names, and nothing of an earlier life is synced that was not written
//! again in this one.

use std::collections::BTreeSet;

use bytes::Bytes;
use model::limits;

use crate::disk::{Disk, DiskError, DiskPath, Op, Outcome, call};
use crate::error::StorageError;
use crate::manifest::{Manifest, ManifestFile};
use crate::segment::{self, home_dir};

/// Bytes of one file of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Position in [`Manifest::files`].
    pub file: usize,
    pub at: u64,
    pub len: usize,
}

/// A snapshot on its way here.
#[derive(Debug)]
pub struct Transfer {
    dir: DiskPath,
    files: Vec<ManifestFile>,
    /// The file being filled, how far it is, and the checksum of what there is of it.
    file: usize,
    at: u64,
    crc: u32,
    /// It was fetched again already because it did not verify.
    again: bool,
    /// Bytes that were there before, and that came.
    pub resumed: u64,
    pub fetched: u64,
}

impl Transfer {
    /// Looks at what is there: of this snapshot, or of an earlier one that never was installed
    /// (batches are the same bytes in every replica, so what verifies is kept). `base` is the
    /// group's directory, `home` what its checkpoint names.
    pub fn begin(
        disk: &mut dyn Disk,
        base: &DiskPath,
        home: u64,
        manifest: &Manifest,
    ) -> Result<Transfer, StorageError> {
        let dir = home_dir(base, manifest.index());
        call(disk, Op::MakeDir { path: dir.clone() })?;
        let files = manifest.files();
        adopt(disk, base, home, manifest.index(), &files)?;
        let mut transfer =
            Transfer { dir, files, file: 0, at: 0, crc: 0, again: false, resumed: 0, fetched: 0 };
        transfer.look(disk)?;
        Ok(transfer)
    }

    /// The next bytes to fetch; `None`: everything is there.
    pub fn wanted(&self) -> Option<Wanted> {
        let file = self.files.get(self.file)?;
        let rest = usize::try_from(file.bytes - self.at).unwrap_or(usize::MAX);
        let len = rest.min(limits::TRANSFER_READ_BYTES);
        Some(Wanted { file: self.file, at: self.at, len })
    }

    /// The bytes of [`Transfer::wanted`], or the first of them. `Damaged`: they are not what the
    /// manifest says, twice.
    pub fn took(&mut self, disk: &mut dyn Disk, bytes: Bytes) -> Result<(), StorageError> {
        let Some(wanted) = self.wanted() else { return Ok(()) };
        let path = self.path(self.file);
        if bytes.is_empty() || bytes.len() > wanted.len {
            return Err(StorageError::Damaged { path, what: "not the bytes that were asked for" });
        }
        let len = bytes.len() as u64;
        if self.at == 0 {
            call(disk, Op::Create { path: path.clone() })?;
        }
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        call(disk, Op::Write { path, at: self.at, bufs: vec![bytes] })?;
        self.at += len;
        self.fetched += len;
        if self.at == self.files[self.file].bytes { self.verify(disk) } else { Ok(()) }
    }

    /// Everything is there: makes it durable.
    ///
    /// # Panics
    /// When something is missing.
    pub fn finish(&self, disk: &mut dyn Disk) -> Result<(), StorageError> {
        assert!(self.wanted().is_none(), "a transfer is finished when nothing is missing");
        for file in 0..self.files.len() {
            call(disk, Op::Sync { path: self.path(file) })?;
        }
        call(disk, Op::SyncDir { path: self.dir.clone() })?;
        call(disk, Op::SyncDir { path: self.dir.parent() })?;
        Ok(())
    }

    fn path(&self, file: usize) -> DiskPath {
        self.dir.join(&self.files[file].name)
    }

    /// A file is as long as it should be.
    fn verify(&mut self, disk: &mut dyn Disk) -> Result<(), StorageError> {
        let path = self.path(self.file);
        if self.crc == self.files[self.file].crc {
            (self.file, self.at, self.crc, self.again) = (self.file + 1, 0, 0, false);
            return self.look(disk);
        }
        if self.again {
            return Err(StorageError::Damaged { path, what: "its checksum, fetched twice" });
        }
        // What was there before a crash may have lost sectors in it.
        call(disk, Op::Remove { path })?;
        (self.at, self.crc, self.again) = (0, 0, true);
        Ok(())
    }

    /// Takes what there is of the current file, and goes on to the next while it is whole.
    fn look(&mut self, disk: &mut dyn Disk) -> Result<(), StorageError> {
        while let Some(file) = self.files.get(self.file) {
            let (bytes, path) = (file.bytes, self.path(self.file));
            let len = match call(disk, Op::Len { path: path.clone() }) {
                Ok(Outcome::Len(len)) => len,
                Ok(other) => unreachable!("a length was asked for, not {other:?}"),
                Err(DiskError::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if len > bytes {
                call(disk, Op::Truncate { path: path.clone(), len: bytes })?;
            }
            (self.at, self.crc) = take_over(disk, &path, len.min(bytes))?;
            self.resumed += self.at;
            if self.at < bytes {
                return Ok(());
            }
            if self.crc != self.files[self.file].crc {
                call(disk, Op::Remove { path })?;
                self.resumed -= self.at;
                (self.at, self.crc, self.again) = (0, 0, true);
                return Ok(());
            }
            (self.file, self.at, self.crc, self.again) = (self.file + 1, 0, 0, false);
        }
        Ok(())
    }
}

/// Reads what an earlier attempt left and writes it again, the same bytes at the same place: how
/// much there is, and its checksum. That attempt may have ended with a failed sync. Then the
/// kernel shows those bytes and calls them clean: a sync would say Ok and write none of them.
fn take_over(disk: &mut dyn Disk, path: &DiskPath, len: u64) -> Result<(u64, u32), StorageError> {
    let (mut at, mut crc) = (0, 0);
    while at < len {
        let rest = usize::try_from(len - at).unwrap_or(usize::MAX);
        let piece = rest.min(limits::TRANSFER_READ_BYTES);
        let bytes = match call(disk, Op::Read { path: path.clone(), at, len: piece })? {
            Outcome::Bytes(bytes) => bytes,
            other => unreachable!("bytes were asked for, not {other:?}"),
        };
        if bytes.is_empty() {
            break;
        }
        crc = crc32c::crc32c_append(crc, &bytes);
        let (from, piece) = (at, bytes.len() as u64);
        call(disk, Op::Write { path: path.clone(), at: from, bufs: vec![bytes] })?;
        // A hint, so that much of it does not wait for one sync; the sync says what is wrong.
        let _ = call(disk, Op::WriteBack { path: path.clone(), at: from, len: piece });
        at += piece;
    }
    Ok((at, crc))
}

/// Moves batches of snapshots that were never installed over, and removes the rest of those.
fn adopt(
    disk: &mut dyn Disk,
    base: &DiskPath,
    home: u64,
    index: u64,
    files: &[ManifestFile],
) -> Result<(), StorageError> {
    let dir = home_dir(base, index);
    let mut have: BTreeSet<String> = segment::names(disk, &dir)?.into_iter().collect();
    for other in homes_of(disk, base)? {
        if other == home || other == index || other == 0 {
            continue;
        }
        let from = home_dir(base, other);
        for name in segment::names(disk, &from)? {
            // Sidecars differ between replicas, and are small.
            let useful = name.ends_with(".log") && files.iter().any(|file| file.name == name);
            if useful && have.insert(name.clone()) {
                call(disk, Op::Rename { from: from.join(&name), to: dir.join(&name) })?;
            }
        }
        call(disk, Op::RemoveDir { path: from })?;
    }
    Ok(())
}

/// The homes a group's directory has had or is about to have, `0` for the plain one.
fn homes_of(disk: &mut dyn Disk, base: &DiskPath) -> Result<Vec<u64>, StorageError> {
    let plain = base.as_str().rsplit('/').next().and_then(segment::home_of);
    let names = segment::names(disk, &base.parent())?;
    let homes = names.iter().filter_map(|name| segment::home_of(name));
    let of_group = homes.filter(|(group, _)| plain.is_some_and(|(plain, _)| plain == *group));
    Ok(of_group.map(|(_, home)| home).collect())
}

/// Removes what is of no use any more: every home of the group but the one its checkpoint names,
/// up to where its log reaches. Higher ones are snapshots on their way, whose batches a later
/// transfer takes over.
pub fn sweep_homes(
    disk: &mut dyn Disk,
    base: &DiskPath,
    home: u64,
    last_index: u64,
) -> Result<(), StorageError> {
    for other in homes_of(disk, base)? {
        if other != home && other <= last_index.max(home) {
            call(disk, Op::RemoveDir { path: home_dir(base, other) })?;
        }
    }
    Ok(())
}
