//! The shard's probe: steps, turns, ticks and who made them late.

use std::cell::Cell;

use model::limits;

use crate::beat::Beat;
use crate::family::Local;
use crate::labels::{BlockedBy, InputKind, Loop, Phase};
use crate::metric::LocalHistogram;
use crate::{clock, lock, metrics};

const TICK_LATE_NS: u64 = limits::TICK_LATE_MS * 1_000_000;

/// One per shard thread.
pub struct ShardProbe {
    steps: Local<InputKind>,
    turns: LocalHistogram,
    applies: LocalHistogram,
    heartbeats: LocalHistogram,
    last_heartbeat_ns: Cell<u64>,
    lock_waited_ns: Cell<u64>,
}

/// Runs from [`ShardProbe::begin`] to [`Timer::end`].
#[must_use = "a timer that never ends measures nothing"]
pub struct Timer<'a> {
    target: &'a LocalHistogram,
    start_ns: u64,
}

impl Timer<'_> {
    /// The step is over; its duration in nanoseconds.
    #[inline]
    pub fn end(self) -> u64 {
        let ns = clock::mono_ns().saturating_sub(self.start_ns);
        self.target.observe(ns);
        ns
    }
}

impl Default for ShardProbe {
    fn default() -> ShardProbe {
        ShardProbe::new()
    }
}

impl ShardProbe {
    /// Call it on the shard's own thread: lock waits are counted per thread.
    pub fn new() -> ShardProbe {
        ShardProbe {
            steps: metrics().step_seconds.local(),
            turns: metrics().turn_inputs.local(),
            applies: metrics().apply_batch_seconds.local(),
            heartbeats: metrics().raft_heartbeat_interval_seconds.local(),
            last_heartbeat_ns: Cell::new(0),
            lock_waited_ns: Cell::new(lock::waited_ns()),
        }
    }

    /// One input goes through the pure core from here on.
    #[inline]
    pub fn begin(&self, beat: &Beat, input: InputKind) -> Timer<'_> {
        let start_ns = clock::mono_ns();
        beat.enter(Phase::Step, input, start_ns);
        Timer { target: self.steps.at(input), start_ns }
    }

    /// A turn took this many inputs.
    pub fn turn(&self, inputs: usize) {
        self.turns.observe(inputs as u64);
    }

    /// An input was refused because its lane was full.
    pub fn refused_input(&self) {
        metrics().shard_inputs_refused_total.inc();
    }

    /// Committed entries went through the machines.
    pub fn applied(&self, entries: u64, ns: u64) {
        self.applies.observe(ns);
        metrics().apply_entries_total.add(entries);
    }

    /// A heartbeat round left at `now_ns` ([`clock::mono_ns`]).
    pub fn heartbeats_left(&self, now_ns: u64) {
        let last_ns = self.last_heartbeat_ns.replace(now_ns);
        if last_ns > 0 {
            self.heartbeats.observe(now_ns.saturating_sub(last_ns));
        }
    }

    /// A tick was due at `due_ns` and is given at `now_ns` ([`clock::mono_ns`]). Late by more
    /// than half a heartbeat, it is blamed on what this loop spent the time on since the last.
    pub fn ticked(&self, beat: &Beat, due_ns: u64, now_ns: u64) -> Option<BlockedBy> {
        metrics().raft_ticks_total.inc();
        let spent_ns = beat.take_spent(now_ns);
        let waited_ns = lock::waited_ns();
        let locks_ns = waited_ns.saturating_sub(self.lock_waited_ns.replace(waited_ns));
        let late_ns = now_ns.saturating_sub(due_ns);
        if late_ns <= TICK_LATE_NS {
            return None;
        }
        let blame = blame(&spent_ns, locks_ns, late_ns);
        metrics().raft_ticks_late_total.at(blame).inc();
        debug_assert_eq!(beat.kind(), Loop::Shard);
        Some(blame)
    }
}

/// Who used the time: a lock that took half of the lateness, else the room that took most of
/// it, else nobody, which means that the thread did not run.
fn blame(spent_ns: &[u64; Phase::ALL.len()], locks_ns: u64, late_ns: u64) -> BlockedBy {
    if locks_ns >= late_ns / 2 {
        return BlockedBy::Lock;
    }
    let mut rooms = [0u64; BlockedBy::ALL.len()];
    for phase in Phase::ALL {
        let room = match phase {
            Phase::Idle => continue,
            Phase::Apply => BlockedBy::Apply,
            Phase::Persist | Phase::Write | Phase::Sync | Phase::Read => BlockedBy::Persist,
            Phase::Send | Phase::Reply | Phase::Publish | Phase::ChannelFull => BlockedBy::Send,
            _ => BlockedBy::Step,
        };
        rooms[room.index()] += spent_ns[phase.index()];
    }
    let worst = BlockedBy::ALL.iter().max_by_key(|room| rooms[room.index()]).expect("not empty");
    if rooms[worst.index()] >= late_ns / 2 { *worst } else { BlockedBy::Cpu }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn spent(phase: Phase, ms: u64) -> [u64; Phase::ALL.len()] {
        let mut spent = [0; Phase::ALL.len()];
        spent[phase.index()] = ms * MS;
        spent
    }

    #[test]
    fn a_late_tick_names_what_used_the_time() {
        assert_eq!(blame(&spent(Phase::Apply, 180), 0, 200 * MS), BlockedBy::Apply);
        assert_eq!(blame(&spent(Phase::Persist, 180), 0, 200 * MS), BlockedBy::Persist);
        assert_eq!(blame(&spent(Phase::Flush, 180), 0, 200 * MS), BlockedBy::Step);
        assert_eq!(blame(&spent(Phase::Publish, 180), 150 * MS, 200 * MS), BlockedBy::Lock);
        assert_eq!(blame(&spent(Phase::Idle, 180), 0, 200 * MS), BlockedBy::Cpu);
    }

    #[test]
    fn ticks_are_judged_by_their_lateness() {
        let (beat, probe) = (Beat::task(Loop::Shard, 900), ShardProbe::new());
        let start_ns = clock::mono_ns();
        beat.enter(Phase::Apply, InputKind::None, start_ns);
        let late = start_ns + 200 * MS;
        assert_eq!(probe.ticked(&beat, start_ns, late), Some(BlockedBy::Apply));
        assert_eq!(probe.ticked(&beat, late, late + 10 * MS), None);
        let timer = probe.begin(&beat, InputKind::Tick);
        assert!(timer.end() < 1_000 * MS);
    }
}
