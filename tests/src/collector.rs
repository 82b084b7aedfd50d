//! An OTLP/gRPC collector that keeps what it is sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// One span, as far as tests care.
#[derive(Debug, Clone)]
pub struct SeenSpan {
    /// `service.name` of its resource.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its trace, 16 bytes.
    pub trace: Vec<u8>,
}

/// A running collector.
#[derive(Clone)]
pub struct Collector {
    /// `http://127.0.0.1:port`
    pub endpoint: String,
    spans: Arc<Mutex<Vec<SeenSpan>>>,
}

impl Collector {
    /// Listens on a free loopback port.
    ///
    /// # Panics
    /// It cannot listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("listens");
        let endpoint = format!("http://{}", listener.local_addr().expect("address"));
        let collector = Self { endpoint, spans: Arc::default() };
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
        collector
    }

    /// Every span so far.
    ///
    /// # Panics
    /// A test panicked while it held the list.
    pub fn spans(&self) -> Vec<SeenSpan> {
        self.spans.lock().expect("spans").clone()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.spans.lock().expect("spans");
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let service = match service.and_then(|attribute| attribute.value).and_then(|value| value.value) {
                Some(Value::StringValue(name)) => name,
                _ => String::new(),
            };
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(SeenSpan { service: service.clone(), name: span.name, trace: span.trace_id });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
