//! Each verdict from the pages that should give it, and from none that should not.

use serde_json::{Value, json};

use super::*;
use crate::survey::{Page, Silence};

fn answered(broker: i32, page: Value) -> Answer {
    let mut page = page;
    page["broker"] = broker.into();
    page["uptime_ms"] = json!(page["uptime_ms"].as_u64().unwrap_or(9_999_999));
    let mut answer = silent(broker, Silence::Odd);
    (answer.answered, answer.silence, answer.error) = (true, None, None);
    answer.clock_ahead_ms = Some(page["clock"].as_i64().unwrap_or(0));
    answer.page = Some(serde_json::from_value::<Page>(page).unwrap());
    answer
}

fn silent(broker: i32, silence: Silence) -> Answer {
    Answer {
        broker: Some(broker),
        admin: Some(format!("host-{broker}:9292")),
        answered: false,
        silence: Some(silence),
        error: Some("its words".to_owned()),
        took_ms: 1,
        clock_ahead_ms: None,
        raw: None,
        page: None,
    }
}

fn survey(brokers: Vec<Answer>) -> Survey {
    Survey { at_ms: 100_000, brokers }
}

/// The kinds, in order.
fn kinds(verdicts: &[Verdict]) -> Vec<&'static str> {
    verdicts.iter().map(|verdict| verdict.kind).collect()
}

fn ready() -> Value {
    json!({ "state": "ready" })
}

#[test]
fn a_healthy_cluster_has_no_verdicts() {
    let well = survey(vec![answered(1, ready()), answered(2, ready()), answered(3, ready())]);
    assert_eq!(judge(&well, Some(&well)), []);
}

#[test]
fn one_dead_and_one_stalled_are_two_causes_and_their_symptoms_are_evidence() {
    let one = json!({
        "state": "ready",
        "peers": [{"broker": 2, "connected": true}, {"broker": 3, "connected": false, "dead": true}],
        "numbers": {"glasslog_under_replicated_partitions": 4},
    });
    let two = json!({
        "state": "ready",
        "peers": [{"broker": 1, "connected": true}, {"broker": 3, "connected": false}],
        "stalls": [{"began_ms": 97_000, "cause": "lock_wait", "says": "shard/0 waits for `image`",
            "stalled": {"loop": "shard/0"}, "chain": [{"waiter": "shard-0", "lock": "image",
            "waited_ms": 3_000, "waits_at": "a.rs:1", "holder": "peers", "taken_at": "b.rs:2",
            "held_ms": 3_100}]},
            {"began_ms": 98_000, "cause": "runtime_starved", "says": "runtime/0 in idle",
            "stalled": {"loop": "runtime/0"}}],
    });
    let verdicts =
        judge(&survey(vec![answered(1, one), answered(2, two), silent(3, Silence::Refused)]), None);
    assert_eq!(kinds(&verdicts), ["loop_stalled", "broker_down", "under_replicated"]);
    let stall = &verdicts[0];
    assert_eq!(stall.title, "broker 2: shard/0 has stood still for 3.0 s: lock_wait");
    let chain = "shard-0 waits for lock `image` at a.rs:1 since 3.0 s; peers holds it, taken at \
                 b.rs:2 3.1 s ago";
    assert_eq!(stall.evidence[1], chain);
    assert_eq!(stall.evidence[2], "with it: runtime/0 in idle", "it has no cause of its own");
    let down = &verdicts[1];
    assert!(down.evidence.contains(&"broker 1 knows that its process is gone".to_owned()));
    assert!(down.evidence.last().unwrap().contains("2 of 3 brokers answer; they are a majority"));
    assert_eq!(verdicts[2].severity, Severity::Info, "the dead broker explains it");
}

#[test]
fn each_way_of_not_answering_has_its_name() {
    let cases = [
        (Silence::Refused, "broker_down"),
        (Silence::Unreachable, "broker_unreachable"),
        (Silence::Mute, "broker_mute"),
        (Silence::Odd, "broker_odd"),
        (Silence::Unknown, "broker_unknown"),
    ];
    for (silence, kind) in cases {
        let verdicts = judge(&survey(vec![answered(1, ready()), silent(2, silence)]), None);
        assert_eq!(kinds(&verdicts), [kind]);
        assert_eq!(verdicts[0].severity, Severity::Critical, "{silence:?}");
    }
    let linked = json!({"state": "ready", "peers": [{"broker": 2, "connected": true}]});
    let works = judge(&survey(vec![answered(1, linked), silent(2, Silence::Unknown)]), None);
    assert_eq!(works[0].severity, Severity::Warning, "it works, it only cannot be asked");
}

