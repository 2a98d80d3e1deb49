//! Traces of real brokers, as a real collector receives them: a produce whose record carries a
//! caller's `traceparent`, and one that is slow because both followers stand still, with nobody
//! knowing beforehand. Each must cross all three brokers, and its stages must add up.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, http};
use crate::collector::{Collector, Span};
use crate::job::Job;
use crate::tally::Tally;
use crate::workspace;

const TOPIC: &str = "traced";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);
/// Shorter than leaders are patient with silent followers, longer than what counts as slow.
const STILL: Duration = Duration::from_millis(1_000);
/// A client's way to its first record.
const CONNECT: Duration = Duration::from_millis(500);
const SLOW_MS: f64 = 500.0;
/// OTLP's name of a span that serves a request.
const SERVER: &str = "SPAN_KIND_SERVER";
/// The stages of a produce may miss its whole by so much.
const MISS: f64 = 0.05;
const STAGES: [&str; 9] = [
    "parse",
    "queue",
    "propose",
    "journal.append",
    "journal.fsync",
    "replicate.wait",
    "commit",
    "apply",
    "ack",
];

/// Runs the story.
pub fn run(tally: &mut Tally) {
    let mut stage = None;
    tally.check("three brokers that send traces to a collector", || {
        let collector = Collector::start(&workspace::target().join("clusters/traces-received"))?;
        let endpoint = endpoint(&collector);
        let cluster = Cluster::start_with("traces", &[&endpoint])?;
        cluster.create_topic(TOPIC, 1)?;
        stage = Some((cluster, collector));
        Ok(String::new())
    });
    let Some((mut cluster, collector)) = stage else { return };
    let failed = tally.failed;
    tally.check("traces: the elections of the start are told", || elections(&collector));
    tally.check("traces: a caller's record leads to a trace over three brokers", || {
        called(&cluster, &collector)
    });
    tally.check("traces: a slow produce is kept unasked, over three brokers", || {
        slow(&mut cluster, &collector)
    });
    tally.check("traces: drawn fetches wait, read, and ask for the lease", || drawn(&collector));
    tally.check("traces: OpenMetrics leads from a bucket to a trace", || {
        exemplars(&cluster, &collector)
    });
    tally.check("traces: a collector that is gone costs spans and nothing else", || {
        drop(collector);
        gone(&mut cluster)
    });
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

fn endpoint(collector: &Collector) -> String {
    // TOML wants names with dots in quotes.
    format!("\"tracing.otlp.endpoint\" = \"{}\"", collector.endpoint())
}

fn elections(collector: &Collector) -> Result<String, String> {
    let won = |span: &Span| {
        span.name() == "election" && span.attribute("glasslog.election.outcome") == "won"
    };
    let span = collector.wait("an election that was won", LIMIT, won)?;
    let ballots = span.attribute("glasslog.election.ballots");
    if !ballots.contains("granted") {
        return Err(format!("who voted? {span:?}"));
    }
    Ok(format!("{}: {ballots}", span.attribute("glasslog.group.name")))
}

/// librdkafka with one record to send, headers included.
fn produce(cluster: &Cluster, name: &str, headers: &[&str]) -> Result<Job, String> {
    let mut job = producer(cluster, name, &cluster.bootstrap(), headers)?;
    feed(&mut job)?;
    Ok(job)
}

/// librdkafka that connects and waits for its record.
fn producer(
    cluster: &Cluster,
    name: &str,
    bootstrap: &str,
    headers: &[&str],
) -> Result<Job, String> {
    let mut command = Command::new("kcat");
    command.args(["-P", "-E", "-b", bootstrap, "-t", TOPIC, "-p", "0"]);
    command.args(["-X", "acks=all", "-X", "client.id=storyteller"]);
    for header in headers {
        command.args(["-H", header]);
    }
    command.stdin(Stdio::piped());
    Job::spawn(name, command, cluster.dir())
}

/// Its record, and that there will be no other.
fn feed(job: &mut Job) -> Result<(), String> {
    let mut input = job.stdin().ok_or("no standard input")?;
    std::io::Write::write_all(&mut input, b"a record\n").map_err(|error| error.to_string())
}

fn called(cluster: &Cluster, collector: &Collector) -> Result<String, String> {
    let header = format!("traceparent=00-{TRACE}-{CALLER}-01");
    produce(cluster, "called", &["colour=blue", &header])?.wait(LIMIT)?;
    let from_caller = |span: &Span| span.links() == [(TRACE, CALLER)];
    let root = collector.wait("one with a link to the caller", LIMIT, from_caller)?;
    if root.attribute("glasslog.kept") != "caller" {
        return Err(format!("kept for another reason: {root:?}"));
    }
    conventions(&root)?;
    let told = whole(cluster, collector, &root)?;
    // Without the header, and with one that is not sampled, nothing is kept.
    let before = roots(collector).len();
    produce(cluster, "plain", &[])?.wait(LIMIT)?;
    let unsampled = format!("traceparent=00-{TRACE}-{CALLER}-00");
    produce(cluster, "unsampled", &[&unsampled])?.wait(LIMIT)?;
    produce(cluster, "garbled", &["traceparent=00-what-is-this"])?.wait(LIMIT)?;
    std::thread::sleep(Duration::from_millis(800));
    let quick = |span: &&Span| span.attribute("glasslog.kept") != "slow";
    let after = roots(collector);
    let more: Vec<&Span> = after.iter().skip(before).filter(quick).collect();
    if !more.is_empty() {
        return Err(format!("kept without a reason: {more:?}"));
    }
    Ok(told)
}

fn roots(collector: &Collector) -> Vec<Span> {
    let produced =
        |span: &Span| span.parent().is_empty() && span.name() == format!("produce {TOPIC}");
    collector.spans().into_iter().filter(produced).collect()
}

fn conventions(root: &Span) -> Result<(), String> {
    let wanted = [
        ("messaging.system", "kafka"),
        ("messaging.operation.name", "produce"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", TOPIC),
        ("messaging.destination.partition.id", "0"),
        ("messaging.client.id", "storyteller"),
        ("messaging.kafka.offset", "0"),
    ];
    let odd: Vec<_> = wanted.iter().filter(|(key, is)| root.attribute(key) != *is).collect();
    if root.kind() != SERVER || root.name() != format!("produce {TOPIC}") || !odd.is_empty() {
        return Err(format!("{odd:?} are not so: {root:?}"));
    }
    Ok(())
}

/// Checks a produce's trace: stages that add up, and the part of every broker.
fn whole(cluster: &Cluster, collector: &Collector, root: &Span) -> Result<String, String> {
    let leader = cluster.leader(TOPIC, 0)?.to_string();
    let start = Instant::now();
    let spans = loop {
        let spans = collector.trace(root.trace());
        match complete(&spans, &leader) {
            Ok(()) => break spans,
            Err(why) if start.elapsed() > LIMIT => return Err(why),
            Err(_) => std::thread::sleep(POLL),
        }
    };
    if root.broker() != leader {
        return Err(format!("broker {leader} leads: {root:?}"));
    }
    let stages: Vec<&Span> =
        spans.iter().filter(|s| s.parent() == root.id() && is_stage(s)).collect();
    let sum: u64 = stages.iter().map(|span| span.ns()).sum();
    let miss = (sum as f64 - root.ns() as f64).abs() / root.ns() as f64;
    let unknown = stages.iter().find(|span| !STAGES.contains(&span.name()));
    if miss > MISS || stages.len() < 6 || unknown.is_some() {
        return Err(format!("{sum} ns of {} in {} stages: {stages:#?}", root.ns(), stages.len()));
    }
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id()).collect();
    let lost = spans.iter().find(|s| !s.parent().is_empty() && !ids.contains(s.parent()));
    if let Some(lost) = lost {
        return Err(format!("a span whose parent is missing: {lost:?}"));
    }
    let longest = stages.iter().max_by_key(|span| span.ns()).ok_or("no stages")?;
    Ok(format!(
        "{} spans; {:.1} ms, its stages miss it by {:.2} %; longest: {} {:.1} ms",
        spans.len(),
        root.ns() as f64 / 1e6,
        miss * 100.0,
        longest.name(),
        longest.ns() as f64 / 1e6
    ))
}

fn is_stage(span: &Span) -> bool {
    !span.attribute("glasslog.stage").is_empty()
}

/// The leader's replication to each follower, and each follower's own journal.
fn complete(spans: &[Span], leader: &str) -> Result<(), String> {
    let told: Vec<String> = spans.iter().map(|s| format!("{}: {}", s.broker(), s.name())).collect();
    let brokers: BTreeSet<&str> = spans.iter().map(|span| span.broker()).collect();
    for follower in ["1", "2", "3"].into_iter().filter(|id| *id != leader) {
        let to = |s: &&Span| s.name() == "replicate" && s.attribute("glasslog.peer.id") == follower;
        let sent = spans.iter().find(to);
        let own = ["replica", "append", "journal.append", "journal.fsync", "apply.batch"];
        let has = |name: &str| spans.iter().any(|s| s.broker() == follower && s.name() == name);
        if sent.is_none_or(|span| span.attribute("glasslog.acknowledged") != "true")
            || !own.iter().all(|name| has(name))
        {
            return Err(format!("what of broker {follower}? {told:?}"));
        }
    }
    let led = |name: &str| spans.iter().any(|s| s.broker() == leader && s.name() == name);
    if brokers.len() != 3 || !led("raft.turn") || !led("apply.batch") {
        return Err(format!("the leader's part: {told:?}"));
    }
    Ok(())
}

fn slow(cluster: &mut Cluster, collector: &Collector) -> Result<String, String> {
    let leader = cluster.leader(TOPIC, 0)?;
    let followers: Vec<i32> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let before: BTreeSet<String> =
        roots(collector).into_iter().map(|root| root.trace().to_owned()).collect();
    // Connected before, and to the leader alone: a stopped broker would hold up the client.
    let mut job = producer(cluster, "slow", &cluster.address(leader), &[])?;
    std::thread::sleep(CONNECT);
    for id in &followers {
        cluster.signal(*id, "STOP")?;
    }
    let fed = feed(&mut job);
    std::thread::sleep(STILL);
    for id in &followers {
        cluster.signal(*id, "CONT")?;
    }
    fed?;
    job.wait(LIMIT)?;
    let fresh = |span: &Span| {
        span.attribute("glasslog.kept") == "slow"
            && span.parent().is_empty()
            && span.name() == format!("produce {TOPIC}")
            && !before.contains(span.trace())
    };
    let root = collector.wait("a slow produce", LIMIT, fresh)?;
    if !root.links().is_empty() || (root.ns() as f64) < SLOW_MS * 1e6 {
        return Err(format!("{root:?}"));
    }
    let told = whole(cluster, collector, &root)?;
    page(cluster, &root)?;
    Ok(told)
}

/// `/debug/requests` of the leader shows the same request.
fn page(cluster: &Cluster, root: &Span) -> Result<(), String> {
    let id: i32 = root.broker().parse().map_err(|_| format!("no broker: {root:?}"))?;
    let start = Instant::now();
    loop {
        let page = cluster.debug(id, "requests")?;
        let all = page["slowest"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|request| request["trace_id"] == root.trace());
        match found.map(|request| shown(request, root)) {
            Some(Ok(())) => return waterfall(&page),
            other if start.elapsed() > LIMIT => {
                return Err(format!("{other:?} on the page: {page:#}"));
            }
            _ => std::thread::sleep(POLL),
        }
    }
}

fn shown(request: &Value, root: &Span) -> Result<(), String> {
    let ms = |value: &Value| value.as_f64().unwrap_or(0.0);
    let stages = request["stages"].as_array().cloned().unwrap_or_default();
    let sum: f64 = stages.iter().map(|stage| ms(&stage["ms"])).sum();
    let total = ms(&request["total_ms"]);
    let peers = request["replicate"].as_array().cloned().unwrap_or_default();
    let fits = (total - root.ns() as f64 / 1e6).abs() < 0.1
        && (sum - total).abs() < total * MISS
        && request["topic"] == TOPIC
        && request["api"] == "produce"
        && request["correlation"].as_i64().is_some()
        && peers.len() == 2
        && peers.iter().all(|peer| ms(&peer["ms"]) > SLOW_MS / 2.0);
    if fits { Ok(()) } else { Err(format!("not as its trace: {request:#}")) }
}

fn waterfall(page: &Value) -> Result<(), String> {
    let p99 = &page["produce"]["p99"];
    let stages = p99["stages"].as_array().cloned().unwrap_or_default();
    let sum: f64 = stages.iter().filter_map(|stage| stage["ms"].as_f64()).sum();
    let whole = p99["ms"].as_f64().unwrap_or(0.0);
    if whole < SLOW_MS || (sum - whole).abs() > whole * MISS {
        return Err(format!("the slow one is the slowest of few: {}", page["produce"]));
    }
    Ok(())
}

/// Every request drawn: fetches that wait, that read, and one from beyond the end, which is
/// refused only after the leader made sure that it leads.
fn drawn(collector: &Collector) -> Result<String, String> {
    let extra = [endpoint(collector), "\"tracing.sample.one.in\" = 1".to_owned()];
    let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
    let cluster = Cluster::start_with("traces-drawn", &extra)?;
    cluster.create_topic(TOPIC, 1)?;
    let consume = |name: &str, words: &[&str]| {
        let mut command = Command::new("kcat");
        command.args(["-C", "-b", &cluster.bootstrap(), "-t", TOPIC, "-p", "0", "-c", "1"]);
        command.args(words).stdin(Stdio::null());
        Job::spawn(name, command, cluster.dir())
    };
    let waiting = consume("waiting", &["-o", "beginning"])?;
    std::thread::sleep(STILL);
    produce(&cluster, "drawn", &[])?.wait(LIMIT)?;
    waiting.wait(LIMIT)?;
    let reset = ["-o", "1000", "-X", "auto.offset.reset=earliest"];
    consume("beyond", &reset)?.wait(LIMIT)?;
    let fetch = format!("fetch {TOPIC}");
    let wait = collector.wait("a fetch that waited", LIMIT, |span| {
        span.name() == "wait" && span.ns() > 100_000_000
    })?;
    let root = collector.wait("its fetch", LIMIT, |span| span.id() == wait.parent())?;
    if root.name() != fetch || root.attribute("glasslog.kept") != "sampled" {
        return Err(format!("{root:?}"));
    }
    let check = collector.wait("a lease check", LIMIT, |span| span.name() == "lease.check")?;
    let read = collector.wait("its read", LIMIT, |span| span.id() == check.parent())?;
    if read.name() != "read" || read.ns() < check.ns() {
        return Err(format!("{read:?} {check:?}"));
    }
    let told = format!("a lease check of {:.2} ms", check.ns() as f64 / 1e6);
    cluster.remove();
    Ok(told)
}

fn exemplars(cluster: &Cluster, collector: &Collector) -> Result<String, String> {
    let leader = cluster.leader(TOPIC, 0)?;
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    let (status, head, body) = http::get_as(cluster.admin(leader), "/metrics", accept)?;
    if status != 200 || !head.contains("application/openmetrics-text; version=1.0.0") {
        return Err(format!("{status}: {head}"));
    }
    if !body.ends_with("# EOF\n") {
        return Err("it does not end as OpenMetrics does".into());
    }
    let whole = "glasslog_kafka_request_seconds_bucket{api=\"Produce\"";
    let lines: Vec<&str> = body.lines().filter(|line| line.contains(" # {trace_id=")).collect();
    let of_produce = lines.iter().find(|line| line.starts_with(whole));
    let line = of_produce.ok_or_else(|| format!("no exemplar of {whole}: {lines:?}"))?;
    let id = line.split("trace_id=\"").nth(1).and_then(|rest| rest.split('"').next());
    let id = id.ok_or_else(|| format!("no id: {line}"))?;
    if collector.trace(id).is_empty() {
        return Err(format!("the collector does not know {id}"));
    }
    // Whoever does not ask gets what there always was.
    let (_, plain) = http::get(cluster.admin(leader), "/metrics")?;
    if plain.contains("# EOF") || plain.contains(" # {") {
        return Err("the default format changed".into());
    }
    Ok(format!("{} exemplars", lines.len()))
}

fn gone(cluster: &mut Cluster) -> Result<String, String> {
    let header = format!("traceparent=00-{TRACE}-{CALLER}-01");
    for name in ["gone-1", "gone-2"] {
        produce(cluster, name, &[&header])?.wait(LIMIT)?;
    }
    let start = Instant::now();
    loop {
        let mut lost = 0.0;
        for page in cluster.metrics()? {
            lost += page.labelled("glasslog_telemetry_dropped_total", "kind=\"span\"");
        }
        if lost > 0.0 {
            cluster.wait_ready()?;
            return Ok(format!("{lost} spans lost and counted"));
        }
        if start.elapsed() > LIMIT {
            return Err("no span is counted as lost".into());
        }
        std::thread::sleep(POLL);
    }
}
