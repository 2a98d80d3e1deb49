//! DescribeConfigs: every config of a topic, defaults with their source and synonyms (KIP-226),
//! and the settings this broker was started with.

use std::collections::BTreeMap;

use model::{BrokerId, ErrorCode};
use node::config::{ConfigSource, ConfigType, DescribedConfig, Honour, TopicConfig, TopicDefaults};
use node::metadata::Image;
use wire::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(crate) struct DescribeConfigs;

impl Api for DescribeConfigs {
    type Request = DescribeConfigsRequest;

    async fn handle(
        request: Authorized<DescribeConfigsRequest>,
        call: &mut Call,
    ) -> DescribeConfigsResponse {
        let node = &call.shared.node;
        let image = node.image();
        let scene = Scene {
            image: &image,
            broker: node.broker_id(),
            defaults: node.topic_defaults(),
            settings: node.broker_configs(),
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        };
        let results = request.resources.iter().map(|resource| scene.describe(resource)).collect();
        DescribeConfigsResponse { results, ..Default::default() }
    }

    fn codes(response: &DescribeConfigsResponse, codes: &mut Codes) {
        response.results.iter().for_each(|result| codes.add(result.error_code));
    }
}

/// What is described, and how fully.
struct Scene<'a> {
    image: &'a Image,
    broker: BrokerId,
    defaults: &'a TopicDefaults,
    settings: &'a BTreeMap<String, String>,
    synonyms: bool,
    documentation: bool,
}

type Described = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)>;

impl Scene<'_> {
    fn describe(&self, resource: &DescribeConfigsResource) -> DescribeConfigsResult {
        let described = match resource.resource_type {
            TOPIC => self.topic(&resource.resource_name),
            BROKER => self.broker(&resource.resource_name),
            other => {
                let why = format!("resources of type {other} have no configs here");
                Err((ErrorCode::InvalidRequest, why))
            }
        };
        let (error_code, error_message, configs) = match described {
            Ok(configs) => (ErrorCode::None, None, configs),
            Err((code, why)) => (code, Some(why), Vec::new()),
        };
        let wanted = |name: &str| match &resource.configuration_keys {
            Some(keys) => keys.iter().any(|key| key == name),
            None => true,
        };
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs: configs.into_iter().filter(|config| wanted(&config.name)).collect(),
        }
    }

    fn topic(&self, name: &str) -> Described {
        let Some(topic) = self.image.topic(name) else {
            let why = format!("there is no topic {name}");
            return Err((ErrorCode::UnknownTopicOrPartition, why));
        };
        let described = TopicConfig::describe(&topic.configs, self.defaults);
        Ok(described.into_iter().map(|config| self.topic_config(config)).collect())
    }

    fn topic_config(&self, config: DescribedConfig) -> DescribeConfigsResourceResult {
        let synonyms = config.synonyms.into_iter().filter(|_| self.synonyms);
        let documentation = self.documentation.then(|| match config.def.honour {
            Honour::Yes => "As in Apache Kafka.".to_owned(),
            Honour::NoEffect(why) => format!("No effect: {why}."),
            Honour::Only(values, why) => format!("Only {}: {why}.", values.join(", ")),
        });
        DescribeConfigsResourceResult {
            name: config.def.name.to_owned(),
            value: Some(config.value),
            read_only: false,
            config_source: config.source as i8,
            is_sensitive: false,
            synonyms: synonyms
                .map(|synonym| DescribeConfigsSynonym {
                    name: synonym.name.to_owned(),
                    value: Some(synonym.value),
                    source: synonym.source as i8,
                })
                .collect(),
            config_type: config.def.kind as i8,
            documentation,
        }
    }

    /// The empty name asks for dynamic defaults of all brokers, of which there are none.
    fn broker(&self, name: &str) -> Described {
        if name.is_empty() {
            return Ok(Vec::new());
        }
        if name != self.broker.to_string() {
            let why =
                format!("Unexpected broker id, expected {}, but received {name}", self.broker);
            return Err((ErrorCode::InvalidRequest, why));
        }
        let configs = self.settings.iter().map(|(name, value)| {
            let source = ConfigSource::StaticBroker as i8;
            let synonym =
                DescribeConfigsSynonym { name: name.clone(), value: Some(value.clone()), source };
            DescribeConfigsResourceResult {
                name: name.clone(),
                value: Some(value.clone()),
                read_only: true,
                config_source: source,
                is_sensitive: false,
                synonyms: self.synonyms.then_some(synonym).into_iter().collect(),
                config_type: kind_of(value) as i8,
                documentation: None,
            }
        });
        Ok(configs.collect())
    }
}

/// Settings of the broker are texts by the time they get here.
fn kind_of(value: &str) -> ConfigType {
    if value.parse::<bool>().is_ok() {
        ConfigType::Boolean
    } else if value.parse::<i64>().is_ok() {
        ConfigType::Long
    } else {
        ConfigType::String
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
        let set = [("log.retention.hours", "24"), ("min.insync.replicas", "2")];
        let settings = set.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let defaults = TopicDefaults::new(&settings).unwrap();
        let image = Image::default();
        let scene = Scene {
            image: &image,
            broker: BrokerId(1),
            defaults: &defaults,
            settings: &settings,
            synonyms: true,
            documentation: true,
        };
        let topic = TopicConfig::describe(&BTreeMap::new(), &defaults);
        let retention = topic.into_iter().find(|c| c.def.name == "retention.ms").unwrap();
        let retention = scene.topic_config(retention);
        assert_eq!(retention.value.as_deref(), Some("86400000"));
        assert_eq!(retention.config_source, ConfigSource::StaticBroker as i8);
        assert_eq!(retention.synonyms[0].name, "log.retention.hours");
        scene.describe(&DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: keys.map(|keys| keys.iter().map(|k| (*k).to_owned()).collect()),
        })
    }

    #[test]
    fn a_broker_describes_itself_and_nobody_else() {
        let all = ask(BROKER, "1", None);
        assert_eq!((all.error_code, all.configs.len()), (ErrorCode::None, 2));
        let one = ask(BROKER, "1", Some(&["min.insync.replicas", "unknown"]));
        assert_eq!(one.configs.len(), 1);
        assert_eq!(one.configs[0].config_type, ConfigType::Long as i8);
        assert_eq!(ask(BROKER, "2", None).error_code, ErrorCode::InvalidRequest);
        assert_eq!(ask(BROKER, "", None).configs.len(), 0);
    }

    #[test]
    fn what_does_not_exist_is_an_error_of_its_own() {
        assert_eq!(ask(TOPIC, "t", None).error_code, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(ask(8, "1", None).error_code, ErrorCode::InvalidRequest);
    }
}
