//! The Kafka side of a broker: listeners, connections, dispatch, one file per API.
//!
//! A frame is charged to the memory budget before a byte of it is stored, decoded by `wire`,
//! authorized, and handed to its API's handler; replies leave in the order of their requests.
//! Invariants: nothing here knows raft, the journal or a shard, only [`node::Node`]; a handler
//! cannot be reached without [`authorize::Authorized`]; bytes that lie, and a handler that
//! panics, cost one connection; every wait has a deadline.

mod alter;
mod api;
mod authorize;
mod call;
mod config;
mod connection;
mod dispatch;
mod opening;
mod reassignments;
mod responses;
mod seats;
mod serve;
mod topics;

pub use config::{BrokerConfig, ListenerConfig};
pub use dispatch::advertised;
pub use serve::{Handle, ServeError, serve};
