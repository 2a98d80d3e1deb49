//! Words every room of Glasslog shares: identifiers, offsets, Kafka error codes and API keys,
//! points in time, the shape of a replicated log entry, and every bound of the system.
//!
//! Invariants: this crate does no I/O, reads no clock, takes no lock and draws no random
//! number; nothing here depends on another room.

mod api_key;
mod error_code;
mod ids;
pub mod limits;
mod log;
#[cfg(feature = "planted")]
pub mod planted;
mod time;

pub use api_key::ApiKey;
pub use error_code::ErrorCode;
pub use ids::{
    BrokerId, ClusterId, DirectoryId, GroupId, Incarnation, Lsn, ParseIdError, ProducerId,
    ReplicaId, TopicId,
};
pub use log::{EntryKind, HardState, LogEntry, PrefixChecksum, RaftEntryType, SyncPolicy};
pub use time::Now;
