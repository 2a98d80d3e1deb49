//! ApiVersions (key 18), the first request of a connection. 3 names the client's software
//! (KIP-511) and reports features (KIP-584), 4 lets a feature start at 0 (KIP-1022).

use model::ErrorCode;

use crate::ApiSupport;
use crate::codec::{wire_message, wire_struct};

wire_struct! {
    pub struct ApiVersionsRequest {
        client_software_name: String [3..],
        client_software_version: String [3..],
    }

    pub struct ApiVersionsResponse {
        error_code: ErrorCode [0..],
        api_keys: Vec<ApiVersion> [0..],
        throttle_time_ms: i32 [1..],
        /// In version 3 only those with `min_version` > 0.
        supported_features: Vec<SupportedFeatureKey> [3..] tag 0,
        /// -1: unknown.
        finalized_features_epoch: i64 [3..] tag 1 = -1,
        finalized_features: Vec<FinalizedFeatureKey> [3..] tag 2,
        zk_migration_ready: bool [3..] tag 3,
    }

    pub struct ApiVersion {
        api_key: i16 [0..],
        min_version: i16 [0..],
        max_version: i16 [0..],
    }

    pub struct SupportedFeatureKey {
        name: String [3..],
        min_version: i16 [3..],
        max_version: i16 [3..],
    }

    pub struct FinalizedFeatureKey {
        name: String [3..],
        max_version_level: i16 [3..],
        min_version_level: i16 [3..],
    }
}

wire_message!(ApiVersionsRequest: ApiVersions, versions 0..=4, flexible 3.., answered by ApiVersionsResponse);
wire_message!(ApiVersionsResponse: ApiVersions, versions 0..=4, flexible 3..);

impl ApiVersionsResponse {
    /// The answer that offers `apis`, without features.
    pub fn advertise(apis: &[ApiSupport]) -> ApiVersionsResponse {
        let api_keys = apis
            .iter()
            .map(|api| ApiVersion {
                api_key: api.key as i16,
                min_version: api.min_advertised,
                max_version: api.max,
            })
            .collect();
        ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() }
    }
}
