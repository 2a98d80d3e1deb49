//! rskafka as a client of the cluster tests: a client of single partitions, without groups and
//! without idempotence. tests/README.md states the contract that all of them share.
//!
//! ```text
//! version
//! produce BOOTSTRAP TOPIC CLIENT COUNT CODECS RATE     "partition offset sequence" per ack
//! consume BOOTSTRAP TOPIC                              "partition offset key client sequence"
//! admin   BOOTSTRAP PREFIX GROUP                       "feature outcome"
//! ```
//!
//! Invariant: one request per partition is on its way at a time, so a repetition by the client
//! itself after a lost answer repeats records and never reorders them.

mod admin;
mod produce;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rskafka::BackoffConfig;
use rskafka::chrono::{DateTime, Utc};
use rskafka::client::partition::{OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};

const QUIET: Duration = Duration::from_secs(60);
const FETCH_BYTES: std::ops::Range<i32> = 1..1 << 20;
const FETCH_WAIT_MS: i32 = 500;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["version"] => {
            println!("rskafka {VERSION}");
            Ok(())
        }
        ["produce", bootstrap, topic, client, count, codecs, rate] => {
            match (count.parse(), rate.parse()) {
                (Ok(count), Ok(rate)) => {
                    produce::sequence(bootstrap, topic, client, count, codecs, rate).await
                }
                _ => Err("COUNT and RATE are numbers".to_owned()),
            }
        }
        ["consume", bootstrap, topic] => consume(bootstrap, topic).await,
        ["admin", bootstrap, prefix, _group] => admin::story(bootstrap, prefix).await,
        _ => Err("usage: version | produce | consume | admin, see src/main.rs".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// As the lock file pins it; the client does not tell its own.
const VERSION: &str = "0.6.0";

async fn connect(bootstrap: &str) -> Result<Client, String> {
    let brokers = bootstrap.split(',').map(str::to_owned).collect();
    let backoff = BackoffConfig {
        max_backoff: Duration::from_secs(1),
        deadline: Some(Duration::from_secs(120)),
        ..BackoffConfig::default()
    };
    let client = ClientBuilder::new(brokers).backoff_config(backoff).build().await;
    client.map_err(|error| format!("connect: {error}"))
}

/// The topic's partitions in order, each with its client.
async fn partitions(client: &Client, topic: &str) -> Result<Vec<Arc<PartitionClient>>, String> {
    let topics = client.list_topics().await.map_err(|error| format!("topics: {error}"))?;
    let found = topics.iter().find(|found| found.name == topic);
    let mut clients = Vec::new();
    for partition in &found.ok_or_else(|| format!("no topic {topic}"))?.partitions {
        let one = client.partition_client(topic, *partition, UnknownTopicHandling::Retry).await;
        clients.push(Arc::new(one.map_err(|error| format!("partition {partition}: {error}"))?));
    }
    Ok(clients)
}

async fn consume(bootstrap: &str, topic: &str) -> Result<(), String> {
    let client = connect(bootstrap).await?;
    for partition in partitions(&client, topic).await? {
        let number = partition.partition();
        let end = partition.get_offset(OffsetAt::Latest).await;
        let end = end.map_err(|error| format!("end of {number}: {error}"))?;
        let mut next = 0;
        let mut heard = Instant::now();
        while next < end {
            let fetched = partition.fetch_records(next, FETCH_BYTES, FETCH_WAIT_MS).await;
            let (records, _) = fetched.map_err(|error| format!("fetch {number}: {error}"))?;
            for found in records {
                // A batch is answered as a whole: what lies before the asked offset comes again.
                if found.offset >= next && found.offset < end {
                    print(number, found.offset, &found.record)?;
                    next = found.offset + 1;
                    heard = Instant::now();
                }
            }
            if heard.elapsed() > QUIET {
                return Err(format!("no record for 60 s; {number} stands at {next} of {end}"));
            }
        }
    }
    Ok(())
}

/// The time that a record carries, to the millisecond.
fn now() -> DateTime<Utc> {
    let since = UNIX_EPOCH.elapsed().expect("the clock is past 1970");
    let millis = i64::try_from(since.as_millis()).expect("fits for long");
    DateTime::from_timestamp_millis(millis).expect("a time of this era")
}

fn print(partition: i32, offset: i64, record: &rskafka::record::Record) -> Result<(), String> {
    let text = |bytes: &Option<Vec<u8>>| {
        String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
    };
    let (key, value) = (text(&record.key), text(&record.value));
    let mut words = value.split(' ');
    match (words.next(), words.next()) {
        (Some(client), Some(number)) => {
            println!("{partition}\t{offset}\t{key}\t{client}\t{number}");
            Ok(())
        }
        _ => Err(format!("no record of ours at {partition}, {offset}")),
    }
}
