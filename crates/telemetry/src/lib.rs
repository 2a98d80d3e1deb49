//! What Glasslog shows of itself: the catalogue of metrics, probes that speak the language of
//! the room they stand in, stage stamps, timed and ranked locks, slots the watchdog reads, the
//! exporter, the log and the flight recorder.
//!
//! Invariants: observing never blocks and never allocates on a hot path; the exporter and the
//! watchdog take no broker lock, so they answer while every other thread hangs; names and
//! labels exist only in [`catalog`] and [`labels`]; clocks are read only in [`clock`].

pub mod beat;
pub mod catalog;
pub mod clock;
pub mod export;
pub mod family;
pub mod flight;
pub mod inflight;
pub mod label;
pub mod labels;
pub mod lock;
pub mod logging;
pub mod metric;
pub mod openmetrics;
pub mod panics;
pub mod probe;
pub mod reference;
pub mod silence;
pub mod stall;
pub mod stamps;
pub mod task;
pub mod trace;
pub mod watchdog;

/// For [`log_limited!`], so that callers need no dependency of their own.
pub use tracing;

pub use beat::Beat;
pub use catalog::{Metrics, metrics};
pub use export::render;
pub use family::Local;
pub use inflight::InFlight;
pub use label::{Label, Open, Peer};
pub use lock::{Lock, LockGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, set_strict};
pub use metric::{Counter, Gauge, Histogram, LocalHistogram};
pub use reference::catalogue_markdown;
pub use stamps::Stamps;
