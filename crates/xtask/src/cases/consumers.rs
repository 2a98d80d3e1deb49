//! What is shown of a topic and of a consumer group by name: a producer writes, a group reads all of
//! it and stops, the producer goes on, the group comes back. Each time the series must say to the
//! record what the partitions themselves say, though most of them are led by other brokers than the
//! one that coordinates the group.

use std::time::{Duration, Instant};

use crate::clients::{self, Client, Member};
use crate::cluster::kafka::Kafka;
use crate::cluster::{Cluster, http};
use crate::tally::Tally;

/// The topic, and as of all members here the name of its group.
const TOPIC: &str = "behind";
/// Nobody writes or reads it: its row is there all the same.
const IDLE: &str = "idle";
const PARTITIONS: i32 = 6;
/// With librdkafka, a real client that is built from this workspace's own dependencies.
const CLIENT: Client = Client::Rdkafka;
const FIRST: u64 = 3_000;
const SECOND: u64 = 2_345;
const RATE: u64 = 2_000;
const PRODUCE_LIMIT: Duration = Duration::from_secs(120);
/// From the last record or commit to a series that says so: it is gathered every two seconds.
const SHOWN_LIMIT: Duration = Duration::from_secs(15);
const READ_LIMIT: Duration = Duration::from_secs(60);
/// A number that must not change: over three looks.
const STAYS: Duration = Duration::from_secs(7);
const POLL: Duration = Duration::from_millis(200);
const LAG: &str = "glasslog_consumer_group_lag_records";
const LAG_MAX: &str = "glasslog_consumer_group_lag_records_max";
const UNKNOWN: &str = "glasslog_consumer_group_unknown_partitions";
/// Of a broker as a whole, and of a topic there.
const TRAFFIC: [(&str, &str); 3] = [
    ("glasslog_records_in_total", "glasslog_topic_records_in_total"),
    ("glasslog_bytes_in_total", "glasslog_topic_bytes_in_total"),
    ("glasslog_bytes_out_total", "glasslog_topic_bytes_out_total"),
];
const ERRORS: &str = "glasslog_topic_errors_total";
const NOT_LEADER: i16 = 6;
const SERIES_MAX: f64 = 3_000.0;

/// Runs the story.
pub fn run(tally: &mut Tally) {
    if let Err(why) = clients::prepare(CLIENT) {
        return tally.skip("lag of a consumer group", &why);
    }
    let mut cluster = None;
    tally.check("a cluster with a topic to lag behind", || {
        let started = Cluster::start("consumers")?;
        started.create_topic(TOPIC, PARTITIONS)?;
        started.create_topic(IDLE, 1)?;
        cluster = Some(started);
        Ok(String::new())
    });
    let Some(cluster) = cluster else { return };
    let failed = tally.failed;
    tally.check("what a producer sent is in its topic's row, to the record", || sent(&cluster));
    tally.check("a group that has read everything lacks nothing", || reads(&cluster, FIRST));
    tally.check("a group that stopped lacks exactly what came since", || stops(&cluster));
    tally.check("it comes back, and drains to nothing", || reads(&cluster, FIRST + SECOND));
    tally.check("a producer that is refused is an error of its topic", || refused(&cluster));
    tally.check("rows of topics add up to the broker's own numbers", || adds_up(&cluster));
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

/// Looks until `look` is content; what it last complained about, else.
fn until<T>(limit: Duration, look: impl Fn() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        let found = look();
        if found.is_ok() || start.elapsed() > limit {
            return found;
        }
        std::thread::sleep(POLL);
    }
}

fn labelled(label: &str, name: &str) -> String {
    format!("{{{label}=\"{name}\"}}")
}

/// The sum over all brokers of the rows of one name.
fn of_topic(cluster: &Cluster, metric: &str, topic: &str) -> Result<f64, String> {
    let label = labelled("topic", topic);
    Ok(cluster.metrics()?.iter().map(|page| page.labelled(metric, &label)).sum())
}

