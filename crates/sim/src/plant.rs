//! Bugs planted into the glue around the product: proof that the oracle sees.
//!
//! Each is a defect that a driver could have; the product's own code is never touched.

/// One planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The shard hears "durable" as soon as a write is handed over: votes and acknowledgements
    /// leave before the sync.
    SendBeforePersist,
    /// A producer with acks=all is answered when the leader has appended.
    AckBeforeCommit,
}

impl Plant {
    pub const ALL: &'static [Plant] = &[Plant::SendBeforePersist, Plant::AckBeforeCommit];

    pub fn as_str(self) -> &'static str {
        match self {
            Plant::SendBeforePersist => "send-before-persist",
            Plant::AckBeforeCommit => "ack-before-commit",
        }
    }

    /// The plant of that name.
    pub fn from_name(name: &str) -> Option<Plant> {
        Plant::ALL.iter().copied().find(|plant| plant.as_str() == name)
    }
}
