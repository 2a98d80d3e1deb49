//! AlterConfigs (key 33): replaces every override of a resource. Clients prefer
//! IncrementalAlterConfigs, which cannot undo what somebody else set meanwhile (KIP-339).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct AlterConfigsRequest {
        resources: Vec<AlterConfigsResource> [0..],
        validate_only: bool [0..],
    }

    pub struct AlterConfigsResource {
        resource_type: i8 [0..],
        resource_name: String [0..],
        configs: Vec<AlterableConfig> [0..],
    }

    pub struct AlterableConfig {
        name: String [0..],
        value: Option<String> [0..] null [0..] = Some(String::new()),
    }

    pub struct AlterConfigsResponse {
        throttle_time_ms: i32 [0..],
        responses: Vec<AlterConfigsResourceResponse> [0..],
    }

    pub struct AlterConfigsResourceResponse {
        error_code: ErrorCode [0..],
        error_message: Option<String> [0..] null [0..] = Some(String::new()),
        resource_type: i8 [0..],
        resource_name: String [0..],
    }
}

wire_message!(AlterConfigsRequest: AlterConfigs, versions 0..=2, flexible 2.., answered by AlterConfigsResponse);
wire_message!(AlterConfigsResponse: AlterConfigs, versions 0..=2, flexible 2..);
