//! Where the time of requests goes, by how long they took: for every bucket of whole durations,
//! how many requests fell into it and what their stages took together. The waterfall at a
//! quantile is the mean of its bucket: of all requests, none sampled, and it adds up.
//!
//! Invariants: a thread writes only its own share, with plain stores; reading takes no lock that
//! is held for more than a push or a sum.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::request::Way;
use crate::flight::ring::zeroed;
use crate::label::Label;
use crate::labels::{FetchStage, ProduceStage};
use crate::silence;
use crate::stamps::{Stages, Stamps};

/// Durations from 16 us to 34 s in steps of a quarter of their power of two.
const LOWEST_BITS: u32 = 14;
const STEPS: usize = 4;
const BUCKETS: usize = 84;
/// The count, then a sum per stage.
const ROW: usize = 1 + if ProduceStage::ALL.len() > FetchStage::ALL.len() {
    ProduceStage::ALL.len()
} else {
    FetchStage::ALL.len()
};
const TABLE: usize = BUCKETS * ROW;
/// Produce, then fetch.
const SHARE: usize = 2 * TABLE;

#[inline]
fn bucket(ns: u64) -> usize {
    if ns < 1 << LOWEST_BITS {
        return 0;
    }
    let power = u64::BITS - 1 - ns.leading_zeros();
    let step = (ns >> (power - 2)) as usize & (STEPS - 1);
    let at = (power - LOWEST_BITS) as usize * STEPS + step + 1;
    at.min(BUCKETS - 1)
}

type Share = Arc<[AtomicU64]>;

static SHARES: Mutex<Vec<Share>> = Mutex::new(Vec::new());

fn shares() -> MutexGuard<'static, Vec<Share>> {
    SHARES.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static OWN: Share = {
        let own: Share = zeroed(SHARE).into();
        shares().push(own.clone());
        own
    };
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// A request is over.
#[inline]
pub fn record(way: &Way) {
    if !silence::is_on(silence::Part::Requests) {
        return;
    }
    OWN.with(|own| match way {
        Way::Produce(stamps) => add(&own[..TABLE], stamps, way.busy_ns()),
        Way::Fetch(stamps) => add(&own[TABLE..], stamps, way.busy_ns()),
    });
}

#[inline]
fn add<S: Stages>(table: &[AtomicU64], stamps: &Stamps<S>, whole_ns: u64) {
    let row = &table[bucket(whole_ns) * ROW..][..ROW];
    // One writer: a load and a store are enough.
    let plus =
        |cell: &AtomicU64, n: u64| cell.store(cell.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    plus(&row[0], 1);
    for (stage, ns) in stamps.stages() {
        plus(&row[1 + stage.index()], ns);
    }
}

/// What all threads have recorded so far.
#[derive(Clone)]
pub(super) struct Totals(Vec<u64>);

impl Totals {
    pub fn now() -> Totals {
        let mut sums = vec![0; SHARE];
        for share in shares().iter() {
            for (sum, cell) in sums.iter_mut().zip(share.iter()) {
                *sum += cell.load(Ordering::Relaxed);
            }
        }
        Totals(sums)
    }

    /// What came since `before`.
    pub fn since(mut self, before: &Totals) -> Totals {
        for (sum, earlier) in self.0.iter_mut().zip(&before.0) {
            *sum = sum.saturating_sub(*earlier);
        }
        self
    }

    pub fn produce(&self) -> Waterfall {
        Waterfall::of::<ProduceStage>(&self.0[..TABLE])
    }

    pub fn fetch(&self) -> Waterfall {
        Waterfall::of::<FetchStage>(&self.0[TABLE..])
    }
}

/// Where time went, at the median and at the slow end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Waterfall {
    /// Requests of the window.
    pub count: u64,
    pub p50: Option<Fall>,
    pub p99: Option<Fall>,
}

/// The mean request of one bucket.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fall {
    pub ms: f64,
    /// Requests it is the mean of.
    pub of: u64,
    pub stages: Vec<StageMs>,
}

/// One stage and what it took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageMs {
    pub stage: &'static str,
    pub ms: f64,
}

