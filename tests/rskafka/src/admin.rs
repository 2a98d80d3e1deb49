//! The administrator's steps that rskafka knows: create, list and delete topics, delete records.

use std::time::{Duration, Instant};

use rskafka::client::Client;
use rskafka::client::partition::{Compression, OffsetAt};
use rskafka::record::Record;

/// Other brokers learn of an administrator's change a moment later.
const SETTLE: Duration = Duration::from_secs(20);
const TIMEOUT_MS: i32 = 10_000;
const UNKNOWN: [&str; 9] = [
    "describe-topic",
    "describe-configs",
    "alter-configs",
    "create-partitions",
    "describe-cluster",
    "list-groups",
    "describe-group",
    "group-offsets",
    "delete-group",
];

/// Prints a line for each step, also for those that this client has no call for.
pub async fn story(bootstrap: &str, prefix: &str) -> Result<(), String> {
    let client = super::connect(bootstrap).await?;
    let topic = format!("{prefix}-topic");
    say("create-topic", create(&client, &topic).await);
    say("list-topics", listed(&client, &topic, true).await);
    say("delete-records", delete_records(&client, &topic).await);
    for name in UNKNOWN {
        println!("{name}\tunsupported-by-client");
    }
    say("delete-topic", delete(&client, &topic).await);
    Ok(())
}

fn say(name: &str, outcome: Result<(), String>) {
    match outcome {
        Ok(()) => println!("{name}\tok"),
        Err(error) => {
            let words: Vec<&str> = error.split_whitespace().collect();
            println!("{name}\tERROR {}", words.join(" "));
        }
    }
}

async fn create(client: &Client, topic: &str) -> Result<(), String> {
    let controller = client.controller_client().map_err(|error| error.to_string())?;
    let made = controller.create_topic(topic, 2, 3, TIMEOUT_MS).await;
    made.map_err(|error| error.to_string())
}

async fn delete(client: &Client, topic: &str) -> Result<(), String> {
    let controller = client.controller_client().map_err(|error| error.to_string())?;
    let done = controller.delete_topic(topic, TIMEOUT_MS).await;
    done.map_err(|error| error.to_string())?;
    listed(client, topic, false).await
}

/// Waits until the topic is listed, or is not.
async fn listed(client: &Client, topic: &str, wanted: bool) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let topics = client.list_topics().await.map_err(|error| error.to_string())?;
        if topics.iter().any(|found| found.name == topic) == wanted {
            return Ok(());
        }
        if start.elapsed() > SETTLE {
            return Err(format!("listed: {}, after 20 s", !wanted));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn delete_records(client: &Client, topic: &str) -> Result<(), String> {
    let partitions = super::partitions(client, topic).await?;
    let first = partitions.first().ok_or("no partitions")?;
    for _ in 0..5 {
        let record = Record {
            key: None,
            value: Some(b"glass".to_vec()),
            headers: std::collections::BTreeMap::new(),
            timestamp: super::now(),
        };
        let sent = first.produce(vec![record], Compression::NoCompression).await;
        sent.map_err(|error| error.to_string())?;
    }
    let deleted = first.delete_records(3, TIMEOUT_MS).await;
    deleted.map_err(|error| error.to_string())?;
    match first.get_offset(OffsetAt::Earliest).await {
        Ok(3) => Ok(()),
        Ok(other) => Err(format!("starts at {other} instead of 3")),
        Err(error) => Err(error.to_string()),
    }
}
