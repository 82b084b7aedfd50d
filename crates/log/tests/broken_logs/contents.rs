//! Somebody with the disk in his hands, who makes every checksum, marker and root right again. Where the checkpoint
//! vouches he is found when the log is opened; behind it only the audit finds him.

use std::path::Path;

use httt_wire::Message as _;
use httt_wire::feed::{Batch, SealedBatch};

use crate::common::Foreign;
use crate::format::{Chunk, Whole};
use crate::healthy::Healthy;
use crate::tails::stale_checkpoint;
use crate::{Case, Opens};

fn decoded(bytes: &[u8]) -> (SealedBatch, Batch) {
    let sealed = SealedBatch::decode(bytes).expect("sealed batch");
    let batch = Batch::decode(sealed.body.clone()).expect("batch");
    (sealed, batch)
}

/// A forger's target: a batch behind the older checkpoint, and where it is.
struct Target {
    position: usize,
    chunk: u32,
    offset: u64,
}

/// The first batch of `origin` on `lane` after the older checkpoint that has another after it in its feed.
fn target(healthy: &Healthy, origin: &str) -> Target {
    let count = std::fs::read_dir(healthy.now.dir.join("chunks")).expect("chunks").count() as u32;
    for number in 0..count {
        for frame in Chunk::read(&healthy.now.dir, number).frames {
            let late = frame.kind == crate::format::ENTRY && frame.position > healthy.older.entries;
            if late && decoded(&frame.payload).1.origin == origin {
                return Target { position: frame.position as usize, chunk: number, offset: frame.offset as u64 };
            }
        }
    }
    panic!("no batch of {origin}");
}

#[tokio::test]
async fn what_only_the_audit_finds() {
    let healthy = Healthy::new().await;
    let at = target(&healthy, "TW");
    let rewrite = |change: &dyn Fn(&mut Whole)| {
        let mut whole = Whole::read(&healthy.now.dir);
        change(&mut whole);
        whole
    };
    let sealed_by = |seed: u8| {
        let mut whole = Whole::read(&healthy.now.dir);
        let (_, batch) = decoded(whole.entry(at.position));
        let mut forger = Foreign::new("TW→*/content", seed);
        let previous = httt_feed::Digest::from_slice(&batch.previous).expect("digest");
        forger.head = Some(httt_feed::Head { sequence: batch.sequence - 1, digest: previous });
        (forger, batch)
    };

    let bad_signature = rewrite(&|whole| {
        let (mut sealed, _) = decoded(whole.entry(at.position));
        sealed.signature.as_mut().expect("signature").value[10] ^= 1;
        *whole.entry(at.position) = sealed.encode_to_vec();
    });
    // What is not the origin's says nothing of its streams, so that the next version is one too many.
    assert_eq!(audited(&healthy, &at, &bad_signature).await, ["does not verify", "has version"]);

    // Signed by a key that the directory does not give this origin.
    let (mut forger, batch) = sealed_by(66);
    let forged = forger.seal(batch.events.clone());
    let by_another = rewrite(&|whole| *whole.entry(at.position) = forged.bytes().to_vec());
    let found = audited(&healthy, &at, &by_another).await;
    assert_eq!(found, ["TW has no key", "has version"], "the digest of the body is the same, so the chain holds");

    // The origin itself told two stories: both are rightly signed, and the next batch follows the other one.
    let (mut liar, batch) = sealed_by(8);
    let mut events = batch.events.clone();
    events[0].data = "another story".into();
    let other = liar.seal(events);
    let forked = rewrite(&|whole| *whole.entry(at.position) = other.bytes().to_vec());
    assert_eq!(audited(&healthy, &at, &forked).await, ["does not name the batch before it"]);

    // A batch taken out.
    let gap = rewrite(&|whole| whole.remove(at.position));
    assert_eq!(
        audited(&healthy, &at, &gap).await,
        ["is next", "has version"],
        "the feed has a gap, and so has its stream"
    );

    // A batch twice: the origin did not say it twice.
    let twice = rewrite(&|whole| {
        let bytes = whole.entry(at.position).clone();
        let group = whole.chunks.iter_mut().flatten().find(|group| group.contains(&bytes)).expect("group");
        group.push(bytes);
    });
    assert_eq!(audited(&healthy, &at, &twice).await, ["is next", "has version"]);

    // A stream version left out by its own origin.
    let (mut liar, batch) = sealed_by(8);
    let mut events = batch.events.clone();
    events[0].version += 1;
    let skipping = liar.seal(events);
    let skipped = rewrite(&|whole| *whole.entry(at.position) = skipping.bytes().to_vec());
    let found = audited(&healthy, &at, &skipped).await;
    assert_eq!(found, ["has version", "does not name the batch before it", "has version"], "and what followed it");

    // Somebody nobody enrolled.
    let stranger = Foreign::new("H99→TW/status", 7).next();
    let foreign = rewrite(&|whole| {
        whole.chunks.iter_mut().flatten().last().expect("group").push(stranger.bytes().to_vec());
    });
    assert_eq!(audited(&healthy, &at, &foreign).await, ["H99 is not a member"]);
}

