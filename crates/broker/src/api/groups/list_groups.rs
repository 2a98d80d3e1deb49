//! ListGroups: every group that this broker coordinates. Clients ask all brokers.

use model::ErrorCode;
use node::groups::{OFFSETS_TOPIC, Request, Response};
use wire::api::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use super::soon;
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct ListGroups;

impl Api for ListGroups {
    type Request = ListGroupsRequest;

    async fn handle(request: Authorized<ListGroupsRequest>, call: &mut Call) -> ListGroupsResponse {
        let node = &call.shared.node;
        let image = node.image();
        let partitions = image.topic(OFFSETS_TOPIC).map(|topic| topic.partitions.clone());
        let mut response = ListGroupsResponse::default();
        for partition in partitions.unwrap_or_default() {
            let here = node.view(partition.group).is_some_and(|view| view.state().serving);
            if !here {
                continue;
            }
            match node.coordinate(partition.group, Request::List, soon()).await {
                Ok(Response::List(groups)) => response.groups.extend(groups),
                Ok(_) => response.error_code = ErrorCode::UnknownServerError,
                // It is another broker's by now, which lists it.
                Err(refusal) if refusal.code == ErrorCode::NotCoordinator => {}
                Err(_) => response.error_code = ErrorCode::CoordinatorNotAvailable,
            }
        }
        response.groups.retain(|group| wanted(&request, group));
        response
    }

    fn codes(response: &ListGroupsResponse, codes: &mut Codes) {
        codes.add(response.error_code);
    }
}

/// Filters compare without case, as Kafka's do.
fn wanted(request: &ListGroupsRequest, group: &ListedGroup) -> bool {
    let matches = |filter: &[String], value: &str| {
        filter.is_empty() || filter.iter().any(|asked| asked.eq_ignore_ascii_case(value))
    };
    matches(&request.states_filter, &group.group_state)
        && matches(&request.types_filter, &group.group_type)
}
