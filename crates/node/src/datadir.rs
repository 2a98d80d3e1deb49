//! A broker's data directory: whose it is, that nobody else uses it, and how its last life ended.
//!
//! Layout: `identity` (magic, format, directory id, broker id, cluster id once known), `birth`
//! (the birth record), `life` (boot id and whether the last life ended in order), `shutdown` (the
//! manifest of that end), `lock`, `checkpoint`, `journal/`, `partitions/`, and `flight/`, the flight
//! recorder's (`telemetry::flight`), which nothing depends on.
//!
//! Invariants: a directory that is not provably ours is never written to. Every small file is
//! replaced whole (temporary file, fsync, rename, fsync of the directory), so a crash leaves the
//! old or the new one. One process at a time holds the directory (flock, gone with the process).
//! Errors are one line that says what to do.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use model::{BrokerId, ClusterId, DirectoryId, limits};
use telemetry::labels::Invariant;
use telemetry::{metrics, tracing};

use crate::ending::Crash;
use crate::formation::{Birth, BirthError};
use crate::manifest::Manifest;

/// Names inside a data directory.
pub mod layout {
    pub const IDENTITY: &str = "identity";
    pub const BIRTH: &str = "birth";
    pub const LIFE: &str = "life";
    pub const MANIFEST: &str = "shutdown";
    pub const CRASH: &str = "crash";
    /// There while records are lost that may have been all there was of a group.
    pub const HOLE: &str = "hole";
    /// What [`CRASH`] becomes once a start has read it.
    pub const LAST_CRASH: &str = "last-crash";
    pub const LOCK: &str = "lock";
    pub const CHECKPOINT: &str = "checkpoint";
    pub const JOURNAL: &str = "journal";
    pub const PARTITIONS: &str = "partitions";
    /// Apache Kafka's identity file: a directory that holds one is not ours.
    pub const KAFKA_IDENTITY: &str = "meta.properties";
}

const IDENTITY_MAGIC: &str = "glasslog.identity=1";
const LIFE_MAGIC: &str = "glasslog.life=1";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why a data directory cannot be used. Every message is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("cannot {what} {path}: {source}; check the path and the permissions of the data directory", path = .path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("data directory {path} is in use by another process{holder}; stop it, or give this broker a directory of its own", path = .path.display())]
    InUse { path: PathBuf, holder: String },
    #[error("data directory {path} belongs to Apache Kafka (it holds meta.properties); give this broker another directory", path = .path.display())]
    Kafka { path: PathBuf },
    #[error("data directory {path} holds `{found}` and is not a Glasslog directory; give this broker an empty one", path = .path.display())]
    Unknown { path: PathBuf, found: String },
    #[error("data directory {path} belongs to broker {theirs}, but this is broker {ours}; correct the broker id or the path", path = .path.display())]
    OtherBroker { path: PathBuf, theirs: BrokerId, ours: BrokerId },
    #[error("{path} is of an unknown format or damaged ({why}); it was not written by this version of Glasslog", path = .path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("data directory {path} belongs to cluster {cluster}, but its birth record is missing; restore the file `birth`, or wipe the directory to join as a new replica", path = .path.display())]
    BirthMissing { path: PathBuf, cluster: ClusterId },
    #[error("data directory {path} holds {what} but no identity; restore the file `identity`, or wipe the directory to join as a new replica", path = .path.display())]
    IdentityMissing { path: PathBuf, what: String },
}

/// How the last life that used this directory ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastShutdown {
    /// Nobody has lived here yet.
    Never,
    /// In order: everything was synced.
    Clean,
    /// The process died. If the machine did too, what was not synced may be gone: under
    /// `journal.sync = interval` every group is then suspect.
    Unclean { boot_id_changed: bool },
}

impl LastShutdown {
    pub fn as_str(self) -> &'static str {
        match self {
            LastShutdown::Never => "never",
            LastShutdown::Clean => "clean",
            LastShutdown::Unclean { boot_id_changed: false } => "process_died",
            LastShutdown::Unclean { boot_id_changed: true } => "machine_died",
        }
    }
}

/// An opened, locked data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    directory: DirectoryId,
    broker: BrokerId,
    birth: Option<Birth>,
    last_shutdown: LastShutdown,
    boot_id: String,
    /// Holds the flock; released by the kernel with the descriptor.
    _lock: File,
}

