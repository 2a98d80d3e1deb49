//! The parts of a measurement of one system, in order; each adds its figures.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::disk;
use super::report::Readings;
use super::subject::Subject;
use crate::cases::failover;
use crate::clients;
use crate::cluster::Cluster;
use crate::job::Job;
use crate::workspace;

const FEW: i32 = 9;
const MANY: i32 = 1_000;
const FAILOVER_PARTITIONS: i32 = 50;
/// Long enough for the slowest recovery seen of Apache Kafka.
const FAILOVER_SECONDS: u64 = 25;
const LIMIT: Duration = Duration::from_secs(240);
const IDLE: Duration = Duration::from_secs(10);
/// After topics were made, before idleness is measured.
const SETTLE: Duration = Duration::from_secs(5);
const RATES: [u64; 2] = [500, 5_000];
const LARGE: u64 = 256 << 10;
/// (bytes of a record, large client batches, records a second that such a run is sized for)
const SHAPES: [(u64, bool, u64); 4] =
    [(100, false, 60_000), (100, true, 300_000), (1024, false, 20_000), (1024, true, 50_000)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Start,
    Idle,
    Throughput,
    Latency,
    Consume,
    Many,
    Failover,
}

impl Part {
    pub const ALL: [Part; 7] = [
        Part::Start,
        Part::Idle,
        Part::Latency,
        Part::Throughput,
        Part::Consume,
        Part::Failover,
        Part::Many,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Part::Start => "start",
            Part::Idle => "idle",
            Part::Throughput => "throughput",
            Part::Latency => "latency",
            Part::Consume => "consume",
            Part::Many => "many",
            Part::Failover => "failover",
        }
    }
}

pub struct Plan<'a> {
    pub parts: &'a [Part],
    /// How long one run of a client should take, about.
    pub seconds: Duration,
}

/// Starts a system, measures the parts, stops it.
pub fn measure(subject: Subject, plan: &Plan<'_>, found: &mut Readings<'_>) -> Result<(), String> {
    let mut cluster = subject.prepare()?;
    let syncs = disk::sync_times(cluster.dir())?;
    found.add("the disk's own fdatasync p50, ms", syncs.p50_ms);
    found.add("the disk's own fdatasync p99, ms", syncs.p99_ms);
    let started_us = wall_us();
    cluster.launch_all()?;
    let first = first_ack(&cluster)?;
    let ms = first.saturating_sub(started_us) as f64 / 1000.0;
    if plan.parts.contains(&Part::Start) {
        found.add("start to first ack, ms", ms);
    }
    for part in Part::ALL.into_iter().filter(|part| plan.parts.contains(part)) {
        match part {
            Part::Start => {}
            Part::Idle => idle(&cluster, "9 partitions", found)?,
            Part::Throughput => throughput(&cluster, plan.seconds, found)?,
            Part::Latency => latency(&cluster, plan.seconds, found)?,
            Part::Consume => consume(&cluster, plan.seconds, found)?,
            Part::Many => many(&cluster, plan.seconds, found)?,
            Part::Failover => fail_over(&mut cluster, found)?,
        }
        cluster.assert_alive()?;
    }
    found.add("memory of the three at the end, MB PSS", cluster.pss_bytes()? / 1e6);
    cluster.remove();
    Ok(())
}

