//! `httt demo`: the main job, for real, on one machine.
//!
//! Gateway, LGSP adapter, central source and provincial sources run as processes of their own on loopback, with real
//! certificates; simulated clusters speak the device interface to them over HTTPS. Each step checks what it did.

mod audio;
mod cable;
mod device;
mod fleet;
mod progress;
mod reports;
mod steps;
mod summary;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use time::OffsetDateTime;
use tokio::sync::Notify;

use device::Tally;
use fleet::Fleet;
use progress::Progress;
use steps::People;
use summary::Summary;
use world::{Pace, World};

/// Steps that are shown.
const STEPS: usize = 8;
/// Provinces there are.
const MAX_PROVINCES: usize = 34;
/// Most clusters a province has in the demo.
const MAX_CLUSTERS: usize = 10_000;
/// Device reports a second that two cores bear beside everything else; clusters report less often when there are more.
const REPORTS_A_SECOND: usize = 1_000;

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Exit after the summary, with 1 when any step was not as it should be.
    #[arg(long)]
    once: bool,
    /// Print the summary as one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// Provinces, at least the three that show every way to connect.
    #[arg(long, default_value_t = 3, value_name = "N")]
    provinces: usize,
    /// Clusters a province.
    #[arg(long, default_value_t = 60, value_name = "N")]
    clusters: usize,
    /// Send the nodes' traces to this OTLP/gRPC collector, e.g. http://127.0.0.1:4317.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Keep the data here; otherwise it goes when the demo ends.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: DemoArgs) -> Result<ExitCode> {
    ensure!((3..=MAX_PROVINCES).contains(&args.provinces), "--provinces takes 3 to {MAX_PROVINCES}");
    ensure!((1..=MAX_CLUSTERS).contains(&args.clusters), "--clusters takes 1 to {MAX_CLUSTERS}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        // One listener for the whole run: while it works Ctrl-C breaks it off, when it stays up Ctrl-C ends it.
        let stop = Arc::new(Notify::new());
        let told = Arc::clone(&stop);
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                told.notify_one();
            }
        });
        drive(args, &stop).await
    });
    // Clusters still wait for commands; nobody needs them to say goodbye.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

fn pace(clusters: usize) -> Pace {
    let status_every = Duration::from_millis((clusters * 1_000 / REPORTS_A_SECOND).max(1_000) as u64);
    Pace { status_every, offline_after: status_every * 3, status_tick: Duration::from_secs(1) }
}

async fn drive(args: DemoArgs, stop: &Notify) -> Result<ExitCode> {
    let began = Instant::now();
    let pace = pace(args.provinces * args.clusters);
    let today = (OffsetDateTime::now_utc() + Duration::from_secs(7 * 3600)).date();
    let period = reports::last_quarter(today);
    let mut summary = Summary { provinces: args.provinces, period, ..Summary::default() };

    let progress = Progress::step(0, STEPS, "Khởi động (start)")?;
    progress.say("khoá, chứng thư, cấu hình (keys, certificates, configurations)");
    let mut world = World::prepare(args.dir.as_deref(), args.provinces, pace, args.otlp.as_deref()).await?;
    summary.communes = world.provinces.iter().map(|province| province.communes.len()).sum();
    progress.say("các nút (nodes)");
    world.start().await?;
    let people = People::log_in(&world).await?;
    progress.say("cụm loa (clusters)");
    let fleet = Fleet::mount(&world, args.clusters, pace).await?;
    summary.clusters = fleet.len();
    progress.done(&mut summary);

    let worked = tokio::select! {
        worked = work(&mut world, &people, &fleet, args.clusters, &mut summary) => Some(worked),
        () = stop.notified() => None,
    };
    let Some(worked) = worked else {
        eprintln!("đang dừng (stopping)");
        fleet.stop();
        world.stop().await?;
        return Ok(ExitCode::from(130));
    };
    if let Err(error) = worked {
        summary.failures.push(format!("{error:#}"));
    }
    summary.device_calls = Tally::get(&fleet.tally.calls);
    summary.media_verified = Tally::get(&fleet.tally.media_verified);

    let progress = Progress::step(STEPS, STEPS, "Dừng và kiểm toán (stop and audit)")?;
    progress.say("dừng các nút (stopping nodes)");
    // Clusters that stay up come back by themselves when their province does.
    if args.once {
        fleet.stop();
    }
    let audited = match world.stop().await {
        Ok(()) => steps::audit_all(&mut world, &progress, &mut summary),
        Err(error) => Err(error),
    };
    if let Err(error) = audited {
        summary.failures.push(format!("{error:#}"));
    }
    progress.done(&mut summary);
    for node in world.nodes() {
        let kind = node.kind().to_owned();
        let mib = node.peak_kib / 1024;
        let largest = summary.memory_mib.entry(kind).or_default();
        *largest = mib.max(*largest);
    }
    summary.seconds = (began.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    summary.ok = summary.failures.is_empty();

    eprint!("{}", summary.table());
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    }
    if !args.once {
        world.start().await?;
        addresses(&world);
        stop.notified().await;
        fleet.stop();
        world.stop().await?;
    }
    Ok(if summary.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn work(world: &mut World, people: &People, fleet: &Fleet, clusters: usize, summary: &mut Summary) -> Result<()> {
    let progress = Progress::step(1, STEPS, "Biên tập, duyệt, phát hành (publish)")?;
    let bulletin = steps::publish(people, summary).await?;
    progress.done(summary);

    let progress = Progress::step(2, STEPS, "Lên lịch và phát (schedule and play)")?;
    steps::schedule_and_play(world, people, fleet, &bulletin, clusters, &progress, summary).await?;
    progress.done(summary);

    let progress = Progress::step(3, STEPS, "Khẩn cấp (emergency)")?;
    steps::emergency(world, people, fleet, &progress, summary).await?;
    progress.done(summary);

    let progress = Progress::step(4, STEPS, "Cụm loa tắt, bật (clusters off and on)")?;
    steps::off_and_on(people, fleet, &progress, summary).await?;
    progress.done(summary);

    let progress = Progress::step(5, STEPS, "Báo cáo quý (quarterly reports)")?;
    steps::report(world, people, &progress, summary).await?;
    progress.done(summary);

    let progress = Progress::step(6, STEPS, "Mất sàn, đứt cáp (outage)")?;
    steps::outage(world, people, fleet, &progress, summary).await?;
    progress.done(summary);

    let progress = Progress::step(7, STEPS, "Dựng lại bảng dữ liệu (rebuild read models)")?;
    steps::compare(world, &progress, summary).await?;
    progress.done(summary);
    Ok(())
}

fn addresses(world: &World) {
    eprintln!("Hệ thống đang chạy (running); Ctrl-C để dừng (to stop).");
    eprintln!("  dữ liệu (data)         {}", world.dir.display());
    eprintln!("  chứng thư gốc (CA)     {}", world.ca.display());
    eprintln!("  mật khẩu (password)    {}", world.password);
    eprintln!("  trung ương (central)   {}  editor, approver, auditor", world.central.base());
    eprintln!("  sàn trao đổi (gateway) {}  auditor", world.gateway.base());
    eprintln!("  LGSP (adapter)         {}  auditor", world.adapter.base());
    for province in &world.provinces {
        eprintln!("  {:<22} {}  officer, commune, operator, auditor", province.name, province.node.base());
    }
}
