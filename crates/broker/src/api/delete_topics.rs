//! DeleteTopics by name or id, at any broker. The answer waits until this broker no longer
//! knows the topic.

use model::{ErrorCode, TopicId};
use node::Refusal;
use node::metadata::{Request, Response, TopicRef};
use tokio::time::Instant;
use wire::api::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::Api;
use crate::topics;

pub(crate) struct DeleteTopics;

impl Api for DeleteTopics {
    type Request = DeleteTopicsRequest;

    async fn handle(
        request: Authorized<DeleteTopicsRequest>,
        call: &mut Call,
    ) -> DeleteTopicsResponse {
        let request = request.into_inner();
        let began = Instant::now();
        let ask_until = began + topics::admin_timeout(request.timeout_ms);
        let wait_until = began + topics::client_timeout(request.timeout_ms);
        let mut responses = Vec::new();
        let mut deleted = Vec::new();
        for state in wanted(request.topics, request.topic_names) {
            let result = match delete(&state, ask_until, call).await {
                Ok((name, id)) => {
                    deleted.push(id);
                    DeletableTopicResult { name: Some(name), topic_id: id, ..Default::default() }
                }
                Err(refusal) => DeletableTopicResult {
                    name: state.name,
                    topic_id: state.topic_id,
                    error_code: refusal.code,
                    error_message: Some(refusal.why),
                },
            };
            responses.push(result);
        }
        topics::wait_gone(&call.shared.node, &deleted, wait_until).await;
        DeleteTopicsResponse { responses, ..Default::default() }
    }

    fn codes(response: &DeleteTopicsResponse, codes: &mut Codes) {
        response.responses.iter().for_each(|topic| codes.add(topic.error_code));
    }
}

/// One list, whichever of the two a version has.
fn wanted(states: Vec<DeleteTopicState>, names: Vec<String>) -> Vec<DeleteTopicState> {
    let named = |name| DeleteTopicState { name: Some(name), topic_id: TopicId::ZERO };
    states.into_iter().chain(names.into_iter().map(named)).collect()
}

fn topic_ref(state: &DeleteTopicState) -> Result<TopicRef, Refusal> {
    match (&state.name, state.topic_id.is_zero()) {
        (Some(name), true) => Ok(TopicRef::Name(name.clone())),
        (None, false) => Ok(TopicRef::Id(state.topic_id)),
        _ => {
            let why = "a topic is named or identified, not both and not neither".to_owned();
            Err(Refusal { code: ErrorCode::InvalidRequest, why })
        }
    }
}

async fn delete(
    state: &DeleteTopicState,
    deadline: Instant,
    call: &Call,
) -> Result<(String, TopicId), Refusal> {
    let request = Request::DeleteTopic(topic_ref(state)?);
    let left = deadline.saturating_duration_since(Instant::now());
    match topics::ask_metadata(&call.shared.node, request, left).await? {
        Response::TopicDeleted { name, id } => Ok((name, id)),
        other => Err(topics::unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_named_or_identified() {
        let state = |name: Option<&str>, id: u8| DeleteTopicState {
            name: name.map(str::to_owned),
            topic_id: TopicId([id; 16]),
        };
        assert_eq!(topic_ref(&state(Some("a"), 0)), Ok(TopicRef::Name("a".into())));
        assert_eq!(topic_ref(&state(None, 7)), Ok(TopicRef::Id(TopicId([7; 16]))));
        for neither_nor_both in [state(None, 0), state(Some("a"), 7)] {
            let refusal = topic_ref(&neither_nor_both).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidRequest);
        }
    }
}
