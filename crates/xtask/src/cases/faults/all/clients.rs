//! Clients that mean harm: refused, and named.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Fault;
use crate::cases::faults::verdict::Wanted;
use crate::cases::faults::world::{TOPIC, World};
use crate::cases::hostile::send_bomb;
use crate::cluster::kafka::Kafka;

pub static POISON: Fault = Fault::new("poison", "a batch that opens to 150 MB", poison);
pub static FLOOD: Fault = Fault {
    config: &["max.connections.per.ip = 100"],
    ..Fault::new("flood", "connections without end from one address", flood)
};

const INVALID_RECORD: i16 = 87;
/// New connections of the flood.
const EVERY: Duration = Duration::from_millis(5);

/// Refused before it is proposed, so no replica ever meets it.
fn poison(world: &mut World) -> Result<Wanted, String> {
    let (at, series) = (world.cluster.leader(TOPIC, 0)?, "glasslog_kafka_errors_total");
    let label = "code=\"INVALID_RECORD\"";
    let above = world.cluster.metrics_of(at)?.labelled(series, label);
    world.begin();
    match send_bomb(&world.cluster.address(at), TOPIC)? {
        INVALID_RECORD => Ok(Wanted::Told { at, series, label, above }),
        other => Err(format!("a bomb was answered with {other}")),
    }
}

/// Ends its thread when it is dropped.
struct Flood(Arc<AtomicBool>);

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn flood(world: &mut World) -> Result<Wanted, String> {
    let (victim, ended) = (world.victim, Arc::new(AtomicBool::new(false)));
    let (at, over) = (world.cluster.socket(victim), Arc::clone(&ended));
    // One that was there before goes on.
    let mut known = Kafka::connect(at).map_err(|error| error.to_string())?;
    world.begin();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        while !over.load(Ordering::Relaxed) {
            held.extend(TcpStream::connect_timeout(&at, Duration::from_secs(1)));
            // What was refused is closed by the broker: a few of them are enough.
            held.truncate(200);
            std::thread::sleep(EVERY);
        }
    });
    world.hold(Flood(ended));
    std::thread::sleep(Duration::from_secs(2));
    known.brokers().map_err(|error| format!("a client that was there before: {error}"))?;
    Ok(Wanted::page("ConnectionsRefused", victim, &["refused_ip_limit"]))
}
