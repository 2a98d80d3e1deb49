//! A leader's wall clock is set an hour ahead and then an hour back. Only that process sees it:
//! libfaketime stands between it and the C library, and reads the offset from a file. Its
//! monotonic clocks are left alone, as a real step leaves them.

use super::Scenario;
use crate::cases::chaos::clients::TOPIC;
use crate::cases::chaos::world::{Trouble, World};
use crate::cluster::Cluster;
use crate::cluster::kafka::Kafka;
use crate::lab::needs::Need;
use crate::lab::{Lab, clock};

pub const STEPS: Scenario = Scenario {
    needs: &[Need::FakeClock],
    // So that acknowledgements tell the broker's wall clock.
    config: &["\"log.message.timestamp.type\" = \"LogAppendTime\""],
    dress: Some(dress),
    ..Scenario::new("clock", "a leader's wall clock an hour ahead, then back", play)
};

fn dress(cluster: &mut Cluster, lab: &Lab) -> Result<(), String> {
    cluster.ids().into_iter().try_for_each(|id| clock::give(cluster, id, lab.enter(id)))
}

fn play(world: &mut World) -> Result<(), Trouble> {
    let victim = world.victim;
    let before = wall_ms(world, 0)?;
    world.begin();
    clock::set(&world.cluster, victim, "+3600")?;
    world.hold();
    let ahead = wall_ms(world, 1)?;
    clock::set(&world.cluster, victim, "-3600")?;
    world.hold();
    let behind = wall_ms(world, 2)?;
    clock::set(&world.cluster, victim, "+0")?;
    world.end();
    if ahead - before < HOUR_MS || before - behind < HOUR_MS - MINUTE_MS {
        let text = format!("the clock did not step: {before}, {ahead}, {behind} ms");
        return Err(Trouble::Failed(text));
    }
    let (ahead, behind) = ((ahead - before) / MINUTE_MS, (behind - before) / MINUTE_MS);
    world.note(format!("records stamped {ahead} and {behind} minutes from now"));
    Ok(())
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// The victim's wall clock, from the time it stamps a record with.
fn wall_ms(world: &World, number: u32) -> Result<i64, String> {
    let mut kafka =
        Kafka::connect(world.cluster.socket(world.victim)).map_err(|error| error.to_string())?;
    let value = format!("plain {number}");
    match kafka.produce_stamped(TOPIC, 0, value.as_bytes()) {
        Ok((0, stamp_ms)) if stamp_ms > 0 => Ok(stamp_ms),
        other => Err(format!("a produce request for the time of day: {other:?}")),
    }
}
