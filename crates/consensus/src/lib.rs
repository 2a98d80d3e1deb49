//! One raft group as a pure value: messages, ticks and proposals go in; writes, messages,
//! committed entries and events come out. Built on raft-rs 0.7.0 (`RawNode`), with our own log
//! view, leases, elections and guards around it.
//!
//! Invariants (absences above all): nothing here reads a clock, draws a random number that
//! matters, takes a lock, awaits, logs or touches a disk. Time is `model::Now`, and the same
//! inputs give the same outputs. Nothing leaves that promises durability before
//! [`Group::persisted`] said so.
//!
//! **Panics.** raft-rs panics on broken invariants (about thirty `fatal!` sites) and so do the
//! assertions here. Every call on a [`Group`] except the queries may panic; the caller wraps
//! calls in `catch_unwind`, drops the group after an unwind and rebuilds it from the journal.

mod ballots;
mod campaign;
mod config;
pub mod convert;
mod elections;
mod error;
mod event;
mod flow;
mod group;
mod guard;
#[cfg(test)]
mod harness;
mod lease;
mod log_view;
mod members;
mod membership;
mod observe;
mod output;
mod peers;
mod quiet;
mod snapshot;
mod status;
mod terms;
mod truth;

pub use campaign::Beat;
pub use config::{GroupConfig, Restored, Timing};
pub use error::{ConsensusError, DropReason, ProposeError};
pub use event::{
    Ballot, ChangeReason, Disagreement, ElectionOutcome, ElectionReason, Event, Invariant,
    RefusedMessage, Role, SnapshotOutcome, Starvation, SuspectReason, VoteAnswer,
};
pub use group::Group;
pub use log_view::EntryFetch;
pub use membership::{ChangeRefused, MembershipChange};
pub use output::{GroupOut, ReadIndexed, ReadyWrite, SnapshotPoint};
/// raft's wire types (Message, ConfState, ...): peers ship these bytes verbatim.
pub use raft::eraftpb;
pub use snapshot::{SnapshotLog, SnapshotVerdict};
pub use status::{AttemptStatus, GroupStatus, PeerProgress, ReplicationState};
pub use truth::Starved;

// A shard's thread is not the one that recovered its groups.
const _: fn() = || {
    fn moves_between_threads<T: Send>() {}
    moves_between_threads::<Group>();
};
