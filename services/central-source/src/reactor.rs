//! Media go where bulletins go: whatever a published bulletin refers to, the exchange shall hold.
//!
//! Driven by state and not by events: it looks at what is published and sends what is not known to be there. After a
//! restart, or a rebuild of the models, it asks the exchange again and finds the files held; nothing is sent twice.
//!
//! Emergencies have a sender of their own, so that their files never wait for a large ordinary one or for its next try.
//! Each sender has several files under way and lets every file wait for its own next try alone: one that never gets
//! through takes nothing from the others but a place for the time of a try.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use httt_feed::{AgencyCode, Digest};
use httt_node::exchange::LinkState;
use httt_node::models::Models;
use httt_node::upstream::{TransferError, Upstream, Urgency};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::models::CentralModels;

/// How a sender goes about it.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Files under way at a time.
    at_once: usize,
    /// Pause before a look at the models: they also move for every status change of the nation.
    look_pause: Duration,
    /// A file's first pause after a failure; doubled with each further one.
    retry_least: Duration,
    /// A file's longest pause between tries. A link that comes back ends it early.
    retry_most: Duration,
}

const ORDINARY: Pace = Pace {
    at_once: 2,
    look_pause: Duration::from_millis(50),
    retry_least: Duration::from_secs(1),
    retry_most: Duration::from_secs(30),
};
const EMERGENCY: Pace = Pace {
    at_once: 8,
    look_pause: Duration::ZERO,
    retry_least: Duration::from_millis(250),
    retry_most: Duration::from_secs(2),
};

/// Sends media of own published bulletins to the exchange.
pub(crate) struct MediaSender {
    own: AgencyCode,
    models: Models<CentralModels>,
    upstream: Upstream,
}

impl MediaSender {
    pub(crate) fn new(own: AgencyCode, models: Models<CentralModels>, upstream: Upstream) -> Self {
        Self { own, models, upstream }
    }

    /// Runs until `stop` turns true.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.send(EMERGENCY, true) => {}
            () = self.send(ORDINARY, false) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn send(&self, pace: Pace, emergency: bool) {
        let wanted = || self.models.read(|models| wanted(models, &self.own, emergency));
        let urgency = if emergency { Urgency::AtOnce } else { Urgency::InTurn };
        let send = |digest| self.upstream.send_media(digest, urgency);
        Sender::new(pace).run(self.models.watch(), self.upstream.link().watch(), wanted, send).await;
    }
}

/// Files of own bulletins that are out and not withdrawn: of emergencies, or those that no emergency has.
fn wanted(models: &CentralModels, own: &AgencyCode, emergency: bool) -> BTreeSet<Digest> {
    let of = |emergency: bool| {
        let out = models.bulletins.iter().filter(move |bulletin| {
            bulletin.content.priority.is_emergency() == emergency
                && bulletin.publisher == own.as_str()
                && bulletin.withdrawn.is_none()
        });
        out.filter_map(|bulletin| bulletin.content.media.as_ref()?.sha256.parse::<Digest>().ok())
    };
    let mut wanted: BTreeSet<Digest> = of(emergency).collect();
    if !emergency {
        // Two senders at one file would only be in each other's way.
        of(true).for_each(|digest| {
            wanted.remove(&digest);
        });
    }
    wanted
}

/// When a file that failed is tried again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    due: Instant,
    /// The pause that ends then.
    pause: Duration,
}

/// One loop that sends files, and what it knows of them.
struct Sender {
    pace: Pace,
    /// What the exchange said that it holds.
    confirmed: BTreeSet<Digest>,
    under_way: BTreeSet<Digest>,
    failed: BTreeMap<Digest, Retry>,
}

impl Sender {
    fn new(pace: Pace) -> Self {
        Self { pace, confirmed: BTreeSet::new(), under_way: BTreeSet::new(), failed: BTreeMap::new() }
    }

    /// Sends what is `wanted`, looking again when the models or the link move, a file is through, or a pause ends.
    async fn run<F: Future<Output = Result<(), TransferError>>>(
        mut self,
        mut positions: watch::Receiver<u64>,
        mut link: watch::Receiver<LinkState>,
        wanted: impl Fn() -> BTreeSet<Digest>,
        send: impl Fn(Digest) -> F,
    ) {
        let mut transfers = FuturesUnordered::new();
        let mut connected = link.borrow().connected;
        // Once folding has ended nothing new is published by this process, and what is known is sent all the same.
        let mut folding = true;
        loop {
            positions.mark_unchanged();
            // One moment for both: what is due by then is begun, and what is not is waited for.
            let now = Instant::now();
            let begun = self.begin(&wanted(), now);
            transfers.extend(begun.into_iter().map(|digest| {
                let sent = send(digest);
                async move { (digest, sent.await) }
            }));
            let due = self.failed.values().map(|retry| retry.due).filter(|due| *due > now).min();
            let look_pause = self.pace.look_pause;
            let moved = async {
                let moved = positions.changed().await.is_ok();
                tokio::time::sleep(look_pause).await;
                moved
            };
            let turned = async {
                let turned = link.wait_for(|link| link.connected != connected).await;
                turned.map(|link| link.connected)
            };
            tokio::select! {
                Some((digest, result)) = transfers.next() => self.note(digest, result, Instant::now()),
                moved = moved, if folding => folding = moved,
                Ok(now) = turned => {
                    connected = now;
                    if connected {
                        self.failed.values_mut().for_each(|retry| retry.due = Instant::now());
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or(now)), if due.is_some() => {}
                else => return std::future::pending().await,
            }
        }
    }

    /// Files to begin with now: those that never failed first, then the ones that have waited longest.
    fn begin(&mut self, wanted: &BTreeSet<Digest>, now: Instant) -> Vec<Digest> {
        self.failed.retain(|digest, _| wanted.contains(digest));
        let due = |digest: &Digest| self.failed.get(digest).map(|retry| retry.due);
        let mut next: Vec<Digest> = wanted
            .iter()
            .filter(|digest| !self.confirmed.contains(digest) && !self.under_way.contains(digest))
            .filter(|digest| due(digest).is_none_or(|due| due <= now))
            .copied()
            .collect();
        next.sort_by_key(due);
        next.truncate(self.pace.at_once.saturating_sub(self.under_way.len()));
        self.under_way.extend(&next);
        next
    }

    fn note(&mut self, digest: Digest, result: Result<(), TransferError>, now: Instant) {
        self.under_way.remove(&digest);
        let Err(error) = result else {
            tracing::info!(sha256 = %digest, "the exchange holds the media file");
            self.failed.remove(&digest);
            self.confirmed.insert(digest);
            return;
        };
        let before = self.failed.get(&digest).map(|retry| retry.pause);
        match &error {
            TransferError::Peer(_) => tracing::debug!(sha256 = %digest, %error, "the media file waits for the link"),
            // Told once: an emergency's file is tried every two seconds, for as long as it takes.
            _ if before.is_none() => {
                tracing::warn!(sha256 = %digest, %error, "the media file was not sent; it is tried again");
            }
            _ => tracing::debug!(sha256 = %digest, %error, "the media file was not sent again"),
        }
        let pause = before.map_or(self.pace.retry_least, |before| (before * 2).min(self.pace.retry_most));
        self.failed.insert(digest, Retry { due: now + pause, pause });
    }
}

#[cfg(test)]
mod tests;
