//! Probes: what a room says about itself, in its own words. A call site reads as prose
//! (`probe.synced(ns, batches, lsn)`), metric names stay in the catalogue.
//!
//! Invariants: a probe belongs to one loop and is never shared (it may move between threads);
//! no call blocks, allocates or reads more than one clock; durations are nanoseconds.

mod journal;
mod peer;
mod request;
mod segment;
mod shard;

pub use journal::JournalProbe;
pub use peer::{PeerProbe, peer_died, peer_refused};
pub use request::{ConnectionProbe, error_code, fetched, frame_refused, produced, request_done};
pub use segment::{CheckpointProbe, SegmentProbe, fetch_read};
pub use shard::{ShardProbe, Timer};
