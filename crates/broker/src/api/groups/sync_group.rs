//! SyncGroup: waits for the group leader's assignment.

use model::limits;
use node::groups::{Request, Response};
use wire::api::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::{coordinate, mismatched, parked};
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct SyncGroup;

impl Api for SyncGroup {
    type Request = SyncGroupRequest;

    async fn handle(request: Authorized<SyncGroupRequest>, call: &mut Call) -> SyncGroupResponse {
        let request = request.into_inner();
        let group = request.group_id.clone();
        // The coordinator lets late members go after their own time-out; this is above it.
        let within = parked(limits::REQUEST_MS_MAX as i32);
        let error_code = match coordinate(call, &group, Request::Sync(request), within).await {
            Ok(Response::Sync(response)) => return response,
            Ok(other) => mismatched(other),
            Err(code) => code,
        };
        SyncGroupResponse { error_code, ..SyncGroupResponse::default() }
    }

    fn codes(response: &SyncGroupResponse, codes: &mut Codes) {
        codes.add(response.error_code);
    }
}
