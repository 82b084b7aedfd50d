//! One model, where it starts, and whether it broke.

use std::any::Any;
use std::io::{self, BufWriter, Write};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use httt_domain::models::{Fact, Model, ReadModel};
use httt_feed::Digest;
use ring::digest::{Context, SHA256};

/// Bytes hashed at once.
const HASH_BUFFER_BYTES: usize = 64 * 1024;

/// A read model with the position it was started from. Derefs to the model.
#[derive(Debug, Default)]
pub struct Projection<M> {
    model: M,
    /// Entries before this one are in it since its snapshot.
    from: u64,
    /// It panicked: at which entry, and what it said. It gets no more facts.
    broken: Option<(u64, String)>,
}

impl<M> Deref for Projection<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.model
    }
}

impl<M: Model> Projection<M> {
    /// Folds by `work`, for models that look at others: unless the entry at `position` is in it already, or it broke.
    pub fn fold_with(&mut self, position: u64, work: impl FnOnce(&mut M)) {
        if position < self.from || self.broken.is_some() {
            return;
        }
        let model = &mut self.model;
        // What a panic leaves behind is never used: nothing is folded into it, stored of it or compared with it.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(model))) {
            let text = text_of(panic.as_ref());
            tracing::error!(
                model = M::NAME,
                position,
                panic = text,
                "a read model broke; it stands still from here on"
            );
            self.broken = Some((position, text));
        }
    }
}

impl<M: ReadModel> Projection<M> {
    /// Folds one fact of the entry at `position`, unless it is in it already.
    pub fn fold(&mut self, position: u64, fact: &Fact<'_>) {
        self.fold_with(position, |model| model.apply(fact));
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a message").to_owned()
}

/// A [`Projection`] of whatever model, as the runner sees it.
pub trait Part: Send + Sync {
    /// The model's name.
    fn name(&self) -> &'static str;
    /// The model's version.
    fn version(&self) -> u32;
    /// Whether retention takes nothing from it: [`Model::OWN_WORDS_ONLY`].
    fn own_words_only(&self) -> bool;
    /// Entries that were in it when it was started.
    fn from(&self) -> u64;
    /// Why it is no state of anything: it panicked, at which position.
    fn broken(&self) -> Option<String>;
    /// Its canonical bytes.
    ///
    /// # Errors
    /// It broke, or has no canonical form: a defect of the model.
    fn encode(&self) -> Result<Vec<u8>, String>;
    /// SHA-256 of these bytes.
    ///
    /// # Errors
    /// As for [`Part::encode`].
    fn digest(&self) -> Result<Digest, String>;
    /// Becomes what `bytes` say, with so many entries in it.
    ///
    /// # Errors
    /// They are no such model, or what they make is not what they say. It is empty then.
    fn restore(&mut self, bytes: &[u8], position: u64) -> Result<(), String>;
    /// Becomes empty.
    fn clear(&mut self);
}

impl<M: Model> Part for Projection<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn version(&self) -> u32 {
        M::VERSION
    }

    fn own_words_only(&self) -> bool {
        M::OWN_WORDS_ONLY
    }

    fn from(&self) -> u64 {
        self.from
    }

    fn broken(&self) -> Option<String> {
        self.broken.as_ref().map(|(position, text)| format!("panicked at position {position}: {text}"))
    }

    fn encode(&self) -> Result<Vec<u8>, String> {
        match self.broken() {
            Some(broken) => Err(broken),
            None => serde_json::to_vec(&self.model).map_err(no_form),
        }
    }

    fn digest(&self) -> Result<Digest, String> {
        if let Some(broken) = self.broken() {
            return Err(broken);
        }
        let mut hash = BufWriter::with_capacity(HASH_BUFFER_BYTES, Hash(Context::new(&SHA256)));
        serde_json::to_writer(&mut hash, &self.model).map_err(no_form)?;
        let Hash(context) = hash.into_inner().map_err(|error| error.to_string())?;
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Ok(Digest(digest))
    }

    fn restore(&mut self, bytes: &[u8], position: u64) -> Result<(), String> {
        self.clear();
        let model: M = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let restored = Self { model, from: position, broken: None };
        // A part that does not survive being stored would make a state that no fold leads to.
        if restored.digest()? != Digest::of(bytes) {
            return Err("what is read back from it is not what was stored".to_owned());
        }
        *self = restored;
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self { model: M::default(), from: 0, broken: None };
    }
}

fn no_form(error: serde_json::Error) -> String {
    format!("has no canonical form: {error}")
}

struct Hash(Context);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
