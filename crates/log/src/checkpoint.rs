//! The signed statement of how long the log is and what it hashes to: a C2SP tlog-checkpoint in a C2SP signed note.
//!
//! ```text
//! httt/H24
//! 1234
//! udETg56CbvSDH3NH7BlBtV7Yu3qr/MwWoWpoX3qO7Tc=
//!
//! — httt/H24 x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
//! ```

use std::io;
use std::path::Path;

use httt_feed::{AgencyCode, Digest, PublicKey, Sealer};
use signed_note::{Note, Signature};
use tlog_tiles::{Checkpoint, Hash};

use crate::files::{self, Files};
use crate::tlog::{KeyPurpose, SignedCheckpoint, VerifierKey, node_name};

/// File name in the log's folder.
pub(crate) const CHECKPOINT_FILE: &str = "checkpoint";
/// Largest checkpoint read: a few signature lines of cosigners fit many times over.
pub(crate) const MAX_CHECKPOINT_BYTES: u64 = 64 * 1024;

/// A statement about the first `size` entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) size: u64,
    pub(crate) root: Digest,
}

/// Signs a statement.
pub(crate) fn sign(statement: Statement, sealer: &Sealer) -> Result<String, String> {
    let key = VerifierKey::log(sealer.origin(), sealer.key().public()).ok_or("the key is no Ed25519 key")?;
    let name = key.name().to_owned();
    let checkpoint =
        Checkpoint::new(&name, statement.size, Hash(statement.root.0), "").map_err(|error| error.to_string())?;
    let text = checkpoint.to_bytes();
    let signature = Signature::new(name, key.id(), sealer.key().sign(&text)).map_err(|error| error.to_string())?;
    let note = Note::new(&text, &[signature]).map_err(|error| error.to_string())?;
    String::from_utf8(note.to_bytes()).map_err(|error| error.to_string())
}

/// What a checkpoint file says, and who signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) statement: Statement,
    /// The origin line.
    pub(crate) origin: String,
    /// One of the keys given signed it.
    pub(crate) signed: bool,
}

/// Reads a checkpoint. A signature that names one of `keys` and does not verify is an error; one by other keys only
/// leaves `signed` false (the node's key may have been changed since).
pub(crate) fn parse(text: &str, origin: Option<&AgencyCode>, keys: &[PublicKey]) -> Result<Parsed, String> {
    let checkpoint = SignedCheckpoint::parse(text).map_err(|error| error.to_string())?;
    if let Some(origin) = origin
        && checkpoint.origin() != node_name(origin)
    {
        return Err(format!("it is of {}, not of {}", checkpoint.origin(), node_name(origin)));
    }
    let name = checkpoint.origin();
    let keys: Vec<_> =
        keys.iter().filter_map(|key| VerifierKey::new(name.to_owned(), KeyPurpose::Log, key.clone()).ok()).collect();
    let signed = !checkpoint.signers(&keys).map_err(|error| error.to_string())?.is_empty();
    let statement = Statement { size: checkpoint.size(), root: checkpoint.root() };
    Ok(Parsed { statement, origin: name.to_owned(), signed })
}

/// Reads the file, if there is one.
pub(crate) fn read_file(dir: &Path) -> io::Result<Option<String>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(dir.join(CHECKPOINT_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_CHECKPOINT_BYTES).read_to_end(&mut bytes)?;
    // What is not UTF-8 is no note either, which the parser then says.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Replaces the file: after a crash there is the old one or the new one.
pub(crate) fn write_file(files: &dyn Files, dir: &Path, text: &str) -> io::Result<()> {
    let new = dir.join("checkpoint.new");
    let mut file = files.create(&new)?;
    files::write_all_at(file.as_mut(), text.as_bytes(), 0)?;
    file.sync()?;
    drop(file);
    files.rename(&new, &dir.join(CHECKPOINT_FILE))?;
    files.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use httt_feed::SigningKey;

    use super::*;

    fn sealer(seed: u8) -> Sealer {
        Sealer::new(AgencyCode::new("H24").expect("code"), SigningKey::from_seed(&[seed; 32]).expect("seed"))
    }

    #[test]
    fn signs_what_it_can_read_and_notices_tampering() {
        let sealer = sealer(1);
        let keys = [sealer.key().public().clone()];
        let statement = Statement { size: 7, root: Digest([3; 32]) };
        let text = sign(statement, &sealer).expect("sign");
        let parsed = parse(&text, Some(sealer.origin()), &keys).expect("parse");
        assert_eq!((parsed.statement, parsed.signed), (statement, true));
        assert!(parse(&text.replacen("\n7\n", "\n8\n", 1), Some(sealer.origin()), &keys).is_err());
        assert!(parse(&text, Some(&AgencyCode::new("H25").expect("code")), &keys).is_err());
        assert!(parse("nonsense", None, &keys).is_err());
    }

    #[test]
    fn another_key_leaves_it_unsigned() {
        let text = sign(Statement { size: 0, root: Digest::of(b"") }, &sealer(1)).expect("sign");
        let other = sealer(2);
        let parsed = parse(&text, Some(other.origin()), &[other.key().public().clone()]).expect("parse");
        assert!(!parsed.signed);
    }

    #[test]
    fn the_note_crate_verifies_it_with_a_standard_key() {
        let sealer = sealer(1);
        let text = sign(Statement { size: 7, root: Digest([3; 32]) }, &sealer).expect("sign");
        let key = VerifierKey::log(sealer.origin(), sealer.key().public()).expect("key");
        let verifier = signed_note::StandardVerifier::new(&key.to_string()).expect("verifier key");
        let list = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        let (good, other) = Note::from_bytes(text.as_bytes()).expect("note").verify(&list).expect("verifies");
        assert_eq!((good.len(), other.len()), (1, 0));
    }
}
