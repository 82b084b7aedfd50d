//! What a node's log keeps of witnessing: it cosigns with its key, and keeps the checkpoint that others cosigned.

use std::fs;
use std::io;

use super::note::{CheckpointError, SignedCheckpoint, cosign};
use super::prove::COSIGNED_FILE;
use super::vkey::VerifierKey;
use crate::{Log, files};

impl Log {
    /// This node's cosignature line on another log's checkpoint; see [`cosign`] for what it says.
    ///
    /// # Errors
    /// [`CheckpointError::Unsignable`].
    pub fn cosign(&self, checkpoint: &SignedCheckpoint, seconds: u64) -> Result<String, CheckpointError> {
        cosign(checkpoint, &self.shared().sealer(), seconds)
    }

    /// The key that this log's checkpoints are signed with; `None`: the node's key signs none.
    pub fn vkey(&self) -> Option<VerifierKey> {
        VerifierKey::log(self.origin(), self.shared().sealer().key().public())
    }

    /// The key that this node cosigns with.
    pub fn cosigner_vkey(&self) -> Option<VerifierKey> {
        VerifierKey::cosigner(self.origin(), self.shared().sealer().key().public())
    }

    /// Keeps a checkpoint of this log that was cosigned, for proofs. Blocks for a write.
    ///
    /// # Errors
    /// The operating system's; the one kept before is still there then.
    pub fn keep_cosigned(&self, checkpoint: &SignedCheckpoint) -> io::Result<()> {
        files::replace(&self.shared().dir.join(COSIGNED_FILE), checkpoint.text().as_bytes())
    }

    /// The checkpoint kept by [`Log::keep_cosigned`], if there is one and this log bears it out.
    pub fn cosigned(&self) -> Option<SignedCheckpoint> {
        let text = fs::read_to_string(self.shared().dir.join(COSIGNED_FILE)).ok()?;
        let checkpoint = SignedCheckpoint::parse(&text).ok()?;
        let right = self.root(checkpoint.size()).is_ok_and(|root| root == checkpoint.root());
        right.then_some(checkpoint)
    }
}
