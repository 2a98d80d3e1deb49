//! Probes: what connections and requests say about themselves, in their own words. A call site
//! reads as prose, metric names stay in the catalogue. Shards and disk threads speak through the
//! one match over their events instead.
//!
//! Invariants: a probe belongs to one loop and is never shared (it may move between threads);
//! no call blocks, allocates or reads more than one clock; durations are nanoseconds.

mod request;

pub use request::{
    ConnectionProbe, error_code, fetched, frame_refused, produced, request_begun, request_done,
    request_ended,
};
