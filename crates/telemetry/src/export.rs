//! The Prometheus text of everything in the catalogue, and of the process.
//!
//! Invariant: a scrape takes no lock that a broker thread holds while it works, so it answers
//! while every one of them hangs; ages and counts of what is stuck are taken at the scrape.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{TextEncoder, proto};

use crate::family::AnyFamily;
use crate::labels::DropKind;
use crate::{clock, logging, metrics, stall, watchdog};

/// `Content-Type` of [`render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

static PROCESS: LazyLock<ProcessCollector> = LazyLock::new(ProcessCollector::for_self);
static STARTED_NS: LazyLock<u64> = LazyLock::new(clock::boot_ns);

/// The process starts now: uptime counts from here. Without it, from the first scrape.
pub fn started() {
    LazyLock::force(&STARTED_NS);
}

/// All metrics in Prometheus' text format 0.0.4.
pub fn render() -> String {
    rendered(|families| {
        let mut text = String::with_capacity(256 << 10);
        for family in families {
            // Family by family: one that does not encode must not hide the others.
            let one = std::slice::from_ref(family);
            if let Err(error) = TextEncoder::new().encode_utf8(one, &mut text) {
                text.push_str(&format!("# {} does not encode: {error}\n", family.name()));
            }
        }
        text
    })
}

/// Counters and gauges that are not zero, as `name{label="value"}`: what one broker tells another
/// about itself. Nothing under names that clients chose.
pub fn numbers() -> BTreeMap<String, f64> {
    publish();
    let mut numbers = BTreeMap::new();
    for family in metrics().families().into_iter().filter(|family| !family.info().is_open()) {
        let name = family.info().name;
        for sample in family.collect().get_metric() {
            let value = match family.kind() {
                MetricType::COUNTER => sample.get_counter().get_value(),
                MetricType::GAUGE => sample.get_gauge().get_value(),
                _ => continue,
            };
            if value != 0.0 {
                numbers.insert(named(name, sample.get_label()), value);
            }
        }
    }
    numbers
}

fn named(name: &str, labels: &[proto::LabelPair]) -> String {
    let pairs = labels.iter().map(|pair| format!("{}=\"{}\"", pair.name(), pair.value()));
    match labels.is_empty() {
        true => name.to_owned(),
        false => format!("{name}{{{}}}", pairs.collect::<Vec<_>>().join(",")),
    }
}

/// How long this process runs.
pub fn uptime_ms() -> u64 {
    clock::boot_ns().saturating_sub(*STARTED_NS) / 1_000_000
}

/// A text of all families that have something to show; what it cost is counted.
pub(crate) fn rendered(write: impl FnOnce(&[MetricFamily]) -> String) -> String {
    let before_ns = clock::thread_cpu_ns();
    publish();
    let mut families: Vec<MetricFamily> =
        metrics().families().iter().map(|f| f.collect()).collect();
    families.extend(PROCESS.collect());
    families.push(stall::family(stall::records()));
    count_series(&mut families);
    families.retain(|family| !family.get_metric().is_empty());
    let text = write(&families);
    let used_ns = clock::thread_cpu_ns().saturating_sub(before_ns);
    metrics().telemetry_cpu_seconds_total.add(used_ns);
    text
}

/// Gauges and counters that are known only to those who ask.
fn publish() {
    watchdog::publish();
    let uptime_ns = clock::boot_ns().saturating_sub(*STARTED_NS);
    metrics().process_uptime_seconds.set(uptime_ns as i64);
    let cpu = &metrics().process_cpu_time_seconds_total;
    cpu.add(clock::process_cpu_ns().saturating_sub(cpu.get()));
    metrics().build_info.at(crate::label::BuildVersion, crate::label::BuildRevision).set(1);
    let dropped = metrics().telemetry_dropped_total.at(DropKind::LogQueue);
    dropped.add(logging::lines_dropped().saturating_sub(dropped.get()));
    if let Ok(text) = std::fs::read_to_string("/proc/self/net/snmp") {
        let seen = |counter: &crate::Counter, name| {
            let now = tcp_number(&text, name).unwrap_or(0);
            counter.add(now.saturating_sub(counter.get()));
        };
        seen(&metrics().host_tcp_sent_segments_total, "OutSegs");
        seen(&metrics().host_tcp_resent_segments_total, "RetransSegs");
    }
}

/// One of the kernel's counters about TCP: a line of names, and one of numbers below it.
fn tcp_number(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|known| known == name)?;
    numbers.split(' ').nth(at)?.parse().ok()
}

