//! Disks: slow, stuck, failing, full, rotten. Each broker has one of its own on a loop device.

use super::Fault;
use crate::cases::damage;
use crate::cases::faults::verdict::Wanted;
use crate::cases::faults::world::{TOPIC, World};
use crate::lab::disks::Below;
use crate::lab::groups::{Throttle, Trickle};
use crate::lab::needs::Need;

/// Room for the journal and for what brokers keep in reserve.
const OWN: Below = Below::Disk { mib: 1_024 };
/// A sync is one write or a few.
const SLOW: Trickle = Trickle::Writes(4);

pub static SLOW_AT_A_LEADER: Fault = Fault {
    needs: &[Need::LoopDisks, Need::DiskQuota],
    below: OWN,
    ..Fault::new("slow-leader", "4 writes/s left of a leader's disk", slow_at_a_leader)
};
pub static SLOW_AT_A_FOLLOWER: Fault = Fault {
    heal: lead_again,
    ..Fault {
        needs: &[Need::LoopDisks, Need::DiskQuota],
        below: OWN,
        ..Fault::new("slow-follower", "4 writes/s left of a follower's disk", slow_at_a_follower)
    }
};
pub static STUCK: Fault = Fault {
    needs: &[Need::LoopDisks, Need::DiskQuota],
    below: OWN,
    ..Fault::new("stuck", "a leader's sync does not return", stuck)
};
pub static ERRORS: Fault = Fault {
    needs: &[Need::LoopDisks],
    below: OWN,
    heal: mount_again,
    ..Fault::new("eio", "EIO from a leader's disk", fails)
};
pub static FULL: Fault = Fault {
    needs: &[Need::LoopDisks],
    below: OWN,
    heal: make_room,
    ..Fault::new("full", "a leader's disk is full", fill)
};
pub static CORRUPT: Fault =
    Fault::new("corrupt", "a bit of a synced record flipped in a journal", rot);

fn throttle(world: &mut World, id: i32, trickle: Trickle) -> Result<(), String> {
    let (pid, at) = (world.pid(id)?, world.cluster.data_dir(id));
    world.begin();
    world.hold(Throttle::new(world.owner, pid, &at, trickle)?);
    Ok(())
}

fn slow_at_a_leader(world: &mut World) -> Result<Wanted, String> {
    let victim = world.victim;
    throttle(world, victim, SLOW)?;
    Ok(Wanted::page("JournalDiskSlow", victim, &["a sync of its journal takes"]))
}

/// Leaderships are taken from it first.
fn slow_at_a_follower(world: &mut World) -> Result<Wanted, String> {
    let follower = world.others()[0];
    world.cluster.order(follower, &["drain"], std::time::Duration::from_secs(30))?;
    throttle(world, follower, SLOW)?;
    Ok(Wanted::page("JournalDiskSlow", follower, &["a sync of its journal takes"]))
}

fn lead_again(world: &mut World) -> Result<(), String> {
    world.release();
    let follower = world.others()[0];
    let limit = std::time::Duration::from_secs(30);
    world.cluster.order(follower, &["undrain"], limit).map(drop)
}

fn stuck(world: &mut World) -> Result<Wanted, String> {
    let victim = world.victim;
    throttle(world, victim, Trickle::Nothing)?;
    Ok(Wanted::page("JournalDiskStalled", victim, &["of the journal has been at the disk"]))
}

/// The file system says no to everything from one moment to the next.
fn fails(world: &mut World) -> Result<Wanted, String> {
    let victim = world.victim;
    world.begin();
    if !world.disk(victim)?.cut_power()? {
        return Err("this kernel's ext4 has no FS_IOC_SHUTDOWN".to_owned());
    }
    let wanted = Wanted::page("BrokerFatal", victim, &["_failed"]);
    Ok(wanted.lasting("until five minutes after the next start"))
}

fn mount_again(world: &mut World) -> Result<(), String> {
    let victim = world.victim;
    world.cluster.kill_or_gone(victim)?;
    world.disk(victim)?.unmount()?;
    world.disk(victim)?.mount()?;
    world.revive(victim)
}

fn fill(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    world.disk(world.victim)?.fill()?;
    Ok(Wanted::page("DiskFull", world.victim, &["disk is full"]))
}

fn make_room(world: &mut World) -> Result<(), String> {
    world.disk(world.victim)?.free()
}

/// While the broker is down: what a disk does that returns other bytes than it was given.
fn rot(world: &mut World) -> Result<Wanted, String> {
    let victim = world.victim;
    let groups = damage::groups_of(&world.cluster, victim, TOPIC)?;
    let (group, _) = *groups.get(&0).ok_or("the victim has no replica of partition 0")?;
    world.cluster.kill(victim)?;
    damage::flip(&world.cluster.data_dir(victim).join("journal"), group)?;
    world.begin();
    world.revive(victim)?;
    let wanted = Wanted::page("JournalDamaged", victim, &["damaged"]);
    Ok(wanted.lasting("until a minute after the start that found it"))
}
