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
        let lines = |topic: &str| -> Result<usize, String> {
            let before = cluster.log(id).matches("election won").count();
            cluster.create_topic(topic, 1)?;
            std::thread::sleep(WRITTEN);
            Ok(cluster.log(id).matches("election won").count() - before)
        };
        let order = |words: &[&str]| cluster.order(id, &[&["log"], words].concat(), LIMIT);
        let told = lines("loud")?;
        let filter = order(&["--room", "node", "--level", "error"])?;
        let silent = lines("quiet")?;
        order(&["--reset"])?;
        let again = lines("loud-again")?;
        if (told, silent, again) != (1, 0, 1) || filter.trim() != "info,node=error" {
            return Err(format!("{told}, {silent} and {again} lines, filter {filter}"));
        }
        match order(&["--room", "nobody", "--level", "info"]) {
            Err(why) if why.contains("there are broker, node, server, telemetry") => {}
            other => return Err(format!("a room that is none: {other:?}")),
        }
        cluster.remove();
        Ok(filter.trim().to_owned())
    });
}
