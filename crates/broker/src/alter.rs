//! Changing configs, as AlterConfigs and IncrementalAlterConfigs both do it: one resource at a
//! time, each all or nothing, decided by the metadata leader.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{BrokerId, ErrorCode, limits};
use node::config::{ConfigChange, ConfigEdit};
use node::metadata::{ConfigResource, Request, Response};
use node::{Node, Refusal};

use crate::topics;

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
pub(crate) const BROKER_LOGGER: i8 = 8;
pub(crate) const CLIENT_METRICS: i8 = 16;
pub(crate) const GROUP: i8 = 32;

/// What a type and a name mean. The empty broker is all of them.
pub(crate) fn resource(kind: i8, name: &str) -> Result<ConfigResource, Refusal> {
    match kind {
        TOPIC => Ok(ConfigResource::Topic(name.to_owned())),
        BROKER if name.is_empty() => Ok(ConfigResource::Cluster),
        BROKER => match name.parse() {
            Ok(id) => Ok(ConfigResource::Broker(BrokerId(id))),
            Err(_) => Err(invalid(format!("a broker is named by its id, not by {name:?}"))),
        },
        other => Err(invalid(no_configs(other))),
    }
}

/// Why a type of resource has no configs.
pub(crate) fn no_configs(kind: i8) -> String {
    match kind {
        BROKER_LOGGER => {
            "loggers have no levels of their own here: set RUST_LOG and restart".into()
        }
        CLIENT_METRICS => "client metrics subscriptions (KIP-714) are not supported".into(),
        GROUP => {
            "groups have no configs of their own: they are of the newer group protocols".into()
        }
        other => format!("resources of type {other} do not exist"),
    }
}

/// Edits by name; a name twice is a mistake whose meaning nobody knows.
pub(crate) fn edits(
    given: impl Iterator<Item = Result<(String, ConfigEdit), Refusal>>,
) -> Result<BTreeMap<String, ConfigEdit>, Refusal> {
    let mut edits = BTreeMap::new();
    for edit in given {
        let (name, edit) = edit?;
        if edits.contains_key(&name) {
            return Err(invalid(format!("{name} is named twice")));
        }
        edits.insert(name, edit);
    }
    Ok(edits)
}

pub(crate) async fn alter(
    node: &Node,
    resource: ConfigResource,
    change: ConfigChange,
    validate_only: bool,
) -> Result<(), Refusal> {
    let request = Request::AlterConfigs { resource, change, validate_only };
    let within = Duration::from_millis(limits::CONFIG_ALTER_MS_MAX);
    match topics::ask_metadata(node, request, within).await? {
        Response::ConfigsAltered { .. } => Ok(()),
        other => Err(topics::unexpected(&other)),
    }
}

pub(crate) fn invalid(why: String) -> Refusal {
    Refusal { code: ErrorCode::InvalidRequest, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_named_by_id_and_the_empty_name_is_all_of_them() {
        assert_eq!(resource(BROKER, "7").unwrap(), ConfigResource::Broker(BrokerId(7)));
        assert_eq!(resource(BROKER, "").unwrap(), ConfigResource::Cluster);
        assert_eq!(resource(TOPIC, "t").unwrap(), ConfigResource::Topic("t".into()));
        for (kind, name) in [(BROKER, "seven"), (BROKER_LOGGER, "1"), (CLIENT_METRICS, ""), (3, "")]
        {
            assert_eq!(resource(kind, name).unwrap_err().code, ErrorCode::InvalidRequest);
        }
    }
}
