//! A leader's wall clock is set an hour ahead and then an hour back. Only that process sees it:
//! libfaketime stands between it and the C library, and reads the offset from a file. Its
//! monotonic clocks are left alone, as a real step leaves them.

use std::fs;
use std::path::PathBuf;

use super::Scenario;
use crate::cases::chaos::clients::TOPIC;
use crate::cases::chaos::lab::Lab;
use crate::cases::chaos::needs::{self, Need};
use crate::cases::chaos::world::{Trouble, World};
use crate::cluster::Cluster;
use crate::cluster::kafka::Kafka;

pub const STEPS: Scenario = Scenario {
    needs: &[Need::FakeClock],
    // So that acknowledgements tell the broker's wall clock.
    config: &["\"log.message.timestamp.type\" = \"LogAppendTime\""],
    dress: Some(dress),
    ..Scenario::new("clock", "a leader's wall clock an hour ahead, then back", play)
};

fn dress(cluster: &mut Cluster, lab: &Lab) -> Result<(), String> {
    let library = needs::fake_clock().ok_or("libfaketime is gone")?;
    for id in cluster.ids() {
        let file = offset(cluster, id);
        set(&file, "+0")?;
        let mut words = lab.enter(id);
        words.extend([
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
            // The file is looked at on every call.
            "FAKETIME_NO_CACHE=1".to_owned(),
            "DONT_FAKE_MONOTONIC=1".to_owned(),
        ]);
        cluster.set_prefix(id, words);
    }
    Ok(())
}

fn play(world: &mut World) -> Result<(), Trouble> {
    let file = offset(&world.cluster, world.victim);
    let before = wall_ms(world, 0)?;
    world.begin();
    set(&file, "+3600")?;
    world.hold();
    let ahead = wall_ms(world, 1)?;
    set(&file, "-3600")?;
    world.hold();
    let behind = wall_ms(world, 2)?;
    set(&file, "+0")?;
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

fn offset(cluster: &Cluster, id: i32) -> PathBuf {
    cluster.dir().join(format!("clock-{id}"))
}

/// Replaced at once: half a line would be half an offset.
fn set(file: &std::path::Path, text: &str) -> Result<(), String> {
    let next = file.with_extension("next");
    fs::write(&next, format!("{text}\n"))
        .and_then(|()| fs::rename(&next, file))
        .map_err(|error| format!("{}: {error}", file.display()))
}
