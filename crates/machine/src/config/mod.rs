//! Configuration: every topic and broker config of Apache Kafka 4.x by name, what Glasslog does
//! with it, and how overrides, broker settings and defaults become one typed [`TopicConfig`].
//!
//! Invariant: a config is honoured, accepted because it changes no promise here, or refused
//! with the reason; none is silently dropped.

mod broker;
mod broker_table;
mod edit;
mod resolve;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use broker::{
    BrokerConfigDef, BrokerLayers, DescribedBrokerConfig, Standing, document as document_broker,
    find_broker_config, unknown as unknown_broker_config, validate_dynamic,
};
pub use broker_table::{BROKER_CONFIGS, UNSUPPORTED_BROKER_CONFIGS};
pub use edit::{ConfigChange, ConfigEdit, ListEdit};
pub use resolve::{ConfigSource, DescribedConfig, Synonym, TopicConfig, TopicDefaults};
pub use table::{ConfigDef, Honour, TOPIC_CONFIGS, find};
pub use value::{ConfigType, Range};

use crate::ConfigError;
use std::collections::BTreeMap;

/// Checks topic overrides as CreateTopics and AlterConfigs receive them.
pub fn validate(overrides: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    overrides.iter().try_for_each(|(name, value)| validate_one(name, value))
}

fn validate_one(name: &str, value: &str) -> Result<(), ConfigError> {
    let Some(def) = find(name) else {
        return Err(ConfigError::Unknown { name: name.into(), nearest: table::nearest(name) });
    };
    def.check(name, value)
}
