//! DescribeConfigs (key 32). 1 has synonyms (KIP-226), 3 types and documentation (KIP-569).

use model::ErrorCode;

use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource> [1..],
        include_synonyms: bool [1..],
        include_documentation: bool [3..],
    }

    pub struct DescribeConfigsResource {
        /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8 [1..],
        resource_name: String [1..],
        /// Null asks for all.
        configuration_keys: Option<Vec<String>> [1..] null [1..] = Some(Vec::new()),
    }

    pub struct DescribeConfigsResponse {
        throttle_time_ms: i32 [1..],
        results: Vec<DescribeConfigsResult> [1..],
    }

    pub struct DescribeConfigsResult {
        error_code: ErrorCode [1..],
        error_message: Option<String> [1..] null [1..] = Some(String::new()),
        resource_type: i8 [1..],
        resource_name: String [1..],
        configs: Vec<DescribeConfigsResourceResult> [1..],
    }

    pub struct DescribeConfigsResourceResult {
        name: String [1..],
        value: Option<String> [1..] null [1..] = Some(String::new()),
        read_only: bool [1..],
        /// 1 topic, 2 dynamic broker, 3 dynamic default broker, 4 static broker, 5 default,
        /// 6 dynamic broker logger; -1 unknown.
        config_source: i8 [1..] = -1,
        is_sensitive: bool [1..],
        synonyms: Vec<DescribeConfigsSynonym> [1..],
        /// 0 unknown, 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class,
        /// 9 password.
        config_type: i8 [3..],
        documentation: Option<String> [3..] null [3..] = Some(String::new()),
    }

    pub struct DescribeConfigsSynonym {
        name: String [1..],
        value: Option<String> [1..] null [1..] = Some(String::new()),
        source: i8 [1..],
    }
}

wire_message!(DescribeConfigsRequest: DescribeConfigs, versions 1..=4, flexible 4.., answered by DescribeConfigsResponse);
wire_message!(DescribeConfigsResponse: DescribeConfigs, versions 1..=4, flexible 4..);
