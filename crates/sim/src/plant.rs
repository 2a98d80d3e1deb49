//! Planted bugs: proof that the oracle sees.
//!
//! Most are defects that a driver, a disk thread, a transport or a disk could have, in this crate's
//! glue. Those inside the product's own code exist in builds with the feature `planted` alone,
//! which is how `cargo xtask mutants` builds; it runs each until it is caught.

macro_rules! plants {
    ($($(#[$doc:meta])* $variant:ident => $text:literal,)*) => {
        /// One planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Plant { $($(#[$doc])* $variant,)* }
        impl Plant {
            pub const ALL: &'static [Plant] = &[$(Plant::$variant,)*];
            pub fn as_str(self) -> &'static str {
                match self { $(Plant::$variant => $text,)* }
            }
        }
    };
}

plants! {
    /// The shard hears "durable" as soon as a write is handed over: votes and acknowledgements
    /// leave before the sync.
    SendBeforePersist => "send-before-persist",
    /// A producer with acks=all is answered when the leader has appended.
    AckBeforeCommit => "ack-before-commit",
    /// A sync says Ok and does nothing.
    LazyFsync => "lazy-fsync",
    /// A failed sync is asked for again, and then says Ok.
    RetriedFsync => "retried-fsync",
    /// What a killed process left in the page cache is believed without a sync.
    BelievedCache => "believed-cache",
    /// The vote is not among what is written of a hard state.
    VoteNotPersisted => "vote-not-persisted",
    /// Responses between brokers lose their index.
    LossyMessages => "lossy-messages",
    /// A byte of an entry changes on its way to a follower.
    FlippedInFlight => "flipped-in-flight",
    /// Consumers see the batch that the leader has appended and nobody has committed.
    WatermarkBeforeCommit => "watermark-before-commit",
    /// The clock of leases stands still while the process does, as a count of own ticks would.
    LeaseOnTicks => "lease-on-ticks",
    /// The journal forgets before the checkpoint is written.
    ForgottenTooEarly => "forgotten-too-early",
    /// A checkpoint names segments that are not synced.
    UnsyncedSegments => "unsynced-segments",
    /// A snapshot counts as installed before a checkpoint names it.
    InstalledTooEarly => "installed-too-early",
    /// A clean shutdown ends without syncing what the journal was given.
    NoFlushAtShutdown => "no-flush-at-shutdown",
    /// An empty disk speaks under the old replica ids.
    OldIdAfterWipe => "old-id-after-wipe",
    /// Inside: raft's storage keeps the tail behind an entry that it overwrote (failure F0).
    StaleTail => "stale-tail",
    /// Inside: the journal reads a hard state as one more entry (failure F0).
    UntypedRecords => "untyped-records",
    /// Inside: a partition's snapshot forgets its producers.
    DedupeNotInSnapshot => "dedupe-not-in-snapshot",
}

impl Plant {
    /// It is in the product's own code, which has it only when built so.
    pub fn is_inside(self) -> bool {
        matches!(self, Plant::StaleTail | Plant::UntypedRecords | Plant::DedupeNotInSnapshot)
    }

    /// False for a bug that this build does not have.
    pub fn is_here(self) -> bool {
        cfg!(feature = "planted") || !self.is_inside()
    }

    #[cfg(feature = "planted")]
    pub(crate) fn defect(self) -> Option<model::planted::Defect> {
        use model::planted::Defect;
        match self {
            Plant::StaleTail => Some(Defect::StaleTail),
            Plant::UntypedRecords => Some(Defect::UntypedRecords),
            Plant::DedupeNotInSnapshot => Some(Defect::DedupeNotInSnapshot),
            _ => None,
        }
    }

    /// The plant of that name.
    pub fn from_name(name: &str) -> Option<Plant> {
        Plant::ALL.iter().copied().find(|plant| plant.as_str() == name)
    }
}
