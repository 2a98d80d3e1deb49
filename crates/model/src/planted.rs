//! Bugs of the product's own code, planted for the simulator's mutants.
//!
//! Only a build with the feature `planted` has this module and the places that ask it; no program
//! that ships does. Invariant: a thread has the defect it was given and no other.

use std::cell::Cell;

/// One defect, each of which a replicated log has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Raft's storage overwrites a conflicting entry and keeps the tail behind it (failure F0).
    StaleTail,
    /// Raft's storage says of each append that it replaced one entry more than it did: told like a
    /// replica that disagrees again and again, and harmless.
    ReplacedTail,
    /// The journal's records carry no kind: a hard state is read as one more entry (failure F0).
    UntypedRecords,
    /// A partition machine's snapshot forgets its producers.
    DedupeNotInSnapshot,
}

thread_local! {
    static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
}

/// This thread's code has `defect` from now on, or none.
pub fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}

pub fn has(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}
