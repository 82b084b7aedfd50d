//! The REST driver: what a province's integration platform speaks southward.
//!
//! | call | request | answer |
//! |---|---|---|
//! | `POST /oauth2/token` | form `grant_type=client_credentials`, HTTP Basic or `client_id`, `client_secret` | `{access_token, token_type, expires_in}` |
//! | `GET /exchange/v1/heads?log_id=HEX&after=N&wait_ms=N` | | `HeadsResponse` |
//! | `GET /exchange/v1/feeds/{origin}/{audience}/{lane}?after=N&max_bytes=N` | | `ReadResponse` |
//! | `POST /exchange/v1/feeds/{origin}/{audience}/{lane}` | `PushRequest` | `PushResponse` |
//! | `GET /exchange/v1/media/{sha256}/state` | | `StatMediaResponse` |
//! | `GET /exchange/v1/media/{sha256}?offset=N&max_bytes=N` | | `ReadMediaResponse` |
//! | `PATCH /exchange/v1/media/{sha256}?size=N&offset=N` | the bytes | `StatMediaResponse` |
//! | `POST /exchange/v1/witness` | `WitnessRequest` | `WitnessResponse` |
//!
//! Bodies are protobuf (`application/x-protobuf`); sealed bytes travel untouched inside them. The audience `*` is
//! written `all` in addresses. Every call but the first bears `Authorization: Bearer TOKEN`.

mod client;
mod server;

pub use client::{HttpSend, RestPeer};
pub use server::{ClientId, OAuthClients, router};

/// Content type of protobuf bodies.
pub(crate) const PROTOBUF: &str = "application/x-protobuf";

/// The audience as it stands in an address.
pub(crate) fn audience_in_path(audience: &str) -> &str {
    if audience == "*" { "all" } else { audience }
}
