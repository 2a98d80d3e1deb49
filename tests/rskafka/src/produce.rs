//! Producing numbered records: the feeder hands each to its partition's task, which sends what has
//! gathered as one batch and prints its acknowledgements.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rskafka::client::partition::{Compression, PartitionClient};
use rskafka::record::Record;
use tokio::sync::mpsc;

const KEYS: usize = 16;
const BATCH_MAX: usize = 500;
/// Records of a partition that wait for its task.
const WAITING_MAX: usize = 10_000;

/// Sends `count` records, an equal share with each of the comma-separated `codecs`.
pub async fn sequence(
    bootstrap: &str,
    topic: &str,
    client: &str,
    count: usize,
    codecs: &str,
    rate: usize,
) -> Result<(), String> {
    let connection = super::connect(bootstrap).await?;
    let partitions = super::partitions(&connection, topic).await?;
    let codecs: Vec<&str> = codecs.split(',').collect();
    let start = Instant::now();
    let mut next = 0;
    for (pass, codec) in codecs.iter().enumerate() {
        let (feeds, tasks): (Vec<_>, Vec<_>) = partitions
            .iter()
            .map(|partition| {
                let (feed, waiting) = mpsc::channel(WAITING_MAX);
                let codec = compression(codec)?;
                Ok((feed, tokio::spawn(send(Arc::clone(partition), waiting, codec))))
            })
            .collect::<Result<Vec<_>, String>>()?
            .into_iter()
            .unzip();
        let end = count * (pass + 1) / codecs.len();
        while next < end {
            pace(start, next, rate).await;
            let key = next % KEYS;
            let given = feeds[key % feeds.len()].send((next, record(client, next))).await;
            given.map_err(|_| "a partition's task has ended".to_owned())?;
            next += 1;
        }
        drop(feeds);
        for task in tasks {
            task.await.map_err(|error| error.to_string())??;
        }
    }
    eprintln!("acked {count}");
    Ok(())
}

async fn send(
    partition: Arc<PartitionClient>,
    mut waiting: mpsc::Receiver<(usize, Record)>,
    codec: Compression,
) -> Result<(), String> {
    let number = partition.partition();
    let mut taken = Vec::new();
    while waiting.recv_many(&mut taken, BATCH_MAX).await > 0 {
        let (numbers, records): (Vec<usize>, Vec<Record>) = taken.drain(..).unzip();
        let offsets = partition.produce(records, codec).await;
        let offsets = offsets.map_err(|error| format!("partition {number}: {error}"))?;
        for (sequence, offset) in numbers.iter().zip(offsets) {
            println!("{number}\t{offset}\t{sequence}");
        }
        // Lets some gather; the client itself sends at once.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn record(client: &str, number: usize) -> Record {
    Record {
        key: Some(format!("{client}-{}", number % KEYS).into_bytes()),
        value: Some(format!("{client} {number} {}", "glass".repeat(30)).into_bytes()),
        headers: std::collections::BTreeMap::new(),
        timestamp: super::now(),
    }
}

fn compression(codec: &str) -> Result<Compression, String> {
    match codec {
        "none" => Ok(Compression::NoCompression),
        "gzip" => Ok(Compression::Gzip),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        other => Err(format!("no codec {other}")),
    }
}

/// Sleeps until record `number` is due at `rate` records a second.
async fn pace(start: Instant, number: usize, rate: usize) {
    let due = start + Duration::from_secs_f64(number as f64 / rate as f64);
    let left = due.saturating_duration_since(Instant::now());
    if left > Duration::from_millis(1) {
        tokio::time::sleep(left).await;
    }
}
