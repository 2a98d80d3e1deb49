//! A broker that is gone, stands still, or is told the wrong thing.

use std::time::{Duration, Instant};

use super::{Fault, until_paged};
use crate::cases::faults::verdict::Wanted;
use crate::cases::faults::world::{TOPIC, World};
use crate::cluster::Cluster;
use crate::lab::freezer::Frozen;
use crate::lab::needs::Need;
use crate::lab::{Lab, clock};

pub static STOPPED: Fault =
    Fault { heal: go_on, ..Fault::new("stop", "SIGSTOP of a leader", stop) };
pub static KILLED: Fault =
    Fault { heal: revive, ..Fault::new("kill", "kill -9 of a leader", kill) };
pub static DESERTED: Fault =
    Fault { heal: revive_both, ..Fault::new("majority", "kill -9 of two of three", desert) };
pub static SHARD: Fault = Fault {
    needs: &[Need::Freezer],
    ..Fault::new("shard", "a leader's raft thread frozen", freeze_shard)
};
pub static TIMEOUT: Fault = Fault {
    heal: forget_timeout,
    ..Fault::new("timeout", "an election time-out of 50 ms in a broker's configuration", time_out)
};
pub static CRASH_LOOP: Fault =
    Fault::new("crash-loop", "kill -9 of a broker 2 s after each of its starts", crash_again);
pub static TOO_FEW: Fault = Fault {
    config: &["min.insync.replicas = 3"],
    heal: revive_other,
    ..Fault::new(
        "under-min-isr",
        "kill -9 of one where all three must be in sync",
        lose_one_of_three,
    )
};
pub static CLOCK: Fault = Fault {
    needs: &[Need::FakeClock],
    dress: Some(dress),
    heal: step_back,
    ..Fault::new("clock", "a leader's wall clock an hour ahead", step)
};

fn stop(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    world.cluster.signal(world.victim, "STOP")?;
    Ok(Wanted::page("BrokerDown", world.victim, &["does not answer"]))
}

fn go_on(world: &mut World) -> Result<(), String> {
    world.cluster.signal(world.victim, "CONT")
}

fn kill(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    world.cluster.kill(world.victim)?;
    Ok(Wanted::page("BrokerDown", world.victim, &["does not answer"]))
}

pub(super) fn revive(world: &mut World) -> Result<(), String> {
    world.revive(world.victim)
}

/// The page of two dead brokers must not hide that nobody leads.
fn desert(world: &mut World) -> Result<Wanted, String> {
    world.begin();
    for id in world.others() {
        world.cluster.kill(id)?;
    }
    Ok(Wanted::page("NoLeader", world.victim, &["knows no leader"]))
}

fn revive_both(world: &mut World) -> Result<(), String> {
    world.others().into_iter().try_for_each(|id| world.revive(id))
}

/// It must be told from a broker that is gone.
fn freeze_shard(world: &mut World) -> Result<Wanted, String> {
    let process = world.pid(world.victim)?;
    world.begin();
    world.hold(Frozen::thread(process, "shard-")?);
    Ok(Wanted::page("LoopStalled", world.victim, &["shard/0 stands still", ": d_state"]))
}

const KEY: &str = "raft.election.timeout.ms";
const END_LIMIT: Duration = Duration::from_secs(15);

/// There is no such key, so that nobody can choose one that churns: the broker does not start, and
/// its last line names the key.
fn time_out(world: &mut World) -> Result<Wanted, String> {
    let victim = world.victim;
    world.cluster.stop_one(victim, 1)?;
    world.cluster.configure(victim, &[&format!("{KEY} = 50")])?;
    world.begin();
    world.cluster.launch(victim)?;
    let status = world.cluster.wait_end(victim, END_LIMIT)?;
    let log = world.cluster.log(victim);
    if status.success() || !log.lines().rev().take(5).any(|line| line.contains(KEY)) {
        return Err(format!("it ended with {status} and does not name {KEY}"));
    }
    Ok(Wanted::page("BrokerDown", victim, &["does not answer"]))
}

fn forget_timeout(world: &mut World) -> Result<(), String> {
    world.cluster.configure(world.victim, &[])?;
    world.cluster.launch(world.victim)
}

/// Each life is scraped twice, so that its age is seen to fall.
const LIFE: Duration = Duration::from_millis(2_200);
const LOOP_LIMIT: Duration = Duration::from_secs(30);

/// As something does that ends it again after each start.
fn crash_again(world: &mut World) -> Result<Wanted, String> {
    let victim = world.victim;
    let words = ["has started", "times in 10 minutes"];
    let wanted = Wanted::page("CrashLoop", victim, &words);
    world.begin();
    until_paged(world, wanted.lasting("until ten minutes after"), LOOP_LIMIT, |world| {
        world.revive(victim)?;
        let begun = Instant::now();
        while world.cluster.metrics_of(victim).is_err() {
            if begun.elapsed() > LOOP_LIMIT {
                return Err(format!("broker {victim} does not answer after its start"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(LIFE);
        Ok(())
    })
}

/// Nobody serves `acks=all` then, and everybody leads as before.
fn lose_one_of_three(world: &mut World) -> Result<Wanted, String> {
    let gone = world.others()[0];
    world.begin();
    world.cluster.kill(gone)?;
    let words = ["refuses acks=all", "too few replicas are in sync"];
    Ok(Wanted::page("UnderMinIsr", world.victim, &words))
}

fn revive_other(world: &mut World) -> Result<(), String> {
    world.revive(world.others()[0])
}

fn dress(cluster: &mut Cluster, lab: &Lab) -> Result<(), String> {
    cluster.ids().into_iter().try_for_each(|id| clock::give(cluster, id, lab.enter(id)))
}

/// Leases and elections do not look at it; retention and time stamps do.
fn step(world: &mut World) -> Result<Wanted, String> {
    let (at, series) = (world.victim, "glasslog_clock_steps_total");
    let above = world.cluster.metrics_of(at)?.sum(series)?;
    world.begin();
    clock::set(&world.cluster, at, "+3600")?;
    let _ = world.cluster.leader(TOPIC, 0)?;
    Ok(Wanted::Told { at, series, label: "", above })
}

fn step_back(world: &mut World) -> Result<(), String> {
    clock::set(&world.cluster, world.victim, "+0")
}
