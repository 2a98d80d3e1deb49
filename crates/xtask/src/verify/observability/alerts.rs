//! `alerts/rules.yml` against its tests, its runbook and the catalogue.
//!
//! The file is read line by line, as it is written there: `- alert:` or `- record:`, then keys two
//! columns further in, an expression on the same line or in a `|` block. promtool judges the YAML.

use std::collections::{BTreeMap, BTreeSet};

use super::catalogue::Catalogue;

/// Always fires, so it has no silent case.
const ALWAYS: &str = "DeadMan";
const SEVERITIES: [&str; 2] = ["page", "ticket"];
/// What each section of the runbook has.
const PARTS: [&str; 4] = ["**Means.**", "**Look at.**", "**Do.**", "**Proven.**"];
const URL: &str = "alerts/README.md#";

#[derive(Debug, Default)]
struct Rule {
    /// An alert's, or a recorded series'.
    name: String,
    alert: bool,
    expr: String,
    labels: String,
    texts: BTreeMap<String, String>,
}

/// Every rule of the file.
#[derive(Debug)]
pub struct Rules(Vec<Rule>);

impl Rules {
    pub fn parse(text: &str) -> Result<Rules, String> {
        let (mut rules, mut in_expr): (Vec<Rule>, bool) = (Vec::new(), false);
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let trimmed = line.trim();
            let begun = ["- alert: ", "- record: "].iter().find_map(|k| trimmed.strip_prefix(k));
            if let Some(name) = begun {
                let alert = trimmed.starts_with("- alert");
                rules.push(Rule { name: name.to_owned(), alert, ..Rule::default() });
                in_expr = false;
                continue;
            }
            let Some(rule) = rules.last_mut() else { continue };
            let depth = line.len() - line.trim_start().len();
            if in_expr && (depth > 8 || trimmed.is_empty()) {
                rule.expr += trimmed;
                rule.expr.push('\n');
                continue;
            }
            in_expr = false;
            match trimmed.split_once(':') {
                Some(("expr", value)) if value.trim() == "|" => in_expr = true,
                Some(("expr", value)) => rule.expr = value.trim().to_owned(),
                Some(("labels", value)) => rule.labels = value.trim().to_owned(),
                Some((key, value)) if depth > 8 => {
                    let value = value.trim().trim_matches('\'').to_owned();
                    rule.texts.insert(key.to_owned(), value);
                }
                _ => {}
            }
        }
        if rules.is_empty() {
            return Err("alerts/rules.yml has no rule: this check reads it wrongly".to_owned());
        }
        Ok(Rules(rules))
    }

    /// Names of the alerts.
    pub fn alerts(&self) -> BTreeSet<&str> {
        self.0.iter().filter(|rule| rule.alert).map(|rule| rule.name.as_str()).collect()
    }

    /// Names of the series that are recorded.
    pub fn recorded(&self) -> BTreeSet<String> {
        self.0.iter().filter(|rule| !rule.alert).map(|rule| rule.name.clone()).collect()
    }

    /// What a rule says that is not so.
    pub fn faults(&self, catalogue: &Catalogue) -> Vec<String> {
        let recorded = self.recorded();
        let mut wrong = Vec::new();
        for rule in &self.0 {
            let texts: Vec<&str> = rule.texts.values().map(String::as_str).collect();
            let mut faults = catalogue.judge(&rule.expr, &texts, &recorded).0;
            if rule.expr.is_empty() {
                faults.push("it has no expression".to_owned());
            }
            if rule.alert {
                faults.extend(rule.unsaid());
            }
            wrong.extend(faults.into_iter().map(|fault| format!("rule {}: {fault}", rule.name)));
        }
        wrong
    }

    /// Alerts without a section of the runbook, and sections without an alert.
    pub fn untold(&self, runbook: &str) -> Vec<String> {
        let sections: BTreeMap<&str, &str> = runbook
            .split("\n### ")
            .skip(1)
            .map(|section| section.split_once('\n').unwrap_or((section, "")))
            .collect();
        let (alerts, told) = (self.alerts(), sections.keys().copied().collect());
        let mut wrong: Vec<String> = alerts
            .difference(&told)
            .map(|name| format!("the runbook has no section {name}"))
            .collect();
        wrong.extend(
            told.difference(&alerts)
                .map(|name| format!("the runbook tells of {name}, and no rule is called so")),
        );
        for (name, text) in sections {
            let missing = PARTS.iter().filter(|part| !text.contains(**part));
            wrong.extend(missing.map(|part| format!("the runbook's {name} has no {part}")));
        }
        wrong
    }

    /// Alerts of which no test sees both that they fire and that they do not, and tests of others.
    pub fn untested(&self, tests: &str) -> Vec<String> {
        let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
        let mut name = "";
        for line in tests.lines().map(str::trim) {
            match line.split_once(':') {
                Some(("alertname", value)) => name = value.trim(),
                Some(("exp_alerts", value)) if value.trim() == "[]" => drop(silent.insert(name)),
                Some(("exp_alerts", _)) => drop(fires.insert(name)),
                _ => {}
            }
        }
        let alerts = self.alerts();
        let mut wrong: Vec<String> =
            alerts.difference(&fires).map(|name| format!("no test sees {name} fire")).collect();
        let loud = alerts.difference(&silent).filter(|name| **name != ALWAYS);
        wrong.extend(loud.map(|name| format!("no test sees {name} stay silent")));
        let tested: BTreeSet<&str> = fires.union(&silent).copied().collect();
        let unknown = tested.difference(&alerts);
        wrong.extend(unknown.map(|name| format!("{name} is tested, and no rule is called so")));
        wrong
    }
}

