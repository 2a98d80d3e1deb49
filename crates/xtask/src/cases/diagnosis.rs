//! What is known of a broker that is in trouble, or dead: one line per case.

use crate::cases::{blackbox, doctor, elections, logs, planted, traces};
use crate::tally::Tally;

pub fn run(tally: &mut Tally) {
    blackbox::run(tally);
    elections::run(tally);
    logs::run(tally);
    traces::run(tally);
    planted::run(tally);
    doctor::run(tally);
}
