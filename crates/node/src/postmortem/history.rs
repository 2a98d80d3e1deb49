//! What a shard's loop did lately: how its ticks came and where its time went, in bins of a tenth
//! of a second.
//!
//! Invariant: bounded; one write per tick and one comparison per step, nothing is allocated.

use std::collections::{BTreeMap, VecDeque};

use model::limits;
use serde::Serialize;
use telemetry::labels::{BlockedBy, InputKind, Phase};

const BIN_NS: u64 = 100_000_000;
const MS: u64 = 1_000_000;

/// Nanoseconds per phase, by its position.
pub type Spent = [u64; Phase::ALL.len()];

#[derive(Clone, Copy, Default)]
struct Bin {
    began_ns: u64,
    ticks: u64,
    late: u64,
    latest_ns: u64,
    by: Option<BlockedBy>,
    spent: Spent,
    longest: Option<(InputKind, u64)>,
}

/// The last [`limits::LOOP_HISTORY_BINS`] bins with something in them, newest last.
#[derive(Default)]
pub struct History {
    bins: VecDeque<Bin>,
    ticked_ns: u64,
}

/// A loop over some time before a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoopReport {
    /// How far back this looks, milliseconds.
    pub over_ms: u64,
    pub ticks: u64,
    /// Ticks that came late by half a heartbeat or more, and how late the latest of them came.
    pub ticks_late: u64,
    pub late_ms_max: u64,
    /// What used the time before that one.
    pub late_by: Option<&'static str>,
    /// Since the last tick.
    pub last_tick_ms: u64,
    /// Milliseconds by phase, idling left out.
    pub busy_ms: BTreeMap<&'static str, u64>,
    /// The step that took longest: its input and milliseconds.
    pub longest_step: Option<(&'static str, u64)>,
}

impl History {
    fn bin(&mut self, now_ns: u64) -> &mut Bin {
        let current = self.bins.back().is_some_and(|bin| now_ns < bin.began_ns + BIN_NS);
        if !current {
            if self.bins.len() == limits::LOOP_HISTORY_BINS {
                self.bins.pop_front();
            }
            self.bins.push_back(Bin { began_ns: now_ns, ..Bin::default() });
        }
        self.bins.back_mut().expect("just there")
    }

    /// A tick; `late` if it came late by half a heartbeat. `spent` since the tick before.
    pub fn ticked(&mut self, now_ns: u64, spent: &Spent, late: Option<(u64, BlockedBy)>) {
        self.ticked_ns = now_ns;
        let bin = self.bin(now_ns);
        bin.ticks += 1;
        bin.spent.iter_mut().zip(spent).for_each(|(sum, ns)| *sum += ns);
        if let Some((late_ns, by)) = late {
            bin.late += 1;
            if late_ns > bin.latest_ns {
                (bin.latest_ns, bin.by) = (late_ns, Some(by));
            }
        }
    }

    pub fn stepped(&mut self, now_ns: u64, input: InputKind, took_ns: u64) {
        let bin = self.bin(now_ns);
        if bin.longest.is_none_or(|(_, ns)| took_ns > ns) {
            bin.longest = Some((input, took_ns));
        }
    }

    /// The last `over_ms` before `now_ns`, as far as it is known.
    pub fn report(&self, now_ns: u64, over_ms: u64) -> LoopReport {
        let from_ns = now_ns.saturating_sub(over_ms * MS);
        let mut sum = Bin::default();
        for bin in self.bins.iter().filter(|bin| bin.began_ns + BIN_NS > from_ns) {
            sum.ticks += bin.ticks;
            sum.late += bin.late;
            if bin.latest_ns > sum.latest_ns {
                (sum.latest_ns, sum.by) = (bin.latest_ns, bin.by);
            }
            sum.spent.iter_mut().zip(&bin.spent).for_each(|(all, ns)| *all += ns);
            let longer =
                |(_, ns): &(InputKind, u64)| sum.longest.is_none_or(|(_, most)| *ns > most);
            sum.longest = bin.longest.filter(longer).or(sum.longest);
        }
        let busy = Phase::ALL.iter().filter(|phase| **phase != Phase::Idle);
        let busy = busy.map(|phase| (phase.as_str(), sum.spent[phase.index()] / MS));
        LoopReport {
            over_ms,
            ticks: sum.ticks,
            ticks_late: sum.late,
            late_ms_max: sum.latest_ns / MS,
            late_by: sum.by.map(BlockedBy::as_str),
            last_tick_ms: now_ns.saturating_sub(self.ticked_ns) / MS,
            busy_ms: busy.filter(|(_, ms)| *ms > 0).collect(),
            longest_step: sum.longest.map(|(input, ns)| (input.as_str(), ns / MS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_looks_back_as_far_as_asked_and_names_the_worst() {
        let mut history = History::default();
        let mut spent = [0; Phase::ALL.len()];
        for at in 0..40 {
            let late = (at == 10).then_some((700 * MS, BlockedBy::Apply));
            spent[Phase::Flush.index()] = if at == 10 { 690 * MS } else { MS };
            history.ticked(at * 50 * MS, &spent, late);
            history.stepped(at * 50 * MS, InputKind::Message, if at == 10 { 600 * MS } else { 9 });
        }
        let now_ns = 39 * 50 * MS + 7 * MS;
        let all = history.report(now_ns, 5_000);
        assert_eq!((all.ticks, all.ticks_late, all.late_ms_max), (40, 1, 700));
        assert_eq!((all.late_by, all.last_tick_ms), (Some("apply"), 7));
        assert_eq!(all.longest_step, Some(("message", 600)));
        assert_eq!(all.busy_ms, BTreeMap::from([("flush", 690 + 39)]));
        let lately = history.report(now_ns, 500);
        assert_eq!((lately.ticks_late, lately.late_by), (0, None));
        assert!(lately.ticks < 14, "{lately:?}");
    }

    #[test]
    fn it_forgets() {
        let mut history = History::default();
        for at in 0..10 * limits::LOOP_HISTORY_BINS as u64 {
            history.stepped(at * BIN_NS, InputKind::Tick, 1);
        }
        assert_eq!(history.bins.len(), limits::LOOP_HISTORY_BINS);
    }
}
