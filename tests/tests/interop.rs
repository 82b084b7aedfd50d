//! Tamper evidence, judged by code that is not ours: Go's `x/mod/sumdb`, PyPI's `pymerkle` and `securesystemslib`.
//! What is judged is what an outsider gets: files that `httt` wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use httt_feed::{AgencyCode, Audience, Lane, Sealer, SigningKey};
use httt_log::tlog::{SignedCheckpoint, VerifierKey, cosign, format_hash};
use httt_log::{Log, NewEvent, Options, Transaction};
use httt_tests::{Outcome, go_program, httt, python};
use httt_wire::bulletin::BulletinWithdrawn;
use httt_wire::directory::LogOpened;
use serde_json::json;

/// Entries of the log that is judged: two full tiles and a partial one.
const ENTRIES: u64 = 700;
/// PyPI packages, and the version whose answers were looked at.
const PACKAGES: [&str; 3] = ["pymerkle==7.0.0", "securesystemslib==1.6.0", "cryptography==50.0.2"];

/// A node's log, a witness, and what `httt` wrote of them.
struct Sample {
    dir: tempfile::TempDir,
    log: Log,
    /// An event's id.
    event: String,
    /// Checkpoint of an earlier size.
    old: SignedCheckpoint,
    witness: Sealer,
}

fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).expect("seed")
}

impl Sample {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let sealer = Arc::new(Sealer::new(code("H24"), key(1)));
        let (log, _) = Log::open(&dir.path().join("log"), sealer, Options::default()).expect("opens");
        let opened = LogOpened {
            member: "H24".into(),
            log_id: log.log_id().to_vec(),
            key: Some(key(1).public().to_wire()),
            software: "test".into(),
        };
        let local = Audience::One(code("H24"));
        log.commit(Transaction::append([NewEvent::of(local, Lane::Local, "log", &opened)])).await.expect("commit");
        let (mut event, mut old) = (String::new(), None);
        while log.len() < ENTRIES {
            let said = BulletinWithdrawn { bulletin: format!("b{}", log.len()), reason: "sai nội dung".into() };
            let new = NewEvent::of(Audience::All, Lane::Content, "bulletin/b", &said);
            if log.len() == 300 {
                event = new.id.to_string();
                old = Some(SignedCheckpoint::parse(&log.write_checkpoint().await.expect("writes")).expect("parse"));
            }
            log.commit(Transaction::append([new])).await.expect("commit");
        }
        let witness = Sealer::new(code("NDXP"), key(2));
        let sample = Self { dir, log, event, old: old.expect("checkpoint"), witness };
        let latest = SignedCheckpoint::parse(&sample.log.write_checkpoint().await.expect("writes")).expect("parse");
        sample.log.keep_cosigned(&sample.cosigned(&latest)).expect("keeps");
        sample
    }

    fn cosigned(&self, checkpoint: &SignedCheckpoint) -> SignedCheckpoint {
        let line = cosign(checkpoint, &self.witness, 1_760_000_000).expect("cosigns");
        let key = VerifierKey::cosigner(self.witness.origin(), self.witness.key().public()).expect("key");
        checkpoint.with_lines(&line, &[key]).expect("adds")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `httt` on the node's folder.
    fn httt(&self, args: &[&str]) -> Outcome {
        let place = |arg: &&str| if *arg == "DIR" { self.dir.path().display().to_string() } else { (*arg).to_owned() };
        httt(args.iter().map(place))
    }

    fn exported(&self) -> PathBuf {
        let out = self.path("out");
        let outcome = self.httt(&["log", "export-tiles", "DIR", out.to_str().expect("path")]);
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        out
    }

    /// The log's key, as `httt` prints it.
    fn vkey(&self) -> String {
        let outcome = self.httt(&["log", "vkey", "DIR"]);
        let line = outcome.stdout.lines().find_map(|line| line.strip_prefix("log "));
        line.unwrap_or_else(|| panic!("{outcome:#?}")).trim().to_owned()
    }

    fn witness_vkey(&self) -> String {
        VerifierKey::cosigner(self.witness.origin(), self.witness.key().public()).expect("key").to_string()
    }
}