fn produce(cluster: &Cluster, count: u64) -> Result<(), String> {
    let work = CLIENT.produce(&cluster.bootstrap(), TOPIC, count, RATE, cluster.dir())?;
    work.finish(PRODUCE_LIMIT).map(drop)
}

fn sent(cluster: &Cluster) -> Result<String, String> {
    until(SHOWN_LIMIT, || {
        let pages = cluster.metrics()?;
        let rows = pages.iter().map(|page| page.labelled(TRAFFIC[0].1, &labelled("topic", IDLE)));
        let there = |topic| {
            let row = format!("{}{} 0\n", TRAFFIC[0].1, labelled("topic", topic));
            let texts =
                cluster.ids().into_iter().map(|id| http::get(cluster.admin(id), "/metrics"));
            texts.map(|text| Ok(text?.1.contains(&row))).collect::<Result<Vec<bool>, String>>()
        };
        let all = [there(TOPIC)?, there(IDLE)?].concat();
        match rows.sum::<f64>() == 0.0 && all.iter().all(|there| *there) {
            true => Ok(()),
            false => Err("not every broker has a row of each topic before anything moved".into()),
        }
    })?;
    produce(cluster, FIRST)?;
    until(SHOWN_LIMIT, || match of_topic(cluster, TRAFFIC[0].1, TOPIC)? {
        records if records == FIRST as f64 => Ok(format!("{records} records")),
        records => Err(format!("{records} of {FIRST} records are in the topic's rows")),
    })
}

/// Reads up to the end, commits, and leaves.
fn reads(cluster: &Cluster, all: u64) -> Result<String, String> {
    let mut member = Member::start(CLIENT, &cluster.bootstrap(), TOPIC, "member", cluster.dir())?;
    let ends = cluster.high_watermarks(TOPIC)?;
    if ends.iter().sum::<i64>() != all as i64 {
        return Err(format!("the partitions end at {ends:?}, which is not {all} together"));
    }
    until(READ_LIMIT, || match cluster.committed(TOPIC, TOPIC, PARTITIONS)? {
        found if lags(&ends, &found)?.iter().all(|(_, lag)| *lag == 0) => Ok(()),
        found => Err(format!("committed {found:?} of {ends:?}")),
    })?;
    member.dismiss();
    member.finish()?;
    until(SHOWN_LIMIT, || lag_is(cluster, 0))
}

/// Partitions with what they lack. One without a key never got a record, and nobody commits there.
fn lags(ends: &[i64], committed: &[i64]) -> Result<Vec<(i64, i64)>, String> {
    let all = (0..).zip(ends.iter().zip(committed));
    let used: Vec<_> = all.filter(|(_, (end, at))| **end > 0 || **at >= 0).collect();
    match used.iter().all(|(_, (_, at))| **at >= 0) {
        true => Ok(used.into_iter().map(|(index, (end, at))| (index, end - at)).collect()),
        false => Err(format!("committed {committed:?} of {ends:?}")),
    }
}

