//! Counters, gauges and histograms in arrays indexed by label: no hashing, no lock, no float
//! where they are moved. Only the exposition format comes from the `prometheus` crate.
//!
//! Invariants: values are integers in the metric's raw unit (seconds are kept in
//! *nanoseconds*); a [`LocalHistogram`] has one writer, so observing costs two plain stores,
//! and its observations are visible at the next scrape without any flush.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::proto;

use crate::silence;

/// What a metric's numbers mean; the name ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Kept in nanoseconds, exposed in seconds.
    Seconds,
    Bytes,
    /// Things, named by the metric.
    Count,
}

impl Unit {
    /// The unit a metric's name ends in.
    pub fn of_name(name: &str) -> Unit {
        let stem = name.strip_suffix("_total").unwrap_or(name);
        let stem = stem.strip_suffix("_max").or(stem.strip_suffix("_min")).unwrap_or(stem);
        match stem.rsplit('_').next() {
            Some("seconds") => Unit::Seconds,
            Some("bytes") => Unit::Bytes,
            _ => Unit::Count,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Seconds => "seconds",
            Unit::Bytes => "bytes",
            Unit::Count => "count",
        }
    }

    fn expose(self, raw: f64) -> f64 {
        if self == Unit::Seconds { raw / 1e9 } else { raw }
    }
}

/// One label of a metric and its closed set of values.
#[derive(Clone, Copy, Debug)]
pub struct LabelInfo {
    pub name: &'static str,
    /// Values exported now; of an [`crate::label::Open`] label none, it has rows of its own.
    pub values: fn() -> Vec<&'static str>,
    /// Its values are names that clients chose.
    pub open: bool,
}

/// One line of the catalogue.
#[derive(Debug)]
pub struct MetricInfo {
    /// The heading it stands under.
    pub section: &'static str,
    /// With prefix.
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [LabelInfo],
    /// Upper bounds in the raw unit; empty unless a histogram.
    pub buckets: &'static [u64],
    /// Histogram series appear with their first observation. For products of labels of which
    /// most never happen; counters are never sparse, `increase()` would miss their first step.
    pub sparse: bool,
}

impl MetricInfo {
    pub fn unit(&self) -> Unit {
        Unit::of_name(self.name)
    }

    /// It has rows under names that clients chose.
    pub fn is_open(&self) -> bool {
        self.labels.iter().any(|label| label.open)
    }
}

