//! Time as an argument: pure code is told the time, it never asks.

/// One reading of both clocks, taken at the seam at the start of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// CLOCK_BOOTTIME in nanoseconds: never steps back, runs on through a suspend.
    pub boot_ns: u64,
    /// Wall clock in milliseconds since the Unix epoch. May step; only for timestamps.
    pub wall_ms: i64,
}

impl Now {
    /// Milliseconds of boot time since `earlier`; 0 when `earlier` lies ahead.
    pub fn ms_since(&self, earlier_boot_ns: u64) -> u64 {
        self.boot_ns.saturating_sub(earlier_boot_ns) / 1_000_000
    }

    /// The same instant moved by `ms` on both clocks.
    pub fn plus_ms(&self, ms: u64) -> Now {
        Now { boot_ns: self.boot_ns + ms * 1_000_000, wall_ms: self.wall_ms + ms as i64 }
    }
}
