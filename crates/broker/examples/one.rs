//! One broker in one process, on a free port, until Enter is pressed.
//! `cargo run -p broker --example one`

#![allow(clippy::disallowed_macros, reason = "an example prints")]

use broker::{BrokerConfig, ListenerConfig, serve};
use model::BrokerId;
use node::metadata::Listener;
use node::{InitialBroker, Node, NodeConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = std::env::temp_dir().join(format!("glasslog-one-{}", std::process::id()));
    let free_port = || std::net::TcpListener::bind("127.0.0.1:0")?.local_addr();
    let (peer, kafka) = (free_port()?.to_string(), free_port()?);
    let mut config = NodeConfig::new(BrokerId(1), data.clone(), peer.clone());
    config.peers = vec![InitialBroker { id: BrokerId(1), address: peer }];
    config.listeners =
        vec![Listener { name: "PLAINTEXT".into(), host: "127.0.0.1".into(), port: kafka.port() }];
    let node = Node::start(config)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let handle = runtime.block_on(async {
        let listener = ListenerConfig { name: "PLAINTEXT".into(), bind: kafka.to_string() };
        serve(BrokerConfig { listeners: vec![listener], ..BrokerConfig::default() }, node.clone())
    })?;
    println!("kcat -b {kafka} -L\nPress Enter to stop.");
    std::io::stdin().read_line(&mut String::new())?;
    runtime.block_on(async {
        handle.drain(std::time::Duration::from_secs(5)).await;
        node.shutdown(std::time::Duration::from_secs(5), |line| println!("{line}")).await
    });
    std::fs::remove_dir_all(data)?;
    Ok(())
}
