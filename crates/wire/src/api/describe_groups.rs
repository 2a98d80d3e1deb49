//! DescribeGroups (key 15). 3 has authorized operations (KIP-430), 4 static members (KIP-345), 6
//! error messages and GROUP_ID_NOT_FOUND (KIP-1043).

use bytes::Bytes;
use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct DescribeGroupsRequest {
        groups: Vec<String> [0..],
        include_authorized_operations: bool [3..] = false,
    }

    pub struct DescribeGroupsResponse {
        throttle_time_ms: i32 [1..],
        groups: Vec<DescribedGroup> [0..],
    }

    pub struct DescribedGroup {
        error_code: ErrorCode [0..],
        error_message: Option<String> [6..] null [6..] = None,
        group_id: String [0..],
        group_state: String [0..],
        protocol_type: String [0..],
        /// The chosen protocol.
        protocol_data: String [0..],
        members: Vec<DescribedGroupMember> [0..],
        /// A bit field; the smallest number: not asked for.
        authorized_operations: i32 [3..] = i32::MIN,
    }

    pub struct DescribedGroupMember {
        member_id: String [0..],
        group_instance_id: Option<String> [4..] null [4..] = None,
        client_id: String [0..],
        client_host: String [0..],
        member_metadata: Bytes [0..],
        member_assignment: Bytes [0..],
    }
}

wire_message!(DescribeGroupsRequest: DescribeGroups, versions 0..=6, flexible 5.., answered by DescribeGroupsResponse);
wire_message!(DescribeGroupsResponse: DescribeGroups, versions 0..=6, flexible 5..);
