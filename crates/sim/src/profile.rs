//! What a life is made of, besides its seed.

use crate::plant::Plant;
use crate::schedules::Schedule;

/// Shape of one life. Times are simulated.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Seconds in which faults strike.
    pub fault_seconds: u64,
    /// Seconds after the heal within which everything must serve again, and come to rest.
    pub heal_seconds_max: u64,
    /// Faults that must have had an effect.
    pub faults_min: u64,
    /// What strikes; the seed's own swarm of faults unless said.
    pub schedule: Option<&'static Schedule>,
    pub plant: Option<Plant>,
    /// Keep one line per event in [`Report::lines`](crate::Report::lines).
    pub record: bool,
    /// Print the lines as they happen.
    pub print: bool,
}

impl Default for Profile {
    fn default() -> Self {
        Profile {
            fault_seconds: 60,
            heal_seconds_max: 30,
            faults_min: 5,
            schedule: None,
            plant: None,
            record: false,
            print: false,
        }
    }
}
