//! DeleteGroups (key 42, KIP-229).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct DeleteGroupsRequest {
        groups_names: Vec<String> [0..],
    }

    pub struct DeleteGroupsResponse {
        throttle_time_ms: i32 [0..],
        results: Vec<DeletableGroupResult> [0..],
    }

    pub struct DeletableGroupResult {
        group_id: String [0..],
        error_code: ErrorCode [0..],
    }
}

wire_message!(DeleteGroupsRequest: DeleteGroups, versions 0..=2, flexible 2.., answered by DeleteGroupsResponse);
wire_message!(DeleteGroupsResponse: DeleteGroups, versions 0..=2, flexible 2..);
