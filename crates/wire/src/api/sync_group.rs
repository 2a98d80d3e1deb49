//! SyncGroup (key 14), the classic protocol: the leader hands the assignment in, everybody takes
//! a share. 3 has static members (KIP-345), 5 the protocol to compare (KIP-559).

use bytes::Bytes;
use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct SyncGroupRequest {
        group_id: String [0..],
        generation_id: i32 [0..],
        member_id: String [0..],
        group_instance_id: Option<String> [3..] null [3..] = None,
        protocol_type: Option<String> [5..] null [5..] = None,
        protocol_name: Option<String> [5..] null [5..] = None,
        assignments: Vec<SyncGroupRequestAssignment> [0..],
    }

    pub struct SyncGroupRequestAssignment {
        member_id: String [0..],
        assignment: Bytes [0..],
    }

    pub struct SyncGroupResponse {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..],
        protocol_type: Option<String> [5..] null [5..] = None,
        protocol_name: Option<String> [5..] null [5..] = None,
        assignment: Bytes [0..],
    }
}

wire_message!(SyncGroupRequest: SyncGroup, versions 0..=5, flexible 4.., answered by SyncGroupResponse);
wire_message!(SyncGroupResponse: SyncGroup, versions 0..=5, flexible 4..);
