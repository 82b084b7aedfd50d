//! Stopping: one signal for all parts of a service, and waiting until they have ended.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// Exit code when a second signal ends the process without waiting: 128 + SIGINT, as shells have it.
const EXIT_FORCED: i32 = 130;

/// A service's stop signal and the list of its running parts. Clones are the same signal.
#[derive(Clone)]
pub struct Shutdown(Arc<Inner>);

struct Inner {
    triggered: watch::Sender<bool>,
    running: watch::Sender<Running>,
    failure: Mutex<Option<String>>,
}

#[derive(Default)]
struct Running {
    next: u64,
    parts: BTreeMap<u64, String>,
}

/// Counts as one running part until it drops.
#[must_use = "the part counts as ended when this drops"]
pub struct Part {
    shutdown: Shutdown,
    number: u64,
}

impl Shutdown {
    /// A signal that only [`trigger`](Self::trigger) gives.
    #[expect(clippy::new_without_default, reason = "a signal made by accident is one that nobody gives")]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            triggered: watch::Sender::new(false),
            running: watch::Sender::new(Running::default()),
            failure: Mutex::new(None),
        }))
    }

    /// A signal given by SIGTERM or SIGINT too. A second one ends the process at once: what is acknowledged is on
    /// disk, so an impatient operator loses nothing. Needs a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let given = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if given.is_triggered() {
                    tracing::warn!(signal = name, "stopping without waiting");
                    process::exit(EXIT_FORCED);
                }
                tracing::info!(signal = name, "stopping");
                given.trigger();
            }
        });
        Ok(shutdown)
    }

    /// Tells every part to stop.
    pub fn trigger(&self) {
        self.0.triggered.send_replace(true);
    }

    /// Whether parts should stop.
    pub fn is_triggered(&self) -> bool {
        *self.0.triggered.borrow()
    }

    /// Completes when parts should stop, at once if that was long ago.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static {
        // The future holds the sender, so the channel cannot close under it.
        let inner = Arc::clone(&self.0);
        async move {
            let mut triggered = inner.triggered.subscribe();
            let _ = triggered.wait_for(|triggered| *triggered).await;
        }
    }

    /// The signal as a channel that turns true, for parts that know tokio and not this type.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.0.triggered.subscribe()
    }

    /// Stops the service because `why`; the first reason is the one reported.
    pub fn fail(&self, why: impl fmt::Display) {
        tracing::error!("{why}");
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.to_string());
        self.trigger();
    }

    /// Why the service stopped by itself.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a part as running until the guard drops.
    pub fn track(&self, name: impl Into<String>) -> Part {
        let mut number = 0;
        self.0.running.send_modify(|running| {
            number = running.next;
            running.next += 1;
            running.parts.insert(number, name.into());
        });
        Part { shutdown: self.clone(), number }
    }

    /// Runs a part that the service cannot do without: if it ends with an error, panics, or ends before it was told
    /// to, the service stops and says why.
    pub fn spawn<E: fmt::Display + 'static>(
        &self,
        name: impl Into<String>,
        part: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> JoinHandle<()> {
        let name = name.into();
        let running = self.track(name.clone());
        let span = tracing::Span::current();
        tokio::spawn(
            async move {
                // Drops last, also when the part panics: by then the failure is noted.
                let running = running;
                let mut watched = Watched { shutdown: &running.shutdown, name: &name, ended: false };
                let result = part.await;
                watched.ended = true;
                match result {
                    Err(why) => running.shutdown.fail(format_args!("{name}: {why}")),
                    Ok(()) if !running.shutdown.is_triggered() => {
                        running.shutdown.fail(format_args!("{name} ended by itself"));
                    }
                    Ok(()) => tracing::debug!(part = name, "ended"),
                }
            }
            .instrument(span),
        )
    }

    /// Waits until every part has ended; after `deadline`, the names of those that have not.
    pub async fn wait(&self, deadline: Duration) -> Result<(), Vec<String>> {
        let mut running = self.0.running.subscribe();
        let ended = tokio::time::timeout(deadline, running.wait_for(|running| running.parts.is_empty())).await.is_ok();
        if ended {
            return Ok(());
        }
        Err(self.0.running.borrow().parts.values().cloned().collect())
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("triggered", &self.is_triggered()).finish_non_exhaustive()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.shutdown.0.running.send_modify(|running| {
            running.parts.remove(&self.number);
        });
    }
}

/// Notices a panic, which ends a task without a result.
struct Watched<'a> {
    shutdown: &'a Shutdown,
    name: &'a str,
    ended: bool,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if !self.ended && std::thread::panicking() {
            self.shutdown.fail(format_args!("{} panicked", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn parts_stop_when_told() {
        let shutdown = Shutdown::new();
        for number in 0..3 {
            let stop = shutdown.cancelled();
            shutdown.spawn(format!("part {number}"), async move {
                stop.await;
                Ok::<_, Infallible>(())
            });
        }
        assert!(!shutdown.is_triggered());
        shutdown.trigger();
        shutdown.trigger();
        assert_eq!(shutdown.wait(LONG).await, Ok(()));
        shutdown.cancelled().await;
        assert!(*shutdown.watch().borrow());
        assert_eq!(shutdown.failure(), None);
    }

    #[tokio::test]
    async fn laggards_are_named() {
        let shutdown = Shutdown::new();
        let slow = shutdown.track("slow");
        drop(shutdown.track("quick"));
        shutdown.trigger();
        assert_eq!(shutdown.wait(Duration::ZERO).await, Err(vec!["slow".to_owned()]));
        drop(slow);
        assert_eq!(shutdown.wait(Duration::ZERO).await, Ok(()));
    }

    #[tokio::test]
    async fn a_part_that_fails_stops_the_service() {
        let shutdown = Shutdown::new();
        shutdown.spawn("log", async { Err("disk full") });
        shutdown.cancelled().await;
        assert_eq!(shutdown.failure().as_deref(), Some("log: disk full"));

        let shutdown = Shutdown::new();
        shutdown.spawn("early", async { Ok::<_, Infallible>(()) });
        shutdown.cancelled().await;
        assert_eq!(shutdown.failure().as_deref(), Some("early ended by itself"));
    }

    #[tokio::test]
    async fn a_part_that_panics_stops_the_service() {
        let shutdown = Shutdown::new();
        shutdown.spawn("clumsy", async {
            std::future::ready(()).await;
            panic!("on purpose");
            #[expect(unreachable_code, reason = "gives the future its type")]
            Ok::<_, Infallible>(())
        });
        shutdown.cancelled().await;
        assert_eq!(shutdown.failure().as_deref(), Some("clumsy panicked"));
        assert_eq!(shutdown.wait(LONG).await, Ok(()));
    }
}
