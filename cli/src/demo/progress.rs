//! What a person sees while the demo works.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::demo::summary::Summary;

/// A line on standard error: the step, and what it is at. Standard output stays for the result.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    name: &'static str,
}

impl Progress {
    /// Begins a step.
    pub(crate) fn step(number: usize, of: usize, name: &'static str) -> Result<Self> {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {prefix} {msg} ({elapsed})")?);
        bar.set_prefix(format!("[{number}/{of}] {name}"));
        bar.enable_steady_tick(Duration::from_millis(120));
        Ok(Self { bar, began: Instant::now(), name })
    }

    /// Says what the step is at.
    pub(crate) fn say(&self, what: impl Into<Cow<'static, str>>) {
        self.bar.set_message(what);
    }

    /// Ends the step.
    pub(crate) fn done(self, summary: &mut Summary) {
        let seconds = self.began.elapsed().as_secs_f64();
        summary.step_seconds.insert(self.name.to_owned(), (seconds * 10.0).round() / 10.0);
        self.bar.finish_and_clear();
        eprintln!("✓ {} ({seconds:.1} s)", self.bar.prefix());
    }
}
