//! Spans on their way to a collector, over OTLP and gRPC.
//!
//! Invariants: what waits is bounded; a collector that is slow, gone or never there costs spans,
//! which are counted, and nothing else.

use std::time::Duration;

use model::limits;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;

use crate::labels::{DropKind, LogEvent};
use crate::{log_limited, metrics};

/// Spans of one moment leave together.
const GATHER: Duration = Duration::from_millis(100);
/// How long a collector may take for one batch.
const LIMIT: Duration = Duration::from_secs(5);

/// Connects when there is something to send. Call it inside a runtime. `Err`: why the endpoint
/// is none.
pub(super) fn build(endpoint: &str, broker: i32) -> Result<SpanExporter, String> {
    let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(LIMIT);
    let mut exporter = builder.build().map_err(|error| error.to_string())?;
    let resource = Resource::builder_empty().with_service_name("glasslog").with_attributes([
        KeyValue::new("service.instance.id", broker.to_string()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ]);
    exporter.set_resource(&resource.build());
    Ok(exporter)
}

/// Sends until nobody can hand over spans any more.
pub(super) async fn run(exporter: SpanExporter, mut spans: mpsc::Receiver<SpanData>) {
    let mut batch = Vec::new();
    while spans.recv_many(&mut batch, limits::TRACE_BATCH_SPANS).await > 0 {
        tokio::time::sleep(GATHER).await;
        while batch.len() < limits::TRACE_BATCH_SPANS {
            let Ok(span) = spans.try_recv() else { break };
            batch.push(span);
        }
        send(&exporter, std::mem::take(&mut batch)).await;
    }
}

async fn send(exporter: &SpanExporter, batch: Vec<SpanData>) {
    let count = batch.len() as u64;
    // Its own limit covers one attempt; this one covers whatever it does.
    let failed = match tokio::time::timeout(2 * LIMIT, exporter.export(batch)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    metrics().telemetry_dropped_total.at(DropKind::Span).add(count);
    log_limited!(warn, LogEvent::TracesNotExported, spans = count, failed, "spans were lost");
}
