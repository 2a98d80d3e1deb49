//! Heartbeat of a group member.

use node::groups::{Request, Response};
use wire::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::{coordinate, mismatched, soon};
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct Heartbeat;

impl Api for Heartbeat {
    type Request = HeartbeatRequest;

    async fn handle(request: Authorized<HeartbeatRequest>, call: &mut Call) -> HeartbeatResponse {
        let request = request.into_inner();
        let group = request.group_id.clone();
        let error_code = match coordinate(call, &group, Request::Heartbeat(request), soon()).await {
            Ok(Response::Heartbeat(code)) => code,
            Ok(other) => mismatched(other),
            Err(code) => code,
        };
        HeartbeatResponse { error_code, ..HeartbeatResponse::default() }
    }

    fn codes(response: &HeartbeatResponse, codes: &mut Codes) {
        codes.add(response.error_code);
    }
}
