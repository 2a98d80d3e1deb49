//! Telemetry turned off, for the one measurement that says what it costs (`cargo xtask bench
//! --telemetry`): the same build with and without.
//!
//! Only a build with the feature `silence` has the switch; in every other one [`is_on`] is a
//! constant and costs nothing. It is turned while a broker runs: what is compared is then the same
//! processes, files and connections, seconds apart. Invariant: what a broker *does* never depends
//! on it. What was under way when it was turned is told wrongly; nobody looks.

/// Metrics, stamps, slots, records and the notes of locks are taken.
#[cfg(not(feature = "silence"))]
#[inline(always)]
pub(crate) const fn is_on() -> bool {
    true
}

#[cfg(feature = "silence")]
static SILENT: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Metrics, stamps, slots, records and the notes of locks are taken.
#[cfg(feature = "silence")]
#[inline(always)]
pub(crate) fn is_on() -> bool {
    !SILENT.load(std::sync::atomic::Ordering::Relaxed)
}

/// Takes none of them while it is set.
#[cfg(feature = "silence")]
pub fn set(silent: bool) {
    SILENT.store(silent, std::sync::atomic::Ordering::Relaxed);
}
