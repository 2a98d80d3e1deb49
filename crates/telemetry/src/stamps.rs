//! Stage stamps: when a request passed each stage of its way. Plain data that travels with the
//! request; the durations are observed together at the end.
//!
//! Invariant: the durations of the stages add up to the whole, exactly, in whatever order the
//! stamps were made: stages that overlap (a follower may acknowledge before our own fsync) are
//! charged only with what they add to the ones before them.

use std::marker::PhantomData;

use crate::label::Label;
use crate::labels::{FetchStage, InflightStage, ProduceStage};

/// Room for the longest way.
const STAGES_MAX: usize = 9;

/// The ordered stages of one kind of request.
pub trait Stages: Label {
    /// What a request in this stage is called while it is in flight.
    fn inflight(self) -> InflightStage;
}

impl Stages for ProduceStage {
    fn inflight(self) -> InflightStage {
        InflightStage::ALL[InflightStage::ProduceParse.index() + self.index()]
    }
}

impl Stages for FetchStage {
    fn inflight(self) -> InflightStage {
        InflightStage::ALL[InflightStage::FetchParse.index() + self.index()]
    }
}

const _: () = assert!(ProduceStage::ALL.len() <= STAGES_MAX && FetchStage::ALL.len() <= STAGES_MAX);

/// Moments on one scale ([`crate::clock::mono_ns`]), nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps<S> {
    start_ns: u64,
    /// End of each stage; 0: not passed.
    end_ns: [u64; STAGES_MAX],
    stages: PhantomData<fn(S)>,
}

impl<S: Stages> Stamps<S> {
    /// The last byte of the request was read at `start_ns`.
    pub fn new(start_ns: u64) -> Stamps<S> {
        assert!(start_ns > 0, "0 stands for a stage not passed");
        Stamps { start_ns, end_ns: [0; STAGES_MAX], stages: PhantomData }
    }

    /// `stage` ended at `now_ns`. Marked twice, the later moment counts.
    #[inline]
    pub fn mark(&mut self, stage: S, now_ns: u64) {
        let end = &mut self.end_ns[stage.index()];
        *end = now_ns.max(*end);
    }

    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// When `stage` ended.
    pub fn end_ns(&self, stage: S) -> Option<u64> {
        Some(self.end_ns[stage.index()]).filter(|end| *end > 0)
    }

    /// From the start to the last stamp.
    pub fn whole_ns(&self) -> u64 {
        let last = self.end_ns.iter().copied().max().unwrap_or(0);
        last.saturating_sub(self.start_ns)
    }

    /// The stages passed, with what each added to the whole.
    pub fn stages(&self) -> impl Iterator<Item = (S, u64)> + '_ {
        let mut reached = self.start_ns;
        S::ALL.iter().filter_map(move |stage| {
            let end = self.end_ns[stage.index()];
            if end == 0 {
                return None;
            }
            let added = end.saturating_sub(reached);
            reached = reached.max(end);
            Some((*stage, added))
        })
    }

    /// Of the parts of one request the one that took longest: the request waited for it.
    pub fn slowest(self, other: Stamps<S>) -> Stamps<S> {
        if other.start_ns + other.whole_ns() > self.start_ns + self.whole_ns() {
            other
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_to_the_whole_in_any_order() {
        // Every permutation of five moments over five stages, two of them the same moment.
        let moments = [110, 150, 150, 400, 900];
        let stages = &ProduceStage::ALL[..5];
        for seed in 0..120usize {
            let (mut left, mut seed) = (moments.to_vec(), seed);
            let mut stamps = Stamps::<ProduceStage>::new(100);
            for stage in stages {
                let pick = seed % left.len();
                seed /= left.len();
                stamps.mark(*stage, left.remove(pick));
            }
            let sum: u64 = stamps.stages().map(|(_, ns)| ns).sum();
            assert_eq!((sum, stamps.whole_ns()), (800, 800));
        }
    }

    #[test]
    fn a_stage_not_passed_is_not_told() {
        let mut stamps = Stamps::<FetchStage>::new(10);
        stamps.mark(FetchStage::Parse, 20);
        stamps.mark(FetchStage::Send, 50);
        let told: Vec<_> = stamps.stages().collect();
        assert_eq!(told, [(FetchStage::Parse, 10), (FetchStage::Send, 30)]);
        assert_eq!(stamps.end_ns(FetchStage::Wait), None);
    }

    #[test]
    fn the_slowest_part_stands_for_the_request() {
        let (mut fast, mut slow) = (Stamps::<ProduceStage>::new(5), Stamps::new(5));
        fast.mark(ProduceStage::Commit, 20);
        slow.mark(ProduceStage::Commit, 90);
        assert_eq!(fast.slowest(slow), slow);
        assert_eq!(slow.slowest(fast), slow);
    }

    #[test]
    fn every_stage_has_a_name_in_flight() {
        for stage in ProduceStage::ALL {
            assert_eq!(stage.inflight().as_str(), format!("produce_{stage}"));
        }
        for stage in FetchStage::ALL {
            assert_eq!(stage.inflight().as_str(), format!("fetch_{stage}"));
        }
    }
}
