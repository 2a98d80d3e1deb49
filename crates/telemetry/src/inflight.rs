//! Requests in flight, by what they wait for: a histogram is silent about what never finishes.
//!
//! Invariants: the table is fixed and its entries are single atomics, so the scrape reads it
//! while every request hangs. Where it is full, requests are served unseen and counted: what
//! fills a table of [`limits::INFLIGHT_TRACKED_MAX`] is itself what hangs.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use model::limits;

use crate::labels::{DropKind, InflightStage};
use crate::{clock, metrics, silence};

const SLOTS: usize = limits::INFLIGHT_TRACKED_MAX;
/// Neighbours tried before a request goes unseen.
const PROBES: usize = 32;
/// Slots between the starting points of two threads.
const STRIDE: usize = 67;

/// `since (1024 ns) << 8 | stage + 1`; 0 is free. On a cache line of its own.
#[repr(align(64))]
struct Slot(AtomicU64);

static TABLE: [Slot; SLOTS] = [const { Slot(AtomicU64::new(0)) }; SLOTS];

fn pack(stage: InflightStage, since_ns: u64) -> u64 {
    (since_ns >> 10) << 8 | (stage as u64 + 1)
}

/// One request, from its first byte to its reply; travels with it, also between threads.
/// Dropping it ends the flight, whatever became of the request.
#[derive(Debug)]
pub struct InFlight {
    slot: Option<u16>,
}

impl InFlight {
    /// `now_ns`: [`clock::mono_ns`].
    pub fn begin(stage: InflightStage, now_ns: u64) -> InFlight {
        thread_local! {
            static NEXT: Cell<usize> = Cell::new(clock::thread_id() as usize * STRIDE);
        }
        if !silence::is_on(silence::Part::Requests) {
            return InFlight { slot: None };
        }
        let word = pack(stage, now_ns);
        let start = NEXT.get();
        for probe in 0..PROBES {
            let position = (start + probe) % SLOTS;
            let cell = &TABLE[position].0;
            if cell.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                NEXT.set(position + 1);
                return InFlight { slot: Some(position as u16) };
            }
        }
        NEXT.set(start + PROBES);
        metrics().telemetry_dropped_total.at(DropKind::InflightSlot).inc();
        InFlight { slot: None }
    }

    /// Waits for this from `now_ns` on.
    #[inline]
    pub fn stage(&self, stage: InflightStage, now_ns: u64) {
        if let Some(slot) = self.slot {
            TABLE[usize::from(slot)].0.store(pack(stage, now_ns), Ordering::Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            TABLE[usize::from(slot)].0.store(0, Ordering::Relaxed);
        }
    }
}

/// Sets `inflight` and `inflight_oldest_seconds`.
pub(crate) fn publish(now_ns: u64) {
    const STAGES: usize = InflightStage::ALL.len();
    let (mut count, mut oldest_ns) = ([0i64; STAGES], [0u64; STAGES]);
    for slot in &TABLE {
        let word = slot.0.load(Ordering::Relaxed);
        let Some(stage) = (word & 0xff).checked_sub(1) else { continue };
        let age_ns = now_ns.saturating_sub((word >> 8) << 10);
        count[stage as usize] += 1;
        oldest_ns[stage as usize] = oldest_ns[stage as usize].max(age_ns);
    }
    for stage in InflightStage::ALL {
        metrics().inflight.at(*stage).set(count[stage.index()]);
        metrics().inflight_oldest_seconds.at(*stage).set(oldest_ns[stage.index()] as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_hangs_has_an_age_and_a_place() {
        let now_ns = clock::mono_ns();
        let request = InFlight::begin(InflightStage::ProduceParse, now_ns);
        request.stage(InflightStage::ProduceFsync, now_ns);
        publish(now_ns + 5_000_000_000);
        let oldest = metrics().inflight_oldest_seconds.at(InflightStage::ProduceFsync);
        assert_eq!(metrics().inflight.at(InflightStage::ProduceFsync).get(), 1);
        assert!(oldest.get() >= 5_000_000_000, "{}", oldest.get());
        drop(request);
        publish(now_ns);
        assert_eq!(metrics().inflight.at(InflightStage::ProduceFsync).get(), 0);
    }
}
