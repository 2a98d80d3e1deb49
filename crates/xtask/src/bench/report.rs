//! What was measured, by system: every sample in JSON, the median and the spread in a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::subject::Subject;

/// Samples of every figure, in the order in which the figures first came.
pub struct Report {
    subjects: Vec<Subject>,
    order: Vec<String>,
    samples: BTreeMap<(String, Subject), Vec<f64>>,
    errors: Vec<(Subject, String)>,
}

/// Where one system's figures go.
pub struct Readings<'a> {
    report: &'a mut Report,
    subject: Subject,
}

impl Readings<'_> {
    /// One sample of a figure; its unit is the last word of its name.
    pub fn add(&mut self, figure: &str, value: f64) {
        println!("  {figure}: {}", shown(value));
        if !self.report.order.iter().any(|known| known == figure) {
            self.report.order.push(figure.to_owned());
        }
        let key = (figure.to_owned(), self.subject);
        self.report.samples.entry(key).or_default().push(value);
    }
}

impl Report {
    pub fn new(subjects: &[Subject]) -> Report {
        Report {
            subjects: subjects.to_vec(),
            order: Vec::new(),
            samples: BTreeMap::new(),
            errors: Vec::new(),
        }
    }

    pub fn of(&mut self, subject: Subject) -> Readings<'_> {
        Readings { report: self, subject }
    }

    pub fn failed(&mut self, subject: Subject, error: &str) {
        self.errors.push((subject, error.to_owned()));
    }

    /// Every sample.
    pub fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .order
            .iter()
            .map(|figure| {
                let samples: serde_json::Map<String, Value> = self
                    .subjects
                    .iter()
                    .filter_map(|subject| {
                        let found = self.samples.get(&(figure.clone(), *subject))?;
                        Some((subject.as_str().to_owned(), json!(found)))
                    })
                    .collect();
                json!({"figure": figure, "samples": samples})
            })
            .collect();
        let errors: Vec<Value> = self
            .errors
            .iter()
            .map(|(subject, error)| json!({"system": subject.as_str(), "error": error}))
            .collect();
        json!({"replicas": 3, "acks": "all", "figures": figures, "errors": errors})
    }

    /// A Markdown table: the median, and lowest to highest where there are several.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| |");
        for subject in &self.subjects {
            write!(text, " {} |", subject.title()).expect("a string grows");
        }
        text.push_str("\n|---|");
        text.push_str(&"---|".repeat(self.subjects.len()));
        for figure in &self.order {
            write!(text, "\n| {figure} |").expect("a string grows");
            for subject in &self.subjects {
                let samples = self.samples.get(&(figure.clone(), *subject));
                write!(text, " {} |", samples.map_or("-".to_owned(), |s| cell(s)))
                    .expect("a string grows");
            }
        }
        text.push('\n');
        text
    }
}

fn cell(samples: &[f64]) -> String {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    match (sorted.first(), sorted.last()) {
        (Some(low), Some(high)) if sorted.len() > 1 => {
            format!("**{}** ({}-{})", shown(median), shown(*low), shown(*high))
        }
        _ => format!("**{}**", shown(median)),
    }
}

/// Three digits, and a `k` for thousands.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100_000.0 => format!("{:.0} k", value / 1000.0),
        size if size >= 10_000.0 => format!("{:.1} k", value / 1000.0),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Subject};

    #[test]
    fn the_median_and_the_spread_are_shown_and_a_gap_is_a_gap() {
        let mut report = Report::new(&[Subject::GlasslogGroup, Subject::Kafka]);
        for value in [12_345.0, 400.0, 2.0] {
            report.of(Subject::GlasslogGroup).add("speed, records/s", value);
        }
        report.of(Subject::Kafka).add("idle, %", 6.0);
        let text = report.markdown();
        assert!(text.contains("| speed, records/s | **400** (2.00-12.3 k) | - |"), "{text}");
        assert!(text.contains("| idle, % | - | **6.00** |"), "{text}");
        assert_eq!(report.json()["figures"][0]["samples"]["glasslog"][0], 12_345.0);
    }
}
