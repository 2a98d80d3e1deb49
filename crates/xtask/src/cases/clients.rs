//! Stock clients write 100,000 records with acks=all while the leader of a partition is killed
//! and started again; all of it is read back by each client, and the three brokers' segments are
//! compared byte by byte.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{administrators, groups};
use crate::clients::{self, Client, Producing};
use crate::cluster::Cluster;
use crate::matrix::Matrix;
use crate::oracle::{self, Acked, Seen};
use crate::segments;
use crate::tally::Tally;

const TOPIC: &str = "glass";
const PARTITIONS: i32 = 3;
const RECORDS: u64 = 100_000;
/// Records a second of all clients together.
const RATE: u64 = 8_000;
/// From the clients' start to the kill, and from the kill to the new start.
const KILL_AFTER: Duration = Duration::from_secs(5);
const DEAD_FOR: Duration = Duration::from_secs(3);
const PRODUCE_LIMIT: Duration = Duration::from_secs(240);
const CONVERGE_LIMIT: Duration = Duration::from_secs(30);
/// Rows of the table in the README.
const PRODUCE: &str = "produce, acks=all, five codecs, leader killed";
const IDEMPOTENT: &str = "idempotent: nothing stored twice";
const READ: &str = "read everything back";
const NO_ZSTD_TOPIC: &str = "glass-without-zstd";
const PERFORMANCE_TOPIC: &str = "performance";
const PERFORMANCE_RECORDS: u64 = 20_000;

