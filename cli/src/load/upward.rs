//! A province's log and its way up: what is committed is sealed, read back, packed and counted as it is pushed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use httt_domain::models::{Clusters, Fact, ReadModel as _};
use httt_exchange::{MAX_CALL_BYTES, MAX_ENTRIES_PER_PUSH, MAX_WAIT_MS, OnTheWire, pack, unpack};
use httt_feed::{AgencyCode, Audience, FeedId, Lane, Sealer, SigningKey};
use httt_log::{Log, ManualClock, NewEvent, Options, Transaction};
use httt_wire::{Message, Name, exchange as wire, feed as pb};
use tempfile::TempDir;
use uuid::Builder;

use super::random::Random;

/// The province and the ministry.
pub(crate) const OWN: &str = "H24";
const MINISTRY: &str = "TW";
/// As in a province's own events.
const ACTOR: &str = "provincial-source";

/// What one lane sent upward.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct LaneFigures {
    /// Events.
    pub(crate) events: u64,
    /// Sealed batches.
    pub(crate) batches: u64,
    /// Bytes of these.
    pub(crate) sealed_bytes: u64,
    /// Pushes.
    pub(crate) pushes: u64,
    /// Bytes of the requests that carry them, packed.
    pub(crate) wire_bytes: u64,
}

/// What else is asked of the exchange for each push: heads until the receipt is there, and the receipt.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Asking {
    /// Requests.
    pub(crate) requests: u64,
    /// Their bytes.
    pub(crate) wire_bytes: u64,
}

/// The way up.
pub(crate) struct Upward {
    log: Log,
    clock: Arc<ManualClock>,
    random: Random,
    /// Whether what is pushed is counted.
    pub(crate) counts: bool,
    pushed: BTreeMap<FeedId, u64>,
    pub(crate) lanes: BTreeMap<Lane, LaneFigures>,
    pub(crate) asking: Asking,
    /// What the province knows, folded from its log.
    pub(crate) own: Clusters,
    /// What a reader knows that began at the first restatement that was counted.
    pub(crate) reader: Option<Clusters>,
    _dir: TempDir,
}

impl Upward {
    pub(crate) fn open(seed: u64) -> Result<Self> {
        let dir = tempfile::tempdir().context("a folder for the log")?;
        let clock = Arc::new(ManualClock::new(0));
        let key = SigningKey::from_seed(&[7; 32]).context("a key")?;
        let sealer = Arc::new(Sealer::new(AgencyCode::new(OWN)?, key));
        let options =
            Options { clock: clock.clone(), checkpoint_every: Duration::from_secs(3_600), ..Options::default() };
        let (log, _) = Log::open(&dir.path().join("log"), sealer, options)?;
        Ok(Self {
            log,
            clock,
            random: Random::new(seed, 0xFEED),
            counts: false,
            pushed: BTreeMap::new(),
            lanes: BTreeMap::new(),
            asking: Asking::default(),
            own: Clusters::default(),
            reader: None,
            _dir: dir,
        })
    }

    /// An event of the province to the ministry, with an id that the seed gives.
    pub(crate) fn event<M: Message + Name>(
        &mut self,
        at_ms: i64,
        lane: Lane,
        stream: &str,
        message: &M,
    ) -> Result<NewEvent> {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.random.next().to_be_bytes());
        random[8..].copy_from_slice(&self.random.next().to_be_bytes()[..2]);
        let id = Builder::from_unix_timestamp_millis(u64::try_from(at_ms)?, &random).into_uuid();
        let audience = Audience::One(AgencyCode::new(MINISTRY)?);
        Ok(NewEvent::of(audience, lane, stream, message).with_id(id).with_actor(ACTOR))
    }

    /// Commits, and pushes what is new as a node does that is connected.
    pub(crate) async fn commit(&mut self, at_ms: i64, transaction: Transaction) -> Result<()> {
        self.clock.set(at_ms);
        self.log.commit(transaction).await?;
        for head in self.log.heads() {
            while self.pushed.get(&head.feed).copied().unwrap_or(0) < head.head.sequence {
                self.push(&head.feed)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, feed: &FeedId) -> Result<()> {
        let after = self.pushed.get(feed).copied().unwrap_or(0);
        let entries: Vec<Bytes> = {
            let read = self.log.read_feed(feed, after, MAX_CALL_BYTES)?;
            read.into_iter().take(MAX_ENTRIES_PER_PUSH).map(|entry| entry.bytes).collect()
        };
        let (count, sealed): (usize, usize) = (entries.len(), entries.iter().map(Bytes::len).sum());
        self.pushed.insert(feed.clone(), after + count as u64);
        let OnTheWire { entries, packed } = pack(feed.lane, entries);
        let request = wire::PushRequest { feed: Some(feed.to_wire()), entries, packed, ..Default::default() };
        let wire_bytes = request.encoded_len() as u64;
        let arrived = unpack(OnTheWire { entries: request.entries, packed: request.packed })?;
        let mut events = 0;
        for bytes in arrived {
            let sealed = pb::SealedBatch::decode(bytes)?;
            let batch = pb::Batch::decode(sealed.body)?;
            events += batch.events.len() as u64;
            self.fold(&batch);
        }
        if self.counts {
            let lane = self.lanes.entry(feed.lane).or_default();
            lane.events += events;
            lane.batches += count as u64;
            lane.sealed_bytes += sealed as u64;
            lane.pushes += 1;
            lane.wire_bytes += wire_bytes;
            self.ask(feed, after);
        }
        Ok(())
    }

    /// The requests that bring a push's receipt: the call for heads that waited, begun again, and the entry itself.
    fn ask(&mut self, feed: &FeedId, after: u64) {
        let log_id = self.log.log_id().to_vec();
        let heads = wire::HeadsRequest { log_id, after: 10 * after, wait_ms: MAX_WAIT_MS, ..Default::default() };
        let receipts = FeedId { audience: Audience::One(feed.origin.clone()), lane: Lane::Report, ..feed.clone() };
        let read = wire::ReadRequest {
            feed: Some(receipts.to_wire()),
            after,
            max_bytes: MAX_CALL_BYTES as u32,
            accept_zstd: true,
            ..Default::default()
        };
        self.asking.requests += 2;
        self.asking.wire_bytes += (heads.encoded_len() + read.encoded_len()) as u64;
    }

    fn fold(&mut self, batch: &pb::Batch) {
        if batch.restates && self.counts && self.reader.is_none() {
            self.reader = Some(Clusters::default());
        }
        for event in &batch.events {
            let fact = Fact::of(batch, event);
            self.own.apply(&fact);
            if let Some(reader) = &mut self.reader {
                reader.apply(&fact);
            }
        }
    }

    pub(crate) async fn close(self) {
        self.log.close().await;
    }
}
