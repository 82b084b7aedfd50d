//! What idle long-polls cost: thousands wait while somebody else talks.
//!
//! `cargo bench -p httt-exchange --bench long_polls -- [POLLS] [BATCHES A SECOND] [SECONDS]` prints the processor time that the
//! same stream of batches takes without and with the long-polls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use httt_exchange::{
    BoxFuture, MAX_WAIT_MS, Media, MediaError, MediaStat, Receipts, Service, SharedDirectory, StoppedFeeds,
};
use httt_feed::{AgencyCode, Audience, Digest, Directory, FeedId, Lane, MemberKind, Sealer, SigningKey};
use httt_log::{Log, NewEvent, Options, Transaction};
use httt_wire::directory as pb;
use httt_wire::exchange::HeadsRequest;
use tokio::sync::watch;

/// Provinces that wait; the long-polls are theirs by turns.
const MEMBERS: usize = 500;

struct NoMedia;

impl Media for NoMedia {
    fn stat<'a>(&'a self, _: &'a AgencyCode, _: Digest, _: bool) -> BoxFuture<'a, Result<MediaStat, MediaError>> {
        Box::pin(async { Ok(MediaStat::default()) })
    }
    fn read(&self, digest: Digest, _: u64, _: usize, _: bool) -> BoxFuture<'_, Result<(Bytes, u64), MediaError>> {
        Box::pin(async move { Err(MediaError::NotHeld(digest)) })
    }
    fn write<'a>(
        &'a self,
        _: &'a AgencyCode,
        digest: Digest,
        _: u64,
        _: u64,
        _: Bytes,
        _: bool,
    ) -> BoxFuture<'a, Result<MediaStat, MediaError>> {
        Box::pin(async move { Err(MediaError::NotHeld(digest)) })
    }
}

fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

fn key(member: &str) -> SigningKey {
    SigningKey::from_seed(&Digest::of(member.as_bytes()).0).expect("key")
}

/// User and system time of this process so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("number")).sum();
    Duration::from_millis(ticks * 10)
}

fn main() {
    let number = |at: usize, default: usize| {
        let numbers = std::env::args().skip(1).filter_map(|text| text.parse().ok());
        numbers.collect::<Vec<usize>>().get(at).copied().unwrap_or(default)
    };
    let (polls, rate, seconds) = (number(0, 5_000), number(1, 1_000), number(2, 5));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime");
    runtime.block_on(run(polls, rate, seconds));
}

async fn run(polls: usize, rate: usize, seconds: usize) {
    let dir = tempfile::tempdir().expect("dir");
    let (log, _) =
        Log::open(dir.path(), Arc::new(Sealer::new(code("NDXP"), key("NDXP"))), Options::default()).expect("opens");
    let members: Vec<String> = (0..MEMBERS).map(|number| format!("P{number}")).collect();
    let mut events = Vec::new();
    let named = [("NDXP", MemberKind::Gateway), ("TW", MemberKind::Central)].into_iter();
    for (member, kind) in named.chain(members.iter().map(|member| (member.as_str(), MemberKind::Province))) {
        let enrolled = pb::MemberEnrolled { member: member.into(), kind: kind.into(), ..Default::default() };
        events.push(NewEvent::of(Audience::All, Lane::Directory, format!("member/{member}"), &enrolled));
    }
    log.commit(Transaction::append(events)).await.expect("enrols");
    // Feeds that nobody changes while the measurement runs.
    for member in &members {
        let said = pb::CarrierGranted { carrier: member.clone(), member: "TW".into() };
        let quiet = NewEvent::of(Audience::One(code(member)), Lane::Report, format!("s/{member}"), &said);
        log.commit(Transaction::append([quiet])).await.expect("says");
    }
    let directory = SharedDirectory::new(log.clone(), Directory::trusting(key("NDXP").public().fingerprint()));
    let closing = watch::Sender::new(false);
    let store = Arc::new(httt_exchange::LogStore::new(log.clone()));
    let (media, stopped) = (Arc::new(NoMedia), StoppedFeeds::default());
    let service = Service::new(store, directory, media, Receipts::None, stopped, closing.subscribe());
    let service = Arc::new(service);
    println!("{} feeds, {MEMBERS} members, {rate} batches/s for {seconds} s", log.heads().len());

    let feed: FeedId = "TW→NDXP/report".parse().expect("feed");
    let (talker, mut head) = (Sealer::new(code("TW"), key("TW")), None);
    let mut spent = Vec::new();
    for waiting in [0, polls] {
        for number in 0..waiting {
            let (service, member) = (Arc::clone(&service), code(&members[number % MEMBERS]));
            let request = HeadsRequest {
                log_id: log.log_id().to_vec(),
                after: log.len(),
                wait_ms: MAX_WAIT_MS,
                ..Default::default()
            };
            tokio::spawn(async move { service.heads(&member, request).await });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (began, before, mut sent) = (Instant::now(), processor_time(), 0);
        while began.elapsed() < Duration::from_secs(seconds as u64) {
            if sent as f64 >= began.elapsed().as_secs_f64() * rate as f64 {
                tokio::time::sleep(Duration::from_micros(500)).await;
                continue;
            }
            let event = httt_wire::feed::Event {
                id: u128::from(log.len()).to_be_bytes().to_vec(),
                stream: "s".into(),
                version: log.len(),
                r#type: "t".into(),
                ..Default::default()
            };
            let batch = talker.seal(&feed, head.as_ref(), 0, vec![event]).expect("seals");
            head = Some(batch.head());
            log.commit(Transaction::copy([batch])).await.expect("takes");
            sent += 1;
        }
        let took = processor_time() - before;
        let share = 100.0 * took.as_secs_f64() / began.elapsed().as_secs_f64();
        println!("{waiting} long-polls: {sent} batches, {:.2} s of processor time, {share:.0} %", took.as_secs_f64());
        spent.push(took.as_secs_f64() * 1e6 / f64::from(sent));
    }
    if let [without, with] = spent[..] {
        println!("a batch takes {without:.0} µs without them, {with:.0} µs with them");
    }
    closing.send_replace(true);
}
