//! The REST driver: what a province's integration platform speaks southward.
//!
//! | call | request | answer |
//! |---|---|---|
//! | `POST /oauth2/token` | form `grant_type=client_credentials`, HTTP Basic or `client_id`, `client_secret` | `{access_token, token_type, expires_in}` |
//! | `GET /exchange/v1/heads?log_id=HEX&after=N&wait_ms=N` | | `HeadsResponse` |
//! | `GET /exchange/v1/feeds/{origin}/{audience}/{lane}?after=N&max_bytes=N&wait_ms=N` | | `ReadResponse` |
//! | `POST /exchange/v1/feeds/{origin}/{audience}/{lane}` | `PushRequest` | `PushResponse` |
//! | `GET /exchange/v1/media/{sha256}/state?urgent=B` | | `StatMediaResponse` |
//! | `GET /exchange/v1/media/{sha256}?offset=N&max_bytes=N&urgent=B` | | `ReadMediaResponse` |
//! | `PATCH /exchange/v1/media/{sha256}?size=N&offset=N&urgent=B` | the bytes | `StatMediaResponse` |
//! | `POST /exchange/v1/witness` | `WitnessRequest` | `WitnessResponse` |
//!
//! Bodies are protobuf (`application/x-protobuf`) or its JSON form (`application/json`), by `Content-Type` and `Accept`;
//! sealed bytes travel untouched inside them. The audience `*` is written `all` in addresses. Every call but the first
//! bears `Authorization: Bearer TOKEN`, or the headers `AppName`, `AccessKey` and `SecretKey`.
//!
//! `urgent=true`: the file is an emergency's, and the call is counted with those of emergencies.
//!
//! A refusal is in the body, whatever the status; the status says it again for platforms and their operators. Heads and
//! feeds have an `ETag`, and answer 304 to who knows it already.

mod answer;
mod body;
mod client;
mod server;

pub use body::BodyFormat;
pub use client::{Credentials, HttpSend, RestPeer};
pub use server::{CUT, CallRecord, CallSink, Client, ClientKey, ClientTwice, Clients, PlatformOptions, ROUTES, router};

/// The audience `*` as it stands in an address.
const ALL_IN_PATH: &str = "all";

/// The ETag of heads.
fn heads_etag(log_id: &[u8], position: u64) -> String {
    format!("\"{}.{position}\"", hex::encode(log_id))
}