impl DataDir {
    /// Opens the directory of `broker`, creating it with the id `fresh` (random, drawn by the
    /// caller) if nobody has used it yet. Blocking; call it before any runtime matters.
    pub fn open(
        path: &Path,
        broker: BrokerId,
        fresh: DirectoryId,
    ) -> Result<DataDir, DataDirError> {
        assert!(!fresh.is_zero());
        create_synced(path)?;
        refuse_foreign(path)?;
        let lock = lock(path)?;
        // Again under the lock: another process may have been first in a moment ago.
        let identity = if refuse_foreign(path)? {
            read_identity(path, broker)?
        } else {
            let identity = Identity { directory: fresh, broker, cluster: None };
            replace(path, layout::IDENTITY, identity.text().as_bytes())?;
            identity
        };
        create_synced(&path.join(layout::JOURNAL))?;
        create_synced(&path.join(layout::PARTITIONS))?;
        let birth = read_birth(path, identity.cluster)?;
        let boot_id = boot_id();
        Ok(DataDir {
            path: path.to_owned(),
            directory: identity.directory,
            broker,
            birth,
            last_shutdown: read_life(path, &boot_id)?,
            boot_id,
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn journal(&self) -> PathBuf {
        self.path.join(layout::JOURNAL)
    }

    pub fn partitions(&self) -> PathBuf {
        self.path.join(layout::PARTITIONS)
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.path.join(layout::CHECKPOINT)
    }

    pub fn directory(&self) -> DirectoryId {
        self.directory
    }

    pub fn broker(&self) -> BrokerId {
        self.broker
    }

    /// The birth record on disk, if this broker belongs to a cluster already.
    pub fn birth(&self) -> Option<&Birth> {
        self.birth.as_ref()
    }

    /// How the life before this one ended.
    pub fn last_shutdown(&self) -> LastShutdown {
        self.last_shutdown
    }

    /// Writes and syncs the birth record, then the cluster id. A record is never replaced by
    /// another one.
    pub fn write_birth(&mut self, birth: &Birth) -> Result<(), DataDirError> {
        assert!(self.birth.as_ref().is_none_or(|held| held == birth), "a second birth record");
        replace(&self.path, layout::BIRTH, &birth.encode())?;
        self.birth = Some(birth.clone());
        let identity = Identity {
            directory: self.directory,
            broker: self.broker,
            cluster: Some(birth.cluster),
        };
        replace(&self.path, layout::IDENTITY, identity.text().as_bytes())
    }

    /// From here on, a life that just stops counts as unclean. Call it after recovery's verdict
    /// (suspect groups) is synced and before anything is acknowledged: until then a second crash
    /// must still see how the *earlier* life ended.
    pub fn mark_running(&self) -> Result<(), DataDirError> {
        self.write_life("running")
    }

    /// The last act of an orderly shutdown, after everything else is synced.
    pub fn mark_clean(&self) -> Result<(), DataDirError> {
        self.write_life("clean")
    }

    /// What the last shutdown wrote down, until [`DataDir::remove_manifest`]. One that does not
    /// read is named and ignored: nothing depends on it but the comparison.
    pub fn read_manifest(&self) -> Result<Option<Manifest>, DataDirError> {
        let name = self.path.join(layout::MANIFEST);
        let bytes = match fs::read(&name) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("read", &name)(source)),
        };
        let manifest = Manifest::decode(&bytes);
        if let Err(why) = &manifest {
            let violations = &metrics().invariant_violations_total;
            violations.at(Invariant::ShutdownManifest).inc();
            tracing::error!(%why, "the last shutdown's manifest does not read; not compared");
        }
        Ok(manifest.ok())
    }

    pub fn write_manifest(&self, manifest: &Manifest) -> Result<(), DataDirError> {
        replace(&self.path, layout::MANIFEST, &manifest.encode())
    }

    pub fn remove_manifest(&self) -> Result<(), DataDirError> {
        let name = self.path.join(layout::MANIFEST);
        match fs::remove_file(&name) {
            Ok(()) => sync_directory(&self.path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(io_error("remove", &name)(source)),
        }
    }

    /// Records are lost that may have been all there was of a group, in this life or in an earlier
    /// one that did not settle it: the damaged journal file itself is used again before long.
    pub fn has_hole(&self) -> bool {
        self.path.join(layout::HOLE).exists()
    }

    /// Keeps [`DataDir::has_hole`] true over any end of this life.
    pub fn mark_hole(&self) -> Result<(), DataDirError> {
        replace(&self.path, layout::HOLE, b"")
    }

    /// Whatever the hole may have hidden is known again, or kept out for good.
    pub fn settle_hole(&self) -> Result<(), DataDirError> {
        let path = self.path.join(layout::HOLE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => {
                removed.map_err(io_error("remove", &path)).and_then(|()| sync_directory(&self.path))
            }
        }
    }

    /// What the life before this one wrote down when it ended itself; told once. Whatever does not
    /// read is named and left where it is: nothing depends on it.
    pub fn take_crash(&self) -> Option<Crash> {
        let (path, kept) = (self.path.join(layout::CRASH), self.path.join(layout::LAST_CRASH));
        let mut text = Vec::new();
        let read = File::open(&path)
            .and_then(|file| file.take(limits::MANIFEST_BYTES_MAX as u64).read_to_end(&mut text));
        if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return None;
        }
        let crash = read
            .map_err(|error| error.to_string())
            .and_then(|_| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        let crash = crash.inspect_err(|why| {
            tracing::warn!(path = %path.display(), why, "how the last life ended does not read");
        });
        if let Err(error) = fs::rename(&path, &kept) {
            tracing::warn!(path = %path.display(), %error, "cannot set the last crash aside");
        }
        crash.ok()
    }

    /// The machine's boot id.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn write_life(&self, state: &str) -> Result<(), DataDirError> {
        let text = format!("{LIFE_MAGIC}\nstate={state}\nboot.id={}\n", self.boot_id);
        replace(&self.path, layout::LIFE, text.as_bytes())
    }
}

/// Decides from names alone whether the directory may be touched: `Ok(true)` for one of ours,
/// `Ok(false)` for an unused one.
fn refuse_foreign(path: &Path) -> Result<bool, DataDirError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(io_error("read", path))? {
        let name = entry.map_err(io_error("read", path))?.file_name();
        found.push(name.to_string_lossy().into_owned());
    }
    found.sort();
    if found.iter().any(|name| name == layout::IDENTITY) {
        return Ok(true);
    }
    if found.iter().any(|name| name == layout::KAFKA_IDENTITY) {
        return Err(DataDirError::Kafka { path: path.to_owned() });
    }
    let identity_draft = temporary(layout::IDENTITY);
    // What a first start that died half-way leaves behind, and what mkfs makes.
    let harmless = [layout::LOCK, identity_draft.as_str(), "lost+found"];
    let ours = [layout::BIRTH, layout::LIFE, layout::MANIFEST, layout::CHECKPOINT];
    match found.into_iter().find(|name| !harmless.contains(&name.as_str())) {
        None => Ok(false),
        Some(what) if ours.contains(&what.as_str()) => {
            Err(DataDirError::IdentityMissing { path: path.to_owned(), what: format!("`{what}`") })
        }
        Some(found) => Err(DataDirError::Unknown { path: path.to_owned(), found }),
    }
}

