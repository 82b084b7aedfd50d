//! Logs on stderr and traces over OTLP.
//!
//! A trace crosses processes and time as a W3C `traceparent`: [`current_traceparent`] writes it into an event or a
//! request, [`set_parent`] continues it where the event is read, hours later and elsewhere if need be. Without a
//! collector (no `otlp_endpoint`) there are no traces, and `traceparent` stays empty.

mod propagation;
mod request;

use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};
use uuid::Uuid;

pub use propagation::{TRACEPARENT, current_traceparent, set_parent};
pub use request::{REQUEST_ID, RequestId, trace_requests};

use crate::config::{LogFormat, TelemetryConfig};

/// How long the last traces may take to leave when a service stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Crates that carry the traces themselves: their spans would beget spans.
const CARRIERS: [&str; 6] = ["h2", "hyper", "hyper_util", "opentelemetry", "tonic", "tower"];

/// Telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("telemetry.log_filter {filter:?} is no filter: {problem}; write for example \"info,httt_log=debug\"")]
    Filter {
        /// As configured.
        filter: String,
        /// What is wrong.
        problem: String,
    },
    /// The endpoint is no plain HTTP address.
    #[error("telemetry.otlp_endpoint {0:?} must be http://HOST:PORT; run a collector beside the service for TLS")]
    Endpoint(String),
    /// The exporter does not start.
    #[error("cannot export traces: {0}")]
    Exporter(String),
    /// A subscriber is already installed in this process.
    #[error("telemetry is already running: {0}")]
    Running(#[from] TryInitError),
}

/// Keeps telemetry running. Dropping it sends what is still held.
#[must_use = "dropping this ends the traces"]
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts telemetry for the whole process. Call inside a tokio runtime when traces are exported.
pub fn init(service: &str, config: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(&config.log_filter)
        .map_err(|error| TelemetryError::Filter { filter: config.log_filter.clone(), problem: error.to_string() })?;
    let provider = match &config.otlp_endpoint {
        Some(endpoint) => Some(otlp_provider(config.service_name.as_deref().unwrap_or(service), endpoint)?),
        None => None,
    };
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.log_format {
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
        }
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
    };
    let spans = provider.as_ref().map(span_layer);
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init()?;
    Ok(Telemetry { provider })
}

/// Turns spans at `info` and above into traces, whatever the log filter says.
fn span_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    tracing_opentelemetry::layer().with_tracer(provider.tracer("httt")).with_filter(filter_fn(|metadata| {
        let origin = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= Level::INFO && !CARRIERS.contains(&origin)
    }))
}

fn otlp_provider(service: &str, endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let address = endpoint.parse::<axum::http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("http"));
    if address.and_then(|uri| uri.authority().cloned()).is_none() {
        return Err(TelemetryError::Endpoint(endpoint.to_owned()));
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| TelemetryError::Exporter(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name(service.to_owned())
        .with_attribute(KeyValue::new("service.instance.id", Uuid::now_v7().to_string()))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

impl Telemetry {
    /// Sends what is still held and stops. Blocking: call outside the runtime, while it still runs.
    pub fn shutdown(mut self) {
        self.flush();
    }

    fn flush(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_TIMEOUT)
        {
            tracing::warn!(%error, "the last traces were not delivered");
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A subscriber for one thread whose spans can be looked at.

    use std::sync::{Arc, Mutex, PoisonError};

    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
    use tracing::subscriber::DefaultGuard;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Debug, Clone, Default)]
    pub(crate) struct Spans(Arc<Mutex<Vec<SpanData>>>);

    impl Spans {
        pub(crate) fn finished(&self) -> Vec<SpanData> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    impl SpanExporter for Spans {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(batch);
            Ok(())
        }
    }

    /// Collects the spans of this thread until the guard drops.
    pub(crate) fn collect() -> (Spans, DefaultGuard) {
        let spans = Spans::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        let subscriber = tracing_subscriber::registry().with(super::span_layer(&provider));
        (spans, tracing::subscriber::set_default(subscriber))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_said_at_the_start() {
        let config = TelemetryConfig { log_filter: "httt=loud".to_owned(), ..TelemetryConfig::default() };
        let refusal = init("test", &config).expect_err("bad filter").to_string();
        assert!(refusal.contains("httt=loud"), "{refusal}");
        for endpoint in ["https://collector:4317", "collector", "/v1/traces"] {
            let config = TelemetryConfig { otlp_endpoint: Some(endpoint.to_owned()), ..TelemetryConfig::default() };
            assert!(matches!(init("test", &config), Err(TelemetryError::Endpoint(_))), "{endpoint}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_absent_collector_does_not_hold_the_service() {
        // Bound and dropped: nobody listens there.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
        let endpoint = format!("http://{}", listener.local_addr().expect("address"));
        drop(listener);
        let provider = otlp_provider("test", &endpoint).expect("starts without its collector");
        let telemetry = Telemetry { provider: Some(provider) };
        tokio::task::spawn_blocking(|| telemetry.shutdown()).await.expect("returns");
    }
}
