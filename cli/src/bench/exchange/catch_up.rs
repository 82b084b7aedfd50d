//! A province that missed much comes back.

use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use httt_feed::{AgencyCode, Audience, FeedId, Lane};
use serde_json::json;

use super::world::{self, World};
use super::{ExchangeArgs, hop};
use crate::bench::report::{Report, number};

/// Events in one commit of the ministry, and so about as many in an entry.
const EVENTS_PER_COMMIT: u64 = 100;

pub(super) async fn measure(world: &World, args: &ExchangeArgs, report: &mut Report) -> Result<()> {
    let ministry = &world.ministry;
    // For that province alone, so that the others do not copy it all as well while it is said.
    let audience = Audience::One(AgencyCode::new(World::AWAY)?);
    let feed = FeedId::new(ministry.code.clone(), audience.clone(), Lane::Content);
    let data = Bytes::from(vec![7; args.payload]);
    let mut said = 0;
    while said < args.missed {
        let events = EVENTS_PER_COMMIT.min(args.missed - said);
        ministry.say(&audience, Lane::Content, vec![data.clone(); events as usize]).await?;
        said += events;
    }
    let last = ministry.sequence(&feed);
    // So that nothing but the one who was away is at work.
    world.gateway_holds(&feed, last).await?;
    let began = Instant::now();
    let away = world.come_back()?;
    away.holds(&feed, last).await?;
    let took = began.elapsed().as_secs_f64();
    let entries = away.log.len();
    let bytes = chunk_bytes(away.log.dir())?;
    world::close(away).await;
    let plain = hop::bulk(world, bytes).await?;
    let json = json!({
        "events": said,
        "entries": entries,
        "bytes": bytes,
        "seconds": took,
        "plain_copy_seconds": plain,
        "ratio": plain / took,
        "events_per_s": said as f64 / took,
    });
    report.part(
        "catch_up",
        json,
        "A province that was away catches up",
        &["", "events", "seconds", "events/s", "ratio"],
        vec![
            vec!["plain copy".into(), String::new(), number(plain), String::new(), number(1.0)],
            vec![
                "this exchange".into(),
                number(said as f64),
                number(took),
                number(said as f64 / took),
                number(plain / took),
            ],
        ],
        vec![format!(
            "{} entries, {} MiB in its log; plain copy: as many bytes over mutual TLS into a file, one fdatasync a MiB",
            number(entries as f64),
            bytes >> 20
        )],
    );
    Ok(())
}

/// Bytes of a log's chunk files.
fn chunk_bytes(dir: &std::path::Path) -> Result<u64> {
    let mut bytes = 0;
    for item in std::fs::read_dir(dir.join("chunks"))? {
        bytes += item?.metadata()?.len();
    }
    Ok(bytes)
}
