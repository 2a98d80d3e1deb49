//! LeaveGroup (key 13), the classic protocol. 3 has many members at once, static ones too
//! (KIP-345), 5 a reason (KIP-800).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct LeaveGroupRequest {
        group_id: String [0..],
        member_id: String [0..=2],
        members: Vec<MemberIdentity> [3..],
    }

    pub struct MemberIdentity {
        /// May be empty with an instance id.
        member_id: String [3..],
        group_instance_id: Option<String> [3..] null [3..] = None,
        reason: Option<String> [5..] null [5..] = None,
    }

    pub struct LeaveGroupResponse {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..],
        members: Vec<MemberResponse> [3..],
    }

    pub struct MemberResponse {
        member_id: String [3..],
        group_instance_id: Option<String> [3..] null [3..] = Some(String::new()),
        error_code: ErrorCode [3..],
    }
}

wire_message!(LeaveGroupRequest: LeaveGroup, versions 0..=5, flexible 4.., answered by LeaveGroupResponse);
wire_message!(LeaveGroupResponse: LeaveGroup, versions 0..=5, flexible 4..);
