//! InitProducerId (key 22): a producer id for idempotence or transactions (KIP-98). 3 lets a
//! producer keep its id and raise its epoch (KIP-360), 5 knows TRANSACTION_ABORTABLE (KIP-890).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct InitProducerIdRequest {
        transactional_id: Option<String> [0..] null [0..] = Some(String::new()),
        /// Matters only with a transactional id.
        transaction_timeout_ms: i32 [0..],
        /// -1: none yet.
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
    }

    pub struct InitProducerIdResponse {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        producer_id: i64 [0..] = -1,
        producer_epoch: i16 [0..],
    }
}

wire_message!(InitProducerIdRequest: InitProducerId, versions 0..=5, flexible 2.., answered by InitProducerIdResponse);
wire_message!(InitProducerIdResponse: InitProducerId, versions 0..=5, flexible 2..);
