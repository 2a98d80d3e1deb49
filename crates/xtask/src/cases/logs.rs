//! The log of a running broker is turned down and up again, one room at a time.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::tally::Tally;

const LIMIT: Duration = Duration::from_secs(10);
/// A queue and a thread stand between a line and the file.
const WRITTEN: Duration = Duration::from_millis(500);

/// Runs the story.
pub fn run(tally: &mut Tally) {
    tally.check("what a room logs is changed while the broker runs", || {
        let cluster = Cluster::start_alone("logs")?;
        let id = cluster.ids()[0];
        let order = |words: &[&str]| cluster.order(id, &[&["log"], words].concat(), LIMIT);
        // The change itself is a line of the room `server`, of no limited kind.
        let lines = || {
            std::thread::sleep(WRITTEN);
            cluster.log(id).matches("what is logged was changed").count()
        };
        let filter = order(&["--room", "server", "--level", "error"])?;
        let silent = lines();
        order(&["--reset"])?;
        let again = lines();
        order(&["--room", "node", "--level", "error"])?;
        let others = lines();
        if (silent, again, others) != (0, 1, 2) || filter.trim() != "info,glasslog=error" {
            return Err(format!("{silent}, {again} and {others} lines, filter {filter}"));
        }
        match order(&["--room", "nobody", "--level", "info"]) {
            Err(why) if why.contains("there are broker, node, server, telemetry") => {}
            other => return Err(format!("a room that is none: {other:?}")),
        }
        cluster.remove();
        Ok(filter.trim().to_owned())
    });
}
