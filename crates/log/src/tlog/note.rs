//! Checkpoints as anybody reads them: parsed, verified under given keys, cosigned.

use httt_feed::{Digest, Sealer};
use signed_note::{Note, NoteError, Signature, VerificationError, Verifier, Verifiers};
use tlog_tiles::Checkpoint;

use super::vkey::{VerifierKey, cosigned_message};
use crate::checkpoint::MAX_CHECKPOINT_BYTES;

/// Largest checkpoint read, signature lines and all.
pub const MAX_NOTE_BYTES: usize = MAX_CHECKPOINT_BYTES as usize;
/// Largest tree believed. No log gets there, and arithmetic on positions cannot overflow below it.
pub const MAX_TREE_SIZE: u64 = 1 << 61;

/// Why a text is not taken as a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Longer than any real one.
    #[error("a checkpoint of {0} bytes is longer than the {MAX_NOTE_BYTES} allowed")]
    TooLong(usize),
    /// No signed note, or a note that is no checkpoint.
    #[error("not a signed checkpoint (three lines, an empty one, signature lines): {0}")]
    Malformed(String),
    /// More entries than [`MAX_TREE_SIZE`].
    #[error("no log has {0} entries")]
    Size(u64),
    /// A line names one of the keys and that key did not sign it.
    #[error("invalid signature of {0}: the text or the line was altered")]
    BadSignature(String),
    /// It could not be signed.
    #[error("the checkpoint cannot be signed: {0}")]
    Unsignable(String),
}

/// A checkpoint whose shape is right. What it says is to be believed once [`SignedCheckpoint::signers`] finds a key
/// that one trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    text: String,
    body_bytes: usize,
    origin: String,
    size: u64,
    root: Digest,
}

impl SignedCheckpoint {
    /// Reads a signed note that is a checkpoint. No signature is verified.
    ///
    /// # Errors
    /// [`CheckpointError::TooLong`], [`CheckpointError::Malformed`], [`CheckpointError::Size`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        if text.len() > MAX_NOTE_BYTES {
            return Err(CheckpointError::TooLong(text.len()));
        }
        let note = Note::from_bytes(text.as_bytes()).map_err(|error| CheckpointError::Malformed(error.to_string()))?;
        let checkpoint =
            Checkpoint::from_bytes(note.text()).map_err(|error| CheckpointError::Malformed(error.to_string()))?;
        if checkpoint.size() > MAX_TREE_SIZE {
            return Err(CheckpointError::Size(checkpoint.size()));
        }
        Ok(Self {
            text: text.to_owned(),
            body_bytes: note.text().len(),
            origin: checkpoint.origin().to_owned(),
            size: checkpoint.size(),
            root: Digest(checkpoint.hash().0),
        })
    }

    /// The whole note.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What was signed: the lines before the empty one.
    pub fn body(&self) -> &str {
        &self.text[..self.body_bytes]
    }

    /// The signature lines.
    pub fn signature_lines(&self) -> &str {
        &self.text[self.body_bytes + 1..]
    }

    /// Whose log, as in `httt/H24`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Entries it speaks of.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// RFC 6962 root over them.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Which of `keys` signed it, each at most once. Lines by other keys are passed over.
    ///
    /// # Errors
    /// [`CheckpointError::BadSignature`]: a line claims to be by one of `keys` and is not.
    pub fn signers<'a>(&self, keys: &'a [VerifierKey]) -> Result<Vec<&'a VerifierKey>, CheckpointError> {
        let note =
            Note::from_bytes(self.text.as_bytes()).map_err(|error| CheckpointError::Malformed(error.to_string()))?;
        let good = match note.verify(&KeyRing(keys)) {
            Ok((good, _)) => good,
            Err(NoteError::UnverifiedNote) => Vec::new(),
            Err(NoteError::InvalidSignature { name, .. }) => return Err(CheckpointError::BadSignature(name)),
            Err(error) => return Err(CheckpointError::Malformed(error.to_string())),
        };
        Ok(good.iter().filter_map(|line| find(keys, line.name(), line.id())).collect())
    }

    /// The note with no other signature lines than those by `keys`, one for each key: the first, which is the one that
    /// [`SignedCheckpoint::signers`] verifies. With none at all where there is no such line.
    pub fn only_by(&self, keys: &[VerifierKey]) -> String {
        let mut taken = Vec::new();
        let by_keys = |line: &&str| {
            let line = Signature::from_bytes(line.as_bytes()).ok();
            let key = line.and_then(|line| find(keys, line.name(), line.id())).map(|key| (key.name(), key.id()));
            let fresh = key.is_some_and(|key| !taken.contains(&key));
            taken.extend(key);
            fresh
        };
        let lines = self.signature_lines().lines().filter(by_keys);
        lines.fold(format!("{}\n", self.body()), |text, line| text + line + "\n")
    }

    /// The same checkpoint with those of `lines` added that are by one of `keys`; a line by the same key that is there
    /// already gives way. As C2SP tlog-witness advises, lines by others are dropped.
    ///
    /// # Errors
    /// What is added is no signature lines, is too long, or a line by one of `keys` does not verify.
    pub fn with_lines(&self, lines: &str, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let added = Self::parse(&format!("{}\n{lines}", self.body()))?;
        let by = added.signers(keys)?;
        let of_one = |line: &str| {
            let line = Signature::from_bytes(line.as_bytes()).ok()?;
            by.iter().position(|key| key.name() == line.name() && key.id() == line.id())
        };
        let mut text = format!("{}\n", self.body());
        for line in self.signature_lines().lines().filter(|line| of_one(line).is_none()) {
            text = text + line + "\n";
        }
        let mut taken = vec![false; by.len()];
        for line in lines.lines() {
            // Of several by one key the first is the one that was verified.
            if let Some(place) = of_one(line).filter(|place| !taken[*place]) {
                taken[place] = true;
                text = text + line + "\n";
            }
        }
        Self::parse(&text)
    }
}

