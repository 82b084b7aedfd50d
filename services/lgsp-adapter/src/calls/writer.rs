//! Writing: a queue that never waits, and a thread that may.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use httt_node::clock::Clock;
use httt_node::exchange::rest::{CallRecord, CallSink};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::files::{Dropped, Part, day_of, overdue, part_bytes, parts};
use super::{CallsConfig, CallsError};

/// Records that wait to be written; what comes when they are as many is dropped, counted and told.
const MAX_QUEUED: usize = 10_000;
/// Records written in one go.
const MAX_AT_ONCE: usize = 1_000;

enum Message {
    Call(CallRecord),
    /// Answered when all before is in the file.
    Flush(oneshot::Sender<()>),
    Close,
}

/// The record of calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Calls {
    dir: Arc<PathBuf>,
    queue: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
    clock: Clock,
}

/// Ends the record of calls.
pub(crate) struct Closing {
    queue: mpsc::Sender<Message>,
    thread: JoinHandle<()>,
}

impl Closing {
    /// Writes what is queued, and ends.
    pub(crate) async fn close(self) {
        // The thread may have ended by itself; then there is nothing to do.
        let _ = self.queue.send(Message::Close).await;
        if let Err(error) = self.thread.await {
            tracing::error!(%error, "the record of calls broke");
        }
    }
}

