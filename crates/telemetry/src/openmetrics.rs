//! The same metrics as OpenMetrics 1.0 text, for scrapers that ask for it: with exemplars, which
//! lead from a bucket of a request histogram to the trace that fell into it last.
//!
//! Invariants: names and values of samples are those of [`crate::export`]; what OpenMetrics wants
//! otherwise is the name of a counter's family, which lacks the `_total`, and bounds with a point;
//! an exemplar lies within its bucket.

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use crate::metric::Unit;
use crate::{export, trace};

/// `Content-Type` of [`render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const MEDIA_TYPE: &str = "application/openmetrics-text";

/// Whether an `Accept` header asks for this format in this version.
pub fn is_wanted(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut words = range.split(';').map(str::trim);
        let named = words.next().is_some_and(|word| word.eq_ignore_ascii_case(MEDIA_TYPE));
        let parameter = |word: &str, name: &str| {
            let (key, value) = word.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
        };
        let mut fits = named;
        for word in words {
            fits &= parameter(word, "version").is_none_or(|version| version == "1.0.0");
            fits &= parameter(word, "q").is_none_or(|q| q.parse() != Ok(0.0f32));
        }
        fits
    })
}

/// All metrics.
pub fn render() -> String {
    export::rendered(|families| {
        let mut text = String::with_capacity(256 << 10);
        families.iter().for_each(|family| {
            write_family(&mut text, family, is_taken(families, family));
        });
        text.push_str("# EOF\n");
        text
    })
}

/// Whether a counter's name without its ending is that of another family, as of the gauge
/// `connections` beside `connections_total`.
fn is_taken(families: &[MetricFamily], family: &MetricFamily) -> bool {
    let stem = family.name().strip_suffix("_total");
    stem.is_some_and(|stem| families.iter().any(|other| other.name() == stem))
}

/// A counter whose name is `taken` keeps it whole and is of unknown type: no scraper computes with
/// the type, and renaming the series would break those that know it.
fn write_family(text: &mut String, family: &MetricFamily, taken: bool) {
    let kind = family.get_field_type();
    let (name, total) = match (kind, family.name().strip_suffix("_total")) {
        (MetricType::COUNTER, Some(stem)) if !taken => (stem, "_total"),
        _ => (family.name(), ""),
    };
    let word = match kind {
        MetricType::COUNTER if taken => "unknown",
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        _ => "gauge",
    };
    // Writing into a string cannot fail.
    let _ = writeln!(text, "# TYPE {name} {word}");
    let unit = Unit::of_name(name);
    if unit != Unit::Count && name.ends_with(unit.as_str()) {
        let _ = writeln!(text, "# UNIT {name} {}", unit.as_str());
    }
    let _ = writeln!(text, "# HELP {name} {}", escaped(family.help()));
    for metric in family.get_metric() {
        match kind {
            MetricType::COUNTER => {
                sample(text, name, total, metric.get_label(), metric.get_counter().get_value());
            }
            MetricType::HISTOGRAM => write_histogram(text, name, metric),
            _ => sample(text, name, "", metric.get_label(), metric.get_gauge().get_value()),
        }
    }
}

fn write_histogram(text: &mut String, name: &str, metric: &Metric) {
    let histogram = metric.get_histogram();
    let label = metric.get_label().first().map_or("", LabelPair::value);
    let bounds = histogram.get_bucket().iter();
    let rows = bounds.map(|bucket| (bound(bucket.upper_bound()), bucket.cumulative_count()));
    let all = histogram.get_sample_count();
    for (position, (le, count)) in rows.chain([("+Inf".to_owned(), all)]).enumerate() {
        labelled(text, name, "_bucket", metric.get_label(), Some(&le));
        let _ = write!(text, " {count}");
        // A request of just now may not be in the counts that were taken before.
        if count > 0
            && let Some(exemplar) = trace::exemplar(name, label, position)
        {
            let (seconds, at) = (exemplar.value as f64 / 1e9, exemplar.wall_ms as f64 / 1e3);
            let _ = write!(text, " # {{trace_id=\"{}\"}} ", trace::hex(&exemplar.trace));
            let _ = write!(text, "{} {at:.3}", number(seconds));
        }
        text.push('\n');
    }
    sample(text, name, "_count", metric.get_label(), all as f64);
    sample(text, name, "_sum", metric.get_label(), histogram.get_sample_sum());
}

fn sample(text: &mut String, name: &str, suffix: &str, labels: &[LabelPair], value: f64) {
    labelled(text, name, suffix, labels, None);
    let _ = writeln!(text, " {}", number(value));
}

fn labelled(text: &mut String, name: &str, suffix: &str, labels: &[LabelPair], le: Option<&str>) {
    text.push_str(name);
    text.push_str(suffix);
    let own = labels.iter().map(|pair| (pair.name(), pair.value()));
    let mut pairs = own.chain(le.map(|le| ("le", le))).peekable();
    if pairs.peek().is_none() {
        return;
    }
    let mut before = '{';
    for (key, value) in pairs {
        let _ = write!(text, "{before}{key}=\"{}\"", escaped(value));
        before = ',';
    }
    text.push('}');
}

fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}

