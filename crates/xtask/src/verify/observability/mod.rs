//! What looks at a broker says what is true: dashboards, alerts, their tests and their runbook fit
//! each other and `METRICS.md`.
//!
//! A panel that queries what nobody exports stays empty on the night it is needed, and an alert on
//! it never fires; nothing but a check like this one tells.

mod alerts;
mod catalogue;
mod pages;

use std::fs;
use std::path::Path;

use crate::dashboards;
use alerts::Rules;
use catalogue::Catalogue;

/// Every metric.
const METRICS: &str = "crates/telemetry/METRICS.md";
const RULES: &str = "alerts/rules.yml";
const RUNBOOK: &str = "alerts/README.md";
const TESTS: [&str; 2] = ["alerts/rules_test.yml", "alerts/budget_test.yml"];

/// An error names everything that does not fit.
pub fn check(root: &Path) -> Result<String, String> {
    let read = |path: &str| {
        fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))
    };
    let catalogue = Catalogue::parse(&read(METRICS)?)?;
    let rules = Rules::parse(&read(RULES)?)?;
    let tests = TESTS.map(read).into_iter().collect::<Result<Vec<_>, _>>()?.join("\n");
    let mut wrong = generated(root)?;
    let boards = dashboards::boards();
    wrong.extend(pages::faults(&boards, &catalogue, &rules));
    wrong.extend(rules.faults(&catalogue));
    wrong.extend(rules.untold(&read(RUNBOOK)?));
    wrong.extend(rules.untested(&tests));
    if !wrong.is_empty() {
        return Err(wrong.join("\n      "));
    }
    let panels: usize = boards.iter().map(pages::count).sum();
    let (metrics, alerts) = (catalogue.len(), rules.alerts().len());
    Ok(format!("{metrics} metrics, {panels} panels, {alerts} alerts"))
}

/// Files of dashboards that are not what the tables make of them.
fn generated(root: &Path) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let folder = root.join(dashboards::FOLDER);
    let files = dashboards::files()?;
    for (name, text) in &files {
        if fs::read_to_string(folder.join(name)).ok().as_ref() != Some(text) {
            let path = format!("{}/{name}", dashboards::FOLDER);
            wrong.push(format!(
                "{path} is not what xtask makes; `cargo xtask dashboards` writes it"
            ));
        }
    }
    let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries {
        let name = entry.map_err(|e| e.to_string())?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".json") && !files.iter().any(|(made, _)| *made == name) {
            wrong.push(format!("{}/{name}: nobody makes it; remove it", dashboards::FOLDER));
        }
    }
    Ok(wrong)
}
