//! Which panels of the dashboards show something over a stretch of time: each of their expressions
//! is asked of the Prometheus that watched it.
//!
//! A panel moves if some series of it has two values. What shows only trouble also moves by being
//! there for a part of the time: a line of a panel that asks for values above 0, a row of a table.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::world::World;
use crate::dashboards::{self, Board};

/// Between two looks at a series, seconds.
const STEP: u64 = 2;
/// What happened last was scraped twice by then.
const SCRAPED: Duration = Duration::from_secs(3);
/// Series that are there only while there is something to say, beside those above 0.
const AT_TIMES: [&str; 4] = [
    "ALERTS{",
    "glasslog_lock_wait_seconds_bucket",
    "glasslog_stall_active_seconds",
    "glasslog_build_info",
];

/// What was found.
#[derive(Default)]
pub struct Seen {
    pub asked: usize,
    /// Expressions that moved.
    pub moving: usize,
    /// Panels of which some did.
    pub moved: BTreeSet<String>,
    /// Expressions that are refused, or have nothing to show and should.
    pub wrong: Vec<String>,
}

/// Page and title of every panel.
pub fn all() -> BTreeSet<String> {
    let names = |board: &Board| {
        let panels = board.rows.iter().flat_map(|row| &row.panels);
        panels.map(|panel| name(board, panel.title)).collect::<Vec<_>>()
    };
    dashboards::boards().iter().flat_map(names).collect()
}

fn name(board: &Board, title: &str) -> String {
    format!("{}: {title}", board.title)
}

/// Every expression over all that this Prometheus has seen.
pub fn look(world: &World) -> Result<Seen, String> {
    std::thread::sleep(SCRAPED);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let steps = world.watched().as_secs() / STEP;
    let (from, to) = (now.as_secs() - steps * STEP, now.as_secs());
    let [from, to, step] = [from, to, STEP].map(|number| number.to_string());
    let looks = usize::try_from(steps).map_err(|error| error.to_string())? + 1;
    let mut seen = Seen::default();
    for board in dashboards::boards() {
        for panel in board.rows.iter().flat_map(|row| &row.panels) {
            for query in &panel.queries {
                let expr = of_this_cluster(&query.expr);
                let parameters =
                    [("query", expr.as_str()), ("start", &from), ("end", &to), ("step", &step)];
                let panel = name(&board, panel.title);
                seen.asked += 1;
                match world.observers.ask("query_range", &parameters) {
                    Ok(data) if moves(&data, is_there_at_times(&expr).then_some(looks)) => {
                        seen.moving += 1;
                        seen.moved.insert(panel);
                    }
                    Ok(data) if has_series(&data) || is_there_at_times(&expr) => {}
                    Ok(_) => seen.wrong.push(format!("{panel}: no series")),
                    Err(error) => seen.wrong.push(format!("{panel}: {error}")),
                }
            }
        }
    }
    Ok(seen)
}

/// As Grafana would fill in its variables.
fn of_this_cluster(expr: &str) -> String {
    expr.replace("$__rate_interval", "10s").replace("$cluster", "test").replace("$instance", ".*")
}

fn is_there_at_times(expr: &str) -> bool {
    expr.ends_with("> 0") || AT_TIMES.iter().any(|name| expr.contains(name))
}

fn has_series(data: &Value) -> bool {
    data["result"].as_array().is_some_and(|series| !series.is_empty())
}

/// Whether some series has two different values, of which one may be that there was nothing to
/// reckon with, or was there at some of so many `looks` only.
fn moves(data: &Value, looks: Option<usize>) -> bool {
    let differs = |series: &Value| {
        let values = series["values"].as_array().map(Vec::as_slice).unwrap_or_default();
        let first = values.first().map(|sample| &sample[1]);
        values.iter().any(|sample| Some(&sample[1]) != first)
            || looks.is_some_and(|looks| values.len() < looks)
    };
    data["result"].as_array().is_some_and(|series| series.iter().any(differs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_that_differ_move() {
        let with = |values| json!({ "result": [{ "values": values }] });
        assert!(moves(&with(json!([[1, "0"], [3, "3"]])), None));
        assert!(!moves(&with(json!([[1, "3"], [3, "3"]])), None));
        assert!(moves(&with(json!([[1, "NaN"], [3, "3"], [5, "NaN"]])), None));
        assert!(!moves(&with(json!([[1, "NaN"], [3, "NaN"]])), None));
        assert!(!moves(&json!({ "result": [] }), None) && !has_series(&json!({ "result": [] })));
    }

    #[test]
    fn what_is_there_for_a_while_moves_only_where_that_says_something() {
        let briefly = json!({ "result": [{ "values": [[3, "1"]] }] });
        assert!(moves(&briefly, Some(3)) && !moves(&briefly, Some(1)) && !moves(&briefly, None));
    }

    #[test]
    fn only_trouble_may_be_missing() {
        assert!(is_there_at_times("sum (rate(a[1s])) > 0"));
        assert!(is_there_at_times("max by (x) (glasslog_stall_active_seconds)"));
        assert!(!is_there_at_times("sum (rate(a[1s]))"));
    }

    #[test]
    fn panels_have_names_of_their_own() {
        let boards = dashboards::boards();
        let panels = boards.iter().flat_map(|board| &board.rows).map(|row| row.panels.len());
        assert_eq!(all().len(), panels.sum::<usize>());
    }
}
