//! What went over the wire, by peer and lane: for people's programs, and for Prometheus.

use axum::Json as Answer;
use axum::extract::State;
use httt_exchange::{Flow, Meter};
use serde::Serialize;

use crate::desk::Desk;
use crate::metrics::{Kind, Metrics};
use crate::models::ModelSet;

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

impl From<Flow> for FlowAnswer {
    fn from(flow: Flow) -> Self {
        let Flow { messages, wire_bytes, entries, content_bytes } = flow;
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

/// Tells monitors what `meter` counted.
pub(crate) fn tell(meter: &Meter, metrics: &Metrics) {
    type Figure = fn(&Flow) -> u64;
    const FIGURES: [(&str, &str, Figure); 4] = [
        ("httt_wire_messages_total", "Messages of the exchange.", |flow| flow.messages),
        ("httt_wire_bytes_total", "Bytes of these as sent, without HTTP/2 and TLS.", |flow| flow.wire_bytes),
        ("httt_wire_entries_total", "Sealed batches in these.", |flow| flow.entries),
        ("httt_wire_content_bytes_total", "Bytes of batches and media before packing.", |flow| flow.content_bytes),
    ];
    let meter = meter.clone();
    metrics.add(move |page| {
        let rows = meter.read();
        for (name, help, figure) in FIGURES {
            let figures = rows.iter().flat_map(|(peer, topic, passed)| {
                [("sent", &passed.sent), ("received", &passed.received)].map(|(direction, flow)| {
                    ([peer.clone(), topic.to_string(), direction.to_owned()], figure(flow) as f64)
                })
            });
            page.metric((name, Kind::Counter), help, ["peer", "topic", "direction"], figures);
        }
    });
}
