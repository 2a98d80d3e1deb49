//! A collector of traces: the receiving end of OTLP over gRPC, as the specification has it. It
//! decodes what brokers send and prints it, an object a line; the first line is where it listens.
//! It refuses what is no span, and then the sender counts it as lost.
//!
//! Invariant: it shares no code with the broker but the protocol's generated messages.

use std::io::Write;
use std::process::ExitCode;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Kind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Map, Value, json};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({ "endpoint": format!("http://{}", listener.local_addr()?) }));
    let incoming = TcpListenerStream::new(listener);
    let service = TraceServiceServer::new(Service);
    Ok(Server::builder().serve_with_incoming(service, incoming).await?)
}

struct Service;

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut lines = String::new();
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.map(|resource| resource.attributes);
            let resource = attributes(resource.unwrap_or_default());
            if resource.get("service.name") != Some(&json!("glasslog")) {
                return Err(Status::invalid_argument("a resource without its service's name"));
            }
            let broker = resource.get("service.instance.id").cloned().unwrap_or_default();
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                lines.push_str(&decode(&broker, span)?.to_string());
                lines.push('\n');
            }
        }
        let written = std::io::stdout().lock().write_all(lines.as_bytes());
        written.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn decode(broker: &Value, span: Span) -> Result<Value, Status> {
    let sound = span.trace_id.len() == 16
        && span.span_id.len() == 8
        && [0, 8].contains(&span.parent_span_id.len())
        && span.trace_id != [0; 16]
        && span.span_id != [0; 8];
    if !sound || span.end_time_unix_nano < span.start_time_unix_nano {
        return Err(Status::invalid_argument(format!("not a span: {span:?}")));
    }
    let links = span
        .links
        .iter()
        .map(|link| json!({ "trace": hex(&link.trace_id), "span": hex(&link.span_id) }));
    Ok(json!({
        "broker": broker,
        "trace": hex(&span.trace_id),
        "id": hex(&span.span_id),
        "parent": hex(&span.parent_span_id),
        "name": span.name,
        "kind": span.kind().as_str_name(),
        "start_ns": span.start_time_unix_nano,
        "ns": span.end_time_unix_nano - span.start_time_unix_nano,
        "links": links.collect::<Vec<_>>(),
        "status": span.status.map_or(0, |status| status.code),
        "attributes": attributes(span.attributes),
    }))
}

fn attributes(pairs: Vec<KeyValue>) -> Map<String, Value> {
    pairs.into_iter().map(|pair| (pair.key, value(pair.value))).collect()
}

fn value(value: Option<AnyValue>) -> Value {
    match value.and_then(|value| value.value) {
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::IntValue(number)) => json!(number),
        Some(Kind::BoolValue(flag)) => json!(flag),
        Some(Kind::DoubleValue(number)) => json!(number),
        Some(Kind::ArrayValue(array)) => {
            array.values.into_iter().map(|item| self::value(Some(item))).collect()
        }
        _ => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
