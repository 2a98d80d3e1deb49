//! A broker's own page, `/debug/broker`: all that the whole cluster's view needs of it, in one
//! answer whose size does not depend on the number of partitions.
//!
//! Invariant: what only a healthy broker can say (its groups, its elections) is asked where that
//! may hang; what its observers know (loops, stalls, numbers) is there in any case.

use std::collections::BTreeMap;

use model::limits;
use node::{ElectionsPage, GroupView, NodeStatus};
use serde::Serialize;
use serde_json::{Value, json};
use telemetry::labels::LockClass;
use telemetry::{Lock, clock};

use crate::admin::{GroupsSummary, NodeState, Source};

/// What is asked of the broker's own state.
pub struct Inside {
    state: NodeState,
    status: Option<NodeStatus>,
    elections: Option<ElectionsPage>,
    crash: Option<node::Crash>,
}

impl Inside {
    /// May meet a lock that a hung thread holds.
    pub fn ask(source: &dyn Source) -> Inside {
        Inside {
            state: source.state(),
            status: source.groups(),
            elections: source.elections(),
            crash: source.last_crash(),
        }
    }
}

/// The page. `inside` is `None` when the broker's own state did not answer.
pub fn page(broker: i32, inside: Option<Inside>, hot: &Hot, no_answer: &str) -> Value {
    let mut page = json!({
        "broker": broker,
        "at_ms": clock::wall_ms(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": telemetry::export::uptime_ms(),
        "loops": crate::admin::loops_json(),
        "stalls": telemetry::stall::records(),
        "requests": telemetry::trace::page(),
        "numbers": telemetry::export::numbers(),
    });
    let told = match inside {
        Some(inside) => told(inside, hot),
        None => json!({ "error": no_answer, "state": "hung", "crash": { "last": null } }),
    };
    // Both are objects.
    if let (Some(page), Value::Object(told)) = (page.as_object_mut(), told) {
        page.extend(told);
    }
    page["crash"]["ending"] = json!(node::ending::begun());
    page["invariants"] = invariants(&page["numbers"]);
    page
}

fn told(inside: Inside, hot: &Hot) -> Value {
    let Inside { state, status, elections, crash } = inside;
    let summary = status.as_ref().map(GroupsSummary::of).unwrap_or_default();
    let mut page = json!({
        "ready": state.phase == crate::admin::BootPhase::Ready,
        "state": state.phase.as_str(),
        "waiting_for": state.waiting_for,
        "summary": summary,
        "crash": { "last": crash },
    });
    // What a broker that is starting cannot say is left out: null is no page.
    if let Some(elections) = elections {
        page["elections"] = json!(newest(elections));
    }
    if let (Some(status), Some(page)) = (status, page.as_object_mut()) {
        page.insert("hottest".into(), json!(hot.ranked(&status.groups, clock::mono_ns())));
        page.insert("troubled".into(), json!(troubled(&status.groups)));
        page.insert("cluster".into(), json!(status.cluster));
        page.insert("peers".into(), json!(status.peers));
        page.insert("journal_full".into(), json!(status.journal_full));
        page.insert("unled".into(), json!(status.unled));
        page.insert("quarantined".into(), json!(status.quarantined));
        page.insert("transfers".into(), json!(status.transfers));
        page.insert("offers".into(), json!(status.offers));
    }
    page
}

fn newest(mut page: ElectionsPage) -> ElectionsPage {
    let surplus = page.elections.len().saturating_sub(limits::SURVEY_ELECTIONS_MAX);
    page.elections.drain(..surplus);
    page.under_way.truncate(limits::SURVEY_ELECTIONS_MAX);
    page
}

/// Groups a person should look at: not trusted, held, starving somebody, or without a leader.
fn troubled(groups: &[GroupView]) -> Vec<&GroupView> {
    let in_trouble = |group: &&GroupView| {
        let status = &group.status;
        let behind = status.serving && status.isr < status.replicas;
        status.suspect
            || status.held.is_some()
            || !status.starved.is_empty()
            || status.attempt.is_some()
            || behind
    };
    groups.iter().filter(in_trouble).take(limits::SURVEY_TROUBLED_MAX).collect()
}

/// The invariants that were broken, from the numbers.
fn invariants(numbers: &Value) -> Value {
    const NAME: &str = "glasslog_invariant_violations_total{invariant=\"";
    let numbers = numbers.as_object().into_iter().flatten();
    let broken = numbers.filter_map(|(name, count)| {
        let invariant = name.strip_prefix(NAME)?.strip_suffix("\"}")?;
        Some(json!({ "invariant": invariant, "count": count }))
    });
    Value::Array(broken.collect())
}

/// How fast the high watermarks move, between two looks at least a second apart.
pub struct Hot(Lock<Looks>);

impl Default for Hot {
    fn default() -> Hot {
        Hot(Lock::new(LockClass::Debug, Looks::default()))
    }
}

#[derive(Default)]
struct Looks {
    at_ns: u64,
    marks: BTreeMap<u64, i64>,
    ranked: Vec<HotPartition>,
}

/// A partition, and how many records a second became readable in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HotPartition {
    name: String,
    group: u64,
    records_per_s: f64,
}

