//! A stall as an engineer needs it: which loop, since when, and *because of whom*.
//!
//! The watchdog finds that a loop stays in one phase; [`Explainer`] follows the locks it waits for
//! to the thread that waits for nothing, looks at that thread in `/proc`, and names the cause.
//! Invariants: atomics and `/proc` only, no broker lock; at most [`limits::STALLS_SHOWN_MAX`]
//! stalls are explained at a time and [`limits::STALLS_KEPT_MAX`] kept; what a stall says is
//! refreshed at every look while it lasts.

pub mod cause;
pub mod graph;
mod record;
pub mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use model::limits;
use prometheus::proto;

pub use record::{Link, Place, StallRecord};

use crate::beat::LoopView;
use crate::lock::{self, Waiting};
use crate::{clock, watchdog::Stall};
use graph::Chain;
use sample::Sample;

/// Explains stalls; one per watchdog.
pub struct Explainer {
    shown: &'static Mutex<Shown>,
    samples: BTreeMap<u32, Sample>,
    /// By the loop's slot and stay.
    active: BTreeMap<(usize, u64), StallRecord>,
    next_id: u64,
}

impl Default for Explainer {
    fn default() -> Explainer {
        Explainer::showing(&SHOWN)
    }
}

impl Explainer {
    fn showing(shown: &'static Mutex<Shown>) -> Explainer {
        Explainer { shown, samples: BTreeMap::new(), active: BTreeMap::new(), next_id: 0 }
    }

    /// Looks at every stall that lasts; `views` are all loops at `now_ns`.
    pub fn look<'a>(
        &mut self,
        now_ns: u64,
        views: &[LoopView],
        stalls: impl Iterator<Item = &'a Stall>,
    ) {
        let stalls: Vec<&Stall> = stalls.take(limits::STALLS_SHOWN_MAX).collect();
        if stalls.is_empty() && self.active.is_empty() {
            return;
        }
        let waiting = lock::waiting(now_ns);
        let mut samples = BTreeMap::new();
        let mut lasting = BTreeMap::new();
        for stall in stalls {
            let key = (stall.view.slot, stall.view.token);
            let known = self.active.remove(&key);
            let (id, began_ms) = match &known {
                Some(known) => (known.id, known.began_ms),
                None => {
                    self.next_id += 1;
                    let before_ms = stall.view.age_ns / 1_000_000;
                    (self.next_id, clock::wall_ms().saturating_sub(before_ms as i64))
                }
            };
            let mut record = self.explain(&stall.view, views, &waiting, &mut samples);
            (record.id, record.began_ms) = (id, began_ms);
            lasting.insert(key, record);
        }
        let ended = std::mem::replace(&mut self.active, lasting);
        self.samples = samples;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.show(self.active.values().cloned().collect(), ended.into_values());
    }

    /// What is said about a stall that lasts.
    pub fn says(&self, stall: &Stall) -> Option<&str> {
        let known = self.active.get(&(stall.view.slot, stall.view.token))?;
        Some(&known.says)
    }

    fn explain(
        &self,
        view: &LoopView,
        views: &[LoopView],
        waiting: &[Waiting],
        samples: &mut BTreeMap<u32, Sample>,
    ) -> StallRecord {
        let chain = match view.thread {
            0 => Chain::default(),
            thread => Chain::from(thread, waiting),
        };
        let root_thread = chain.root().unwrap_or(view.thread);
        let sample = Sample::of(root_thread);
        let doing = sample.since(self.samples.get(&root_thread));
        let root = match chain.edges.is_empty() {
            true => Some(view),
            false => views.iter().find(|other| other.thread == root_thread),
        };
        let cause = cause::classify(&chain, root, doing);
        let record = StallRecord::new(view, &chain, root, cause, root_thread, &sample);
        samples.insert(root_thread, sample);
        record
    }
}

/// What others may see of it.
#[derive(Default)]
struct Shown {
    active: Vec<StallRecord>,
    /// Oldest first.
    ended: Vec<StallRecord>,
}

impl Shown {
    fn show(&mut self, active: Vec<StallRecord>, ended: impl Iterator<Item = StallRecord>) {
        self.active = active;
        let ended_ms = Some(clock::wall_ms());
        self.ended.extend(ended.map(|stall| StallRecord { ended_ms, ..stall }));
        let surplus = self.ended.len().saturating_sub(limits::STALLS_KEPT_MAX);
        self.ended.drain(..surplus);
    }

    /// Stalls that last, then those that ended, newest first.
    fn records(&self) -> Vec<StallRecord> {
        self.active.iter().chain(self.ended.iter().rev()).cloned().collect()
    }
}

/// Held for a copy, never while anything else is waited for.
static SHOWN: Mutex<Shown> = Mutex::new(Shown { active: Vec::new(), ended: Vec::new() });

/// Stalls that last, then those that ended, newest first.
pub fn records() -> Vec<StallRecord> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner).records()
}

/// Name of the series that exist only while something is stalled.
pub const ACTIVE_SERIES: &str = "glasslog_stall_active_seconds";

/// The series of the stalls that last. Their labels name lock classes and places in the code, of
/// which there are finitely many.
pub(crate) fn family(records: Vec<StallRecord>) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(ACTIVE_SERIES.into());
    family.set_help("Age of a stall that lasts, with its cause, who waits where, and who holds what they wait for.".into());
    family.set_field_type(proto::MetricType::GAUGE);
    let lasting = records.into_iter().filter(|stall| stall.ended_ms.is_none());
    family.set_metric(lasting.map(|stall| stall.sample()).collect());
    family
}