/// Bounds are compared as text: always with a point.
fn bound(value: f64) -> String {
    let text = number(value);
    if text.contains(['.', 'e', 'I', 'N']) { text } else { text + ".0" }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::labels::ProduceStage;
    use crate::metrics;
    use crate::trace::exemplars_for_tests;

    /// Name, labels and what follows them.
    fn parts(line: &str) -> (&str, &str, &str) {
        match line.split_once('{') {
            Some((name, rest)) if !name.contains(' ') => {
                let end = rest.find("} ").expect("labels end");
                (name, &rest[..end], &rest[end + 2..])
            }
            _ => {
                let (name, value) = line.split_once(' ').expect("a value");
                (name, "", value)
            }
        }
    }

    /// What the specification demands of the text as a whole.
    fn check(text: &str) {
        assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1);
        let mut families = BTreeSet::new();
        let mut samples = BTreeSet::new();
        let mut current = (String::new(), String::new());
        let mut below = (String::new(), 0.0, f64::NEG_INFINITY);
        for line in text.lines().take_while(|line| *line != "# EOF") {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(families.insert(name.to_owned()), "{name} twice");
                current = (name.to_owned(), kind.to_owned());
                continue;
            }
            if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (name, unit) = rest.split_once(' ').unwrap();
                assert!(name == current.0 && name.ends_with(&format!("_{unit}")), "{line}");
                continue;
            }
            if let Some(rest) = line.strip_prefix("# HELP ") {
                assert!(rest.starts_with(&format!("{} ", current.0)), "{line}");
                continue;
            }
            let (name, labels, value) = parts(line);
            let suffix = name.strip_prefix(current.0.as_str()).expect("a sample of its family");
            let allowed: &[&str] = match current.1.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                "gauge" | "unknown" => &[""],
                other => panic!("{other}"),
            };
            assert!(allowed.contains(&suffix), "{line}");
            assert!(samples.insert((name.to_owned(), labels.to_owned())), "{line} twice");
            let (value, exemplar) = match value.split_once(" # ") {
                Some((value, exemplar)) => (value, Some(exemplar)),
                None => (value, None),
            };
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            if suffix == "_bucket" {
                let (own, le) = labels.rsplit_once("le=\"").expect("a bound");
                let le = le.trim_end_matches('"');
                assert!(le == "+Inf" || le.contains('.') || le.contains('e'), "{line}");
                let le: f64 = le.trim_start_matches('+').parse().unwrap();
                let key = format!("{name}{own}");
                if below.0 == key {
                    assert!(value >= below.1 && le > below.2, "{line}");
                }
                if let Some(exemplar) = exemplar {
                    let rest = exemplar.strip_prefix("{trace_id=\"").expect("one label");
                    let (id, rest) = rest.split_once("\"} ").unwrap();
                    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
                    let (shown, at) = rest.split_once(' ').unwrap();
                    let shown: f64 = shown.parse().unwrap();
                    let above = if below.0 == key { below.2 } else { f64::NEG_INFINITY };
                    assert!(shown <= le && shown > above, "{line}");
                    assert!(at.parse::<f64>().unwrap() > 1.6e9, "{line}");
                }
                below = (key, value, le);
            } else {
                assert!(exemplar.is_none(), "{line}");
            }
        }
        // No sample may be read as one of another family.
        for name in &families {
            for suffix in ["_bucket", "_count", "_sum", "_created", "_info"] {
                assert!(!families.contains(&format!("{name}{suffix}")), "{name}{suffix}");
            }
        }
    }

    #[test]
    fn the_text_is_strict_open_metrics_with_exemplars_in_their_buckets() {
        let stage = metrics().produce_stage_seconds.at(ProduceStage::Fsync);
        stage.observe(3_000_000);
        metrics().kafka_request_seconds.at(model::ApiKey::Produce).observe(7_000_000);
        exemplars_for_tests(7_000_000, 3_000_000);
        let text = render();
        check(&text);
        let line = |start: &str| {
            let found = text.lines().find(|line| line.starts_with(start));
            found.unwrap_or_else(|| panic!("{start}")).to_owned()
        };
        let whole = line("glasslog_kafka_request_seconds_bucket{api=\"Produce\",le=\"0.01\"} ");
        assert!(whole.contains(" # {trace_id=\"0909"), "{whole}");
        assert!(whole.contains("\"} 0.007 "), "{whole}");
        let fsync = line("glasslog_produce_stage_seconds_bucket{stage=\"fsync\",le=\"0.005\"} ");
        assert!(fsync.contains("\"} 0.003 "), "{fsync}");
        line("# TYPE glasslog_kafka_requests counter");
        line("# TYPE glasslog_connections gauge");
        line("# TYPE glasslog_connections_total unknown");
        line("glasslog_connections_total{outcome=\"accepted\"} ");
        line("glasslog_kafka_requests_total{api=\"Fetch\",outcome=\"ok\"} ");
        line("# UNIT glasslog_kafka_request_seconds seconds");
        line("glasslog_produce_stage_seconds_bucket{stage=\"fsync\",le=\"1.0\"} ");
    }

    #[test]
    fn it_is_sent_to_who_asks_for_it() {
        for wanted in [
            "application/openmetrics-text",
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            "text/plain, Application/OpenMetrics-Text; version=\"1.0.0\"",
        ] {
            assert!(is_wanted(wanted), "{wanted}");
        }
        for other in [
            "",
            "*/*",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=1.0.0;q=0",
        ] {
            assert!(!is_wanted(other), "{other}");
        }
    }

    #[test]
    fn numbers_and_labels_are_written_as_the_format_wants() {
        assert_eq!([bound(1.0), bound(0.00005), bound(2.5)], ["1.0", "0.00005", "2.5"]);
        assert_eq!([number(f64::INFINITY), number(f64::NAN), number(3.0)], ["+Inf", "NaN", "3"]);
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
