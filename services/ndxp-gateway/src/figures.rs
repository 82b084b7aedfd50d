//! What the exchange tells monitors of its calls.

use std::sync::Arc;

use httt_node::exchange::Service;
use httt_node::exchange::quota::Class;
use httt_node::metrics::{Kind, Metrics};

/// Calls under way, what they hold in memory, and what was refused.
pub(crate) fn tell(service: &Arc<Service>, metrics: &Metrics) {
    let service = Arc::clone(service);
    metrics.add(move |page| {
        let in_use = service.limiter().in_use();
        let by_class = |figure: fn(&httt_node::exchange::Use) -> u64| {
            in_use.iter().map(|(class, used)| ([name(*class).to_owned()], figure(used) as f64)).collect::<Vec<_>>()
        };
        let (label, gauge, counter) = (["class"], Kind::Gauge, Kind::Counter);
        let calls = by_class(|used| used.calls as u64);
        page.metric(("httt_exchange_calls", gauge), "Calls under way, long-polls aside.", label, calls);
        let bytes = by_class(|used| used.bytes as u64);
        page.metric(("httt_exchange_call_bytes", gauge), "Bytes that calls under way hold.", label, bytes);
        let refused = by_class(|used| used.over_rate);
        let help = "Calls refused because the member asked too much.";
        page.metric(("httt_exchange_over_rate_total", counter), help, label, refused);
        let refused = by_class(|used| used.no_place);
        let help = "Calls refused because too much was under way.";
        page.metric(("httt_exchange_no_place_total", counter), help, label, refused);
        let polls = service.long_polls() as f64;
        page.figure(("httt_exchange_long_polls", gauge), "Long-polls under way.", polls);
    });
}

fn name(class: Class) -> &'static str {
    match class {
        Class::Urgent => "urgent",
        Class::Heads => "heads",
        Class::Bulk => "bulk",
    }
}
