//! What is wrong with a cluster, in order of importance, each with its evidence and the next step.
//!
//! Decision: causes come before what follows from them, and what a cause explains is told as its
//! evidence instead of standing beside it: a broker that is gone explains broken links and missing
//! replicas. Rates need two looks; without an earlier one nothing is said about them.
//!
//! Invariant: a verdict says only what an answer, or its absence, shows.

mod brokers;
mod groups;
mod loops;

use serde::Serialize;

use super::{Answer, Page, Survey};

/// How much it matters. The order is that of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Records are refused, at risk, or a broker does not work.
    Critical,
    /// It works, with less left than there should be.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub severity: Severity,
    /// One word for programs.
    pub kind: &'static str,
    pub broker: Option<i32>,
    /// One sentence.
    pub title: String,
    pub evidence: Vec<String>,
    /// What to do now.
    pub next: String,
}

impl Verdict {
    fn new(severity: Severity, kind: &'static str, title: String) -> Verdict {
        Verdict { severity, kind, broker: None, title, evidence: Vec::new(), next: String::new() }
    }

    fn of(mut self, broker: i32) -> Verdict {
        self.broker = Some(broker);
        self
    }

    fn seen(mut self, evidence: impl Into<String>) -> Verdict {
        self.evidence.push(evidence.into());
        self
    }

    fn next(mut self, next: impl Into<String>) -> Verdict {
        self.next = next.into();
        self
    }
}

/// A survey, what is known of it, and the look before it.
struct Case<'a> {
    now: &'a Survey,
    earlier: Option<&'a Survey>,
}

impl Case<'_> {
    /// Brokers that do not answer.
    fn silent(&self) -> impl Iterator<Item = &Answer> {
        self.now.brokers.iter().filter(|answer| !answer.answered)
    }

    /// Its loops move: what it says of its groups and links is of now.
    fn moves(&self, page: &Page) -> bool {
        page.error.is_none() && page.lasting_stalls().next().is_none()
    }

    /// By how much a metric of a broker grew since the earlier look, all its series together.
    /// Nothing is said over a restart.
    fn growth(&self, broker: i32, name: &str) -> Option<f64> {
        let (now, earlier) = (self.now.page_of(broker)?, self.earlier?.page_of(broker)?);
        let grown = now.total(name) - earlier.total(name);
        (now.uptime_ms >= earlier.uptime_ms && grown > 0.0).then_some(grown)
    }
}

/// Everything that is wrong, most important first. `earlier` is a look some seconds before.
pub fn judge(now: &Survey, earlier: Option<&Survey>) -> Vec<Verdict> {
    let case = Case { now, earlier };
    let mut verdicts = Vec::new();
    groups::broken_invariants(&case, &mut verdicts);
    brokers::ending(&case, &mut verdicts);
    loops::stalls(&case, &mut verdicts);
    loops::disks(&case, &mut verdicts);
    brokers::silent(&case, &mut verdicts);
    groups::leaderless(&case, &mut verdicts);
    groups::untrusted(&case, &mut verdicts);
    groups::starved(&case, &mut verdicts);
    brokers::hung(&case, &mut verdicts);
    brokers::links(&case, &mut verdicts);
    groups::behind(&case, &mut verdicts);
    loops::waiting(&case, &mut verdicts);
    groups::elections(&case, &mut verdicts);
    loops::late(&case, &mut verdicts);
    groups::transfers(&case, &mut verdicts);
    brokers::unready(&case, &mut verdicts);
    brokers::clocks(&case, &mut verdicts);
    brokers::crashed(&case, &mut verdicts);
    brokers::panics(&case, &mut verdicts);
    // Within a severity the order above: causes first.
    verdicts.sort_by_key(|verdict| verdict.severity);
    verdicts
}

/// `1 partition`, `2 partitions`.
fn counted(count: f64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1.0 { "" } else { "s" })
}

/// Milliseconds for people.
pub fn lasted(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=59_999 => format!("{:.1} s", ms as f64 / 1e3),
        60_000..=7_199_999 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests;