/// The wall clock at the first acknowledgement, microseconds.
fn first_ack(cluster: &Cluster) -> Result<u64, String> {
    const TOPIC: &str = "first";
    let start = Instant::now();
    while cluster.try_create_topic(TOPIC, FEW).is_err() {
        if start.elapsed() > LIMIT {
            return Err("no topic could be created".to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster.wait_led(TOPIC, FEW)?;
    let acks = failover::parse(&probe(cluster, TOPIC, FEW, 1)?.wait(LIMIT)?)?;
    acks.iter().map(|ack| ack.acked_us).min().ok_or_else(|| "no acknowledgement".to_owned())
}

fn probe(cluster: &Cluster, topic: &str, partitions: i32, seconds: u64) -> Result<Job, String> {
    let mut command = rdkafka(&["probe", &cluster.bootstrap(), topic]);
    command.args([partitions.to_string(), seconds.to_string(), "attentive".to_owned()]);
    Job::spawn("probe", command, cluster.dir())
}

pub fn rdkafka(args: &[&str]) -> Command {
    let mut command = Command::new(workspace::program("client-rdkafka"));
    command.args(args);
    command
}

fn idle(cluster: &Cluster, what: &str, found: &mut Readings<'_>) -> Result<(), String> {
    std::thread::sleep(SETTLE);
    let (cpu, start) = (cluster.cpu_seconds()?, Instant::now());
    std::thread::sleep(IDLE);
    let cores = (cluster.cpu_seconds()? - cpu) / start.elapsed().as_secs_f64();
    found.add(&format!("idle with {what}: CPU of the three, % of a core"), cores * 100.0);
    found.add(&format!("idle with {what}: memory, MB PSS"), cluster.pss_bytes()? / 1e6);
    Ok(())
}

fn throughput(
    cluster: &Cluster,
    seconds: Duration,
    found: &mut Readings<'_>,
) -> Result<(), String> {
    for partitions in [1, 6] {
        for (bytes, large, rate) in SHAPES {
            let records = rate * seconds.as_secs();
            let batches = if large { "256 KiB batches" } else { "client defaults" };
            let what = format!("{bytes} B, {batches}, {partitions} partitions");
            let topic = format!("java-{partitions}-{bytes}-{large}");
            cluster.create_topic(&topic, partitions)?;
            java(cluster, &topic, (records, bytes, large), &format!("Java: {what}"), found)?;
            let topic = format!("rdkafka-{partitions}-{bytes}-{large}");
            cluster.create_topic(&topic, partitions)?;
            let batch = if large { LARGE } else { 0 };
            let (cpu, ran) =
                (cluster.cpu_seconds()?, flood(cluster, &topic, [bytes, records, 0, batch])?);
            let cpu = cluster.cpu_seconds()? - cpu;
            found.add(&format!("librdkafka: {what}, records/s"), records as f64 / ran[1]);
            found.add(
                &format!("librdkafka: {what}, broker CPU us/record"),
                cpu * 1e6 / records as f64,
            );
        }
    }
    Ok(())
}

fn java(
    cluster: &Cluster,
    topic: &str,
    (records, bytes, large): (u64, u64, bool),
    what: &str,
    found: &mut Readings<'_>,
) -> Result<(), String> {
    let batch = format!("batch.size={LARGE}");
    let properties: &[&str] = if large { &[&batch] } else { &[] };
    let cpu = cluster.cpu_seconds()?;
    let load = (records, bytes, -1);
    let ran = clients::producer_performance(
        &cluster.bootstrap(),
        topic,
        load,
        properties,
        cluster.dir(),
    )?;
    let cpu = cluster.cpu_seconds()? - cpu;
    found.add(&format!("{what}, records/s"), ran.records_per_second);
    found.add(&format!("{what}, broker CPU us/record"), cpu * 1e6 / records as f64);
    Ok(())
}

/// `[records, seconds, p50 us, p99 us, p99.9 us, max us]`.
fn flood(cluster: &Cluster, topic: &str, shape: [u64; 4]) -> Result<Vec<f64>, String> {
    let mut command = rdkafka(&["flood", &cluster.bootstrap(), topic]);
    command.args(shape.map(|number| number.to_string()));
    numbers(&Job::spawn("flood", command, cluster.dir())?.wait(LIMIT)?, 6)
}

fn numbers(text: &str, count: usize) -> Result<Vec<f64>, String> {
    let found: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    if found.len() == count { Ok(found) } else { Err(format!("not understood: {text}")) }
}

/// One record per request, at a rate.
fn latency(cluster: &Cluster, seconds: Duration, found: &mut Readings<'_>) -> Result<(), String> {
    const SINGLE: [&str; 2] = ["linger.ms=0", "batch.size=1"];
    cluster.create_topic("latency", 6)?;
    // What is met for the first time is not measured.
    flood(cluster, "latency", [1024, 2_000, 0, 1])?;
    for rate in RATES {
        let records = rate * seconds.as_secs() * 2;
        let ran = flood(cluster, "latency", [1024, records, rate, 1])?;
        let what = format!("librdkafka: {rate} single-record requests/s");
        for (name, us) in ["p50", "p99", "p99.9"].into_iter().zip(&ran[2..5]) {
            found.add(&format!("{what}, {name} ms"), us / 1000.0);
        }
        let (cpu, load) = (cluster.cpu_seconds()?, (records, 1024, rate.cast_signed()));
        let bootstrap = cluster.bootstrap();
        let ran =
            clients::producer_performance(&bootstrap, "latency", load, &SINGLE, cluster.dir())?;
        let cpu = cluster.cpu_seconds()? - cpu;
        let what = format!("Java: {rate} single-record requests/s");
        found.add(&format!("{what}, reached /s"), ran.records_per_second);
        for (name, ms) in [("p50", ran.p50_ms), ("p99", ran.p99_ms), ("p99.9", ran.p999_ms)] {
            found.add(&format!("{what}, {name} ms"), ms);
        }
        // The tool sends a second's worth before it measures.
        let sent = (records + rate) as f64;
        found.add(&format!("{what}, broker CPU us/record"), cpu * 1e6 / sent);
    }
    Ok(())
}

/// Hot: just written. Cold: its pages given back to the disk before.
fn consume(cluster: &Cluster, seconds: Duration, found: &mut Readings<'_>) -> Result<(), String> {
    const BYTES: u64 = 1024;
    let records = 60_000 * seconds.as_secs();
    cluster.create_topic("consume", 6)?;
    flood(cluster, "consume", [BYTES, records, 0, LARGE])?;
    for temperature in ["hot", "cold"] {
        if temperature == "cold" {
            forget_pages(cluster)?;
        }
        let command = rdkafka(&["drain", &cluster.bootstrap(), "consume"]);
        let cpu = cluster.cpu_seconds()?;
        let ran = numbers(&Job::spawn("drain", command, cluster.dir())?.wait(LIMIT)?, 3)?;
        let cpu = cluster.cpu_seconds()? - cpu;
        let what = format!("librdkafka: consume 1 KiB, {temperature}");
        found.add(&format!("{what}, records/s"), ran[0] / ran[2]);
        found.add(&format!("{what}, broker CPU us/record"), cpu * 1e6 / ran[0]);
    }
    Ok(())
}

/// Drops the page cache of every file the brokers keep.
fn forget_pages(cluster: &Cluster) -> Result<(), String> {
    let mut folders: Vec<PathBuf> = cluster.ids().iter().map(|id| cluster.data_dir(*id)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| error.to_string())? {
            let path = entry.map_err(|error| error.to_string())?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // Dirty pages stay: they are written first, then given back.
            let file = fs::File::open(&path).and_then(|file| file.sync_all());
            let mut forget = Command::new("dd");
            forget.arg(format!("if={}", path.display())).args([
                "iflag=nocache",
                "count=0",
                "status=none",
            ]);
            if file.is_ok() && !forget.status().is_ok_and(|status| status.success()) {
                return Err(format!("{}: its pages stay", path.display()));
            }
        }
    }
    Ok(())
}

/// A thousand partitions: what they cost when nothing happens, and what is left when it does.
fn many(cluster: &Cluster, seconds: Duration, found: &mut Readings<'_>) -> Result<(), String> {
    let start = Instant::now();
    cluster.create_topic("many", MANY)?;
    found.add("1,000 partitions: until all are led, s", start.elapsed().as_secs_f64());
    idle(cluster, "1,000 partitions", found)?;
    for (bytes, large, rate) in SHAPES {
        let records = rate / 4 * seconds.as_secs();
        let batches = if large { "256 KiB batches" } else { "client defaults" };
        let what = format!("Java: {bytes} B, {batches}, 1,000 partitions");
        java(cluster, "many", (records, bytes, large), &what, found)?;
    }
    Ok(())
}

/// `kill -9` of a leader, until the last partition that it led acknowledges again.
fn fail_over(cluster: &mut Cluster, found: &mut Readings<'_>) -> Result<(), String> {
    const TOPIC: &str = "failover";
    cluster.create_topic(TOPIC, FAILOVER_PARTITIONS)?;
    let probe = probe(cluster, TOPIC, FAILOVER_PARTITIONS, FAILOVER_SECONDS)?;
    std::thread::sleep(Duration::from_secs(3));
    let victim = cluster.leader(TOPIC, 0)?;
    let led = cluster.partitions(TOPIC)?;
    let led: Vec<i32> = led.iter().filter(|p| p.leader == victim).map(|p| p.index).collect();
    let killed_us = wall_us();
    cluster.kill(victim)?;
    let acks = failover::parse(&probe.wait(LIMIT)?)?;
    let slowest = failover::slowest_ms(&acks, &led, killed_us)?;
    found.add("kill -9 of a leader to the next ack of its last partition, ms", slowest);
    cluster.launch(victim)?;
    cluster.wait_ready()?;
    // The next part meets three brokers that have caught up.
    cluster.wait_led(TOPIC, FAILOVER_PARTITIONS)?;
    std::thread::sleep(SETTLE);
    Ok(())
}

fn wall_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("the clock is past 1970").as_micros()).expect("fits until 586,912")
}
