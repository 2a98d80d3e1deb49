//! The cluster's metadata: brokers, topics and where their replicas are, configs, id counters.
//!
//! One group holds it. Its leader turns a [`Request`] into a [`Command`] ([`decide`]: rules,
//! placement), every replica applies commands, and the result is an immutable [`Image`] that
//! readers share. [`Change`] tells the node what to reconcile.
//!
//! Invariants: group and replica ids are handed out by apply, in log order, and never again; a
//! deleted topic's groups stay named as deleted; a command is judged at apply only by what every
//! version judges alike (existence, uniqueness), so mixed versions cannot diverge.

mod decide;
mod decide_configs;
mod decide_partitions;
mod ids;
mod image;
mod machine;
mod names;
mod namesakes;
mod placement;
mod protocol;
mod reassign;
mod snapshot;
#[cfg(test)]
mod tests;

pub use decide::decide;
pub use image::{BrokerRegistration, DeletedGroups, Image, Listener, Partition, Replica, Topic};
pub use machine::{Change, MetadataLead, MetadataMachine};
pub use names::{is_internal, validate_topic_name};
pub use protocol::{
    AddPartitions, Command, ConfigResource, CreateTopic, DecodeError, PlacedTopic, Request,
    Response, TopicRef, decode_command, decode_request, decode_response, encode_command,
    encode_request, encode_response,
};
pub use reassign::{Move, Placing, partitions_on, replicas_on};