impl Rule {
    /// What an alert must say and does not.
    fn unsaid(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for key in ["summary", "description"] {
            if !self.texts.contains_key(key) {
                wrong.push(format!("it has no {key}"));
            }
        }
        let expected = format!("{URL}{}", self.name.to_lowercase());
        let url = self.texts.get("runbook_url").map_or("", String::as_str);
        if url != expected {
            wrong.push(format!("its runbook_url is `{url}`, not `{expected}`"));
        }
        let severe = |word: &&&str| self.labels.contains(&format!("severity: {word}"));
        if !SEVERITIES.iter().any(|word| severe(&word)) {
            wrong.push(format!("its severity is none of {SEVERITIES:?}"));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "groups:\n  - name: g\n    rules:\n      # A: comment.\n      - alert: Bad\n        \
        expr: |\n          sum by (stage) (\n            glasslog_a_total\n          ) > 2\n        \
        for: 2s\n        labels: {severity: page}\n        annotations:\n          \
        summary: '{{ $labels.stage }}: bad'\n          description: 'D.'\n          \
        runbook_url: 'alerts/README.md#bad'\n\n      - record: glasslog:r\n        expr: glasslog_a_total\n";
    const RUNBOOK: &str =
        "# Runbook\n\n### Bad\n\n**Means.** a **Look at.** b **Do.** c **Proven.** d\n";
    const TESTS: &str =
        "alertname: Bad\nexp_alerts: []\nalertname: Bad\nexp_alerts:\n- exp_labels: {}\n";

    fn catalogue() -> Catalogue {
        Catalogue::parse("| `glasslog_a_total` | counter | `stage`: one | T. |\n").expect("a page")
    }

    fn all(rules: &str, runbook: &str, tests: &str) -> Vec<String> {
        let rules = Rules::parse(rules).expect("rules");
        let mut wrong = rules.faults(&catalogue());
        wrong.extend(rules.untold(runbook));
        wrong.extend(rules.untested(tests));
        wrong
    }

    #[test]
    fn rules_that_fit_are_fine() {
        assert_eq!(all(RULES, RUNBOOK, TESTS), Vec::<String>::new());
        let rules = Rules::parse(RULES).expect("rules");
        assert_eq!(rules.recorded(), BTreeSet::from(["glasslog:r".to_owned()]));
    }

    #[test]
    fn each_planted_fault_is_named() {
        let cases = [
            (
                RULES.replace("_a_total\n          )", "_b_total\n          )"),
                RUNBOOK,
                TESTS,
                "no metric glasslog_b_total",
            ),
            (RULES.replace("$labels.stage", "$labels.room"), RUNBOOK, TESTS, "label room"),
            (RULES.replace("README.md#bad", "README.md#good"), RUNBOOK, TESTS, "runbook_url"),
            (RULES.replace("severity: page", "severity: loud"), RUNBOOK, TESTS, "severity"),
            (RULES.replace("summary", "title"), RUNBOOK, TESTS, "no summary"),
            (RULES.to_owned(), "", TESTS, "no section Bad"),
            (
                RULES.to_owned(),
                "\n### Bad\n**Means.** **Look at.** **Do.**",
                TESTS,
                "no **Proven.**",
            ),
            (RULES.to_owned(), "\n### Bad\n\n### Worse\n", TESTS, "tells of Worse"),
            (RULES.to_owned(), RUNBOOK, "alertname: Bad\nexp_alerts: []", "no test sees Bad fire"),
            (RULES.to_owned(), RUNBOOK, "alertname: Bad\nexp_alerts:", "stay silent"),
            (RULES.to_owned(), RUNBOOK, "alertname: Worse\nexp_alerts: []", "Worse is tested"),
        ];
        for (rules, runbook, tests, expected) in cases {
            let found = all(&rules, runbook, tests);
            assert!(found.iter().any(|fault| fault.contains(expected)), "{expected}: {found:?}");
        }
    }
}
