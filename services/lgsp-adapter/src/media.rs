//! Media through the adapter: what is asked for and not held is fetched from the exchange first, what is brought is
//! passed on.

use std::sync::Arc;

use bytes::Bytes;
use httt_feed::Digest;
use httt_node::exchange::{BoxFuture, Media, MediaError, MediaStat};
use httt_node::media::MediaStore;
use httt_node::upstream::Upstream;

/// A store that asks the exchange for what it lacks.
pub(crate) struct ThroughMedia {
    store: Arc<MediaStore>,
    upstream: Upstream,
}

impl ThroughMedia {
    pub(crate) fn new(store: Arc<MediaStore>, upstream: Upstream) -> Self {
        Self { store, upstream }
    }
}

impl Media for ThroughMedia {
    fn stat(&self, digest: Digest) -> BoxFuture<'_, Result<MediaStat, MediaError>> {
        Media::stat(self.store.as_ref(), digest)
    }

    fn read(&self, digest: Digest, offset: u64, max: usize) -> BoxFuture<'_, Result<(Bytes, u64), MediaError>> {
        Box::pin(async move {
            match Media::read(self.store.as_ref(), digest, offset, max).await {
                Err(MediaError::NotHeld(_)) => {
                    self.upstream.fetch_media(digest).await.map_err(|error| {
                        tracing::debug!(%digest, %error, "media not fetched");
                        MediaError::NotHeld(digest)
                    })?;
                    Media::read(self.store.as_ref(), digest, offset, max).await
                }
                held => held,
            }
        })
    }

    fn write(
        &self,
        digest: Digest,
        size: u64,
        offset: u64,
        data: Bytes,
    ) -> BoxFuture<'_, Result<MediaStat, MediaError>> {
        Box::pin(async move {
            let stat = Media::write(self.store.as_ref(), digest, size, offset, data).await?;
            if stat.complete {
                let upstream = self.upstream.clone();
                tokio::spawn(async move {
                    if let Err(error) = upstream.send_media(digest).await {
                        tracing::warn!(%digest, %error, "media not passed on");
                    }
                });
            }
            Ok(stat)
        })
    }
}