/// The first of `keys` that a signature line names.
fn find<'a>(keys: &'a [VerifierKey], name: &str, id: u32) -> Option<&'a VerifierKey> {
    keys.iter().find(|key| key.name() == name && key.id() == id)
}

struct KeyRing<'a>(&'a [VerifierKey]);

impl Verifiers for KeyRing<'_> {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn Verifier, VerificationError> {
        find(self.0, name, id)
            .map(|key| key as &dyn Verifier)
            .ok_or_else(|| VerificationError::UnknownKey { name: name.to_owned(), id })
    }
}

/// A cosignature line (with its newline) by `sealer` on a checkpoint, as of `seconds` (Unix). Says that `sealer` saw no
/// longer tree of this log, and that this one holds everything it saw before: whoever calls has checked that.
///
/// # Errors
/// [`CheckpointError::Unsignable`].
pub fn cosign(checkpoint: &SignedCheckpoint, sealer: &Sealer, seconds: u64) -> Result<String, CheckpointError> {
    let key = VerifierKey::cosigner(sealer.origin(), sealer.key().public());
    let key = key.ok_or_else(|| CheckpointError::Unsignable("the key is no Ed25519 key".into()))?;
    let mut value = seconds.to_be_bytes().to_vec();
    value.extend(sealer.key().sign(&cosigned_message(seconds, checkpoint.body().as_bytes())));
    let line = Signature::new(key.name().to_owned(), key.id(), value);
    let line = line.map_err(|error| CheckpointError::Unsignable(error.to_string()))?;
    String::from_utf8(line.to_bytes()).map_err(|error| CheckpointError::Unsignable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use httt_feed::{AgencyCode, SigningKey};
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::{Statement, sign};

    fn sealer(code: &str, seed: u8) -> Sealer {
        Sealer::new(AgencyCode::new(code).expect("code"), SigningKey::from_seed(&[seed; 32]).expect("seed"))
    }

    fn log_key(sealer: &Sealer) -> VerifierKey {
        VerifierKey::log(sealer.origin(), sealer.key().public()).expect("key")
    }

    fn witness_key(sealer: &Sealer) -> VerifierKey {
        VerifierKey::cosigner(sealer.origin(), sealer.key().public()).expect("key")
    }

    fn checkpoint(sealer: &Sealer) -> SignedCheckpoint {
        let text = sign(Statement { size: 7, root: Digest([3; 32]) }, sealer).expect("sign");
        SignedCheckpoint::parse(&text).expect("parse")
    }

    #[test]
    fn a_cosignature_verifies_and_is_bound_to_text_and_time() {
        let (log, witness) = (sealer("H24", 1), sealer("NDXP", 2));
        let keys = [log_key(&log), witness_key(&witness)];
        let plain = checkpoint(&log);
        assert_eq!(plain.signers(&keys).expect("verifies"), [&keys[0]]);

        let line = cosign(&plain, &witness, 1_679_315_147).expect("cosign");
        let both = plain.with_lines(&line, &keys).expect("add");
        assert_eq!(both.signers(&keys).expect("verifies"), [&keys[0], &keys[1]]);
        assert_eq!(both.body(), plain.body());
        assert_eq!(both.with_lines(&line, &keys).expect("again"), both, "a line is added once");
        // Twice by the same key counts once.
        let later = cosign(&plain, &witness, 1_679_315_148).expect("cosign");
        let twice = both.with_lines(&later, &keys).expect("add");
        assert_eq!(twice.signers(&keys).expect("verifies").len(), 2);
        assert_eq!(twice.text(), format!("{}{later}", plain.text()), "the later one took its place");
        assert_eq!(plain.with_lines(&(later.clone() + &line), &keys).expect("add"), twice, "one line a key");

        let grown = SignedCheckpoint::parse(&both.text().replacen("\n7\n", "\n8\n", 1)).expect("shape");
        assert!(matches!(grown.signers(&keys[1..]), Err(CheckpointError::BadSignature(_))));
        // The time is under the signature: a line with another one does not verify.
        let signature = Signature::from_bytes(line.trim_end().as_bytes()).expect("line");
        let mut value = signature.signature().to_vec();
        value[7] ^= 1;
        let forged = Signature::new(signature.name().to_owned(), signature.id(), value).expect("line");
        let forged = String::from_utf8(forged.to_bytes()).expect("text");
        assert!(matches!(plain.with_lines(&forged, &keys), Err(CheckpointError::BadSignature(_))));
    }

    #[test]
    fn a_log_signature_is_no_cosignature() {
        let log = sealer("H24", 1);
        let plain = checkpoint(&log);
        assert!(plain.signers(&[witness_key(&log)]).expect("verifies").is_empty());
        let cosigned = plain.with_lines(&cosign(&plain, &log, 1).expect("cosign"), &[witness_key(&log)]).expect("add");
        assert_eq!(cosigned.signers(&[log_key(&log)]).expect("verifies").len(), 1);
    }

    #[test]
    fn lines_by_strangers_are_dropped_and_nonsense_is_refused() {
        let (log, witness, stranger) = (sealer("H24", 1), sealer("NDXP", 2), sealer("H99", 3));
        let plain = checkpoint(&log);
        let lines = cosign(&plain, &stranger, 1).expect("cosign") + &cosign(&plain, &witness, 1).expect("cosign");
        let added = plain.with_lines(&lines, &[witness_key(&witness)]).expect("add");
        assert_eq!(added.signature_lines().lines().count(), 2);
        assert!(!added.text().contains("H99"));
        for nonsense in ["", "x", "\n", "— a b\n", "— httt/NDXP AAAA\n\n"] {
            assert!(plain.with_lines(nonsense, &[witness_key(&witness)]).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn sizes_beyond_reason_are_refused() {
        let root = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, [0; 32]);
        let text = |size: u64| format!("httt/H24\n{size}\n{root}\n\n— httt/H24 AAAAAAAA\n");
        assert!(SignedCheckpoint::parse(&text(MAX_TREE_SIZE)).is_ok());
        assert_eq!(SignedCheckpoint::parse(&text(u64::MAX)), Err(CheckpointError::Size(u64::MAX)));
        let long = "x".repeat(MAX_NOTE_BYTES + 1);
        assert_eq!(SignedCheckpoint::parse(&long), Err(CheckpointError::TooLong(long.len())));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(httt/H24\n)?([0-9]{1,21}\n)?([A-Za-z0-9+/=]{40,44}\n)?\n?(— [a-zé]{0,4} [A-Za-z0-9+/=]{0,12}\n?){0,3}|\\PC{0,80}") {
            if let Ok(read) = SignedCheckpoint::parse(&text) {
                prop_assert_eq!(format!("{}\n{}", read.body(), read.signature_lines()), text);
            }
        }
    }
}