/// Runs the story, groups and administration with the clients that are to be had on this machine.
pub fn run(tally: &mut Tally) {
    let able = prepare(tally);
    let mut cluster = None;
    tally.check("three brokers, started one by one, form a cluster", || {
        cluster = Some(Cluster::start_slowly("clients", [3, 1, 2])?);
        Ok(String::new())
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    let mut matrix = Matrix::default();
    versions(tally, &cluster, &able, &mut matrix);
    groups::run(tally, &mut cluster, &able, &mut matrix);
    administrators::run(tally, &cluster, &able, &mut matrix);
    // Last: it ends with all brokers stopped.
    story(tally, &mut cluster, &able, &mut matrix);
    if tally.failed == failed {
        tally.check("the README's table claims what was shown", || matrix.settle());
    }
    close(tally, cluster, failed);
}

/// Groups and administration with Apache Kafka's brokers: what fails with both is the test's own
/// doing.
pub fn run_on_kafka(tally: &mut Tally) {
    let able = prepare(tally);
    let mut cluster = None;
    tally.check("three brokers", || {
        crate::kafka::prepare()?;
        cluster = Some(Cluster::start_kafka("clients-kafka", &[])?);
        Ok(String::new())
    });
    let Some(mut cluster) = cluster else { return };
    let failed = tally.failed;
    let mut matrix = Matrix::default();
    groups::run(tally, &mut cluster, &able, &mut matrix);
    administrators::run(tally, &cluster, &able, &mut matrix);
    close(tally, cluster, failed);
}

fn close(tally: &Tally, cluster: Cluster, failed: usize) {
    if tally.failed == failed {
        cluster.remove();
    } else {
        println!("      kept: {}", cluster.dir().display());
    }
}

fn prepare(tally: &mut Tally) -> Vec<Client> {
    let made = clients::prepare_all();
    let mut able = Vec::new();
    for client in Client::ALL {
        match &made[&client.toolchain()] {
            Ok(()) => able.push(client),
            Err(why) => tally.skip(&format!("client {}", client.as_str()), why),
        }
    }
    able
}

fn versions(tally: &mut Tally, cluster: &Cluster, able: &[Client], matrix: &mut Matrix) {
    tally.check("clients tell their versions", || {
        for client in able {
            matrix.version(*client, &client.version(cluster.dir())?);
        }
        Ok(format!("{} clients", able.len()))
    });
}

fn story(tally: &mut Tally, cluster: &mut Cluster, able: &[Client], matrix: &mut Matrix) {
    let created = tally.check("a topic of 3 partitions, 3 replicas each", || {
        cluster.create_topic(TOPIC, PARTITIONS)?;
        let of_three = |p: &crate::cluster::kafka::Partition| p.replicas.len() == 3;
        let all = cluster.partitions(TOPIC)?;
        if all.iter().all(of_three) { Ok(String::new()) } else { Err(format!("{all:?}")) }
    });
    if !created {
        return;
    }
    let mut acked = Vec::new();
    let produced = tally.check("acks=all through the death of a leader", || {
        acked = produce(cluster, able)?;
        Ok(format!("{} acknowledged", acked.len()))
    });
    if !produced {
        return;
    }
    read_back(tally, cluster, able, &acked, matrix);
    if able.contains(&Client::Java) {
        tally.check("producer-perf-test, and its records counted", || performance(cluster));
    }
    tally.check("a topic is made by producing to it, at any broker", || auto_created(cluster));
    tally.check("the brokers' segments are byte-identical", || identical(cluster));
}

/// Each client reads everything that all have written, and all see the same.
fn read_back(
    tally: &mut Tally,
    cluster: &Cluster,
    able: &[Client],
    acked: &[Acked],
    matrix: &mut Matrix,
) {
    let repeats: Vec<&str> =
        able.iter().filter(|client| client.may_repeat()).map(|client| client.as_str()).collect();
    let mut first: Option<Vec<Seen>> = None;
    for client in able {
        if !client.reads_zstd() {
            let name = format!("{} reads back what is not zstd", client.as_str());
            if tally.check(&name, || read_without_zstd(cluster, *client)) {
                matrix.shown(READ, *client);
            }
            continue;
        }
        let name = format!("{} reads everything back", client.as_str());
        let read = tally.check(&name, || {
            let seen = client.consume(&cluster.bootstrap(), TOPIC, cluster.dir())?;
            oracle::judge(acked, &seen, &repeats)?;
            let again = seen.len() as u64 - acked.len() as u64;
            if again > 0 && repeats.is_empty() {
                return Err(format!("{} records, not {RECORDS}", seen.len()));
            }
            match &first {
                Some(other) => oracle::same(other, &seen)?,
                None => first = Some(seen),
            }
            Ok(format!("0 lost, order kept, {again} stored again"))
        });
        if read {
            matrix.shown(READ, *client);
        }
    }
    // Everything was acknowledged, and somebody else read it: with every codec, through a death,
    // and each record once where the client is idempotent.
    if first.is_some() {
        for client in able {
            matrix.shown(PRODUCE, *client);
            match client.may_repeat() {
                true => matrix.unsupported(IDEMPOTENT, *client),
                false => matrix.shown(IDEMPOTENT, *client),
            }
        }
    }
}

/// A client that cannot be sent zstd, over a topic that has none.
fn read_without_zstd(cluster: &Cluster, client: Client) -> Result<String, String> {
    const COUNT: u64 = 4_000;
    cluster.create_topic(NO_ZSTD_TOPIC, PARTITIONS)?;
    let codecs: Vec<&str> = client.codecs().into_iter().filter(|codec| *codec != "zstd").collect();
    let amount = (COUNT, COUNT);
    let (to, dir) = (cluster.bootstrap(), cluster.dir());
    let producing = client.produce_with(&codecs, &to, NO_ZSTD_TOPIC, amount, dir)?;
    let acked = producing.finish(PRODUCE_LIMIT)?;
    let seen = client.consume(&to, NO_ZSTD_TOPIC, dir)?;
    oracle::judge(&acked, &seen, &[client.as_str()])?;
    Ok(format!("{COUNT} records, 0 lost, order kept"))
}

/// All clients at once, and the leader of partition 0 killed in the middle.
fn produce(cluster: &mut Cluster, able: &[Client]) -> Result<Vec<Acked>, String> {
    let share = able.len() as u64;
    let start = Instant::now();
    let mut running: Vec<Producing> = Vec::new();
    for (number, client) in (0..).zip(able) {
        // The first client takes what does not divide.
        let rest = if number == 0 { RECORDS % share } else { 0 };
        running.push(client.produce(
            &cluster.bootstrap(),
            TOPIC,
            RECORDS / share + rest,
            RATE / share,
            cluster.dir(),
        )?);
    }
    std::thread::sleep(KILL_AFTER.saturating_sub(start.elapsed()));
    let victim = cluster.leader(TOPIC, 0)?;
    if !running.iter_mut().any(Producing::is_running) {
        return Err("every client had ended before the kill: it proved nothing".to_owned());
    }
    cluster.kill(victim)?;
    std::thread::sleep(DEAD_FOR);
    cluster.launch(victim)?;
    let mut acked = Vec::new();
    for producing in running {
        let left = PRODUCE_LIMIT.saturating_sub(start.elapsed());
        acked.extend(producing.finish(left)?);
    }
    cluster.wait_ready()?;
    cluster.assert_alive()?;
    Ok(acked)
}

fn performance(cluster: &Cluster) -> Result<String, String> {
    cluster.create_topic(PERFORMANCE_TOPIC, PARTITIONS)?;
    let found = clients::producer_performance(
        &cluster.bootstrap(),
        PERFORMANCE_TOPIC,
        (PERFORMANCE_RECORDS, 1024, -1),
        &["compression.type=lz4"],
        cluster.dir(),
    )?;
    let ends = cluster.high_watermarks(PERFORMANCE_TOPIC)?;
    let stored: i64 = ends.iter().sum();
    if u64::try_from(stored) != Ok(PERFORMANCE_RECORDS) {
        return Err(format!("{stored} stored: {ends:?}"));
    }
    Ok(format!("p99 {} ms", found.p99_ms))
}

/// Produces through each broker to a topic that does not exist.
fn auto_created(cluster: &Cluster) -> Result<String, String> {
    const EACH: u64 = 500;
    for id in cluster.ids() {
        let topic = format!("auto-{id}");
        let address = cluster.address(id);
        let producing = Client::Rdkafka.produce(&address, &topic, EACH, EACH, cluster.dir())?;
        producing.finish(Duration::from_secs(60))?;
        let stored: i64 = cluster.high_watermarks(&topic)?.iter().sum();
        if u64::try_from(stored) != Ok(EACH) {
            return Err(format!("{topic}: {stored} of {EACH} records"));
        }
    }
    Ok(String::new())
}

/// Waits until no segment grows any more, stops all brokers gracefully, compares.
fn identical(cluster: &mut Cluster) -> Result<String, String> {
    let watermarks = cluster.high_watermarks(TOPIC)?;
    let dirs: Vec<PathBuf> = cluster.ids().iter().map(|id| cluster.data_dir(*id)).collect();
    let start = Instant::now();
    // Followers learn of the last commits a moment later; a graceful stop must not be what
    // makes them equal.
    loop {
        let sizes: Result<Vec<u64>, String> = dirs.iter().map(|dir| segments::bytes(dir)).collect();
        let sizes = sizes?;
        if sizes[0] > 0 && sizes.iter().all(|size| *size == sizes[0]) {
            break;
        }
        if start.elapsed() > CONVERGE_LIMIT {
            return Err(format!("segments hold {sizes:?} bytes and do not converge"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.stop()?;
    let mut ends: Vec<i64> = segments::compare(&dirs)?.into_values().collect();
    let groups = ends.len();
    for watermark in &watermarks {
        // Which group is which partition is the metadata group's secret; each end is used once.
        match ends.iter().position(|end| end == watermark) {
            Some(at) => drop(ends.swap_remove(at)),
            None => return Err(format!("{watermarks:?}: no segments end at {watermark}")),
        }
    }
    Ok(format!("{groups} groups, high watermarks {watermarks:?}"))
}
