//! The index in every state: it is derived, so the log opens whole whatever stands there. Its folder is opaque here.

use std::fs;
use std::path::Path;

use crate::common::{files, overwrite, restore_dir};
use crate::healthy::{Healthy, Moment};
use crate::{Case, Opens};

#[tokio::test]
async fn every_broken_index() {
    let healthy = Healthy::new().await;
    let of = |moment: &Moment| moment.dir.join("index");
    let from = |moment: &Moment| {
        let index = of(moment);
        move |dir: &Path| restore_dir(&index, &dir.join("index"))
    };
    let mut cases: Vec<Case<'_>> = vec![
        Case::new("good", Opens::Whole, vec![], |_: &Path| {}),
        Case::new("gone", Opens::Whole, vec![], |dir: &Path| fs::remove_dir_all(dir.join("index")).expect("index")),
        Case::new("an empty folder", Opens::Whole, vec![], |dir: &Path| {
            fs::remove_dir_all(dir.join("index")).expect("index");
            fs::create_dir(dir.join("index")).expect("index");
        }),
        Case::new("older", Opens::Whole, vec![], from(&healthy.older)),
        Case::new("newer: the log was rolled back", Opens::Whole, vec![], from(&healthy.newer)),
        Case::new("of another log of this node", Opens::Whole, vec![], from(&healthy.again)),
        Case::new("of another node", Opens::Whole, vec![], from(&healthy.stranger)),
    ];
    // Every file of it: gone, empty, half, with garbage in the middle, all garbage.
    let index = of(&healthy.now);
    for path in files(&index) {
        let relative = path.strip_prefix(&index).expect("inside").to_owned();
        let good = fs::read(&path).expect("read");
        let mut middle = good.clone();
        let half = good.len() / 2;
        middle[half..].iter_mut().take(64).for_each(|byte| *byte = !*byte);
        let garbage: Vec<u8> = (0..good.len().max(100)).map(|n| (n * 131 % 251) as u8).collect();
        for (how, bytes) in [
            ("empty", vec![]),
            ("half", good[..half].to_vec()),
            ("flipped in the middle", middle),
            ("garbage", garbage),
            ("zeros", vec![0; good.len()]),
        ] {
            let target = relative.clone();
            let harm = move |dir: &Path| overwrite(&dir.join("index").join(&target), &bytes);
            cases.push(Case::new(format!("{} {how}", relative.display()), Opens::Whole, vec![], harm));
        }
        let target = relative.clone();
        let gone = move |dir: &Path| fs::remove_file(dir.join("index").join(&target)).expect("remove");
        cases.push(Case::new(format!("{} gone", relative.display()), Opens::Whole, vec![], gone));
    }
    for case in cases {
        case.beside_its_index().check(&healthy).await;
    }
}
