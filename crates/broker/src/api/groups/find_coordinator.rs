//! FindCoordinator: who leads the partition of `__consumer_offsets` that a group belongs to. Any
//! broker answers; the first question of a cluster creates the topic.

use model::ErrorCode;
use node::groups::OFFSETS_TOPIC;
use wire::api::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};

use super::{coordinator_of, ensure_offsets_topic};
use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) struct FindCoordinator;

impl Api for FindCoordinator {
    type Request = FindCoordinatorRequest;

    async fn handle(
        request: Authorized<FindCoordinatorRequest>,
        call: &mut Call,
    ) -> FindCoordinatorResponse {
        let request = request.into_inner();
        let many = call.version >= 4;
        let keys = if many { request.coordinator_keys } else { vec![request.key] };
        let ready = match request.key_type {
            GROUP => ensure_offsets_topic(call).await,
            // There is no transaction coordinator. A retriable code would keep the client asking.
            TRANSACTION => Err(ErrorCode::UnsupportedVersion),
            _ => Err(ErrorCode::InvalidRequest),
        };
        let mut found: Vec<Coordinator> = keys
            .into_iter()
            .map(|key| match ready.and_then(|()| find(call, &key)) {
                Ok(there) => Coordinator { key, error_message: None, ..there },
                Err(code) => nobody(key, code),
            })
            .collect();
        if many {
            return FindCoordinatorResponse { coordinators: found, ..Default::default() };
        }
        let one = found.remove(0);
        FindCoordinatorResponse {
            error_code: one.error_code,
            error_message: one.error_message,
            node_id: one.node_id,
            host: one.host,
            port: one.port,
            ..Default::default()
        }
    }

    fn codes(response: &FindCoordinatorResponse, codes: &mut Codes) {
        codes.add(response.error_code);
        response.coordinators.iter().for_each(|one| codes.add(one.error_code));
    }
}

fn find(call: &Call, key: &str) -> Result<Coordinator, ErrorCode> {
    if key.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let node = &call.shared.node;
    let image = node.image();
    let group = coordinator_of(&image, key).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let leader = node.leader(group).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let listener = topics::endpoint(&image, leader.broker, &call.listener)
        .ok_or(ErrorCode::CoordinatorNotAvailable)?;
    Ok(Coordinator {
        node_id: leader.broker.0,
        host: listener.host.clone(),
        port: i32::from(listener.port),
        ..Coordinator::default()
    })
}

fn nobody(key: String, error_code: ErrorCode) -> Coordinator {
    let why = match error_code {
        ErrorCode::InvalidGroupId => "a group needs a name".to_owned(),
        ErrorCode::CoordinatorNotAvailable => {
            format!("the group's partition of {OFFSETS_TOPIC} has no leader yet")
        }
        ErrorCode::UnsupportedVersion => "there are no transactions here".to_owned(),
        _ => "groups (0) have coordinators here".to_owned(),
    };
    Coordinator {
        key,
        error_code,
        error_message: Some(why),
        node_id: -1,
        port: -1,
        ..Coordinator::default()
    }
}
