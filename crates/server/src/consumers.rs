//! `/debug/consumers`: how far the consumer groups that this broker coordinates are behind, and with
//! `?group=NAME` where. What all of them lack together, and of the worst by name, is on `/metrics`.
//!
//! Invariant: a page shows at most [`limits::CONSUMERS_SHOWN_MAX`] groups, or partitions of one, those
//! that lack most, and says how many there are.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::limits;
use node::ConsumersPage;
use serde_json::{Value, json};

/// What is asked for.
#[derive(Debug, Default, serde::Deserialize)]
pub struct Wanted {
    /// One group by partition. Absent: all groups.
    group: Option<String>,
}

/// The page; 404 for a group of which nothing is committed here.
pub fn answer(page: &ConsumersPage, wanted: &Wanted) -> Response {
    let Some(name) = &wanted.group else { return Json(all(page)).into_response() };
    match one(page, name) {
        Some(found) => Json(found).into_response(),
        None => {
            let error = format!("no offsets of group {name} here: another broker coordinates it");
            (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response()
        }
    }
}

fn all(page: &ConsumersPage) -> Value {
    let groups = page.groups.iter().take(limits::CONSUMERS_SHOWN_MAX).map(|group| {
        json!({
            "group": group.group,
            "lag": group.lag,
            "max": group.max,
            "partitions": group.partitions.len(),
            "unknown": group.unknown,
        })
    });
    let shown: Vec<Value> = groups.collect();
    json!({ "total": page.groups.len(), "unknown": page.unknown, "groups": shown })
}

fn one(page: &ConsumersPage, name: &str) -> Option<Value> {
    let group = page.groups.iter().find(|group| group.group == name)?;
    let shown = group.partitions.len().min(limits::CONSUMERS_SHOWN_MAX);
    Some(json!({
        "group": group.group,
        "lag": group.lag,
        "max": group.max,
        "total": group.partitions.len(),
        "unknown": group.unknown,
        "partitions": group.partitions[..shown],
    }))
}

#[cfg(test)]
mod tests {
    use node::{GroupLag, PartitionLag};

    use super::*;

    #[test]
    fn groups_are_summed_up_and_one_is_told_by_partition() {
        let partition = |partition, lag: i64| PartitionLag {
            topic: "orders".into(),
            partition,
            committed: 3,
            end: Some(3 + lag),
            lag: u64::try_from(lag).ok(),
        };
        let unknown = PartitionLag { end: None, lag: None, ..partition(2, 0) };
        let group = GroupLag {
            group: "g\"".into(),
            lag: 9,
            max: 7,
            unknown: 1,
            partitions: vec![partition(0, 7), partition(1, 2), unknown],
        };
        let page = ConsumersPage { groups: vec![group; 1_001], unknown: 1_001 };
        let shown = all(&page);
        assert_eq!((&shown["total"], &shown["unknown"]), (&json!(1_001), &json!(1_001)));
        assert_eq!(shown["groups"].as_array().map(Vec::len), Some(1_000));
        let row = json!({"group": "g\"", "lag": 9, "max": 7, "partitions": 3, "unknown": 1});
        assert_eq!(shown["groups"][0], row);
        let shown = one(&page, "g\"").expect("there");
        let row = json!({"topic": "orders", "partition": 0, "committed": 3, "end": 10, "lag": 7});
        assert_eq!((&shown["total"], &shown["partitions"][0]), (&json!(3), &row));
        assert_eq!(shown["partitions"][2]["lag"], Value::Null);
        assert_eq!(one(&page, "g"), None);
    }
}
