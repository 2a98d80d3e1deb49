//! For each bucket of the request histograms the trace that fell into it last: what leads from a
//! graph to one request.
//!
//! Invariants: only traces that are exported become exemplars; the table is bounded by the
//! histograms' buckets; the lock is taken by the keeper's thread and by scrapes alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::ApiKey;

use super::request::{Api, Request};
use crate::family::AnyFamily;
use crate::label::Label;
use crate::{clock, metrics};

/// One trace at one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    pub trace: [u8; 16],
    /// In the metric's raw unit: nanoseconds.
    pub value: u64,
    pub wall_ms: i64,
}

/// Name of a family, value of its one label, position of the bucket.
type Place = (&'static str, &'static str, usize);

static TABLE: Mutex<BTreeMap<Place, Exemplar>> = Mutex::new(BTreeMap::new());

fn table() -> MutexGuard<'static, BTreeMap<Place, Exemplar>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last trace of a bucket.
pub fn at(family: &str, label: &str, bucket: usize) -> Option<Exemplar> {
    let table = table();
    let mut found =
        table.iter().filter(|((f, l, b), _)| *b == bucket && *f == family && *l == label);
    found.next().map(|(_, exemplar)| *exemplar)
}

/// A kept request stands for the buckets it fell into.
pub(super) fn note(request: &Request, trace: [u8; 16], ended_ns: u64) {
    let age_ms = clock::mono_ns().saturating_sub(ended_ns) / 1_000_000;
    let wall_ms = clock::wall_ms() - age_ms as i64;
    let (api, stages): (_, &dyn AnyFamily) = match request.way.api() {
        Api::Produce => (ApiKey::Produce, &metrics().produce_stage_seconds),
        Api::Fetch => (ApiKey::Fetch, &metrics().fetch_stage_seconds),
    };
    let mut table = table();
    let mut put = |family: &dyn AnyFamily, label: &'static str, value: u64| {
        let info = family.info();
        let above = info.buckets.iter().position(|bound| value <= *bound);
        let bucket = above.unwrap_or(info.buckets.len());
        table.insert((info.name, label, bucket), Exemplar { trace, value, wall_ms });
    };
    put(&metrics().kafka_request_seconds, Label::as_str(api), request.way.whole_ns());
    for (stage, ns) in request.way.stages() {
        put(stages, stage, ns);
    }
}
