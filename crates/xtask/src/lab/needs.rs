//! What a machine must have so that a fault can be made on it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::freezer;
use super::groups::{Quota, Throttle};
use crate::clients::program;
use crate::workspace;

/// Why a fault cannot be made here.
#[derive(Debug)]
pub enum Missing {
    /// A package that could be installed.
    Tool(String),
    /// A right or a part of the kernel that could not.
    Kernel(String),
}

impl Missing {
    pub fn why(&self) -> &str {
        match self {
            Missing::Tool(why) | Missing::Kernel(why) => why,
        }
    }
}

/// What a scenario needs beside namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// nftables, with random numbers.
    PacketFilter,
    /// Loop devices and ext4.
    LoopDisks,
    /// A control group that limits processor time.
    CpuQuota,
    /// A control group that limits what goes to a disk.
    DiskQuota,
    /// A control group that stops single threads.
    Freezer,
    /// libfaketime.
    FakeClock,
}

impl Need {
    pub fn check(self) -> Result<(), Missing> {
        match self {
            Need::PacketFilter => {
                program("nft", "nftables").map_err(Missing::Tool)?;
                let rule = "add table inet t; add chain inet t c { type filter hook input \
                            priority 0; }; add rule inet t c numgen random mod 100 < 20 drop";
                tried("unshare", &["--net", "nft", rule])
            }
            Need::LoopDisks => {
                program("mkfs.ext4", "e2fsprogs").map_err(Missing::Tool)?;
                let dir = workspace::target().join("chaos/trial");
                let dir = dir.display().to_string();
                let script = "mkdir -p $0/at && truncate -s 16M $0/image && \
                              mkfs.ext4 -q -F $0/image && mount -o loop $0/image $0/at";
                // The mount goes with its namespace.
                tried("unshare", &["--mount", "--propagation", "private", "sh", "-c", script, &dir])
            }
            Need::CpuQuota => Quota::possible().map_err(Missing::Kernel),
            Need::DiskQuota => Throttle::possible().map_err(Missing::Kernel),
            Need::Freezer => freezer::usable().map_err(Missing::Kernel),
            Need::FakeClock => {
                program("faketime", "faketime").map_err(Missing::Tool)?;
                let why = "faketime is there and libfaketimeMT.so.1 is not".to_owned();
                fake_clock().map(drop).ok_or(Missing::Tool(why))
            }
        }
    }
}

/// What every scenario needs.
pub fn everybody() -> Result<(), Missing> {
    // Whoever this process is, its own entry there belongs to.
    let user = std::fs::metadata("/proc/self").map(|own| own.uid());
    if !matches!(user, Ok(0)) {
        return Err(Missing::Kernel("only root can make namespaces".to_owned()));
    }
    for tool in ["unshare", "nsenter", "setpriv", "mount"] {
        program(tool, "util-linux").map_err(Missing::Tool)?;
    }
    program("ip", "iproute2").map_err(Missing::Tool)?;
    tried("unshare", &["--net", "--mount", "--pid", "--fork", "--mount-proc", "true"])?;
    tried("unshare", &["--net", "ip", "link", "add", "b0", "type", "bridge"])?;
    tried("unshare", &["--net", "ip", "link", "add", "v0", "type", "veth"])
}

/// Where control groups are made that limit processor time, and whether as version 1 or 2 does.
pub fn cpu_groups() -> Option<(PathBuf, u8)> {
    let first = Path::new("/sys/fs/cgroup/cpu");
    if first.join("cpu.cfs_quota_us").exists() || first.join("cgroup.procs").exists() {
        return Some((first.to_owned(), 1));
    }
    let second = Path::new("/sys/fs/cgroup");
    let offered = std::fs::read_to_string(second.join("cgroup.controllers")).ok()?;
    offered.split_whitespace().any(|name| name == "cpu").then(|| (second.to_owned(), 2))
}

/// Where control groups are made that limit what goes to disks, and whether as version 1 or 2 does.
pub fn disk_groups() -> Option<(PathBuf, u8)> {
    let first = Path::new("/sys/fs/cgroup/blkio");
    if first.join("cgroup.procs").exists() {
        return Some((first.to_owned(), 1));
    }
    let second = Path::new("/sys/fs/cgroup");
    let offered = std::fs::read_to_string(second.join("cgroup.controllers")).ok()?;
    offered.split_whitespace().any(|name| name == "io").then(|| (second.to_owned(), 2))
}

/// The library that shows a process another time.
pub fn fake_clock() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let places = places.chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")]);
    places.map(|place| place.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

fn tried(name: &str, args: &[&str]) -> Result<(), Missing> {
    let output = Command::new(name).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Missing::Tool(format!("{name}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text.lines().next().unwrap_or("no reason given");
    Err(Missing::Kernel(format!("{name} {}: {first}", args.join(" "))))
}
