//! `cargo xtask scoreboard`: one table, fault by promise, of what was simulated and of what real
//! processes went through. Printed, and written to `target/scoreboard.md` and
//! `target/scoreboard.json`.
//!
//! Simulated lives are lived for it; real processes take an hour, so that theirs is what the last
//! `cargo xtask chaos` left, and a fault that it did not try is said to be untried.

use serde_json::{Value, json};

use crate::cases::chaos;
use crate::{sim, workspace};

/// Lives of each profile unless told.
const SEEDS: &str = "30";
/// A column, and what breaks it: the simulator's invariants and the histories' anomalies.
type Promise = (&'static str, &'static [&'static str]);
const PROMISES: [Promise; 4] = [
    (
        "kept",
        &[
            "committed_is_durable",
            "durable_is_kept",
            "acked_is_committed",
            "acked_is_kept",
            "log_view",
            "lost",
            "unseen",
        ],
    ),
    (
        "once, in order",
        &[
            "one_value",
            "prefix",
            "dedupe",
            "order",
            "high_watermark",
            "unique_ids",
            "duplicate",
            "inconsistent offset",
            "hole",
            "reordered",
            "aborted read",
        ],
    ),
    ("one leader, fresh reads", &["one_leader", "fresh_reads", "non-monotonic poll"]),
    ("goes on", &["liveness", "joint_left", "churn", "failures"]),
];
/// Whatever else was found.
const OTHER: &str = "nothing else";

/// One fault and what became of the promises under it.
#[derive(Debug, Default, PartialEq)]
struct Row {
    fault: String,
    runs: u64,
    acked: u64,
    /// What was broken, and how often.
    broken: Vec<(String, u64)>,
    elections_per_fault: f64,
    write_gap_p99_ms: Option<f64>,
    /// Until every partition served again: the middle run and the slowest one.
    back_ms: (f64, f64),
    untried: Option<String>,
}

/// `cargo xtask scoreboard [--seeds N]`.
pub fn run(args: &[&str]) -> Result<(), String> {
    let seeds = match *args {
        [] => SEEDS,
        ["--seeds", seeds] => seeds,
        _ => return Err("cargo xtask scoreboard [--seeds N]".into()),
    };
    let target = workspace::target();
    let lives = target.join("sim.json");
    let told = lives.to_str().ok_or("a path that is text")?;
    let lived = sim::run(&["--profiles", "--quiet", "--seeds", seeds, "--json", told]);
    let read = |path: &std::path::Path| -> Result<Value, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
    };
    let simulated = simulated(&read(&lives)?);
    let real = real(read(&target.join("chaos/chaos.json")).ok().as_ref());
    let table = [
        format!("Simulated, {seeds} lives of each profile:\n\n{}", table(&simulated)),
        format!("Real processes:\n\n{}", table(&real)),
    ]
    .join("\n");
    println!("{table}");
    let all = json!({"simulated": rows(&simulated), "real": rows(&real)});
    std::fs::write(target.join("scoreboard.md"), &table)
        .and_then(|()| std::fs::write(target.join("scoreboard.json"), format!("{all:#}\n")))
        .map_err(|error| format!("the scoreboard: {error}"))?;
    let broken = simulated.iter().chain(&real).filter(|row| !row.broken.is_empty()).count();
    lived?;
    match broken {
        0 => Ok(()),
        _ => Err(format!("promises are broken under {broken} faults")),
    }
}

fn simulated(profiles: &Value) -> Vec<Row> {
    let row = |sum: &Value| {
        let number = |name: &str| sum[name].as_u64().unwrap_or_default();
        let (lives, faults) = (number("lives"), number("faults").max(1));
        Row {
            fault: format!("{}: {}", text(&sum["profile"]), text(&sum["rule"])),
            runs: lives,
            acked: number("acked"),
            broken: counts(&sum["violations"]),
            elections_per_fault: number("elections") as f64 / faults as f64,
            write_gap_p99_ms: None,
            back_ms: (number("recovered_ms_p50") as f64, number("recovered_ms_max") as f64),
            untried: None,
        }
    };
    profiles.as_array().into_iter().flatten().map(row).collect()
}

fn real(chaos: Option<&Value>) -> Vec<Row> {
    let scenarios = chaos.and_then(|chaos| chaos["scenarios"].as_array());
    let row = |(name, fault): (&str, &str)| {
        let known = scenarios.and_then(|all| all.iter().find(|one| one["scenario"] == name));
        let Some(known) = known else {
            let untried = Some(format!("not tried: cargo xtask chaos {name}"));
            return Row { fault: fault.into(), untried, ..Row::default() };
        };
        let runs: Vec<&Value> = known["runs"].as_array().into_iter().flatten().collect();
        let samples =
            |name: &str| -> Vec<f64> { runs.iter().filter_map(|run| run[name].as_f64()).collect() };
        let gaps: Vec<f64> = runs
            .iter()
            .flat_map(|run| run["gaps_ms"].as_array().into_iter().flatten())
            .filter_map(Value::as_f64)
            .collect();
        let failed = known["failures"].as_array().map_or(0, Vec::len)
            + runs.iter().filter(|run| run["failures"] != json!([])).count();
        let mut broken: Vec<(String, u64)> =
            runs.iter().flat_map(|run| counts(&run["violations"])).collect();
        if failed > 0 {
            broken.push(("failures".into(), failed as u64));
        }
        let back = samples("served_after_begin_ms");
        Row {
            fault: fault.into(),
            runs: runs.len() as u64,
            acked: samples("acked").iter().sum::<f64>() as u64,
            broken,
            elections_per_fault: samples("elections").iter().sum::<f64>()
                / runs.len().max(1) as f64,
            write_gap_p99_ms: Some(chaos::quantile(&gaps, 0.99)),
            back_ms: (chaos::quantile(&back, 0.5), chaos::quantile(&back, 1.0)),
            untried: known["skipped"].as_str().map(|why| format!("skipped: {why}")),
        }
    };
    chaos::faults().map(row).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn counts(violations: &Value) -> Vec<(String, u64)> {
    let all = violations.as_object().into_iter().flatten();
    all.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or_default())).collect()
}