#[test]
fn a_cut_in_one_direction_is_told_from_one_in_both() {
    let link = |broker: i32, connected| json!({"state": "ready", "peers": [{"broker": broker, "connected": connected}]});
    let both = judge(&survey(vec![answered(1, link(2, false)), answered(2, link(1, false))]), None);
    assert_eq!(kinds(&both), ["link_down"]);
    assert!(both[0].title.contains("cut off from each other"), "{}", both[0].title);
    let one = judge(&survey(vec![answered(1, link(2, false)), answered(2, link(1, true))]), None);
    assert_eq!(kinds(&one), ["link_down"]);
    assert!(one[0].title.contains("one way is cut"), "{}", one[0].title);
}

#[test]
fn partitions_without_a_leader_are_counted_by_the_best_informed() {
    let unled =
        |count: usize| json!({"state": "ready", "unled": {"count": count, "names": ["orders-1"]}});
    let all = judge(&survey(vec![answered(1, unled(9)), answered(2, unled(7))]), None);
    assert_eq!(kinds(&all), ["no_leader"]);
    assert!(all[0].title.starts_with("7 partitions"), "{}", all[0].title);
    let some = judge(&survey(vec![answered(1, unled(9)), answered(2, unled(0))]), None);
    assert_eq!(kinds(&some), ["leaders_unknown"]);
    assert_eq!(some[0].broker, Some(1));
}

#[test]
fn trouble_of_groups_disks_and_the_broker_itself_is_named() {
    let sick = json!({
        "state": "ready",
        "journal_full": "no checkpoint frees it",
        "troubled": [
            {"name": "a-0", "suspect": true}, {"name": "b-0", "held": "entry 7"},
            {"name": "c-0", "starved": [{"broker": 2, "ms": 6_000, "why": "probe"}]}],
        "quarantined": [{"group": 5, "why": "three panics"}],
        "numbers": {
            "glasslog_disk_full": 1, "glasslog_under_min_isr_partitions": 2,
            "glasslog_invariant_violations_total{invariant=\"hwm_regressed\"}": 1,
            "glasslog_panics_total{room=\"machine\"}": 2,
            "glasslog_inflight_oldest_seconds{stage=\"produce_commit\"}": 9.0,
            "glasslog_journal_inflight_seconds{op=\"sync\"}": 2.5},
        "crash": {"ending": {"reason": "io", "why": "EIO"}},
    });
    let kinds = kinds(&judge(&survey(vec![answered(1, sick)]), None));
    for kind in [
        "journal_full",
        "suspect",
        "held",
        "follower_starved",
        "quarantined",
        "disk_full",
        "under_min_isr",
        "panic_contained",
        "request_waits",
        "journal_slow",
        "broker_fatal",
    ] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    assert_eq!(kinds[0], "invariant_broken", "what must never happen comes first");
}

#[test]
fn what_grows_is_told_from_what_was_and_nothing_over_a_restart() {
    let look = |late: u64, uptime: u64| {
        let numbers = json!({"glasslog_raft_ticks_late_total{blocked_by=\"cpu\"}": late});
        survey(vec![answered(
            1,
            json!({"state": "ready", "numbers": numbers, "uptime_ms": uptime}),
        )])
    };
    let grown = judge(&look(15, 9_000_000), Some(&look(5, 8_999_000)));
    assert_eq!(kinds(&grown), ["ticks_late"]);
    assert_eq!(grown[0].evidence, ["10 by cpu"]);
    assert_eq!(judge(&look(15, 9_000_000), Some(&look(15, 8_999_000))), []);
    assert_eq!(judge(&look(15, 9_000_000), None), []);
    assert_eq!(judge(&look(15, 4_000_000), Some(&look(5, 8_999_000))), []);
}

#[test]
fn the_clock_that_is_off_is_named_and_not_the_askers() {
    let at = |broker, ahead: i64| answered(broker, json!({"state": "ready", "clock": ahead}));
    let verdicts = judge(&survey(vec![at(1, -5_000), at(2, -5_010), at(3, 2_000)]), None);
    assert_eq!(kinds(&verdicts), ["clock_off"]);
    assert_eq!(verdicts[0].broker, Some(3));
}

#[test]
fn elections_again_and_again_are_churn_and_a_failover_is_not() {
    let page = |times: usize| {
        let one = json!({"at_ms": 90_000, "outcome": "won", "name": "orders-0", "says": "won"});
        json!({"state": "ready", "elections": {"elections": vec![one; times]}})
    };
    assert_eq!(kinds(&judge(&survey(vec![answered(1, page(4))]), None)), ["election_churn"]);
    assert_eq!(judge(&survey(vec![answered(1, page(2))]), None), []);
}
