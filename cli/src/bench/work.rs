//! What is appended: events as clusters' status changes are, the same for every store.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use httt_feed::{AgencyCode, Audience, Lane};
use httt_log::NewEvent;
use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::{Builder, Uuid};

use super::shape::Shape;

/// Streams the events are spread over.
pub(crate) const STREAMS: u64 = 10_000;
/// Type of every event.
pub(crate) const KIND: &str = "httt.cluster.v1.ClusterStatusChanged";
/// Random bytes that payloads are cut from.
const POOL_BYTES: usize = 4 << 20;
/// Most events of one case in one round: they are made before the clock starts and wait in memory.
pub(crate) const MAX_EVENTS_PER_RUN: usize = 200_000;

/// One event, before a store gives it its shape.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: Uuid,
    pub(crate) stream: u64,
    pub(crate) data: Bytes,
}

impl Record {
    /// Its stream's name.
    pub(crate) fn stream_name(&self) -> String {
        format!("status/{}", self.stream)
    }

    /// As the log takes it.
    pub(crate) fn into_event(self, audience: &Audience) -> NewEvent {
        NewEvent {
            id: self.id,
            audience: audience.clone(),
            lane: Lane::Status,
            stream: self.stream_name(),
            kind: KIND.to_owned(),
            actor: String::new(),
            traceparent: String::new(),
            occurred_at_ms: None,
            data: self.data,
        }
    }
}

/// Whom the events are for.
pub(crate) fn audience() -> Result<Audience> {
    Ok(Audience::One(AgencyCode::new("TW")?))
}

/// Makes records without end. Payloads cannot be compressed: they are cut from a pool of random bytes at odd places.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pool: Bytes,
    state: u64,
}

impl Source {
    /// A source of its own randomness.
    pub(crate) fn new() -> Result<Self> {
        let mut pool = vec![0; POOL_BYTES];
        let random = SystemRandom::new();
        random.fill(&mut pool).map_err(|_| anyhow!("the system gives no random bytes"))?;
        let mut seed = [0; 8];
        random.fill(&mut seed).map_err(|_| anyhow!("the system gives no random bytes"))?;
        Ok(Self { pool: pool.into(), state: u64::from_le_bytes(seed) })
    }

    /// One that shares the pool and gives other records.
    pub(crate) fn another(&mut self) -> Self {
        Self { pool: self.pool.clone(), state: self.next() }
    }

    /// SplitMix64: fast, so that making events is not what is measured.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The next record, with `payload` bytes.
    pub(crate) fn record(&mut self, payload: usize) -> Record {
        let (high, low) = (self.next(), self.next());
        let mut random = [0; 10];
        random[..8].copy_from_slice(&high.to_le_bytes());
        random[8..].copy_from_slice(&low.to_le_bytes()[..2]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let id = Builder::from_unix_timestamp_millis(now.as_millis() as u64, &random).into_uuid();
        let at = (low >> 16) as usize % (self.pool.len() - payload);
        Record { id, stream: high % STREAMS, data: self.pool.slice(at..at + payload) }
    }

    /// `commits` commits for each task of a shape.
    pub(crate) fn tasks(&mut self, shape: &Shape, payload: usize, commits: usize) -> Vec<Vec<Vec<Record>>> {
        (0..shape.tasks())
            .map(|_| (0..commits).map(|_| (0..shape.events).map(|_| self.record(payload)).collect()).collect())
            .collect()
    }
}

/// One run of one case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) shape: Shape,
    pub(crate) payload: usize,
    /// Commits of each task.
    pub(crate) commits: usize,
}

impl Work {
    /// Events in all.
    pub(crate) fn events(&self) -> u64 {
        (self.shape.tasks() * self.commits * self.shape.events) as u64
    }
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) events: u64,
    pub(crate) elapsed: Duration,
    /// Groups that were synced, where that can be told.
    pub(crate) groups: Option<u64>,
}

impl Measured {
    /// Events a second.
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Something that takes events and says when they are stored.
pub(crate) trait Store {
    /// Its name in the report.
    fn name(&self) -> &'static str;
    /// What a reader of the figures must know of it.
    fn note(&self) -> &'static str;
    /// Whether what it acknowledges survives a power cut.
    fn durable(&self) -> bool;
    /// Does the work, timing nothing but the appending.
    fn run(&mut self, source: &mut Source, work: Work) -> Result<Measured>;
}
