//! One thread of a process stands still while the others run: the kernel's freezer (cgroup v1),
//! which takes threads one by one.
//!
//! Invariant: dropping it lets the thread go on and removes what was made.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const ROOT: &str = "/sys/fs/cgroup/freezer";

/// A frozen thread.
#[derive(Debug)]
pub struct Frozen {
    group: PathBuf,
    thread: String,
}

/// Whether threads can be frozen here, and if not, why.
pub fn usable() -> Result<(), String> {
    let group = group("try");
    fs::create_dir(&group).map_err(|error| format!("no freezer: {}: {error}", group.display()))?;
    let has = group.join("freezer.state").exists();
    // An empty group goes.
    let _ = fs::remove_dir(&group);
    if has { Ok(()) } else { Err(format!("no freezer at {ROOT}")) }
}

impl Frozen {
    /// Freezes the first thread of `process` whose name begins like this.
    pub fn thread(process: u32, name: &str) -> Result<Frozen, String> {
        let thread = find(process, name)?;
        let group = group("one");
        fs::create_dir(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        let frozen = Frozen { group, thread };
        frozen.hold(true)?;
        write(&frozen.group.join("tasks"), &frozen.thread)?;
        Ok(frozen)
    }

    /// Lets it go on for a while, or holds it again.
    pub fn hold(&self, still: bool) -> Result<(), String> {
        let state = if still { "FROZEN" } else { "THAWED" };
        write(&self.group.join("freezer.state"), state)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Its process may be gone, and the thread with it.
        let _ = write(&self.group.join("freezer.state"), "THAWED");
        let _ = write(&Path::new(ROOT).join("tasks"), &self.thread);
        let _ = fs::remove_dir(&self.group);
    }
}

/// A name that no other run has, and no other of this one.
fn group(what: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Path::new(ROOT).join(format!("glasslog-{what}-{}-{next}", std::process::id()))
}

fn find(process: u32, name: &str) -> Result<String, String> {
    let tasks = format!("/proc/{process}/task");
    let entries = fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
    let named = |path: &Path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.starts_with(name))
    };
    let found = entries.flatten().map(|entry| entry.path()).find(|path| named(path));
    let id = found.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    id.ok_or_else(|| format!("process {process} has no thread {name}"))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
