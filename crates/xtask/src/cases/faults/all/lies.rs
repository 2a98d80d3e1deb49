//! Disks that said Ok and did not keep what they were given: what lies below a broker that stopped in
//! order is put back to how it was before, as a lying disk or a volume restored from an old snapshot
//! does.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Fault;
use crate::cases::faults::verdict::Wanted;
use crate::cases::faults::world::World;
use crate::lab::quiet;
use crate::workspace;

/// What a shutdown writes down last, inside a data directory.
const MANIFEST: &str = "shutdown";
/// Records that are acknowledged and then lost.
const MEANWHILE: Duration = Duration::from_secs(2);
/// Until an empty disk was filled from the others.
const HEAL_LIMIT: Duration = Duration::from_secs(60);

pub static FORGETFUL: Fault = Fault {
    heal: replace,
    ..Fault::new("lying-disk", "a disk forgets 2 s of syncs, not the shutdown's manifest", forget)
};
pub static ROLLED_BACK: Fault = Fault {
    heal: replace,
    ..Fault::new("old-volume", "a broker's volume is put back to how it was 2 s ago", roll_back)
};

fn forget(world: &mut World) -> Result<Wanted, String> {
    put_back(world, true)?;
    let words = ["shutdown_manifest", "acknowledged records may be lost", "invariant_violated"];
    Ok(Wanted::page("BrokerDurabilityViolation", world.victim, &words).lasting(WHY))
}

/// The volume contradicts nothing by itself; whoever leads knows what it had acknowledged.
fn roll_back(world: &mut World) -> Result<Wanted, String> {
    put_back(world, false)?;
    let words = ["follower_forgot", "acknowledged records may be lost", "follower_disagrees"];
    let wanted = Wanted::page("BrokerDurabilityViolation", world.victim, &words);
    Ok(wanted.about_any().lasting(WHY))
}

const WHY: &str = "until the next start of whoever saw it";

/// Stops the victim, keeps what it has, lets it live on for a while, and puts that back.
pub(super) fn put_back(world: &mut World, keep_manifest: bool) -> Result<(), String> {
    let victim = world.victim;
    let now = world.cluster.data_dir(victim);
    let kept = now.with_extension("kept");
    world.cluster.stop_one(victim, 1)?;
    copy(&now, &kept)?;
    world.cluster.launch(victim)?;
    world.cluster.wait_ready()?;
    std::thread::sleep(MEANWHILE);
    world.cluster.stop_one(victim, 1)?;
    let told = |at: &Path, error: std::io::Error| format!("{}: {error}", at.display());
    if keep_manifest {
        let (from, to) = (now.join(MANIFEST), kept.join(MANIFEST));
        std::fs::copy(&from, &to).map_err(|error| told(&from, error))?;
    }
    std::fs::remove_dir_all(&now).map_err(|error| told(&now, error))?;
    std::fs::rename(&kept, &now).map_err(|error| told(&kept, error))?;
    world.begin();
    world.cluster.launch(victim)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to);
    quiet(command)
}

/// As the runbook says where the metadata's replica is among those that may not be believed: an
/// empty disk returns as new replicas, filled from the others.
pub(super) fn replace(world: &mut World) -> Result<(), String> {
    let victim = world.victim;
    diagnosed(world)?;
    world.cluster.stop_one(victim, 1)?;
    world.cluster.wipe(victim)?;
    world.cluster.launch(victim)?;
    world.cluster.wait_ready()?;
    let begun = Instant::now();
    while world.cluster.metric_sum("glasslog_groups_suspect")? > 0.0 {
        if begun.elapsed() > HEAL_LIMIT {
            return Err("what is suspect is not replaced".to_owned());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// What `glasslog doctor` says of it before anybody repairs anything.
fn diagnosed(world: &World) -> Result<(), String> {
    let mut command = Command::new(workspace::program("glasslog"));
    let admin = world.cluster.admin(world.victim).to_string();
    command.args(["doctor", "--admin", &admin]);
    let output = command.output().map_err(|error| format!("glasslog: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = ["what must never happen", "README.md#brokerdurabilityviolation"];
    match words.iter().find(|words| !text.contains(**words)) {
        None if output.status.code() == Some(2) => Ok(()),
        None => Err(format!("doctor ended with {}:\n{text}", output.status)),
        Some(words) => Err(format!("doctor does not say {words:?}:\n{text}")),
    }
}
