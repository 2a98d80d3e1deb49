//! JoinGroup: waits until the others have joined too.

use model::ErrorCode;
use node::groups::{Caller, Request, Response};
use wire::api::join_group::{JoinGroupRequest, JoinGroupResponse};

use super::{coordinate, mismatched, parked};
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct JoinGroup;

impl Api for JoinGroup {
    type Request = JoinGroupRequest;

    async fn handle(request: Authorized<JoinGroupRequest>, call: &mut Call) -> JoinGroupResponse {
        let request = request.into_inner();
        let caller = Caller {
            client_id: call.client_id.to_string(),
            client_host: format!("/{}", call.peer),
            unique: uuid::Uuid::new_v4().to_string(),
            knows_member_id_required: call.version >= 4,
            knows_skip_assignment: call.version >= 9,
        };
        let within = parked(request.rebalance_timeout_ms.max(request.session_timeout_ms));
        let (group, member_id) = (request.group_id.clone(), request.member_id.clone());
        let answer = coordinate(call, &group, Request::Join(caller, request), within).await;
        match answer {
            Ok(Response::Join(response)) => response,
            Ok(other) => refused(member_id, mismatched(other)),
            Err(code) => refused(member_id, code),
        }
    }

    fn codes(response: &JoinGroupResponse, codes: &mut Codes) {
        codes.add(response.error_code);
    }
}

fn refused(member_id: String, error_code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse { error_code, member_id, ..JoinGroupResponse::default() }
}
