//! JoinGroup (key 11), the classic protocol. 1 has the rebalance timeout (KIP-62), 4 asks new
//! members to come again with their id (KIP-394), 5 static members (KIP-345), 7 the protocol type
//! in the answer (KIP-559), 8 a reason (KIP-800), 9 lets the leader skip the assignment (KIP-814).

use bytes::Bytes;
use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct JoinGroupRequest {
        group_id: String [0..],
        session_timeout_ms: i32 [0..],
        /// -1: the session timeout.
        rebalance_timeout_ms: i32 [1..] = -1,
        /// Empty: the coordinator gives one.
        member_id: String [0..],
        group_instance_id: Option<String> [5..] null [5..] = None,
        protocol_type: String [0..],
        /// Most wanted first.
        protocols: Vec<JoinGroupRequestProtocol> [0..],
        reason: Option<String> [8..] null [8..] = None,
    }

    pub struct JoinGroupRequestProtocol {
        name: String [0..],
        metadata: Bytes [0..],
    }

    pub struct JoinGroupResponse {
        throttle_time_ms: i32 [2..],
        error_code: ErrorCode [0..],
        generation_id: i32 [0..] = -1,
        protocol_type: Option<String> [7..] null [7..] = None,
        protocol_name: Option<String> [0..] null [7..] = Some(String::new()),
        leader: String [0..],
        skip_assignment: bool [9..] = false,
        member_id: String [0..],
        members: Vec<JoinGroupResponseMember> [0..],
    }

    pub struct JoinGroupResponseMember {
        member_id: String [0..],
        group_instance_id: Option<String> [5..] null [5..] = None,
        metadata: Bytes [0..],
    }
}

wire_message!(JoinGroupRequest: JoinGroup, versions 0..=9, flexible 6.., answered by JoinGroupResponse);
wire_message!(JoinGroupResponse: JoinGroup, versions 0..=9, flexible 6..);
