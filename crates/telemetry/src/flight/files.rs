//! The rings' files: what was left by the life before is set aside, and one thread mirrors what
//! the loops write.
//!
//! Invariants: only this thread touches the files, so only it waits for a disk that hangs; it
//! sleeps while nobody writes, and whoever writes then wakes it; a record is in its file at most
//! [`limits::FLIGHT_MIRROR_MS`] and one scheduling after it was made; an error loses records of
//! that ring and is counted, nothing else.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use model::limits;

use crate::flight::ring::{HEADER_BYTES, Header, RECORD_BYTES, Ring};
use crate::flight::{CONNECTIONS, OTHER, RINGS, abort, claim, dumps, kinds, open};
use crate::labels::DropKind;
use crate::{clock, metrics};

/// Below a data directory.
pub const DIR: &str = "flight";
/// Below that: the rings of the life before.
pub const PREVIOUS: &str = "previous";
const MAKING: &str = "previous.making";
/// What the name of a ring's file ends with.
pub const EXTENSION: &str = "ring";

const PERIOD: Duration = Duration::from_millis(limits::FLIGHT_MIRROR_MS);
/// A mirror that nobody woke looks all the same.
const REST: Duration = Duration::from_secs(1);
/// After an error a ring's file is left alone for so long.
const RETRY_NS: u64 = 1_000_000_000;

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
}

static LIFE: OnceLock<Life> = OnceLock::new();
static ASLEEP: AtomicBool = AtomicBool::new(false);
static PASSES: AtomicU64 = AtomicU64::new(0);
static MIRROR: OnceLock<Thread> = OnceLock::new();

impl Life {
    pub fn header(&self, ring: &Ring) -> Header {
        Header { name: ring.name.to_owned(), index: ring.index, ..self.header.clone() }
    }
}

pub(super) fn life() -> Option<&'static Life> {
    LIFE.get()
}

#[inline]
pub(super) fn is_started() -> bool {
    LIFE.get().is_some()
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
    let mirror = move || {
        let Some(life) = LIFE.get() else { return };
        mirror(life);
    };
    let dumps = dir.clone();
    if LIFE.set(Life { dir, header }).is_err() {
        return Ok(());
    }
    for index in 0..setup.connection_threads {
        open(CONNECTIONS, index);
    }
    open(OTHER, 0);
    claim("main", 0);
    kinds::start(wall_us, boot_ns, pid, setup.broker);
    let thread = thread::Builder::new().name("flight".into()).spawn(mirror)?;
    let _ = MIRROR.set(thread.thread().clone());
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

/// Something was written: the mirror may not sleep.
#[inline]
pub(super) fn wake() {
    if ASLEEP.load(Ordering::Relaxed) {
        wake_it();
    }
}

#[cold]
fn wake_it() {
    // One of many writers does it.
    if ASLEEP.swap(false, Ordering::AcqRel)
        && let Some(mirror) = MIRROR.get()
    {
        mirror.unpark();
    }
}

/// Waits until what was written so far is in the files, for at most
/// [`limits::FLIGHT_SETTLE_MS`].
pub fn settle() {
    let Some(mirror) = MIRROR.get() else { return };
    // The pass under way may have begun before.
    let wanted = PASSES.load(Ordering::Acquire) + 2;
    for _ in 0..limits::FLIGHT_SETTLE_MS {
        if PASSES.load(Ordering::Acquire) >= wanted {
            return;
        }
        mirror.unpark();
        thread::sleep(Duration::from_millis(1));
    }
}

/// A ring's file, as far as it goes.
struct Mirrored {
    ring: &'static Ring,
    file: Option<File>,
    upto: u64,
    retry_ns: u64,
}

fn mirror(life: &Life) {
    let mut files: Vec<Mirrored> = Vec::new();
    let mut buffer = Vec::new();
    loop {
        let known = files.len();
        // In order: one that is just being made, and those behind it, come with the next pass.
        let fresh = RINGS.iter().skip(known).map_while(OnceLock::get);
        files.extend(fresh.map(|ring| Mirrored { ring, file: None, upto: 0, retry_ns: 0 }));
        let mut moved = false;
        for file in &mut files {
            moved |= file.follow(life, &mut buffer);
        }
        PASSES.fetch_add(1, Ordering::AcqRel);
        if moved {
            thread::sleep(PERIOD);
        } else if !ASLEEP.swap(true, Ordering::AcqRel) {
            // A writer that did not see this yet has stored its record long before this ends.
            thread::park_timeout(PERIOD);
        } else {
            thread::park_timeout(REST);
        }
    }
}

impl Mirrored {
    /// True if there was something new.
    fn follow(&mut self, life: &Life, buffer: &mut Vec<u8>) -> bool {
        let head = self.ring.head();
        if head == self.upto || self.retry_ns > clock::mono_ns() {
            return false;
        }
        if let Err(error) = self.write(life, head, buffer) {
            self.file = None;
            self.retry_ns = clock::mono_ns() + RETRY_NS;
            metrics().telemetry_dropped_total.at(DropKind::FlightRing).inc();
            static SAID: AtomicBool = AtomicBool::new(false);
            if !SAID.swap(true, Ordering::Relaxed) {
                let ring = file_name(self.ring.name, self.ring.index);
                tracing::warn!(%error, ring, "the flight recorder cannot write; said once");
            }
            return false;
        }
        true
    }

    fn write(&mut self, life: &Life, head: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(create(life, self.ring)?);
            self.upto = 0;
        }
        let Some(file) = &self.file else { return Ok(()) };
        let capacity = limits::FLIGHT_RECORDS as u64;
        let mut from = self.upto.max(head.saturating_sub(capacity)) + 1;
        while from <= head {
            // As far as the file goes without turning round.
            let slot = from % capacity;
            let to = head.min(from + (capacity - 1 - slot));
            buffer.clear();
            self.ring.copy(from, to, buffer);
            file.write_all_at(buffer, HEADER_BYTES as u64 + slot * RECORD_BYTES as u64)?;
            from = to + 1;
        }
        self.upto = head;
        Ok(())
    }
}

/// `<loop>-<index>.ring`.
pub(super) fn file_name(name: &str, index: u16) -> String {
    format!("{name}-{index}.{EXTENSION}")
}

fn create(life: &Life, ring: &Ring) -> io::Result<File> {
    let path = life.dir.join(file_name(ring.name, ring.index));
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    allocate(&file, HEADER_BYTES + limits::FLIGHT_RECORDS * RECORD_BYTES);
    file.write_all_at(&life.header(ring).encode(limits::FLIGHT_RECORDS as u64), 0)?;
    Ok(file)
}

/// Takes the room now, while there is some: a full disk is a time to have a recorder. Where the
/// file system cannot, writes may fail later.
#[allow(unsafe_code)]
fn allocate(file: &File, bytes: usize) {
    // SAFETY: the descriptor is open for the duration of the call, which touches no memory.
    let _ = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as libc::off_t) };
}
