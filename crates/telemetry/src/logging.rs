//! The log: one structured line per thing an operator should know, on stderr.
//!
//! Invariants: writing a line never blocks a loop (a queue of bounded length and a writer thread
//! of its own stand between; a full queue drops and counts); lines of one kind are limited and
//! the suppressed ones counted; nothing is logged per request.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use model::limits;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

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
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(limits::LOG_QUEUE_LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let counter = writer.error_counter();
    let layer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => layer.json().flatten_event(true).try_init(),
    };
    started.ok()?;
    let _ = DROPPED.set(counter);
    Some(LogGuard { _writer: guard })
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
    fn lines_are_counted_by_kind() {
        let before = metrics().log_lines_total.at(LogEvent::ConfigWeak).get();
        crate::log_limited!(info, LogEvent::ConfigWeak, option = "none", "for this test");
        assert_eq!(metrics().log_lines_total.at(LogEvent::ConfigWeak).get(), before + 1);
    }
}
