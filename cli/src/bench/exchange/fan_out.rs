//! What the ministry says, through the gateway, to every province.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use httt_feed::{Audience, FeedId, Lane};
use serde_json::json;

use super::ExchangeArgs;
use super::world::World;
use crate::bench::report::{Report, Spread, number};

/// Clients that publish at once, and events in each commit.
const SHAPES: [(usize, usize); 2] = [(64, 1), (4, 100)];

pub(super) async fn measure(world: &World, args: &ExchangeArgs, report: &mut Report) -> Result<()> {
    let (mut rows, mut json) = (Vec::new(), Vec::new());
    for (clients, events) in SHAPES {
        let (mut entries_per_s, mut events_per_s) = (vec![], vec![]);
        for _ in 0..args.rounds {
            let (entries, said, took) = publish(world, args, clients, events).await?;
            entries_per_s.push(entries as f64 / took);
            events_per_s.push(said as f64 / took);
        }
        let (Some(entries), Some(said)) = (Spread::of(&entries_per_s), Spread::of(&events_per_s)) else { continue };
        let readers = args.provinces as f64;
        rows.push(vec![
            format!("{clients} clients × {events}"),
            number(entries.median),
            number(said.median),
            number(entries.median * readers),
            number(said.median * readers),
        ]);
        json.push(json!({
            "clients": clients,
            "events_per_commit": events,
            "entries_per_s": entries.to_json(),
            "events_per_s": said.to_json(),
            "delivered_events_per_s": said.median * readers,
        }));
    }
    report.part(
        "fan_out",
        json!(json),
        format!("Published by the ministry, on the disks of {} provinces", args.provinces),
        &["", "entries/s", "events/s", "delivered entries/s", "delivered events/s"],
        rows,
        vec![
            "until the last province has the last event; every province verifies, hashes and syncs on this machine"
                .into(),
        ],
    );
    Ok(())
}

/// Entries and events published, and the seconds until every province holds them.
async fn publish(world: &World, args: &ExchangeArgs, clients: usize, events: usize) -> Result<(u64, u64, f64)> {
    let ministry = &world.ministry;
    let feed = FeedId::new(ministry.code.clone(), Audience::All, Lane::Content);
    let data = Bytes::from(vec![7; args.payload]);
    let before = ministry.sequence(&feed);
    let (time, began) = (Duration::from_secs_f64(args.seconds), Instant::now());
    let publishing = (0..clients).map(|_| async {
        let mut said = 0;
        // Never further ahead than a little: what is measured is the way to the provinces, not a growing backlog.
        while began.elapsed() < time {
            ministry.say(&Audience::All, Lane::Content, vec![data.clone(); events]).await?;
            said += events as u64;
            let behind = ministry.sequence(&feed).saturating_sub(BACKLOG);
            for province in &world.provinces {
                province.holds(&feed, behind).await?;
            }
        }
        anyhow::Ok(said)
    });
    let said: u64 = futures_util::future::try_join_all(publishing).await?.into_iter().sum();
    let last = ministry.sequence(&feed);
    for province in &world.provinces {
        province.holds(&feed, last).await?;
    }
    Ok((last - before, said, began.elapsed().as_secs_f64()))
}

/// Entries that the slowest province may be behind while more are published.
const BACKLOG: u64 = 64;
