//! The first exchange of a Kafka connection, as bytes: a client asks for the broker's
//! versions, the broker answers. `cargo run -p wire --example hello`

#![allow(clippy::disallowed_macros, reason = "an example prints")]

use bytes::BytesMut;
use model::limits::REQUEST_BYTES_MAX;
use wire::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use wire::frame::take_frame;
use wire::{decode_request, decode_response, encode_request, encode_response, supported_versions};

fn main() -> Result<(), wire::WireError> {
    let asked = ApiVersionsRequest {
        client_software_name: "hello".into(),
        client_software_version: "1".into(),
    };
    let sent = encode_request(3, 1, Some("example"), &asked)?;
    println!("client: {:02x?}", &sent.to_bytes()[..]);

    let mut received = BytesMut::from(&sent.to_bytes()[..]);
    let frame = take_frame(&mut received, REQUEST_BYTES_MAX)?.expect("a whole frame");
    let request = decode_request(frame)?;
    println!("broker: {:?} {:?}", request.header, request.decode::<ApiVersionsRequest>()?);

    let answer = ApiVersionsResponse::advertise(supported_versions());
    let sent = encode_response(request.header.api_version, request.header.correlation_id, &answer)?;
    let mut received = BytesMut::from(&sent.to_bytes()[..]);
    let frame = take_frame(&mut received, REQUEST_BYTES_MAX)?.expect("a whole frame");
    let (_, answer) = decode_response::<ApiVersionsResponse>(frame, 3)?;
    for api in answer.api_keys {
        println!("client: API {} in {}..={}", api.api_key, api.min_version, api.max_version);
    }
    Ok(())
}
