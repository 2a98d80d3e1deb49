//! ListConfigResources (KIP-1142): what has configs. Version 0 asks for client metrics, of which
//! there are none.

use std::collections::BTreeSet;

use model::ErrorCode;
use wire::api::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use crate::alter::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

const TYPES: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub(crate) struct ListConfigResources;

impl Api for ListConfigResources {
    type Request = ListConfigResourcesRequest;

    async fn handle(
        request: Authorized<ListConfigResourcesRequest>,
        call: &mut Call,
    ) -> ListConfigResourcesResponse {
        let wanted: BTreeSet<i8> = match call.version {
            0 => BTreeSet::from([CLIENT_METRICS]),
            _ if request.resource_types.is_empty() => BTreeSet::from(TYPES),
            _ => request.resource_types.iter().copied().collect(),
        };
        if !wanted.iter().all(|kind| TYPES.contains(kind)) {
            let error_code = ErrorCode::UnsupportedVersion;
            return ListConfigResourcesResponse { error_code, ..Default::default() };
        }
        let image = call.shared.node.image();
        let mut config_resources = Vec::new();
        let mut list = |resource_type, resource_name| {
            config_resources.push(ConfigResource { resource_name, resource_type });
        };
        if wanted.contains(&TOPIC) {
            image.topics().for_each(|topic| list(TOPIC, topic.name.clone()));
        }
        if wanted.contains(&BROKER) {
            image.brokers().for_each(|broker| list(BROKER, broker.id.to_string()));
        }
        ListConfigResourcesResponse { config_resources, ..Default::default() }
    }

    fn codes(response: &ListConfigResourcesResponse, codes: &mut Codes) {
        codes.add(response.error_code);
    }
}
