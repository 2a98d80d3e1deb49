//! The configuration file of one test broker.

use super::{Broker, Cluster};

/// Everything a broker needs to be told; the rest is left at its defaults, which are tested so.
pub fn text(cluster: &Cluster, broker: &Broker) -> String {
    let peers: Vec<String> = cluster
        .brokers
        .iter()
        .map(|other| format!("\"{}@127.0.0.1:{}\"", other.id, other.ports.peer))
        .collect();
    format!(
        "node.id = {id}\n\
         listeners = [\"PLAINTEXT://127.0.0.1:{kafka}\"]\n\
         advertised.listeners = [\"PLAINTEXT://127.0.0.1:{kafka}\"]\n\
         initial.brokers = [{peers}]\n\
         peer.listener = \"127.0.0.1:{peer}\"\n\
         admin.listener = \"127.0.0.1:{admin}\"\n\
         log.dir = \"{data}\"\n",
        id = broker.id,
        kafka = broker.ports.kafka,
        peers = peers.join(", "),
        peer = broker.ports.peer,
        admin = broker.ports.admin,
        data = cluster.data_dir(broker.id).display(),
    )
}
