//! What became of every run: a table, and `target/chaos/chaos.json`.

use serde_json::{Value, json};

use super::figures::quantile;
use super::scenarios::Scenario;
use crate::workspace;

/// Runs so far, by scenario.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    fault: &'static str,
    runs: Vec<Value>,
    failures: Vec<String>,
    skipped: Option<String>,
}

impl Report {
    fn row(&mut self, scenario: &Scenario) -> &mut Row {
        let at = self.rows.iter().position(|row| row.name == scenario.name);
        let at = at.unwrap_or_else(|| {
            let (name, fault) = (scenario.name, scenario.fault);
            let (runs, failures) = (Vec::new(), Vec::new());
            self.rows.push(Row { name, fault, runs, failures, skipped: None });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    pub fn add(&mut self, scenario: &Scenario, run: Result<Value, String>) {
        match run {
            Ok(run) => self.row(scenario).runs.push(run),
            Err(text) => self.row(scenario).failures.push(text),
        }
    }

    pub fn skipped(&mut self, scenario: &Scenario, why: &str) {
        self.row(scenario).skipped = Some(why.to_owned());
    }

    /// Prints the table and writes the file.
    pub fn finish(&self) -> Result<String, String> {
        for line in self.table() {
            println!("      {line}");
        }
        let path = workspace::target().join("chaos/chaos.json");
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "scenario": row.name,
                    "fault": row.fault,
                    "runs": row.runs,
                    "failures": row.failures,
                    "skipped": row.skipped,
                })
            })
            .collect();
        std::fs::create_dir_all(path.parent().expect("a folder"))
            .and_then(|()| std::fs::write(&path, format!("{:#}\n", json!({"scenarios": rows}))))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(String::new())
    }

    fn table(&self) -> Vec<String> {
        let mut lines = vec![
            "| fault | runs | violations | elections | write gap p99, ms | served again after its \
             begin / end, ms |"
                .to_owned(),
            "|---|---|---|---|---|---|".to_owned(),
        ];
        lines.extend(self.rows.iter().map(Row::line));
        lines
    }
}

impl Row {
    fn line(&self) -> String {
        if let Some(why) = &self.skipped {
            return format!("| {} | skipped: {why} | | | | |", self.fault);
        }
        let samples = |name: &str| -> Vec<f64> {
            self.runs.iter().filter_map(|run| run[name].as_f64()).collect()
        };
        let worst = |name: &str| quantile(&samples(name), 1.0);
        let gaps: Vec<f64> = self
            .runs
            .iter()
            .flat_map(|run| run["gaps_ms"].as_array().into_iter().flatten())
            .filter_map(Value::as_f64)
            .collect();
        let violations: Vec<&str> =
            self.runs.iter().filter_map(|run| run["summary"].as_str()).collect();
        let violations: Vec<&str> = violations.into_iter().filter(|v| !v.is_empty()).collect();
        let mut found = if violations.is_empty() { "0".to_owned() } else { violations.join("; ") };
        let unwell = |run: &&Value| run["failures"].as_array().is_some_and(|f| !f.is_empty());
        let failed = self.failures.len() + self.runs.iter().filter(unwell).count();
        if failed > 0 {
            found = format!("{found}, {failed} runs failed");
        }
        format!(
            "| {} | {} | {found} | {:.0} | {:.0} | {:.0} / {:.0} |",
            self.fault,
            self.runs.len() + self.failures.len(),
            worst("elections"),
            quantile(&gaps, 0.99),
            worst("served_after_begin_ms"),
            worst("served_after_end_ms"),
        )
    }
}

/// Whether a run did well, in words.
pub fn verdict(run: &Value) -> Result<String, String> {
    let number = |name: &str| run[name].as_f64().unwrap_or(-1.0);
    let lines = |name: &str| -> Vec<&str> {
        run[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let summary = run["summary"].as_str().ok_or("a run without a summary")?;
    let mut wrong = lines("failures");
    if !summary.is_empty() {
        wrong.push(summary);
        wrong.extend(lines("shown"));
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n      "));
    }
    Ok(format!(
        "{} acknowledged ({} unsure), {} polled, {} read, 0 violations; {} elections; served \
         again {:.0} ms after the fault's begin, {:.0} ms after its end{}",
        number("acked"),
        number("unsure"),
        number("polled"),
        number("read"),
        number("elections"),
        number("served_after_begin_ms"),
        number("served_after_end_ms"),
        lines("notes").iter().map(|note| format!("; {note}")).collect::<String>(),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Report, verdict};
    use crate::cases::chaos::scenarios;

    #[test]
    fn violations_fail_a_run_and_a_run_without_a_verdict_too() {
        let good = json!({"summary": "", "acked": 5});
        assert!(verdict(&good).expect("good").starts_with("5 acknowledged"));
        let bad = json!({"summary": "1 lost", "shown": ["lost: a 1"]});
        assert_eq!(verdict(&bad), Err("1 lost\n      lost: a 1".to_owned()));
        let deaf = json!({"summary": "", "failures": ["partition 0 does not serve"]});
        assert_eq!(verdict(&deaf), Err("partition 0 does not serve".to_owned()));
        assert!(verdict(&json!({})).is_err());
    }

    #[test]
    fn a_line_has_the_worst_of_all_runs_and_says_what_had_no_result() {
        let mut report = Report::default();
        let scenario = &scenarios::ALL[0];
        for (elections, gap) in [(1, 10.0), (3, 30.0)] {
            let run = json!({"summary": "", "elections": elections, "gaps_ms": [gap, 1.0],
                "served_after_begin_ms": 7.0, "served_after_end_ms": gap});
            report.add(scenario, Ok(run));
        }
        report.add(scenario, Err("the broker died".to_owned()));
        let line = &report.table()[2];
        assert!(line.ends_with("| 3 | 0, 1 runs failed | 3 | 30 | 7 / 30 |"), "{line}");
        report.skipped(scenario, "no loop devices");
        assert!(report.table()[2].contains("skipped: no loop devices"));
    }
}
