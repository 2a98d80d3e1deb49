//! The table of configuration keys: field, Kafka's name (or ours), default, check and doc,
//! each declared once. [`Settings`], the reference `glasslog config` prints, and the refusal
//! of unknown keys all come from this one table.
//!
//! Invariant: a key that has no effect is not in the table.

use std::path::PathBuf;

use model::{ClusterId, SyncPolicy, limits};
use telemetry::logging::LogFormat;

use super::check::{
    Bind, Check, Collector, Directory, Flag, Maybe, OneOf, Only, Parsed, Text, Unlimited, Whole,
    broker_list, host_list, listener_list,
};
use super::endpoint::{Address, HostName, InitialBroker, Listener};
use super::file::Values;

/// One key as the reference shows it.
pub struct Key {
    pub name: &'static str,
    pub default: fn() -> String,
    pub allowed: fn() -> String,
    pub doc: &'static str,
}

/// Ties the check to the field's type, so that its bounds are those of that type.
fn allowed<T>(check: &impl Check<Out = T>) -> String {
    check.allowed()
}

macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $name:literal, $default:expr, $check:expr; )*) => {
        /// Every key's value, checked one by one; relations are checked in `Config`.
        #[derive(Clone, Debug)]
        #[allow(dead_code, reason = "what topics inherit travels as the text that was checked, and some
            keys allow one value only")]
        pub struct Settings {
            $( $(#[doc = $doc])+ pub $field: $type, )*
        }

        pub const KEYS: &[Key] = &[
            $( Key {
                name: $name,
                default: || ($default).to_string(),
                allowed: || allowed::<$type>(&$check),
                doc: concat!($($doc, "\n"),+),
            }, )*
        ];

        impl Settings {
            /// Takes every key out of `values`; a problem is noted there and `None` returned.
            pub fn take(values: &mut Values) -> Option<Settings> {
                $( let $field = values.take($name, &($default).to_string(), &$check); )*
                Some(Settings { $( $field: $field?, )* })
            }
        }
    };
}

const SYNC_WORDS: OneOf<SyncPolicy> =
    OneOf(&[("group", SyncPolicy::Group), ("interval", SyncPolicy::Interval)]);

const LOG_WORDS: OneOf<LogFormat> = OneOf(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);

/// Whose clock a record's timestamp is: `log.message.timestamp.type` (KIP-32).
const TIMESTAMP_WORDS: OneOf<&'static str> =
    OneOf(&[("CreateTime", "CreateTime"), ("LogAppendTime", "LogAppendTime")]);

settings! {
    /// Id of this broker, unique in the cluster and never changed.
    node_id: i32 = "node.id", 1, Whole(0..=i32::MAX);
    /// Where this broker listens for Kafka clients: NAME://host:port, one or several.
    listeners: Vec<Listener> = "listeners", "PLAINTEXT://:9092", listener_list(1);
    /// What clients are told to connect to, one per listener, by the same names.
    /// Empty: the listeners themselves, with this machine's name for a wildcard host.
    advertised_listeners: Vec<Listener> = "advertised.listeners", "", listener_list(0);
    /// Rack of this broker; replicas of a partition are spread over racks.
    broker_rack: Option<String> = "broker.rack", "", Maybe(Text { len_max: 255 });
    /// The data directory. One, since a broker has one journal. Wins over log.dir.
    log_dirs: Option<PathBuf> = "log.dirs", "", Maybe(Directory);
    /// The data directory, when log.dirs is not set.
    log_dir: PathBuf = "log.dir", "/var/lib/glasslog", Directory;
    /// Where this broker listens for its peers (raft and forwarded requests).
    peer_listener: Address = "peer.listener", ":9192", Bind;
    /// The brokers the cluster is formed from, the same list on each: id@host:port of their
    /// peer listeners. A broker that is not among them joins. Empty: a cluster of this broker
    /// alone.
    initial_brokers: Vec<InitialBroker> = "initial.brokers", "", broker_list();
    /// Id the cluster must have; a broker of another one is refused. Empty: any.
    cluster_id: Option<ClusterId> = "cluster.id", "", Maybe(Parsed::<ClusterId>::new("32 hexadecimal digits"));
    /// Where /metrics, /healthz, /readyz and /debug are served, without authentication.
    admin_listener: Address = "admin.listener", "127.0.0.1:9292", Bind;
    /// Names, without port, by which browsers and tools may ask for the console, /debug and /admin
    /// besides an IP address, localhost, this machine's name and the hosts of advertised.listeners.
    /// Others are refused (421): a foreign page may have pointed its own name here.
    admin_allowed_hosts: Vec<HostName> = "admin.allowed.hosts", "", host_list();

    /// Partitions of a topic that is created without a number of them.
    num_partitions: i32 = "num.partitions", 1, Whole(1..=limits::PARTITIONS_PER_TOPIC_MAX);
    /// Replicas of a partition of a topic that is created without a number of them.
    /// -1: three, or as many as there are initial brokers if those are fewer.
    default_replication_factor: i64 = "default.replication.factor", -1, ReplicationFactor;
    /// In-sync replicas without which acks=all is refused before the append. A majority is
    /// always waited for; a higher number waits for that many durable copies.
    min_insync_replicas: i32 = "min.insync.replicas", 1, Whole(1..=INSYNC_MAX);
    /// Create a topic when a client asks for one that does not exist.
    auto_create_topics_enable: bool = "auto.create.topics.enable", true, Flag;
    /// Kafka's switch for losing data; here it does not exist.
    unclean_leader_election_enable: () = "unclean.leader.election.enable", false, Only {
        word: "false",
        because: "no unclean election exists here: acknowledged records would be lost",
    };
    /// Age at which old segments are deleted. Wins over minutes and hours. -1: never.
    log_retention_ms: Option<i64> = "log.retention.ms", "", Maybe(Unlimited(0..=MS_MAX));
    /// Age at which old segments are deleted, in minutes. Wins over hours. -1: never.
    log_retention_minutes: Option<i64> =
        "log.retention.minutes", "", Maybe(Unlimited(0..=MS_MAX / 60_000));
    /// Age at which old segments are deleted, in hours. -1: never.
    log_retention_hours: i64 = "log.retention.hours", 168, Unlimited(0..=MS_MAX / 3_600_000);
    /// Size of a partition above which its oldest segments are deleted. -1: no limit.
    log_retention_bytes: i64 = "log.retention.bytes", -1, Unlimited(0..=i64::MAX);
    /// Give leadership back to the first replica of a partition once it is in sync again.
    auto_leader_rebalance_enable: bool = "auto.leader.rebalance.enable", true, Flag;
    /// How long that replica must have been in sync before it leads again.
    leader_imbalance_check_interval_seconds: u64 =
        "leader.imbalance.check.interval.seconds", 30, Whole(1..=86_400);
    /// How often leaders look for segments to delete.
    log_retention_check_interval_ms: u64 =
        "log.retention.check.interval.ms", 10_000, Whole(100..=86_400_000);
    /// Segments that a replica still lacks are kept for it while it was heard from within this
    /// time. One that comes back later is filled by a snapshot.
    log_retention_replica_wait_ms: u64 = "log.retention.replica.wait.ms",
        limits::RETENTION_WAITS_MS, Whole(1_000..=86_400_000);
    /// Snapshots for replicas of this broker are fetched no faster than this, bytes per second.
    replica_fill_bytes_per_second: u64 = "replica.fill.bytes.per.second",
        limits::SNAPSHOT_BYTES_PER_SECOND, Whole(1 << 20..=1 << 40);
    /// Time after which a partition forgets a producer it has not heard from, and with it what
    /// would tell a repeated batch from a new one.
    producer_id_expiration_ms: u64 = "producer.id.expiration.ms",
        limits::PRODUCER_EXPIRATION_MS, Whole(1_000..=MS_MAX as u64);
    /// Partitions of `__consumer_offsets`, when the first consumer group of the cluster creates it.
    offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions", 50, Whole(1..=1_000);
    /// Size of a segment of `__consumer_offsets`, when it is created; old segments go once all
    /// replicas have passed them.
    offsets_topic_segment_bytes: u64 =
        "offsets.topic.segment.bytes", 100 << 20, Whole(1 << 20..=i32::MAX as u64);
    /// Time after which the offsets of a group without members are forgotten.
    offsets_retention_minutes: i64 = "offsets.retention.minutes", 7 * 24 * 60, Whole(1..=i64::from(i32::MAX));
    /// Bytes of the note that a consumer may commit beside an offset.
    offset_metadata_max_bytes: usize = "offset.metadata.max.bytes", 4_096, Whole(0..=32_767);
    /// Shortest session time-out that a member of a consumer group may ask for.
    group_min_session_timeout_ms: i32 =
        "group.min.session.timeout.ms", 6_000, Whole(1..=i32::MAX);
    /// Longest session time-out that a member of a consumer group may ask for.
    group_max_session_timeout_ms: i32 =
        "group.max.session.timeout.ms", 1_800_000, Whole(1..=i32::MAX);
    /// How long the first members of a consumer group wait for more of them.
    group_initial_rebalance_delay_ms: u64 =
        "group.initial.rebalance.delay.ms", 3_000, Whole(0..=600_000);
    /// Members that one consumer group may have.
    group_max_size: usize =
        "group.max.size", limits::GROUP_MEMBERS_MAX, Whole(1..=limits::GROUP_MEMBERS_MAX);
    /// Size at which a new segment is started.
    log_segment_bytes: i64 =
        "log.segment.bytes", limits::SEGMENT_BYTES, Whole(1 << 20..=i64::from(i32::MAX));
    /// Age at which a new segment is started. Wins over hours.
    log_roll_ms: Option<i64> = "log.roll.ms", "", Maybe(Whole(1..=MS_MAX));
    /// Age at which a new segment is started, in hours.
    log_roll_hours: i64 = "log.roll.hours", 168, Whole(1..=MS_MAX / 3_600_000);
    /// Deleting by age and size is what this build does; it does not compact.
    log_cleanup_policy: () = "log.cleanup.policy", "delete", Only {
        word: "delete",
        because: "this build does not compact logs",
    };
    /// Batches are stored as their producer compressed them.
    compression_type: () = "compression.type", "producer", Only {
        word: "producer",
        because: "batches are stored as their producer sent them",
    };
    /// Timestamp of a record: the producer's (CreateTime) or the leader's (LogAppendTime).
    log_message_timestamp_type: &'static str =
        "log.message.timestamp.type", "CreateTime", TIMESTAMP_WORDS;
    /// How far a producer's timestamp may lie behind the leader's clock.
    log_message_timestamp_before_max_ms: i64 =
        "log.message.timestamp.before.max.ms", i64::MAX, Whole(0..=i64::MAX);
    /// How far a producer's timestamp may lie ahead of the leader's clock.
    log_message_timestamp_after_max_ms: i64 =
        "log.message.timestamp.after.max.ms", 3_600_000, Whole(0..=i64::MAX);
    /// Largest record batch, bytes, after compression.
    message_max_bytes: i64 =
        "message.max.bytes", limits::MESSAGE_BYTES_MAX, Whole(1_024..=MESSAGE_BYTES_ALLOWED_MAX);
    /// Largest request, bytes; a client that announces more is disconnected.
    socket_request_max_bytes: usize =
        "socket.request.max.bytes", limits::REQUEST_BYTES_MAX, Whole(65_536..=1 << 30);
    /// A follower that has not been caught up for this long is out of sync (ISR).
    replica_lag_time_max_ms: u64 =
        "replica.lag.time.max.ms", limits::REPLICA_LAG_MS_MAX, Whole(1_000..=86_400_000);
    /// Connections of clients this broker holds at once.
    max_connections: usize = "max.connections", limits::CONNECTIONS_MAX, Whole(1..=1_000_000);
    /// Of these, connections that come from one address.
    max_connections_per_ip: usize =
        "max.connections.per.ip", limits::CONNECTIONS_PER_IP_MAX, Whole(1..=i32::MAX as usize);

    /// A connection without a request for this long is closed.
    connections_max_idle_ms: u64 =
        "connections.max.idle.ms", limits::CONNECTION_IDLE_MS_MAX, Whole(1_000..=86_400_000);

    /// When an entry counts as durable. "group": after an fdatasync, one for all that wait.
    /// "interval": once written, synced now and then. WEAKER: a power cut on a majority of
    /// brokers may lose acknowledged records. Terms and votes are always synced.
    journal_sync: SyncPolicy = "journal.sync", "group", SYNC_WORDS;
    /// Time between two syncs when journal.sync is "interval".
    journal_sync_interval_ms: u64 = "journal.sync.interval.ms", 50, Whole(1..=60_000);
    /// Size the journal is held below by checkpoints.
    journal_max_bytes: u64 =
        "journal.max.bytes", limits::JOURNAL_BYTES_MAX, Whole(JOURNAL_BYTES_MIN..=1 << 40);
    /// Free space below which new records are refused; reads and deletes go on.
    disk_reserve_bytes: u64 =
        "disk.reserve.bytes", limits::DISK_RESERVE_BYTES, Whole(0..=1 << 50);
    /// The one memory budget: requests in flight, unstable entries, peer queues, tail cache.
    memory_budget_bytes: usize =
        "memory.budget.bytes", limits::MEMORY_BUDGET_BYTES, Whole(16 << 20..=1 << 40);
    /// A broker asked to stop has gone after this long, drained or not.
    shutdown_timeout_ms: u64 =
        "shutdown.timeout.ms", limits::SHUTDOWN_MS_MAX, Whole(3_000..=3_600_000);
    /// The broker's own log on stderr: "text", or "json", one object a line. RUST_LOG says what is
    /// logged, and `glasslog log` changes it while the broker runs.
    log_format: LogFormat = "log.format", "text", LOG_WORDS;
    /// Write a post-mortem of every election and stall to the internal topics
    /// __glasslog.elections and __glasslog.stalls.
    postmortem_topics_enable: bool = "postmortem.topics.enable", true, Flag;
    /// Collector that takes traces over OTLP and gRPC, http://host:port. Empty: none are kept.
    tracing_otlp_endpoint: Option<String> = "tracing.otlp.endpoint", "", Maybe(Collector);
    /// A produce or fetch that takes so long, beyond a long poll's wait, is kept as a trace.
    /// Kept as well: what fails by a broker's fault, and what carries a sampled traceparent in a
    /// header of its first record.
    tracing_slow_ms: u64 = "tracing.slow.ms", 500, Whole(1..=3_600_000);
    /// One in so many requests is kept as a trace whatever it took. 0: none.
    tracing_sample_one_in: u64 = "tracing.sample.one.in", 0, Whole(0..=1_000_000_000);
    /// Threads that run raft groups. 0: half the cores, at least one.
    shards: usize = "shards", 0, Whole(0..=256);
}

/// Milliseconds that still fit Kafka's signed times: about 290 million years.
const MS_MAX: i64 = i64::MAX / 1_000;
/// A batch travels whole in one envelope between brokers, which also carries its entry.
const MESSAGE_BYTES_ALLOWED_MAX: i64 = limits::ENVELOPE_BYTES_MAX as i64 - (1 << 20);
/// The file written to, the one being recycled, and two to write pinned groups forward.
const JOURNAL_BYTES_MIN: u64 = 4 * limits::JOURNAL_FILE_BYTES;
const INSYNC_MAX: i32 = limits::INITIAL_BROKERS_MAX as i32;

/// -1 or a number of replicas.
struct ReplicationFactor;

impl Check for ReplicationFactor {
    type Out = i64;
    fn accept(&self, raw: &super::check::Raw) -> Result<i64, Option<String>> {
        Unlimited(1..=i64::from(INSYNC_MAX)).accept(raw)
    }
    fn allowed(&self) -> String {
        format!("-1 for three or all initial brokers, or a whole number from 1 to {INSYNC_MAX}")
    }
}