/// Nanoseconds as milliseconds with three digits.
pub(super) fn ms(ns: u64) -> f64 {
    (ns as f64 / 1e3).round() / 1e3
}

impl Waterfall {
    fn of<S: Label>(table: &[u64]) -> Waterfall {
        let rows = || table.chunks(ROW).take(BUCKETS);
        let count: u64 = rows().map(|row| row[0]).sum();
        let at = |hundredth: u64| {
            let rank = (count * hundredth).div_ceil(100).max(1);
            let mut below = 0;
            let row = rows().find(|row| {
                below += row[0];
                below >= rank
            })?;
            Some(Fall::of::<S>(row))
        };
        Waterfall { count, p50: at(50), p99: at(99) }
    }
}

impl Fall {
    fn of<S: Label>(row: &[u64]) -> Fall {
        let count = row[0].max(1);
        let stages = S::ALL.iter().zip(&row[1..]);
        let stages: Vec<(&S, u64)> = stages.map(|(stage, sum)| (stage, sum / count)).collect();
        Fall {
            ms: ms(stages.iter().map(|(_, ns)| ns).sum()),
            of: row[0],
            stages: stages
                .into_iter()
                .map(|(stage, ns)| StageMs { stage: stage.as_str(), ms: ms(ns) })
                .collect(),
        }
    }
}

/// True for one of so many requests, without a pattern a client could share; 0: never.
#[inline]
pub(super) fn is_drawn(one_in: u64) -> bool {
    if one_in == 0 {
        return false;
    }
    DRAWN.with(|state| {
        let mut x = state.get();
        if x == 0 {
            x = u64::from(crate::clock::thread_id()) << 32 | crate::clock::mono_ns() | 1;
        }
        // Xorshift (Marsaglia 2003): no secret, only no rhythm.
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x % one_in == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_rise_and_are_a_quarter_wide() {
        let mut last = (0, 0);
        for shift in 0..40 {
            for quarter in 4..8u64 {
                let ns = (quarter << shift) >> 2;
                let at = bucket(ns);
                assert!(at >= last.1, "{ns}");
                last = (ns, at);
            }
        }
        assert_eq!(bucket(0), 0);
        assert_ne!(bucket(1_000_000), bucket(1_300_000));
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_slow_ones_have_a_waterfall_of_their_own_that_adds_up() {
        let request = |fsync_ns: u64| {
            let mut stamps = Stamps::<ProduceStage>::new(1_000);
            stamps.mark(ProduceStage::Parse, 101_000);
            stamps.mark(ProduceStage::Fsync, 101_000 + fsync_ns);
            stamps.mark(ProduceStage::Ack, 201_000 + fsync_ns);
            Way::Produce(stamps)
        };
        let before = Totals::now();
        std::thread::spawn(move || {
            (0..980).for_each(|_| record(&request(1_000_000)));
            (0..20).for_each(|_| record(&request(800_000_000)));
        })
        .join()
        .unwrap();
        let fall = Totals::now().since(&before).produce();
        let (p50, p99) = (fall.p50.unwrap(), fall.p99.unwrap());
        assert!(fall.count >= 1_000, "other tests may record too: {}", fall.count);
        assert!((p50.ms - 1.2).abs() < 0.01, "{p50:?}");
        assert!((p99.ms - 800.2).abs() < 0.01 && p99.of == 20, "{p99:?}");
        let sum: f64 = p99.stages.iter().map(|stage| stage.ms).sum();
        assert!((sum - p99.ms).abs() < 0.01);
        let fsync = p99.stages.iter().find(|stage| stage.stage == "fsync").unwrap();
        assert_eq!(fsync.ms, 800.0);
    }

    #[test]
    fn nothing_recorded_has_no_waterfall() {
        let nothing = Totals(vec![0; SHARE]).fetch();
        assert_eq!(nothing, Waterfall { count: 0, p50: None, p99: None });
    }

    #[test]
    fn one_in_so_many_is_drawn_about_that_often() {
        assert!(!is_drawn(0));
        assert!((0..100).all(|_| is_drawn(1)));
        let drawn = (0..100_000).filter(|_| is_drawn(100)).count();
        assert!((600..1_500).contains(&drawn), "{drawn}");
    }
}
