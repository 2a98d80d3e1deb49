//! Every metric, declared once: its name, type, help, unit (the name's ending) and labels.
//! The exposition, `METRICS.md` and the handles in [`Metrics`] all come from this table.
//!
//! Invariants: no name twice; every counter exists, at 0, for every label value from the first
//! scrape on; labels are closed enums, but for topics and groups, whose rows are bounded; the
//! number of series does not depend on the number of partitions and stays below
//! [`model::limits::METRIC_SERIES_MAX`].

use std::sync::LazyLock;

use model::{ApiKey, ErrorCode};

use crate::family::{AnyFamily, Family};
use crate::label::{BuildRevision, BuildVersion, Label, Open, Peer};
use crate::labels::*;
use crate::metric::{Counter, Gauge, Histogram, LabelInfo, MetricInfo};

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const S: u64 = 1_000 * MS;

/// No buckets: not a histogram.
const NONE: &[u64] = &[];
/// Requests, stages, disk: 50 us to 10 s.
const LATENCY: &[u64] = &[
    50 * US,
    100 * US,
    250 * US,
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    2_500 * MS,
    10 * S,
];
/// Work of a loop that must stay short: 1 us to 1 s.
const STEP: &[u64] =
    &[US, 5 * US, 25 * US, 100 * US, 500 * US, MS, 5 * MS, 25 * MS, 100 * MS, 250 * MS, S];
/// Locks: 250 ns to 1 s.
const LOCK: &[u64] = &[250, US, 4 * US, 16 * US, 64 * US, 256 * US, MS, 10 * MS, 100 * MS, S];
/// Seconds to minutes.
const LONG: &[u64] =
    &[10 * MS, 50 * MS, 100 * MS, 500 * MS, S, 2 * S, 5 * S, 10 * S, 30 * S, 60 * S, 300 * S];
/// How many of something went together.
const COUNTS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096];

fn values<L: Label>() -> Vec<&'static str> {
    L::ALL.iter().filter(|value| value.exported()).map(|value| value.as_str()).collect()
}

