//! The media files held, and what bulletins say they are.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use httt_feed::Digest;
use httt_node::media::MediaStore;

/// Media files, as devices get them.
pub(crate) struct Shelf {
    store: Arc<MediaStore>,
    /// What bulletins say their files are.
    types: RwLock<HashMap<Digest, String>>,
}

impl Shelf {
    pub(crate) fn new(store: Arc<MediaStore>) -> Self {
        Self { store, types: RwLock::default() }
    }

    /// The files themselves.
    pub(crate) fn store(&self) -> &MediaStore {
        &self.store
    }

    /// Remembers what a bulletin says its file is.
    pub(crate) fn describe(&self, digest: Digest, content_type: &str) {
        let mut types = self.types.write().unwrap_or_else(PoisonError::into_inner);
        types.entry(digest).or_insert_with(|| content_type.to_owned());
    }

    /// What a bulletin says its file is.
    pub(crate) fn content_type(&self, digest: Digest) -> Option<String> {
        self.types.read().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned()
    }

    /// Whether the file is held whole, as far as is known in memory.
    pub(crate) fn knows(&self, digest: Digest) -> bool {
        self.store.knows(digest)
    }

    /// Whether the file is held whole. No file at all counts as held. The disk is not asked for every device.
    pub(crate) async fn holds(&self, digest: Option<Digest>) -> bool {
        let Some(digest) = digest else { return true };
        if self.knows(digest) {
            return true;
        }
        match self.store.stat(digest).await {
            Ok(stat) => stat.complete,
            Err(error) => {
                tracing::warn!(%digest, %error, "the media store cannot be asked");
                false
            }
        }
    }
}