/// Sets `metrics_series` and renews its sample in `families`.
fn count_series(families: &mut [MetricFamily]) {
    let rows = |family: &MetricFamily| {
        let lines = |metric: &proto::Metric| match family.get_field_type() {
            MetricType::HISTOGRAM => metric.get_histogram().get_bucket().len() + 3,
            _ => 1,
        };
        family.get_metric().iter().map(lines).sum::<usize>()
    };
    let series: usize = families.iter().map(rows).sum();
    let own = &metrics().metrics_series;
    own.set(series as i64);
    if let Some(family) = families.iter_mut().find(|family| family.name() == own.info().name) {
        *family = own.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{Loop, Outcome};

    #[test]
    fn the_kernel_s_counters_are_read_by_their_names() {
        let page = "Ip: Forwarding\nIp: 1\nTcp: InSegs OutSegs RetransSegs\nTcp: 5 70 3\n";
        let found = ["OutSegs", "RetransSegs", "Absent"].map(|name| super::tcp_number(page, name));
        assert_eq!(found, [Some(70), Some(3), None]);
    }

    #[test]
    fn every_counter_is_there_for_every_label_value_before_anything_happened() {
        let text = render();
        let mut counters = 0;
        for family in metrics().families().iter().filter(|f| f.kind() == MetricType::COUNTER) {
            let info = family.info();
            let rows: usize = info.labels.iter().map(|label| (label.values)().len()).product();
            let start = (format!("{} ", info.name), format!("{}{{", info.name));
            let is_row = |line: &&str| line.starts_with(&start.0) || line.starts_with(&start.1);
            assert_eq!(text.lines().filter(is_row).count(), rows, "{}", info.name);
            counters += rows;
        }
        assert!(counters > 500);
        // One nobody in this crate moves, exactly.
        assert!(text.contains("glasslog_peer_dropped_total{lane=\"bulk\",why=\"too_large\"} 0\n"));
    }

    #[test]
    fn seconds_are_seconds_and_the_process_is_there() {
        metrics().kafka_request_seconds.at(model::ApiKey::DescribeAcls).observe(1_500_000_000);
        metrics().kafka_requests_total.at(model::ApiKey::DescribeAcls, Outcome::Ok).inc();
        let text = render();
        for line in [
            "glasslog_kafka_request_seconds_sum{api=\"DescribeAcls\"} 1.5\n",
            "glasslog_kafka_request_seconds_bucket{api=\"DescribeAcls\",le=\"2.5\"} 1\n",
            "glasslog_kafka_requests_total{api=\"DescribeAcls\",outcome=\"ok\"} 1\n",
            "glasslog_build_info{version=\"",
            "process_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "{line}");
        }
        assert!(!text.contains("api=\"CreateAcls\",le="), "sparse series appear with their first");
    }

    #[test]
    fn names_that_clients_chose_are_escaped_counted_and_replaced_as_a_whole() {
        let family = &metrics().consumer_group_lag_records;
        let hostile = "a\"} 7\nglasslog_ready 1\r\\";
        let rows = [(hostile, 3), ("gone", 4), (crate::label::Open::REST, 9)];
        family.replace(rows.map(|(name, lag)| (name.to_owned(), lag)), 5);
        for text in [render(), crate::openmetrics::render()] {
            let own: Vec<&str> = text
                .split('\n')
                .filter(|line| line.starts_with("glasslog_consumer_group_lag_records{"))
                .collect();
            let row = |name: &str, lag| {
                format!("glasslog_consumer_group_lag_records{{group=\"{name}\"}} {lag}")
            };
            let escaped = "a\\\"} 7\\nglasslog_ready 1\r\\\\";
            assert_eq!(own, [row(escaped, 3), row("gone", 4), row("__other__", 5)], "{text}");
        }
        assert!(numbers().keys().all(|name| !name.contains("lag_records")));
        family.replace([("new".to_owned(), 1)], 0);
        let text = render();
        assert!(!text.contains("group=\"gone\"") && text.contains("group=\"new\"} 1\n"));
    }

    #[test]
    fn numbers_are_what_moved_under_its_full_name() {
        metrics().kafka_requests_total.at(model::ApiKey::CreateAcls, Outcome::Ok).add(3);
        let numbers = numbers();
        let name = "glasslog_kafka_requests_total{api=\"CreateAcls\",outcome=\"ok\"}";
        assert_eq!(numbers.get(name), Some(&3.0));
        assert!(numbers.values().all(|value| *value != 0.0));
        assert!(numbers.contains_key("glasslog_process_uptime_seconds"));
    }

    #[test]
    fn the_series_count_is_the_number_of_lines() {
        let text = render();
        let lines = text.lines().filter(|line| !line.starts_with('#')).count();
        let told = metrics().metrics_series.get();
        // Other tests may add a sparse row between count and text; never hundreds.
        assert!((lines as i64 - told).abs() < 100, "{lines} lines, {told} told");
        assert!(lines < model::limits::METRIC_SERIES_MAX);
    }

    #[test]
    fn it_answers_while_loops_hang_with_their_locks_held() {
        let lock = crate::Lock::new(crate::labels::LockClass::TestOuter, ());
        let (beat, _held) = (crate::Beat::task(Loop::Test, 910), lock.lock());
        beat.phase(crate::labels::Phase::Apply);
        let scrape = std::thread::spawn(render);
        let text = scrape.join().expect("no panic");
        let held =
            text.lines().find(|l| l.contains("lock_held_oldest_seconds{class=\"test_outer\"}"));
        assert!(held.is_some_and(|line| !line.ends_with(" 0")), "{held:?}");
    }
}
