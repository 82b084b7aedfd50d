//! `traceparent` in and out (W3C Trace Context).

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header and field that carry a trace.
pub const TRACEPARENT: &str = "traceparent";

/// Longest `traceparent` looked at; version 00 has 55 characters.
const MAX_TRACEPARENT_BYTES: usize = 256;

/// The current span as a `traceparent`; empty when there is none or its trace is not sampled, so that a stored event
/// never points at a trace that nobody kept.
pub fn current_traceparent() -> String {
    let context = Span::current().context();
    let span = context.span();
    let identity = span.span_context();
    if identity.is_valid() && identity.is_sampled() {
        format!("00-{}-{}-01", identity.trace_id(), identity.span_id())
    } else {
        String::new()
    }
}

/// Makes `span` continue the trace that `traceparent` names. Call before the span is entered. What is empty or
/// malformed is passed over: a broken trace never stops work.
pub fn set_parent(span: &Span, traceparent: &str) {
    if traceparent.len() > MAX_TRACEPARENT_BYTES {
        return;
    }
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &One(traceparent));
    if parent.has_active_span()
        && let Err(error) = span.set_parent(parent)
    {
        tracing::trace!(%error, "trace not continued");
    }
}

struct One<'a>(&'a str);

impl Extractor for One<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::collect;

    #[test]
    fn a_stored_traceparent_continues_its_trace() {
        let (spans, _guard) = collect();
        let click = tracing::info_span!("click");
        let stored = click.in_scope(current_traceparent);
        drop(click);
        assert_eq!(stored.len(), 55, "{stored}");

        let append = tracing::info_span!("append");
        set_parent(&append, &stored);
        append.in_scope(|| assert_eq!(current_traceparent()[..36], stored[..36]));
        drop(append);

        let spans = spans.finished();
        let [click, append] = spans.as_slice() else { panic!("two spans, not {}", spans.len()) };
        assert_eq!(append.span_context.trace_id(), click.span_context.trace_id());
        assert_eq!(append.parent_span_id, click.span_context.span_id());
        assert!(append.parent_span_is_remote);
    }

    #[test]
    fn nonsense_is_passed_over() {
        let (spans, _guard) = collect();
        let long = "0".repeat(MAX_TRACEPARENT_BYTES + 1);
        for nonsense in ["", "00-", "00-00000000000000000000000000000000-0000000000000000-01", "đài", &long] {
            let span = tracing::info_span!("work");
            set_parent(&span, nonsense);
            span.in_scope(|| assert_eq!(current_traceparent().len(), 55));
        }
        assert_eq!(spans.finished().len(), 5);
    }

    #[test]
    fn without_traces_there_is_no_traceparent() {
        assert_eq!(current_traceparent(), "");
        let span = tracing::info_span!("unwatched");
        set_parent(&span, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        span.in_scope(|| assert_eq!(current_traceparent(), ""));
    }

    #[test]
    fn an_unsampled_trace_leaves_nothing_behind() {
        let (spans, _guard) = collect();
        let span = tracing::info_span!("work");
        set_parent(&span, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
        span.in_scope(|| assert_eq!(current_traceparent(), ""));
        drop(span);
        assert!(spans.finished().is_empty());
    }
}
