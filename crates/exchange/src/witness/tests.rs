//! The rule: whatever is brought, what is cosigned is one history.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use httt_feed::{AgencyCode, SigningKey};
use proptest::prelude::*;
use tlog_tiles::Hash;

use super::*;

/// A log of small numbers, and every hash of its tree.
#[derive(Clone, Default)]
struct Tree {
    leaves: u64,
    hashes: Vec<Hash>,
}

impl tlog_tiles::HashReader for Tree {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.hashes[*index as usize]).collect())
    }
}

impl Tree {
    fn push(&mut self, leaf: u8) {
        let added = tlog_tiles::stored_hashes(self.leaves, &[leaf], self).expect("hashes");
        self.hashes.extend(added);
        self.leaves += 1;
    }

    fn of(leaves: &[u8]) -> Self {
        let mut tree = Self::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree
    }

    fn root(&self, size: u64) -> Digest {
        Digest(tlog_tiles::tree_hash(size, self).expect("root").0)
    }

    fn proof(&self, old: u64) -> Vec<Digest> {
        let proof = if old == 0 { Ok(vec![]) } else { tlog_tiles::prove_tree(self.leaves, old, self) };
        proof.map(|proof| proof.into_iter().map(|hash| Digest(hash.0)).collect()).unwrap_or_default()
    }
}

fn signing(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).expect("seed")
}

fn keys(seed: u8) -> Vec<VerifierKey> {
    let code = AgencyCode::new("H24").expect("code");
    vec![VerifierKey::log(&code, signing(seed).public()).expect("key")]
}

fn checkpoint(size: u64, root: Digest, seed: u8) -> SignedCheckpoint {
    let body = format!("httt/H24\n{size}\n{}\n", format_hash(&root));
    let mut line = keys(seed)[0].id().to_be_bytes().to_vec();
    line.extend(signing(seed).sign(body.as_bytes()));
    let text = format!("{body}\n— httt/H24 {}\n", BASE64_STANDARD.encode(line));
    SignedCheckpoint::parse(&text).expect("checkpoint")
}

fn request(tree: &Tree, old: u64) -> AddCheckpoint {
    AddCheckpoint { old, proof: tree.proof(old), checkpoint: checkpoint(tree.leaves, tree.root(tree.leaves), 1) }
}

fn seen(tree: &Tree) -> Seen {
    Seen { size: tree.leaves, root: tree.root(tree.leaves) }
}

#[test]
fn each_refusal_has_the_status_of_the_specification() {
    let (five, nine) = (Tree::of(&[1; 5]), Tree::of(&[1; 9]));
    let other = Tree::of(&[1, 2, 1, 1, 1]);
    let held = Some(seen(&five));
    let judge = |seen, request: &AddCheckpoint| judge(seen, request, &keys(1));
    let status = |result: Result<(), WitnessRefusal>| result.expect_err("refused").status();

    assert_eq!(judge(None, &request(&five, 0)), Ok(()));
    assert_eq!(judge(held, &request(&nine, 5)), Ok(()));
    assert_eq!(judge(held, &request(&five, 5)), Ok(()), "cosigned again");
    assert_eq!(judge(None, &request(&Tree::default(), 0)), Ok(()), "an empty log");

    assert_eq!(judge(held, &request(&nine, 0)), Err(WitnessRefusal::Stale { size: 5 }));
    assert_eq!(WitnessRefusal::Stale { size: 5 }.body(), "5\n");
    assert_eq!(judge(None, &request(&nine, 5)), Err(WitnessRefusal::Stale { size: 0 }));
    let backwards = AddCheckpoint { old: 9, ..request(&five, 5) };
    assert_eq!(judge(Some(seen(&nine)), &backwards), Err(WitnessRefusal::OldBeyondNew { old: 9, size: 5 }));
    assert_eq!(status(judge(Some(seen(&nine)), &backwards)), 400);
    // One size, two roots; whatever old size is named.
    for old in [0, 5] {
        assert_eq!(judge(held, &request(&other, old)), Err(WitnessRefusal::Forked { size: 5 }));
    }
    assert_eq!(status(judge(held, &request(&other, 5))), 409);
    // A longer log with another beginning.
    let longer = Tree::of(&[1, 2, 1, 1, 1, 1, 1]);
    assert_eq!(status(judge(held, &request(&longer, 5))), 422);
    let padded = AddCheckpoint { proof: vec![Digest([0; 32])], ..request(&five, 0) };
    assert_eq!(status(judge(None, &padded)), 422, "a proof from nothing is empty");
    let size_of_nothing = AddCheckpoint { old: 0, proof: vec![], checkpoint: checkpoint(0, Digest([7; 32]), 1) };
    assert_eq!(status(judge(None, &size_of_nothing)), 409, "there is one empty log");
    // Another key, an unknown log.
    let signed_by_other = AddCheckpoint { checkpoint: checkpoint(5, five.root(5), 2), ..request(&five, 0) };
    assert_eq!(judge(None, &signed_by_other), Err(WitnessRefusal::NotSigned));
    assert_eq!(status(judge(None, &signed_by_other)), 403);
    assert_eq!(status(super::judge(None, &request(&five, 0), &[])), 404);
}

