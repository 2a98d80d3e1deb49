//! Broker configuration as clients see and change it: Kafka's names, where each may be set, and
//! what Glasslog does with it.
//!
//! Invariant: a name is in force, refused with what to do instead, or unknown and answered with
//! the nearest one; none is silently dropped.

use std::collections::BTreeMap;

use super::broker_table::{BROKER_CONFIGS, UNSUPPORTED_BROKER_CONFIGS};
use super::table::closest;
use super::value::{ConfigType, Range};
use super::{ConfigSource, Synonym, TOPIC_CONFIGS, TopicDefaults};
use crate::ConfigError;

/// How a broker config comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the default of a topic config; see that config's line for what it does.
    TopicDefault { dynamic: bool },
    /// In force while the broker runs, however it is set.
    Dynamic,
    /// From the broker's configuration file only.
    AtStart,
}

/// One broker config that is in force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BrokerConfigDef {
    pub name: &'static str,
    pub kind: ConfigType,
    /// `None`: not set.
    pub default: Option<&'static str>,
    pub standing: Standing,
}

impl BrokerConfigDef {
    /// It can be changed without a restart.
    pub fn is_dynamic(&self) -> bool {
        matches!(self.standing, Standing::Dynamic | Standing::TopicDefault { dynamic: true })
    }
}

/// A broker config with its value, as DescribeConfigs lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedBrokerConfig {
    pub def: &'static BrokerConfigDef,
    pub value: Option<String>,
    pub source: ConfigSource,
    /// Every place that has a value, the one in force first.
    pub synonyms: Vec<Synonym>,
}

/// Where a broker's values come from, strongest first.
#[derive(Clone, Copy, Debug)]
pub struct BrokerLayers<'a> {
    /// Set for this broker, in metadata.
    pub broker: &'a BTreeMap<String, String>,
    /// Set for all brokers, in metadata.
    pub cluster: &'a BTreeMap<String, String>,
    /// From the broker's configuration file.
    pub file: &'a BTreeMap<String, String>,
}

impl BrokerLayers<'_> {
    /// Every value of a name, the one in force first; Kafka's default is not among them.
    fn of(&self, name: &str) -> Vec<(ConfigSource, String)> {
        let layers = [
            (ConfigSource::DynamicBroker, self.broker),
            (ConfigSource::DynamicDefaultBroker, self.cluster),
            (ConfigSource::StaticBroker, self.file),
        ];
        let value = |(source, layer): (ConfigSource, &BTreeMap<String, String>)| {
            layer.get(name).map(|value| (source, value.clone()))
        };
        layers.into_iter().filter_map(value).collect()
    }

    /// The value in force, or the default's.
    pub fn value(&self, name: &str) -> Option<String> {
        let set = self.of(name).into_iter().next().map(|(_, value)| value);
        set.or_else(|| find_broker_config(name)?.default.map(str::to_owned))
    }

    /// Every broker config that is in force, ascending by name.
    pub fn describe(&self) -> Vec<DescribedBrokerConfig> {
        BROKER_CONFIGS.iter().map(|def| self.describe_one(def)).collect()
    }

    fn describe_one(&self, def: &'static BrokerConfigDef) -> DescribedBrokerConfig {
        let set = self.of(def.name);
        let in_force = set.first().cloned();
        let default = def.default.map(|value| (ConfigSource::Default, value.to_owned()));
        let synonyms = set.into_iter().chain(default.clone());
        let (source, value) = match in_force.or(default) {
            Some((source, value)) => (source, Some(value)),
            None => (ConfigSource::Default, None),
        };
        let synonyms =
            synonyms.map(|(source, value)| Synonym { name: def.name, value, source }).collect();
        DescribedBrokerConfig { def, value, source, synonyms }
    }
}

/// Finds a broker config that is in force.
pub fn find_broker_config(name: &str) -> Option<&'static BrokerConfigDef> {
    BROKER_CONFIGS.iter().find(|def| def.name == name)
}

/// Checks what shall be set for one broker or for all of them, in metadata.
pub fn validate_dynamic(settings: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    settings.iter().try_for_each(|(name, value)| validate_one(name, value))?;
    TopicDefaults::new(settings).map(|_| ())
}

fn validate_one(name: &str, value: &str) -> Result<(), ConfigError> {
    let Some(def) = find_broker_config(name) else {
        return Err(unknown(name));
    };
    if !def.is_dynamic() {
        return Err(ConfigError::ReadOnly { name: name.into() });
    }
    if def.standing == Standing::Dynamic {
        let positive = Range::Numbers(1, i64::from(i32::MAX));
        positive.check(def.kind, value).map_err(|expected| {
            let (name, value) = (name.to_owned(), value.to_owned());
            ConfigError::Value { name, value, expected }
        })?;
    }
    Ok(())
}

/// Why a name that is not in force cannot be set: Kafka's own with the reason, others with the
/// nearest name.
pub fn unknown(name: &str) -> ConfigError {
    if name.starts_with("listener.name.") {
        let why = "listeners have no configs of their own yet";
        return ConfigError::Unsupported { name: name.into(), why };
    }
    let unsupported = UNSUPPORTED_BROKER_CONFIGS.iter().find(|(_, names)| names.contains(&name));
    if let Some((why, _)) = unsupported {
        return ConfigError::Unsupported { name: name.into(), why };
    }
    let names = BROKER_CONFIGS.iter().map(|def| def.name);
    ConfigError::UnknownBroker { name: name.into(), nearest: closest(name, names) }
}

/// What the documentation of a broker config says.
pub fn document(def: &BrokerConfigDef) -> String {
    match def.standing {
        Standing::TopicDefault { .. } => {
            let topic = TOPIC_CONFIGS
                .iter()
                .find(|topic| topic.synonyms.iter().any(|(name, _)| *name == def.name));
            let name = topic.map_or("", |topic| topic.name);
            let what = topic.map(|topic| topic.document()).unwrap_or_default();
            format!("Default of the topic config {name}. {what}")
        }
        Standing::Dynamic => "As in Apache Kafka; in force at once.".to_owned(),
        Standing::AtStart => "Read from the broker's configuration file at its start.".to_owned(),
    }
}
