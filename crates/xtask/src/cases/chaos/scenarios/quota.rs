//! A leader gets a fiftieth of a processor: it runs, in bursts, with long silences between.

use super::Scenario;
use crate::cases::chaos::world::{Trouble, World};
use crate::lab::groups::Quota;
use crate::lab::needs::Need;

const PERCENT: u32 = 2;

pub const LEADER: Scenario = Scenario {
    needs: &[Need::CpuQuota],
    ..Scenario::new("cpu-quota", "a leader held to 2 % of a processor", play)
};

fn play(world: &mut World) -> Result<(), Trouble> {
    let pid = world.cluster.pid(world.victim).ok_or_else(|| "the victim runs".to_owned())?;
    let quota = Quota::new(world.owner, pid, PERCENT)?;
    world.begin();
    world.hold();
    world.hold();
    drop(quota);
    world.end();
    Ok(())
}
