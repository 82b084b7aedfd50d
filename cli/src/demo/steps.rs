//! The main job, step by step, as the people and machines of the demo do it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::stream::{self, TryStreamExt as _};
use httt_log::{AuditOptions, audit};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::api::Session;
use crate::demo::device::Tally;
use crate::demo::fleet::Fleet;
use crate::demo::progress::Progress;
use crate::demo::summary::{Latency, Summary};
use crate::demo::world::{Province, World};
use crate::demo::{audio, reports};

/// How long anything may take before the demo says that it did not happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Calls under way at once where a province's staff work in parallel.
const STAFF: usize = 8;
/// How long the exchange is away.
const OUTAGE: Duration = Duration::from_secs(4);

/// Everybody who is logged in.
pub(crate) struct People {
    editor: Session,
    approver: Session,
    /// By province: the officer who acts for the communes, and the staff of the first commune.
    officers: Vec<(Session, Session)>,
}

impl People {
    pub(crate) async fn log_in(world: &World) -> Result<Self> {
        let central = world.central.base();
        let open = |base: String, account: &'static str| async move {
            Session::open(&world.http, &base, account, &world.password)
                .await
                .with_context(|| format!("{account} cannot log in at {base}"))
        };
        let mut officers = Vec::new();
        for province in &world.provinces {
            let base = province.node.base();
            officers.push((open(base.clone(), "officer").await?, open(base, "commune").await?));
        }
        Ok(Self {
            editor: open(central.clone(), "editor").await?,
            approver: open(central, "approver").await?,
            officers,
        })
    }
}

/// Looks until `done` says so.
async fn until<F, Fut>(what: &str, done: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    within(PATIENCE, what, done).await
}

