//! Broker processes: starting one, watching it until it ends, and reading its last words.
//!
//! Invariants: a child never outlives this process (it asks the kernel for SIGKILL when the
//! thread that started it dies, which is our main thread); it has a process group of its own,
//! so that Ctrl-C reaches us alone and the drain is ours to order; its stderr is a file, so
//! that no slow reader can ever block a broker.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use model::limits;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::layout::Place;
use super::supervisor::{Event, Exit};

/// One to drain and one to kill is all a process is ever sent.
const SIGNALS_MAX: usize = 2;

/// A running broker. Dropping it kills the process.
pub struct Process {
    pub pid: u32,
    /// Where this life's words begin in the log.
    pub log_from: u64,
    signals: mpsc::Sender<Signal>,
}

impl Process {
    /// Starts a broker; how it ended is sent to `events` once.
    pub fn start(place: &Place, events: mpsc::Sender<Event>) -> io::Result<Process> {
        let log = open_log(&place.log_file())?;
        let log_from = log.metadata()?.len();
        // This very program, also after a build has put another one into its place.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(std::env::current_exe()?)
            .arg("server")
            .arg("--config")
            .arg(place.config_file())
            .arg("--parent-pid")
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn()?;
        let pid = child.id().expect("a process that was not waited for has an id");
        let (signals, orders) = mpsc::channel(SIGNALS_MAX);
        telemetry::task::spawn(
            "watch broker",
            watch(place.clone(), child, log_from, orders, events),
        );
        Ok(Process { pid, log_from, signals })
    }

    /// Asks for a drain. A process that is gone already needs none.
    pub fn terminate(&self) {
        let _ = self.signals.try_send(Signal::TERM);
    }

    pub fn kill(&self) {
        let _ = self.signals.try_send(Signal::KILL);
    }
}

/// Waits for the end of a process. Signals pass through here, where the process is known not
/// to have been waited for: its id cannot have become another's.
async fn watch(
    place: Place,
    mut child: Child,
    log_from: u64,
    mut orders: mpsc::Receiver<Signal>,
    events: mpsc::Sender<Event>,
) {
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            Some(signal) = orders.recv() => {
                let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
                if let Some(pid) = pid {
                    // It may have ended this moment; wait() tells.
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        }
    };
    let lines = tail(&place.log_file(), log_from);
    let exit = status.map_or(Exit::Code(-1), exit_of);
    // The receiver is gone only when the run is over.
    let _ = events.send(Event::Exited { id: place.id, exit, last_line: last_words(&lines) }).await;
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(-1),
    }
}

/// The log of all lives of a broker. Above its bound the old one is set aside, once.
fn open_log(path: &Path) -> io::Result<File> {
    let size = fs::metadata(path).map(|found| found.len()).unwrap_or(0);
    if size > limits::DEV_LOG_BYTES_MAX {
        fs::rename(path, path.with_extension("old"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// The last lines of a log, none older than `from`. Unreadable counts as silent.
pub fn tail(path: &Path, from: u64) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        let start = len.saturating_sub(limits::DEV_LOG_TAIL_BYTES).max(from);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(limits::DEV_LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(printable).filter(|line| !line.trim().is_empty()).collect()
}

/// Control characters must not reach the terminal.
fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).collect()
}

/// The last line that says something: a panic's place and message rather than its backtrace.
pub fn last_words(lines: &[String]) -> Option<String> {
    let last = lines.iter().rposition(|line| !is_noise(line))?;
    if let Some(place) = last.checked_sub(1).map(|before| &lines[before])
        && let Some((_, place)) = place.split_once("panicked at ")
    {
        return Some(format!("panicked at {} {}", place.trim(), lines[last]));
    }
    Some(without_time(&lines[last]))
}

/// The last error or warning.
pub fn last_trouble(lines: &[String]) -> Option<String> {
    let troubled = |line: &&String| {
        let mut words = line.split_whitespace().take(3);
        words.any(|word| word == "ERROR" || word == "WARN") || line.contains("panicked at ")
    };
    lines.iter().rfind(troubled).map(|line| without_time(line))
}

/// Backtraces and the advice to ask for one.
fn is_noise(line: &str) -> bool {
    let line = line.trim_start();
    let frame = line.split_once(": ").is_some_and(|(number, _)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    frame || line.starts_with("note: ") || line == "stack backtrace:" || line.starts_with("at /")
}

/// A log line without its leading time stamp.
fn without_time(line: &str) -> String {
    let line = line.trim();
    match line.split_once(char::is_whitespace) {
        Some((time, rest)) if time.ends_with('Z') && time.contains('T') => rest.trim().to_owned(),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn last_words_are_the_line_that_explains() {
        let plain = lines("2025-01-01T00:00:00Z  INFO up\n2025-01-01T00:00:01Z ERROR disk gone");
        assert_eq!(last_words(&plain).unwrap(), "ERROR disk gone");
        let panic = lines(
            "thread 'shard-0' (17) panicked at crates/node/src/x.rs:7:9:\nstamp mismatch\n\
             stack backtrace:\n   0: rust_begin_unwind\n             at /rustc/x.rs\n\
             note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
        );
        assert_eq!(
            last_words(&panic).unwrap(),
            "panicked at crates/node/src/x.rs:7:9: stamp mismatch"
        );
        assert_eq!(last_words(&[]), None);
    }

    #[test]
    fn trouble_is_the_last_error_or_warning() {
        let log = lines("T0Z  WARN a: first\nT1Z  INFO b: fine, no ERROR here, all WARN free");
        assert_eq!(last_trouble(&log).unwrap(), "WARN a: first");
        assert_eq!(last_trouble(&lines("T0Z INFO x")), None);
    }

    #[test]
    fn the_tail_is_bounded_and_begins_with_this_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "old life\nnew \u{1b}[31mlife\n").unwrap();
        assert_eq!(tail(&path, 9), ["new [31mlife"]);
        fs::write(&path, "x\n".repeat(1 << 20)).unwrap();
        let bound = limits::DEV_LOG_TAIL_BYTES as usize;
        assert!(tail(&path, 0).len() <= bound);
        assert_eq!(tail(&dir.path().join("none"), 0), Vec::<String>::new());
    }
}
