//! DeleteGroups: groups without members, and their offsets.

use node::groups::{Request, Response};
use wire::api::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};

use super::{coordinate, mismatched, soon};
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct DeleteGroups;

impl Api for DeleteGroups {
    type Request = DeleteGroupsRequest;

    async fn handle(
        request: Authorized<DeleteGroupsRequest>,
        call: &mut Call,
    ) -> DeleteGroupsResponse {
        let mut results = Vec::new();
        for group_id in request.into_inner().groups_names {
            let ask = Request::Delete { group: group_id.clone() };
            let error_code = match coordinate(call, &group_id, ask, soon()).await {
                Ok(Response::Delete(code)) => code,
                Ok(other) => mismatched(other),
                Err(code) => code,
            };
            results.push(DeletableGroupResult { group_id, error_code });
        }
        DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }
    }

    fn codes(response: &DeleteGroupsResponse, codes: &mut Codes) {
        response.results.iter().for_each(|result| codes.add(result.error_code));
    }
}
