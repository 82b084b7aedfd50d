//! The root over entries read from files alone is the open log's.

mod common;

use common::{append, open};
use httt_log::{RunningRoot, scan_entries};

#[tokio::test]
async fn the_running_root_is_the_logs_at_every_size() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    for id in 1..=40 {
        log.commit(append("s", id, "x")).await.expect("commit");
    }
    let mut entries = scan_entries(dir.path()).expect("scan");
    let mut root = RunningRoot::default();
    assert_eq!(root.root(), log.root(0).expect("root"));
    while let Some(entry) = entries.step().expect("entry") {
        root.push(&entry);
        assert_eq!(entries.log_id(), Some(log.log_id()));
        assert_eq!(root.root(), log.root(root.size()).expect("root"));
    }
    assert_eq!(root.size(), log.len());
}
