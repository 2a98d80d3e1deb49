//! Defects that tests plant into a group to see that another test would notice. None of this
//! exists outside test builds.

use crate::Timing;
use crate::elections::Situation;

#[derive(Clone, Debug, Default)]
pub(crate) struct Planted {
    /// Votes and acks leave before the disk has what they promise.
    pub sends_before_persist: bool,
    /// The lease is counted in own ticks since an echo arrived, as raft-rs's LeaseBased does.
    pub lease_on_ticks: bool,
    /// Answering a heartbeat promises nothing.
    pub forgets_promise: bool,
    /// An election that nobody can win any more is waited out.
    pub waits_for_split_votes: bool,
    /// Nobody looks at what a peer says, nor at the log around a Ready.
    pub unchecked: bool,
    /// No defect: what `quiet.rs` would take on itself goes through raft.
    pub long_way: bool,
    ticks: u64,
    echo_tick: Option<u64>,
}

impl Planted {
    pub fn election<'a>(&self, mut situation: Situation<'a>) -> Situation<'a> {
        situation.term_durable &= !self.waits_for_split_votes;
        situation
    }

    pub fn count_tick(&mut self) {
        self.ticks += 1;
    }

    pub fn echoed(&mut self) {
        self.echo_tick = Some(self.ticks);
    }

    pub fn lease_by_ticks(&self, timing: &Timing) -> Option<u64> {
        let since_ms = (self.ticks - self.echo_tick?) * timing.tick_ms;
        timing.lease_ms.checked_sub(since_ms).filter(|left| *left > 0)
    }
}