const LOOK_EVERY_NS: u64 = 1_000_000_000;

impl Hot {
    /// The hottest of the partitions led here. Several viewers share one look.
    fn ranked(&self, groups: &[GroupView], now_ns: u64) -> Vec<HotPartition> {
        // Only admin HTTP's own threads come here.
        let mut looks = self.0.lock();
        let passed_ns = now_ns.saturating_sub(looks.at_ns);
        if passed_ns < LOOK_EVERY_NS {
            return looks.ranked.clone();
        }
        let led = || groups.iter().filter(|group| group.status.serving && group.status.partition);
        let moved = led().filter_map(|group| {
            let records = group.high_watermark - looks.marks.get(&group.group)?;
            let records_per_s = (records as f64 * 1e10 / passed_ns as f64).round() / 10.0;
            let name = group.status.name.clone();
            let hot = HotPartition { name, group: group.group, records_per_s };
            (records > 0).then_some(hot)
        });
        let mut ranked: Vec<HotPartition> = moved.collect();
        ranked.sort_by(|a, b| b.records_per_s.total_cmp(&a.records_per_s));
        ranked.truncate(limits::SURVEY_HOTTEST_MAX);
        let marks = led().map(|group| (group.group, group.high_watermark)).collect();
        *looks = Looks { at_ns: now_ns, marks, ranked };
        looks.ranked.clone()
    }
}

#[cfg(test)]
mod tests {
    use node::MemberStatus;

    use super::*;

    fn group(group: u64, high_watermark: i64) -> GroupView {
        let name = format!("orders-{group}");
        let status =
            MemberStatus { name, serving: true, partition: true, ..MemberStatus::default() };
        GroupView { group, high_watermark, status }
    }

    #[test]
    fn the_hottest_come_first_and_two_viewers_share_a_look() {
        let hot = Hot::default();
        let second = LOOK_EVERY_NS;
        assert!(hot.ranked(&[group(1, 100), group(2, 5)], 10 * second).is_empty());
        let later = [group(1, 140), group(2, 1_005), group(3, 9)];
        let told = hot.ranked(&later, 12 * second);
        let told: Vec<_> = told.iter().map(|hot| (hot.group, hot.records_per_s)).collect();
        assert_eq!(told, [(2, 500.0), (1, 20.0)]);
        let soon = hot.ranked(&[group(1, 9_999)], 12 * second + second / 2);
        assert_eq!(soon.len(), 2, "too soon for another look");
    }

    #[test]
    fn a_hung_broker_still_tells_what_its_observers_know() {
        let page = page(7, None, &Hot::default(), "no answer");
        assert_eq!((&page["error"], &page["broker"]), (&json!("no answer"), &json!(7)));
        assert!(page["loops"].is_array() && page["numbers"].is_object());
    }

    #[test]
    fn the_page_of_a_broker_that_starts_or_hangs_is_understood() {
        let starting =
            Inside { state: NodeState::default(), status: None, elections: None, crash: None };
        for (inside, state) in [(Some(starting), "starting"), (None, "hung")] {
            let raw = page(7, inside, &Hot::default(), "no answer");
            let page: crate::survey::Page = serde_json::from_value(raw).unwrap();
            assert_eq!((page.broker, page.state.as_str()), (7, state));
        }
    }

    #[test]
    fn only_groups_in_trouble_are_listed() {
        let mut behind = group(2, 0);
        (behind.status.isr, behind.status.replicas) = (2, 3);
        let mut held = group(3, 0);
        held.status.held = Some("a poison entry".into());
        let all = [group(1, 0), behind, held];
        let told: Vec<u64> = troubled(&all).iter().map(|group| group.group).collect();
        assert_eq!(told, [2, 3]);
    }
}
