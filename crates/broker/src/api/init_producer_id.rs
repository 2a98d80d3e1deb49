//! InitProducerId for idempotent producers (KIP-98): an id nobody had before, epoch 0.

use std::time::Duration;

use model::{ErrorCode, limits};
use wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;

pub(crate) struct InitProducerId;

impl Api for InitProducerId {
    type Request = InitProducerIdRequest;

    async fn handle(
        request: Authorized<InitProducerIdRequest>,
        call: &mut Call,
    ) -> InitProducerIdResponse {
        if let Err(error_code) = check(request.transactional_id.as_deref()) {
            return refused(error_code);
        }
        let within = Duration::from_millis(limits::LEADER_ACK_MS_MAX);
        match call.shared.node.producer_id(within).await {
            Ok(id) => InitProducerIdResponse { producer_id: id.0, ..Default::default() },
            Err(refusal) => refused(refusal.code),
        }
    }

    fn codes(response: &InitProducerIdResponse, codes: &mut Codes) {
        codes.add(response.error_code);
    }
}

/// There is no transaction coordinator. A retriable code would keep the client asking.
fn check(transactional_id: Option<&str>) -> Result<(), ErrorCode> {
    match transactional_id {
        None => Ok(()),
        Some("") => Err(ErrorCode::InvalidRequest),
        Some(_) => Err(ErrorCode::UnsupportedVersion),
    }
}

fn refused(error_code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code, producer_id: -1, producer_epoch: -1, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_refused_for_good() {
        assert_eq!(check(None), Ok(()));
        assert_eq!(check(Some("")), Err(ErrorCode::InvalidRequest));
        assert_eq!(check(Some("tx")), Err(ErrorCode::UnsupportedVersion));
    }
}
