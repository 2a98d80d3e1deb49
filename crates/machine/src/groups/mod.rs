//! Consumer groups, the classic protocol: what a partition of `__consumer_offsets` means.
//!
//! Two halves. [`CoordinatorMachine`] is applied on every replica: it holds what was decided, the
//! members and assignment of each completed rebalance and every committed offset. [`GroupsLead`]
//! is the leader's: joins, sessions and rebalances under way, which nobody else has to know; it is
//! made anew with each leadership, with fresh session time-outs.
//!
//! Entries are record batches with the keys and values of Kafka's own `__consumer_offsets`
//! (OffsetCommitKey/Value, GroupMetadataKey/Value), so whatever reads that topic reads this one.
//! Invariants: nothing a client was told is lost with a leader, for it is told after its entry was
//! applied; a committed offset changes only by an entry; a generation never goes back.

pub mod lead;
mod machine;
mod protocol;
pub mod record;
mod state;
#[cfg(test)]
mod tests;

pub use lead::{Dropped, Effects, GroupsConfig, GroupsLead};
pub use machine::CoordinatorMachine;
pub use protocol::{Caller, Committed, Request, Response};
pub use state::{CommittedOffset, Groups, StoredGroup, StoredMember};

/// The topic whose partitions coordinate groups.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The partition of [`OFFSETS_TOPIC`] that coordinates a group, as Kafka computes it: Java's hash
/// of the group id, without its sign, modulo the number of partitions.
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    let hash = group
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX) % partitions.max(1)
}
