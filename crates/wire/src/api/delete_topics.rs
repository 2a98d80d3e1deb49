//! DeleteTopics (key 20). 5 has error messages (KIP-599), 6 topic ids (KIP-516).

use model::{ErrorCode, TopicId};

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct DeleteTopicsRequest {
        /// From version 6; before, `topic_names`.
        topics: Vec<DeleteTopicState> [6..],
        topic_names: Vec<String> [..=5],
        timeout_ms: i32 [1..],
    }

    /// Named or identified, never both.
    pub struct DeleteTopicState {
        name: Option<String> [6..] null [6..] = None,
        topic_id: TopicId [6..],
    }

    pub struct DeleteTopicsResponse {
        throttle_time_ms: i32 [1..],
        responses: Vec<DeletableTopicResult> [1..],
    }

    pub struct DeletableTopicResult {
        name: Option<String> [1..] null [6..] = Some(String::new()),
        topic_id: TopicId [6..],
        error_code: ErrorCode [1..],
        error_message: Option<String> [5..] null [5..] = None,
    }
}

wire_message!(DeleteTopicsRequest: DeleteTopics, versions 1..=6, flexible 4.., answered by DeleteTopicsResponse);
wire_message!(DeleteTopicsResponse: DeleteTopics, versions 1..=6, flexible 4..);
