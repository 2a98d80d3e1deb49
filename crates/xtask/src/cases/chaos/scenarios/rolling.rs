//! Every broker is told to stop and started again, one after the other.

use super::Scenario;
use crate::cases::chaos::world::{Trouble, World};

pub const TERM: Scenario = Scenario::new("rolling", "SIGTERM, broker after broker", play);

fn play(world: &mut World) -> Result<(), Trouble> {
    world.begin();
    let mut slowest_ms = 0;
    for id in world.cluster.ids() {
        slowest_ms = slowest_ms.max(world.cluster.stop_one(id, 1)?.as_millis());
        world.cluster.launch(id)?;
        world.cluster.wait_ready()?;
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    world.end();
    world.note(format!("slowest stop {slowest_ms} ms"));
    Ok(())
}
