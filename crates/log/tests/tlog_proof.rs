//! Self-contained proofs: made from a folder, checked with a key and nothing else.

mod common;

use std::fs;

use common::{Foreign, append, open, sealer};
use httt_feed::Sealer;
use httt_log::tlog::{
    COSIGNED_FILE, MAX_PROOF_FILE_BYTES, ProofFile, ProofFileError, ProofKeys, ProveError, SignedCheckpoint,
    VerifierKey, cosign, prove_event,
};
use httt_log::{Log, Transaction};
use proptest::prelude::*;
use uuid::Uuid;

fn keys() -> ProofKeys {
    let node = sealer("H24", 1);
    ProofKeys { log: log_key(&node), witnesses: vec![], quorum: 0, origin: None }
}

fn log_key(node: &Sealer) -> VerifierKey {
    VerifierKey::log(node.origin(), node.key().public()).expect("key")
}

fn witness_key(node: &Sealer) -> VerifierKey {
    VerifierKey::cosigner(node.origin(), node.key().public()).expect("key")
}

/// 40 entries: own ones with ids 0, 2, 4…, and copies of another origin's.
async fn sample(dir: &std::path::Path) -> Log {
    let log = open(dir);
    let mut foreign = Foreign::new("TW→*/content", 9);
    for id in 0..20 {
        log.commit(append("s", id * 2, &format!("text {id}"))).await.expect("commit");
        log.commit(Transaction::copy(vec![foreign.next()])).await.expect("commit");
    }
    log
}

#[tokio::test]
async fn every_event_is_provable_while_the_node_runs_and_after() {
    let dir = tempfile::tempdir().expect("dir");
    let log = sample(dir.path()).await;
    assert!(matches!(prove_event(dir.path(), Uuid::from_u128(0)), Err(ProveError::NoCheckpoint)));
    log.write_checkpoint().await.expect("checkpoint");
    let last = append("s", 1_000, "later");
    log.commit(last).await.expect("commit");
    let uncovered = prove_event(dir.path(), Uuid::from_u128(1_000));
    assert!(matches!(uncovered, Err(ProveError::NotCovered { position: 40, size: 40 })), "{uncovered:?}");
    assert!(matches!(prove_event(dir.path(), Uuid::from_u128(77)), Err(ProveError::NoEvent { gone: 0, .. })));

    for entry in log.read(0, 40, usize::MAX).expect("read") {
        let event = entry.events().next().expect("one");
        let proof = prove_event(dir.path(), event.id()).expect("prove");
        let text = proof.to_string();
        let read = ProofFile::parse(&text).expect("parse");
        assert_eq!(read, proof);
        let checked = read.check(&keys()).expect("check");
        assert_eq!((checked.entry.position, &checked.entry.bytes), (entry.position, &entry.bytes));
        assert_eq!((checked.size, checked.root), (40, log.root(40).expect("root")));
        // The key of this log vouches for what the log's node said, not for what it copied.
        assert_eq!(checked.origin_verified, entry.feed.origin.as_str() == "H24");
        // The path is the one that the running log gives.
        let path = log.inclusion_proof(entry.position, 40).expect("proof");
        assert_eq!(ProofFile::new(entry.position, entry.bytes.clone(), path, read.checkpoint().clone()), proof);
    }
    log.close().await;
    prove_event(dir.path(), Uuid::from_u128(1_000))
        .expect("covered by the last checkpoint")
        .check(&keys())
        .expect("ok");
}

