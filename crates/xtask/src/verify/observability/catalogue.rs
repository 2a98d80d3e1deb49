//! `METRICS.md` as a table of names, kinds, labels and label values, and what an expression may
//! say of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::promql::{self, Expression, Matcher, Selector};

/// Labels that Prometheus adds to every series.
const ADDED: [&str; 3] = ["cluster", "instance", "job"];
/// The ends that a histogram's series have.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];
/// What stands beside the catalogue: it exists only while something lasts, or with the labels that
/// are told here. `METRICS.md` wins where it has the same name.
const BESIDE: &str = "\
| `glasslog_stall_active_seconds` | gauge | `loop`: name and number; `tier`: raft, disk, peers, clients, background; `phase`: a phase; `cause`: a cause; `resource`: what is waited for; `mode`: of a lock; `waiter_site`: a place; `holder`: a loop or thread; `holder_site`: a place | While a stall lasts. |
";
/// Label values that begin like this are of an open set, described and not listed.
const OPEN: [&str; 12] = [
    "names that clients chose",
    "broker id",
    "of the build",
    "Kafka's",
    "name and number",
    "a phase",
    "a cause",
    "what is waited for",
    "of a lock",
    "a place",
    "a loop or thread",
    "of the last life's end",
];

/// One metric.
#[derive(Debug, Default)]
pub struct Metric {
    histogram: bool,
    /// Closed sets by label; `None`: any value.
    labels: BTreeMap<String, Option<BTreeSet<String>>>,
}

/// Every metric by name.
#[derive(Debug)]
pub struct Catalogue {
    metrics: BTreeMap<String, Metric>,
    /// Of these the ones that must be on some dashboard.
    listed: BTreeSet<String>,
}

impl Catalogue {
    /// Reads the page.
    pub fn parse(page: &str) -> Result<Catalogue, String> {
        let mut metrics: BTreeMap<String, Metric> = BESIDE.lines().filter_map(metric).collect();
        let listed: BTreeMap<String, Metric> = page.lines().filter_map(metric).collect();
        if listed.is_empty() {
            return Err("METRICS.md lists nothing: this check reads it wrongly".to_owned());
        }
        let names = listed.keys().cloned().collect();
        metrics.extend(listed);
        Ok(Catalogue { metrics, listed: names })
    }

    pub fn len(&self) -> usize {
        self.listed.len()
    }

    /// Names of the page.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.listed
    }

    /// The metric that a series belongs to.
    pub fn base<'a>(&self, series: &'a str) -> Result<&'a str, String> {
        if let Some(metric) = self.metrics.get(series) {
            return match metric.histogram {
                false => Ok(series),
                true => Err(format!("{series} is a histogram: its series end in {PARTS:?}")),
            };
        }
        let base = PARTS.iter().find_map(|part| series.strip_suffix(part));
        let histogram = |base: &&str| self.metrics.get(*base).is_some_and(|m| m.histogram);
        base.filter(histogram).ok_or_else(|| format!("there is no metric {series}"))
    }

    /// What is wrong with `expr` and the labels in `texts`, and the metrics it reads.
    /// `recorded`: names that recording rules make.
    pub fn judge(
        &self,
        expr: &str,
        texts: &[&str],
        recorded: &BTreeSet<String>,
    ) -> (Vec<String>, BTreeSet<String>) {
        let expression = match promql::parse(expr) {
            Ok(expression) => expression,
            Err(error) => return (vec![error], BTreeSet::new()),
        };
        let (mut wrong, mut read) = (Vec::new(), BTreeSet::new());
        let mut known: BTreeSet<&str> = ADDED.into_iter().collect();
        let mut foreign = false;
        for selector in &expression.selectors {
            let name = selector.name.as_str();
            if name.starts_with("glasslog:") {
                if !recorded.contains(name) {
                    wrong.push(format!("no rule records {name}"));
                }
            } else if name.starts_with("glasslog_") {
                match self.base(name) {
                    Ok(base) => {
                        let metric = &self.metrics[base];
                        known.extend(metric.labels.keys().map(String::as_str));
                        read.insert(base.to_owned());
                        wrong.extend(of_selector(selector, metric));
                    }
                    Err(error) => wrong.push(error),
                }
            } else {
                // Prometheus' own, as `up` and `ALERTS`: their labels are not ours to know.
                foreign = true;
            }
        }
        if foreign {
            known.extend(["alertname", "severity"]);
        }
        wrong.extend(strangers(&expression, texts, &known));
        (wrong, read)
    }
}

/// Labels in groupings and texts that no series of the expression has.
fn strangers(expression: &Expression, texts: &[&str], known: &BTreeSet<&str>) -> Vec<String> {
    let made = |label: &str| expression.made.iter().any(|made| made == label);
    let is_known = |label: &str| known.contains(label) || label == "le" || made(label);
    let grouped = expression.grouped.iter().map(String::as_str);
    let shown = texts.iter().flat_map(|text| labels_in(text));
    let found: BTreeSet<&str> = grouped.chain(shown).filter(|label| !is_known(label)).collect();
    found.into_iter().map(|label| format!("no series it reads has a label {label}")).collect()
}

