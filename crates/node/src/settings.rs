//! What a broker is told at its start, already checked for form by the server's own config.

use std::collections::BTreeMap;
use std::path::PathBuf;

use machine::ConfigError;
use machine::metadata::Listener;
use model::{BrokerId, ClusterId, SyncPolicy, limits};
use storage::StorageError;

use crate::datadir::DataDirError;
use crate::peer::PeerError;

/// One of the brokers a cluster is formed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialBroker {
    pub id: BrokerId,
    /// `host:port` of its peer listener.
    pub address: String,
}

/// One broker's part of a deployment.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    pub broker: BrokerId,
    pub data_dir: PathBuf,
    pub rack: Option<String>,
    /// `host:port` to listen on for peers.
    pub peer_listen: String,
    /// The initial brokers, self included; every broker names the same ones.
    pub peers: Vec<InitialBroker>,
    /// Advertised to clients.
    pub listeners: Vec<Listener>,
    /// Shard threads, at least one.
    pub shards: usize,
    pub memory_budget_bytes: usize,
    pub journal_sync: SyncPolicy,
    /// Milliseconds between syncs under `interval`.
    pub journal_sync_interval_ms: u64,
    pub journal_bytes_max: u64,
    /// Kafka's broker configs that set topic defaults (`log.retention.ms`, ...).
    pub defaults: BTreeMap<String, String>,
    /// Refuse any other cluster.
    pub cluster_id: Option<ClusterId>,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_ms_max: u64,
    /// `log.retention.check.interval.ms`.
    pub retention_check_ms: u64,
    /// `group.*` and `offsets.*` of the coordinators.
    pub groups: machine::groups::GroupsConfig,
    /// `producer.id.expiration.ms`.
    pub producer_expiration_ms: u64,
    /// `auto.leader.rebalance.enable`.
    pub leader_rebalance: bool,
    /// `leader.imbalance.check.interval.seconds`, in milliseconds.
    pub leader_rebalance_ms: u64,
    /// Retention waits for a replica that was heard from within this time.
    pub retention_waits_ms: u64,
    /// Snapshots are fetched no faster than this, all together.
    pub snapshot_bytes_per_second: u64,
    /// New records are refused below this many free bytes.
    pub disk_reserve_bytes: u64,
    /// Post-mortems are written to internal topics.
    pub postmortem_topics: bool,
    /// Threads that serve connections, for the flight recorder. `None`: this broker has none, as
    /// suits one of several in a process.
    pub recorded_threads: Option<u16>,
    /// Where metrics are served, also while this broker ends itself.
    pub admin_port: Option<u16>,
    /// What peers are told of it: `host:port`; no host: every interface.
    pub admin: String,
}

impl NodeConfig {
    /// A broker with every default, for the given identity.
    pub fn new(broker: BrokerId, data_dir: PathBuf, peer_listen: String) -> NodeConfig {
        NodeConfig {
            broker,
            data_dir,
            rack: None,
            peer_listen,
            peers: Vec::new(),
            listeners: Vec::new(),
            shards: 1,
            memory_budget_bytes: limits::MEMORY_BUDGET_BYTES,
            journal_sync: SyncPolicy::Group,
            journal_sync_interval_ms: 1_000,
            journal_bytes_max: limits::JOURNAL_BYTES_MAX,
            defaults: BTreeMap::new(),
            cluster_id: None,
            replica_lag_ms_max: limits::REPLICA_LAG_MS_MAX,
            retention_check_ms: 10_000,
            groups: Default::default(),
            producer_expiration_ms: limits::PRODUCER_EXPIRATION_MS,
            leader_rebalance: true,
            leader_rebalance_ms: 30_000,
            retention_waits_ms: limits::RETENTION_WAITS_MS,
            snapshot_bytes_per_second: limits::SNAPSHOT_BYTES_PER_SECOND,
            disk_reserve_bytes: limits::DISK_RESERVE_BYTES,
            postmortem_topics: false,
            recorded_threads: None,
            admin_port: None,
            admin: String::new(),
        }
    }
}

/// Why a broker does not start. One line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("topic default: {0}")]
    Config(#[from] ConfigError),
    #[error("cannot read the log: {0}")]
    Storage(#[from] StorageError),
    #[error("the journal cannot be written: {0}")]
    Journal(String),
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}
