//! A cluster of one broker, from an empty directory to its first committed record.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{BrokerId, TopicId};
use node::metadata::{CreateTopic, Listener, Request};
use node::{InitialBroker, Node, NodeConfig};

const DEADLINE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("glasslog-example-{}", std::process::id()));
    let address = "127.0.0.1:39192".to_owned();
    let mut cfg = NodeConfig::new(BrokerId(1), dir.clone(), address.clone());
    cfg.peers = vec![InitialBroker { id: BrokerId(1), address }];
    cfg.listeners =
        vec![Listener { name: "PLAINTEXT".into(), host: "127.0.0.1".into(), port: 39092 }];
    let node = Node::start(cfg)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let create = CreateTopic {
            name: "example".into(),
            id: TopicId([1; 16]),
            partitions: 1,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: BTreeMap::new(),
            validate_only: false,
            default_partitions: 1,
            default_replication_factor: 1,
            internal_replication_factor: 1,
        };
        println!("{:?}", node.metadata(Request::CreateTopic(create), DEADLINE).await);
        let group = node.image().topic("example").map(|topic| topic.partitions[0].group);
        if let Some(group) = group {
            while node.leader(group).is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let batch = machine::BatchBuilder::new(1).value(b"first").build();
            println!("{:?}", node.produce(group, batch, None, -1, DEADLINE).await.answer().await);
            println!("{:?}", node.guard(group, DEADLINE).await);
        }
        node.shutdown(DEADLINE, |line| println!("{line}")).await;
    });
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
