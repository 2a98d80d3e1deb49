//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources: every config is
//! honoured or refused with what to do instead.

use model::ErrorCode;
use wire::api::alter_configs::{AlterConfigsRequest, AlterConfigsResource};
use wire::api::create_topics::{CreatableTopic, CreateTopicsRequest};
use wire::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use wire::api::incremental_alter_configs::{
    AlterConfigsResource as Resource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use wire::api::list_config_resources::ListConfigResourcesRequest;

use crate::harness::{Client, batch, node, topic};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
/// The topic config whose default one of these tests changes.
const OF_BROKERS: &str = "message.timestamp.after.max.ms";
const APPEND: i8 = 2;

type Edit<'a> = (&'a str, i8, Option<&'a str>);

fn change(kind: i8, name: &str, edits: &[Edit], validate_only: bool) -> (ErrorCode, String) {
    let config = |(name, config_operation, value): &Edit| AlterableConfig {
        name: name.to_string(),
        config_operation: *config_operation,
        value: value.map(str::to_owned),
    };
    let resource = Resource {
        resource_type: kind,
        resource_name: name.into(),
        configs: edits.iter().map(config).collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    let mut answers = Vec::new();
    for version in 0..=1 {
        answers.push(Client::new().call(version, &request).responses.remove(0));
    }
    // Said twice it means the same.
    assert_eq!(answers[0].error_code, answers[1].error_code);
    let answer = answers.remove(0);
    assert_eq!((answer.resource_type, answer.resource_name.as_str()), (kind, name));
    (answer.error_code, answer.error_message.unwrap_or_default())
}

fn set(kind: i8, name: &str, config: &str, value: &str) -> (ErrorCode, String) {
    change(kind, name, &[(config, SET, Some(value))], false)
}

fn describe(kind: i8, name: &str) -> Vec<DescribeConfigsResourceResult> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: None,
        }],
        include_synonyms: true,
        include_documentation: true,
    };
    let result = Client::new().call(4, &request).results.remove(0);
    assert_eq!(result.error_code, ErrorCode::None, "{:?}", result.error_message);
    result.configs
}

fn described(kind: i8, name: &str, config: &str) -> DescribeConfigsResourceResult {
    let mut all = describe(kind, name).into_iter();
    all.find(|described| described.name == config).unwrap_or_else(|| panic!("no {config}"))
}

#[test]
fn trap_8_defaults_are_listed_with_their_source_and_synonyms() {
    let topic = topic(1);
    // Another test changes the default of one of them meanwhile.
    let all = describe(TOPIC, &topic.name);
    for config in all.iter().filter(|config| config.name != OF_BROKERS) {
        assert_eq!(config.config_source, 5, "{}", config.name);
        assert!(config.config_type > 0 && config.documentation.is_some(), "{}", config.name);
        assert!(config.value.is_some(), "{}", config.name);
    }
    let retention = described(TOPIC, &topic.name, "retention.ms");
    let synonyms: Vec<_> = retention.synonyms.iter().map(|s| (s.name.as_str(), s.source)).collect();
    assert_eq!(synonyms, [("log.retention.hours", 5)]);
    assert_eq!(set(TOPIC, &topic.name, "retention.ms", "60000").0, ErrorCode::None);
    let retention = described(TOPIC, &topic.name, "retention.ms");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("60000"), 1));
    let synonyms: Vec<_> = retention.synonyms.iter().map(|s| (s.name.as_str(), s.source)).collect();
    assert_eq!(synonyms, [("retention.ms", 1), ("log.retention.hours", 5)]);
}

