//! What replicated logs promise and a bug would break: planted, since no program that ships can be made
//! to do it from outside.

use super::Fault;
use super::process::revive;
use crate::cases::damage;
use crate::cases::faults::verdict::Wanted;
use crate::cases::faults::world::{TOPIC, World};

/// Further than the load gets in the minute it may take.
const AHEAD: u64 = 1_000_000;

pub static POISON_ENTRY: Fault = Fault {
    planted: true,
    heal: revive,
    ..Fault::new("panic", "a leader's state machine panics at an entry (planted)", panic)
};
pub static EARLY_ACKS: Fault = Fault {
    planted: true,
    heal: revive,
    ..Fault::new(
        "early-acks",
        "a leader acknowledges what is neither committed nor on its disk (planted)",
        acknowledge_early,
    )
};

/// Only at this replica: the others go on without it.
fn panic(world: &mut World) -> Result<Wanted, String> {
    let victim = world.victim;
    let groups = damage::groups_of(&world.cluster, victim, TOPIC)?;
    let (group, _) = *groups.get(&0).ok_or("the victim has no replica of partition 0")?;
    world.begin();
    world.cluster.plant(victim, "panic_in_apply", group)?;
    let wanted = Wanted::page("PanicContained", victim, &["a panic in apply was contained"]);
    Ok(wanted.lasting("for ten minutes"))
}

fn acknowledge_early(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    world.cluster.plant(world.victim, "early_acks", AHEAD)?;
    let words = ["acked_beyond_durable", "acknowledged records may be lost"];
    let wanted = Wanted::page("BrokerDurabilityViolation", world.victim, &words);
    Ok(wanted.lasting("until its next start"))
}