/// A number that only grows. On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// In the raw unit: nanoseconds for a `_seconds_total`.
    #[inline]
    pub fn add(&self, n: u64) {
        if !silence::is_on(silence::Part::Metrics) {
            return;
        }
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// In the raw unit: nanoseconds for a `_seconds`.
    #[inline]
    pub fn set(&self, value: i64) {
        if !silence::is_on(silence::Part::Metrics) {
            return;
        }
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub fn add(&self, n: i64) {
        if !silence::is_on(silence::Part::Metrics) {
            return;
        }
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    #[inline]
    pub fn sub(&self, n: i64) {
        if !silence::is_on(silence::Part::Metrics) {
            return;
        }
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    #[inline]
    pub fn dec(&self) {
        self.sub(1);
    }

    /// Sets it unless it is higher already.
    pub fn raise(&self, value: i64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Buckets and sum of one writer, or of all that share it. The sum and the lower buckets, into which
/// most of what a loop observes falls, are one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Cells {
    sum: AtomicU64,
    /// One per bound, and one for everything above; in place, to save a jump.
    counts: [AtomicU64; BOUNDS_MAX + 1],
}

/// Bounds of one histogram.
const BOUNDS_MAX: usize = 16;

impl Cells {
    fn new() -> Cells {
        Cells { sum: AtomicU64::new(0), counts: [const { AtomicU64::new(0) }; BOUNDS_MAX + 1] }
    }

    fn add_to(&self, counts: &mut [u64], sum: &mut u64) {
        for (total, count) in counts.iter_mut().zip(&self.counts) {
            *total += count.load(Ordering::Relaxed);
        }
        *sum = sum.wrapping_add(self.sum.load(Ordering::Relaxed));
    }
}

/// A distribution. Shared: observing costs two atomic additions; a loop takes a
/// [`LocalHistogram`], or a row of them.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    shared: Cells,
    /// A writer's row, and where in it its share of this histogram is.
    locals: Mutex<Vec<(Row, usize)>>,
}

/// One writer's shares of neighbouring histograms, side by side: what a turn touches should be few
/// cache lines, since others' work has driven them out before the next one.
type Row = Arc<[Cells]>;

/// What a histogram held at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramTotals {
    /// Per bucket, not cumulative; the last one lies above every bound.
    pub counts: Vec<u64>,
    pub count: u64,
    /// In the raw unit.
    pub sum: u64,
}

#[inline]
fn bucket(bounds: &[u64], value: u64) -> usize {
    bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len())
}

impl Histogram {
    /// `bounds`: rising upper bounds, inclusive, in the raw unit.
    pub fn new(bounds: &'static [u64]) -> Histogram {
        assert!(!bounds.is_empty(), "a histogram has buckets");
        assert!(bounds.len() <= BOUNDS_MAX, "more buckets than room");
        assert!(bounds.is_sorted_by(|a, b| a < b), "bucket bounds rise");
        Histogram { bounds, shared: Cells::new(), locals: Mutex::new(Vec::new()) }
    }

    /// One observation in the raw unit: nanoseconds for a `_seconds`.
    #[inline]
    pub fn observe(&self, value: u64) {
        if !silence::is_on(silence::Part::Metrics) {
            return;
        }
        self.shared.counts[bucket(self.bounds, value)].fetch_add(1, Ordering::Relaxed);
        self.shared.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// A writer's own share of this histogram.
    pub fn local(&'static self) -> LocalHistogram {
        LocalHistogram(LocalRow::of(std::slice::from_ref(self)))
    }

    pub fn totals(&self) -> HistogramTotals {
        let mut counts = vec![0; self.bounds.len() + 1];
        let mut sum = 0;
        let locals = self.locals();
        self.shared.add_to(&mut counts, &mut sum);
        for (row, at) in locals.iter() {
            row[*at].add_to(&mut counts, &mut sum);
        }
        drop(locals);
        let count = counts.iter().sum();
        HistogramTotals { counts, count, sum }
    }

    /// Held for a push, a removal or a sum, never while anything else is waited for.
    fn locals(&self) -> MutexGuard<'_, Vec<(Row, usize)>> {
        self.locals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One writer's shares of neighbouring [`Histogram`]s of one metric; may move between threads, but
/// is never shared. What it observed outlives it.
#[derive(Debug)]
pub(crate) struct LocalRow {
    bounds: &'static [u64],
    row: Row,
    targets: &'static [Histogram],
    one_writer: PhantomData<Cell<()>>,
}

impl LocalRow {
    pub(crate) fn of(targets: &'static [Histogram]) -> LocalRow {
        let row: Row = targets.iter().map(|_| Cells::new()).collect();
        for (at, target) in targets.iter().enumerate() {
            target.locals().push((row.clone(), at));
        }
        let bounds = targets.first().map_or(&[][..], |target| target.bounds);
        LocalRow { bounds, row, targets, one_writer: PhantomData }
    }

    #[inline]
    pub(crate) fn observe(&self, at: usize, value: u64) {
        if !silence::is_on(silence::Part::Metrics) {
            return;
        }
        let cells = &self.row[at];
        let count = &cells.counts[bucket(self.bounds, value)];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let sum = &cells.sum;
        sum.store(sum.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
    }
}

impl Drop for LocalRow {
    fn drop(&mut self) {
        for (target, own) in self.targets.iter().zip(self.row.iter()) {
            let mut locals = target.locals();
            locals.retain(|(row, _)| !Arc::ptr_eq(row, &self.row));
            for (shared, own) in target.shared.counts.iter().zip(&own.counts) {
                shared.fetch_add(own.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            target.shared.sum.fetch_add(own.sum.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// One writer's share of a [`Histogram`]; may move between threads, but is never shared.
/// What it observed outlives it.
#[derive(Debug)]
pub struct LocalHistogram(LocalRow);

impl LocalHistogram {
    /// One observation in the raw unit: nanoseconds for a `_seconds`.
    #[inline]
    pub fn observe(&self, value: u64) {
        self.0.observe(0, value);
    }
}

/// Counter, gauge or histogram.
pub trait Instrument: Sized + 'static {
    const KIND: proto::MetricType;
    fn create(info: &MetricInfo) -> Self;
    /// `None`: nothing to show (a sparse histogram without observations).
    fn sample(&self, info: &MetricInfo) -> Option<proto::Metric>;
}

/// What is one number: counter or gauge.
pub trait Numbered: Instrument {
    /// One that stands at `value`, in the raw unit.
    fn of(value: u64) -> Self;
}

impl Numbered for Counter {
    fn of(value: u64) -> Counter {
        Counter(AtomicU64::new(value))
    }
}

impl Numbered for Gauge {
    fn of(value: u64) -> Gauge {
        Gauge(AtomicI64::new(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl Instrument for Counter {
    const KIND: proto::MetricType = proto::MetricType::COUNTER;

    fn create(info: &MetricInfo) -> Counter {
        assert!(!info.sparse, "{}: counters exist from the start", info.name);
        Counter::default()
    }

    fn sample(&self, info: &MetricInfo) -> Option<proto::Metric> {
        let mut counter = proto::Counter::default();
        counter.set_value(info.unit().expose(self.get() as f64));
        let mut metric = proto::Metric::default();
        metric.set_counter(counter);
        Some(metric)
    }
}

impl Instrument for Gauge {
    const KIND: proto::MetricType = proto::MetricType::GAUGE;

    fn create(_: &MetricInfo) -> Gauge {
        Gauge::default()
    }

    fn sample(&self, info: &MetricInfo) -> Option<proto::Metric> {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(info.unit().expose(self.get() as f64));
        Some(proto::Metric::from_gauge(gauge))
    }
}

impl Instrument for Histogram {
    const KIND: proto::MetricType = proto::MetricType::HISTOGRAM;

    fn create(info: &MetricInfo) -> Histogram {
        Histogram::new(info.buckets)
    }

    fn sample(&self, info: &MetricInfo) -> Option<proto::Metric> {
        let totals = self.totals();
        if info.sparse && totals.count == 0 {
            return None;
        }
        let unit = info.unit();
        let mut below = 0;
        let buckets = self.bounds.iter().zip(&totals.counts).map(|(bound, count)| {
            below += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(unit.expose(*bound as f64));
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(totals.count);
        histogram.set_sample_sum(unit.expose(totals.sum as f64));
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        Some(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static BOUNDS: &[u64] = &[10, 100];

    #[test]
    fn local_observations_are_seen_at_once_and_outlive_their_writer() {
        let histogram: &'static Histogram = Box::leak(Box::new(Histogram::new(BOUNDS)));
        histogram.observe(10);
        let local = histogram.local();
        local.observe(11);
        local.observe(1_000);
        let seen = histogram.totals();
        assert_eq!((seen.counts.as_slice(), seen.count, seen.sum), (&[1, 1, 1][..], 3, 1_021));
        drop(local);
        assert_eq!(histogram.totals(), seen);
        assert!(histogram.locals().is_empty());
    }

    #[test]
    fn a_row_keeps_its_histograms_apart_and_each_share_goes_where_it_belongs() {
        let both: &'static [Histogram] =
            Box::leak(Box::new([Histogram::new(BOUNDS), Histogram::new(BOUNDS)]));
        let sums = || [0, 1].map(|at: usize| (both[at].totals().count, both[at].totals().sum));
        let (row, other) = (LocalRow::of(both), LocalRow::of(both));
        row.observe(0, 7);
        row.observe(1, 70);
        other.observe(1, 700);
        assert_eq!(sums(), [(1, 7), (2, 770)]);
        drop(row);
        assert_eq!(sums(), [(1, 7), (2, 770)]);
        assert_eq!(both[0].locals().len(), 1, "the other writer stays");
        drop(other);
        assert_eq!(sums(), [(1, 7), (2, 770)]);
        assert!(both.iter().all(|histogram| histogram.locals().is_empty()));
    }

    #[test]
    fn the_unit_is_what_the_name_ends_in() {
        assert_eq!(Unit::of_name("glasslog_step_seconds"), Unit::Seconds);
        assert_eq!(Unit::of_name("glasslog_telemetry_cpu_seconds_total"), Unit::Seconds);
        assert_eq!(Unit::of_name("glasslog_lease_remaining_seconds_min"), Unit::Seconds);
        assert_eq!(Unit::of_name("glasslog_peer_sent_bytes_total"), Unit::Bytes);
        assert_eq!(Unit::of_name("glasslog_apply_backlog_entries_max"), Unit::Count);
    }
}