/// Words the audit's findings are told by.
const WORDS: [&str; 7] = [
    "it says the root",
    "does not verify",
    "TW has no key",
    "does not name the batch before it",
    "has version",
    "is next",
    "H99 is not a member",
];

/// What the audit of a rewritten log finds, each by the first of `WORDS` that it has; opening it must succeed.
async fn audited(healthy: &Healthy, at: &Target, whole: &Whole) -> Vec<&'static str> {
    let dir = healthy.scratch();
    crate::common::restore_dir(&healthy.now.dir, &dir);
    std::fs::remove_dir_all(dir.join("index")).expect("index");
    whole.write(&dir);
    stale_checkpoint(healthy, &dir);
    let found = words(&dir, at);
    let (log, report) = crate::common::try_open(&dir).expect("what only the audit finds");
    assert_eq!((report.entries, report.cut), (whole.entries(), None));
    log.close().await;
    found
}

fn words(dir: &Path, at: &Target) -> Vec<&'static str> {
    let report = httt_log::audit(dir, httt_log::AuditOptions::default()).expect("audit");
    // Nothing before the place that was changed is blamed.
    assert!(report.findings.iter().all(|finding| finding.position >= at.position as u64), "{:?}", report.findings);
    let word = |what: &str| WORDS.into_iter().find(|word| what.contains(word));
    report.findings.iter().map(|finding| word(&finding.what).unwrap_or_else(|| panic!("{finding:?}"))).collect()
}

#[tokio::test]
async fn what_opening_finds() {
    let healthy = Healthy::new().await;
    let size = healthy.now.entries;
    let at = target(&healthy, "TW");
    // The same bad signature where the checkpoint vouches.
    let vouched = |dir: &Path| {
        let mut whole = Whole::read(dir);
        let (mut sealed, _) = decoded(whole.entry(at.position));
        sealed.signature.as_mut().expect("signature").value[10] ^= 1;
        *whole.entry(at.position) = sealed.encode_to_vec();
        whole.write(dir);
    };
    let case = Case::new("a vouched batch", Opens::RootDiffers { size }, vec![], vouched);
    case.check_damage(&healthy, at.chunk, at.offset, at.position as u64).await;
    let dir = healthy.scratch();
    assert_eq!(words(&dir, &at), ["does not verify", "has version", "it says the root"]);
    // What is no batch at all cannot be indexed.
    let nonsense = |dir: &Path| {
        let mut whole = Whole::read(dir);
        *whole.entry(at.position) = b"nonsense".to_vec();
        whole.write(dir);
        stale_checkpoint(&healthy, dir);
    };
    let opens =
        Opens::Damaged { chunk: at.chunk, offset: at.offset, position: at.position as u64, what: "no sealed batch" };
    Case::new("no batch", opens, vec![], nonsense).check_opening(&healthy).await;
}
