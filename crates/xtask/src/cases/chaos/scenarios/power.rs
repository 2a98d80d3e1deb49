//! Power is lost: each disk forgets what was not synced, the processes die, and all start again on
//! what is left. With all three at once only what was on disks before its acknowledgement is kept.

use super::Scenario;
use crate::cases::chaos::world::{Trouble, World};
use crate::lab::disks::Below;
use crate::lab::needs::Need;

/// Room for the journal and for what brokers keep in reserve.
const DISK_MIB: u64 = 2_048;

pub const WHOLE_CLUSTER: Scenario = Scenario {
    needs: &[Need::LoopDisks],
    below: Below::Disk { mib: DISK_MIB },
    ..Scenario::new("power-loss", "power loss of the whole cluster", all)
};

pub const LEADER: Scenario = Scenario {
    needs: &[Need::LoopDisks],
    below: Below::Disk { mib: DISK_MIB },
    ..Scenario::new("power-loss-one", "power loss of a leader", one)
};

fn all(world: &mut World) -> Result<(), Trouble> {
    let everybody = world.cluster.ids();
    lose(world, &everybody)
}

fn one(world: &mut World) -> Result<(), Trouble> {
    let victim = [world.victim];
    lose(world, &victim)
}

fn lose(world: &mut World, ids: &[i32]) -> Result<(), Trouble> {
    world.begin();
    for id in ids {
        if !world.disk(*id).cut_power()? {
            let why = "this kernel's ext4 has no FS_IOC_SHUTDOWN";
            return Err(Trouble::Cannot(why.to_owned()));
        }
    }
    for id in ids {
        // One that noticed that it cannot write has ended by itself.
        world.cluster.kill_or_gone(*id)?;
    }
    for id in ids {
        world.disk(*id).unmount()?;
        world.disk(*id).mount()?;
        world.cluster.launch(*id)?;
    }
    world.end();
    Ok(())
}
