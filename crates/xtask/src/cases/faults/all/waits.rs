//! What can wait for the morning: it lasts, or grows, and harms nobody yet. Their tickets take as long as
//! it takes to be sure.

use std::time::Duration;

use super::network::{FEW_GROUPS, hold_back, mend};
use super::{Fault, lies};
use crate::cases::faults::verdict::Wanted;
use crate::cases::faults::world::World;
use crate::lab::needs::Need;

pub static BEHIND: Fault = Fault {
    needs: &[Need::PacketFilter],
    config: &FEW_GROUPS,
    limit: Duration::from_secs(180),
    heal: mend,
    ..Fault::new("behind", "a follower that gets no entries for a minute", fall_behind)
};
pub static SUSPECT: Fault = Fault {
    limit: Duration::from_secs(240),
    heal: lies::replace,
    ..Fault::new("suspect", "an old volume, and nobody empties it", leave_suspect)
};
pub static CONFLICTS: Fault = Fault {
    planted: true,
    limit: Duration::from_secs(180),
    heal: agree,
    ..Fault::new(
        "conflicts",
        "a replica replaces its last entry with each append (planted)",
        disagree,
    )
};
pub static LAG: Fault = Fault {
    limit: Duration::from_secs(26 * 60),
    heal: consume,
    ..Fault::new("lag", "SIGSTOP of a consumer, for twenty minutes", stop_consumer)
};

fn fall_behind(world: &mut World) -> Result<Wanted, String> {
    hold_back(world)?;
    let words = ["of which a replica is behind"];
    Ok(Wanted::ticket("UnderReplicated", world.victim, &words))
}

fn leave_suspect(world: &mut World) -> Result<Wanted, String> {
    lies::put_back(world, false)?;
    Ok(Wanted::ticket("ReplicaInTrouble", world.victim, &["of its replicas", "suspect"]))
}

fn disagree(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    world.cluster.plant(world.victim, "conflicts", 1)?;
    let words = ["log conflicts", "more than its elections explain"];
    let wanted = Wanted::ticket("LogConflicts", world.victim, &words);
    Ok(wanted.about_any().lasting("until ten minutes after"))
}

fn agree(world: &mut World) -> Result<(), String> {
    world.cluster.plant(world.victim, "conflicts", 0)
}

/// The group has committed what it read; its member holds its partitions until its session is over.
fn stop_consumer(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    let [_, consumer] = &world.load;
    consumer.signal("STOP")?;
    let words = ["Consumer group readers does not catch up", "and more and more"];
    let wanted = Wanted::ticket("ConsumerLagGrowing", world.victim, &words);
    Ok(wanted.about_any().lasting("until the lowest of five minutes is below what it was"))
}

fn consume(world: &mut World) -> Result<(), String> {
    let [_, consumer] = &world.load;
    consumer.signal("CONT")
}
