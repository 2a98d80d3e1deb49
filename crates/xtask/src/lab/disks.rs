//! Disks that can be filled, made to fail and cut off from power: ext4 on a loop device over a
//! sparse file, which lies either with the build or on a small tmpfs of its own.
//!
//! Invariant: a disk is unmounted when it is dropped; the mount namespace of the run does it for
//! whoever could not, and with the last mount the loop device goes.

use std::ffi::{c_int, c_uint, c_ulong};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::quiet;

/// What lies below a broker's data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// The machine's own file system.
    Machine,
    /// A disk of so many MiB.
    Disk { mib: u64 },
    /// A disk over a store of so many MiB that can be used up: then writing back fails.
    Treacherous { store_mib: u64 },
}

/// Bytes of the disk over a treacherous store: more than the store has.
const TREACHEROUS_MIB: u64 = 2_048;

/// An ext4 file system on a loop device.
pub struct Disk {
    at: PathBuf,
    image: PathBuf,
    store: Option<PathBuf>,
}

impl Disk {
    /// Makes a disk and mounts it at the folder `at`; nothing to do on the machine's own.
    pub fn make(below: Below, at: &Path) -> Result<Option<Disk>, String> {
        let (mib, store_mib) = match below {
            Below::Machine => return Ok(None),
            Below::Disk { mib } => (mib, None),
            Below::Treacherous { store_mib } => (TREACHEROUS_MIB, Some(store_mib)),
        };
        let store = at.with_extension("store");
        make_dir(at)?;
        make_dir(&store)?;
        if let Some(mib) = store_mib {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(&store);
            quiet(mount)?;
        }
        let image = store.join("image");
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mib << 20).map_err(|error| error.to_string())?;
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1"]).arg(&image);
        quiet(make)?;
        let store = store_mib.map(|_| store);
        let disk = Disk { at: at.to_owned(), image, store };
        disk.mount()?;
        // A data directory holds nothing of others.
        fs::remove_dir(at.join("lost+found")).map_err(|error| error.to_string())?;
        Ok(Some(disk))
    }

    /// Attaches and mounts it.
    pub fn mount(&self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop,errors=continue"]).arg(&self.image).arg(&self.at);
        quiet(mount)
    }

    pub fn unmount(&self) -> Result<(), String> {
        let mut unmount = Command::new("umount");
        unmount.arg(&self.at);
        quiet(unmount)
    }

    /// Uses up all its space; [`Disk::free`] gives it back.
    pub fn fill(&self) -> Result<(), String> {
        fill(&self.at.join(BALLAST))
    }

    pub fn free(&self) -> Result<(), String> {
        fs::remove_file(self.at.join(BALLAST)).map_err(|error| error.to_string())
    }

    /// Uses up the store below a treacherous disk.
    pub fn betray(&self) -> Result<(), String> {
        fill(&self.store.as_ref().ok_or("the disk lies on no store of its own")?.join(BALLAST))
    }

    pub fn forgive(&self) -> Result<(), String> {
        let store = self.store.as_ref().ok_or("the disk lies on no store of its own")?;
        fs::remove_file(store.join(BALLAST)).map_err(|error| error.to_string())
    }

    /// What a loss of power does: nothing that was not synced reaches the disk any more.
    /// `Ok(false)`: this file system cannot do it.
    pub fn cut_power(&self) -> Result<bool, String> {
        let root = File::open(&self.at).map_err(|error| error.to_string())?;
        let flag: c_uint = NOLOGFLUSH;
        // SAFETY: the request reads one 32-bit number through the pointer, which outlives the call.
        #[allow(unsafe_code)]
        let done = unsafe { ioctl(root.as_raw_fd(), SHUTDOWN, &raw const flag) };
        if done == 0 {
            return Ok(true);
        }
        let error = std::io::Error::last_os_error();
        match error.raw_os_error() {
            Some(ENOTTY | EOPNOTSUPP) => Ok(false),
            _ => Err(format!("FS_IOC_SHUTDOWN: {error}")),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let lazily = |at: &Path| {
            let mut unmount = Command::new("umount");
            unmount.arg("--lazy").arg(at);
            let _ = quiet(unmount);
        };
        lazily(&self.at);
        if let Some(store) = &self.store {
            lazily(store);
        }
    }
}

const BALLAST: &str = "ballast";
/// FS_IOC_SHUTDOWN and its flag for "write nothing more, not even the file system's journal".
const SHUTDOWN: c_ulong = 0x8004_587d;
const NOLOGFLUSH: c_uint = 2;
const ENOTTY: i32 = 25;
const EOPNOTSUPP: i32 = 95;

#[allow(unsafe_code)]
unsafe extern "C" {
    fn ioctl(file: c_int, request: c_ulong, ...) -> c_int;
}

/// Allocates in ever smaller pieces until nothing is left.
fn fill(ballast: &Path) -> Result<(), String> {
    File::create(ballast).map_err(|error| error.to_string())?;
    let mut at: u64 = 0;
    let mut piece: u64 = 256 << 20;
    while piece >= 4096 {
        let mut allocate = Command::new("fallocate");
        allocate.args(["--offset", &at.to_string(), "--length", &piece.to_string()]).arg(ballast);
        match quiet(allocate) {
            Ok(()) => at += piece,
            Err(_) => piece /= 4,
        }
    }
    if at == 0 { Err("nothing could be filled".to_owned()) } else { Ok(()) }
}

fn make_dir(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))
}