/// Looks until `done` says so, for so long.
async fn within<F, Fut>(patience: Duration, what: &str, mut done: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    let began = Instant::now();
    while !done().await.with_context(|| what.to_owned())? {
        if began.elapsed() > patience {
            bail!("{what}: not after {patience:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// What the ministry writes.
struct Written<'a> {
    title: &'a str,
    priority: &'a str,
    seed: u32,
}

async fn draft(people: &People, written: Written<'_>) -> Result<String> {
    let wav = audio::chime(2, written.seed);
    let media = people.editor.put_bytes("/media", "audio/wav", wav).await?;
    let content = json!({
        "title": written.title,
        "summary": "Bản tin của hệ thống thông tin nguồn trung ương",
        "kind": "audio",
        "subject": "policy_and_law",
        "priority": written.priority,
        "source": "Bộ Văn hóa, Thể thao và Du lịch",
        "pen_name": "Ban biên tập",
        "media": {
            "sha256": media["sha256"], "size": media["size"], "content_type": "audio/wav",
            "name": "ban-tin.wav", "duration_ms": 2_000,
        },
    });
    let bulletin = people.editor.post("/bulletins", &json!({ "content": content })).await?;
    let id = bulletin["bulletin"].as_str().context("no bulletin id")?.to_owned();
    people.editor.post(&format!("/bulletins/{id}/submit"), &json!({})).await?;
    Ok(id)
}

/// 1. The ministry drafts, the author's own approval is refused, a second person approves, it is published.
pub(crate) async fn publish(people: &People, summary: &mut Summary) -> Result<String> {
    let written =
        Written { title: "Hướng dẫn phòng, chống thiên tai mùa mưa bão", priority: "ordinary", seed: 0 };
    let id = draft(people, written).await?;
    match people.editor.try_post(&format!("/bulletins/{id}/approve"), &json!({})).await? {
        Ok(_) => summary.expect(false, "the author approved their own bulletin"),
        Err(refused) => {
            let four_eyes = refused.status.as_u16() == 403 && refused.codes().iter().any(|code| code == "own-work");
            summary.expect(four_eyes, format!("own approval refused as {} {}", refused.status, refused.error));
        }
    }
    people.approver.post(&format!("/bulletins/{id}/approve"), &json!({})).await?;
    people.approver.post(&format!("/bulletins/{id}/publish"), &json!({})).await?;
    summary.bulletins.published += 1;
    Ok(id)
}

async fn delivery(people: &People, bulletin: &str) -> Result<Value> {
    people.editor.get(&format!("/bulletins/{bulletin}/delivery")).await
}

/// Waits until the ministry sees the bulletin durable in every province.
async fn delivered(people: &People, bulletin: &str, provinces: usize) -> Result<()> {
    until(&format!("{bulletin} durable in {provinces} provinces"), || async move {
        Ok(number(&delivery(people, bulletin).await?["totals"]["received"]) >= provinces as u64)
    })
    .await
}

/// Waits until the ministry sees that `clusters` clusters played it.
async fn played(people: &People, bulletin: &str, clusters: usize) -> Result<()> {
    until(&format!("{bulletin} played by {clusters} clusters"), || async move {
        Ok(number(&delivery(people, bulletin).await?["totals"]["played"]) >= clusters as u64)
    })
    .await
}

/// 2. Every province holds it; communes schedule it; clusters fetch, check, play and report.
pub(crate) async fn schedule_and_play(
    world: &World,
    people: &People,
    fleet: &Fleet,
    bulletin: &str,
    clusters_each: usize,
    progress: &Progress,
    summary: &mut Summary,
) -> Result<()> {
    progress.say("chờ mọi tỉnh nhận (waiting for every province)");
    delivered(people, bulletin, world.provinces.len()).await?;
    let mut scheduled = 0;
    for (province, (officer, commune)) in world.provinces.iter().zip(&people.officers) {
        progress.say(format!("{}: lên lịch (scheduling)", province.name));
        offered(officer, bulletin).await?;
        let communes = &province.communes[..clusters_each.min(province.communes.len())];
        stream::iter(communes.iter().enumerate().map(Ok::<_, anyhow::Error>))
            .try_for_each_concurrent(STAFF, |(index, code)| async move {
                // The first commune's own staff schedule theirs; the department does it for the others.
                let person = if index == 0 { commune } else { officer };
                person.post("/schedules", &all_day(bulletin, code)).await.map(|_| ())
            })
            .await?;
        scheduled += communes.len();
    }
    progress.say("chờ cụm loa phát (waiting for clusters to play)");
    played(people, bulletin, fleet.len()).await?;
    let totals = delivery(people, bulletin).await?["totals"].take();
    summary.expect(number(&totals["scheduled"]) == scheduled as u64, format!("scheduled: {totals}"));
    summary.expect(number(&totals["played"]) == fleet.len() as u64, format!("played: {totals}"));
    let (tally, all) = (&fleet.tally, fleet.len() as u64);
    summary.expect(Tally::get(&tally.wrong_digest) == 0, "media with a wrong digest");
    let verified = Tally::get(&tally.media_verified);
    summary.expect(verified >= all, format!("{verified} media files verified by {all} clusters"));
    let accepted = Tally::get(&tally.schedules_accepted);
    summary.expect(accepted >= all, format!("{accepted} schedules accepted by {all} clusters"));
    all_playing(people, fleet).await?;
    count(&totals, summary);
    Ok(())
}

/// Waits until the ministry sees every cluster playing.
async fn all_playing(people: &People, fleet: &Fleet) -> Result<()> {
    let all = fleet.len() as u64;
    until("every cluster playing", || async move {
        Ok(number(&people.editor.get("/clusters/totals").await?["totals"]["playing"]) == all)
    })
    .await
}

fn count(totals: &Value, summary: &mut Summary) {
    summary.bulletins.delivered += number(&totals["received"]);
    summary.bulletins.scheduled += number(&totals["scheduled"]);
    summary.bulletins.played += number(&totals["played"]);
}

/// Waits until the province has the bulletin with its media and offers it to communes.
async fn offered(officer: &Session, bulletin: &str) -> Result<()> {
    until("offered to communes", || async move {
        let shown = officer.get(&format!("/bulletins/{bulletin}")).await?;
        let mut communes = shown["communes"].as_array().into_iter().flatten();
        Ok(communes.any(|commune| commune["offered"] == true))
    })
    .await
}

/// A schedule that plays all of today and tomorrow, so that midnight does not end the demo.
fn all_day(bulletin: &str, commune: &str) -> Value {
    let now = OffsetDateTime::now_utc() + Duration::from_secs(7 * 3600);
    let day =
        |date: time::Date| json!({ "date": date.to_string(), "times": [{ "starts": "00:00:00", "ends": "23:59:59" }] });
    let tomorrow = now.date().next_day().unwrap_or(now.date());
    json!({
        "commune": commune,
        "name": "Chương trình trong ngày",
        "bulletins": [{ "bulletin": bulletin, "days": [day(now.date()), day(tomorrow)] }],
    })
}

/// 3. An emergency interrupts, reaches every cluster, and the clusters resume.
pub(crate) async fn emergency(
    world: &World,
    people: &People,
    fleet: &Fleet,
    progress: &Progress,
    summary: &mut Summary,
) -> Result<()> {
    let written =
        Written { title: "Cảnh báo khẩn cấp: lũ quét, sạt lở đất", priority: "emergency", seed: 3 };
    let id = draft(people, written).await?;
    let address = format!("/bulletins/{id}/approve");
    match people.approver.try_post(&address, &json!({})).await? {
        Ok(_) => summary.expect(false, "an emergency was approved without a one-time code"),
        Err(refused) => {
            let step_up = refused.codes().iter().any(|code| code == "step-up-needed");
            summary.expect(step_up, format!("an emergency without a code refused as {}", refused.error));
        }
    }
    let code = world.otp.code_at((OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64);
    people.approver.post(&address, &json!({ "otp": code })).await?;
    summary.bulletins.published += 1;
    progress.say("chờ mọi tỉnh nhận (waiting for every province)");
    delivered(people, &id, world.provinces.len()).await?;
    let seen = delivery(people, &id).await?;
    let mut latencies: Vec<i64> = seen["provinces"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|province| province["latency_ms"].as_i64())
        .collect();
    latencies.sort_unstable();
    ensure!(latencies.len() == world.provinces.len(), "latency of {} provinces", latencies.len());
    summary.emergency_latency =
        Latency { p50_ms: latencies[latencies.len() / 2], max_ms: latencies.last().copied().unwrap_or(0) };
    progress.say("chờ mọi cụm loa phát (waiting for every cluster)");
    played(people, &id, fleet.len()).await?;
    let tally = &fleet.tally;
    until("clusters resumed", || async { Ok(Tally::get(&tally.resumed) >= fleet.len() as u64) }).await?;
    summary.emergency.reached = Tally::get(&tally.emergencies);
    summary.emergency.interrupted = Tally::get(&tally.interrupted);
    summary.emergency.resumed = Tally::get(&tally.resumed);
    let all = fleet.len() as u64;
    let each = [summary.emergency.reached, summary.emergency.interrupted, summary.emergency.resumed];
    summary.expect(each == [all; 3], format!("emergency reached, interrupted, resumed {each:?} of {all} clusters"));
    let verified = Tally::get(&tally.media_verified);
    summary.expect(verified >= 2 * all, format!("{verified} media files verified for two bulletins on {all} clusters"));
    // What clusters say of themselves is one thing; what the ministry sees is another.
    all_playing(people, fleet).await?;
    count(&delivery(people, &id).await?["totals"], summary);
    Ok(())
}

/// 4. Clusters go off and on; the ministry's totals follow.
pub(crate) async fn off_and_on(
    people: &People,
    fleet: &Fleet,
    progress: &Progress,
    summary: &mut Summary,
) -> Result<()> {
    let all = fleet.len() as u64;
    // Off is what has not reported for a while, and clusters report less often when there are many.
    let patience = PATIENCE + fleet.offline_after * 2;
    let totals = || async { anyhow::Ok(people.editor.get("/clusters/totals").await?["totals"].take()) };
    within(patience, "all clusters online", || async { Ok(number(&totals().await?["online"]) == all) }).await?;
    let off = fleet.power_some(false) as u64;
    progress.say(format!("{off} cụm loa mất điện (clusters without power)"));
    within(patience, "totals follow clusters going off", || async {
        let seen = totals().await?;
        Ok(number(&seen["offline"]) == off && number(&seen["online"]) == all - off)
    })
    .await?;
    fleet.power_some(true);
    progress.say("có điện trở lại (power is back)");
    within(patience, "totals follow clusters coming back", || async { Ok(number(&totals().await?["online"]) == all) })
        .await?;
    summary.expect(number(&totals().await?["total"]) == all, "the ministry counts all clusters");
    Ok(())
}

/// 5. Communes file; each mistake is refused; province and nation sum up.
pub(crate) async fn report(world: &World, people: &People, progress: &Progress, summary: &mut Summary) -> Result<()> {
    let period = summary.period.clone();
    let (_, commune) = &people.officers[0];
    let own = &world.provinces[0].communes[0];
    for mistake in reports::mistakes() {
        let address = format!("/reports/{}/{period}/{own}", reports::FORM);
        match commune.try_put(&address, &mistake.typed).await? {
            Ok(_) => summary.expect(false, format!("{} was not refused", mistake.code)),
            Err(refused) => {
                summary.reports.refused += 1;
                let named = refused.codes().iter().any(|code| code == mistake.code)
                    && refused.fields().iter().any(|field| field == mistake.field);
                summary.expect(named, format!("{} refused as {}", mistake.code, refused.error));
                let said = refused.vietnamese(mistake.code);
                let names_it = said.as_deref().is_some_and(|text| text.contains(mistake.label));
                summary.expect(names_it, format!("{} does not name {}: {said:?}", mistake.code, mistake.label));
            }
        }
    }
    for (province, (officer, commune)) in world.provinces.iter().zip(&people.officers) {
        progress.say(format!("{}: {} xã báo cáo (communes report)", province.name, province.communes.len()));
        report_province(province, officer, commune, summary).await?;
    }
    let communes: usize = world.provinces.iter().map(|province| province.communes.len()).sum();
    let address = format!("/reports/{}/{period}", reports::FORM);
    progress.say("cả nước tổng hợp (the nation sums up)");
    until("every report reaches the ministry", || async {
        Ok(number(&people.editor.get(&address).await?["filed"]) == communes as u64)
    })
    .await?;
    let nation = people.editor.get(&address).await?;
    let expected: u64 =
        world.provinces.iter().map(|province| (0..province.communes.len()).map(clusters_of).sum::<u64>()).sum();
    let summed = total(&nation, "clusters_all");
    summary.expect(summed == Some(expected), format!("the nation sums {summed:?} clusters, not {expected}"));
    until("every summary reaches the ministry", || async {
        let seen = people.editor.get(&address).await?;
        let submitted = seen["children"].as_array().into_iter().flatten();
        let submitted = submitted.filter(|province| province["submitted_at_ms"].is_i64()).count();
        Ok(submitted == world.provinces.len())
    })
    .await?;
    let stations = total(&nation, "stations");
    summary.expect(stations == Some(communes as u64), format!("the nation sums {stations:?} stations"));
    Ok(())
}

fn clusters_of(index: usize) -> u64 {
    number(&reports::right(index)["clusters_all"])
}

/// An indicator's sum in the ministry's answer about reports.
fn total(answer: &Value, indicator: &str) -> Option<u64> {
    answer["indicators"].as_array()?.iter().find(|one| one["code"] == indicator)?["sum"].as_u64()
}

async fn report_province(
    province: &Province,
    officer: &Session,
    commune: &Session,
    summary: &mut Summary,
) -> Result<()> {
    let period = summary.period.clone();
    let address = |code: &str| format!("/reports/{}/{period}/{code}", reports::FORM);
    // All but the last: the summary must then name the one that is missing.
    let last = province.communes.len() - 1;
    stream::iter(province.communes[..last].iter().enumerate().map(Ok::<_, anyhow::Error>))
        .try_for_each_concurrent(STAFF, |(index, code)| async move {
            let person = if index == 0 { commune } else { officer };
            match person.try_put(&address(code), &reports::right(index)).await? {
                Ok(_) => Ok(()),
                Err(refused) => bail!("report of {code}: {}", refused.error),
            }
        })
        .await?;
    let submit = format!("/reports/{}/{period}/submit", reports::FORM);
    match officer.try_post(&submit, &json!({})).await? {
        Ok(_) => summary.expect(false, format!("{}: a summary without every commune was taken", province.name)),
        Err(refused) => {
            summary.reports.refused += 1;
            let names = refused.error.to_string().contains(&province.communes[last]);
            summary.expect(names, format!("the missing commune is not named: {}", refused.error));
        }
    }
    if let Err(refused) = officer.try_put(&address(&province.communes[last]), &reports::right(last)).await? {
        bail!("report of the last commune: {}", refused.error);
    }
    officer.post(&submit, &json!({})).await?;
    summary.reports.accepted += province.communes.len() as u64;
    summary.reports.summaries += 1;
    let sheet = officer.get(&format!("/reports/{}/{period}", reports::FORM)).await?;
    let sum = sheet["sums"]["clusters_all"]["sum"].as_u64();
    let expected: u64 = (0..province.communes.len()).map(clusters_of).sum();
    summary.expect(sum == Some(expected), format!("{} sums {sum:?} clusters, not {expected}", province.name));
    Ok(())
}

/// 6. The gateway is killed and a cable pulled; work goes on; everything converges after.
pub(crate) async fn outage(
    world: &mut World,
    people: &People,
    fleet: &Fleet,
    progress: &Progress,
    summary: &mut Summary,
) -> Result<()> {
    let period = summary.period.clone();
    progress.say("sàn trao đổi bị ngắt (gateway killed, a cable pulled)");
    let (began, calls) = (Instant::now(), Tally::get(&fleet.tally.calls));
    world.gateway.kill().await?;
    if let Some(cable) = world.provinces.iter().find_map(|province| province.cable.as_ref()) {
        cable.pull();
    }
    // The ministry publishes, communes correct a figure: nobody waits for the exchange.
    let written = Written { title: "Lịch tiêm chủng tháng này", priority: "priority", seed: 5 };
    let bulletin = draft(people, written).await?;
    people.approver.post(&format!("/bulletins/{bulletin}/approve"), &json!({})).await?;
    people.approver.post(&format!("/bulletins/{bulletin}/publish"), &json!({})).await?;
    summary.bulletins.published += 1;
    for (province, (officer, _)) in world.provinces.iter().zip(&people.officers) {
        let mut corrected = reports::right(0);
        corrected["notice_boards"] = json!(7);
        let address = format!("/reports/{}/{period}/{}", reports::FORM, province.communes[0]);
        if let Err(refused) = officer.try_put(&address, &corrected).await? {
            bail!("{}: a correction during the outage: {}", province.name, refused.error);
        }
        summary.reports.accepted += 1;
    }
    let received = number(&delivery(people, &bulletin).await?["totals"]["received"]);
    summary.expect(received == 0, "something was delivered without an exchange");
    tokio::time::sleep(OUTAGE.saturating_sub(began.elapsed())).await;
    // Half of the status reports due in that time, at least: clusters do not all report at the same moment.
    let served = Tally::get(&fleet.tally.calls) - calls;
    let due = fleet.len() as f64 * began.elapsed().as_secs_f64() / fleet.status_every.as_secs_f64();
    summary.expect(served as f64 >= due / 2.0, format!("only {served} calls of clusters during the outage"));
    bridged(world, people, summary).await?;

    progress.say("sàn trao đổi trở lại (gateway back)");
    world.gateway.spawn()?;
    world.gateway.wait_ready(&world.http).await?;
    let mended = Instant::now();
    let cabled = world.provinces.iter().filter(|province| province.cable.is_some()).count();
    delivered(people, &bulletin, world.provinces.len() - cabled).await?;
    if cabled > 0 {
        let received = number(&delivery(people, &bulletin).await?["totals"]["received"]);
        summary.expect(received as usize == world.provinces.len() - cabled, "the province without a cable has it");
        progress.say("nối lại cáp (cable mended)");
        world.provinces.iter().filter_map(|province| province.cable.as_ref()).for_each(|cable| cable.plug());
    }
    delivered(people, &bulletin, world.provinces.len()).await?;
    let address = format!("/reports/{}/{period}", reports::FORM);
    let boards: u64 = world
        .provinces
        .iter()
        .map(|province| 7 + (1..province.communes.len()).map(|index| index as u64 % 2).sum::<u64>())
        .sum();
    until("corrections reach the ministry", || async {
        Ok(total(&people.editor.get(&address).await?, "notice_boards") == Some(boards))
    })
    .await?;
    for (officer, _) in &people.officers {
        until("a province is level with the exchange", || async {
            let link = officer.get("/link").await?;
            // Status flows all the time: a feed may be one batch ahead at any moment.
            let behind = link["behind"].as_array().into_iter().flatten();
            let gap = behind.map(|feed| number(&feed["here"]).abs_diff(number(&feed["there"]))).max().unwrap_or(0);
            // The gateway itself says that it holds what this province said: no carrier can make a receipt.
            let mut unreceipted = link["unreceipted"].as_array().into_iter().flatten();
            let receipted = unreceipted.all(|feed| number(&feed["here"]) - number(&feed["receipted"]) <= 2);
            Ok(link["connected"] == true && gap <= 2 && receipted)
        })
        .await?;
    }
    summary.converged_after_s = mended.elapsed().as_secs_f64();
    count(&delivery(people, &bulletin).await?["totals"], summary);
    Ok(())
}

/// The province behind the adapter is level with it although the exchange is away: the adapter's own log bridges.
async fn bridged(world: &World, people: &People, summary: &mut Summary) -> Result<()> {
    for (province, (officer, _)) in world.provinces.iter().zip(&people.officers) {
        if !province.through_adapter {
            continue;
        }
        let link = officer.get("/link").await?;
        let report = format!("{}→TW/report", province.node.code);
        let behind = link["behind"].as_array().into_iter().flatten().any(|feed| feed["feed"] == report.as_str());
        summary.expect(link["connected"] == true && !behind, format!("the adapter does not bridge: {link}"));
    }
    Ok(())
}

/// 7a. Read models rebuilt from nothing equal the live ones.
pub(crate) async fn compare(world: &mut World, progress: &Progress, summary: &mut Summary) -> Result<()> {
    let (http, password) = (world.http.clone(), world.password.clone());
    let mut equal = true;
    for node in world.nodes() {
        progress.say(format!("{}: dựng lại (rebuilding)", node.code));
        node.note_memory();
        let auditor = Session::open(&http, &node.base(), "auditor", &password).await?;
        let comparison = auditor.post("/models/compare", &json!({})).await?;
        let models = comparison.as_array().context("no comparison")?;
        ensure!(!models.is_empty(), "{} compared no model", node.code);
        for model in models.iter().filter(|model| model["equal"] != true) {
            equal = false;
            summary.failures.push(format!("{}: {} differs from its rebuild", node.code, model["model"]));
        }
    }
    summary.rebuild_equal = equal;
    Ok(())
}

/// 7b. Every log, at rest, passes the audit.
pub(crate) fn audit_all(world: &mut World, progress: &Progress, summary: &mut Summary) -> Result<()> {
    let trusted = world.gateway_fingerprint;
    let mut clean = true;
    for node in world.nodes() {
        progress.say(format!("{}: kiểm toán (auditing)", node.code));
        let options = AuditOptions { trusted: Some(trusted), on_progress: None };
        let report = audit(&node.data.join("log"), options)?;
        summary.audited.logs += 1;
        summary.audited.entries += report.entries;
        summary.audited.events += report.events;
        let checked = report.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.ok && checkpoint.size > 0);
        if !checked {
            clean = false;
            summary.failures.push(format!("{}: no good checkpoint: {:?}", node.code, report.checkpoint));
        }
        for finding in &report.findings {
            clean = false;
            summary.failures.push(format!(
                "{}: {} byte {} position {}: {}",
                node.code, finding.chunk, finding.offset, finding.position, finding.what
            ));
        }
    }
    summary.audit = if clean { "ok" } else { "damaged" }.to_owned();
    Ok(())
}
