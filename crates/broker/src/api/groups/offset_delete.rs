//! OffsetDelete: forgets offsets of topics that a group does not read.

use node::groups::{Request, Response};
use wire::api::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::{coordinate, mismatched, soon};
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct OffsetDelete;

impl Api for OffsetDelete {
    type Request = OffsetDeleteRequest;

    async fn handle(
        request: Authorized<OffsetDeleteRequest>,
        call: &mut Call,
    ) -> OffsetDeleteResponse {
        let request = request.into_inner();
        let group = request.group_id.clone();
        let ask = Request::DeleteOffsets(request);
        let error_code = match coordinate(call, &group, ask, soon()).await {
            Ok(Response::DeleteOffsets(response)) => return response,
            Ok(other) => mismatched(other),
            Err(code) => code,
        };
        OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() }
    }

    fn codes(response: &OffsetDeleteResponse, codes: &mut Codes) {
        codes.add(response.error_code);
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.for_each(|partition| codes.add(partition.error_code));
    }
}
