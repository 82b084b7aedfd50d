//! Media through the adapter: what is asked for and not held is fetched from the exchange first; what is brought counts
//! as complete only when the exchange holds it, so that who brings it goes on until then.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest};
use httt_node::exchange::{BoxFuture, Media, MediaError, MediaStat};
use httt_node::media::MediaStore;
use httt_node::upstream::Upstream;
use tokio::sync::Mutex;

/// A store that asks the exchange for what it lacks.
pub(crate) struct ThroughMedia {
    store: Arc<MediaStore>,
    upstream: Upstream,
    /// One transfer a file at a time, whoever asks.
    turns: std::sync::Mutex<HashMap<Digest, Weak<Mutex<()>>>>,
}

impl ThroughMedia {
    pub(crate) fn new(store: Arc<MediaStore>, upstream: Upstream) -> Self {
        Self { store, upstream, turns: std::sync::Mutex::default() }
    }

    fn turn(&self, digest: Digest) -> Arc<Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let held = turns.get(&digest).and_then(Weak::upgrade);
        held.unwrap_or_else(|| {
            let turn = Arc::default();
            turns.insert(digest, Arc::downgrade(&turn));
            turn
        })
    }

    async fn fetch(&self, digest: Digest, urgent: bool) -> Result<(), MediaError> {
        let turn = self.turn(digest);
        let _turn = turn.lock().await;
        self.upstream.fetch_media(digest, urgent).await.map_err(|error| {
            tracing::debug!(%digest, %error, "media not fetched");
            MediaError::NotHeld(digest)
        })
    }

    /// What is held whole is passed on before anybody hears that it is complete.
    async fn passed_on(&self, digest: Digest, stat: MediaStat, urgent: bool) -> MediaStat {
        if !stat.complete {
            return stat;
        }
        let turn = self.turn(digest);
        let _turn = turn.lock().await;
        match self.upstream.send_media(digest, urgent).await {
            Ok(()) => stat,
            Err(error) => {
                tracing::info!(%digest, %error, "media not passed on yet");
                MediaStat { complete: false, ..stat }
            }
        }
    }
}

impl Media for ThroughMedia {
    fn stat<'a>(
        &'a self,
        member: &'a AgencyCode,
        digest: Digest,
        urgent: bool,
    ) -> BoxFuture<'a, Result<MediaStat, MediaError>> {
        Box::pin(async move {
            let stat = Media::stat(self.store.as_ref(), member, digest, urgent).await?;
            Ok(self.passed_on(digest, stat, urgent).await)
        })
    }

    fn read(
        &self,
        digest: Digest,
        offset: u64,
        max: usize,
        urgent: bool,
    ) -> BoxFuture<'_, Result<(Bytes, u64), MediaError>> {
        Box::pin(async move {
            match Media::read(self.store.as_ref(), digest, offset, max, urgent).await {
                Err(MediaError::NotHeld(_)) => {
                    self.fetch(digest, urgent).await?;
                    Media::read(self.store.as_ref(), digest, offset, max, urgent).await
                }
                held => held,
            }
        })
    }

    fn write<'a>(
        &'a self,
        member: &'a AgencyCode,
        digest: Digest,
        size: u64,
        offset: u64,
        data: Bytes,
        urgent: bool,
    ) -> BoxFuture<'a, Result<MediaStat, MediaError>> {
        Box::pin(async move {
            let stat = Media::write(self.store.as_ref(), member, digest, size, offset, data, urgent).await?;
            Ok(self.passed_on(digest, stat, urgent).await)
        })
    }
}
