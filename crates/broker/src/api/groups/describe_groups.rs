//! DescribeGroups: groups coordinated here, with their members.

use model::ErrorCode;
use node::groups::{Request, Response};
use wire::api::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup};

use super::{coordinate, mismatched, soon};
use crate::authorize::{Authorized, GROUP_OPERATIONS};
use crate::call::{Call, Codes};
use crate::dispatch::Api;

/// From here on a group that does not exist is an error (KIP-1043).
const NOT_FOUND: i16 = 6;
const DEAD: &str = "Dead";

pub(crate) struct DescribeGroups;

impl Api for DescribeGroups {
    type Request = DescribeGroupsRequest;

    async fn handle(
        request: Authorized<DescribeGroupsRequest>,
        call: &mut Call,
    ) -> DescribeGroupsResponse {
        let request = request.into_inner();
        let mut groups = Vec::with_capacity(request.groups.len());
        for group_id in request.groups {
            let mut group = describe(call, group_id).await;
            if call.version >= NOT_FOUND && group.group_state == DEAD {
                group.error_code = ErrorCode::GroupIdNotFound;
                group.error_message = Some(format!("group {} not found", group.group_id));
            }
            if request.include_authorized_operations && !group.error_code.is_err() {
                group.authorized_operations = GROUP_OPERATIONS;
            }
            groups.push(group);
        }
        DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }
    }

    fn codes(response: &DescribeGroupsResponse, codes: &mut Codes) {
        response.groups.iter().for_each(|group| codes.add(group.error_code));
    }
}

async fn describe(call: &Call, group_id: String) -> DescribedGroup {
    let ask = Request::Describe { group: group_id.clone() };
    let error_code = match coordinate(call, &group_id, ask, soon()).await {
        Ok(Response::Describe(group)) => return group,
        Ok(other) => mismatched(other),
        Err(code) => code,
    };
    DescribedGroup { error_code, group_id, ..DescribedGroup::default() }
}
