//! What a life came to: its hash, what it reached, what it broke.

use crate::oracle::Violation;

macro_rules! reach {
    ($($(#[$doc:meta])* $variant:ident => $text:literal,)*) => {
        /// Corners that lives are meant to reach; one that no seed reaches is not tested.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reach { $($(#[$doc])* $variant,)* }
        impl Reach {
            pub const ALL: &'static [Reach] = &[$(Reach::$variant,)*];
            pub fn as_str(self) -> &'static str {
                match self { $(Reach::$variant => $text,)* }
            }
        }
    };
}

reach! {
    Kill => "kills",
    PowerCut => "power_cuts",
    SectorLost => "sectors_lost",
    /// A crash that kept some of the unsynced sectors and lost others.
    TornCrash => "torn_crashes",
    CrashAtOp => "crashes_at_a_disk_operation",
    CrashInTurn => "crashes_within_a_turn",
    CrashInStart => "crashes_while_starting",
    /// A voter lost its power right after it voted.
    VoterLost => "voters_lost",
    CleanStop => "clean_stops",
    Partition => "partitions",
    OneWay => "one_way_partitions",
    MessageLost => "messages_lost",
    /// Held up by a partition and delivered after it.
    MessageLate => "messages_late",
    Overtaken => "messages_overtaken",
    Pause => "pauses",
    SlowDisk => "slow_disks",
    FalseDeath => "false_deaths",
    ClockStep => "wall_clock_steps",
    DiskError => "disk_errors",
    DiskFull => "full_disks",
    Duplicated => "messages_duplicated",
    DeathHeard => "deaths_heard",
    Election => "elections_won",
    Transfer => "leadership_transfers",
    Truncation => "log_truncations",
    LeaseExpiry => "lease_expiries",
    Unknown => "unknown_outcomes",
    DedupeHit => "dedupe_hits",
    Acked => "batches_acked",
    NotEnoughReplicas => "not_enough_replicas",
    ReadAnswered => "guarded_reads",
    Fetch => "fetches",
    ReadWithoutLease => "guarded_reads_without_lease",
    IdsAllocated => "producer_id_blocks",
    Checkpoint => "checkpoints",
    CatchUpRead => "catch_up_reads",
    Roll => "segment_rolls",
    LogStart => "log_starts_moved",
    FileRecycled => "journal_files_recycled",
    Moved => "journal_records_moved",
    JournalFull => "journal_full",
    TornRecord => "torn_journal_records",
    /// Bits that rotted on a disk.
    BitFlip => "bits_flipped",
    /// Bits in what nothing proves to be synced: cut like a tear, and taken back here.
    CutByFlip => "bits_flipped_in_the_tail",
    Suspect => "suspect_replicas",
    Quarantine => "quarantined_groups",
    Wiped => "disks_wiped",
    /// An old replica left its group for a new one.
    Replaced => "replicas_replaced",
    JointState => "joint_states",
    Snapshot => "snapshots_installed",
    SnapshotResumed => "snapshots_resumed",
    SnapshotFailed => "snapshots_failed",
}

/// How often each corner was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached(Vec<u64>);

impl Default for Reached {
    fn default() -> Self {
        Reached(vec![0; Reach::ALL.len()])
    }
}

impl Reached {
    pub fn add(&mut self, what: Reach, count: u64) {
        self.0[what as usize] += count;
    }

    pub fn get(&self, what: Reach) -> u64 {
        self.0[what as usize]
    }

    pub fn merge(&mut self, other: &Reached) {
        for what in Reach::ALL {
            self.add(*what, other.get(*what));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Reach, u64)> + '_ {
        Reach::ALL.iter().map(|what| (*what, self.get(*what)))
    }
}

/// One life, told in numbers.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    /// Of the schedule, if there was one.
    pub profile: Option<&'static str>,
    /// Of every event: the same seed gives the same hash.
    pub hash: u64,
    pub events: u64,
    /// Simulated milliseconds, the quiet end included.
    pub simulated_ms: u64,
    /// Faults that had an effect.
    pub faults_fired: u64,
    /// What clients asked.
    pub operations: u64,
    /// Faults that were tried.
    pub faults_struck: u64,
    /// Elections of one group between two disturbances, at most.
    pub candidacies_most: u64,
    /// From the heal until every group had served.
    pub recovered_ms: Option<u64>,
    pub reached: Reached,
    /// Empty when every promise was kept.
    pub violations: Vec<Violation>,
    /// One per event, if the profile asked for them.
    pub lines: Vec<String>,
}

impl Report {
    pub fn is_sound(&self) -> bool {
        self.violations.is_empty()
    }
}
