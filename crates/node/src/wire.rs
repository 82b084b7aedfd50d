//! What went over the wire, by peer and lane: for people's programs, and for Prometheus.

use std::fmt::Write as _;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, FORWARDED};
use axum::response::{IntoResponse, Response};
use httt_exchange::Meter;
use httt_log::Log;
use serde::Serialize;

use crate::accounts::bearer;
use crate::desk::Desk;
use crate::http::{ApiError, Peer};
use crate::models::ModelSet;

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What went both ways between this node and a peer, since the node started.
#[derive(Debug, Serialize)]
pub struct WireAnswer {
    /// Agency code of a member that calls here, or the address of the way up.
    pub peer: String,
    /// A lane (`emergency`, `content`, `directory`, `report`, `status`), or `media`, or `heads`.
    pub topic: String,
    /// From here to there.
    pub sent: FlowAnswer,
    /// From there to here.
    pub received: FlowAnswer,
}

/// One way.
#[derive(Debug, Serialize)]
pub struct FlowAnswer {
    /// Requests and answers.
    pub messages: u64,
    /// Their bytes as sent, packed; without what HTTP/2 and TLS add.
    pub wire_bytes: u64,
    /// Sealed batches in them.
    pub entries: u64,
    /// Bytes of these before packing; of media, bytes of the file.
    pub content_bytes: u64,
}

impl From<httt_exchange::Flow> for FlowAnswer {
    fn from(flow: httt_exchange::Flow) -> Self {
        let httt_exchange::Flow { messages, wire_bytes, entries, content_bytes } = flow;
        Self { messages, wire_bytes, entries, content_bytes }
    }
}

/// `GET /api/v1/wire`
pub(crate) async fn wire<S: ModelSet>(State(desk): State<Desk<S>>) -> Answer<Vec<WireAnswer>> {
    let rows = desk.node.meter.read().into_iter();
    let answer = rows.map(|(peer, topic, passed)| WireAnswer {
        peer,
        topic: topic.to_string(),
        sent: passed.sent.into(),
        received: passed.received.into(),
    });
    Answer(answer.collect())
}

/// `GET /metrics`. There is nothing secret in it, but who exchanges how much with whom is nobody else's business: it
/// needs a session, unless it is asked for on this machine and not through a proxy.
pub(crate) async fn metrics<S: ModelSet>(
    State(desk): State<Desk<S>>,
    peer: Peer,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let proxied = headers.contains_key(FORWARDED) || headers.contains_key("x-forwarded-for");
    let here = peer.address().ip().is_loopback() && !proxied;
    if !here && bearer(&headers).and_then(|token| desk.accounts.authenticate(token)).is_none() {
        return Err(ApiError::unauthorized());
    }
    Ok(([(CONTENT_TYPE, METRICS_TYPE)], text(&desk.node.log, &desk.node.meter)).into_response())
}

fn text(log: &Log, meter: &Meter) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, rows: &[(String, u64)]| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    family("httt_log_entries", "gauge", "Sealed batches in the log.", &[(String::new(), log.len())]);
    let writes = u64::from(log.poisoned().is_none());
    family("httt_log_writes", "gauge", "Whether the log takes writes.", &[(String::new(), writes)]);
    let heads: Vec<_> =
        log.heads().into_iter().map(|head| (labels(&[("feed", &head.feed.to_string())]), head.head.sequence)).collect();
    family("httt_feed_sequence", "gauge", "Last sequence held of each feed.", &heads);
    let rows = meter.read();
    type Figure = fn(&httt_exchange::Flow) -> u64;
    let figures: [(&str, &str, Figure); 4] = [
        ("httt_wire_messages_total", "Messages of the exchange.", |flow| flow.messages),
        ("httt_wire_bytes_total", "Bytes of these as sent, without HTTP/2 and TLS.", |flow| flow.wire_bytes),
        ("httt_wire_entries_total", "Sealed batches in these.", |flow| flow.entries),
        ("httt_wire_content_bytes_total", "Bytes of batches and media before packing.", |flow| flow.content_bytes),
    ];
    for (name, help, figure) in figures {
        let mut values = Vec::new();
        for (peer, topic, passed) in &rows {
            for (direction, flow) in [("sent", &passed.sent), ("received", &passed.received)] {
                let labels = labels(&[("peer", peer), ("topic", &topic.to_string()), ("direction", direction)]);
                values.push((labels, figure(flow)));
            }
        }
        family(name, "counter", help, &values);
    }
    text
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    format!("{{{}}}", pairs.iter().map(one).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(labels(&[("feed", "H24→TW/status"), ("x", "a\"b\\c\n")]), r#"{feed="H24→TW/status",x="a\"b\\c\n"}"#);
    }
}
