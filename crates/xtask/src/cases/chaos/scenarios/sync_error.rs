//! A leader's disk stops taking what is written back, so a sync fails. After that nobody can know
//! what is on it: the broker must end itself, say why in its last line, and acknowledge nothing
//! more. The other two go on; when the disk works again the broker comes back on it.

use std::time::Duration;

use super::Scenario;
use crate::cases::chaos::world::{Trouble, World};
use crate::lab::disks::Below;
use crate::lab::needs::Need;

/// The store below each disk: enough for a run of records.
const STORE_MIB: u64 = 192;
const END_LIMIT: Duration = Duration::from_secs(30);

pub const LEADER: Scenario = Scenario {
    needs: &[Need::LoopDisks],
    below: Below::Treacherous { store_mib: STORE_MIB },
    ..Scenario::new("sync-error", "writing back fails below a leader", play)
};

fn play(world: &mut World) -> Result<(), Trouble> {
    world.disk(world.victim).betray()?;
    // It goes on until it wants a block that was never written.
    let status = world.cluster.wait_end(world.victim, END_LIMIT)?;
    world.begin();
    let log = world.cluster.log(world.victim);
    let last = log.lines().last().unwrap_or_default().to_owned();
    if status.success() || !last.starts_with("glasslog: fatal: ") {
        let text = format!("the broker ended with {status} and the last line `{last}`");
        return Err(Trouble::Failed(text));
    }
    world.note(format!("ended with {status}: {last}"));
    // The others must do without it.
    world.hold();
    let disk = world.disk(world.victim);
    disk.unmount()?;
    disk.forgive()?;
    disk.mount()?;
    world.cluster.launch(world.victim)?;
    world.end();
    Ok(())
}
