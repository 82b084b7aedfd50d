//! The beginning of the directory feed of a gateway that changed its key since.

use super::Directory;
use super::verify::brought_key;
use crate::{Head, PublicKey, Refusal, UnverifiedBatch, follow};

/// For a gateway that changed its key since its first batch: whom to believe so that the beginning of the directory feed can
/// be verified. It is the key that the first batch brings, if the batches, each following the one before, lead to one
/// that the configured key signed: by its `previous` that one vouches for all before it, so the older key, even a
/// stolen one, cannot have made them up.
///
/// It looks at one batch after the other. What it was given must be kept, all of it, until one vouched for it: nothing
/// of it is good before that.
#[derive(Debug, Clone)]
pub struct Founding {
    /// The directory to be, if it is vouched for: it believes the first key.
    founded: Directory,
    /// The same, with what the batches so far say.
    folded: Directory,
    head: Option<Head>,
}

impl Founding {
    /// The last batch that was good so far.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Looks at the next batch. `Some`: it vouches for all so far, which this directory verifies.
    ///
    /// # Errors
    /// It is not good by what those before it say, or does not follow them: so these lead nowhere.
    pub fn next(&mut self, batch: &UnverifiedBatch, configured: &Directory) -> Result<Option<Directory>, Refusal> {
        let verified = self.folded.verify(batch.clone())?;
        follow(self.head.as_ref(), &verified)?;
        self.head = Some(verified.head());
        self.folded.apply(verified.feed(), &verified.batch().events);
        let member = self.folded.member(&verified.feed().origin);
        let mut keys = member.into_iter().flat_map(|member| member.all_keys()).map(|(key, _)| key);
        let signer = keys.find(|key| key.id() == verified.key());
        Ok((signer.map(PublicKey::fingerprint) == configured.trusted).then(|| self.founded.clone()))
    }
}

impl Directory {
    /// Begins to look at a directory feed whose first batch this is; `None`: there is a gateway already, or it is no
    /// such batch.
    pub fn founding(&self, first: &UnverifiedBatch) -> Option<Founding> {
        let key = brought_key(first).filter(|_| self.gateway.is_none() && first.sequence() == 1)?;
        let founded = Self { trusted: Some(key.fingerprint()), ..self.clone() };
        Some(Founding { folded: founded.clone(), founded, head: None })
    }

    /// The same for a beginning that is all here.
    ///
    /// `None`: these batches lead to none that vouches for them, or nothing needs to be vouched for.
    pub fn founded_by(&self, batches: &[UnverifiedBatch]) -> Option<Self> {
        let mut founding = self.founding(batches.first()?)?;
        batches.iter().map_while(|batch| founding.next(batch, self).ok()).flatten().next()
    }
}
