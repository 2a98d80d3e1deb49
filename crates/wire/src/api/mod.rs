//! One file per API: its request and response, with the names of Kafka's message definitions.
//! Defaults are Kafka's; where one is a sentinel, the field says so.

pub mod api_versions;
pub mod create_topics;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod fetch;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod produce;
