//! The rings set aside while a broker lives: after a stall, a panic, an election or SIGUSR1, so
//! that what led to it is still there when somebody looks.
//!
//! Invariants: whoever asks does not wait (a bit, and a thread is woken); a dump appears whole, by
//! a rename; there are at most [`limits::FLIGHT_DUMPS_KEPT`], some seconds apart, and causes that
//! come closer together share one.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use model::limits;

use crate::flight::ring::Header;
use crate::flight::{files, read, rings};
use crate::label_enum;
use crate::labels::DropKind;
use crate::{clock, metrics};

label_enum! {
    /// Why the rings were set aside.
    pub enum DumpReason {
        Stall = "stall",
        Panic = "panic",
        /// This broker won an election, or had a part in one.
        Election = "election",
        /// SIGUSR1.
        Operator = "operator",
    }
}

/// Below the recorder's directory.
pub const DIR: &str = "dumps";
const MAKING: &str = ".making";

static WANTED: AtomicU8 = AtomicU8::new(0);
static DUMPER: OnceLock<Thread> = OnceLock::new();

/// Sets the rings aside soon, if there is a recorder.
pub fn dump(reason: DumpReason) {
    let bit = 1 << reason.index();
    if WANTED.load(Ordering::Relaxed) & bit != 0 {
        return;
    }
    if let Some(dumper) = DUMPER.get() {
        WANTED.fetch_or(bit, Ordering::AcqRel);
        dumper.unpark();
    }
}

pub(super) fn spawn(dir: std::path::PathBuf) -> io::Result<()> {
    let run = move || loop {
        while WANTED.load(Ordering::Acquire) == 0 {
            thread::park();
        }
        thread::sleep(Duration::from_millis(limits::FLIGHT_DUMP_DELAY_MS));
        let wanted = WANTED.swap(0, Ordering::AcqRel);
        let reasons = DumpReason::ALL.iter().filter(|reason| wanted & 1 << reason.index() != 0);
        let names: Vec<&str> = reasons.map(|reason| reason.as_str()).collect();
        let files = current();
        match write(&dir, clock::wall_us(), &names.join("-"), &files) {
            Ok(()) => metrics().flight_dumps_total.inc(),
            Err(error) => {
                metrics().telemetry_dropped_total.at(DropKind::FlightRing).inc();
                tracing::warn!(%error, "the flight recorder's rings could not be set aside");
            }
        }
        let gap = limits::FLIGHT_DUMP_GAP_MS - limits::FLIGHT_DUMP_DELAY_MS;
        thread::sleep(Duration::from_millis(gap));
    };
    let thread = thread::Builder::new().name("flight-dump".into()).spawn(run)?;
    let _ = DUMPER.set(thread.thread().clone());
    Ok(())
}

/// Every ring as it is now: its file's name and bytes, oldest record first.
fn current() -> Vec<(String, Vec<u8>)> {
    let Some(life) = files::life() else { return Vec::new() };
    let whole = |ring: &'static super::Ring| {
        let header: Header = life.header(ring.name, ring.index);
        let head = ring.head();
        let mut bytes = header.encode(limits::FLIGHT_RECORDS as u64);
        ring.copy(head.saturating_sub(limits::FLIGHT_RECORDS as u64) + 1, head, &mut bytes);
        (files::file_name(ring.name, ring.index), bytes)
    };
    rings().filter(|ring| ring.head() > 0).map(whole).collect()
}

/// One more dump below `dir`; the oldest of too many go.
fn write(dir: &Path, wall_us: u64, reason: &str, files: &[(String, Vec<u8>)]) -> io::Result<()> {
    let dumps = dir.join(DIR);
    let making = dumps.join(MAKING);
    match fs::remove_dir_all(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(&making)?;
    let written = files.iter().try_for_each(|(name, bytes)| fs::write(making.join(name), bytes));
    if let Err(error) = written {
        // On a full disk the little that is left is others'.
        let _ = fs::remove_dir_all(&making);
        return Err(error);
    }
    let time = read::file_time(wall_us);
    fs::rename(&making, dumps.join(format!("{time}-{reason}")))?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&dumps)? {
        names.push(entry?.path());
    }
    // Their names begin with the time.
    names.sort();
    let beyond = names.len().saturating_sub(limits::FLIGHT_DUMPS_KEPT);
    names[..beyond].iter().try_for_each(fs::remove_dir_all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::files::set_aside;
    use crate::flight::tests::Scratch;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a directory");
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.expect("an entry").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn dumps_are_bounded_and_the_oldest_goes() {
        let scratch = Scratch::new("dumps");
        let files = [("shard-0.ring".to_owned(), vec![1, 2, 3])];
        let second = |at: usize| 1_700_000_000_000_000 + at as u64 * 1_000_000;
        fs::create_dir_all(scratch.0.join(DIR).join(MAKING)).expect("a dump cut short");
        for at in 0..limits::FLIGHT_DUMPS_KEPT + 3 {
            write(&scratch.0, second(at), "election", &files).expect("a dump");
        }
        let kept = names(&scratch.0.join(DIR));
        assert_eq!(kept.len(), limits::FLIGHT_DUMPS_KEPT, "{kept:?}");
        assert_eq!(kept[0], format!("{}-election", read::file_time(second(3))));
        assert_eq!(names(&scratch.0.join(DIR).join(&kept[0])), ["shard-0.ring"]);
    }

    #[test]
    fn one_generation_of_rings_is_set_aside_also_when_it_was_interrupted() {
        let scratch = Scratch::new("previous");
        let dir = &scratch.0;
        let put = |name: &str, text: &str| fs::write(dir.join(name), text).expect("a file");
        set_aside(dir).expect("nothing there");
        assert!(names(dir).is_empty());
        put("shard-0.ring", "first");
        put("journal-0.ring", "first");
        put("notes.txt", "stays");
        set_aside(dir).expect("a life");
        assert_eq!(names(&dir.join(files::PREVIOUS)), ["journal-0.ring", "shard-0.ring"]);
        // The second life had no journal ring, and the start after it died half-way.
        fs::create_dir_all(dir.join("previous.making")).expect("half-way");
        put("previous.making/shard-0.ring", "second");
        put("main-0.ring", "second");
        set_aside(dir).expect("another");
        assert_eq!(names(&dir.join(files::PREVIOUS)), ["main-0.ring", "shard-0.ring"]);
        assert_eq!(names(dir), ["notes.txt", "previous"]);
        let kept = fs::read_to_string(dir.join("previous/shard-0.ring"));
        assert_eq!(kept.expect("a ring"), "second");
    }
}