/// Creates a directory and what is missing above it, each entry synced in its parent.
fn create_synced(path: &Path) -> Result<(), DataDirError> {
    let missing: Vec<_> = path.ancestors().take_while(|p| !p.exists()).collect();
    fs::create_dir_all(path).map_err(io_error("create", path))?;
    for parent in missing.iter().filter_map(|p| p.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        sync_directory(parent)?;
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let name = path.join(layout::LOCK);
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).open(&name);
    let mut file = opened.map_err(io_error("open", &name))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&name).unwrap_or_default();
            let pid = pid.trim();
            let known = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
            let holder = if known { format!(" (pid {pid})") } else { String::new() };
            return Err(DataDirError::InUse { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(io_error("lock", &name)(source)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(io_error("write", &name))?;
    Ok(file)
}

struct Identity {
    directory: DirectoryId,
    broker: BrokerId,
    cluster: Option<ClusterId>,
}

impl Identity {
    fn text(&self) -> String {
        let cluster = self.cluster.map(|id| format!("cluster.id={id}\n")).unwrap_or_default();
        format!(
            "{IDENTITY_MAGIC}\ndirectory.id={}\nbroker.id={}\n{cluster}",
            self.directory, self.broker
        )
    }
}

fn read_identity(path: &Path, ours: BrokerId) -> Result<Identity, DataDirError> {
    let (name, lines) = read_lines(path, layout::IDENTITY, IDENTITY_MAGIC)?
        .expect("refuse_foreign saw the identity file");
    let damaged = |why: &str| DataDirError::Damaged { path: name.clone(), why: why.to_owned() };
    let directory = value(&lines, "directory.id")
        .and_then(|v| v.parse::<DirectoryId>().ok())
        .filter(|id| !id.is_zero())
        .ok_or_else(|| damaged("no directory.id"))?;
    let theirs = value(&lines, "broker.id").and_then(|v| v.parse().ok()).map(BrokerId);
    let theirs = theirs.ok_or_else(|| damaged("no broker.id"))?;
    if theirs != ours {
        return Err(DataDirError::OtherBroker { path: path.to_owned(), theirs, ours });
    }
    let cluster = match value(&lines, "cluster.id") {
        None => None,
        Some(v) => Some(v.parse::<ClusterId>().map_err(|_| damaged("cluster.id is no id"))?),
    };
    Ok(Identity { directory, broker: theirs, cluster })
}

fn read_birth(path: &Path, cluster: Option<ClusterId>) -> Result<Option<Birth>, DataDirError> {
    let name = path.join(layout::BIRTH);
    let damaged = |why: String| DataDirError::Damaged { path: name.clone(), why };
    let bytes = match fs::read(&name) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return match cluster {
                None => Ok(None),
                Some(cluster) => Err(DataDirError::BirthMissing { path: path.to_owned(), cluster }),
            };
        }
        Err(source) => return Err(io_error("read", &name)(source)),
    };
    let birth = Birth::decode(&bytes).map_err(|e: BirthError| damaged(e.to_string()))?;
    // The identity learns the cluster id second, so it may lack it; it may not contradict it.
    match cluster.filter(|id| *id != birth.cluster) {
        None => Ok(Some(birth)),
        Some(other) => Err(damaged(format!(
            "it is of cluster {}, the directory of cluster {other}",
            birth.cluster
        ))),
    }
}

