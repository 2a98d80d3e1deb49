//! One broker's inside: shards, their driver, the peer transport, journal and segment threads,
//! published views.

pub mod budget;
pub mod datadir;
pub mod formation;
pub mod peer;
