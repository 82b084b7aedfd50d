//! Events in a sled tree: position → payload, flushed once a group.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bytes::Bytes;

use super::plain::{self, Sink};
use super::work::{Measured, Source, Store, Work};

/// Memory for the tree's cache: the log gives its index as much.
const CACHE_BYTES: u64 = 8 << 20;

struct SledSink {
    db: sled::Db,
    position: u64,
}

impl Sink for SledSink {
    fn commit(&mut self, group: &[Bytes]) -> Result<()> {
        let mut batch = sled::Batch::default();
        for payload in group {
            batch.insert(&self.position.to_be_bytes(), payload.as_ref());
            self.position += 1;
        }
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        Ok(())
    }
}

/// A tree, kept over the rounds.
pub(crate) struct SledTree {
    dir: PathBuf,
}

impl SledTree {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.join("sled") }
    }
}

impl Store for SledTree {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn note(&self) -> &'static str {
        "position → payload, one flush a group; sled 0.34 flushes with sync_file_range, which no power cut respects"
    }

    fn durable(&self) -> bool {
        false
    }

    fn run(&mut self, source: &mut Source, work: Work) -> Result<Measured> {
        let tasks = plain::payloads(source.tasks(&work.shape, work.payload, work.commits));
        let path = self.dir.join(format!("{}-{}", work.shape.name, work.payload));
        let db = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()?;
        let position = db.last()?.map_or(0, |(key, _)| {
            let mut last = [0; 8];
            last.copy_from_slice(&key[..8]);
            u64::from_be_bytes(last) + 1
        });
        plain::drive(SledSink { db, position }, tasks, work)
    }
}
