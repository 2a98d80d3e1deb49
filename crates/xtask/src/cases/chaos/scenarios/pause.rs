//! A leader stands still, its connections open, and goes on as if nothing had happened: a virtual
//! machine that is moved, a process that is swapped out.

use super::Scenario;
use crate::cases::chaos::world::{Trouble, World};

pub const LEADER: Scenario = Scenario::new("pause", "SIGSTOP of a leader, SIGCONT", play);

fn play(world: &mut World) -> Result<(), Trouble> {
    world.cluster.signal(world.victim, "STOP")?;
    world.begin();
    world.hold();
    world.cluster.signal(world.victim, "CONT")?;
    world.end();
    Ok(())
}
