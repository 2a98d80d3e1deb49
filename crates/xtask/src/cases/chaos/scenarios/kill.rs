//! `kill -9` of a leader, which comes back after a while.

use super::Scenario;
use crate::cases::chaos::world::{Trouble, World};

pub const LEADER: Scenario = Scenario::new("kill", "kill -9 of a leader", play);

fn play(world: &mut World) -> Result<(), Trouble> {
    world.begin();
    world.cluster.kill(world.victim)?;
    world.hold();
    world.cluster.launch(world.victim)?;
    world.end();
    Ok(())
}
