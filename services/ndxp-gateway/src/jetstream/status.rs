//! How the store is, for operators.

use std::sync::PoisonError;

use async_nats::connection::State;
use httt_feed::Lane;
use serde::Serialize;

use super::shared::Shared;
use super::subject;

/// How a lane is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LaneState {
    /// What the stream has is known, and what comes is heard.
    Followed,
    /// It is not, and why.
    Away(String),
}

/// How the store is.
#[derive(Debug, Clone, Serialize)]
pub struct StoreStatus {
    /// `jetstream`
    pub kind: &'static str,
    /// Whether a server is connected.
    pub connected: bool,
    /// Why acknowledged entries may be lost; absent: the servers promise to keep them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volatile: Option<String>,
    /// Why this process says nothing, no receipts either; absent: it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
    /// One a lane.
    pub streams: Vec<StreamStatus>,
}

/// How one lane's stream is.
#[derive(Debug, Clone, Serialize)]
pub struct StreamStatus {
    /// Its name.
    pub stream: String,
    /// Feeds known on that lane.
    pub feeds: usize,
    /// Entries it has.
    pub entries: usize,
    /// Why it cannot be followed now; absent: it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away: Option<String>,
}

impl Shared {
    /// Says how a lane is; logs when that changes.
    pub(super) fn set_lane(&self, lane: Lane, state: LaneState) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.get(&lane) != Some(&state) {
            match &state {
                LaneState::Followed => tracing::info!(%lane, "JetStream is followed"),
                LaneState::Away(why) => tracing::warn!(%lane, why, "JetStream cannot be followed"),
            }
            lanes.insert(lane, state);
        }
    }

    pub(super) fn status(&self) -> StoreStatus {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let streams = subject::LANES.into_iter().map(|lane| {
            let (feeds, entries) = self.index(|index| index.counts(lane));
            let away = match lanes.get(&lane) {
                Some(LaneState::Followed) => None,
                Some(LaneState::Away(why)) => Some(why.clone()),
                None => Some("not looked at yet".to_owned()),
            };
            StreamStatus { stream: subject::stream(&self.settings.prefix, lane), feeds, entries, away }
        });
        StoreStatus {
            kind: "jetstream",
            connected: self.connection.client().connection_state() == State::Connected,
            volatile: self.connection.volatile().map(str::to_owned),
            silent: self.sealing_fault(),
            streams: streams.collect(),
        }
    }
}