fn run(program: &Path, args: &[&str]) -> Outcome {
    let output = Command::new(program).args(args).output().expect("starts");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Changes a byte of a file, sees that it is refused, and changes it back.
fn altered(path: &Path, at: usize, judge: impl Fn() -> Outcome) {
    let good = fs::read(path).expect("read");
    let mut bad = good.clone();
    bad[at] ^= 1;
    fs::write(path, bad).expect("write");
    let outcome = judge();
    assert_eq!(outcome.code, Some(1), "{} byte {at}: {outcome:#?}", path.display());
    fs::write(path, good).expect("write");
    assert_eq!(judge().code, Some(0), "{} as it was", path.display());
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(name)
}

#[tokio::test]
async fn go_verifies_checkpoints_tiles_and_proofs() {
    let program = go_program(&source("go/verify.go"));
    let sample = Sample::new().await;
    let (vkey, witness) = (sample.vkey(), sample.witness_vkey());
    let out = sample.exported();
    let go = |args: &[&str]| run(&program, &[&[vkey.as_str(), "-witness", &witness], args].concat());

    let folder = out.to_str().expect("path");
    let tiles = || go(&["tiles", folder]);
    let outcome = tiles();
    assert_eq!((outcome.code, outcome.stdout.trim()), (Some(0), "ok 700"), "{outcome:#?}");
    for (file, at) in [
        ("tile/0/000", 0),
        ("tile/0/001", 8_191),
        ("tile/0/002.p/188", 40),
        ("tile/1/000.p/2", 33),
        ("tile/entries/001", 500),
        ("tile/entries/002.p/188", 3),
        ("checkpoint", 10),
    ] {
        altered(&out.join(file), at, tiles);
    }
    let other = VerifierKey::log(&code("H24"), key(3).public()).expect("key").to_string();
    assert_eq!(run(&program, &[&other, "tiles", folder]).code, Some(1), "another key");
    let stranger = VerifierKey::cosigner(&code("H30"), key(4).public()).expect("key").to_string();
    assert_eq!(run(&program, &[&vkey, "-witness", &stranger, "tiles", folder]).code, Some(1), "no such witness");

    // The file that `httt audit prove` writes.
    let file = sample.path("event.tlog-proof");
    let name = file.to_str().expect("path");
    let outcome = sample.httt(&["audit", "prove", "DIR", &sample.event, "--output", name]);
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let outcome = go(&["proof", name]);
    assert_eq!((outcome.code, outcome.stdout.trim()), (Some(0), "ok 300 of 700"), "{outcome:#?}");
    let text = fs::read_to_string(&file).expect("read");
    for within in ["extra ", "index ", "\nhttt/H24\n"] {
        altered(&file, text.find(within).expect(within) + within.len() + 2, || go(&["proof", name]));
    }

    // That the log only grew, as a witness is shown it.
    let proof = sample.log.consistency_proof(300, ENTRIES).expect("proof");
    let hashes: String = proof.iter().map(|hash| format_hash(hash) + "\n").collect();
    let newest = fs::read_to_string(out.join("checkpoint")).expect("read");
    let (old, add) = (sample.path("old"), sample.path("add"));
    fs::write(&old, sample.cosigned(&sample.old).text()).expect("write");
    fs::write(&add, format!("old 300\n{hashes}\n{newest}")).expect("write");
    let grown = || go(&["grown", old.to_str().expect("path"), add.to_str().expect("path")]);
    let outcome = grown();
    assert_eq!((outcome.code, outcome.stdout.trim()), (Some(0), "ok 300 to 700"), "{outcome:#?}");
    altered(&add, "old 300\n".len() + 5, grown);
}

#[tokio::test]
async fn our_own_command_checks_what_it_proves_and_says_what_it_leaves_open() {
    let sample = Sample::new().await;
    let (vkey, witness) = (sample.vkey(), sample.witness_vkey());
    let file = sample.path("event.tlog-proof");
    let name = file.to_str().expect("path");
    assert_eq!(sample.httt(&["audit", "prove", "DIR", &sample.event, "-o", name]).code, Some(0));
    let check = |more: &[&str]| httt([&["audit", "check", name, "--json", "--key", &vkey], more].concat());

    let outcome = check(&["--witness", &witness, "--event", &sample.event]);
    let report = outcome.json();
    assert_eq!((outcome.code, &report["ok"], &report["origin_verified"]), (Some(0), &json!(true), &json!(true)));
    assert_eq!((&report["position"], &report["witnesses"]), (&json!(300), &json!(["httt/NDXP"])));
    assert_eq!(report["events"][0]["data"]["reason"], "sai nội dung");
    assert_eq!(
        report["not_checked"].as_array().map(Vec::len),
        Some(1),
        "revocation is never checked offline: {report:#}"
    );
    assert_eq!(check(&[]).json()["not_checked"].as_array().map(Vec::len), Some(2), "nor witnesses, unless given");

    // Not proven: exit 1, and why.
    let stranger = VerifierKey::cosigner(&code("H30"), key(4).public()).expect("key").to_string();
    let other_event = ["--event", "00000000-0000-7000-8000-000000000000"];
    let wrong_origin = ["--origin-key", &hex::encode(key(9).public().value())];
    for more in [&["--witness", stranger.as_str()][..], &other_event, &wrong_origin] {
        let outcome = check(more);
        assert_eq!((outcome.code, &outcome.json()["ok"]), (Some(1), &json!(false)), "{more:?}");
        assert!(outcome.json()["why"].as_str().is_some_and(|why| !why.is_empty()));
    }
    let either = check(&["--witness", &witness, "--witness", &stranger, "--quorum", "1"]);
    assert_eq!(either.code, Some(0), "one of two");
    altered(&file, 200, || check(&[]));
    // Wrong use.
    assert_eq!(httt(["audit", "check", name]).code, Some(2), "--key is needed");
    assert_eq!(httt(["audit", "check", name, "--key", &witness]).code, Some(1), "a cosigner's key");
    assert_eq!(sample.httt(&["audit", "prove", "DIR", "00000000-0000-7000-8000-000000000000"]).code, Some(1));
}

#[tokio::test]
async fn pymerkle_computes_the_same_roots_and_accepts_our_inclusion_proofs() {
    const SIZES: [u64; 11] = [1, 2, 3, 8, 100, 255, 256, 257, 511, 512, ENTRIES];
    let python = python(&PACKAGES);
    let sample = Sample::new().await;
    let out = sample.exported();
    let log = &sample.log;
    let hex_path = |path: Vec<httt_feed::Digest>| path.iter().map(ToString::to_string).collect::<Vec<_>>();
    let root = |size| log.root(size).expect("root").to_string();
    let (mut inclusion, mut consistency) = (vec![], vec![]);
    for size in SIZES {
        for index in SIZES.into_iter().map(|size| size - 1).filter(|index| *index < size) {
            inclusion.push(json!([index, size, hex_path(log.inclusion_proof(index, size).expect("proof"))]));
        }
        for old in SIZES.into_iter().filter(|old| *old < size) {
            consistency.push(json!([old, size, root(old), root(size)]));
        }
    }
    let roots: Vec<_> = SIZES.map(|size| json!([size, root(size)])).into();
    let told = json!({ "size": ENTRIES, "roots": roots, "inclusion": inclusion, "consistency": consistency });
    let file = sample.path("proofs.json");
    let judge = |told: &serde_json::Value| {
        fs::write(&file, told.to_string()).expect("write");
        let script = source("python/verify.py");
        let args =
            [script.as_path(), Path::new("merkle"), &out, &file].map(|path| path.to_str().expect("path").to_owned());
        run(&python, &args.each_ref().map(String::as_str))
    };
    let outcome = judge(&told);
    let counts = format!("ok {} {} {}", roots.len(), inclusion.len(), consistency.len());
    assert_eq!((outcome.code, outcome.stdout.trim()), (Some(0), counts.as_str()), "{outcome:#?}");

    let flip = |text: &str| if text.starts_with('0') { text.replacen('0', "1", 1) } else { format!("0{}", &text[1..]) };
    for (kind, at) in [("roots", 4), ("inclusion", inclusion.len() - 2), ("consistency", consistency.len() - 1)] {
        let mut bad = told.clone();
        let last = bad[kind][at].as_array_mut().expect("row").last_mut().expect("value");
        let hash = if last.is_array() { &mut last[0] } else { last };
        *hash = json!(flip(hash.as_str().expect("hash")));
        assert_eq!(judge(&bad).code, Some(1), "a wrong hash in {kind}");
    }
}

#[tokio::test]
async fn securesystemslib_verifies_our_batches_as_dsse_envelopes() {
    let python = python(&PACKAGES);
    let sample = Sample::new().await;
    let outcome = sample.httt(&["log", "dump", "--dsse", "DIR"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let file = sample.path("envelopes");
    fs::write(&file, &outcome.stdout).expect("write");
    let judge = |seed: u8| {
        let (script, key) = (source("python/verify.py"), hex::encode(key(seed).public().value()));
        let names = [script.as_path(), &file].map(|path| path.to_str().expect("path"));
        run(&python, &[names[0], "dsse", names[1], &key])
    };
    let good = judge(1);
    assert_eq!((good.code, good.stdout.trim()), (Some(0), "ok 700"), "{good:#?}");
    assert_eq!(judge(2).code, Some(1), "another key");
    // One character of a payload, and of a signature.
    for field in [r#"{"payload":""#, r#""sig":""#] {
        let at = outcome.stdout.find(field).expect(field) + field.len() + 8;
        let mut bad = outcome.stdout.clone().into_bytes();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        fs::write(&file, bad).expect("write");
        assert_eq!(judge(1).code, Some(1), "{field}");
    }
}

#[test]
fn cryptography_agrees_with_the_test_vectors() {
    let python = python(&PACKAGES);
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let judge = |folder: &Path| {
        let script = source("python/verify.py");
        let names = [script.as_path(), folder].map(|path| path.to_str().expect("path"));
        run(&python, &[names[0], "vectors", names[1]])
    };
    let good = judge(&vectors);
    assert_eq!((good.code, good.stdout.trim()), (Some(0), "ok 12 6"), "{good:#?}");
    // A signature of each file with its last digit changed.
    let folder = tempfile::tempdir().expect("dir");
    for file in ["keys.json", "batches.json"] {
        for name in ["keys.json", "batches.json"] {
            fs::copy(vectors.join(name), folder.path().join(name)).expect("copy");
        }
        let text = fs::read_to_string(vectors.join(file)).expect("vectors");
        let at = text.rfind(r#""signature": ""#).expect("a signature") + 30;
        let mut bad = text.into_bytes();
        bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
        fs::write(folder.path().join(file), bad).expect("write");
        assert_eq!(judge(folder.path()).code, Some(1), "{file}");
    }
}
