//! One request that is over, and whether it is worth keeping.
//!
//! Invariant: judging allocates nothing and takes no lock; what is kept is built afterwards.

use std::sync::atomic::{AtomicU64, Ordering};

use model::ErrorCode;

use super::context::Caller;
use super::waterfall::{StageMs, is_drawn, ms};
use crate::labels::{FetchStage, KeptWhy, ProduceStage};
use crate::stamps::{Stages, Stamps};
use crate::{label_enum, silence};

label_enum! {
    /// The requests that have stages.
    pub enum Api {
        Produce = "produce",
        Fetch = "fetch",
    }
}

/// The stamps of a request with stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Produce(Stamps<ProduceStage>),
    Fetch(Stamps<FetchStage>),
}

impl Way {
    pub fn api(&self) -> Api {
        match self {
            Way::Produce(_) => Api::Produce,
            Way::Fetch(_) => Api::Fetch,
        }
    }

    pub fn start_ns(&self) -> u64 {
        match self {
            Way::Produce(stamps) => stamps.start_ns(),
            Way::Fetch(stamps) => stamps.start_ns(),
        }
    }

    pub fn whole_ns(&self) -> u64 {
        match self {
            Way::Produce(stamps) => stamps.whole_ns(),
            Way::Fetch(stamps) => stamps.whole_ns(),
        }
    }

    /// Without the time that a fetch was asked to wait for records.
    #[inline]
    pub fn busy_ns(&self) -> u64 {
        match self {
            Way::Produce(stamps) => stamps.whole_ns(),
            Way::Fetch(stamps) => {
                let waited = stamps.stages().find(|(stage, _)| *stage == FetchStage::Wait);
                stamps.whole_ns() - waited.map_or(0, |(_, ns)| ns)
            }
        }
    }

    /// Every stage passed with what it added, in order.
    pub fn stages(&self) -> Vec<(&'static str, u64)> {
        fn all<S: Stages>(stamps: &Stamps<S>) -> Vec<(&'static str, u64)> {
            stamps.stages().map(|(stage, ns)| (stage.as_str(), ns)).collect()
        }
        match self {
            Way::Produce(stamps) => all(stamps),
            Way::Fetch(stamps) => all(stamps),
        }
    }

    pub(super) fn stages_ms(&self) -> Vec<StageMs> {
        self.stages().into_iter().map(|(stage, ns)| StageMs { stage, ms: ms(ns) }).collect()
    }
}

/// The entry that a batch became. All 0: none, or nobody said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub group: u64,
    pub index: u64,
    pub term: u64,
    pub base_offset: i64,
}

/// What is told of a request that is kept.
#[derive(Clone, Debug)]
pub struct Request {
    pub way: Way,
    /// Name and partition of the slowest part, of a produce; of the first, of a fetch.
    pub topic: String,
    pub partition: i32,
    /// As the client names itself.
    pub client: String,
    /// The client's port, and its own number of the request.
    pub connection: u16,
    pub correlation: i32,
    pub version: i16,
    pub entry: Entry,
    /// What this broker failed with.
    pub fault: Option<ErrorCode>,
    pub caller: Option<Caller>,
    /// When a fetch asked whether this broker still leads, and was told.
    pub lease: Option<(u64, u64)>,
}

/// What [`judge`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// A trace of it is exported.
    pub trace: Option<KeptWhy>,
    /// It may be among the slowest.
    pub slow: bool,
}

impl Verdict {
    pub fn is_wanted(&self) -> bool {
        self.slow || self.trace.is_some()
    }
}

/// Not set: nothing is exported, however slow.
const OFF: u64 = u64::MAX;
static SLOW_NS: AtomicU64 = AtomicU64::new(OFF);
static ONE_IN: AtomicU64 = AtomicU64::new(0);
/// Below it a request is none of the slowest; per API.
pub(super) static FLOOR_NS: [AtomicU64; Api::ALL.len()] =
    [const { AtomicU64::new(OFF) }; Api::ALL.len()];

/// Traces are exported from now on.
pub(super) fn switch_on(slow_ns: u64, one_in: u64) {
    ONE_IN.store(one_in, Ordering::Relaxed);
    SLOW_NS.store(slow_ns.min(OFF - 1), Ordering::Relaxed);
}

/// Traces are exported: a caller's header is worth a look.
#[inline]
pub fn is_on() -> bool {
    SLOW_NS.load(Ordering::Relaxed) != OFF
}

/// Judges a request at its end. `failed`: by this broker's fault.
#[inline]
pub fn judge(way: &Way, failed: bool, caller: Option<&Caller>) -> Verdict {
    if !silence::is_on(silence::Part::Requests) {
        return Verdict { trace: None, slow: false };
    }
    let busy_ns = way.busy_ns();
    let slow = busy_ns >= FLOOR_NS[way.api().index()].load(Ordering::Relaxed);
    let slow_ns = SLOW_NS.load(Ordering::Relaxed);
    if slow_ns == OFF {
        return Verdict { trace: None, slow };
    }
    let trace = if failed {
        Some(KeptWhy::Failed)
    } else if busy_ns >= slow_ns {
        Some(KeptWhy::Slow)
    } else if caller.is_some_and(|caller| caller.sampled) {
        Some(KeptWhy::Caller)
    } else if is_drawn(ONE_IN.load(Ordering::Relaxed)) {
        Some(KeptWhy::Sampled)
    } else {
        None
    };
    Verdict { trace, slow }
}

/// Whether an error is this broker's, or the cluster's, and not the asker's. A client that asks
/// the wrong broker, or below the log's start, is answered as it should be.
pub fn is_fault(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownServerError
            | ErrorCode::RequestTimedOut
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::KafkaStorageError
            | ErrorCode::ThrottlingQuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_poll_is_not_slow_for_having_waited() {
        let mut stamps = Stamps::<FetchStage>::new(1_000);
        stamps.mark(FetchStage::Parse, 2_000);
        stamps.mark(FetchStage::Wait, 900_000_000);
        stamps.mark(FetchStage::Read, 900_003_000);
        stamps.mark(FetchStage::Send, 900_005_000);
        let way = Way::Fetch(stamps);
        assert_eq!(way.busy_ns(), 6_000);
        assert_eq!(way.stages().iter().map(|(_, ns)| ns).sum::<u64>(), way.whole_ns());
    }

    #[test]
    fn only_our_own_failures_are_faults() {
        assert!(is_fault(ErrorCode::KafkaStorageError) && is_fault(ErrorCode::RequestTimedOut));
        for code in [ErrorCode::None, ErrorCode::NotLeaderOrFollower, ErrorCode::OffsetOutOfRange] {
            assert!(!is_fault(code), "{code}");
        }
    }
}
