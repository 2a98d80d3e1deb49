//! Every fault there is: how it is made, what must be paged about it, and how it ends. Made from
//! outside where that can be; the planted build only where nothing else reaches.

mod clients;
mod day;
mod disk;
mod lies;
mod loops;
mod network;
mod process;
mod promises;
mod turns;
mod waits;
mod watchers;

use std::time::Duration;

use super::verdict::Wanted;
use super::world::World;
use crate::cluster::Cluster;
use crate::lab::Lab;
use crate::lab::disks::Below;
use crate::lab::needs::Need;

pub struct Fault {
    pub name: &'static str,
    /// For the table.
    pub what: &'static str,
    pub needs: &'static [Need],
    pub below: Below,
    /// It wants brokers with faults to choose from.
    pub planted: bool,
    /// Lines of every broker's configuration.
    pub config: &'static [&'static str],
    /// What is done to the brokers' command lines before they start.
    pub dress: Option<Dress>,
    /// What is wanted may take so long, if longer than a page may.
    pub limit: Duration,
    /// Breaks it, and says what must be heard.
    pub make: Make,
    /// Ends it; brokers that died of it are started again.
    pub heal: Heal,
}

type Dress = fn(&mut Cluster, &Lab) -> Result<(), String>;
type Make = fn(&mut World) -> Result<Wanted, String>;
type Heal = fn(&mut World) -> Result<(), String>;

impl Fault {
    /// One that needs nothing special and ends when nothing holds it any more.
    const fn new(name: &'static str, what: &'static str, make: Make) -> Fault {
        let (below, heal) = (Below::Machine, let_go as Heal);
        let (needs, config, dress, planted): (&[Need], &[&str], _, _) = (&[], &[], None, false);
        let limit = Duration::ZERO;
        Fault { name, what, needs, below, planted, config, dress, limit, make, heal }
    }
}

/// Does a thing again and again until its page has come, or time is up.
fn until_paged(
    world: &mut World,
    wanted: Wanted,
    limit: Duration,
    mut again: impl FnMut(&mut World) -> Result<(), String>,
) -> Result<Wanted, String> {
    while wanted.look(world).is_none() && world.since().elapsed() < limit {
        again(world)?;
    }
    Ok(wanted)
}

fn let_go(world: &mut World) -> Result<(), String> {
    world.release();
    Ok(())
}

pub static ALL: [&Fault; 42] = [
    &loops::INVERSION,
    &loops::LONG_HOLD,
    &loops::BLOCKED_APPLY,
    &loops::BLOCKED_WORKER,
    &disk::SLOW_AT_A_LEADER,
    &disk::SLOW_AT_A_FOLLOWER,
    &disk::STUCK,
    &disk::ERRORS,
    &disk::FULL,
    &disk::CORRUPT,
    &network::PARTITION,
    &network::ONE_WAY,
    &network::LOSS,
    &process::STOPPED,
    &process::KILLED,
    &process::TIMEOUT,
    &network::STARVED,
    &loops::STALE_TAIL,
    &process::CLOCK,
    &clients::POISON,
    &network::BACKLOG,
    &clients::FLOOD,
    &network::SNAPSHOT,
    &turns::SLOW_APPLY,
    &turns::HICCUPS,
    &turns::CHURN,
    &lies::FORGETFUL,
    &lies::ROLLED_BACK,
    &promises::POISON_ENTRY,
    &promises::EARLY_ACKS,
    &watchers::WATCHDOG,
    &watchers::UNEXPLAINED,
    &process::CRASH_LOOP,
    &process::TOO_FEW,
    &watchers::PROMETHEUS,
    &watchers::COLLECTOR,
    &watchers::SERIES,
    &waits::BEHIND,
    &waits::SUSPECT,
    &waits::CONFLICTS,
    &waits::LAG,
    &day::DAY,
];

/// Made only when named: the tests of every change play them.
const BESIDE: [&Fault; 2] = [&process::SHARD, &process::DESERTED];

/// The fault of that name.
pub fn named(name: &str) -> Result<&'static Fault, String> {
    let all = || ALL.iter().chain(&BESIDE).copied();
    all().find(|fault| fault.name == name).ok_or_else(|| {
        let names: Vec<&str> = all().map(|fault| fault.name).collect();
        format!("there is no fault `{name}`; there are {}", names.join(", "))
    })
}
