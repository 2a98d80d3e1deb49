//! Telemetry turned off, for the one measurement that says what it costs (`cargo xtask bench
//! --telemetry`): the same build with and without, all of it or a part.
//!
//! Only a build with the feature `silence` has the switch; in every other one [`is_on`] is a
//! constant and costs nothing. It is turned while a broker runs: what is compared is then the same
//! processes, files and connections, seconds apart. Invariant: what a broker *does* never depends
//! on it. What was under way when it was turned is told wrongly; nobody looks.

/// What can be silent by itself; its number is its bit in [`set`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Counters, gauges and histograms.
    Metrics,
    /// Who holds which lock since when, and in which order locks are taken.
    Locks,
    /// What the flight recorder's rings are told.
    Flight,
    /// That the rings are brought to files.
    Mirror,
    /// What loops say of where they are, and their marks for traces.
    Loops,
    /// Requests in flight, their waterfall and whether they are kept.
    Requests,
    Watchdog,
    /// The time, for all the others: they have none while it is silent.
    Clock,
}

/// This part is to do what it is there for.
#[cfg(not(feature = "silence"))]
#[inline(always)]
pub(crate) const fn is_on(_: Part) -> bool {
    true
}

#[cfg(feature = "silence")]
static SILENT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// This part is to do what it is there for.
#[cfg(feature = "silence")]
#[inline(always)]
pub(crate) fn is_on(part: Part) -> bool {
    SILENT.load(std::sync::atomic::Ordering::Relaxed) >> part as u32 & 1 == 0
}

/// Silences the parts whose bits are set, and no others.
#[cfg(feature = "silence")]
pub fn set(parts: u64) {
    SILENT.store(parts, std::sync::atomic::Ordering::Relaxed);
}
