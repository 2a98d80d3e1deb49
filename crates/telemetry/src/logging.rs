//! The log: one structured line per thing an operator should know, on stderr.
//!
//! Invariants: writing a line never blocks a loop (a queue of bounded length and a writer thread
//! of its own stand between; a full queue drops and counts); lines of one kind are limited and
//! the suppressed ones counted; nothing is logged per request; a level that is changed at run time
//! holds until the process ends, and no other room's level changes with it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use model::limits;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::clock;
use crate::labels::{DropKind, LogEvent};
use crate::metrics;

/// How the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, room, text, fields.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Keeps the writer alive; dropping it writes what waits. Hold it until the process ends.
#[must_use = "without its guard the log loses its last lines"]
pub struct LogGuard {
    _writer: WorkerGuard,
}

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Starts logging. `RUST_LOG` decides what is logged, `info` without it. `None`: somebody has
/// already set up a log for this process, which stays.
pub fn init(format: LogFormat) -> Option<LogGuard> {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let understood = EnvFilter::try_new(&asked).map(drop);
    let base = match understood.is_ok() && !asked.is_empty() {
        true => asked.clone(),
        false => "info".to_owned(),
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(limits::LOG_QUEUE_LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let counter = writer.error_counter();
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&base));
    subscribe(format, writer, filter).ok()?;
    let _ = DROPPED.set(counter);
    let _ = LEVELS.set((handle, Mutex::new(Levels { base, rooms: BTreeMap::new() })));
    if let Err(error) = understood {
        tracing::warn!(asked, %error, "RUST_LOG is not understood: logging at info");
    }
    Some(LogGuard { _writer: guard })
}

type Filter = reload::Layer<EnvFilter, Registry>;

#[cfg(not(feature = "console"))]
fn subscribe(format: LogFormat, writer: NonBlocking, filter: Filter) -> Result<(), TryInitError> {
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => {
            registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init()
        }
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    }
}

#[cfg(feature = "console")]
static CONSOLE: OnceLock<std::net::SocketAddr> = OnceLock::new();

/// Lets tokio-console connect there; call it before [`init`].
#[cfg(feature = "console")]
pub fn serve_console(address: Option<std::net::SocketAddr>) {
    if let Some(address) = address {
        CONSOLE.get_or_init(|| address);
    }
}

/// The filter is the log's alone: the console lives on what tokio says at the level `trace`.
#[cfg(feature = "console")]
fn subscribe(format: LogFormat, writer: NonBlocking, filter: Filter) -> Result<(), TryInitError> {
    use tracing_subscriber::Layer;
    let layer = fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let console = CONSOLE
        .get()
        .map(|address| console_subscriber::ConsoleLayer::builder().server_addr(*address).spawn());
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(console).try_init()
}

/// Rooms that write lines. The pure ones say nothing themselves: `node` tells what they did.
pub const ROOMS: [&str; 4] = ["broker", "node", "server", "telemetry"];
/// What lines of the room `server` are filed under: it is the program's own crate.
const PROGRAM: &str = "glasslog";
/// From silent to everything; `trace` is not compiled in.
pub const LEVELS_ALLOWED: [&str; 5] = ["off", "error", "warn", "info", "debug"];

/// What is logged: the filter of the start, and what was changed since.
#[derive(Debug)]
struct Levels {
    base: String,
    rooms: BTreeMap<&'static str, &'static str>,
}

static LEVELS: OnceLock<(reload::Handle<EnvFilter, Registry>, Mutex<Levels>)> = OnceLock::new();

impl Levels {
    /// Directives, those that count last.
    fn filter(&self) -> String {
        let target = |room| if room == "server" { PROGRAM } else { room };
        let rooms = self.rooms.iter().map(|(room, level)| format!(",{}={level}", target(*room)));
        self.base.clone() + &rooms.collect::<String>()
    }

    /// `None` for a room: all of them; for a level: as at the start.
    fn set(&mut self, room: Option<&str>, level: Option<&str>) -> Result<(), String> {
        let level = match level {
            None => None,
            Some(level) => Some(known(&LEVELS_ALLOWED, level, "level")?),
        };
        let rooms = match room {
            None => ROOMS.to_vec(),
            Some(room) => vec![known(&ROOMS, room, "room that writes lines")?],
        };
        for room in rooms {
            match level {
                Some(level) => self.rooms.insert(room, level),
                None => self.rooms.remove(room),
            };
        }
        Ok(())
    }
}

