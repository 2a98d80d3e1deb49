//! All disks are full: new records are refused, and the client hears why; what is there can be
//! read; and with space again all goes on, without a restart.

use std::time::{Duration, Instant};

use super::Scenario;
use crate::cases::chaos::clients::{self, PARTITIONS, TOPIC};
use crate::cases::chaos::world::{Trouble, World};
use crate::cluster::kafka::Kafka;
use crate::lab::disks::Below;
use crate::lab::needs::Need;

/// Room for the journal and for what brokers keep in reserve.
const DISK_MIB: u64 = 1_024;
/// Until a broker notices.
const NOTICE_LIMIT: Duration = Duration::from_secs(15);
const KAFKA_STORAGE_ERROR: i16 = 56;

pub const EVERYWHERE: Scenario = Scenario {
    needs: &[Need::LoopDisks],
    below: Below::Disk { mib: DISK_MIB },
    ..Scenario::new("full-disk", "no space left on any disk", play)
};

fn play(world: &mut World) -> Result<(), Trouble> {
    let before = world.cluster.pids();
    for disk in &world.disks {
        disk.fill()?;
    }
    let mut refused = Vec::new();
    for partition in 0..PARTITIONS {
        refused.push(wait_refused(world, partition)?);
    }
    // Whatever is sent from here on has to wait.
    world.begin();
    world.hold();
    let acked = world.acked_since_begin()?;
    let read = clients::read(&world.cluster)?.len();
    if read == 0 {
        return Err(Trouble::Failed("nothing can be read while the disks are full".to_owned()));
    }
    for disk in &world.disks {
        disk.free()?;
    }
    world.end();
    world.cluster.assert_alive()?;
    if world.cluster.pids() != before {
        return Err(Trouble::Failed("a broker was started again".to_owned()));
    }
    if acked > 0 {
        let text = format!("{acked} records were acknowledged on full disks");
        return Err(Trouble::Failed(text));
    }
    let slowest_ms = refused.into_iter().max().unwrap_or(0);
    world
        .note(format!("error 56 to a plain Produce within {slowest_ms} ms; {read} read meanwhile"));
    Ok(())
}

/// A produce request of our own, with nobody in between who would hide the error and try again.
/// Every other answer than success or "the disk" is a failure.
fn wait_refused(world: &World, partition: i32) -> Result<u128, String> {
    let start = Instant::now();
    loop {
        let leader = world.cluster.leader(TOPIC, partition)?;
        let mut kafka =
            Kafka::connect(world.cluster.socket(leader)).map_err(|error| error.to_string())?;
        let text = format!("plain {}", 1_000_000 * i128::from(partition) + micros(start));
        let error = kafka
            .produce(TOPIC, partition, text.as_bytes())
            .map_err(|error| format!("partition {partition}: no answer at all: {error}"))?;
        match error {
            KAFKA_STORAGE_ERROR => return Ok(start.elapsed().as_millis()),
            0 if start.elapsed() < NOTICE_LIMIT => {
                std::thread::sleep(Duration::from_millis(100));
            }
            0 => return Err(format!("partition {partition} still takes records")),
            other => return Err(format!("partition {partition}: error {other}")),
        }
    }
}

/// A number for a record, different each time.
fn micros(start: Instant) -> i128 {
    i128::try_from(start.elapsed().as_micros()).expect("a short time")
}
