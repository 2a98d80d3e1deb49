//! IncrementalAlterConfigs (key 44, KIP-339): sets, deletes, appends to and subtracts from single
//! configs of a resource.

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct IncrementalAlterConfigsRequest {
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
        /// 0 set, 1 delete, 2 append, 3 subtract.
        config_operation: i8 [0..],
        value: Option<String> [0..] null [0..] = Some(String::new()),
    }

    pub struct IncrementalAlterConfigsResponse {
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

wire_message!(IncrementalAlterConfigsRequest: IncrementalAlterConfigs, versions 0..=1, flexible 1.., answered by IncrementalAlterConfigsResponse);
wire_message!(IncrementalAlterConfigsResponse: IncrementalAlterConfigs, versions 0..=1, flexible 1..);
