//! One explained stall, as `/debug/stalls` and the series show it.

use std::fmt::Write;

use prometheus::proto;
use serde::Serialize;

use super::graph::{Chain, Edge};
use super::sample::Sample;
use crate::beat::LoopView;
use crate::labels::{LockClass, StallCause};
use crate::watchdog::thread_name;

/// Where a loop is.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// `shard/0`, `journal/0`, ...
    #[serde(rename = "loop")]
    pub name: String,
    pub phase: &'static str,
    pub input: &'static str,
    pub age_ms: u64,
    pub group: Option<u64>,
    /// The disk operation in flight: its name, bytes and age in milliseconds.
    pub io: Option<(&'static str, u64, u64)>,
}

/// One edge of the wait-for graph.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    pub waiter: String,
    pub lock: &'static str,
    pub waited_ms: u64,
    pub waits_at: Option<String>,
    pub holder: Option<String>,
    pub mode: Option<&'static str>,
    pub taken_at: Option<String>,
    pub held_ms: Option<u64>,
}

/// A stall, its cause and its evidence.
#[derive(Clone, Debug, Serialize)]
pub struct StallRecord {
    pub id: u64,
    /// Milliseconds since 1970.
    pub began_ms: i64,
    /// `None`: it lasts.
    pub ended_ms: Option<i64>,
    pub cause: &'static str,
    pub tier: &'static str,
    pub stalled: Place,
    pub thread: Option<String>,
    pub chain: Vec<Link>,
    /// The loop at the end of the chain, if the last holder runs one.
    pub root: Option<Place>,
    pub root_thread: Option<String>,
    /// proc(5) state of the last thread, and the kernel function it sleeps in.
    pub root_state: String,
    /// One sentence for the page.
    pub says: String,
}

const MS: u64 = 1_000_000;

impl Place {
    fn of(view: &LoopView) -> Place {
        Place {
            name: format!("{}/{}", view.kind, view.index),
            phase: view.phase.as_str(),
            input: view.input.as_str(),
            age_ms: view.age_ns / MS,
            group: view.group.map(|group| group.0),
            io: view.io.map(|io| (io.op.as_str(), io.bytes, io.age_ns / MS)),
        }
    }
}

impl Link {
    fn of(edge: &Edge) -> Link {
        let held = edge.held.as_ref();
        Link {
            waiter: thread_name(edge.waiter.thread),
            lock: edge.waiter.lock.class().map_or("unknown", LockClass::as_str),
            waited_ms: edge.waiter.waited_ns / MS,
            waits_at: edge.waiter.site.map(|site| site.to_string()),
            holder: held.map(|held| thread_name(held.thread)),
            mode: held.map(|held| held.mode.as_str()),
            taken_at: held.and_then(|held| held.site).map(|site| site.to_string()),
            held_ms: held.map(|held| held.held_ns / MS),
        }
    }
}

impl StallRecord {
    pub(super) fn new(
        view: &LoopView,
        chain: &Chain,
        root: Option<&LoopView>,
        cause: StallCause,
        root_thread: u32,
        sample: &Sample,
    ) -> StallRecord {
        let named = |thread: u32| (thread != 0).then(|| thread_name(thread));
        let mut record = StallRecord {
            id: 0,
            began_ms: 0,
            ended_ms: None,
            cause: cause.as_str(),
            tier: view.kind.tier().as_str(),
            stalled: Place::of(view),
            thread: named(view.thread),
            chain: chain.edges.iter().map(Link::of).collect(),
            root: root.map(Place::of),
            root_thread: named(root_thread),
            root_state: format!("{} {}", sample.state, sample.wchan).trim().to_owned(),
            says: String::new(),
        };
        record.says = record.sentence();
        record
    }

    fn sentence(&self) -> String {
        let Place { name, phase, age_ms, group, .. } = &self.stalled;
        let mut text = format!("{}: {name} in {phase} for {}", self.cause, seconds(*age_ms));
        if let Some(group) = group {
            let _ = write!(text, ", group {group}");
        }
        for link in &self.chain {
            let _ = write!(text, "; {} waits for {}", link.waiter, link.lock);
            if let Some(mode) = link.mode {
                let _ = write!(text, "[{mode}]");
            }
            if let Some(site) = &link.waits_at {
                let _ = write!(text, " at {site}");
            }
            if let Some(holder) = &link.holder {
                let _ = write!(text, "; it is held by {holder}");
            }
            if let Some(site) = &link.taken_at {
                let _ = write!(text, ", taken at {site}");
            }
            if let Some(held_ms) = link.held_ms {
                let _ = write!(text, ", for {}", seconds(held_ms));
            }
        }
        if let Some(Place { name, phase, io, .. }) = &self.root {
            if !self.chain.is_empty() {
                let _ = write!(text, "; {name} is in {phase}");
            }
            if let Some((op, bytes, io_ms)) = io {
                let _ = write!(text, "; {op} of {bytes} bytes in flight for {}", seconds(*io_ms));
            }
        }
        text
    }

    /// Its series: labels from closed sets and places in the code.
    pub(super) fn sample(&self) -> proto::Metric {
        let first = self.chain.first();
        // In a circle the last one waits for the first, which would be told as its own holder.
        let is_circle = self.cause == StallCause::Deadlock.as_str();
        let last = if is_circle { first } else { self.chain.last() };
        let resource = match (&self.root, first) {
            (_, Some(link)) => link.lock,
            (Some(Place { io: Some((op, ..)), .. }), None) => op,
            _ => "",
        };
        let site = |site: Option<&String>| site.cloned().unwrap_or_default();
        let root = self.root.as_ref().filter(|_| !is_circle);
        let holder = match (root, last) {
            (Some(root), Some(_)) => root.name.clone(),
            (None, Some(link)) => bare(link.holder.as_deref().unwrap_or_default()),
            _ => String::new(),
        };
        let labels = [
            ("loop", self.stalled.name.clone()),
            ("tier", self.tier.into()),
            ("phase", self.stalled.phase.into()),
            ("cause", self.cause.into()),
            ("resource", resource.into()),
            ("mode", first.and_then(|link| link.mode).unwrap_or_default().into()),
            ("waiter_site", site(first.and_then(|link| link.waits_at.as_ref()))),
            ("holder", holder),
            ("holder_site", site(last.and_then(|link| link.taken_at.as_ref()))),
        ];
        let mut gauge = proto::Gauge::default();
        gauge.set_value(self.stalled.age_ms as f64 / 1e3);
        let mut metric = proto::Metric::from_gauge(gauge);
        let pair = |(name, value): (&str, String)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(name.into());
            pair.set_value(value);
            pair
        };
        metric.set_label(labels.into_iter().map(pair).collect());
        metric
    }
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1e3)
}

/// A thread's name without its id, which is another one after every start.
fn bare(name: &str) -> String {
    name.split(" (").next().unwrap_or_default().to_owned()
}
