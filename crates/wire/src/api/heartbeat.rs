//! Heartbeat (key 12), the classic protocol. 3 has static members (KIP-345).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct HeartbeatRequest {
        group_id: String [0..],
        generation_id: i32 [0..],
        member_id: String [0..],
        group_instance_id: Option<String> [3..] null [3..] = None,
    }

    pub struct HeartbeatResponse {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..],
    }
}

wire_message!(HeartbeatRequest: Heartbeat, versions 0..=4, flexible 4.., answered by HeartbeatResponse);
wire_message!(HeartbeatResponse: Heartbeat, versions 0..=4, flexible 4..);
