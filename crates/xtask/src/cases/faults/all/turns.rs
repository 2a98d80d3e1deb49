//! Loops that come late again and again, too short each time for a stall to be named, and leaders
//! that change again and again. Both are only what they are by repetition, so these faults last
//! until their page has come.

use std::time::{Duration, Instant};

use super::{Fault, until_paged};
use crate::cases::faults::verdict::Wanted;
use crate::cases::faults::world::{TOPIC, World};
use crate::lab::freezer::Frozen;
use crate::lab::needs::Need;

/// Below what the watchdog calls a stall (1 s, in apply 0.25 s), above what makes a tick late (75 ms).
const PIECE_MS: u64 = 200;
const STILL: Duration = Duration::from_millis(300);
const FREE: Duration = Duration::from_millis(50);
/// For the whole of it.
const LATE_LIMIT: Duration = Duration::from_secs(20);
/// Three elections for each group within a minute, or a term that rises by more than eight in one: either
/// may take a minute to be seen.
const CHURN_LIMIT: Duration = Duration::from_secs(75);
const ELECTION_LIMIT: Duration = Duration::from_secs(15);

pub static SLOW_APPLY: Fault = Fault {
    planted: true,
    heal: forgive,
    ..Fault::new("late-apply", "each apply takes 0.2 s, in the raft loop (planted)", slow_apply)
};
pub static HICCUPS: Fault = Fault {
    needs: &[Need::Freezer],
    ..Fault::new(
        "late-cpu",
        "a leader's raft thread gets the processor for 0.05 s of 0.35 only",
        hiccup,
    )
};
pub static CHURN: Fault =
    Fault::new("churn", "whoever leads stands still until another one leads, in turn", churn);

fn slow_apply(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    world.cluster.plant(world.victim, "slow_apply", PIECE_MS)?;
    Ok(Wanted::page("TicksLate", world.victim, &["come late because of apply"]))
}

fn forgive(world: &mut World) -> Result<(), String> {
    world.cluster.plant(world.victim, "slow_apply", 0)
}

/// As a quota, a neighbour or a host without time for it does.
fn hiccup(world: &mut World) -> Result<Wanted, String> {
    let process = world.pid(world.victim)?;
    let wanted = Wanted::page("TicksLate", world.victim, &["come late because of cpu"]);
    world.begin();
    let frozen = Frozen::thread(process, "shard-")?;
    until_paged(world, wanted, LATE_LIMIT, |_| {
        std::thread::sleep(STILL);
        frozen.hold(false)?;
        std::thread::sleep(FREE);
        frozen.hold(true)
    })
}

fn churn(world: &mut World) -> Result<Wanted, String> {
    let words = ["change again and again", "most began because of timeout"];
    let wanted = Wanted::page("ElectionChurn", world.victim, &words).about_any();
    let mut leader = world.victim;
    world.begin();
    until_paged(world, wanted, CHURN_LIMIT, |world| {
        world.cluster.signal(leader, "STOP")?;
        let next = heir(world, leader);
        world.cluster.signal(leader, "CONT")?;
        leader = next?;
        Ok(())
    })
}

/// Who leads a partition after `old`.
fn heir(world: &World, old: i32) -> Result<i32, String> {
    let begun = Instant::now();
    while begun.elapsed() < ELECTION_LIMIT {
        for id in world.cluster.ids().into_iter().filter(|id| *id != old) {
            let told = world.cluster.partitions_of(id, TOPIC).unwrap_or_default();
            let leader = told.first().map_or(-1, |partition| partition.leader);
            if leader > 0 && leader != old {
                return Ok(leader);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("nobody took {TOPIC}-0 over from broker {old}"))
}
