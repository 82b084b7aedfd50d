//! Sections that every service's configuration shares.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use serde::Deserialize;

use super::ConfigPath;

/// `[telemetry]`: logs and traces.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// `text` for people, `json` for collectors. Default `text`.
    pub log_format: LogFormat,
    /// Which log lines are written, in `tracing` filter syntax: `info`, `warn,httt_log=debug`. Default `info`.
    pub log_filter: String,
    /// Where traces go: an OTLP/gRPC collector, `http://127.0.0.1:4317`. Default none: no traces.
    pub otlp_endpoint: Option<String>,
    /// `service.name` in traces. Default the service's own name.
    pub service_name: Option<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log_format: LogFormat::Text, log_filter: "info".to_owned(), otlp_endpoint: None, service_name: None }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[….tls]`: PEM files. A server needs `certificate` and `key`; `ca` is whose client certificates it believes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, followed by its intermediates.
    pub certificate: ConfigPath,
    /// The certificate's private key, PKCS#8, SEC1 or PKCS#1, unencrypted, readable by the service alone.
    pub key: ConfigPath,
    /// Authorities that the other side's certificate must come from. Default none.
    #[serde(default)]
    pub ca: Option<ConfigPath>,
}

/// `[http]`: one listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port, `0.0.0.0:8443`. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate and key. Default none: plain HTTP, for a loopback address or behind a proxy that speaks TLS.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Connections open at once. A device that speaks HTTP/1.1 takes two: one waits for commands while it reports on
    /// the other. The process needs as many file descriptors. Default [`MAX_CONNECTIONS`](crate::http::MAX_CONNECTIONS).
    #[serde(default = "default_max_connections")]
    pub max_connections: usize,
}

fn default_max_connections() -> usize {
    crate::http::MAX_CONNECTIONS
}

/// `[accounts]`: who may log in, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountsConfig {
    /// The accounts file, `[[account]]` tables.
    pub file: ConfigPath,
    /// A session ends after so many minutes without a request. Default 30.
    #[serde(default = "default_idle_minutes")]
    pub idle_minutes: NonZeroU32,
    /// A session ends after so many minutes in any case. Default 720, which is twelve hours.
    #[serde(default = "default_absolute_minutes")]
    pub absolute_minutes: NonZeroU32,
}

const DEFAULT_IDLE_MINUTES: NonZeroU32 = NonZeroU32::new(30).unwrap();
const DEFAULT_ABSOLUTE_MINUTES: NonZeroU32 = NonZeroU32::new(720).unwrap();

fn default_idle_minutes() -> NonZeroU32 {
    DEFAULT_IDLE_MINUTES
}

fn default_absolute_minutes() -> NonZeroU32 {
    DEFAULT_ABSOLUTE_MINUTES
}