/// All brokers' series and the coordinator's page say so, and say the same.
fn lag_is(cluster: &Cluster, wanted: i64) -> Result<String, String> {
    let coordinator = Kafka::connect(cluster.socket(cluster.ids()[0]))
        .and_then(|mut kafka| kafka.coordinator(TOPIC))
        .map_err(|error| error.to_string())?;
    let ends = cluster.high_watermarks(TOPIC)?;
    let committed = cluster.committed(TOPIC, TOPIC, PARTITIONS)?;
    let due = lags(&ends, &committed)?;
    let lags = || due.iter().map(|(_, lag)| *lag);
    let (sum, max) = (lags().sum::<i64>(), lags().max().unwrap_or(0));
    if sum != wanted {
        return Err(format!("the partitions lack {due:?}, which is not {wanted}"));
    }
    for (metric, wanted) in [(LAG, sum), (LAG_MAX, max)] {
        let row = format!("{metric}{} ", labelled("group", TOPIC));
        for id in cluster.ids() {
            let (_, text) = http::get(cluster.admin(id), "/metrics")?;
            let found = text.lines().find_map(|line| line.strip_prefix(row.as_str()));
            let due = (id == coordinator).then(|| wanted.to_string());
            if found != due.as_deref() {
                return Err(format!("broker {id} shows {found:?} as {metric}, not {due:?}"));
            }
        }
    }
    let unknown = cluster.metric_sum(UNKNOWN)?;
    if unknown != 0.0 {
        return Err(format!("{unknown} partitions without an end"));
    }
    let page = cluster.debug(coordinator, &format!("consumers?group={TOPIC}"))?;
    let partitions = page["partitions"].as_array().ok_or("the page has no partitions")?;
    let mut told: Vec<(i64, i64)> = Vec::new();
    for partition in partitions {
        let number = |key: &str| partition[key].as_i64().ok_or(format!("no {key}: {partition}"));
        told.push((number("partition")?, number("lag")?));
    }
    told.sort_unstable();
    if told != due || page["lag"] != sum {
        return Err(format!("/debug/consumers tells {page}, the partitions lack {due:?}"));
    }
    let all = cluster.partitions(TOPIC)?;
    let elsewhere = all.iter().filter(|partition| partition.leader != coordinator).count();
    if elsewhere < 2 {
        return Err(format!("{coordinator} coordinates, and leads too much: it proves nothing"));
    }
    Ok(format!("{sum} records, {elsewhere} of {PARTITIONS} partitions are led elsewhere"))
}

fn stops(cluster: &Cluster) -> Result<String, String> {
    produce(cluster, SECOND)?;
    until(SHOWN_LIMIT, || lag_is(cluster, SECOND as i64))?;
    let start = Instant::now();
    while start.elapsed() < STAYS {
        lag_is(cluster, SECOND as i64)?;
        std::thread::sleep(POLL);
    }
    let records = of_topic(cluster, TRAFFIC[0].1, TOPIC)?;
    if records != (FIRST + SECOND) as f64 {
        return Err(format!("{records} records are in the topic's rows"));
    }
    lag_is(cluster, SECOND as i64)
}

/// One record to a broker that does not lead its partition.
fn refused(cluster: &Cluster) -> Result<String, String> {
    let leader = cluster.leader(TOPIC, 0)?;
    let other = cluster.ids().into_iter().find(|id| *id != leader).ok_or("one broker")?;
    let errors = |id: i32| {
        let page = cluster.metrics_of(id)?;
        Ok::<f64, String>(page.labelled(ERRORS, &labelled("topic", TOPIC)))
    };
    let before = errors(other)?;
    let answer = Kafka::connect(cluster.socket(other))
        .and_then(|mut kafka| kafka.produce(TOPIC, 0, b"refused"))
        .map_err(|error| error.to_string())?;
    if answer != NOT_LEADER {
        return Err(format!("broker {other} answered with {answer}"));
    }
    until(SHOWN_LIMIT, || match errors(other)? {
        now if now == before + 1.0 => Ok(String::new()),
        now => Err(format!("{now} errors after {before}")),
    })
}

/// At rest nothing is lost between a broker's own numbers and its topics'.
fn adds_up(cluster: &Cluster) -> Result<String, String> {
    until(SHOWN_LIMIT, || {
        for page in cluster.metrics()? {
            for (whole, by_topic) in TRAFFIC {
                let (whole_sum, rows) = (page.sum(whole)?, page.sum(by_topic)?);
                if whole_sum != rows {
                    return Err(format!("{whole} is {whole_sum}, its topics are {rows}"));
                }
            }
            let series = page.sum("glasslog_metrics_series")?;
            if series > SERIES_MAX {
                return Err(format!("{series} series"));
            }
        }
        let (took, gave) =
            (of_topic(cluster, TRAFFIC[1].1, TOPIC)?, of_topic(cluster, TRAFFIC[2].1, TOPIC)?);
        match took > 0.0 && gave >= took {
            true => Ok(format!("{took} bytes in, {gave} out")),
            false => Err(format!("{took} bytes in, {gave} out: all of it was read")),
        }
    })
}
