//! ListConfigResources (key 74). 0 lists client metrics only (KIP-714), 1 any type (KIP-1142).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct ListConfigResourcesRequest {
        /// As in DescribeConfigs; empty asks for all of them.
        resource_types: Vec<i8> [1..],
    }

    pub struct ListConfigResourcesResponse {
        throttle_time_ms: i32 [0..],
        error_code: ErrorCode [0..],
        config_resources: Vec<ConfigResource> [0..],
    }

    pub struct ConfigResource {
        resource_name: String [0..],
        resource_type: i8 [1..] = 16,
    }
}

wire_message!(ListConfigResourcesRequest: ListConfigResources, versions 0..=1, flexible 0.., answered by ListConfigResourcesResponse);
wire_message!(ListConfigResourcesResponse: ListConfigResources, versions 0..=1, flexible 0..);
