//! ListGroups (key 16): the groups one broker coordinates. 4 has states (KIP-518), 5 types
//! (KIP-848).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct ListGroupsRequest {
        /// Empty: all.
        states_filter: Vec<String> [4..],
        types_filter: Vec<String> [5..],
    }

    pub struct ListGroupsResponse {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..],
        groups: Vec<ListedGroup> [0..],
    }

    pub struct ListedGroup {
        group_id: String [0..],
        protocol_type: String [0..],
        group_state: String [4..],
        group_type: String [5..],
    }
}

wire_message!(ListGroupsRequest: ListGroups, versions 0..=5, flexible 3.., answered by ListGroupsResponse);
wire_message!(ListGroupsResponse: ListGroups, versions 0..=5, flexible 3..);
