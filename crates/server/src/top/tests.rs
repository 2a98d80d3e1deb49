//! The screen as text: of a cluster in trouble, and in terminals that are too small.

use serde_json::json;

use super::screen::View;
use super::text;
use crate::survey::{Answer, Page, Silence, Survey};

fn answer(broker: i32, page: Option<serde_json::Value>) -> Answer {
    Answer {
        broker: Some(broker),
        admin: Some(format!("127.0.0.1:{broker}")),
        answered: page.is_some(),
        silence: page.is_none().then_some(Silence::Mute),
        error: page.is_none().then(|| "no answer within 1000 ms".to_owned()),
        took_ms: 1,
        clock_ahead_ms: Some(0),
        page: page.map(|page| serde_json::from_value::<Page>(page).unwrap()),
        raw: None,
    }
}

fn look(at_ms: i64, records: u64) -> Survey {
    let page = json!({
        "broker": 1, "state": "ready", "uptime_ms": 60_000 + at_ms,
        "summary": {"groups": 7, "leads": 3, "serving": 3, "troubled": 0},
        "numbers": {"glasslog_records_in_total": records},
        "hottest": [{"name": "orders-3", "group": 4, "records_per_s": 250.0}],
        "stalls": [{"began_ms": 0, "cause": "deadlock", "says": "shard/0 stands still: deadlock",
                    "stalled": {"loop": "shard/0"}}],
        "elections": {"under_way": [], "elections": [
            {"at_ms": at_ms - 500, "what": "election", "name": "orders-3", "says": "orders-3 was won"}]},
        "requests": {"produce": {"count": 9, "p50": {"ms": 2.0, "stages": []},
            "p99": {"ms": 8.0, "stages": [{"stage": "fsync", "ms": 6.0}]}}},
    });
    Survey { at_ms, brokers: vec![answer(1, Some(page)), answer(2, None)] }
}

#[test]
fn one_broker_dead_and_one_stalled_is_what_the_screen_is_for() {
    let mut view = View::default();
    view.take(look(10_000, 100));
    view.take(look(12_000, 900));
    let screen = text(&view, (120, 40)).unwrap();
    for told in [
        "1 of 2 brokers answer",
        "critical broker 1: shard/0 has stood still for 12.0 s: deadlock",
        "critical broker 2 takes connections and says nothing",
        "no answer within 1000 ms",
        " 400 ",
        "orders-3",
        "250/s",
        "broker 1: orders-3 was won",
        "fsync",
        "6.00",
    ] {
        assert!(screen.contains(told), "{told}\n{screen}");
    }
}

#[test]
fn a_small_terminal_and_nobody_who_answers_are_drawn_too() {
    let mut view = View::default();
    assert!(text(&view, (80, 24)).unwrap().starts_with("asking"));
    view.take(Survey { at_ms: 0, brokers: vec![answer(1, None)] });
    for size in [(80, 24), (30, 8), (5, 2), (1, 1)] {
        text(&view, size).unwrap();
    }
}
