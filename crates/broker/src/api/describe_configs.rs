//! DescribeConfigs: every config of a topic, defaults with their source and synonyms (KIP-226),
//! and the settings this broker was started with.

use std::collections::BTreeMap;

use model::{BrokerId, ErrorCode};
use node::config::ConfigSource::StaticBroker;
use node::config::{
    BrokerLayers, ConfigType, DescribedBrokerConfig, DescribedConfig, Synonym, TopicConfig,
    TopicDefaults, document_broker, find_broker_config,
};
use node::metadata::Image;
use wire::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use crate::alter::{BROKER, TOPIC, no_configs};
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

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
            defaults: &node.topic_defaults(),
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
            other => Err((ErrorCode::InvalidRequest, no_configs(other))),
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
        DescribeConfigsResourceResult {
            name: config.def.name.to_owned(),
            value: Some(config.value),
            read_only: false,
            config_source: config.source as i8,
            is_sensitive: false,
            synonyms: self.synonyms(config.synonyms),
            config_type: config.def.kind as i8,
            documentation: self.documentation.then(|| config.def.document()),
        }
    }

    fn synonyms(&self, all: Vec<Synonym>) -> Vec<DescribeConfigsSynonym> {
        let wanted = all.into_iter().filter(|_| self.synonyms);
        let described = wanted.map(|synonym| DescribeConfigsSynonym {
            name: synonym.name.to_owned(),
            value: Some(synonym.value),
            source: synonym.source as i8,
        });
        described.collect()
    }

    /// This broker's configs; the empty name asks for what is set for all brokers.
    fn broker(&self, name: &str) -> Described {
        let (own, cluster) = (self.image.broker_configs(Some(self.broker)), self.cluster());
        let none = BTreeMap::new();
        if name.is_empty() {
            let layers = BrokerLayers { broker: &none, cluster, file: &none };
            let set = layers.describe().into_iter();
            let set = set.filter(|config| cluster.contains_key(config.def.name));
            return Ok(set.map(|config| self.broker_config(config)).collect());
        }
        if name != self.broker.to_string() {
            let why =
                format!("Unexpected broker id, expected {}, but received {name}", self.broker);
            return Err((ErrorCode::InvalidRequest, why));
        }
        let layers = BrokerLayers { broker: own, cluster, file: self.settings };
        let kafkas = layers.describe().into_iter().map(|config| self.broker_config(config));
        let ours = self.settings.iter().filter(|(name, _)| find_broker_config(name).is_none());
        Ok(kafkas.chain(ours.map(|(name, value)| self.own_setting(name, value))).collect())
    }

    fn cluster(&self) -> &BTreeMap<String, String> {
        self.image.broker_configs(None)
    }

    fn broker_config(&self, config: DescribedBrokerConfig) -> DescribeConfigsResourceResult {
        DescribeConfigsResourceResult {
            name: config.def.name.to_owned(),
            value: config.value,
            read_only: !config.def.is_dynamic(),
            config_source: config.source as i8,
            is_sensitive: false,
            synonyms: self.synonyms(config.synonyms),
            config_type: config.def.kind as i8,
            documentation: self.documentation.then(|| document_broker(config.def)),
        }
    }

    /// A setting Kafka does not have; texts by the time they get here.
    fn own_setting(&self, name: &str, value: &str) -> DescribeConfigsResourceResult {
        let source = StaticBroker as i8;
        let value = Some(value.to_owned());
        let synonym =
            DescribeConfigsSynonym { name: name.to_owned(), value: value.clone(), source };
        DescribeConfigsResourceResult {
            name: name.to_owned(),
            value,
            read_only: true,
            config_source: source,
            is_sensitive: false,
            synonyms: self.synonyms.then_some(synonym).into_iter().collect(),
            config_type: ConfigType::String as i8,
            documentation: self.documentation.then(|| "See `glasslog config`.".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
        let set =
            [("log.retention.hours", "24"), ("min.insync.replicas", "2"), ("own.setting", "x")];
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
        assert_eq!(retention.config_source, StaticBroker as i8);
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
        assert_eq!(all.error_code, ErrorCode::None);
        let found = |name: &str| all.configs.iter().find(|config| config.name == name).unwrap();
        let hours = found("log.retention.hours");
        assert_eq!((hours.value.as_deref(), hours.config_source), (Some("24"), 4));
        assert!(hours.read_only && !found("log.retention.ms").read_only);
        assert_eq!((found("log.retention.ms").value.as_deref(), hours.synonyms.len()), (None, 2));
        assert_eq!(found("own.setting").config_source, 4);
        let one = ask(BROKER, "1", Some(&["min.insync.replicas", "unknown"]));
        assert_eq!(one.configs.len(), 1);
        assert_eq!(one.configs[0].config_type, ConfigType::Int as i8);
        assert_eq!(ask(BROKER, "2", None).error_code, ErrorCode::InvalidRequest);
        assert_eq!(ask(BROKER, "", None).configs.len(), 0);
    }

    #[test]
    fn what_does_not_exist_is_an_error_of_its_own() {
        assert_eq!(ask(TOPIC, "t", None).error_code, ErrorCode::UnknownTopicOrPartition);
        assert_eq!(ask(8, "1", None).error_code, ErrorCode::InvalidRequest);
    }
}
