//! Figures for monitors, in the text format of Prometheus: `GET /metrics`.
//!
//! Each part of a node adds what it has to tell; it is asked whenever somebody looks. Names begin with `httt_`, times are
//! in seconds.

use std::fmt::{self, Write as _};
use std::sync::{Arc, PoisonError, RwLock};

/// The content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Contributor = Box<dyn Fn(&mut Page) + Send + Sync>;

/// Everything that a node tells monitors. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Metrics(Arc<RwLock<Vec<Contributor>>>);

impl Metrics {
    /// Adds a part's figures. It is called for every look, so it reads what is there and works out nothing long.
    pub fn add(&self, contributor: impl Fn(&mut Page) + Send + Sync + 'static) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(contributor));
    }

    /// Appends all figures to `out`.
    pub fn render(&self, out: &mut String) {
        let mut page = Page { text: std::mem::take(out) };
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(|contributor| contributor(&mut page));
        *out = page.text;
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What a figure does in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at the start.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// The text in the making.
#[derive(Debug)]
pub struct Page {
    text: String,
}

impl Page {
    /// One metric with all its figures, each with the values of the `labels`.
    pub fn metric<const N: usize>(
        &mut self,
        (name, kind): (&str, Kind),
        help: &str,
        labels: [&str; N],
        figures: impl IntoIterator<Item = ([String; N], f64)>,
    ) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {kind}", escaped(help, false));
        for (values, figure) in figures {
            let pairs =
                labels.iter().zip(&values).map(|(label, value)| format!("{label}=\"{}\"", escaped(value, true)));
            let pairs = pairs.collect::<Vec<_>>().join(",");
            let pairs = if N == 0 { pairs } else { format!("{{{pairs}}}") };
            let _ = writeln!(self.text, "{name}{pairs} {figure}");
        }
    }

    /// One figure without labels.
    pub fn figure(&mut self, metric: (&str, Kind), help: &str, figure: f64) {
        self.metric(metric, help, [], [([], figure)]);
    }
}

fn escaped(text: &str, quoted: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quoted { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.add(|page| page.figure(("httt_log_entries", Kind::Gauge), "Entries.", 12.0));
        metrics.clone().add(|page| {
            let figures = [(["H24".into(), "a\"\\\nb".into()], 0.5), (["TW".into(), String::new()], 3e9)];
            page.metric(("httt_calls_total", Kind::Counter), "Calls\nof members.", ["member", "why"], figures);
        });
        let mut out = String::new();
        metrics.render(&mut out);
        let expected = "# HELP httt_log_entries Entries.\n# TYPE httt_log_entries gauge\nhttt_log_entries 12\n\
            # HELP httt_calls_total Calls\\nof members.\n# TYPE httt_calls_total counter\n\
            httt_calls_total{member=\"H24\",why=\"a\\\"\\\\\\nb\"} 0.5\nhttt_calls_total{member=\"TW\",why=\"\"} 3000000000\n";
        assert_eq!(out, expected);
    }
}
