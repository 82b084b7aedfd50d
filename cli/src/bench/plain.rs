//! The physical limit: a file that payloads are appended to, one `fdatasync` a group.
//!
//! One client that waits writes and syncs in a loop; nothing can be faster. Several clients hand their commits to one
//! writer through a queue, which takes whatever waits as one group, as the log does: what such a file can do for so
//! many clients. Only payload bytes are written, no id, stream or framing.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::work::{Measured, Record, Source, Store, Work};

/// Bytes of the file that is filled beforehand; it is written round and round.
const FILLED_BYTES: u64 = 64 << 20;
/// Commits that wait in front of the writer, as many as the log has.
const QUEUED: usize = httt_log::MAX_QUEUED;

/// Takes a group of payloads and returns when they are stored.
pub(crate) trait Sink: Send {
    fn commit(&mut self, group: &[Bytes]) -> Result<()>;
}

struct PlainSink {
    file: File,
    at: u64,
    /// Round and round in so many bytes; `None`: it grows.
    within: Option<u64>,
    buffer: Vec<u8>,
}

impl Sink for PlainSink {
    fn commit(&mut self, group: &[Bytes]) -> Result<()> {
        self.buffer.clear();
        group.iter().for_each(|payload| self.buffer.extend_from_slice(payload));
        let length = self.buffer.len() as u64;
        if self.within.is_some_and(|within| self.at + length > within) {
            self.at = 0;
        }
        self.file.write_all_at(&self.buffer, self.at)?;
        self.file.sync_data()?;
        self.at += length;
        Ok(())
    }
}

/// The plain file, growing or filled beforehand.
pub(crate) struct PlainFile {
    path: PathBuf,
    filled: bool,
}

impl PlainFile {
    pub(crate) fn growing(dir: &Path) -> Self {
        Self { path: dir.join("plain"), filled: false }
    }

    pub(crate) fn filled(dir: &Path) -> Self {
        Self { path: dir.join("filled"), filled: true }
    }

    fn sink(&self) -> Result<PlainSink> {
        let exists = self.path.exists();
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(!self.filled).open(&self.path)?;
        if self.filled && !exists {
            let zeros = vec![0; 1 << 20];
            for at in (0..FILLED_BYTES).step_by(zeros.len()) {
                file.write_all_at(&zeros, at)?;
            }
            file.sync_all()?;
        }
        let within = self.filled.then_some(FILLED_BYTES);
        Ok(PlainSink { file, at: 0, within, buffer: Vec::new() })
    }
}

impl Store for PlainFile {
    fn name(&self) -> &'static str {
        if self.filled { "plain, filled before" } else { "plain file" }
    }

    fn note(&self) -> &'static str {
        if self.filled {
            "the same file, but zeros were written and synced where it is written: no sync changes its size"
        } else {
            "payloads appended to a file, one fdatasync a group: the physical limit, ratio 1"
        }
    }

    fn durable(&self) -> bool {
        true
    }

    fn run(&mut self, source: &mut Source, work: Work) -> Result<Measured> {
        let sink = self.sink()?;
        drive(sink, payloads(source.tasks(&work.shape, work.payload, work.commits)), work)
    }
}

/// Nothing but the payloads.
pub(crate) fn payloads(tasks: Vec<Vec<Vec<Record>>>) -> Vec<Vec<Vec<Bytes>>> {
    let commit = |records: Vec<Record>| records.into_iter().map(|record| record.data).collect();
    tasks.into_iter().map(|task| task.into_iter().map(commit).collect()).collect()
}

/// Puts the work through a sink: in a loop for one client, through a queue with group commit for several.
pub(crate) fn drive(sink: impl Sink, tasks: Vec<Vec<Vec<Bytes>>>, work: Work) -> Result<Measured> {
    if work.shape.alone() {
        let mut sink = sink;
        let began = Instant::now();
        for commit in tasks.iter().flatten() {
            sink.commit(commit)?;
        }
        let groups = Some((work.commits * work.shape.tasks()) as u64);
        return Ok(Measured { events: work.events(), elapsed: began.elapsed(), groups });
    }
    queued(sink, tasks, work)
}

type Request = (Vec<Bytes>, oneshot::Sender<()>);

fn queued(mut sink: impl Sink, tasks: Vec<Vec<Vec<Bytes>>>, work: Work) -> Result<Measured> {
    let (sender, mut requests) = mpsc::channel::<Request>(QUEUED);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || -> Result<u64> {
            let mut groups = 0;
            while let Some((mut group, answer)) = requests.blocking_recv() {
                let mut waiting = vec![answer];
                while let Ok((commit, answer)) = requests.try_recv() {
                    group.extend(commit);
                    waiting.push(answer);
                }
                sink.commit(&group)?;
                groups += 1;
                for answer in waiting {
                    answer.send(()).map_err(|()| anyhow!("a client went away"))?;
                }
            }
            Ok(groups)
        });
        let began = Instant::now();
        let clients: Result<()> = runtime.block_on(async {
            let clients: Vec<_> = tasks
                .into_iter()
                .map(|commits| {
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        for commit in commits {
                            let (answer, stored) = oneshot::channel();
                            sender.send((commit, answer)).await.map_err(|_| anyhow!("the writer is gone"))?;
                            stored.await.context("the writer is gone")?;
                        }
                        anyhow::Ok(())
                    })
                })
                .collect();
            for client in clients {
                client.await??;
            }
            Ok(())
        });
        let elapsed = began.elapsed();
        drop(sender);
        let groups = writer.join().map_err(|_| anyhow!("the writer panicked"))??;
        clients?;
        Ok(Measured { events: work.events(), elapsed, groups: Some(groups) })
    })
}
