//! Bodies: protobuf, or the same messages as JSON.

use axum::http::{HeaderMap, HeaderName, header};
use httt_wire::json::{self, Strictness};
use httt_wire::{Message, Name};
use serde::Deserialize;

/// How messages are written in bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyFormat {
    /// `application/x-protobuf`.
    #[default]
    Protobuf,
    /// `application/json`: the JSON mapping of proto3, with `bytes` in base64.
    Json,
}

impl BodyFormat {
    /// Its content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// The format of a body that came with `headers`; `None` when they name another.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::first_of(headers, header::CONTENT_TYPE)
    }

    /// The format to answer in: the one accepted, else that of the request's body, else protobuf.
    pub(super) fn for_answer(headers: &HeaderMap) -> Self {
        Self::first_of(headers, header::ACCEPT).or_else(|| Self::of(headers)).unwrap_or_default()
    }

    fn first_of(headers: &HeaderMap, name: HeaderName) -> Option<Self> {
        let value = headers.get(name)?.to_str().ok()?;
        let kinds = value.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
        kinds.into_iter().find_map(|kind| match kind.to_ascii_lowercase().as_str() {
            "application/x-protobuf" | "application/protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        })
    }

    /// `message` as a body. `strictness` concerns JSON alone.
    pub(super) fn encode<T: Message + Name>(self, message: &T, strictness: Strictness) -> Result<Vec<u8>, String> {
        match self {
            Self::Protobuf => Ok(message.encode_to_vec()),
            Self::Json => json::encode(message, strictness).map_err(|error| error.to_string()),
        }
    }

    /// The message that `body` is.
    pub(super) fn decode<T>(self, body: &[u8], strictness: Strictness) -> Result<T, String>
    where
        T: Message + Name + Default,
    {
        match self {
            Self::Protobuf => T::decode(body).map_err(|error| format!("not a {}: {error}", T::full_name())),
            Self::Json => json::decode(body, strictness).map_err(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(accept: &'static str, content_type: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::ACCEPT, accept), (header::CONTENT_TYPE, content_type)] {
            if !value.is_empty() {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        headers
    }

    #[test]
    fn answers_are_in_the_format_accepted_or_else_in_that_of_the_question() {
        use BodyFormat::{Json, Protobuf};
        for (accept, content_type, answered) in [
            ("", "", Protobuf),
            ("*/*", "", Protobuf),
            ("*/*", "application/json; charset=utf-8", Json),
            ("Application/JSON", "application/x-protobuf", Json),
            ("text/html, application/json;q=0.9, application/x-protobuf", "", Json),
            ("application/protobuf", "application/json", Protobuf),
        ] {
            assert_eq!(BodyFormat::for_answer(&headers(accept, content_type)), answered, "{accept} {content_type}");
        }
        assert_eq!(BodyFormat::of(&headers("", "text/html")), None);
    }
}
