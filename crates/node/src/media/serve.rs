//! The store as the exchange serves it to members.

use bytes::Bytes;
use httt_exchange::{BoxFuture, Media, MediaError, MediaStat};
use httt_feed::{AgencyCode, Digest};

use super::{MediaStore, MediaStoreError};

impl Media for MediaStore {
    fn stat<'a>(
        &'a self,
        member: &'a AgencyCode,
        digest: Digest,
        _: bool,
    ) -> BoxFuture<'a, Result<MediaStat, MediaError>> {
        Box::pin(async move { Ok(told(self.stat_for(member.as_str(), digest).await?)) })
    }

    fn read(
        &self,
        digest: Digest,
        offset: u64,
        max: usize,
        _: bool,
    ) -> BoxFuture<'_, Result<(Bytes, u64), MediaError>> {
        Box::pin(async move { Ok(self.read_range(digest, offset, max as u64).await?) })
    }

    fn write<'a>(
        &'a self,
        member: &'a AgencyCode,
        digest: Digest,
        size: u64,
        offset: u64,
        data: Bytes,
        _: bool,
    ) -> BoxFuture<'a, Result<MediaStat, MediaError>> {
        Box::pin(async move { Ok(told(self.write_for(member.as_str(), digest, size, offset, data).await?)) })
    }
}

fn told(stat: super::MediaStat) -> MediaStat {
    // Of an unfinished file only the sender knows the size.
    MediaStat { held: stat.held, size: if stat.complete { stat.held } else { 0 }, complete: stat.complete }
}

impl From<MediaStoreError> for MediaError {
    fn from(error: MediaStoreError) -> Self {
        match error {
            MediaStoreError::NotFound(digest) => Self::NotHeld(digest),
            MediaStoreError::Io { .. } | MediaStoreError::Bucket { .. } | MediaStoreError::Stopping => {
                Self::Io(error.to_string())
            }
            MediaStoreError::Full { .. } | MediaStoreError::Quota { .. } => Self::Full(error.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }
}
