//! Media go where bulletins go: whatever a published bulletin refers to, the exchange shall hold.
//!
//! Driven by state and not by events: it looks at what is published and sends what is not known to be there. After a
//! restart, or a rebuild of the models, it asks the exchange again and finds the files held; nothing is sent twice.

use std::collections::BTreeSet;
use std::time::Duration;

use httt_feed::{AgencyCode, Digest};
use httt_node::models::Models;
use httt_node::upstream::{TransferError, Upstream};
use tokio::sync::watch;

use crate::models::CentralModels;

/// Least pause between two looks at the models: they also move for every status change of the nation.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// First pause after a failure; doubled with each further one.
const RETRY_LEAST: Duration = Duration::from_secs(1);
/// Longest pause between tries. A link that comes back ends it early.
const RETRY_MOST: Duration = Duration::from_secs(30);

/// Sends media of own published bulletins to the exchange.
pub(crate) struct MediaSender {
    own: AgencyCode,
    models: Models<CentralModels>,
    upstream: Upstream,
    /// What the exchange said that it holds.
    confirmed: BTreeSet<Digest>,
}

impl MediaSender {
    pub(crate) fn new(own: AgencyCode, models: Models<CentralModels>, upstream: Upstream) -> Self {
        Self { own, models, upstream, confirmed: BTreeSet::new() }
    }

    /// Runs until `stop` turns true.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.send_for_ever() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn send_for_ever(&mut self) {
        let mut positions = self.models.watch();
        let mut retry = RETRY_LEAST;
        loop {
            positions.mark_unchanged();
            if self.send_all().await {
                retry = RETRY_LEAST;
                if positions.changed().await.is_err() {
                    // Folding has ended: nothing new will be published by this process.
                    return std::future::pending().await;
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            } else {
                self.pause(retry).await;
                retry = (retry * 2).min(RETRY_MOST);
            }
        }
    }

    /// Sends what is not confirmed; whether nothing is left.
    async fn send_all(&mut self) -> bool {
        let mut done = true;
        for digest in self.wanted() {
            match self.upstream.send_media(digest).await {
                Ok(()) => {
                    tracing::info!(sha256 = %digest, "the exchange holds the media file");
                    self.confirmed.insert(digest);
                }
                Err(TransferError::Peer(error)) => {
                    tracing::debug!(sha256 = %digest, %error, "the media file waits for the link");
                    return false;
                }
                // This file's own trouble, so the others go on.
                Err(error) => {
                    tracing::warn!(sha256 = %digest, %error, "the media file was not sent; it is tried again");
                    done = false;
                }
            }
        }
        done
    }

    /// Files of own bulletins that are out, not withdrawn, and not known to be at the exchange; emergencies first.
    fn wanted(&self) -> Vec<Digest> {
        let mut wanted: Vec<(bool, Digest)> = self.models.read(|models| {
            let own = models.bulletins.iter().filter(|bulletin| bulletin.publisher == self.own.as_str());
            own.filter(|bulletin| bulletin.withdrawn.is_none())
                .filter_map(|bulletin| {
                    let digest: Digest = bulletin.content.media.as_ref()?.sha256.parse().ok()?;
                    Some((!bulletin.content.priority.is_emergency(), digest))
                })
                .filter(|(_, digest)| !self.confirmed.contains(digest))
                .collect()
        });
        wanted.sort_unstable();
        wanted.dedup_by_key(|(_, digest)| *digest);
        wanted.into_iter().map(|(_, digest)| digest).collect()
    }

    /// Waits for `time`, or until a link that is down comes back.
    async fn pause(&self, time: Duration) {
        let mut link = self.upstream.link().watch();
        if link.borrow().connected {
            return tokio::time::sleep(time).await;
        }
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = link.wait_for(|link| link.connected) => {}
        }
    }
}
