//! Those who watch: the watchdog, the collector of spans, the metrics' own size, Prometheus itself.

use std::time::{Duration, Instant};

use super::Fault;
use crate::cases::faults::verdict::Wanted;
use crate::cases::faults::world::World;
use crate::lab::freezer::Frozen;
use crate::lab::needs::Need;

pub static WATCHDOG: Fault = Fault {
    needs: &[Need::Freezer],
    ..Fault::new("watchdog", "a broker's watchdog frozen", freeze_watchdog)
};
pub static UNEXPLAINED: Fault = Fault {
    needs: &[Need::Freezer],
    ..Fault::new("unexplained", "a raft thread frozen behind a frozen watchdog", freeze_both)
};
pub static COLLECTOR: Fault = Fault {
    limit: Duration::from_secs(120),
    heal: tell_nobody,
    ..Fault::new("collector", "spans for a collector that is not there", tell_somebody)
};
pub static SERIES: Fault = Fault {
    planted: true,
    limit: Duration::from_secs(180),
    heal: bound,
    ..Fault::new("series", "3,000 rows of a label that nobody bounds (planted)", unbound)
};
pub static PROMETHEUS: Fault = Fault {
    limit: Duration::from_secs(300),
    heal: watch_again,
    ..Fault::new("prometheus", "SIGSTOP of Prometheus", blind)
};

fn freeze_watchdog(world: &mut World) -> Result<Wanted, String> {
    let process = world.pid(world.victim)?;
    world.begin();
    world.hold(Frozen::thread(process, "watchdog")?);
    Ok(Wanted::page("WatchdogDead", world.victim, &["its watchdog has not looked for"]))
}

/// What nobody explains must be seen all the same.
fn freeze_both(world: &mut World) -> Result<Wanted, String> {
    let process = world.pid(world.victim)?;
    world.hold(Frozen::thread(process, "watchdog")?);
    world.begin();
    world.hold(Frozen::thread(process, "shard-")?);
    let words = ["no sign of life of its shard loop", "no cause is named"];
    Ok(Wanted::page("LoopHeartbeatLost", world.victim, &words))
}

/// Nobody listens there.
const NOWHERE: &str = "tracing.otlp.endpoint = \"http://127.0.0.1:9\"";

fn tell_somebody(world: &mut World) -> Result<Wanted, String> {
    let victim = world.victim;
    world.cluster.stop_one(victim, 1)?;
    world.cluster.configure(victim, &[NOWHERE, "tracing.sample.one.in = 1"])?;
    world.cluster.launch(victim)?;
    world.cluster.wait_ready()?;
    world.begin();
    let wanted = Wanted::ticket("TelemetryDropping", victim, &["x span in 5 minutes"]);
    Ok(wanted.lasting("for five minutes"))
}

fn tell_nobody(world: &mut World) -> Result<(), String> {
    let victim = world.victim;
    world.cluster.stop_one(victim, 1)?;
    world.cluster.configure(victim, &[])?;
    world.cluster.launch(victim)
}

fn unbound(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    world.cluster.plant(world.victim, "topic_rows", 3_000)?;
    Ok(Wanted::ticket("SeriesBudget", world.victim, &["more than the 3000 it may"]))
}

fn bound(world: &mut World) -> Result<(), String> {
    world.cluster.plant(world.victim, "topic_rows", 0)
}

/// He is heard once a minute.
const BEAT: Duration = Duration::from_secs(75);

/// First he must be heard twice, or his silence says nothing.
fn blind(world: &mut World) -> Result<Wanted, String> {
    hear_him(world, 2)?;
    world.begin();
    world.observers.hold(true)?;
    Ok(Wanted::Silence)
}

fn watch_again(world: &mut World) -> Result<(), String> {
    let before = world.dead_man();
    world.observers.hold(false)?;
    hear_him(world, before + 1)
}

fn hear_him(world: &World, times: usize) -> Result<(), String> {
    let begun = Instant::now();
    while world.dead_man() < times {
        if begun.elapsed() > BEAT {
            return Err("the dead man is not heard once a minute".to_owned());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
