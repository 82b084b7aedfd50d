//! Checkpoints that are old, of another log, forged, or nonsense.

use std::fs;
use std::path::Path;

use crate::common::{overwrite, restore_dir, sealer};
use crate::healthy::{Healthy, Moment};
use crate::{Case, Find, Opens, find, of_checkpoint};

fn checkpoint(moment: &Moment) -> String {
    fs::read_to_string(moment.dir.join("checkpoint")).expect("checkpoint")
}

#[tokio::test]
async fn every_broken_checkpoint() {
    let healthy = Healthy::new().await;
    let (older, now) = (checkpoint(&healthy.older), checkpoint(&healthy.now));
    let size = healthy.now.entries;
    let replaced = |text: String| move |dir: &Path| overwrite(&dir.join("checkpoint"), text.as_bytes());
    // A checkpoint that is no note says nothing of its size.
    let nonsense = |what| vec![of_checkpoint(0, what)];
    let another_key = {
        let other = tempfile::tempdir().expect("dir");
        let (log, _) = httt_log::Log::open(other.path(), sealer("H24", 77), crate::common::options()).expect("open");
        log.write_checkpoint().await.expect("checkpoint")
    };
    let lines: Vec<&str> = now.lines().collect();
    let signature = now.rfind(' ').expect("signature") + 20;
    let mut flipped = now.clone().into_bytes();
    flipped[signature] = if flipped[signature] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).expect("text");

    let cases: Vec<Case<'_>> = vec![
        Case::new("an older one", Opens::Whole, vec![], replaced(older)),
        Case::new("none", Opens::Whole, vec![], |dir: &Path| {
            fs::remove_file(dir.join("checkpoint")).expect("checkpoint");
        }),
        Case::new(
            "one of a longer log",
            Opens::Lost { entries: size, checkpoint: healthy.newer.entries },
            vec![of_checkpoint(healthy.newer.entries, "it vouches for")],
            replaced(checkpoint(&healthy.newer)),
        ),
        Case::new(
            "one of another log of this node",
            Opens::RootDiffers { size: healthy.again.entries },
            vec![of_checkpoint(healthy.again.entries, "it says the root")],
            replaced(checkpoint(&healthy.again)),
        ),
        Case::new(
            "one of another node",
            Opens::Checkpoint("it is of httt/H25"),
            vec![of_checkpoint(healthy.stranger.entries, "no key of this node")],
            replaced(checkpoint(&healthy.stranger)),
        ),
        // The node's key may have been changed since: what it says is compared all the same, and here it is right.
        Case::new(
            "one by another key",
            Opens::Whole,
            vec![of_checkpoint(0, "no key of this node")],
            replaced(another_key),
        ),
        Case::new(
            "its size changed",
            Opens::Checkpoint("invalid signature"),
            vec![of_checkpoint(size - 1, "invalid signature")],
            replaced(now.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size - 1), 1)),
        ),
        Case::new(
            "its signature changed",
            Opens::Checkpoint("invalid signature"),
            vec![of_checkpoint(size, "invalid signature")],
            replaced(flipped),
        ),
        Case::new("empty", Opens::Checkpoint(""), nonsense("the checkpoint"), replaced(String::new())),
        Case::new("garbage", Opens::Checkpoint(""), nonsense("the checkpoint"), replaced("garbage\n".repeat(9))),
        Case::new("no text", Opens::Checkpoint(""), nonsense("the checkpoint"), |dir: &Path| {
            overwrite(&dir.join("checkpoint"), &[0xFF; 300]);
        }),
        Case::new("a megabyte", Opens::Checkpoint(""), nonsense("the checkpoint"), replaced("x".repeat(1 << 20))),
        Case::new(
            "cut after its text",
            Opens::Checkpoint(""),
            nonsense("the checkpoint"),
            replaced(format!("{}\n\n", lines[..3].join("\n"))),
        ),
    ];
    for case in cases {
        case.check(&healthy).await;
    }
}

#[tokio::test]
async fn other_logs_altogether() {
    let healthy = Healthy::new().await;
    let swap = |from: &Moment, dir: &Path| {
        fs::remove_dir_all(dir.join("chunks")).expect("chunks");
        restore_dir(&from.dir.join("chunks"), &dir.join("chunks"));
    };
    // The chunks of the same log as it was, beside the checkpoint of now.
    let opens = Opens::Lost { entries: healthy.older.entries, checkpoint: healthy.now.entries };
    let finds = vec![of_checkpoint(healthy.now.entries, "it vouches for")];
    Case::new("rolled back", opens, finds, |dir: &Path| swap(&healthy.older, dir)).check(&healthy).await;
    // Another node's chunks beside our checkpoint.
    let opens = Opens::Lost { entries: healthy.stranger.entries, checkpoint: healthy.now.entries };
    let finds = vec![of_checkpoint(healthy.now.entries, "no key of this node")];
    Case::new("another node's chunks", opens, finds, |dir: &Path| swap(&healthy.stranger, dir)).check(&healthy).await;
    // Another node's whole log.
    let opens = Opens::Checkpoint("it is of httt/H25");
    let whole = |dir: &Path| restore_dir(&healthy.stranger.dir, dir);
    Case::new("another node's log", opens, vec![], whole).beside_its_index().check(&healthy).await;
    // No chunk at all.
    let opens = Opens::Lost { entries: 0, checkpoint: healthy.now.entries };
    let none = Find { file: "chunks".into(), ..find(0, 0, 0, "there is no chunk") };
    let finds = vec![none, of_checkpoint(healthy.now.entries, "the checkpoint")];
    let empty = |dir: &Path| {
        fs::remove_dir_all(dir.join("chunks")).expect("chunks");
        fs::create_dir(dir.join("chunks")).expect("chunks");
    };
    Case::new("no chunk", opens, finds, empty).check(&healthy).await;
}
