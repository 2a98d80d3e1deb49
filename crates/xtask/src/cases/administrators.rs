//! Every client that can administer takes the same steps: a topic is created with a configuration,
//! listed, described, altered, grown, its records deleted; brokers and groups are looked at; the
//! group of the client's own group story and the topic are deleted.

use crate::clients::Client;
use crate::cluster::Cluster;
use crate::matrix::Matrix;
use crate::tally::Tally;

/// Runs the story with each client; `group_of` names its group.
pub fn run(tally: &mut Tally, cluster: &Cluster, able: &[Client], matrix: &mut Matrix) {
    for client in able.iter().filter(|client| **client != Client::Kcat) {
        tally.check(&format!("{} administers", client.as_str()), || {
            let group = super::groups::topic(*client);
            let steps = client.administer(&cluster.bootstrap(), &group, cluster.dir())?;
            let mut failed = Vec::new();
            let mut done = 0;
            for (step, outcome) in steps {
                let feature = step.replace('-', " ");
                match outcome.as_str() {
                    "ok" => {
                        matrix.shown(&feature, *client);
                        done += 1;
                    }
                    "unsupported-by-client" => matrix.unsupported(&feature, *client),
                    other => failed.push(format!("{feature}: {other}")),
                }
            }
            match failed.is_empty() {
                true => Ok(format!("{done} steps")),
                false => Err(failed.join("\n      ")),
            }
        });
    }
}
