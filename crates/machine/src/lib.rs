//! What committed entries mean: the partition machine, the group coordinator and the metadata machine.
//!
//! A machine has two halves. `apply(entry)` runs on every replica for every committed entry and
//! depends on nothing but the entries before it; the leader's half ([`partition::PartitionLead`],
//! [`metadata::MetadataLead`],
//! [`groups::GroupsLead`]) turns requests into entries and decides everything there is to
//! decide. Apply asserts those decisions, it never takes one.
//!
//! Invariants, all of them absences: nothing here reads a clock, draws a random number, locks,
//! logs, waits or touches a file; no iteration order depends on a hash; time enters a machine's
//! state only through entries. Hence two replicas that applied the same entries hold
//! byte-identical snapshots.

mod chain;
pub mod config;
mod error;
pub mod groups;
mod lookup;
pub mod metadata;
pub mod partition;

pub use chain::Mark;
pub use error::{ApplyError, ConfigError, SnapshotError};
pub use lookup::{
    base_offset_of, end_offset_of, first_at_or_after, leader_epoch_of, max_timestamp_of,
};
/// For those above that write batches themselves, or take them from a peer.
pub use wire::records::{BatchBuilder, BatchRules, validate};
