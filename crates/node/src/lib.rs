//! What every node needs around its log.
//!
//! | Module | Subject |
//! |---|---|
//! | [`config`] | one TOML file, read strictly; secrets by file or environment; paths relative to the file |
//! | [`telemetry`] | logs on stderr, traces over OTLP, `traceparent` in and out |
//! | [`tls`] | certificates and keys from PEM, rustls configurations, who a certificate speaks for |
//! | [`http`] | the server: accept loop, limits, drain, health, error answers |
//! | [`client`] | the client: requests with a time limit, a size limit and errors that say where |
//! | [`accounts`] | accounts from a file, passwords, one-time codes, lock-out, sessions |
//! | [`media`] | files by their SHA-256, moved in resumable ranges, kept in a folder or a bucket within a limit |
//! | [`shutdown`] | one signal for all parts, and waiting until they have ended |
//! | [`service`] | `main` without its boilerplate |
//! | [`program`] | the command line of a service |
//! | [`assembly`] | a node: log, directory and media opened together |
//! | [`metrics`] | figures for monitors |
//! | [`models`] | read models: kept live, compared with their rebuild |
//! | [`traffic`] | the read models every node can keep |
//! | [`carrier`] | those of a node that only carries |
//! | [`deliveries`] | how far members have read |
//! | [`upstream`] | the way up: peer, copier, media |
//! | [`desk`] | people's commands: who may, what is appended, how a refusal reads |
//! | [`api`] | what every node answers over HTTP |
//! | [`byhand`] | feeds in files, taken and made over HTTP |
//! | [`tlog`] | the log as others check it: tiles, checkpoints, witnessing |
//! | [`clock`] | the time as a parameter |
//!
//! Time comes in through [`clock::Clock`] wherever a rule depends on it. Timeouts of sockets use tokio's clock.

pub mod accounts;
pub mod api;
pub mod assembly;
pub mod byhand;
pub mod carrier;
pub mod client;
pub mod clock;
pub mod config;
pub mod deliveries;
pub mod desk;
pub mod http;
pub mod media;
pub mod metrics;
pub mod models;
pub mod program;
pub mod rotation;
pub mod service;
pub mod shutdown;
pub mod telemetry;
pub mod tlog;
pub mod tls;
pub mod traffic;
pub mod upstream;
pub mod wire;

/// The copying protocol, its service and drivers.
pub use httt_exchange as exchange;
