//! One broker's inside: pure shards and the driver that is their only seam, the peer transport,
//! journal and segment threads, published views, formation, reconcile, shutdown.
//!
//! Invariants (absences above all): nothing in [`shard`] knows time, locks, tasks or files;
//! waiting is a DAG, and a shard waits for nobody; whoever reads a partition never asks its
//! shard; no lock is held across an await.

pub mod boot;
pub mod budget;
pub mod datadir;
mod driver;
pub mod ending;
pub mod formation;
mod gather;
mod gauges;
mod heal;
#[cfg(test)]
mod heal_tests;
mod host;
mod inbound;
mod journal_thread;
mod leadership;
mod lookup;
mod mailbox;
pub mod manifest;
mod node;
mod observe;
mod offers;
mod opening;
mod operate;
pub mod peer;
mod peer_news;
#[cfg(feature = "planted")]
pub mod planted;
mod plumbing;
mod postmortem;
mod protect;
mod question;
#[cfg(test)]
mod rebuild_tests;
pub mod recover;
mod requests;
mod segment_thread;
mod settings;
pub mod shard;
mod shutdown;
#[cfg(test)]
mod shutdown_tests;
mod status;
mod tasks;
mod tenants;
mod traces;
mod transfers;
mod view;

/// Topic configs: names, defaults, sources.
pub use machine::config;
/// Requests to coordinators of consumer groups, and their answers.
pub use machine::groups;
/// What metadata requests, responses and images look like.
pub use machine::metadata;

pub use ending::{Crash, EXIT_FATAL};
pub use leadership::Leadership;
pub use lookup::TimestampOffset;
pub use node::Node;
pub use offers::OfferView;
pub use operate::{Draining, Emptying};
pub use postmortem::{BallotView, LoopReport, Postmortem, is_written_by_brokers, new_topic_id};
pub use requests::Ask;
pub use settings::{InitialBroker, NodeConfig, StartError};
pub use shard::{
    AdminAnswer, AdminAsk, Answer, AttemptView, Guarded, MemberStatus, Produced, ProducerStatus,
    QuorumReplica, QuorumStatus, Refusal,
};
pub use shutdown::Hurry;
pub use status::{
    ElectionsPage, GroupView, NodeStatus, PeerView, Placed, PlacementView, Readiness, Trouble,
    UnderWay, Unled,
};
pub use tenants::{ConsumersPage, GroupLag, PartitionLag, Traffic};
pub use transfers::TransferView;
pub use view::{PartitionView, ViewState, Waiter};
