//! The recorder's place on disk: what was left by the life before is set aside, files are made, and
//! a life is begun.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use crate::flight::ring::{HEADER_BYTES, Header, RECORD_BYTES};
use crate::flight::{CONNECTIONS, OTHER, abort, claim, dumps, kinds, mirror, open};
use crate::labels::DropKind;
use crate::{clock, metrics};

/// Below a data directory.
pub const DIR: &str = "flight";
/// Below that: the rings of the life before.
pub const PREVIOUS: &str = "previous";
const MAKING: &str = "previous.making";
/// What the name of a ring's file ends with.
pub const EXTENSION: &str = "ring";

/// What a broker's recorder has to know.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Locked by this process.
    pub data_dir: &'a Path,
    pub broker: i32,
    /// Threads that serve connections.
    pub connection_threads: u16,
}

/// The life that is being recorded.
pub(super) struct Life {
    pub dir: PathBuf,
    header: Header,
    /// When the life before it last wrote.
    before_ms: Option<i64>,
}

static LIFE: OnceLock<Life> = OnceLock::new();

impl Life {
    pub fn header(&self, name: &str, index: u16) -> Header {
        Header { name: name.to_owned(), index, ..self.header.clone() }
    }

    /// A new file for `records` of that loop, with its header.
    pub fn create(&self, name: &str, index: u16, records: usize) -> io::Result<File> {
        let path = self.dir.join(file_name(name, index));
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
        allocate(&file, HEADER_BYTES + records * RECORD_BYTES);
        file.write_all_at(&self.header(name, index).encode(records as u64), 0)?;
        Ok(file)
    }
}

pub(super) fn life() -> Option<&'static Life> {
    LIFE.get()
}

#[inline]
pub(super) fn is_started() -> bool {
    LIFE.get().is_some()
}

/// When the life before this one was last seen alive by its recorder, milliseconds since 1970: of a
/// broker that had work a moment before its end, of one that had none up to about a second.
pub fn last_life_ms() -> Option<i64> {
    LIFE.get().and_then(|life| life.before_ms)
}

fn newest_ms(dir: &Path) -> Option<i64> {
    let written = |entry: io::Result<fs::DirEntry>| entry.ok()?.metadata().ok()?.modified().ok();
    let newest = fs::read_dir(dir).ok()?.filter_map(written).max()?;
    let since = newest.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

/// Starts the recorder of this process; the calling thread gets the ring `main`. Where it cannot
/// be, the broker runs without one, and the log says why. A second broker of the same process has
/// none.
pub fn start(setup: &Setup) {
    if is_started() {
        return;
    }
    if let Err(error) = try_start(setup) {
        metrics().telemetry_dropped_total.at(DropKind::FlightRing).inc();
        let dir = setup.data_dir.join(DIR);
        tracing::warn!(%error, dir = %dir.display(), "no flight recorder in this life");
    }
}

fn try_start(setup: &Setup) -> io::Result<()> {
    let dir = setup.data_dir.join(DIR);
    fs::create_dir_all(&dir)?;
    set_aside(&dir)?;
    let before_ms = newest_ms(&dir.join(PREVIOUS));
    let wall_us = clock::wall_us();
    let header = Header {
        broker: setup.broker,
        life: wall_us,
        pid: std::process::id(),
        name: String::new(),
        index: 0,
        mono_ns: clock::mono_ns(),
        boot_ns: clock::boot_ns(),
        wall_us,
    };
    let (boot_ns, pid) = (header.boot_ns, header.pid);
    let dumps = dir.clone();
    if LIFE.set(Life { dir, header, before_ms }).is_err() {
        return Ok(());
    }
    let Some(life) = LIFE.get() else { return Ok(()) };
    for index in 0..setup.connection_threads {
        open(CONNECTIONS, index);
    }
    open(OTHER, 0);
    claim("main", 0);
    kinds::start(wall_us, boot_ns, pid, setup.broker);
    mirror::spawn(life)?;
    abort::install();
    dumps::spawn(dumps)
}

/// The rings that lie there become those of the life before; older ones go. Interrupted, it is
/// gone on with by the next start.
pub(super) fn set_aside(dir: &Path) -> io::Result<()> {
    let making = dir.join(MAKING);
    fs::create_dir_all(&making)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && let Some(name) = path.file_name()
        {
            fs::rename(&path, making.join(name))?;
        }
    }
    if fs::read_dir(&making)?.next().is_none() {
        return fs::remove_dir(&making);
    }
    let previous = dir.join(PREVIOUS);
    match fs::remove_dir_all(&previous) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::rename(&making, &previous),
    }
}

/// `<loop>-<index>.ring`.
pub(super) fn file_name(name: &str, index: u16) -> String {
    format!("{name}-{index}.{EXTENSION}")
}

/// Takes the room now, while there is some: a full disk is a time to have a recorder. Where the
/// file system cannot, writes may fail later.
#[allow(unsafe_code)]
fn allocate(file: &File, bytes: usize) {
    // SAFETY: the descriptor is open for the duration of the call, which touches no memory.
    let _ = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as libc::off_t) };
}
