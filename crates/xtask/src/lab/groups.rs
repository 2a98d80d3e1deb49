//! Control groups: a process with a share of a processor, or of a disk.
//!
//! Invariant: a group goes when its value does, and what it held back goes on; groups of a run
//! whose starter is gone are swept by a later one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::needs;

/// Names begin so, and end with the process id of whoever started the run.
const PREFIX: &str = "glasslog-chaos-";

/// A control group with a share of one processor.
pub struct Quota(PathBuf);

impl Quota {
    /// Whether this machine has such groups and lets us make them.
    pub fn possible() -> Result<(), String> {
        let (root, version) = needs::cpu_groups().ok_or("no control group for processor time")?;
        let quota = Quota(root.join(format!("{PREFIX}{}", std::process::id())));
        fs::create_dir_all(&quota.0).map_err(|error| format!("{}: {error}", quota.0.display()))?;
        let limit = quota.0.join(if version == 2 { "cgroup.procs" } else { "cpu.cfs_quota_us" });
        let missing = || format!("this kernel has no {}", limit.display());
        limit.exists().then_some(()).ok_or_else(missing)
    }

    /// Holds a process to `percent` of one processor. `owner` is the process id of the run.
    pub fn new(owner: u32, pid: u32, percent: u32) -> Result<Quota, String> {
        const PERIOD_US: u32 = 100_000;
        let (root, version) = needs::cpu_groups().ok_or("no control group for processor time")?;
        let quota = Quota(root.join(format!("{PREFIX}{owner}")));
        if version == 2 {
            write(&root.join("cgroup.subtree_control"), "+cpu")?;
        }
        fs::create_dir_all(&quota.0).map_err(|error| error.to_string())?;
        let allowed = PERIOD_US / 100 * percent;
        if version == 2 {
            write(&quota.0.join("cpu.max"), &format!("{allowed} {PERIOD_US}"))?;
        } else {
            write(&quota.0.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
            write(&quota.0.join("cpu.cfs_quota_us"), &allowed.to_string())?;
        }
        write(&quota.0.join("cgroup.procs"), &pid.to_string())?;
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        empty(&self.0);
    }
}

/// How little a disk does for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trickle {
    /// Writes a second.
    Writes(u32),
    /// A byte a second: whatever is written now is there tomorrow.
    Nothing,
}

/// A control group whose writes to one disk trickle.
pub struct Throttle {
    group: PathBuf,
    /// The limit's file, and the line that takes the limit away.
    release: (PathBuf, String),
}

impl Throttle {
    /// Whether this machine has such groups and lets us make them.
    pub fn possible() -> Result<(), String> {
        let (root, version) = needs::disk_groups().ok_or("no control group for disks")?;
        let group = root.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        let has = version == 2 || group.join(WRITES).exists();
        empty(&group);
        has.then_some(()).ok_or_else(|| "this kernel throttles no disk".to_owned())
    }

    /// Holds what a process writes to the disk below the folder `at` to a trickle.
    pub fn new(owner: u32, pid: u32, at: &Path, trickle: Trickle) -> Result<Throttle, String> {
        let (root, version) = needs::disk_groups().ok_or("no control group for disks")?;
        let device = fs::metadata(at).map_err(|error| format!("{}: {error}", at.display()))?.dev();
        let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
        let group = root.join(format!("{PREFIX}{owner}"));
        if version == 2 {
            write(&root.join("cgroup.subtree_control"), "+io")?;
        }
        fs::create_dir_all(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        let (file, limit, none) = match (version, trickle) {
            (2, Trickle::Writes(writes)) => ("io.max", format!("wiops={writes}"), "wiops=max"),
            (2, Trickle::Nothing) => ("io.max", "wbps=1".to_owned(), "wbps=max"),
            (_, Trickle::Writes(writes)) => (WRITES, writes.to_string(), "0"),
            (_, Trickle::Nothing) => ("blkio.throttle.write_bps_device", "1".to_owned(), "0"),
        };
        let file = group.join(file);
        let throttle = Throttle {
            release: (file.clone(), format!("{major}:{minor} {none}")),
            group: group.clone(),
        };
        write(&file, &format!("{major}:{minor} {limit}"))?;
        write(&group.join("cgroup.procs"), &pid.to_string())?;
        Ok(throttle)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // What waits goes to the disk at once.
        let _ = write(&self.release.0, &self.release.1);
        empty(&self.group);
    }
}

const WRITES: &str = "blkio.throttle.write_iops_device";

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Gives a group's processes back to its parent and removes it.
fn empty(group: &Path) {
    let parent = group.parent().expect("a group below the root").join("cgroup.procs");
    for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
        let _ = fs::write(&parent, pid);
    }
    let _ = fs::remove_dir(group);
}

/// Removes control groups of runs whose starter is gone, and of this one.
pub fn sweep() {
    let roots = [needs::cpu_groups(), needs::disk_groups()];
    for (root, _) in roots.into_iter().flatten() {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok());
            let Some(owner) = owner else { continue };
            let alive = PathBuf::from(format!("/proc/{owner}")).exists();
            if !alive || owner == std::process::id() {
                empty(&entry.path());
            }
        }
    }
}
