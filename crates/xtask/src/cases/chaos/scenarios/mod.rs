//! Every fault there is, one file each.

mod clock;
mod full_disk;
mod kill;
mod loss;
mod partition;
mod pause;
mod power;
mod quota;
mod rolling;
mod sync_error;

use super::world::{Trouble, World};
use crate::cluster::Cluster;
use crate::lab::Lab;
use crate::lab::disks::Below;
use crate::lab::needs::Need;

/// A fault, and what must be true while it lasts.
pub struct Scenario {
    pub name: &'static str,
    /// For the table.
    pub fault: &'static str,
    pub needs: &'static [Need],
    pub below: Below,
    /// Lines of every broker's configuration.
    pub config: &'static [&'static str],
    /// What is done to the brokers' command lines before they start.
    pub dress: Option<Dress>,
    /// Breaks it, mends it, and says when each happened.
    pub play: Play,
}

type Dress = fn(&mut Cluster, &Lab) -> Result<(), String>;
type Play = fn(&mut World) -> Result<(), Trouble>;

impl Scenario {
    /// One that needs nothing special.
    const fn new(name: &'static str, fault: &'static str, play: Play) -> Scenario {
        let below = Below::Machine;
        Scenario { name, fault, needs: &[], below, config: &[], dress: None, play }
    }
}

pub const ALL: [Scenario; 12] = [
    kill::LEADER,
    rolling::TERM,
    pause::LEADER,
    partition::FROM_PEERS,
    partition::ONE_WAY,
    loss::EVERYWHERE,
    quota::LEADER,
    full_disk::EVERYWHERE,
    sync_error::LEADER,
    power::WHOLE_CLUSTER,
    power::LEADER,
    clock::STEPS,
];

/// The scenario of that name.
pub fn named(name: &str) -> Result<&'static Scenario, String> {
    static KNOWN: [Scenario; 12] = ALL;
    KNOWN.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
        let names: Vec<&str> = KNOWN.iter().map(|scenario| scenario.name).collect();
        format!("there is no scenario `{name}`; there are {}", names.join(", "))
    })
}
