//! One packet in five that arrives at any broker is lost, from peers and clients alike.

use super::Scenario;
use crate::cases::chaos::world::{Trouble, World};
use crate::lab::needs::Need;

const PERCENT: u8 = 20;

pub const EVERYWHERE: Scenario = Scenario {
    needs: &[Need::PacketFilter],
    ..Scenario::new("loss", "20 % of all packets to brokers lost", play)
};

fn play(world: &mut World) -> Result<(), Trouble> {
    for id in world.cluster.ids() {
        world.lab.lose(id, PERCENT)?;
    }
    world.begin();
    // Retransmission takes seconds at times: a short fault shows little.
    world.hold();
    world.hold();
    for id in world.cluster.ids() {
        world.lab.mend(id)?;
    }
    world.end();
    Ok(())
}