#[test]
fn topic_configs_are_set_deleted_and_appended_to_one_by_one() {
    let topic = topic(1);
    let name = &topic.name;
    let dry = change(TOPIC, name, &[("retention.ms", SET, Some("7"))], true);
    assert_eq!(dry.0, ErrorCode::None);
    assert_eq!(described(TOPIC, name, "retention.ms").config_source, 5, "validate_only");
    let throttled = "leader.replication.throttled.replicas";
    let edits = [("retention.bytes", SET, Some("7")), (throttled, APPEND, Some("0:1"))];
    assert_eq!(change(TOPIC, name, &edits, false).0, ErrorCode::None);
    assert_eq!(described(TOPIC, name, throttled).value.as_deref(), Some("0:1"), "once");
    assert_eq!(change(TOPIC, name, &[("retention.bytes", DELETE, None)], false).0, ErrorCode::None);
    assert_eq!(described(TOPIC, name, "retention.bytes").config_source, 5);
    for (edit, code, text) in [
        (("retention.msec", SET, Some("1")), ErrorCode::InvalidConfig, "did you mean retention.ms"),
        (("retention.ms", SET, Some("soon")), ErrorCode::InvalidConfig, "a long"),
        (("retention.ms", APPEND, Some("1")), ErrorCode::InvalidConfig, "not a list"),
        (("cleanup.policy", APPEND, Some("compact")), ErrorCode::InvalidConfig, "not supported"),
        (("unclean.leader.election.enable", SET, Some("true")), ErrorCode::InvalidConfig, "lose"),
        (("retention.ms", SET, None), ErrorCode::InvalidRequest, "no value"),
        (("retention.ms", 9, Some("1")), ErrorCode::InvalidRequest, "does not exist"),
    ] {
        let (refused, why) = change(TOPIC, name, &[edit], false);
        assert!(refused == code && why.contains(text), "{edit:?}: {refused:?} {why}");
    }
    let twice = [("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)];
    assert_eq!(change(TOPIC, name, &twice, false).0, ErrorCode::InvalidRequest);
    let nowhere = set(TOPIC, "no-such-topic", "retention.ms", "1");
    assert_eq!(nowhere.0, ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn alter_configs_replaces_everything_it_does_not_name() {
    let topic = topic(1);
    assert_eq!(set(TOPIC, &topic.name, "retention.ms", "5").0, ErrorCode::None);
    for version in 0..=2 {
        let segment_ms = wire::api::alter_configs::AlterableConfig {
            name: "segment.ms".into(),
            value: Some((1_000 + version).to_string()),
        };
        let resource = AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.name.clone(),
            configs: vec![segment_ms],
        };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer = Client::new().call(version, &request).responses.remove(0);
        assert_eq!(answer.error_code, ErrorCode::None, "{:?}", answer.error_message);
        assert_eq!(described(TOPIC, &topic.name, "segment.ms").config_source, 1);
        assert_eq!(described(TOPIC, &topic.name, "retention.ms").config_source, 5);
    }
}

#[test]
fn a_topic_config_is_in_force_without_a_restart() {
    let (topic, mut client) = (topic(1), Client::new());
    let large = "x".repeat(4_000);
    let sent = client.produce(9, &topic, -1, batch(&[&large]));
    assert_eq!(sent.error_code, ErrorCode::None);
    assert_eq!(set(TOPIC, &topic.name, "max.message.bytes", "1000").0, ErrorCode::None);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let sent = client.produce(9, &topic, -1, batch(&[&large]));
        if sent.error_code == ErrorCode::MessageTooLarge {
            break;
        }
        assert!(std::time::Instant::now() < patience, "never in force");
    }
}

#[test]
fn broker_configs_are_changed_for_one_broker_or_for_all_and_reach_its_topics() {
    let topic = topic(1);
    // Nothing else in these tests looks at this config.
    let config = "log.message.timestamp.after.max.ms";
    assert_eq!(set(BROKER, "", config, "7200000").0, ErrorCode::None);
    let of_topic = || described(TOPIC, &topic.name, OF_BROKERS);
    assert_eq!((of_topic().value.as_deref(), of_topic().config_source), (Some("7200000"), 3));
    assert_eq!(set(BROKER, "1", config, "7300000").0, ErrorCode::None);
    assert_eq!((of_topic().value.as_deref(), of_topic().config_source), (Some("7300000"), 2));
    let sources: Vec<i8> = of_topic().synonyms.iter().map(|synonym| synonym.source).collect();
    assert_eq!(sources, [2, 3, 5]);
    let own = described(BROKER, "1", config);
    assert_eq!(
        (own.value.as_deref(), own.config_source, own.read_only),
        (Some("7300000"), 2, false)
    );
    let all = describe(BROKER, "");
    assert!(all.iter().any(|described| described.name == config && described.config_source == 3));
    // A new topic says so in the answer that created it.
    let wish = CreatableTopic {
        name: format!("{}-child", topic.name),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![wish], ..Default::default() };
    let created = Client::new().call(7, &request).topics.remove(0);
    let told = created.configs.unwrap();
    let told = told.iter().find(|c| c.name == OF_BROKERS).unwrap();
    assert_eq!((told.value.as_deref(), told.config_source), (Some("7300000"), 2));
    for name in ["1", ""] {
        assert_eq!(change(BROKER, name, &[(config, DELETE, None)], false).0, ErrorCode::None);
    }
    assert_eq!(of_topic().config_source, 5);
}

#[test]
fn what_a_broker_cannot_change_says_what_to_do() {
    for (config, value, code, text) in [
        ("num.partitions", "3", ErrorCode::InvalidRequest, "configuration file"),
        ("listeners", "A://:1", ErrorCode::InvalidRequest, "configuration file"),
        ("num.io.threads", "3", ErrorCode::InvalidRequest, "see shards"),
        ("ssl.keystore.location", "/k", ErrorCode::InvalidRequest, "TLS"),
        ("listener.name.a.ssl.key.password", "p", ErrorCode::InvalidRequest, "listeners have no"),
        ("log.cleaner.threads", "3", ErrorCode::InvalidRequest, "compaction"),
        ("log.retention.msec", "3", ErrorCode::InvalidConfig, "did you mean log.retention.ms"),
        ("log.retention.ms", "soon", ErrorCode::InvalidConfig, "a long"),
        ("unclean.leader.election.enable", "true", ErrorCode::InvalidConfig, "lose"),
    ] {
        let (refused, why) = set(BROKER, "1", config, value);
        assert!(refused == code && why.contains(text), "{config}: {refused:?} {why}");
    }
    assert_eq!(set(BROKER, "9", "max.connections", "3").0, ErrorCode::InvalidRequest);
    for other in [8, 16, 32, 3] {
        let (code, why) = set(other, "1", "x", "y");
        assert!(code == ErrorCode::InvalidRequest && !why.is_empty(), "{other}: {why}");
    }
    assert!(node().image().broker_configs(None).get("num.partitions").is_none());
}

#[test]
fn config_resources_are_listed() {
    let topic = topic(1);
    let ask = |version, resource_types: &[i8]| {
        let request = ListConfigResourcesRequest { resource_types: resource_types.to_vec() };
        Client::new().call(version, &request)
    };
    assert!(ask(0, &[]).config_resources.is_empty(), "client metrics, of which there are none");
    let all = ask(1, &[]).config_resources;
    assert!(all.iter().any(|r| (r.resource_type, r.resource_name.as_str()) == (BROKER, "1")));
    let topics = ask(1, &[TOPIC]).config_resources;
    assert!(topics.iter().all(|r| r.resource_type == TOPIC));
    assert!(topics.iter().any(|r| r.resource_name == topic.name));
    assert_eq!(ask(1, &[77]).error_code, ErrorCode::UnsupportedVersion);
}
