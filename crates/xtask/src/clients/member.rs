//! A running member of a consumer group: what it holds now, and everything it printed.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::Client;
use crate::groups::{self, Line};
use crate::job::Job;

/// From the end of its standard input: the last commit, and leaving.
const LEAVE_LIMIT: Duration = Duration::from_secs(60);

/// A member of a group.
pub struct Member {
    name: String,
    job: Job,
}

impl Member {
    /// Starts a member of the group that reads `topic` and has its name. A name that starts with
    /// `static-` is its `group.instance.id` as well.
    pub fn start(
        client: Client,
        bootstrap: &str,
        topic: &str,
        name: &str,
        dir: &Path,
    ) -> Result<Member, String> {
        let job = client.verb("group", &[bootstrap, topic, topic, name], name, dir)?;
        Ok(Member { name: format!("{} {name}", client.as_str()), job })
    }

    /// Ends it without a word to the coordinator.
    pub fn kill(self) {
        drop(self.job);
    }

    /// Everything it printed so far.
    pub fn lines(&mut self) -> Result<Vec<Line>, String> {
        if !self.job.is_running() {
            return Err(format!("{} has ended\n{}", self.name, self.job.stderr()));
        }
        // The last line may be half written.
        let text = self.job.stdout();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        groups::parse(whole)
    }

    /// The partitions that it was given and not told to give back.
    pub fn holds(&mut self, partitions: i32) -> Result<BTreeSet<i32>, String> {
        Ok(groups::holdings(&self.lines()?, partitions))
    }

    /// Tells it to commit and leave.
    pub fn dismiss(&mut self) {
        drop(self.job.stdin());
    }

    /// Waits for its end; what it printed.
    pub fn finish(self) -> Result<Vec<Line>, String> {
        let text = self.job.wait(LEAVE_LIMIT).map_err(|error| format!("{}: {error}", self.name))?;
        groups::parse(&text)
    }
}