fn read_life(path: &Path, boot_id: &str) -> Result<LastShutdown, DataDirError> {
    let Some((name, lines)) = read_lines(path, layout::LIFE, LIFE_MAGIC)? else {
        return Ok(LastShutdown::Never);
    };
    match value(&lines, "state") {
        Some("clean") => Ok(LastShutdown::Clean),
        Some("running") => {
            // An unknown boot id counts as changed: the careful side.
            let known = value(&lines, "boot.id").filter(|id| !id.is_empty());
            let boot_id_changed = known != Some(boot_id);
            Ok(LastShutdown::Unclean { boot_id_changed })
        }
        _ => Err(DataDirError::Damaged { path: name, why: "no state".to_owned() }),
    }
}

/// The machine's boot id, or nothing where the kernel does not tell.
fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).map(|id| id.trim().to_owned()).unwrap_or_default()
}

type Lines = Vec<(String, String)>;

fn read_lines(
    path: &Path,
    name: &str,
    magic: &str,
) -> Result<Option<(PathBuf, Lines)>, DataDirError> {
    let name = path.join(name);
    let text = match fs::read_to_string(&name) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            return Err(DataDirError::Damaged { path: name, why: "not text".to_owned() });
        }
        Err(source) => return Err(io_error("read", &name)(source)),
    };
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    if first != magic {
        let why = format!("its first line is not `{magic}`");
        return Err(DataDirError::Damaged { path: name, why });
    }
    let pairs = lines.filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned())).collect();
    Ok(Some((name, pairs)))
}

fn value<'a>(lines: &'a Lines, key: &str) -> Option<&'a str> {
    lines.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

fn temporary(name: &str) -> String {
    format!("{name}.tmp")
}

/// For the next start of this directory's broker.
pub fn write_crash(path: &Path, crash: &Crash) -> Result<(), DataDirError> {
    let text = serde_json::to_vec(crash).expect("plain data encodes");
    replace(path, layout::CRASH, &text)
}

/// Replaces a file whole: after a crash there is the old or the new one, never a mixture.
fn replace(path: &Path, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
    let draft = path.join(temporary(name));
    let mut file = File::create(&draft).map_err(io_error("create", &draft))?;
    file.write_all(bytes).map_err(io_error("write", &draft))?;
    file.sync_all().map_err(io_error("sync", &draft))?;
    let target = path.join(name);
    fs::rename(&draft, &target).map_err(io_error("rename", &target))?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> Result<(), DataDirError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(io_error("sync", path))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { what, path, source }
}

#[cfg(test)]
#[path = "datadir_tests.rs"]
mod tests;
