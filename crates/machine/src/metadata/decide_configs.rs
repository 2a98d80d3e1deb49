//! Changes of configs: what they lead to is checked as a whole before it is proposed.

use std::collections::BTreeMap;

use model::{BrokerId, ErrorCode};

use super::decide::find;
use super::image::Image;
use super::protocol::{Command, ConfigResource, Response, TopicRef};
use crate::ConfigError;
use crate::config::{self, ConfigChange, ConfigEdit, ConfigType, find_broker_config};

pub(super) fn alter(
    image: &Image,
    resource: ConfigResource,
    change: ConfigChange,
    validate_only: bool,
) -> Result<Command, Response> {
    match resource {
        ConfigResource::Topic(name) => topic(image, name, change, validate_only),
        ConfigResource::Cluster => broker(image, None, change, validate_only),
        ConfigResource::Broker(id) if image.broker(id).is_none() => {
            let why = format!("broker {id} is not registered");
            Err(Response::rejected(ErrorCode::InvalidRequest, why))
        }
        ConfigResource::Broker(id) => broker(image, Some(id), change, validate_only),
    }
}

fn topic(
    image: &Image,
    name: String,
    mut change: ConfigChange,
    validate_only: bool,
) -> Result<Command, Response> {
    let topic = find(image, &TopicRef::Name(name))?;
    fill_in(&mut change, |name| config::find(name).map(|def| (def.kind, def.default.to_owned())))?;
    let after = change.apply(&topic.configs);
    config::validate(&after).map_err(rejected)?;
    if validate_only || after == topic.configs {
        return Err(Response::ConfigsAltered { version: image.version() });
    }
    Ok(Command::AlterTopicConfigs { id: topic.id, change })
}

fn broker(
    image: &Image,
    broker: Option<BrokerId>,
    mut change: ConfigChange,
    validate_only: bool,
) -> Result<Command, Response> {
    let before = image.broker_configs(broker);
    fill_in(&mut change, |name| {
        find_broker_config(name).map(|def| (def.kind, def.default.unwrap_or_default().to_owned()))
    })?;
    let after = change.apply(before);
    // What was set before stays, even if this version would not set it.
    let news: BTreeMap<String, String> = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(*value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    config::validate_dynamic(&news).map_err(rejected)?;
    if validate_only || after == *before {
        return Err(Response::ConfigsAltered { version: image.version() });
    }
    Ok(Command::AlterBrokerConfigs { broker: broker.map(|id| id.0), change })
}

/// Lists begin with their default; nothing else can be appended to. `known`: type and default.
fn fill_in(
    change: &mut ConfigChange,
    known: impl Fn(&str) -> Option<(ConfigType, String)>,
) -> Result<(), Response> {
    for (name, edit) in &mut change.edits {
        let list = match edit {
            ConfigEdit::Append(list) | ConfigEdit::Subtract(list) => list,
            ConfigEdit::Set(_) | ConfigEdit::Delete => continue,
        };
        match known(name) {
            Some((ConfigType::List, default)) => list.or_else = default,
            Some(_) => {
                let why = format!("{name} is not a list: nothing can be appended or subtracted");
                return Err(Response::rejected(ErrorCode::InvalidConfig, why));
            }
            None => list.or_else = String::new(),
        }
    }
    Ok(())
}

/// Kafka's codes: a name that cannot be set is a bad request, a bad value a bad config.
fn rejected(error: ConfigError) -> Response {
    let code = match error {
        ConfigError::ReadOnly { .. } | ConfigError::Unsupported { .. } => ErrorCode::InvalidRequest,
        _ => ErrorCode::InvalidConfig,
    };
    Response::rejected(code, error.to_string())
}
