//! The configuration file of one test broker.

use super::{Brand, Broker, Cluster};
use crate::kafka::{self, Member};

/// Everything a broker needs to be told; the rest is left at its defaults, which are tested so.
/// `extra` lines come after them.
pub fn text(cluster: &Cluster, broker: &Broker, extra: &[&str]) -> String {
    if cluster.brand == Brand::ApacheKafka {
        let members: Vec<Member> =
            cluster.brokers.iter().map(|broker| member(cluster, broker)).collect();
        return kafka::config(&member(cluster, broker), &members, extra);
    }
    let peers: Vec<String> = cluster
        .brokers
        .iter()
        // Whoever is added later joins what these formed.
        .take(super::BROKERS)
        .map(|other| format!("\"{}@{}\"", other.id, other.ports.peer))
        .collect();
    format!(
        "node.id = {id}\n\
         listeners = [\"PLAINTEXT://{kafka}\"]\n\
         advertised.listeners = [\"PLAINTEXT://{kafka}\"]\n\
         initial.brokers = [{peers}]\n\
         peer.listener = \"{peer}\"\n\
         admin.listener = \"{admin}\"\n\
         log.dir = \"{data}\"\n\
         {extra}\n",
        id = broker.id,
        kafka = broker.ports.kafka,
        peers = peers.join(", "),
        peer = broker.ports.peer,
        admin = broker.ports.admin,
        data = cluster.data_dir(broker.id).display(),
        extra = extra.join("\n"),
    )
}

fn member(cluster: &Cluster, broker: &Broker) -> Member {
    Member {
        id: broker.id,
        port: broker.ports.kafka.port(),
        controller_port: broker.ports.peer.port(),
        data: cluster.data_dir(broker.id),
    }
}
