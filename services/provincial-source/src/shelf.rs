//! Which media files are held, without asking the disk for every device.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use httt_feed::Digest;
use httt_node::media::MediaStore;

/// Media known to be held. Only what is there is remembered: files come, they do not go while a bulletin needs them.
pub(crate) struct Shelf {
    store: Arc<MediaStore>,
    held: RwLock<HashSet<Digest>>,
    /// What bulletins say their files are.
    types: RwLock<HashMap<Digest, String>>,
}

impl Shelf {
    pub(crate) fn new(store: Arc<MediaStore>) -> Self {
        Self { store, held: RwLock::default(), types: RwLock::default() }
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
        self.held.read().unwrap_or_else(PoisonError::into_inner).contains(&digest)
    }

    /// Whether the file is held whole. No file at all counts as held.
    pub(crate) async fn holds(&self, digest: Option<Digest>) -> bool {
        let Some(digest) = digest else { return true };
        if self.knows(digest) {
            return true;
        }
        match self.store.stat(digest).await {
            Ok(stat) if stat.complete => {
                self.held.write().unwrap_or_else(PoisonError::into_inner).insert(digest);
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%digest, %error, "the media store cannot be asked");
                false
            }
        }
    }
}
