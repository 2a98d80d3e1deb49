//! Kafka's own producer-perf-test and what it says in its last line.

use std::path::Path;

use super::{READ_LIMIT, java};
use crate::job::Job;

/// What `ProducerPerformance` says in its last line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Performance {
    pub records: u64,
    pub records_per_second: f64,
    pub mean_ms: f64,
    pub max_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
}

/// Kafka's own producer-perf-test: `records` of `bytes` bytes, `rate` a second (-1: as fast as
/// it goes), with acks=all. At a rate, a second's worth of records goes before that is not
/// measured: a client's first requests wait for its connections.
pub fn producer_performance(
    bootstrap: &str,
    topic: &str,
    (records, bytes, rate): (u64, u64, i64),
    properties: &[&str],
    dir: &Path,
) -> Result<Performance, String> {
    let mut command = java("org.apache.kafka.tools.ProducerPerformance");
    let warm_up = u64::try_from(rate).unwrap_or(0);
    command.args(["--topic", topic, "--num-records", &(records + warm_up).to_string()]);
    if warm_up > 0 {
        command.args(["--warmup-records", &warm_up.to_string()]);
    }
    command.args(["--record-size", &bytes.to_string()]);
    command.args(["--throughput", &rate.to_string(), "--producer-props"]);
    command.args([&format!("bootstrap.servers={bootstrap}"), "acks=all"]);
    command.args(properties);
    let text = Job::spawn("producer-performance", command, dir)?.wait(READ_LIMIT)?;
    let last = text.lines().rfind(|line| line.contains("99.9th"));
    let last = last.ok_or_else(|| format!("producer-perf-test printed no summary: {text}"))?;
    let found = parse_performance(last).ok_or_else(|| format!("not understood: {last}"))?;
    if found.records != records {
        return Err(format!("producer-perf-test: {} of {records}", found.records));
    }
    Ok(found)
}

fn parse_performance(line: &str) -> Option<Performance> {
    let parts: Vec<&str> = line.split(", ").collect();
    let first = |part: &str| part.split_whitespace().next()?.parse::<f64>().ok();
    let named = |name: &str| first(parts.iter().find(|part| part.contains(name))?);
    Some(Performance {
        records: parts.first()?.split_whitespace().next()?.parse().ok()?,
        records_per_second: named("records/sec")?,
        mean_ms: named("avg latency")?,
        max_ms: named("max latency")?,
        p50_ms: named(" 50th")?,
        p99_ms: named(" 99th")?,
        p999_ms: named("99.9th")?,
    })
}

#[cfg(test)]
mod tests {
    use super::parse_performance;

    #[test]
    fn the_last_line_of_the_performance_tool_is_read() {
        let line = "5000 records sent, 3943.217666 records/sec (3.85 MB/sec), 107.58 ms avg latency, \
                    709.00 ms max latency, 113 ms 50th, 182 ms 95th, 191 ms 99th, 198 ms 99.9th.";
        let found = parse_performance(line).expect("understood");
        assert_eq!(found.records, 5000);
        assert_eq!((found.p50_ms, found.p99_ms, found.p999_ms), (113.0, 191.0, 198.0));
        assert_eq!((found.mean_ms, found.max_ms), (107.58, 709.0));
        assert!(parse_performance("nothing").is_none());
    }
}
