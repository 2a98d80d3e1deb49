//! Whole clusters in one thread and no real time: the shard, consensus, machine and storage code
//! that ships, in a world of simulated clocks, network, disks and processes.
//!
//! [`run`] lives one life: a cluster is formed, clients produce and read, faults strike, the world
//! heals, and every promise is checked while it happens and once more at the end. Invariants: one
//! seed decides everything, and the same seed gives the same [`Report::hash`]; the oracle knows
//! only what brokers said, what their disks hold and what clients were told; planted bugs live in
//! this crate's glue, or in builds that are for nothing else.

mod boot;
mod broker;
mod clients;
mod closing;
mod faults;
mod filling;
mod journal;
mod life;
mod net;
mod observe;
mod oracle;
mod plant;
mod profile;
mod report;
mod schedules;
mod seats;
mod segments;
mod trace;
mod turn;
mod world;

pub use oracle::{Invariant, Violation};
pub use plant::Plant;
pub use profile::Profile;
pub use report::{Reach, Reached, Report};
pub use schedules::{SCHEDULES, Schedule, schedule};

/// Lives the life that `seed` and `profile` decide. A panic anywhere in it is a violation too.
pub fn run(seed: u64, profile: &Profile) -> Report {
    life::run(seed, profile)
}
