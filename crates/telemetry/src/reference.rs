//! The metrics reference, `METRICS.md`, written from the catalogue.

use std::fmt::Write;

use model::limits;
use prometheus::proto::MetricType;

use crate::family::AnyFamily;
use crate::labels::LogEvent;
use crate::metrics;

/// Label values listed in full up to this many; more are summed up.
const LISTED_MAX: usize = 24;

/// `crates/telemetry/METRICS.md`, byte for byte.
pub fn catalogue_markdown() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         Written from `crates/telemetry/src/catalog.rs` by `cargo xtask fix`; do not edit.\n\n\
         Base units; `_total` are counters, and every counter exists at 0 for every label value \
         from the first scrape on. Labels are closed sets, but for names of topics and groups. \
         Metrics marked *sparse* show a label \
         combination once it happened. The process' own `process_*` metrics come beside these.\n",
    );
    let mut section = "";
    for family in metrics().families() {
        let info = family.info();
        if info.section != section {
            section = info.section;
            write!(
                out,
                "\n## {section}\n\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n"
            )
            .expect("a string takes all");
        }
        let sparse = if info.sparse { ", sparse" } else { "" };
        let labels: Vec<String> = info.labels.iter().map(label).collect();
        let (name, kind) = (info.name, kind(family));
        let (labels, help) = (labels.join("; "), info.help.trim());
        writeln!(out, "| `{name}` | {kind}{sparse} | {labels} | {help} |")
            .expect("a string takes all");
    }
    let kinds: Vec<String> = LogEvent::ALL.iter().map(|kind| format!("`{kind}`")).collect();
    write!(
        out,
        "\n## Kinds of log lines\n\nThe field `event`; each kind is written at most {} times in {} s, \
         the suppressed are counted in `suppressed` of the next line and in \
         `glasslog_telemetry_dropped_total`.\n\n{}.\n",
        limits::LOG_BURST_MAX,
        limits::LOG_WINDOW_MS / 1_000,
        kinds.join(", "),
    )
    .expect("a string takes all");
    out
}

fn kind(family: &dyn AnyFamily) -> &'static str {
    match family.kind() {
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        _ => "gauge",
    }
}

fn label(info: &crate::metric::LabelInfo) -> String {
    if info.open {
        let most = match info.name {
            "topic" => limits::TOPIC_LABELS_MAX,
            _ => limits::GROUP_LABELS_MAX,
        };
        return format!(
            "`{}`: names that clients chose, at most {most}, and `__other__`",
            info.name
        );
    }
    let open = match info.name {
        "peer" => Some("broker id"),
        "version" | "revision" => Some("of the build"),
        "api" => Some("Kafka's API names"),
        "code" => Some("Kafka's error names"),
        _ => None,
    };
    let values = (info.values)();
    match open {
        Some(open) => format!("`{}`: {open}", info.name),
        None if values.len() > LISTED_MAX => format!("`{}`: {} values", info.name, values.len()),
        None => format!("`{}`: {}", info.name, values.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_reference_is_the_catalogues() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/METRICS.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == catalogue_markdown(),
            "METRICS.md is out of date: cargo run -p telemetry --example metrics_reference > {path}"
        );
    }
}
