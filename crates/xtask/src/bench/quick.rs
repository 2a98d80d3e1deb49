//! `bench --quick`: a first look at speed, honest about its surroundings. Producing is measured
//! with Kafka's own tool; the device's own sync time is measured in the same run on the same
//! file system, because on a shared machine one means nothing without the other.

use std::fs;
use std::time::Instant;

use serde_json::json;

use super::disk::{Syncs, sync_times};
use crate::clients::{self, Client, Performance};
use crate::cluster::Cluster;
use crate::{test, workspace};

const PARTITIONS: i32 = 9;
/// (name, records, bytes, records a second or -1, producer properties)
const CASES: [Case; 4] = [
    ("warm-up", 50_000, 1024, -1, &[]),
    ("as fast as it goes, 1 KiB", 300_000, 1024, -1, &["linger.ms=5", "batch.size=65536"]),
    ("10,000/s, 1 KiB", 100_000, 1024, 10_000, &["linger.ms=5"]),
    ("500/s, 1 KiB, unbatched", 5_000, 1024, 500, &["linger.ms=0"]),
];

type Case = (&'static str, u64, u64, i64, &'static [&'static str]);

/// Measures, prints a table, and writes `bench/quick.json` into the build directory.
pub fn run() -> Result<(), String> {
    test::programs()?;
    clients::prepare(Client::Java)?;
    let mut cluster = Cluster::start("bench")?;
    let dir = workspace::target().join("bench");
    fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let before = sync_times(cluster.dir())?;
    let mut rows = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let row = measure(&cluster, &format!("bench-{number}"), case)?;
        cluster.assert_alive()?;
        if number > 0 {
            rows.push((case, row));
        }
    }
    let after = sync_times(cluster.dir())?;
    cluster.stop()?;
    print_table(&rows, before, after);
    let json = json!({
        "journal_sync": "group",
        "replicas": 3,
        "acks": "all",
        "fdatasync_ms": {"before": before.json(), "after": after.json()},
        "cases": rows.iter().map(|(case, row)| row.json(case)).collect::<Vec<_>>(),
    });
    let path = dir.join("quick.json");
    fs::write(&path, format!("{json:#}\n")).map_err(|error| error.to_string())?;
    println!("\n{}", path.display());
    cluster.remove();
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Row {
    found: Performance,
    cpu_us_per_record: f64,
    cores: f64,
}

impl Row {
    fn json(&self, (name, records, bytes, rate, properties): &Case) -> serde_json::Value {
        json!({
            "name": name, "records": records, "record_bytes": bytes, "rate": rate,
            "producer": properties,
            "records_per_second": self.found.records_per_second,
            "mib_per_second": mib(self.found.records_per_second, *bytes),
            "latency_ms": {
                "mean": self.found.mean_ms, "p50": self.found.p50_ms, "p99": self.found.p99_ms,
                "p999": self.found.p999_ms, "max": self.found.max_ms,
            },
            "brokers_cpu_us_per_record": self.cpu_us_per_record,
            "brokers_cores": self.cores,
        })
    }
}

fn mib(records_per_second: f64, bytes: u64) -> f64 {
    records_per_second * bytes as f64 / f64::from(1 << 20)
}

fn measure(cluster: &Cluster, topic: &str, case: &Case) -> Result<Row, String> {
    let (name, records, bytes, rate, properties) = *case;
    println!("measuring: {name}");
    cluster.create_topic(topic, PARTITIONS)?;
    let (cpu, start) = (cluster.cpu_seconds()?, Instant::now());
    let found = clients::producer_performance(
        &cluster.bootstrap(),
        topic,
        (records, bytes, rate),
        properties,
        cluster.dir(),
    )?;
    let (cpu, seconds) = (cluster.cpu_seconds()? - cpu, start.elapsed().as_secs_f64());
    Ok(Row { found, cpu_us_per_record: cpu * 1e6 / records as f64, cores: cpu / seconds })
}

fn print_table(rows: &[(&Case, Row)], before: Syncs, after: Syncs) {
    println!("\nThree brokers, their clients and this program share this machine's cores.");
    println!("acks=all, 3 replicas, journal.sync = group (every record synced before its ack)");
    println!(
        "fdatasync of one 4 KiB block: p50 {:.2} ms, p99 {:.2} ms before; {:.2} and {:.2} after\n",
        before.p50_ms, before.p99_ms, after.p50_ms, after.p99_ms
    );
    println!(
        "{:<28}{:>10}{:>8}{:>9}{:>9}{:>9}{:>12}{:>7}",
        "", "records/s", "MiB/s", "p50 ms", "p99 ms", "max ms", "cpu us/rec", "cores"
    );
    for ((name, _, bytes, _, _), row) in rows {
        println!(
            "{name:<28}{:>10.0}{:>8.1}{:>9.1}{:>9.1}{:>9.1}{:>12.1}{:>7.2}",
            row.found.records_per_second,
            mib(row.found.records_per_second, *bytes),
            row.found.p50_ms,
            row.found.p99_ms,
            row.found.max_ms,
            row.cpu_us_per_record,
            row.cores
        );
    }
}
