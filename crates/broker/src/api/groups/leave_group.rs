//! LeaveGroup: one member, or several at once.

use node::groups::{Request, Response};
use wire::api::leave_group::{LeaveGroupRequest, LeaveGroupResponse};

use super::{coordinate, mismatched, soon};
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct LeaveGroup;

impl Api for LeaveGroup {
    type Request = LeaveGroupRequest;

    async fn handle(request: Authorized<LeaveGroupRequest>, call: &mut Call) -> LeaveGroupResponse {
        let request = request.into_inner();
        let group = request.group_id.clone();
        let error_code = match coordinate(call, &group, Request::Leave(request), soon()).await {
            Ok(Response::Leave(response)) => return response,
            Ok(other) => mismatched(other),
            Err(code) => code,
        };
        LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }
    }

    fn codes(response: &LeaveGroupResponse, codes: &mut Codes) {
        codes.add(response.error_code);
        response.members.iter().for_each(|member| codes.add(member.error_code));
    }
}
