//! A leader stands still, its connections open, and goes on as if nothing had happened: a virtual
//! machine that is moved, a process that is swapped out.

use std::time::{Duration, Instant};

use super::Scenario;
use crate::cases::chaos::clients::TOPIC;
use crate::cases::chaos::world::{Trouble, World};

pub const LEADER: Scenario = Scenario::new("pause", "SIGSTOP of a leader, SIGCONT", play);

fn play(world: &mut World) -> Result<(), Trouble> {
    world.cluster.signal(world.victim, "STOP")?;
    world.begin();
    let begun = Instant::now();
    let witness = world.others()[0];
    let mut replaced = None;
    while begun.elapsed() < world.hold {
        let led = world.cluster.partitions_of(witness, TOPIC)?;
        let victims = led.iter().any(|partition| partition.leader == world.victim);
        if !victims && replaced.is_none() {
            replaced = Some(begun.elapsed().as_millis());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    world.cluster.signal(world.victim, "CONT")?;
    world.end();
    // A client of it may go on waiting for answers; that is the client's patience.
    world.note(match replaced {
        Some(ms) => format!("its partitions had other leaders after {ms} ms"),
        None => "nobody took its partitions over".to_owned(),
    });
    Ok(())
}
