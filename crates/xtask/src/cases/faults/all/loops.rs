//! Loops that do not get on, and a log that contradicts raft. All but one are planted: no program
//! that ships can be made to do this from outside.

use std::time::{Duration, Instant};

use super::Fault;
use super::process::revive;
use crate::cases::faults::verdict::Wanted;
use crate::cases::faults::world::{TOPIC, World};
use crate::cluster::kafka::Kafka;
use crate::lab::freezer::Frozen;
use crate::lab::needs::Need;

/// Longer than any page takes.
const LONG_MS: u64 = 20_000;
/// Entries that contradict the next leader's.
const TAIL: usize = 60;
const LIMIT: Duration = Duration::from_secs(15);

pub static INVERSION: Fault = Fault {
    planted: true,
    heal: revive,
    ..Fault::new("inversion", "two locks taken in opposite order (planted)", invert)
};
pub static LONG_HOLD: Fault = Fault {
    planted: true,
    heal: forgive,
    ..Fault::new("lock-hold", "a lock held for 20 s (planted)", hold_long)
};
pub static BLOCKED_APPLY: Fault = Fault {
    planted: true,
    heal: forgive,
    ..Fault::new("apply", "an apply that takes 20 s (planted)", block_apply)
};
pub static BLOCKED_WORKER: Fault = Fault {
    needs: &[Need::Freezer],
    ..Fault::new("worker", "the thread that serves clients frozen", block_worker)
};
pub static STALE_TAIL: Fault = Fault {
    planted: true,
    needs: &[Need::PacketFilter],
    heal: revive,
    ..Fault::new("stale-tail", "a conflict leaves storage ahead of raft (planted)", run_ahead)
};

/// Metadata requests to one broker, one after the other, until one is not answered.
fn ask(world: &World, id: i32) {
    let at = world.cluster.socket(id);
    std::thread::spawn(move || while Kafka::connect(at).and_then(|mut k| k.brokers()).is_ok() {});
}

fn invert(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    world.cluster.plant(world.victim, "lock_inversion", 1)?;
    ask(world, world.victim);
    let words = ["deadlock", "waits for test_", "holds it, taken at crates/node/src/planted.rs:"];
    Ok(Wanted::page("LoopStalled", world.victim, &words))
}

fn hold_long(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    world.cluster.plant(world.victim, "lock_hold", LONG_MS)?;
    ask(world, world.victim);
    let words = ["shard/0", "lock_wait", "test_inner", "crates/node/src/planted.rs:"];
    Ok(Wanted::page("LoopStalled", world.victim, &words))
}

fn block_apply(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    world.cluster.plant(world.victim, "slow_apply", LONG_MS)?;
    Ok(Wanted::page("LoopStalled", world.victim, &["shard/0", "apply_slow"]))
}

fn forgive(world: &mut World) -> Result<(), String> {
    for fault in ["lock_hold", "slow_apply"] {
        world.cluster.plant(world.victim, fault, 0)?;
    }
    Ok(())
}

fn block_worker(world: &mut World) -> Result<Wanted, String> {
    let process = world.pid(world.victim)?;
    world.begin();
    world.hold(Frozen::thread(process, "kafka")?);
    Ok(Wanted::page("LoopStalled", world.victim, &["runtime/0 stands still", "runtime_starved"]))
}

/// A leader takes entries that nobody else gets, others lead meanwhile, and when it hears them its
/// storage replaces what contradicts and keeps the tail behind it (failure F0).
fn run_ahead(world: &mut World) -> Result<Wanted, String> {
    let (victim, others) = (world.victim, world.others());
    world.cluster.plant(victim, "stale_tail", 1)?;
    world.lab()?.cut(victim, &others, true, true)?;
    // Until it no longer believes in itself it takes them; nobody answers its clients.
    let (at, begun) = (world.cluster.socket(victim), Instant::now());
    for _ in 0..TAIL {
        std::thread::spawn(move || Kafka::connect(at).and_then(|mut k| k.produce(TOPIC, 0, b"x")));
    }
    while world.cluster.partitions_of(others[0], TOPIC)?[0].leader == victim {
        if begun.elapsed() > LIMIT {
            return Err("nobody took the victim's partition over".to_owned());
        }
        // The new leader must not have more than the tail is long.
        std::thread::sleep(Duration::from_millis(10));
    }
    world.begin();
    world.lab()?.mend(victim)?;
    let wanted = Wanted::page("InvariantBroken", victim, &["log_view_mismatch"]);
    Ok(wanted.lasting("until the next start"))
}
