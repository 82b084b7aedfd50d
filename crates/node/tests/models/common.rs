//! Toy models over a real log, and what they must come to, computed without the runner.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use httt_domain::models::{Fact, Model, ReadModel};
use httt_feed::{AgencyCode, Audience, Lane, Sealer, SigningKey};
use httt_log::{Log, NewEvent, OpenError, Options, Transaction};
use httt_node::models::{Comparison, ModelSet, Models, Projection, SnapshotOptions};
use httt_node::projections;
use serde::{Deserialize, Serialize};

/// Bytes by stream, counted `V` times: another version makes another state of the same facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums<const V: u32>(pub(crate) BTreeMap<String, u64>);

impl<const V: u32> Model for Sums<V> {
    const NAME: &'static str = "sums";
    const VERSION: u32 = V;
}

impl<const V: u32> ReadModel for Sums<V> {
    fn apply(&mut self, fact: &Fact<'_>) {
        *self.0.entry(fact.stream.to_owned()).or_default() += u64::from(V) * fact.data.len() as u64;
    }
}

/// What the sum of each fact's stream was right after it: it looks at [`Sums`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen<const V: u32>(pub(crate) Vec<u64>);

impl<const V: u32> Model for Seen<V> {
    const NAME: &'static str = "seen";
    const VERSION: u32 = V;
}

/// Facts, counted in steps of `V`. It looks at nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count<const V: u32>(pub(crate) u64);

impl<const V: u32> Model for Count<V> {
    const NAME: &'static str = "count";
    const VERSION: u32 = V;
}

impl<const V: u32> ReadModel for Count<V> {
    fn apply(&mut self, _: &Fact<'_>) {
        self.0 += u64::from(V);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Toys<const A: u32 = 1, const B: u32 = 1, const C: u32 = 1> {
    pub(crate) sums: Projection<Sums<A>>,
    pub(crate) seen: Projection<Seen<B>>,
    pub(crate) count: Projection<Count<C>>,
}

impl<const A: u32, const B: u32, const C: u32> ModelSet for Toys<A, B, C> {
    const NEEDS: &'static [(&'static str, &'static [&'static str])] = &[("seen", &["sums"])];

    projections![sums, seen, count];

    fn apply(&mut self, position: u64, fact: &Fact<'_>) {
        self.sums.fold(position, fact);
        self.seen.fold_with(position, |seen| seen.0.push(self.sums.0.get(fact.stream).copied().unwrap_or(0)));
        self.count.fold(position, fact);
    }
}

/// What `Toys` must be after these facts: streams and lengths of data.
pub(crate) fn expected<const A: u32, const B: u32, const C: u32>(
    facts: &[(String, usize)],
) -> (Sums<A>, Seen<B>, Count<C>) {
    let (mut sums, mut seen, mut count) = (Sums::default(), Seen::default(), Count::default());
    for (stream, length) in facts {
        let sum: &mut u64 = sums.0.entry(stream.clone()).or_default();
        *sum += u64::from(A) * *length as u64;
        seen.0.push(*sum);
        count.0 += u64::from(C);
    }
    (sums, seen, count)
}

impl<const A: u32, const B: u32, const C: u32> Toys<A, B, C> {
    pub(crate) fn assert_is(&self, facts: &[(String, usize)]) {
        let (sums, seen, count) = expected::<A, B, C>(facts);
        assert_eq!((&*self.sums, &*self.seen, &*self.count), (&sums, &seen, &count));
    }

    /// Where each was started.
    pub(crate) fn from(&self) -> Vec<u64> {
        self.parts().iter().map(|part| part.from()).collect()
    }
}

/// Whether [`Liar`] lies: it counts what is no fact.
pub(crate) static LIES: AtomicBool = AtomicBool::new(false);
static TOLD: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Liar(u64);

impl Model for Liar {
    const NAME: &'static str = "liar";
}

impl ReadModel for Liar {
    fn apply(&mut self, _: &Fact<'_>) {
        self.0 += 1;
        if LIES.load(Ordering::SeqCst) {
            self.0 += 1_000 * (1 + TOLD.fetch_add(1, Ordering::SeqCst));
        }
    }
}

/// Panics at facts of the stream `boom`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Panicker(u64);

impl Model for Panicker {
    const NAME: &'static str = "panicker";
}

impl ReadModel for Panicker {
    fn apply(&mut self, fact: &Fact<'_>) {
        assert_ne!(fact.stream, "boom", "a fact nobody thought of");
        self.0 += 1;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Crooks {
    pub(crate) liar: Projection<Liar>,
    pub(crate) panicker: Projection<Panicker>,
    pub(crate) count: Projection<Count<1>>,
}

impl ModelSet for Crooks {
    projections![liar, panicker, count];

    fn apply(&mut self, position: u64, fact: &Fact<'_>) {
        self.liar.fold(position, fact);
        self.panicker.fold(position, fact);
        self.count.fold(position, fact);
    }
}

/// A node's folder.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    /// What was appended.
    pub(crate) facts: Vec<(String, usize)>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), facts: Vec::new() }
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub(crate) fn models_dir(&self) -> PathBuf {
        self.dir.path().join("models")
    }

    pub(crate) fn options(&self) -> Option<SnapshotOptions> {
        Some(SnapshotOptions { dir: self.models_dir(), every: 1 })
    }

    pub(crate) async fn open(&self) -> Log {
        self.open_as("H24", Options { index_cache_bytes: 1 << 20, ..Options::default() }).await
    }

    /// Waits for whoever still follows the log that was closed a moment ago.
    pub(crate) async fn open_as(&self, origin: &str, options: Options) -> Log {
        let key = SigningKey::from_seed(&[1; 32]).unwrap();
        let sealer = Arc::new(Sealer::new(AgencyCode::new(origin).unwrap(), key));
        for _ in 0..1_000 {
            match Log::open(&self.log_dir(), Arc::clone(&sealer), options.clone()) {
                Err(OpenError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                opened => return opened.unwrap().0,
            }
        }
        panic!("somebody keeps the log open");
    }

    /// Each event in an entry of its own.
    pub(crate) async fn append(&mut self, log: &Log, facts: &[(&str, usize)]) {
        for (stream, length) in facts {
            let event = NewEvent {
                id: uuid::Uuid::now_v7(),
                audience: Audience::All,
                lane: Lane::Content,
                stream: (*stream).to_owned(),
                kind: "test.v1.Said".to_owned(),
                actor: "tester".to_owned(),
                traceparent: String::new(),
                occurred_at_ms: None,
                data: vec![0; *length].into(),
            };
            log.commit(Transaction::append([event])).await.unwrap();
            self.facts.push(((*stream).to_owned(), *length));
        }
    }

    pub(crate) async fn models<S: ModelSet>(&self, log: &Log) -> Models<S> {
        Models::open(log, self.options()).await.unwrap()
    }
}

/// Stops a node as a service does: snapshots, then the log.
pub(crate) async fn stop<S: ModelSet>(models: Models<S>, log: Log) {
    assert!(models.reached(log.len()).await);
    models.close().await;
    drop(models);
    log.close().await;
}

/// Every file and folder below, anew.
pub(crate) fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), &target).unwrap();
        }
    }
}

pub(crate) fn assert_equal(compared: &[Comparison]) {
    assert!(!compared.is_empty() && compared.iter().all(|one| one.equal), "{compared:?}");
}

/// The comparison of one model.
pub(crate) fn of<'a>(compared: &'a [Comparison], model: &str) -> &'a Comparison {
    compared.iter().find(|one| one.model == model).unwrap()
}
