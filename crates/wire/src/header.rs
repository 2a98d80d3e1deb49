//! Request and response headers, and whole requests and responses around them.
//!
//! Request header v1 for the old versions, v2 (tagged fields behind the client id) for the
//! flexible ones; v0 belonged to ControlledShutdown alone. Response header v0, v1 (tagged
//! fields) for the flexible versions, but always v0 for ApiVersions: its answer must be
//! readable by a client that does not know yet what the broker speaks (KIP-511).

use bytes::Bytes;
use model::{ApiKey, ErrorCode};

use crate::api::api_versions::ApiVersionsResponse;
use crate::codec::{Decoder, Encoder, Field, Message, Shape};
use crate::{ApiSupport, Frame, WireError, support};

/// What precedes every request body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: ApiKey,
    pub api_version: i16,
    /// Chosen by the client, returned in the response.
    pub correlation_id: i32,
    pub client_id: Option<String>,
}

/// What may be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The body can be decoded.
    Served,
    /// We know the API, but not this version of it, or advertise the version only for its
    /// looks (Produce 0-2, KAFKA-18659). ApiVersions is answered by
    /// [`encode_unsupported_version`]; for any other API Kafka closes the connection.
    UnsupportedVersion,
}

/// A request whose header is read and whose body is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFrame {
    pub header: RequestHeader,
    pub admission: Admission,
    body: Bytes,
}

impl RequestFrame {
    /// Decodes the body. The header's API has to be `M`'s. Bytes behind the body are let be, as
    /// Kafka lets them: librdkafka 2.16 ends its Metadata v13 with one byte too many.
    pub fn decode<M: Message>(&self) -> Result<M, WireError> {
        assert_eq!(self.header.api_key, M::KEY, "a body is decoded as what its header says");
        let (key, version) = (M::KEY, self.header.api_version);
        if self.admission != Admission::Served {
            return Err(WireError::UnsupportedVersion { key, version });
        }
        M::decode(&mut Decoder::new(self.body.clone()), version)
    }

    /// Decodes the body, whatever its API, and lets it go: for tools that make or judge bytes.
    pub fn check(&self) -> Result<(), WireError> {
        let key = self.header.api_key;
        let api = support(key).ok_or(WireError::UnknownApi(key as i16))?;
        (api.body.check)(self)
    }

    /// Bytes of the body.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }
}

/// Reads the header of a request frame (without its length). An unknown API is an error, an
/// unknown version is not: see [`Admission`].
pub fn decode_request(frame: Bytes) -> Result<RequestFrame, WireError> {
    let mut decoder = Decoder::new(frame);
    let key = decoder.i16()?;
    let api_version = decoder.i16()?;
    let correlation_id = decoder.i32()?;
    let api_key = ApiKey::from_i16(key).ok_or(WireError::UnknownApi(key))?;
    let api = support(api_key).ok_or(WireError::UnknownApi(key))?;
    if !api.serves(api_version) {
        // The layout behind the correlation id is not ours to know.
        let header = RequestHeader { api_key, api_version, correlation_id, client_id: None };
        let admission = Admission::UnsupportedVersion;
        return Ok(RequestFrame { header, admission, body: Bytes::new() });
    }
    let client_id = Option::read(&mut decoder, CLIENT_ID)?;
    if api.is_flexible(api_version) {
        decoder.tagged_fields(|_, _| Ok(false))?;
    }
    Ok(RequestFrame {
        header: RequestHeader { api_key, api_version, correlation_id, client_id },
        admission: Admission::Served,
        body: decoder.into_rest(),
    })
}

/// The client id kept its old encoding in header v2, so that v1 readers find it.
const CLIENT_ID: Shape = Shape { version: 1, flexible: false, nullable: true };

/// A whole request, as a client sends it.
pub fn encode_request<M: Message>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &M,
) -> Result<Frame, WireError> {
    let mut encoder = Encoder::framed();
    encoder.put(&(M::KEY as i16).to_be_bytes());
    encoder.put(&version.to_be_bytes());
    encoder.put(&correlation_id.to_be_bytes());
    client_id.map(str::to_owned).write(&mut encoder, CLIENT_ID)?;
    if M::FLEXIBLE.contains(&version) {
        encoder.put_uvarint(0);
    }
    request.encode(&mut encoder, version)?;
    encoder.into_frame()
}

/// A whole response, as chunks for a vectored write.
pub fn encode_response<M: Message>(
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Frame, WireError> {
    let mut encoder = Encoder::framed();
    encoder.put(&correlation_id.to_be_bytes());
    if response_header_is_flexible::<M>(version) {
        encoder.put_uvarint(0);
    }
    response.encode(&mut encoder, version)?;
    encoder.into_frame()
}

/// A response frame (without its length), as a client reads it: correlation id and body. The
/// version is that of the request it answers.
pub fn decode_response<M: Message>(frame: Bytes, version: i16) -> Result<(i32, M), WireError> {
    let mut decoder = Decoder::new(frame);
    let correlation_id = decoder.i32()?;
    if response_header_is_flexible::<M>(version) {
        decoder.tagged_fields(|_, _| Ok(false))?;
    }
    let response = M::decode(&mut decoder, version)?;
    decoder.finish()?;
    Ok((correlation_id, response))
}

/// The answer to an ApiVersions request of a version we do not know: v0-shaped, with the
/// ranges in `advertised`, from which the client picks its next attempt (KIP-511).
pub fn encode_unsupported_version(
    correlation_id: i32,
    advertised: &[ApiSupport],
) -> Result<Frame, WireError> {
    let mut response = ApiVersionsResponse::advertise(advertised);
    response.error_code = ErrorCode::UnsupportedVersion;
    encode_response(0, correlation_id, &response)
}

fn response_header_is_flexible<M: Message>(version: i16) -> bool {
    M::KEY != ApiKey::ApiVersions && M::FLEXIBLE.contains(&version)
}