fn known(all: &[&'static str], name: &str, what: &str) -> Result<&'static str, String> {
    let found = all.iter().find(|known| **known == name).copied();
    found.ok_or_else(|| format!("`{name}` is no {what}; there are {}", all.join(", ")))
}

/// The filter in force. `None`: this process has no log of ours.
pub fn filter() -> Option<String> {
    let (_, levels) = LEVELS.get()?;
    Some(levels.lock().unwrap_or_else(PoisonError::into_inner).filter())
}

/// Changes the level of a room, or of all; without a level it is that of the start again. The
/// filter in force from now on, or why it cannot be.
pub fn set_level(room: Option<&str>, level: Option<&str>) -> Result<String, String> {
    let (handle, levels) = LEVELS.get().ok_or("this process has no log of its own")?;
    let mut levels = levels.lock().unwrap_or_else(PoisonError::into_inner);
    levels.set(room, level)?;
    let filter = levels.filter();
    handle.reload(EnvFilter::new(&filter)).map_err(|error| error.to_string())?;
    Ok(filter)
}

/// Lines that found the queue full, since the start.
pub(crate) fn lines_dropped() -> u64 {
    DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64)
}

/// How often one kind of line was written in its window.
struct Limit {
    /// Start of the window, milliseconds on a clock of its own; 0: never.
    window_ms: AtomicU64,
    lines: AtomicU64,
    suppressed: AtomicU64,
}

const KINDS: usize = LogEvent::ALL.len();

static LIMITS: [Limit; KINDS] = [const {
    Limit { window_ms: AtomicU64::new(0), lines: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
}; KINDS];

/// Whether a line of this kind may be written now, with the number suppressed since the last.
/// For [`crate::log_limited!`].
pub fn allow(event: LogEvent) -> Option<u64> {
    let allowed = LIMITS[event.index()].allow(clock::mono_ns() / 1_000_000);
    match allowed {
        Some(_) => metrics().log_lines_total.at(event).inc(),
        None => metrics().telemetry_dropped_total.at(DropKind::LogLimited).inc(),
    }
    allowed
}

impl Limit {
    fn allow(&self, now_ms: u64) -> Option<u64> {
        let start_ms = self.window_ms.load(Ordering::Relaxed);
        let renew = start_ms == 0 || now_ms >= start_ms + limits::LOG_WINDOW_MS;
        let order = Ordering::Relaxed;
        if renew && self.window_ms.compare_exchange(start_ms, now_ms.max(1), order, order).is_ok() {
            self.lines.store(0, order);
        }
        if self.lines.fetch_add(1, order) < limits::LOG_BURST_MAX {
            return Some(self.suppressed.swap(0, order));
        }
        self.suppressed.fetch_add(1, order);
        None
    }
}

/// Writes a line of a kind unless too many of that kind came before it in the window:
/// `log_limited!(warn, LogEvent::PeerRefused, %peer, why, "refused a peer")`. `event` and, where
/// lines are missing, `suppressed` are added to the fields.
#[macro_export]
macro_rules! log_limited {
    ($level:ident, $event:expr, $($rest:tt)+) => {{
        let event: $crate::labels::LogEvent = $event;
        match $crate::logging::allow(event) {
            Some(0) => $crate::tracing::$level!(event = event.as_str(), $($rest)+),
            Some(suppressed) => {
                $crate::tracing::$level!(event = event.as_str(), suppressed, $($rest)+)
            }
            None => {}
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_limited_and_the_suppressed_are_told_once() {
        let limit = Limit {
            window_ms: AtomicU64::new(0),
            lines: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        };
        for _ in 0..limits::LOG_BURST_MAX {
            assert_eq!(limit.allow(1_000), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(limit.allow(1_500), None);
        }
        assert_eq!(limit.allow(1_000 + limits::LOG_WINDOW_MS), Some(7));
        assert_eq!(limit.allow(1_001 + limits::LOG_WINDOW_MS), Some(0));
    }

    #[test]
    fn levels_are_changed_room_by_room_and_taken_back() {
        let mut levels = Levels { base: "warn,node=info".into(), rooms: BTreeMap::new() };
        levels.set(Some("node"), Some("debug")).expect("a room and a level");
        assert_eq!(levels.filter(), "warn,node=info,node=debug");
        levels.set(None, Some("error")).expect("all rooms");
        let all = "warn,node=info,broker=error,node=error,glasslog=error,telemetry=error";
        assert_eq!(levels.filter(), all);
        assert!(EnvFilter::try_new(all).is_ok());
        levels.set(None, None).expect("as before");
        assert_eq!(levels.filter(), "warn,node=info");
        let refused = levels.set(Some("consensus"), Some("debug")).expect_err("it says nothing");
        assert!(refused.contains("there are broker, node, server, telemetry"), "{refused}");
        let refused = levels.set(Some("node"), Some("loud")).expect_err("no level");
        assert!(refused.contains("there are off, error, warn, info, debug"), "{refused}");
    }

    #[test]
    fn lines_are_counted_by_kind() {
        let before = metrics().log_lines_total.at(LogEvent::ConfigWeak).get();
        crate::log_limited!(info, LogEvent::ConfigWeak, option = "none", "for this test");
        assert_eq!(metrics().log_lines_total.at(LogEvent::ConfigWeak).get(), before + 1);
    }
}
