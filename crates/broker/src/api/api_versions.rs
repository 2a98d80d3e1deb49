//! ApiVersions: what this broker speaks. A version we do not know never gets here, see
//! `dispatch`.

use model::ErrorCode;
use wire::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};

use crate::authorize::Authorized;
use crate::call::{Call, Codes};
use crate::dispatch::{Api, advertised};

pub(crate) struct ApiVersions;

impl Api for ApiVersions {
    type Request = ApiVersionsRequest;

    async fn handle(
        request: Authorized<ApiVersionsRequest>,
        call: &mut Call,
    ) -> ApiVersionsResponse {
        answer(&request, call.version)
    }

    fn codes(response: &ApiVersionsResponse, codes: &mut Codes) {
        codes.add(response.error_code);
    }
}

fn answer(request: &ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    let named = [&request.client_software_name, &request.client_software_version];
    if version >= 3 && !named.iter().all(|name| is_software_name(name)) {
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest,
            ..ApiVersionsResponse::default()
        };
    }
    ApiVersionsResponse::advertise(advertised())
}

/// KIP-511: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    edge(name.chars().next()) && edge(name.chars().last()) && name.chars().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Admission, decode_request, encode_request, encode_unsupported_version};

    fn asked(name: &str) -> ApiVersionsRequest {
        ApiVersionsRequest {
            client_software_name: name.into(),
            client_software_version: "4.3.1".into(),
        }
    }

    #[test]
    fn software_names_are_checked_from_version_3_on() {
        assert_eq!(answer(&asked("apache-kafka-java"), 4).error_code, ErrorCode::None);
        for name in ["", "-java", "java.", "ja va"] {
            assert_eq!(answer(&asked(name), 3).error_code, ErrorCode::InvalidRequest, "{name:?}");
            assert_eq!(answer(&asked(name), 2).error_code, ErrorCode::None, "{name:?}");
        }
    }

    #[test]
    fn an_unknown_version_gets_a_v0_answer_with_the_ranges() {
        let mut frame =
            encode_request(4, 9, Some("new"), &asked("new")).unwrap().to_bytes()[4..].to_vec();
        frame[2..4].copy_from_slice(&77i16.to_be_bytes());
        let request = decode_request(frame.into()).unwrap();
        assert_eq!(request.admission, Admission::UnsupportedVersion);
        let sent = encode_unsupported_version(request.header.correlation_id, advertised()).unwrap();
        let (id, answer) =
            wire::decode_response::<ApiVersionsResponse>(sent.to_bytes().slice(4..), 0).unwrap();
        assert_eq!((id, answer.error_code), (9, ErrorCode::UnsupportedVersion));
        assert_eq!(answer.api_keys.len(), advertised().len());
    }
}
