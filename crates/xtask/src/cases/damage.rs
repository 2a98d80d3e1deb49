//! A disk that rots: two records of a broker's journal are flipped below what was synced. The
//! broker names the damage, its two replicas are replaced by new ones without help, the third is
//! left alone, and everything reads back, also with a new replica as leader.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clients::Client;
use crate::cluster::Cluster;
use crate::tally::Tally;
use crate::{oracle, segments};

const TOPIC: &str = "rotten";
const PARTITIONS: i32 = 3;
const RECORDS: u64 = 3_000;
const RATE: u64 = 3_000;
const ROTTEN: i32 = 3;
const EXTRA: [&str; 1] = ["leader.imbalance.check.interval.seconds = 2"];
const LIMIT: Duration = Duration::from_secs(60);
const PRODUCE_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// Layout of a journal's file; see `storage/src/journal/frame.rs`.
const MAGIC: &[u8] = b"GLJOURN\0";
const DATA_START: usize = 8_192;
const HEADER_BYTES: usize = 64;
const ALIGNED: usize = 8;
const APPEND: u8 = 2;

/// Runs the story.
pub fn run(tally: &mut Tally) {
    let mut cluster = None;
    let mut acked = Vec::new();
    tally.check("three brokers and records that are acknowledged", || {
        let started = Cluster::start_with("damage", &EXTRA)?;
        started.create_topic(TOPIC, PARTITIONS)?;
        let (bootstrap, dir) = (started.bootstrap(), started.dir());
        let producing = Client::Rdkafka.produce(&bootstrap, TOPIC, RECORDS, RATE, dir)?;
        acked = producing.finish(PRODUCE_LIMIT)?;
        cluster = Some(started);
        Ok(format!("{}", acked.len()))
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    let all = &mut cluster;
    let mut led = -1;
    let _ = tally.check("damage in a journal is named, and healed by new replicas", || {
        let found = all.partitions(TOPIC)?;
        let preferred = |p: &&crate::cluster::kafka::Partition| p.replicas.first() == Some(&ROTTEN);
        led = found.iter().find(preferred).ok_or("it is preferred nowhere")?.index;
        healed(all, [led, (led + 1) % PARTITIONS])
    }) && tally.check("everything reads back, with a new replica as leader", || {
        let time = until(all, "a new replica that leads", |all| {
            let leader = all.leader(TOPIC, led)?;
            if leader == ROTTEN { Ok(()) } else { Err(format!("broker {leader} leads")) }
        })?;
        let seen = Client::Rdkafka.consume(&all.bootstrap(), TOPIC, all.dir())?;
        oracle::judge(&acked, &seen, &[])?;
        match seen.len() as u64 {
            RECORDS => Ok(time),
            other => Err(format!("{other} records, not {RECORDS}")),
        }
    }) && tally.check("replicas are byte-identical", || {
        all.stop()?;
        let dirs: Vec<_> = all.ids().iter().map(|id| all.data_dir(*id)).collect();
        Ok(format!("{} groups", segments::compare(&dirs)?.len()))
    });
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

fn healed(cluster: &mut Cluster, rotten: [i32; 2]) -> Result<String, String> {
    let before = here(cluster)?;
    cluster.kill(ROTTEN)?;
    for index in rotten {
        let (group, _) = before[&index];
        flip(&cluster.data_dir(ROTTEN).join("journal"), group)?;
    }
    cluster.launch(ROTTEN)?;
    cluster.wait_ready_one(ROTTEN)?;
    let time = until(cluster, "healed", |cluster| {
        let metrics = cluster.metrics_of(ROTTEN)?;
        let counted = |name: &str| metrics.sum(name);
        let suspect = counted("glasslog_groups_suspect")?;
        let healed = counted("glasslog_groups_healed_total")?;
        let after = here(cluster)?;
        let new = |index: &i32| after.get(index).is_some_and(|now| *now != before[index]);
        let renewed: Vec<i32> = before.keys().copied().filter(new).collect();
        let mut wanted = rotten.to_vec();
        wanted.sort_unstable();
        match suspect == 0.0 && healed == 2.0 && renewed == wanted {
            true => Ok(()),
            false => Err(format!("{suspect} suspect, {healed} healed, new ones of {renewed:?}")),
        }
    })?;
    let log = cluster.log(ROTTEN);
    let named = ["damage below what was synced", "replica is suspect", "asks for a new one"];
    match named.iter().find(|text| !log.contains(**text)) {
        None => Ok(time),
        Some(text) => Err(format!("its log does not say {text:?}")),
    }
}

fn here(cluster: &Cluster) -> Result<BTreeMap<i32, (u64, u64)>, String> {
    groups_of(cluster, ROTTEN, TOPIC)
}

/// The (group, replica) of each partition of a topic on one broker.
pub fn groups_of(
    cluster: &Cluster,
    id: i32,
    topic: &str,
) -> Result<BTreeMap<i32, (u64, u64)>, String> {
    let page = cluster.page(id)?;
    let groups = page["groups"].as_array().cloned().unwrap_or_default();
    let of = |group: &Value| {
        let index = group["name"].as_str()?.strip_prefix(topic)?.strip_prefix('-')?.parse().ok()?;
        Some((index, (group["group"].as_u64()?, group["replica"].as_u64()?)))
    };
    Ok(groups.iter().filter_map(of).collect())
}

/// Flips a bit of the first batch the group wrote: everything later proves that it was synced.
pub fn flip(journal: &Path, group: u64) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", journal.display());
    let mut first: Option<(u64, PathBuf, usize)> = None;
    for entry in fs::read_dir(journal).map_err(told)? {
        let path = entry.map_err(told)?.path();
        let bytes = fs::read(&path).map_err(told)?;
        if !bytes.starts_with(MAGIC) {
            continue;
        }
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let ends = bytes.len().saturating_sub(1 << 12);
        for at in (DATA_START..ends).step_by(ALIGNED) {
            let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("4 bytes"));
            let append = bytes[at + 12..at + 16] == [APPEND, 0, 0, 0];
            // Entries without a batch are shorter than this.
            let batch = (100..1 << 20).contains(&length);
            if append && batch && number(at + 24) == group && number(at + 48) > 0 {
                let lsn = number(at + 16);
                if first.as_ref().is_none_or(|(known, ..)| lsn < *known) {
                    first = Some((lsn, path.clone(), at + HEADER_BYTES + 64));
                }
            }
        }
    }
    let (_, path, at) = first.ok_or_else(|| format!("no batch of group {group} in the journal"))?;
    let mut bytes = fs::read(&path).map_err(told)?;
    bytes[at] ^= 8;
    fs::write(&path, bytes).map_err(told)
}

/// Waits until it holds; how long it took.
fn until(
    cluster: &Cluster,
    what: &str,
    holds: impl Fn(&Cluster) -> Result<(), String>,
) -> Result<String, String> {
    let start = Instant::now();
    loop {
        match holds(cluster) {
            Ok(()) => return Ok(format!("{:.1} s", start.elapsed().as_secs_f64())),
            Err(why) if start.elapsed() > LIMIT => return Err(format!("not {what}: {why}")),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}