/// Labels that a text shows: `{{label}}` of a legend, `$labels.label` of an alert.
fn labels_in(text: &str) -> Vec<&str> {
    let word = |text: &'_ str| text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let upto = |rest: &str| word(rest).unwrap_or(rest.len());
    let alert = text.split("$labels.").skip(1).map(|rest| &rest[..upto(rest)]);
    let legend = text.split("{{").skip(1).filter_map(|rest| {
        let label = rest.split("}}").next()?.trim();
        word(label).is_none().then_some(label).filter(|label| *label != "end" && *label != "else")
    });
    alert.chain(legend).collect()
}

fn of_selector(selector: &Selector, metric: &Metric) -> Vec<String> {
    let judged = selector.matchers.iter().filter_map(|matcher| {
        let label = matcher.label.as_str();
        let name = &selector.name;
        if ADDED.contains(&label) || (label == "le" && name.ends_with("_bucket")) {
            return None;
        }
        match metric.labels.get(label) {
            None => Some(format!("{name} has no label {label}")),
            Some(None) => None,
            Some(Some(values)) => of_value(matcher, values).map(|value| {
                format!("{label} of {name} is never `{value}`, but one of {}", joined(values))
            }),
        }
    });
    judged.collect()
}

/// The alternative of a matcher that no value of the closed set is.
fn of_value<'a>(matcher: &'a Matcher, values: &BTreeSet<String>) -> Option<&'a str> {
    if !matcher.op.ends_with('~') {
        return (!values.contains(&matcher.value)).then_some(matcher.value.as_str());
    }
    let fits = |alternative: &str| match alternative.strip_suffix(".*") {
        Some(begin) => values.iter().any(|value| value.starts_with(begin)),
        None => values.contains(alternative),
    };
    matcher.value.split('|').find(|alternative| !fits(alternative))
}

fn joined(values: &BTreeSet<String>) -> String {
    values.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// A row `| name | kind | labels | meaning |` of the page.
fn metric(line: &str) -> Option<(String, Metric)> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, name, kind, labels, ..] = cells[..] else { return None };
    let name = name.strip_prefix('`')?.strip_suffix('`')?;
    let histogram = kind.starts_with("histogram");
    let labels = labels.split("; ").filter_map(label).collect();
    name.starts_with("glasslog_").then(|| (name.to_owned(), Metric { histogram, labels }))
}

/// `` `name`: value, value `` or `` `name`: what they are ``.
fn label(text: &str) -> Option<(String, Option<BTreeSet<String>>)> {
    let (name, values) = text.strip_prefix('`')?.split_once("`:")?;
    let values = values.trim();
    let counted = values.strip_suffix(" values").is_some_and(|n| n.parse::<u32>().is_ok());
    let open = counted || OPEN.iter().any(|open| values.starts_with(open));
    let set = || values.split(", ").map(str::to_owned).collect();
    Some((name.to_owned(), (!open).then(set)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "| `glasslog_a_total` | counter | `stage`: one, two; `api`: Kafka's API names | Text. |\n\
                        | `glasslog_b_seconds` | histogram, sparse |  | Text. |\n";

    fn judge(expr: &str, text: &str) -> Vec<String> {
        let recorded = BTreeSet::from(["glasslog:r".to_owned()]);
        Catalogue::parse(PAGE).expect("a page").judge(expr, &[text], &recorded).0
    }

    #[test]
    fn what_the_page_lists_may_be_said() {
        for expr in [
            r#"sum by (stage, instance) (rate(glasslog_a_total{stage=~"on.*|two", api="Produce"}[5m]))"#,
            "sum by (le) (glasslog_b_seconds_bucket)",
            r#"glasslog:r > 1 and up{job="x"}"#,
            r#"label_replace(glasslog_a_total, "made", "", "", "") * on (made) group_left () vector(1)"#,
            "max by (tier, cause) (glasslog_stall_active_seconds)",
        ] {
            assert_eq!(judge(expr, ""), Vec::<String>::new(), "{expr}");
        }
        assert!(
            judge("glasslog_a_total", "{{stage}} $labels.api {{ end }} {{ $value | f }}")
                .is_empty()
        );
    }

    #[test]
    fn each_planted_fault_is_named() {
        let cases = [
            ("rate(glasslog_c_total[1m])", "", "no metric glasslog_c_total"),
            ("glasslog_a_total_bucket", "", "no metric glasslog_a_total_bucket"),
            ("glasslog_b_seconds", "", "is a histogram"),
            (r#"glasslog_a_total{stag="one"}"#, "", "has no label stag"),
            (r#"glasslog_a_total{stage!="three"}"#, "", "never `three`"),
            (r#"glasslog_a_total{stage=~"one|thr.*"}"#, "", "never `thr.*`"),
            ("sum by (room) (glasslog_a_total)", "", "label room"),
            ("glasslog_a_total", "{{room}}", "label room"),
            ("glasslog_a_total", "on {{ $labels.room }}.", "label room"),
            ("glasslog:s", "", "no rule records glasslog:s"),
        ];
        for (expr, text, expected) in cases {
            let found = judge(expr, text);
            assert!(found.iter().any(|fault| fault.contains(expected)), "{expr}: {found:?}");
        }
    }
}
