//! Bugs planted into the glue around the product: proof that the oracle sees.
//!
//! Each is a defect that a driver, a disk thread, a transport or a disk could have; the product's
//! own code is never touched. `cargo xtask mutants` runs each until it is caught.

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
}

impl Plant {
    /// The plant of that name.
    pub fn from_name(name: &str) -> Option<Plant> {
        Plant::ALL.iter().copied().find(|plant| plant.as_str() == name)
    }
}
