//! A leader is cut off from its peers while clients still reach it: from both sides, or only so
//! that nobody hears it.

use super::Scenario;
use crate::cases::chaos::world::{Trouble, World};
use crate::lab::needs::Need;

pub const FROM_PEERS: Scenario = Scenario {
    needs: &[Need::PacketFilter],
    ..Scenario::new("partition", "a leader cut off from both peers, not from clients", both)
};

pub const ONE_WAY: Scenario = Scenario {
    needs: &[Need::PacketFilter],
    ..Scenario::new("one-way", "a leader that hears its peers and is not heard", one_way)
};

fn both(world: &mut World) -> Result<(), Trouble> {
    cut(world, true)
}

fn one_way(world: &mut World) -> Result<(), Trouble> {
    cut(world, false)
}

fn cut(world: &mut World, hears: bool) -> Result<(), Trouble> {
    world.lab.cut(world.victim, &world.others(), true, hears)?;
    world.begin();
    world.hold();
    world.lab.mend(world.victim)?;
    world.end();
    Ok(())
}
