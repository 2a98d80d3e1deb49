//! FindCoordinator (key 10): which broker coordinates a group or transaction. 1 has the kind of
//! key (KIP-98), 4 many keys at once (KIP-699), 5 TRANSACTION_ABORTABLE (KIP-890), 6 share groups
//! (KIP-932).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct FindCoordinatorRequest {
        key: String [0..=3],
        /// 0 a group, 1 a transaction, 2 a share group.
        key_type: i8 [1..],
        coordinator_keys: Vec<String> [4..],
    }

    pub struct FindCoordinatorResponse {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..=3],
        error_message: Option<String> [1..=3] null [1..=3] = Some(String::new()),
        node_id: i32 [0..=3],
        host: String [0..=3],
        port: i32 [0..=3],
        coordinators: Vec<Coordinator> [4..],
    }

    pub struct Coordinator {
        key: String [4..],
        node_id: i32 [4..],
        host: String [4..],
        port: i32 [4..],
        error_code: ErrorCode [4..],
        error_message: Option<String> [4..] null [4..] = Some(String::new()),
    }
}

wire_message!(FindCoordinatorRequest: FindCoordinator, versions 0..=6, flexible 3.., answered by FindCoordinatorResponse);
wire_message!(FindCoordinatorResponse: FindCoordinator, versions 0..=6, flexible 3..);
