//! From names and texts to typed values: topic override, else the strongest broker setting that
//! is set, else Kafka's default.
//!
//! Invariant: values that reach [`TopicConfig`] were checked; resolving checked maps cannot fail.

use std::collections::BTreeMap;

use wire::records::TimestampType;

use super::table::{ConfigDef, TOPIC_CONFIGS, find};
use crate::ConfigError;
use crate::partition::{RetentionConfig, StampConfig};

/// Where a value comes from, with DescribeConfigs' numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    DynamicTopic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
}

/// One place a value could have come from, strongest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub value: String,
    pub source: ConfigSource,
}

/// A config as DescribeConfigs lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedConfig {
    pub def: &'static ConfigDef,
    pub value: String,
    pub source: ConfigSource,
    /// Every place that has a value, the one in force first.
    pub synonyms: Vec<Synonym>,
}

/// A broker's settings for topics that do not have their own: checked at construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicDefaults {
    /// Per broker config its values, the one in force first; none is empty.
    settings: BTreeMap<&'static str, Vec<(ConfigSource, String)>>,
}

impl TopicDefaults {
    /// Takes the settings whose names are synonyms of topic configs (`log.retention.ms`, ...)
    /// and leaves the rest alone: whether those exist is the broker's to say.
    pub fn new(settings: &BTreeMap<String, String>) -> Result<TopicDefaults, ConfigError> {
        let mut taken = BTreeMap::new();
        for def in TOPIC_CONFIGS {
            for (synonym, factor) in def.synonyms {
                let Some(value) = settings.get(*synonym) else { continue };
                let Some(scaled) = scale(value, *factor) else {
                    let (name, value) = (synonym.to_string(), value.clone());
                    let expected = "expected a number that fits in milliseconds".to_string();
                    return Err(ConfigError::Value { name, value, expected });
                };
                def.check(synonym, &scaled)?;
                taken.insert(*synonym, vec![(ConfigSource::StaticBroker, value.clone())]);
            }
        }
        Ok(TopicDefaults { settings: taken })
    }

    /// These defaults under what metadata says about all brokers and about this one. What does
    /// not pass the checks is left out: a newer version's leader may know more values.
    pub fn under(
        &self,
        cluster: &BTreeMap<String, String>,
        broker: &BTreeMap<String, String>,
    ) -> TopicDefaults {
        let mut settings = self.settings.clone();
        let layers =
            [(ConfigSource::DynamicDefaultBroker, cluster), (ConfigSource::DynamicBroker, broker)];
        for (source, layer) in layers {
            for (name, value) in layer {
                let one = BTreeMap::from([(name.clone(), value.clone())]);
                let checked = TopicDefaults::new(&one).unwrap_or_default();
                for (name, mut values) in checked.settings {
                    let (_, value) = values.pop().expect("none is empty");
                    settings.entry(name).or_default().insert(0, (source, value));
                }
            }
        }
        TopicDefaults { settings }
    }

    /// True when `name` is a broker config that sets a topic default.
    pub fn knows(name: &str) -> bool {
        TOPIC_CONFIGS.iter().any(|def| def.synonyms.iter().any(|(synonym, _)| *synonym == name))
    }
}

/// A topic's configuration, typed. Sizes in bytes, times in milliseconds, -1 is "no limit".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub max_message_bytes: usize,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub min_insync_replicas: usize,
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub segment_bytes: u64,
    pub segment_ms: i64,
}

impl TopicConfig {
    /// Resolves a topic's overrides over a broker's defaults. Fails where an override is not
    /// one that [`super::validate`] accepts.
    pub fn resolve(
        overrides: &BTreeMap<String, String>,
        defaults: &TopicDefaults,
    ) -> Result<TopicConfig, ConfigError> {
        super::validate(overrides)?;
        let text = |name: &str| {
            let def = find(name).expect("a config of the table");
            value_of(def, overrides, defaults).0
        };
        let number = |name: &str| text(name).trim().parse::<i64>().expect("a checked number");
        let size = |name: &str| usize::try_from(number(name)).expect("a checked size");
        let timestamp_type = match text("message.timestamp.type").as_str() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        };
        Ok(TopicConfig {
            max_message_bytes: size("max.message.bytes"),
            timestamp_type,
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            min_insync_replicas: size("min.insync.replicas"),
            retention_ms: number("retention.ms"),
            retention_bytes: number("retention.bytes"),
            segment_bytes: size("segment.bytes") as u64,
            segment_ms: number("segment.ms"),
        })
    }

    /// What stamping needs of it.
    pub fn stamp(&self) -> StampConfig {
        StampConfig {
            max_message_bytes: self.max_message_bytes,
            timestamp_type: self.timestamp_type,
            timestamp_before_max_ms: self.timestamp_before_max_ms,
            timestamp_after_max_ms: self.timestamp_after_max_ms,
        }
    }

    /// What retention needs of it.
    pub fn retention(&self) -> RetentionConfig {
        RetentionConfig {
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            segment_bytes: self.segment_bytes,
            segment_ms: self.segment_ms,
        }
    }

    /// Every topic config with its value, source and synonyms, as DescribeConfigs lists them.
    pub fn describe(
        overrides: &BTreeMap<String, String>,
        defaults: &TopicDefaults,
    ) -> Vec<DescribedConfig> {
        TOPIC_CONFIGS
            .iter()
            .map(|def| {
                let (value, source) = value_of(def, overrides, defaults);
                DescribedConfig { def, value, source, synonyms: synonyms(def, overrides, defaults) }
            })
            .collect()
    }
}

impl Default for TopicConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self::resolve(&BTreeMap::new(), &TopicDefaults::default()).expect("defaults are valid")
    }
}

fn value_of(
    def: &ConfigDef,
    overrides: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
) -> (String, ConfigSource) {
    if let Some(value) = overrides.get(def.name) {
        return (value.clone(), ConfigSource::DynamicTopic);
    }
    for (synonym, factor) in def.synonyms {
        if let Some((source, value)) = defaults.settings.get(synonym).and_then(|all| all.first()) {
            return (scale(value, *factor).expect("a checked setting"), *source);
        }
    }
    (def.default.to_string(), ConfigSource::Default)
}

fn synonyms(
    def: &'static ConfigDef,
    overrides: &BTreeMap<String, String>,
    defaults: &TopicDefaults,
) -> Vec<Synonym> {
    let of_topic = overrides.get(def.name).map(|value| Synonym {
        name: def.name,
        value: value.clone(),
        source: ConfigSource::DynamicTopic,
    });
    let of_broker = def.synonyms.iter().flat_map(|(name, _)| {
        let values = defaults.settings.get(name).into_iter().flatten();
        values.map(|(source, value)| Synonym { name, value: value.clone(), source: *source })
    });
    // Kafka's default belongs to the weakest synonym, in its unit (log.retention.hours = 168).
    let of_default = def.synonyms.last().map(|(name, factor)| {
        let value = match def.default.parse::<i64>() {
            Ok(number) if *factor != 1 => (number / factor).to_string(),
            _ => def.default.to_string(),
        };
        Synonym { name, value, source: ConfigSource::Default }
    });
    of_topic.into_iter().chain(of_broker).chain(of_default).collect()
}

/// A synonym's value in the topic config's unit; negative values mean "no limit" in any unit.
/// `None`: not a number, or one that does not fit.
fn scale(value: &str, factor: i64) -> Option<String> {
    if factor == 1 {
        return Some(value.to_string());
    }
    let number = value.trim().parse::<i64>().ok()?;
    let scaled = if number < 0 { number } else { number.checked_mul(factor)? };
    Some(scaled.to_string())
}
