//! The only place in Glasslog that reads a clock; everybody else is told the time.
//!
//! Two scales, never mixed: [`now`] is CLOCK_BOOTTIME plus wall time and decides (leases,
//! elections, retention); [`mono_ns`] is for durations that are only *shown*. The latter reads
//! the processor's time stamp counter where the kernel itself trusts it (clock source `tsc`),
//! since 13 instead of 35 ns decide whether a lock may be timed at all.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use model::Now;

use crate::silence;

/// Both clocks, read once at the start of a turn.
pub fn now() -> Now {
    Now { boot_ns: boot_ns(), wall_ms: wall_ms() }
}

/// CLOCK_BOOTTIME in nanoseconds: never steps back, runs on through a suspend.
pub fn boot_ns() -> u64 {
    read(libc::CLOCK_BOOTTIME)
}

/// Wall clock, milliseconds since the Unix epoch.
pub fn wall_ms() -> i64 {
    (read(libc::CLOCK_REALTIME) / 1_000_000) as i64
}

/// Wall clock, microseconds since the Unix epoch; for what is only shown.
pub(crate) fn wall_us() -> u64 {
    read(libc::CLOCK_REALTIME) / 1_000
}

/// Wall clock, nanoseconds since the Unix epoch; for what is only shown.
pub(crate) fn wall_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Nanoseconds on a scale of their own: subtract two of them, do nothing else.
#[inline]
pub fn mono_ns() -> u64 {
    if !silence::is_on(silence::Part::Clock) {
        // Not 0, which stands for "never".
        return 1;
    }
    ticks_to_ns(ticks())
}

/// CPU time this thread has used, nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time this process has used, nanoseconds.
pub fn process_cpu_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Kernel id of this thread, as in `/proc/self/task`.
#[inline]
pub fn thread_id() -> u32 {
    thread_local! {
        static ID: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }
    ID.with(|id| {
        if id.get() == 0 {
            // SAFETY: gettid takes nothing and cannot fail.
            #[allow(unsafe_code)]
            id.set(unsafe { libc::gettid() } as u32);
        }
        id.get()
    })
}

#[allow(unsafe_code)]
fn read(clock: libc::clockid_t) -> u64 {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a valid timespec for the call to fill.
    let result = unsafe { libc::clock_gettime(clock, &mut at) };
    assert_eq!(result, 0, "this kernel lacks clock {clock}");
    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
}

/// Nanoseconds per tick, 32 binary digits after the point. Measured once, at the first reading,
/// so durations never run backwards.
static FACTOR: AtomicU64 = AtomicU64::new(UNMEASURED);
const UNMEASURED: u64 = u64::MAX;
/// Ticks are nanoseconds of CLOCK_MONOTONIC.
const NO_COUNTER: u64 = 0;
const CALIBRATION_NS: u64 = 2_000_000;

#[inline]
fn factor() -> u64 {
    match FACTOR.load(Ordering::Relaxed) {
        UNMEASURED => measure_factor(),
        factor => factor,
    }
}

#[cold]
fn measure_factor() -> u64 {
    static ONCE: LazyLock<u64> = LazyLock::new(|| {
        if !tsc_is_trusted() {
            return NO_COUNTER;
        }
        let (start_ns, start) = (read(libc::CLOCK_MONOTONIC_RAW), raw_ticks());
        loop {
            let (ns, ticks) = (read(libc::CLOCK_MONOTONIC_RAW) - start_ns, raw_ticks() - start);
            if ns >= CALIBRATION_NS {
                return ((u128::from(ns) << 32) / u128::from(ticks)) as u64;
            }
            std::hint::spin_loop();
        }
    });
    FACTOR.store(*ONCE, Ordering::Relaxed);
    *ONCE
}

/// The kernel has checked that the counters run alike on all processors and never stop.
fn tsc_is_trusted() -> bool {
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    cfg!(target_arch = "x86_64")
        && std::fs::read_to_string(source).is_ok_and(|name| name.trim() == "tsc")
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[allow(unsafe_code)]
fn raw_ticks() -> u64 {
    // SAFETY: the instruction exists on every x86-64 and touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn raw_ticks() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Raw ticks: the cheapest reading, for [`ticks_to_ns`].
#[inline]
pub(crate) fn ticks() -> u64 {
    if factor() == NO_COUNTER { read(libc::CLOCK_MONOTONIC) } else { raw_ticks() }
}

/// Ticks, or a difference of ticks, in nanoseconds.
#[inline]
pub(crate) fn ticks_to_ns(ticks: u64) -> u64 {
    match factor() {
        NO_COUNTER => ticks,
        factor => ((u128::from(ticks) * u128::from(factor)) >> 32) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mono_runs_as_fast_as_the_kernels_clock() {
        let (mono, boot) = (mono_ns(), boot_ns());
        std::thread::sleep(std::time::Duration::from_millis(50));
        let (mono, boot) = (mono_ns() - mono, boot_ns() - boot);
        assert!(mono.abs_diff(boot) < boot / 50, "mono {mono} ns, boot {boot} ns");
    }

    #[test]
    fn now_reads_both_clocks() {
        let first = now();
        let second = now();
        assert!(second.boot_ns >= first.boot_ns && first.wall_ms > 1_600_000_000_000);
    }
}
