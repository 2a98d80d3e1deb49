//! No fault: what clients and administrators do on any day. Nobody is to hear of it, and the
//! dashboards show it.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use super::Fault;
use crate::cases::faults::verdict::Wanted;
use crate::cases::faults::world::{PARTITIONS, TOPIC, World};
use crate::cases::planted::wait_for;
use crate::job::Job;

pub static DAY: Fault = Fault {
    limit: Duration::from_secs(60),
    ..Fault::new(
        "day",
        "none: a topic is made, consumers come, leave and die, somebody speaks HTTP to a broker",
        live,
    )
};

const MADE: &str = "made-by-day";
const GROUP: &str = "day";
/// The shortest that brokers allow.
const SESSION: &str = "session.timeout.ms=6000";
const LIMIT: Duration = Duration::from_secs(40);
const EXPIRED: &str = "glasslog_group_sessions_expired_total";

fn live(world: &mut World) -> Result<Wanted, String> {
    let (at, series, label) = (world.victim, "glasslog_frames_refused_total", "why=\"too_large\"");
    let above = world.cluster.metrics_of(at)?.labelled(series, label);
    let expired = world.cluster.metric_sum(EXPIRED)?;
    world.begin();
    world.cluster.create_topic(MADE, PARTITIONS)?;
    let stays = member(world, "stays")?;
    world.hold(stays);
    member(world, "leaves")?.terminate(LIMIT)?;
    // Killed, so that it says nothing.
    drop(member(world, "dies")?);
    wait_for("the end of a session", LIMIT, || match world.cluster.metric_sum(EXPIRED)? {
        now if now > expired => Ok(()),
        _ => Err("the member that died is still one".to_owned()),
    })?;
    // Its first four bytes are a frame of a gigabyte.
    let mut socket = TcpStream::connect(world.cluster.socket(at)).map_err(|e| e.to_string())?;
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").map_err(|error| error.to_string())?;
    Ok(Wanted::Told { at, series, label, above })
}

/// A consumer, once it has its share of the partitions.
fn member(world: &World, name: &str) -> Result<Job, String> {
    let mut command = Command::new("kcat");
    command.args(["-b", &world.cluster.bootstrap(), "-X", SESSION, "-G", GROUP, TOPIC]);
    let member = Job::spawn(name, command, world.cluster.dir())?;
    wait_for("a share for a member", LIMIT, || {
        let said = member.stderr();
        if said.contains("assigned") { Ok(()) } else { Err(said) }
    })?;
    Ok(member)
}