impl Row {
    /// How often each promise was broken; last, whatever belongs to none.
    fn by_promise(&self) -> Vec<u64> {
        let of = |names: &[&str]| {
            let hit = self.broken.iter().filter(|(name, _)| names.contains(&name.as_str()));
            hit.map(|(_, count)| count).sum::<u64>()
        };
        let mut cells: Vec<u64> = PROMISES.iter().map(|(_, names)| of(names)).collect();
        let all: u64 = self.broken.iter().map(|(_, count)| count).sum();
        cells.push(all - cells.iter().sum::<u64>());
        cells
    }

    fn line(&self) -> String {
        if let Some(why) = &self.untried {
            return format!("| {} | {why} |{}", self.fault, " |".repeat(PROMISES.len() + 5));
        }
        let cells: Vec<String> = self.by_promise().iter().map(u64::to_string).collect();
        let gap = self.write_gap_p99_ms.map_or("-".to_owned(), |ms| format!("{ms:.0}"));
        format!(
            "| {} | {} | {} | {} | {:.2} | {gap} | {:.0} / {:.0} |",
            self.fault,
            self.runs,
            self.acked,
            cells.join(" | "),
            self.elections_per_fault,
            self.back_ms.0,
            self.back_ms.1
        )
    }
}

fn table(rows: &[Row]) -> String {
    let promises: Vec<&str> = PROMISES.iter().map(|(name, _)| *name).chain([OTHER]).collect();
    let mut lines = vec![
        format!(
            "| fault | runs | acknowledged | {} | elections per fault | write gap p99, ms | serves \
             again, ms: middle / slowest run |",
            promises.join(" | ")
        ),
        format!("|---|{}", "---|".repeat(promises.len() + 5)),
    ];
    lines.extend(rows.iter().map(Row::line));
    lines.join("\n") + "\n"
}

fn rows(rows: &[Row]) -> Vec<Value> {
    let row = |row: &Row| {
        json!({
            "fault": row.fault,
            "runs": row.runs,
            "acked": row.acked,
            "broken": row.broken.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "elections_per_fault": row.elections_per_fault,
            "write_gap_p99_ms": row.write_gap_p99_ms,
            "back_ms_middle": row.back_ms.0,
            "back_ms_slowest": row.back_ms.1,
            "untried": row.untried,
        })
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{real, simulated, table};

    #[test]
    fn a_broken_promise_stands_in_its_column_and_an_unknown_one_is_not_dropped() {
        let lives = json!([{
            "profile": "rot", "rule": "damage is named", "lives": 3, "faults": 10, "elections": 5,
            "acked": 70, "violations": {"acked_is_kept": 2, "unheard_of": 1},
            "recovered_ms_p50": 100, "recovered_ms_max": 900,
        }]);
        let rows = simulated(&lives);
        assert_eq!(rows[0].by_promise(), [2, 0, 0, 0, 1]);
        let table = table(&rows);
        let wanted = "| rot: damage is named | 3 | 70 | 2 | 0 | 0 | 0 | 1 | 0.50 | - | 100 / 900 |";
        assert!(table.contains(wanted), "{table}");
    }

    #[test]
    fn real_runs_are_summed_and_what_was_not_tried_is_said() {
        let run = |acked, lost, failures| {
            json!({
                "acked": acked, "elections": 4.0, "gaps_ms": [10.0, 500.0], "failures": failures,
                "violations": {"lost": lost}, "served_after_begin_ms": 600.0,
            })
        };
        let runs = [run(5, 1, json!([])), run(6, 0, json!(["it did not come back"]))];
        let chaos = json!({"scenarios": [
            {"scenario": "kill", "runs": runs, "failures": [], "skipped": null},
            {"scenario": "clock", "runs": [], "failures": [], "skipped": "no root"},
        ]});
        let rows = real(Some(&chaos));
        let kill = rows.iter().find(|row| row.untried.is_none()).expect("it was tried");
        assert_eq!((kill.runs, kill.acked, kill.by_promise()), (2, 11, vec![1, 0, 0, 1, 0]));
        assert_eq!(kill.write_gap_p99_ms, Some(500.0));
        let untried: Vec<&str> = rows.iter().filter_map(|row| row.untried.as_deref()).collect();
        assert!(untried.contains(&"skipped: no root"));
        assert!(untried.iter().any(|why| why.starts_with("not tried: cargo xtask chaos")));
        assert_eq!(real(None).len(), rows.len());
    }
}