#[tokio::test]
async fn what_is_not_proven_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let log = sample(dir.path()).await;
    log.write_checkpoint().await.expect("checkpoint");
    let proof = prove_event(dir.path(), Uuid::from_u128(6)).expect("prove");
    let (index, checkpoint) = (proof.index(), proof.checkpoint().clone());
    let path = log.inclusion_proof(index, 40).expect("proof");
    let entries = log.read(0, 40, usize::MAX).expect("read");
    let entry = entries[index as usize].bytes.clone();
    let check = |proof: ProofFile| proof.check(&keys());

    // Another entry, another place, a path cut or lengthened.
    let other = ProofFile::new(index, entries[0].bytes.clone(), path.clone(), checkpoint.clone());
    assert!(matches!(check(other), Err(ProofFileError::NotIncluded(_))));
    let elsewhere = ProofFile::new(index + 1, entry.clone(), path.clone(), checkpoint.clone());
    assert!(matches!(check(elsewhere), Err(ProofFileError::NotIncluded(_))));
    let beyond = ProofFile::new(40, entry.clone(), path.clone(), checkpoint.clone());
    assert!(matches!(check(beyond), Err(ProofFileError::NotIncluded(_))));
    let cut = ProofFile::new(index, entry.clone(), path[1..].to_vec(), checkpoint.clone());
    assert!(matches!(check(cut), Err(ProofFileError::NotIncluded(_))));
    // Another key, another log, a cosigner's key where the log's is wanted.
    let with = |log: VerifierKey| proof.check(&ProofKeys { log, ..keys() });
    assert_eq!(with(log_key(&sealer("H24", 2))).expect_err("key"), ProofFileError::NotSigned);
    assert!(matches!(with(log_key(&sealer("H25", 1))), Err(ProofFileError::OtherLog { .. })));
    assert_eq!(with(witness_key(&sealer("H24", 1))).expect_err("type"), ProofFileError::NotSigned);
    // The origin's own key.
    let origin = |seed| ProofKeys { origin: Some(sealer("H24", seed).key().public().clone()), ..keys() };
    assert!(proof.check(&origin(1)).expect("right key").origin_verified);
    assert_eq!(proof.check(&origin(3)).expect_err("wrong key"), ProofFileError::BatchNotSigned);
    // No entry in the file.
    let text = proof.to_string();
    let bare: String = text.lines().filter(|line| !line.starts_with("extra")).map(|line| format!("{line}\n")).collect();
    assert_eq!(
        ProofFile::parse(&bare).expect("a tlog-proof").check(&keys()).expect_err("bare"),
        ProofFileError::NoEntry
    );
}

#[tokio::test]
async fn witnesses_are_counted_and_a_quorum_is_kept() {
    let dir = tempfile::tempdir().expect("dir");
    let log = sample(dir.path()).await;
    let plain = SignedCheckpoint::parse(&log.write_checkpoint().await.expect("checkpoint")).expect("parse");
    let (one, two, three) = (sealer("NDXP", 11), sealer("TW", 12), sealer("H30", 13));
    let witnesses = [&one, &two, &three].map(|node| witness_key(node));
    let lines = cosign(&plain, &one, 1).expect("cosign") + &cosign(&plain, &two, 2).expect("cosign");
    let cosigned = plain.with_lines(&lines, &witnesses).expect("add");
    fs::write(dir.path().join(COSIGNED_FILE), cosigned.text()).expect("write");
    // The cosigned checkpoint is used as long as it covers the event.
    log.commit(append("s", 1_000, "later")).await.expect("commit");
    log.write_checkpoint().await.expect("checkpoint");
    let proof = prove_event(dir.path(), Uuid::from_u128(6)).expect("prove");
    assert_eq!(proof.checkpoint(), &cosigned);
    assert_eq!(prove_event(dir.path(), Uuid::from_u128(1_000)).expect("prove").checkpoint().size(), 41);

    let check =
        |witnesses: &[VerifierKey], quorum| proof.check(&ProofKeys { witnesses: witnesses.to_vec(), quorum, ..keys() });
    assert_eq!(check(&witnesses, 2).expect("two").witnesses, ["httt/NDXP", "httt/TW"]);
    assert_eq!(check(&witnesses, 3).expect_err("three"), ProofFileError::Quorum { got: 2, wanted: 3 });
    assert_eq!(check(&witnesses[2..], 1).expect_err("H30"), ProofFileError::Quorum { got: 0, wanted: 1 });
    // A witness named twice is one, and the log's own signature is no witness's.
    let twice = [witnesses[0].clone(), witnesses[0].clone(), keys().log];
    assert_eq!(check(&twice, 2).expect_err("one"), ProofFileError::Quorum { got: 1, wanted: 2 });
    // A witness's line under the wrong key is an error, not a miss.
    let forged = proof.to_string().replace("httt/NDXP", "httt/H30");
    let forged = ProofFile::parse(&forged).expect("shape");
    assert!(forged.check(&ProofKeys { witnesses: witnesses.to_vec(), quorum: 1, ..keys() }).is_ok(), "an unknown line");
}

