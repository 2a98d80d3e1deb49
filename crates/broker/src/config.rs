//! What the Kafka side of a broker is told; every key is checked before it gets here.

use model::limits;

/// One address clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Metadata answers with what each broker advertises under this name.
    pub name: String,
    /// `host:port`; port 0 lets the kernel choose.
    pub bind: String,
}

/// The Kafka side of one broker.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    pub listeners: Vec<ListenerConfig>,
    /// `socket.request.max.bytes`.
    pub request_bytes_max: usize,
    /// `max.connections`, over all listeners.
    pub connections_max: usize,
    /// `max.connections.per.ip`, over all listeners.
    pub connections_max_per_ip: usize,
    /// `connections.max.idle.ms`.
    pub idle_ms: u64,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `offsets.topic.num.partitions`.
    pub offsets_partitions: i32,
    /// `offsets.topic.segment.bytes`.
    pub offsets_segment_bytes: u64,
    /// Brokers the cluster was formed from: internal topics get min(3, this) replicas.
    pub initial_brokers: usize,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig {
            listeners: Vec::new(),
            request_bytes_max: limits::REQUEST_BYTES_MAX,
            connections_max: limits::CONNECTIONS_MAX,
            connections_max_per_ip: limits::CONNECTIONS_PER_IP_MAX,
            idle_ms: limits::CONNECTION_IDLE_MS_MAX,
            auto_create_topics: true,
            num_partitions: 1,
            default_replication_factor: 1,
            offsets_partitions: 50,
            offsets_segment_bytes: 100 << 20,
            initial_brokers: 1,
        }
    }
}

impl BrokerConfig {
    /// Replicas of Kafka's own topics, never silently one.
    pub(crate) fn internal_replication_factor(&self) -> i16 {
        self.initial_brokers.clamp(1, limits::INTERNAL_REPLICAS_MAX) as i16
    }
}
