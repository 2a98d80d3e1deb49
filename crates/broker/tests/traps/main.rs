//! The traps of Kafka's protocol against a real node over loopback: one broker, clients that
//! speak through `wire`, and clients that lie.

mod admin;
mod configs;
mod connections;
mod eleven;
mod harness;
mod hostile;
mod operators;
mod records;