fn sample_text() -> (String, ProofFile) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    runtime.block_on(async {
        let dir = tempfile::tempdir().expect("dir");
        let log = sample(dir.path()).await;
        log.write_checkpoint().await.expect("checkpoint");
        let proof = prove_event(dir.path(), Uuid::from_u128(10)).expect("prove");
        log.close().await;
        (proof.to_string(), proof)
    })
}

#[test]
fn no_altered_byte_makes_it_prove_something_else() {
    let (text, proof) = sample_text();
    let truth = proof.check(&keys()).expect("check");
    let mut refused = 0;
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= if bytes[at] == b'\n' { b'\n' ^ b' ' } else { 1 };
        let Ok(altered) = String::from_utf8(bytes) else { continue };
        match ProofFile::parse(&altered).and_then(|proof| proof.check(&keys())) {
            Err(_) => refused += 1,
            Ok(checked) => {
                assert_eq!((checked.entry.position, &checked.entry.bytes), (truth.entry.position, &truth.entry.bytes));
                assert_eq!((checked.size, checked.root), (truth.size, truth.root));
            }
        }
    }
    assert!(refused > text.len() * 9 / 10, "{refused} of {}", text.len());
}

#[test]
fn files_are_read_strictly_and_up_to_a_limit() {
    let (text, _) = sample_text();
    for (from, to) in [
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
        ("index ", "index 0"),
        ("index ", "index +"),
        ("index ", "indx "),
        ("extra ", "extra !"),
        ("\n\nhttt/", "\nhttt/"),
    ] {
        let bad = text.replacen(from, to, 1);
        assert_ne!(bad, text);
        assert!(matches!(ProofFile::parse(&bad), Err(ProofFileError::Malformed { .. })), "{from:?} → {to:?}");
    }
    assert!(ProofFile::parse(&text[..text.len() - 1]).is_err(), "cut short");
    let hash = "A".repeat(43) + "=\n";
    let long = text.replacen("\n\n", &format!("\n{}\n", hash.repeat(64)), 1);
    assert!(matches!(ProofFile::parse(&long), Err(ProofFileError::Malformed { what: "no path is so long", .. })));
    let huge = text.clone() + &"x".repeat(MAX_PROOF_FILE_BYTES);
    assert_eq!(ProofFile::parse(&huge), Err(ProofFileError::TooLong(huge.len())));
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(
        text in "(c2sp.org/tlog-proof@v1\n)?(extra [A-Za-z0-9=]{0,9}\n)?(index [0-9]{1,21}\n)?([A-Za-z0-9+/=]{40,45}\n){0,3}\n?\\PC{0,60}",
    ) {
        if let Ok(read) = ProofFile::parse(&text) {
            prop_assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn a_damaged_file_is_read_without_panic(cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        use std::sync::OnceLock;
        static TEXT: OnceLock<String> = OnceLock::new();
        let mut bytes = TEXT.get_or_init(|| sample_text().0).clone().into_bytes();
        for (at, byte) in cuts {
            let at = at.index(bytes.len());
            if byte == 0 { bytes.truncate(at.max(1)) } else { bytes[at] = byte }
        }
        if let Ok(read) = ProofFile::parse(&String::from_utf8_lossy(&bytes)) {
            let _ = read.check(&keys());
        }
    }
}