macro_rules! catalogue {
    (@flag sparse) => { true };
    (@flag) => { false };
    (@buckets $buckets:ident) => { $buckets };
    (@buckets) => { NONE };
    ($($section:literal { $(
        $(#[doc = $help:literal])+
        $name:ident: $kind:ident $(($buckets:ident))? $([$($label:ident: $values:ty),+])? $($flag:ident)?;
    )+ })+) => {
        /// A handle for every metric; see `METRICS.md`.
        pub struct Metrics { $($(
            $(#[doc = $help])+
            pub $name: Family<$kind, ($($($values,)+)?)>,
        )+)+ }

        impl Metrics {
            fn new() -> Metrics {
                Metrics { $($($name: {
                    static INFO: MetricInfo = MetricInfo {
                        section: $section,
                        name: concat!("glasslog_", stringify!($name)),
                        help: concat!($($help),+),
                        labels: &[$($(LabelInfo {
                            name: stringify!($label),
                            values: values::<$values>,
                            open: <$values as Label>::OPEN,
                        },)+)?],
                        buckets: catalogue!(@buckets $($buckets)?),
                        sparse: catalogue!(@flag $($flag)?),
                    };
                    Family::new(&INFO)
                },)+)+ }
            }

            /// Every family, in the order of the catalogue.
            pub fn families(&self) -> Vec<&dyn AnyFamily> {
                vec![$($(&self.$name,)+)+]
            }
        }
    };
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The metrics of this process.
#[inline]
pub fn metrics() -> &'static Metrics {
    &METRICS
}

catalogue! {
    "Kafka requests" {
        /// Requests, by API and how they ended.
        kafka_requests_total: Counter [api: ApiKey, outcome: Outcome];
        /// From the last byte of the request read to the last byte of its reply written.
        kafka_request_seconds: Histogram(LATENCY) [api: ApiKey] sparse;
        /// Error codes in replies, one per partition or topic that carries one.
        kafka_errors_total: Counter [code: ErrorCode];
        /// Stages of a produce request; they add up to its whole time.
        produce_stage_seconds: Histogram(LATENCY) [stage: ProduceStage];
        /// Stages of a fetch request; they add up to its whole time.
        fetch_stage_seconds: Histogram(LATENCY) [stage: FetchStage];
        /// Requests in flight, by what they wait for.
        inflight: Gauge [stage: InflightStage];
        /// Age of the oldest request in flight, by what it waits for: stuck now.
        inflight_oldest_seconds: Gauge [stage: InflightStage];
        /// Record batches stamped and proposed by this broker as leader.
        batches_in_total: Counter;
        /// Records stamped and proposed by this broker as leader.
        records_in_total: Counter;
        /// Bytes of frames read from clients.
        received_bytes_total: Counter;
        /// Bytes of record batches accepted from producers.
        bytes_in_total: Counter;
        /// Bytes of record batches sent to consumers.
        bytes_out_total: Counter;
        /// Batches answered from the dedupe state: the producer had sent them before.
        duplicate_batches_total: Counter;
        /// Rebalances of consumer groups that began here, by why.
        group_rebalances_total: Counter [why: RebalanceWhy];
        /// Rebalances of consumer groups that ended here.
        group_rebalances_ended_total: Counter;
        /// Members of consumer groups that fell silent.
        group_sessions_expired_total: Counter;
        /// Offsets that consumer groups committed here.
        group_offsets_committed_total: Counter;
        /// Committed offsets forgotten after their retention, or with their topic.
        group_offsets_expired_total: Counter;
        /// Fetch reads, by where the bytes came from.
        fetch_reads_total: Counter [source: ReadSource];
        /// Bytes read for fetches, by where they came from.
        fetch_read_bytes_total: Counter [source: ReadSource];
        /// Long polls that wait for bytes or their deadline.
        fetch_waiters: Gauge;
    }
    "Topics and consumer groups by name" {
        /// Bytes of record batches accepted from producers, by topic.
        topic_bytes_in_total: Counter [topic: Open];
        /// Bytes of record batches sent to consumers, by topic.
        topic_bytes_out_total: Counter [topic: Open];
        /// Records stamped and proposed by this broker as leader, by topic.
        topic_records_in_total: Counter [topic: Open];
        /// Error codes of partitions in replies to Produce and Fetch, by topic. Partitions without a
        /// replica here are of the rest.
        topic_errors_total: Counter [topic: Open];
        /// Records between what a group committed and the ends of those partitions, all of them
        /// together, for groups coordinated here. Partitions whose end was never told are left out.
        consumer_group_lag_records: Gauge [group: Open];
        /// The same of the group's partition that lacks most.
        consumer_group_lag_records_max: Gauge [group: Open];
        /// Partitions with an offset that a group coordinated here has committed, and whose end is
        /// not told now: what counts of them is the last end that was told, nothing where none was.
        consumer_group_unknown_partitions: Gauge;
    }
    "Connections" {
        /// Open client connections.
        connections: Gauge;
        /// Client connections, by what became of them.
        connections_total: Counter [outcome: ConnectionOutcome];
        /// Client frames refused before a handler saw them.
        frames_refused_total: Counter [why: FrameRefusedWhy];
        /// Connections that stopped reading because the memory budget was spent.
        reads_paused_total: Counter;
    }
    "Loops" {
        /// Age of the last sign of life, the oldest of the loops of a kind. A loop that may rest
        /// counts only while it works.
        loop_heartbeat_age_seconds: Gauge [loop: Loop];
        /// Loops that run.
        loops: Gauge [loop: Loop];
        /// Time a loop spent in one phase without a break, idling excepted.
        loop_phase_seconds: Histogram(STEP) [loop: Loop, phase: Phase] sparse;
        /// CPU time of the threads that run loops.
        loop_cpu_seconds_total: Counter [loop: Loop];
        /// One input through a shard's pure core.
        step_seconds: Histogram(STEP) [input: InputKind] sparse;
        /// Inputs one turn of a shard took.
        turn_inputs: Histogram(COUNTS);
        /// Times a loop stayed in one phase beyond its threshold.
        stalls_total: Counter [loop: Loop, phase: Phase];
        /// Loops that are beyond their threshold now.
        stalls_active: Gauge [loop: Loop];
        /// Age of the watchdog's last look.
        watchdog_heartbeat_age_seconds: Gauge;
        /// Times the watchdog itself woke more than a second late: the host stood still.
        host_pauses_total: Counter;
        /// Times the wall clock was set by more than a second, or what shows it to this process.
        clock_steps_total: Counter;
    }
    "Raft" {
        /// Ticks given to shards.
        raft_ticks_total: Counter;
        /// Ticks late by more than half a heartbeat, by what had used the time.
        raft_ticks_late_total: Counter [blocked_by: BlockedBy];
        /// Elections this broker's replicas began.
        raft_elections_total: Counter [group_kind: GroupKind, reason: ElectionReason];
        /// Elections this broker's replicas began, by how they ended.
        raft_elections_ended_total: Counter [outcome: ElectionOutcome];
        /// Duration of the elections this broker's replicas began.
        raft_election_seconds: Histogram(LONG);
        /// Times the leader a replica follows changed.
        raft_leader_changes_total: Counter [group_kind: GroupKind, reason: LeaderChangeReason];
        /// Role changes of this broker's replicas, by the new role.
        raft_role_changes_total: Counter [role: RaftRole];
        /// Highest term of any group here.
        raft_term_max: Gauge;
        /// Groups, by the role of their replica here.
        raft_groups: Gauge [role: RaftRole];
        /// Groups whose replica here leads and serves clients.
        groups_serving: Gauge;
        /// raft messages between brokers.
        raft_messages_total: Counter [type: MessageType, dir: Direction, outcome: MessageOutcome];
        /// Messages withheld from raft, by the guard.
        raft_messages_refused_total: Counter [why: MessageRefusal];
        /// Entries sent to followers.
        raft_entries_sent_total: Counter;
        /// Steps of leaders towards the membership metadata wants.
        raft_membership_steps_total: Counter [step: MembershipStep, outcome: StepOutcome];
        /// Proposals raft dropped; their stamps were rolled back.
        raft_proposals_dropped_total: Counter;
        /// Appends in which a leader of a later term replaced entries.
        raft_log_conflicts_total: Counter;
        /// Entries replaced by leaders of later terms.
        raft_log_truncated_entries_total: Counter;
        /// Reads of older entries from segments for lagging followers.
        raft_catch_up_reads_total: Counter;
        /// Bytes of older entries read from segments for lagging followers.
        raft_catch_up_bytes_total: Counter;
        /// Followers that lag behind the log start: entries cannot help them.
        raft_snapshots_needed_total: Counter;
        /// Snapshots sent to followers and received from leaders, by what became of them.
        raft_snapshots_total: Counter [dir: Direction, outcome: SnapshotOutcome];
        /// Bytes of snapshots read for followers and fetched from leaders.
        raft_snapshot_bytes_total: Counter [dir: Direction];
        /// Bytes of snapshots that an earlier attempt had fetched.
        raft_snapshot_resumed_bytes_total: Counter;
        /// From a leader's word to a replica that is filled.
        raft_snapshot_seconds: Histogram(LONG);
        /// For how long the snapshot on its way into this broker that waits longest has got no
        /// byte; 0 without any.
        raft_snapshot_stuck_seconds: Gauge;
        /// Largest lag of a follower of a group led here.
        raft_peer_lag_entries_max: Gauge;
        /// For how long a follower of a group led here, which answers and lacks what is committed,
        /// did not grow; the longest of each broker's. 0: none does, or for less than a second.
        raft_peer_starved_seconds: Gauge [peer: Peer];
        /// Entries applied.
        apply_entries_total: Counter;
        /// Largest number of committed, not yet applied entries of one group.
        apply_backlog_entries_max: Gauge;
        /// Shortest lease of a group that leads here and has one; 0 without any.
        lease_remaining_seconds_min: Gauge;
        /// Leases that ended while their leader still led.
        lease_expiries_total: Counter;
        /// Partitions led here with fewer in-sync replicas than replicas.
        under_replicated_partitions: Gauge;
        /// Partitions led here with fewer in-sync replicas than `min.insync.replicas`.
        under_min_isr_partitions: Gauge;
        /// Groups with a replica here in which more was acknowledged than is committed, or durable
        /// here: never.
        acked_beyond_durable_groups: Gauge;
        /// Groups with a replica here that know no leader.
        leaderless_groups: Gauge;
        /// Partitions known to the cluster's metadata.
        partitions: Gauge;
    }
    "Groups in trouble" {
        /// Replicas here that do not trust their own memory: they neither vote nor lead.
        groups_suspect: Gauge;
        /// Times a replica turned suspect.
        groups_suspected_total: Counter [reason: SuspectReason];
        /// Replicas here given up after repeated panics.
        groups_quarantined: Gauge;
        /// State machines here that stopped before an entry; their raft goes on.
        groups_held: Gauge;
        /// Suspect or unusable replicas here in whose place a new one votes by now.
        groups_healed_total: Counter;
        /// Groups rebuilt from the journal after a panic.
        groups_rebuilt_total: Counter;
        /// Panics that were contained.
        panics_total: Counter [room: PanicRoom];
        /// What must never happen, and was seen all the same.
        invariant_violations_total: Counter [invariant: Invariant];
    }
    "Journal" {
        /// Disk operations of the journal.
        journal_op_seconds: Histogram(LATENCY) [op: IoOp] sparse;
        /// Age of the journal's disk operation in flight; 0 without any.
        journal_inflight_seconds: Gauge [op: IoOp];
        /// Writes of groups that one sync made durable.
        journal_group_commit_batches: Histogram(COUNTS);
        /// Bytes of records before padding.
        journal_payload_bytes_total: Counter;
        /// Bytes written, padding included.
        journal_write_bytes_total: Counter;
        /// Bytes written forward to free old files.
        journal_moved_bytes_total: Counter;
        /// Size of the journal's files.
        journal_bytes: Gauge;
        /// The configured cap.
        journal_limit_bytes: Gauge;
        /// Highest LSN that is on the disk.
        journal_durable_lsn: Gauge;
        /// Bytes that wait for the journal, with those that its thread has not taken yet.
        journal_queue_bytes: Gauge;
        /// 1 while new entries wait because the journal is full.
        journal_full: Gauge;
        /// Journal files created anew.
        journal_files_created_total: Counter;
        /// Journal files used again.
        journal_files_recycled_total: Counter;
    }
    "Segments, checkpoints, disk" {
        /// Bytes written to segments.
        segment_write_bytes_total: Counter;
        /// Duration of a checkpoint.
        checkpoint_seconds: Histogram(LONG);
        /// Checkpoints, by outcome.
        checkpoints_total: Counter [outcome: CheckpointOutcome];
        /// Age of the last checkpoint.
        checkpoint_age_seconds: Gauge;
        /// Time recovery took at the start: journal, checkpoint, segments, the first sync.
        recovery_seconds: Gauge;
        /// Free space of the data directory's file system.
        disk_free_bytes: Gauge;
        /// 1 while new records are refused because the disk is full.
        disk_full: Gauge;
    }
    "Memory" {
        /// Bytes that wait, by place.
        buffer_bytes: Gauge [stage: BufferStage];
        /// Charged bytes of the memory budget.
        memory_budget_used_bytes: Gauge [pool: BudgetPool];
        /// The memory budget.
        memory_budget_limit_bytes: Gauge [pool: BudgetPool];
    }
    "Locks" {
        /// Time a lock was waited for; only acquisitions that had to wait.
        lock_wait_seconds: Histogram(LOCK) [class: LockClass] sparse;
        /// Time a lock was held.
        lock_hold_seconds: Histogram(LOCK) [class: LockClass] sparse;
        /// Age of the oldest lock held now.
        lock_held_oldest_seconds: Gauge [class: LockClass];
    }
    "Peers" {
        /// 1 while the link to this broker is up.
        peer_connected: Gauge [peer: Peer];
        /// Times the link to this broker came up.
        peer_connects_total: Counter [peer: Peer];
        /// Bytes sent to other brokers.
        peer_sent_bytes_total: Counter [lane: Lane];
        /// Bytes received from other brokers.
        peer_received_bytes_total: Counter [lane: Lane];
        /// Envelopes sent to other brokers.
        peer_envelopes_sent_total: Counter [lane: Lane];
        /// Bytes that wait for other brokers.
        peer_queue_bytes: Gauge [lane: Lane];
        /// Messages to other brokers that were dropped; raft sends again.
        peer_dropped_total: Counter [lane: Lane, why: PeerDropWhy];
        /// Other brokers' connections and envelopes that were refused.
        peer_refused_total: Counter [why: PeerRefusedWhy];
        /// Times another broker's process was seen to be gone.
        peer_deaths_total: Counter;
        /// TCP segments that this host's network namespace sent, since it began.
        host_tcp_sent_segments_total: Counter;
        /// TCP segments that it sent again because they were lost, since it began.
        host_tcp_resent_segments_total: Counter;
    }
    "Process and telemetry" {
        /// Time since the process started.
        process_uptime_seconds: Gauge;
        /// CPU time of the process.
        process_cpu_time_seconds_total: Counter;
        /// Always 1; the labels say what was built.
        build_info: Gauge [version: BuildVersion, revision: BuildRevision];
        /// 1 once this broker accepts clients.
        ready: Gauge;
        /// 1 for the reason this broker is about to end itself.
        fatal_info: Gauge [reason: FatalReason];
        /// 1 for how the life before this one ended, if it did not end in order.
        last_crash_info: Gauge [reason: FatalReason];
        /// Log lines written, by kind, rate-limited kinds only.
        log_lines_total: Counter [event: LogEvent];
        /// What telemetry could not keep.
        telemetry_dropped_total: Counter [kind: DropKind];
        /// Requests whose spans were kept for the collector, by why.
        requests_kept_total: Counter [why: KeptWhy];
        /// Times the flight recorder's rings were set aside: stall, panic, election, SIGUSR1.
        flight_dumps_total: Counter;
        /// Series of the last scrape.
        metrics_series: Gauge;
        /// CPU time of the watchdog and of scrapes.
        telemetry_cpu_seconds_total: Counter;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prometheus::proto::MetricType;

    use super::*;
    use crate::metric::Unit;

    fn is_name(text: &str) -> bool {
        let clean = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(clean)
    }

    /// What a gauge or histogram without a base unit counts: its name must say so.
    const COUNTED: &[&str] = &[
        "inflight",
        "waiters",
        "connections",
        "loops",
        "inputs",
        "active",
        "groups",
        "max",
        "serving",
        "partitions",
        "suspect",
        "quarantined",
        "held",
        "batches",
        "transfers",
        "lsn",
        "full",
        "files",
        "connected",
        "info",
        "ready",
        "series",
        "records",
    ];

    #[test]
    fn names_are_valid_unique_and_end_in_their_unit() {
        let mut names = BTreeSet::new();
        for family in metrics().families() {
            let info = family.info();
            assert!(names.insert(info.name), "{} twice", info.name);
            assert!(is_name(info.name) && info.name.starts_with("glasslog_"), "{}", info.name);
            assert!(info.help.trim().ends_with('.'), "{}: help is a sentence", info.name);
            let counter = family.kind() == MetricType::COUNTER;
            assert_eq!(counter, info.name.ends_with("_total"), "{}", info.name);
            assert_eq!(family.kind() == MetricType::HISTOGRAM, !info.buckets.is_empty());
            if !counter && info.unit() == Unit::Count {
                let last = info.name.rsplit('_').next().expect("a word");
                assert!(COUNTED.contains(&last), "{}: a count of what?", info.name);
            }
        }
    }

    #[test]
    fn labels_are_valid_and_their_values_unique() {
        for family in metrics().families() {
            for label in family.info().labels {
                assert!(is_name(label.name) && label.name != "le", "{}", label.name);
                let values = (label.values)();
                let unique: BTreeSet<_> = values.iter().collect();
                assert_eq!(unique.len(), values.len(), "{}", family.info().name);
                if !["api", "code", "version", "revision", "peer"].contains(&label.name) {
                    assert!(values.iter().all(|v| is_name(v)), "{}: {values:?}", label.name);
                }
            }
        }
    }

    #[test]
    fn the_whole_catalogue_fits_the_series_budget_without_sparse_rows() {
        let lines = |family: &&dyn AnyFamily| {
            let info = family.info();
            let peers = model::limits::PEER_LABELS_MAX;
            let width = |l: &LabelInfo| if l.name == "peer" { peers } else { (l.values)().len() };
            let rows: usize = info.labels.iter().map(width).product();
            let per_row = if info.buckets.is_empty() { 1 } else { info.buckets.len() + 3 };
            if info.sparse { 0 } else { rows * per_row }
        };
        let families = metrics().families();
        let fixed: usize = families.iter().map(lines).sum();
        assert!(fixed < model::limits::METRIC_SERIES_MAX * 3 / 5, "{fixed} series before any work");
        let named = |label: &str, most: usize| {
            let of = |f: &&&dyn AnyFamily| f.info().labels.iter().any(|l| l.name == label);
            families.iter().filter(of).count() * (most + 1)
        };
        let open = named("topic", model::limits::TOPIC_LABELS_MAX)
            + named("group", model::limits::GROUP_LABELS_MAX);
        assert!(open < model::limits::METRIC_SERIES_MAX / 4, "{open} series with clients' names");
    }
}
