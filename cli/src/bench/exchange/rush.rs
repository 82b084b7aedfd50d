//! Signed single events from a province to the ministry, durable at both ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use httt_feed::{Audience, FeedId, Lane};
use serde_json::json;

use super::world::World;
use super::{ExchangeArgs, hop};
use crate::bench::report::{Report, Spread, number};

pub(super) async fn measure(world: &World, args: &ExchangeArgs, report: &mut Report) -> Result<()> {
    let time = Duration::from_secs_f64(args.seconds);
    let (mut rates, mut plain, mut ratios, mut times) = (vec![], vec![], vec![], vec![]);
    for _ in 0..args.rounds {
        let (hops, _) = hop::exchanges(world, args.in_flight, args.payload, time).await?;
        let (rate, took) = exchanges(world, args, time).await?;
        plain.push(hops);
        ratios.push(rate / hops);
        rates.push(rate);
        times.extend(took);
    }
    let (Some(rate), Some(hops), Some(ratio)) = (Spread::of(&rates), Spread::of(&plain), Spread::of(&ratios)) else {
        return Ok(());
    };
    times.sort_by(f64::total_cmp);
    let at = |part: f64| percentile(&times, part) * 1e3;
    let json = json!({
        "in_flight": args.in_flight,
        "per_s": rate.to_json(),
        "plain_hop_per_s": hops.to_json(),
        "ratio": ratio.to_json(),
        "latency_ms": { "p50": at(0.5), "p99": at(0.99) },
    });
    let row = |name: &str, spread: Spread, ratio: f64| {
        vec![name.to_owned(), number(spread.median), number(spread.min), number(spread.max), number(ratio)]
    };
    report.part(
        "exchanges",
        json,
        format!("Single signed events, province to ministry, {} in flight", args.in_flight),
        &["", "per s", "lowest", "highest", "ratio"],
        vec![row("plain hop", hops, 1.0), row("through the gateway", rate, ratio.median)],
        vec![
            format!("latency p50 {:.1} ms, p99 {:.1} ms", at(0.5), at(0.99)),
            "plain hop: a file, mutual TLS, a file; one fdatasync a group at each end".into(),
            "the exchange: sealed, chained and hashed in three logs, verified twice, receipted; done when it is on the \
             ministry's disk"
                .into(),
        ],
    );
    Ok(())
}

/// Exchanges a second, and how long each took.
async fn exchanges(world: &World, args: &ExchangeArgs, time: Duration) -> Result<(f64, Vec<f64>)> {
    let (from, to) = (&world.provinces[0], &world.ministry);
    let audience = Audience::One(to.code.clone());
    let feed = Arc::new(FeedId::new(from.code.clone(), audience.clone(), Lane::Report));
    let data = Bytes::from(vec![7; args.payload]);
    let began = Instant::now();
    let clients = (0..args.in_flight).map(|_| async {
        let mut took = Vec::new();
        while began.elapsed() < time {
            let begun = Instant::now();
            from.say(&audience, Lane::Report, vec![data.clone()]).await?;
            // The batch that holds it, or a later one.
            to.holds(&feed, from.sequence(&feed)).await?;
            took.push(begun.elapsed().as_secs_f64());
        }
        anyhow::Ok(took)
    });
    let took: Vec<f64> = futures_util::future::try_join_all(clients).await?.concat();
    Ok((took.len() as f64 / began.elapsed().as_secs_f64(), took))
}

/// The value below which a part of the sorted values lies.
pub(super) fn percentile(sorted: &[f64], part: f64) -> f64 {
    sorted.get(((sorted.len().saturating_sub(1)) as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}
