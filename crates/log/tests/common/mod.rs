//! What the tests share: nodes with fixed keys, events, foreign feeds, folders to copy and to harm.
#![allow(dead_code)]

pub(crate) mod sha256;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use httt_feed::{AgencyCode, Audience, FeedId, Head, Lane, Sealer, SigningKey, VerifiedBatch};
use httt_log::{Log, ManualClock, NewEvent, OpenError, OpenReport, Options, Transaction};
use httt_wire::feed::Event;
use uuid::Uuid;

pub(crate) const NOW_MS: i64 = 1_760_000_000_000;

pub(crate) fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect(text)
}

pub(crate) fn sealer(origin: &str, seed: u8) -> Arc<Sealer> {
    Arc::new(Sealer::new(code(origin), SigningKey::from_seed(&[seed; 32]).expect("seed")))
}

/// Options whose checkpoints come only when asked for, so that no test depends on time.
pub(crate) fn options() -> Options {
    Options {
        checkpoint_every: Duration::from_secs(3_600),
        clock: Arc::new(ManualClock::new(NOW_MS)),
        index_cache_bytes: 1 << 10,
        // So few that runs are written and merged in every test.
        index_run_events: 4,
        ..Options::default()
    }
}

pub(crate) fn small_chunks(chunk_bytes: u64) -> Options {
    Options { chunk_bytes, ..options() }
}

pub(crate) fn try_open_with(dir: &Path, options: Options) -> Result<(Log, OpenReport), OpenError> {
    Log::open(dir, sealer("H24", 1), options)
}

pub(crate) fn try_open(dir: &Path) -> Result<(Log, OpenReport), OpenError> {
    try_open_with(dir, options())
}

pub(crate) fn open(dir: &Path) -> Log {
    try_open(dir).expect("open").0
}

/// An event with a text as its data; ids count up so that tests are the same every time.
pub(crate) fn event(stream: &str, id: u128, text: &str) -> NewEvent {
    event_on(Lane::Content, stream, id, text)
}

pub(crate) fn event_on(lane: Lane, stream: &str, id: u128, text: &str) -> NewEvent {
    NewEvent {
        id: Uuid::from_u128(id),
        audience: Audience::One(code("TW")),
        lane,
        stream: stream.to_owned(),
        kind: "test.v1.Said".to_owned(),
        actor: "tester".to_owned(),
        traceparent: String::new(),
        occurred_at_ms: None,
        data: text.to_owned().into(),
    }
}

pub(crate) fn append(stream: &str, id: u128, text: &str) -> Transaction {
    Transaction::append([event(stream, id, text)])
}

/// Another origin's feed, as its own sealer makes it.
pub(crate) struct Foreign {
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) feed: FeedId,
    pub(crate) head: Option<Head>,
    ids: u128,
}

impl Foreign {
    pub(crate) fn new(feed: &str, seed: u8) -> Self {
        let feed: FeedId = feed.parse().expect(feed);
        let sealer = sealer(feed.origin.as_str(), seed);
        Self { sealer, feed, head: None, ids: u128::from(seed) << 64 }
    }

    pub(crate) fn event(&mut self, stream: &str, version: u64, text: &str) -> Event {
        self.ids += 1;
        Event {
            id: Uuid::from_u128(self.ids).as_bytes().to_vec(),
            stream: stream.to_owned(),
            version,
            r#type: "test.v1.Said".to_owned(),
            occurred_at_ms: NOW_MS,
            data: text.to_owned().into(),
            ..Event::default()
        }
    }

    pub(crate) fn seal(&mut self, events: Vec<Event>) -> VerifiedBatch {
        let batch = self.sealer.seal(&self.feed, self.head.as_ref(), NOW_MS, events).expect("seal");
        self.head = Some(batch.head());
        batch
    }

    /// The next batch, with one event of a stream of the feed's own.
    pub(crate) fn next(&mut self) -> VerifiedBatch {
        let version = self.head.map_or(1, |head| head.sequence + 1);
        let event = self.event("foreign", version, &format!("foreign {version}"));
        self.seal(vec![event])
    }

    pub(crate) fn batches(&mut self, count: usize) -> Vec<VerifiedBatch> {
        (0..count).map(|_| self.next()).collect()
    }
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for item in fs::read_dir(from).expect("list") {
        let item = item.expect("item");
        let target = to.join(item.file_name());
        if item.file_type().expect("type").is_dir() {
            copy_dir(&item.path(), &target);
        } else {
            fs::copy(item.path(), &target).expect("copy");
        }
    }
}

/// Replaces a folder by a copy of another.
pub(crate) fn restore_dir(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).expect("remove");
    }
    copy_dir(from, to);
}

pub(crate) fn chunk(dir: &Path, number: u32) -> PathBuf {
    dir.join("chunks").join(format!("{number:08}.chunk"))
}

/// All files below a folder.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir).expect("list") {
        let path = item.expect("item").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Writes a file even if it is read-only.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) {
    if path.exists() {
        fs::remove_file(path).expect("remove");
    }
    fs::write(path, bytes).expect("write");
}

/// Everything a log says, to compare two of them.
pub(crate) fn everything(log: &Log) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut streams = std::collections::BTreeSet::new();
    for entry in log.read(0, usize::MAX, usize::MAX).expect("read") {
        writeln!(text, "{} {} {} {}", entry.position, entry.feed, entry.sequence, entry.digest).expect("write");
        assert_eq!(log.batch_digest(&entry.feed, entry.sequence).expect("digest"), Some(entry.digest));
        for event in entry.events() {
            let found = log.event(event.id()).expect("event").expect("it is there");
            writeln!(text, "  {} {} {:?}", found.position, found.id(), found.event.data).expect("write");
            streams.insert((entry.feed.origin.clone(), event.event.stream.clone()));
        }
    }
    for (origin, stream) in streams {
        let events =
            log.read_stream(&origin, &stream, 0, httt_log::Direction::Forward, usize::MAX).expect("read stream");
        let versions: Vec<_> = events.iter().map(|event| event.event.version).collect();
        let latest = log.stream_version(&origin, &stream).expect("version");
        writeln!(text, "{origin} {stream} {latest:?} {versions:?}").expect("write");
    }
    for head in log.heads() {
        writeln!(text, "{} {} {} {}", head.feed, head.head.sequence, head.head.digest, head.position).expect("write");
    }
    writeln!(text, "{} {}", log.len(), log.root(log.len()).expect("root")).expect("write");
    text
}
