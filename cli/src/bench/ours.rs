//! The log itself, with sealing, hashing and indexing on: what a node appends to.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use httt_feed::Sealer;
use httt_log::{Log, NewEvent, Options, Transaction};
use tokio::runtime::Runtime;

use super::dataset;
use super::work::{self, Measured, Source, Store, Work};

/// The log, kept over the rounds so that its index grows as it does in life.
pub(crate) struct OurLog {
    dir: PathBuf,
    sealer: Arc<Sealer>,
    runtime: Runtime,
}

impl OurLog {
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(Self { dir: dir.join("log"), sealer: dataset::sealer()?, runtime })
    }
}

impl Store for OurLog {
    fn name(&self) -> &'static str {
        "this log"
    }

    fn note(&self) -> &'static str {
        "sealed, chained, hashed and indexed, default settings; events have id, stream, type and version"
    }

    fn durable(&self) -> bool {
        true
    }

    fn run(&mut self, source: &mut Source, work: Work) -> Result<Measured> {
        let audience = work::audience()?;
        let tasks: Vec<Vec<Vec<NewEvent>>> = source
            .tasks(&work.shape, work.payload, work.commits)
            .into_iter()
            .map(|task| {
                let commit = |records: Vec<work::Record>| {
                    records.into_iter().map(|record| record.into_event(&audience)).collect()
                };
                task.into_iter().map(commit).collect()
            })
            .collect();
        let path = self.dir.join(format!("{}-{}", work.shape.name, work.payload));
        std::fs::create_dir_all(&self.dir)?;
        let (log, _) = Log::open(&path, Arc::clone(&self.sealer), Options::default())?;
        self.runtime.block_on(async {
            let began = Instant::now();
            let clients: Vec<_> = tasks
                .into_iter()
                .map(|commits| {
                    let log = log.clone();
                    tokio::spawn(async move {
                        let mut groups = Vec::with_capacity(commits.len());
                        for commit in commits {
                            groups.push(log.commit(Transaction::append(commit)).await?.next);
                        }
                        anyhow::Ok(groups)
                    })
                })
                .collect();
            // Commits of one group are told the same length.
            let mut groups = HashSet::new();
            for client in clients {
                groups.extend(client.await??);
            }
            let elapsed = began.elapsed();
            log.close().await;
            Ok(Measured { events: work.events(), elapsed, groups: Some(groups.len() as u64) })
        })
    }
}
