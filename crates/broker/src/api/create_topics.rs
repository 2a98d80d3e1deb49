//! CreateTopics at any broker: the metadata leader decides, this broker waits until it knows
//! the topic and who serves it, so that the client's next question finds it.

use std::collections::{BTreeMap, HashSet};

use model::{BrokerId, ErrorCode, TopicId};
use node::Refusal;
use node::config::TopicConfig;
use node::metadata::{CreateTopic, Request, Response};
use tokio::time::Instant;
use wire::api::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicConfigs,
    CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};

use crate::BrokerConfig;
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

pub(crate) struct CreateTopics;

impl Api for CreateTopics {
    type Request = CreateTopicsRequest;

    async fn handle(
        request: Authorized<CreateTopicsRequest>,
        call: &mut Call,
    ) -> CreateTopicsResponse {
        let request = request.into_inner();
        let began = Instant::now();
        let ask_until = began + topics::admin_timeout(request.timeout_ms);
        let wait_until = began + topics::client_timeout(request.timeout_ms);
        let twice = names_given_twice(&request.topics);
        let mut results = Vec::with_capacity(request.topics.len());
        let mut created = Vec::new();
        for topic in request.topics {
            let outcome = if twice.contains(&topic.name) {
                Err(refusal(ErrorCode::InvalidRequest, "the request names this topic twice"))
            } else {
                create(&topic, request.validate_only, ask_until, call).await
            };
            if let Ok(done) = &outcome
                && !request.validate_only
            {
                created.push(done.topic_id);
            }
            results.push(outcome.unwrap_or_else(|refusal| failed(topic.name, refusal)));
        }
        topics::wait_served(&call.shared.node, &created, wait_until).await;
        CreateTopicsResponse { topics: results, ..Default::default() }
    }

    fn codes(response: &CreateTopicsResponse, codes: &mut Codes) {
        response.topics.iter().for_each(|topic| codes.add(topic.error_code));
    }
}

fn names_given_twice(topics: &[CreatableTopic]) -> HashSet<String> {
    let mut seen = HashSet::new();
    let again = topics.iter().filter(|topic| !seen.insert(topic.name.as_str()));
    again.map(|topic| topic.name.clone()).collect()
}

async fn create(
    topic: &CreatableTopic,
    validate_only: bool,
    deadline: Instant,
    call: &Call,
) -> Result<CreatableTopicResult, Refusal> {
    let node = &call.shared.node;
    let wish = wish(&call.shared.config, topic, validate_only)?;
    let configs = wish.configs.clone();
    let left = deadline.saturating_duration_since(Instant::now());
    match topics::ask_metadata(node, Request::CreateTopic(wish), left).await? {
        Response::TopicCreated { name, id, partitions, replication_factor } => {
            let described = TopicConfig::describe(&configs, &node.topic_defaults());
            let configs = described.into_iter().map(|config| CreatableTopicConfigs {
                name: config.def.name.to_owned(),
                value: Some(config.value),
                read_only: false,
                config_source: config.source as i8,
                is_sensitive: false,
            });
            Ok(CreatableTopicResult {
                name,
                topic_id: id,
                error_message: None,
                num_partitions: partitions,
                replication_factor,
                configs: Some(configs.collect()),
                ..Default::default()
            })
        }
        other => Err(topics::unexpected(&other)),
    }
}

/// The request's topic over this broker's defaults.
fn wish(
    config: &BrokerConfig,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<CreateTopic, Refusal> {
    let mut wish = topics::wish(config, &topic.name);
    wish.configs.extend(configs(&topic.configs)?);
    Ok(CreateTopic {
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments(&topic.assignments)?,
        validate_only,
        ..wish
    })
}

/// Partitions must be named from 0 on without gaps, in any order.
fn assignments(given: &[CreatableReplicaAssignment]) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let mut by_index = BTreeMap::new();
    for assignment in given {
        let brokers: Vec<BrokerId> = assignment.broker_ids.iter().map(|id| BrokerId(*id)).collect();
        by_index.insert(assignment.partition_index, brokers);
    }
    let gapless = by_index.keys().copied().eq(0..given.len() as i32);
    if !gapless {
        let why = "a manual assignment names the partitions 0, 1, 2, ..., each once";
        return Err(refusal(ErrorCode::InvalidReplicaAssignment, why));
    }
    Ok(by_index.into_values().collect())
}

fn configs(given: &[CreatableTopicConfig]) -> Result<BTreeMap<String, String>, Refusal> {
    let entry = |config: &CreatableTopicConfig| match &config.value {
        Some(value) => Ok((config.name.clone(), value.clone())),
        None => {
            let why = format!("{} is null: leave it out to get its default", config.name);
            Err(refusal(ErrorCode::InvalidConfig, &why))
        }
    };
    given.iter().map(entry).collect()
}

fn refusal(code: ErrorCode, why: &str) -> Refusal {
    Refusal { code, why: why.to_owned() }
}

fn failed(name: String, refusal: Refusal) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        topic_id: TopicId::ZERO,
        error_code: refusal.code,
        error_message: Some(refusal.why),
        configs: None,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(partition_index: i32, brokers: &[i32]) -> CreatableReplicaAssignment {
        CreatableReplicaAssignment { partition_index, broker_ids: brokers.to_vec() }
    }

    #[test]
    fn assignments_are_ordered_and_gapless() {
        let ordered = assignments(&[assignment(1, &[3]), assignment(0, &[2])]).unwrap();
        assert_eq!(ordered, [[BrokerId(2)], [BrokerId(3)]]);
        for bad in [
            vec![assignment(1, &[1])],
            vec![assignment(0, &[1]), assignment(0, &[1])],
            vec![assignment(-1, &[1])],
        ] {
            let refusal = assignments(&bad).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidReplicaAssignment);
        }
        assert!(assignments(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_asked_for_wins_over_the_defaults_of_the_topic_of_groups() {
        let config = BrokerConfig::default();
        let name = node::groups::OFFSETS_TOPIC;
        let plain = CreatableTopic { name: name.into(), ..Default::default() };
        let asked =
            CreatableTopicConfig { name: "segment.bytes".into(), value: Some("1048576".into()) };
        let own = CreatableTopic { configs: vec![asked], ..plain.clone() };
        let bytes = |topic: &CreatableTopic| {
            wish(&config, topic, false).unwrap().configs["segment.bytes"].clone()
        };
        assert_eq!((bytes(&plain).as_str(), bytes(&own).as_str()), ("104857600", "1048576"));
    }

    #[test]
    fn null_values_are_named_and_every_double_is_found() {
        let null = CreatableTopicConfig { name: "retention.ms".into(), value: None };
        let refusal = configs(&[null]).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidConfig);
        assert!(refusal.why.contains("retention.ms"));
        let named = |name: &str| CreatableTopic { name: name.into(), ..Default::default() };
        let twice = names_given_twice(&[named("a"), named("b"), named("a")]);
        assert_eq!(twice, HashSet::from(["a".to_owned()]));
    }
}