impl Calls {
    /// Keeps records in `dir`, which is made if missing, and lets go of what is overdue.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub(crate) async fn open(dir: PathBuf, config: CallsConfig, clock: Clock) -> Result<(Self, Closing), CallsError> {
        Self::with_queue(dir, config, clock, MAX_QUEUED).await
    }

    async fn with_queue(
        dir: PathBuf,
        config: CallsConfig,
        clock: Clock,
        most: usize,
    ) -> Result<(Self, Closing), CallsError> {
        let (queue, waiting) = mpsc::channel(most);
        let dropped = Arc::new(AtomicU64::new(0));
        let failed = |source| CallsError { path: dir.clone(), source };
        fs::create_dir_all(&dir).map_err(failed)?;
        let writer = Writer {
            dir: dir.clone(),
            config,
            clock: Arc::clone(&clock),
            current: None,
            dropped: Arc::clone(&dropped),
            told: 0,
            failing: false,
        };
        writer.let_go().map_err(failed)?;
        let thread = tokio::task::spawn_blocking(move || writer.run(waiting));
        let calls = Self { dir: Arc::new(dir), queue: queue.clone(), dropped, clock };
        Ok((calls, Closing { queue, thread }))
    }

    /// Takes records without ever waiting.
    pub(crate) fn sink(&self) -> CallSink {
        let (queue, dropped) = (self.queue.clone(), Arc::clone(&self.dropped));
        Arc::new(move |record| {
            if queue.try_send(Message::Call(record)).is_err() {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// Records that were not kept since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Where the files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Now, Unix ms.
    pub(crate) fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    /// Returns when everything recorded before is in the files.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        // A thread that ended has written what it could.
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

struct Writer {
    dir: PathBuf,
    config: CallsConfig,
    clock: Clock,
    current: Option<Current>,
    /// Counted since the start, here and where records are handed over.
    dropped: Arc<AtomicU64>,
    /// How many of these stand in the files.
    told: u64,
    failing: bool,
}

/// The part that is being written.
struct Current {
    day: String,
    number: u32,
    file: File,
    bytes: u64,
}

impl Writer {
    fn run(mut self, mut waiting: mpsc::Receiver<Message>) {
        let mut messages = Vec::new();
        while waiting.blocking_recv_many(&mut messages, MAX_AT_ONCE) > 0 {
            let (mut records, mut flushed, mut closing) = (Vec::new(), Vec::new(), false);
            for message in messages.drain(..) {
                match message {
                    Message::Call(record) => records.push(record),
                    Message::Flush(done) => flushed.push(done),
                    Message::Close => closing = true,
                }
            }
            self.keep(&records);
            flushed.into_iter().for_each(|done| {
                // Whoever asked may have gone.
                let _ = done.send(());
            });
            if closing {
                return;
            }
        }
    }

    /// Writes records, or counts them as dropped; says so when that begins and when it ends.
    fn keep(&mut self, records: &[CallRecord]) {
        match self.write(records) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("records of calls are written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.dropped.fetch_add(records.len() as u64, Ordering::Relaxed);
                // Opened anew next time: half a line may have been written.
                self.current = None;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(dir = %self.dir.display(), %error, "records of calls are not written and are lost");
                }
            }
        }
    }

    fn write(&mut self, records: &[CallRecord]) -> io::Result<()> {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if records.is_empty() && dropped == self.told {
            return Ok(());
        }
        let now_ms = (self.clock)();
        let mut text = Vec::new();
        if dropped > self.told {
            tracing::warn!(dropped = dropped - self.told, "records of calls were lost");
            serde_json::to_writer(&mut text, &Dropped { dropped: dropped - self.told, at_ms: now_ms })?;
            text.push(b'\n');
        }
        for record in records {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        let full = part_bytes(&self.config);
        let current = self.current(&day_of(now_ms))?;
        current.file.write_all(&text)?;
        current.bytes += text.len() as u64;
        let is_full = current.bytes >= full;
        self.told = dropped;
        if is_full {
            self.current = None;
        }
        Ok(())
    }

    /// The part that records of `day` go to.
    fn current(&mut self, day: &str) -> io::Result<&mut Current> {
        if self.current.as_ref().is_none_or(|current| current.day != day) {
            self.current = None;
            let full = part_bytes(&self.config);
            let last = parts(&self.dir)?.into_iter().rfind(|part| part.day == day);
            let number = match last {
                Some(part) if part.bytes < full => part.number,
                Some(part) => part.number + 1,
                None => 1,
            };
            let (file, bytes) = open(&Part::path_in(&self.dir, day, number))?;
            self.current = Some(Current { day: day.to_owned(), number, file, bytes });
            self.let_go()?;
        }
        self.current.as_mut().ok_or_else(|| io::Error::other("no part is open"))
    }

    fn let_go(&self) -> io::Result<()> {
        for part in overdue(&parts(&self.dir)?, (self.clock)(), &self.config) {
            if let Some(current) = &self.current
                && (&current.day, current.number) == (&part.day, part.number)
            {
                continue;
            }
            tracing::info!(file = %part.path.display(), "records of calls are let go");
            fs::remove_file(&part.path)?;
        }
        Ok(())
    }
}

/// Opens a part to go on with it. What a power cut tore off in the middle of a line is ended there.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let mut bytes = file.metadata()?.len();
    if bytes > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            bytes += 1;
        }
    }
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::super::files::{Line, read_lines};
    use super::*;

    const DAY: i64 = 86_400_000;

    fn clock() -> (Arc<AtomicI64>, Clock) {
        let now = Arc::new(AtomicI64::new(0));
        let shown = Arc::clone(&now);
        (now, Arc::new(move || shown.load(Ordering::SeqCst)))
    }

    fn record(number: i64) -> CallRecord {
        CallRecord { at_ms: number, client: "h55".into(), ..CallRecord::default() }
    }

    fn lines(dir: &Path) -> Vec<Line> {
        let mut lines = Vec::new();
        for part in parts(dir).expect("parts") {
            read_lines(&part, |line| {
                lines.push(line);
                true
            })
            .expect("reads");
        }
        lines
    }

    fn calls(lines: &[Line]) -> Vec<i64> {
        let calls = lines.iter().filter_map(|line| match line {
            Line::Call(record) => Some(record.at_ms),
            Line::Dropped(_) => None,
        });
        calls.collect()
    }

    #[tokio::test]
    async fn records_are_there_after_a_flush_and_after_a_restart() {
        let dir = tempfile::tempdir().expect("dir");
        let (_, clock) = clock();
        let config = CallsConfig::default();
        let (kept, closing) = Calls::open(dir.path().join("calls"), config, Arc::clone(&clock)).await.expect("opens");
        (0..100).for_each(|number| (kept.sink())(record(number)));
        kept.flush().await;
        assert_eq!(calls(&lines(kept.dir())), (0..100).collect::<Vec<_>>());
        (kept.sink())(record(100));
        closing.close().await;
        // As after a power cut: half a line.
        let path = parts(kept.dir()).expect("parts").remove(0).path;
        OpenOptions::new().append(true).open(path).expect("opens").write_all(b"{\"at_ms\":").expect("writes");
        let (kept, closing) = Calls::open(dir.path().join("calls"), config, clock).await.expect("opens");
        (kept.sink())(record(101));
        closing.close().await;
        assert_eq!(calls(&lines(kept.dir())), (0..=101).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn days_have_files_of_their_own_and_old_ones_go() {
        let dir = tempfile::tempdir().expect("dir");
        let (now, clock) = clock();
        let config = CallsConfig { keep_days: 3, ..CallsConfig::default() };
        let (kept, closing) = Calls::open(dir.path().to_owned(), config, clock).await.expect("opens");
        for day in 0..10 {
            now.store(day * DAY, Ordering::SeqCst);
            (kept.sink())(record(day));
            kept.flush().await;
        }
        let days: Vec<String> = parts(dir.path()).expect("parts").into_iter().map(|part| part.day).collect();
        assert_eq!(days, ["1970-01-08", "1970-01-09", "1970-01-10"]);
        closing.close().await;
    }

    #[tokio::test]
    async fn a_day_with_too_many_calls_keeps_the_latest() {
        let dir = tempfile::tempdir().expect("dir");
        let (_, clock) = clock();
        let config = CallsConfig { keep_days: 3, keep_bytes: 20_000 };
        let (kept, closing) = Calls::open(dir.path().to_owned(), config, clock).await.expect("opens");
        for number in 0..500 {
            (kept.sink())(record(number));
            kept.flush().await;
        }
        closing.close().await;
        let bytes: u64 = parts(dir.path()).expect("parts").iter().map(|part| part.bytes).sum();
        assert!(bytes <= 20_000 + part_bytes(&config), "{bytes}");
        let calls = calls(&lines(dir.path()));
        assert_eq!(calls, (500 - calls.len() as i64..500).collect::<Vec<_>>());
        assert!(calls.len() > 50);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_counted_and_told_and_nobody_waits() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("calls");
        let (_, clock) = clock();
        let (kept, closing) = Calls::open(folder.clone(), CallsConfig::default(), clock).await.expect("opens");
        fs::remove_dir(&folder).expect("removes");
        (0..7).for_each(|number| (kept.sink())(record(number)));
        kept.flush().await;
        assert_eq!(kept.dropped(), 7);
        fs::create_dir(&folder).expect("makes");
        (kept.sink())(record(7));
        closing.close().await;
        let lines = lines(&folder);
        assert_eq!((lines.first(), calls(&lines)), (Some(&Line::Dropped(Dropped { dropped: 7, at_ms: 0 })), vec![7]));
    }

    #[tokio::test]
    async fn a_full_queue_drops_counts_and_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().expect("dir");
        let stalled = Arc::new(std::sync::Mutex::new(()));
        let clock: Clock = {
            let stalled = Arc::clone(&stalled);
            Arc::new(move || {
                drop(stalled.lock());
                0
            })
        };
        let opened = Calls::with_queue(dir.path().to_owned(), CallsConfig::default(), clock, 5).await;
        let (kept, closing) = opened.expect("opens");
        let sent = 2 * MAX_AT_ONCE as i64;
        {
            // The thread stands still before its first write, with one batch in hand at most.
            let _still = stalled.lock().expect("lock");
            let sink = kept.sink();
            (0..sent).for_each(|number| sink(record(number)));
        }
        closing.close().await;
        let lines = lines(dir.path());
        let told: u64 = lines.iter().map(|line| if let Line::Dropped(told) = line { told.dropped } else { 0 }).sum();
        assert!(kept.dropped() >= MAX_AT_ONCE as u64 - 5, "{}", kept.dropped());
        assert_eq!(calls(&lines).len() as u64 + kept.dropped(), sent as u64);
        assert_eq!(told, kept.dropped());
    }
}