#[test]
fn bodies_are_read_strictly() {
    let tree = Tree::of(&[1; 9]);
    let text = request(&tree, 5).to_string();
    assert_eq!(AddCheckpoint::parse(&text).expect("parse"), request(&tree, 5));
    for (from, to) in
        [("old 5", "old 05"), ("old 5", "old -5"), ("old 5", "5"), ("old 5\n", "old 5\n\n"), ("\n\n", "\n")]
    {
        let bad = text.replacen(from, to, 1);
        assert!(matches!(AddCheckpoint::parse(&bad), Err(WitnessRefusal::Malformed(_))), "{from:?} → {to:?}");
    }
    let line = format_hash(&Digest([1; 32])) + "\n";
    let most = text.replacen("old 5\n", &format!("old 5\n{}", line.repeat(MAX_PROOF_HASHES)), 1);
    assert!(AddCheckpoint::parse(&most).is_err(), "{} lines", MAX_PROOF_HASHES + request(&tree, 5).proof.len());
    assert!(AddCheckpoint::parse(&("old 0\n\n".to_owned() + &"x".repeat(MAX_ADD_CHECKPOINT_BYTES))).is_err());
}

/// What somebody who holds the log's key brings: a branch of its history, cut somewhere, with a proof from anywhere.
#[derive(Debug, Clone)]
struct Try {
    leaves: Vec<u8>,
    old: u64,
    honest_old: bool,
    spoil: Option<(usize, u8)>,
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    // Few values, so that branches agree for a while.
    let leaves = proptest::collection::vec(prop_oneof![9 => Just(0_u8), 1 => 1..3_u8], 0..24);
    let spoil = proptest::option::weighted(0.2, (0..8_usize, any::<u8>()));
    let one = (leaves, 0..24_u64, prop::bool::weighted(0.8), spoil).prop_map(|(leaves, old, honest_old, spoil)| Try {
        leaves,
        old,
        honest_old,
        spoil,
    });
    proptest::collection::vec(one, 1..30)
}

proptest! {
    #[test]
    fn what_is_cosigned_is_one_history(tries in tries()) {
        let mut held: Option<Seen> = None;
        let mut history: Vec<u8> = Vec::new();
        for attempt in tries {
            let tree = Tree::of(&attempt.leaves);
            let old = if attempt.honest_old { held.map_or(0, |held| held.size) } else { attempt.old };
            let mut request = AddCheckpoint { old, ..request(&tree, old.min(tree.leaves)) };
            if let Some((at, byte)) = attempt.spoil
                && let Some(hash) = request.proof.get_mut(at)
            {
                hash.0[0] ^= byte;
            }
            let continues = attempt.leaves.starts_with(&history);
            match judge(held, &request, &keys(1)) {
                Ok(()) => {
                    prop_assert!(continues, "{:?} after {:?}", attempt.leaves, history);
                    held = Some(seen(&tree));
                    history = attempt.leaves;
                }
                Err(refusal) => {
                    // An honest log is never called a liar.
                    let honest = continues && request.proof == tree.proof(old.min(tree.leaves));
                    prop_assert!(!(honest && refusal.is_evidence()), "{refusal}");
                    prop_assert!(!(honest && old == held.map_or(0, |held| held.size)), "{refusal}");
                }
            }
        }
    }

    #[test]
    fn any_body_is_read_without_panic(
        text in "(old [0-9]{1,21}\n)?([A-Za-z0-9+/=]{40,45}\n){0,3}\n?(httt/H24\n)?([0-9]{1,21}\n)?\\PC{0,80}",
        seed in 0..3_u8,
    ) {
        if let Ok(read) = AddCheckpoint::parse(&text) {
            prop_assert_eq!(read.to_string(), text);
            let _ = judge(None, &read, &keys(seed));
        }
    }

    #[test]
    fn a_damaged_body_is_read_without_panic(cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = request(&Tree::of(&[1; 9]), 5).to_string().into_bytes();
        for (at, byte) in cuts {
            let at = at.index(bytes.len());
            if byte == 0 { bytes.truncate(at.max(1)) } else { bytes[at] = byte }
        }
        if let Ok(read) = AddCheckpoint::parse(&String::from_utf8_lossy(&bytes)) {
            let held = seen(&Tree::of(&[1; 5]));
            if judge(Some(held), &read, &keys(1)).is_ok() {
                prop_assert_eq!(read.checkpoint.root(), Tree::of(&[1; 9]).root(9), "only the truth is cosigned");
            }
        }
    }
}
