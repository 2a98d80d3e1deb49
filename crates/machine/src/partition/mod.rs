//! One partition: a log of record batches, and what must be known about it to go on.
//!
//! [`PartitionMachine`] is the half that every replica runs; [`PartitionLead`] the leader's,
//! which decides what a producer's batch becomes; [`retention`] decides what the leader proposes
//! as the log grows old.
//!
//! Invariants: the next offset is the number of records ever appended; a batch's stamp equals
//! it; no applied batch is rejected, only contradictions are ([`ApplyError`]); a replica's
//! snapshot is a function of the entries it applied.

mod control;
mod epochs;
mod lead;
mod machine;
mod producers;
mod retention;
mod snapshot;
#[cfg(test)]
mod tests;

pub use crate::chain::Mark;
pub use control::Proposal;
pub use epochs::EpochEnd;
pub use lead::{PartitionLead, Stamp, StampConfig};
pub use machine::{Applied, PartitionMachine};
pub use producers::{KeptBatch, ProducerView};
pub use retention::{RetentionConfig, SegmentInfo, retention};
