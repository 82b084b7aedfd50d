//! Tamper evidence that other people's software can check.
//!
//! | Format | Here |
//! |---|---|
//! | [C2SP tlog-tiles](https://c2sp.org/tlog-tiles) | [`Tile`], [`Log::tile`](crate::Log::tile), [`export_tiles`] |
//! | [C2SP tlog-checkpoint](https://c2sp.org/tlog-checkpoint) in a [signed note](https://c2sp.org/signed-note) | [`SignedCheckpoint`], [`VerifierKey`] |
//! | [C2SP tlog-cosignature](https://c2sp.org/tlog-cosignature), Ed25519 | [`cosign`], [`VerifierKey::cosigner`] |
//! | [C2SP tlog-proof](https://c2sp.org/tlog-proof) | [`ProofFile`], [`prove_event`] |
//! | [RFC 6962](https://www.rfc-editor.org/rfc/rfc6962) proofs | [`Log::inclusion_proof`](crate::Log::inclusion_proof), [`Log::consistency_proof`](crate::Log::consistency_proof), [`verify_inclusion`], [`verify_consistency`] |
//!
//! Nothing here needs a node's key; what signs is handed in. Texts from outside have a limit each.

mod cosigned;
mod export;
mod note;
mod proof;
mod proof_file;
mod prove;
mod tile;
mod vkey;

pub use crate::merkle::leaf_hash;
pub use export::{ExportError, ExportReport, export_tiles};
pub use note::{CheckpointError, MAX_NOTE_BYTES, MAX_TREE_SIZE, SignedCheckpoint, cosign};
pub use proof::{InvalidProof, MAX_PROOF_HASHES, format_hash, parse_hash, verify_consistency, verify_inclusion};
pub use proof_file::{CheckedProof, MAX_PROOF_FILE_BYTES, ProofFile, ProofFileError, ProofKeys};
pub use prove::{COSIGNED_FILE, ProveError, claimed_keys, prove_event, read_checkpoint};
pub use tile::{BadTilePath, MAX_TILE_PATH_BYTES, TILE_WIDTH, Tile, TileKind, split_bundle};
pub use vkey::{BadVerifierKey, KeyPurpose, VerifierKey, node_name, node_of};
