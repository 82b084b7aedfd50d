//! The healthy log that is broken in so many ways: as of three moments, with what it said then.

use std::fs;
use std::path::{Path, PathBuf};

use httt_feed::{Audience, Lane};
use httt_log::{Log, NewEvent, Transaction};
use httt_wire::directory::{KeyAdded, LogOpened, MemberEnrolled, MemberKind};
use httt_wire::{Message, Name};
use tempfile::TempDir;

use crate::common::{Foreign, append, chunk, copy_dir, event, event_on, everything, options, sealer, try_open_with};

/// Small, so that there are several; large enough that one holds whole pages.
const CHUNK_BYTES: u64 = 12_000;
/// Groups of the second part and the third.
const GROUPS: u128 = 22;

/// The log at one moment, closed.
pub(crate) struct Moment {
    pub(crate) dir: PathBuf,
    pub(crate) entries: u64,
    pub(crate) said: String,
}

pub(crate) struct Healthy {
    base: TempDir,
    /// Two chunks and a bit.
    pub(crate) older: Moment,
    /// The one that is broken: the older one and as much again; its last group is larger than two pages.
    pub(crate) now: Moment,
    /// The same log once more entries were committed.
    pub(crate) newer: Moment,
    /// Another log of the same node and key.
    pub(crate) again: Moment,
    /// Another node's log.
    pub(crate) stranger: Moment,
}

fn says<M: Message + Name>(gateway: &mut Foreign, version: u64, message: &M) -> httt_wire::feed::Event {
    let mut event = gateway.event("directory", version, "");
    event.r#type = M::full_name();
    event.data = message.encode_to_vec().into();
    event
}

async fn begin(log: &Log, node: &str, seed: u8) {
    let message = LogOpened {
        member: node.into(),
        log_id: log.log_id().to_vec(),
        key: Some(sealer(node, seed).key().public().to_wire()),
        software: "test".into(),
    };
    let opened = NewEvent::of(Audience::All, Lane::Local, "log", &message);
    log.commit(Transaction::append([opened])).await.expect("commit");
}

async fn directory(log: &Log) {
    let mut gateway = Foreign::new("NDXP→*/directory", 9);
    let mut events = Vec::new();
    for (member, kind, seed) in [("NDXP", MemberKind::Gateway, 9), ("TW", MemberKind::Central, 8)] {
        let enrolled = MemberEnrolled { member: member.into(), kind: kind.into(), ..MemberEnrolled::default() };
        let key = Some(sealer(member, seed).key().public().to_wire());
        let version = events.len() as u64 + 1;
        events.push(says(&mut gateway, version, &enrolled));
        events.push(says(&mut gateway, version + 1, &KeyAdded { member: member.into(), key }));
    }
    log.commit(Transaction::copy([gateway.seal(events)])).await.expect("copy");
}

/// Groups of own events in two feeds, and copies.
async fn go_on(log: &Log, central: &mut Foreign, from: u128) {
    let text = "x".repeat(250);
    for id in from..from + GROUPS {
        match id % 3 {
            0 => log.commit(append("content", id, &text)).await.expect("commit"),
            1 => {
                let event = event_on(Lane::Status, "status", id, &text);
                log.commit(Transaction::append([event])).await.expect("commit")
            }
            _ => log.commit(Transaction::copy(central.batches(1))).await.expect("copy"),
        };
    }
}

impl Healthy {
    pub(crate) async fn new() -> Self {
        let base = tempfile::tempdir().expect("dir");
        let work = base.path().join("work");
        let open = |dir: &Path| {
            let options = httt_log::Options { chunk_bytes: CHUNK_BYTES, ..options() };
            try_open_with(dir, options).expect("open").0
        };
        let keep = async |log: Log, name: &str| {
            let (said, entries) = (everything(&log), log.len());
            log.close().await;
            let dir = base.path().join(name);
            copy_dir(&work, &dir);
            fs::remove_file(dir.join("lock")).expect("lock");
            Moment { dir, entries, said }
        };
        let log = open(&work);
        begin(&log, "H24", 1).await;
        directory(&log).await;
        let mut central = Foreign::new("TW→*/content", 8);
        go_on(&log, &mut central, 0).await;
        let older = keep(log, "older").await;

        let log = open(&work);
        go_on(&log, &mut central, 100).await;
        // The last chunk begins with small groups.
        let small = "z".repeat(250);
        let mut id = 150;
        while !chunk(&work, 2).exists() || id < 153 {
            log.commit(append("content", id, &small)).await.expect("commit");
            id += 1;
        }
        for id in [190, 191] {
            log.commit(append("content", id, &small)).await.expect("commit");
        }
        let text = "y".repeat(4_500);
        let large = (200..202).map(|id| event("content", id, &text));
        log.commit(Transaction::append(large)).await.expect("commit");
        let now = keep(log, "now").await;

        let log = open(&work);
        let mut later = Foreign::new("TW→*/content", 8);
        later.head = central.head;
        // Past the ids that are taken.
        (0..1_000).for_each(|n| drop(later.event("none", n, "")));
        go_on(&log, &mut later, 300).await;
        let newer = keep(log, "newer").await;
        fs::remove_dir_all(&work).expect("remove");

        // The same things said again, with another log id.
        let log = open(&work);
        begin(&log, "H24", 1).await;
        directory(&log).await;
        let mut other = Foreign::new("TW→*/content", 8);
        go_on(&log, &mut other, 0).await;
        go_on(&log, &mut other, 100).await;
        let again = keep(log, "again").await;
        fs::remove_dir_all(&work).expect("remove");

        let (log, _) = Log::open(&work, sealer("H25", 5), options()).expect("open");
        begin(&log, "H25", 5).await;
        log.commit(append("content", 1, "of another node")).await.expect("commit");
        let stranger = keep(log, "stranger").await;
        Self { base, older, now, newer, again, stranger }
    }

    /// A folder to break things in.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.base.path().join("scratch")
    }
}
