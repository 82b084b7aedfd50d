//! Following the streams: what is there at a start, after a cut and at every scrub, and what comes.
//!
//! A look goes over the headers of a whole stream and replaces what was known of it, so deleted messages, a lost tail
//! and a stream that was made anew are found in one way. Then the stream is followed, which is how a process hears what
//! the other processes of the gateway took.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt as _;
use httt_exchange::StoreError;
use httt_feed::{FeedId, Lane};
use httt_wire::{Message as _, exchange as wire};
use tokio::sync::watch;

use super::connect::sequence;
use super::headers::Headers;
use super::index::{LaneClaims, Place};
use super::shared::{MissingEntries, Shared};
use super::status::LaneState;
use super::{JetStreamError, subject};

/// Pause before a stream that could not be followed is looked at again.
const PAUSE: Duration = Duration::from_millis(500);
/// How often in a row a look waits for a header that does not come.
const MAX_STALLS: usize = 5;
/// The same while nobody publishes on the lane because of it.
const MAX_STALLS_AT_GATE: usize = 1;
/// How often a stream is looked at before a start gives up: servers that start, too, first choose their leaders.
const START_LOOKS: usize = 60;
/// Largest word of another process about what is missing.
const MAX_WANT_BYTES: usize = 256;
/// Says how large a message is whose body was left out.
const SIZE: &str = "Nats-Msg-Size";

impl Shared {
    /// Follows a lane until `closing` turns true.
    pub(super) async fn follow(self: Arc<Self>, lane: Lane, first: Headers, mut closing: watch::Receiver<bool>) {
        let follow = async {
            let mut followed = Some(first);
            loop {
                let outcome = match followed.take() {
                    Some(followed) => self.hear(lane, followed).await.map_err(JetStreamError::from),
                    None => self.look(lane).await.map(|looked| followed = Some(looked)),
                };
                if let Err(error) = outcome {
                    self.set_lane(lane, LaneState::Away(error.to_string()));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        tokio::select! {
            () = follow => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }

    /// The look of a start.
    pub(super) async fn first_look(&self, lane: Lane) -> Result<Headers, JetStreamError> {
        let mut looks = 1;
        loop {
            match self.look(lane).await {
                // A stream that cannot be used stays so.
                Err(error @ JetStreamError::Start(_)) if looks < START_LOOKS => {
                    self.set_lane(lane, LaneState::Away(error.to_string()));
                    looks += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Takes in what the lane's stream has, and puts right what it lacks.
    pub(super) async fn look(&self, lane: Lane) -> Result<Headers, JetStreamError> {
        let stream = self.connection.ensure(&self.settings, lane).await?;
        let mut headers = Headers::open(&self.connection, stream).await?;
        let mut claims = LaneClaims::default();
        let mut claim = |message: &jetstream::Message| {
            if let Some((feed, sequence, place)) = self.read_headers(lane, message) {
                claims.note(&feed, sequence, place);
            }
        };
        headers.read_rest(MAX_STALLS, &mut claim).await?;
        // What this process publishes meanwhile would be forgotten: it waits for the rest, which is short.
        let gate = self.gate(lane)?.write().await;
        headers.read_rest(MAX_STALLS_AT_GATE, &mut claim).await?;
        self.index(|index| index.replace(lane, claims));
        drop(gate);
        self.settle(lane).await?;
        self.set_lane(lane, LaneState::Followed);
        Ok(headers)
    }

    /// Hears what comes, until it is time for another look.
    async fn hear(&self, lane: Lane, mut headers: Headers) -> Result<(), StoreError> {
        let scrub = tokio::time::sleep(self.settings.scrub_every);
        tokio::pin!(scrub);
        loop {
            let message = tokio::select! {
                message = headers.next() => message?,
                () = &mut scrub => break,
            };
            if let Some((feed, sequence, place)) = self.read_headers(lane, &message) {
                self.index(|index| index.note(&feed, sequence, place));
                self.arrived(&feed).await?;
            }
        }
        headers.close().await;
        Ok(())
    }

    fn read_headers(&self, lane: Lane, message: &jetstream::Message) -> Option<(FeedId, u64, Place)> {
        let feed = subject::feed(&self.settings.prefix, &message.subject).filter(|feed| feed.lane == lane);
        let at = message.info().ok()?.stream_sequence;
        let headers = message.headers.as_ref();
        let bytes = headers.and_then(|headers| headers.get(SIZE)?.as_str().parse().ok());
        let read = (|| Some((feed?, headers.and_then(sequence)?, Place { at, bytes: bytes? })))();
        if read.is_none() {
            tracing::warn!(subject = %message.subject, message = at, "JetStream has a message that is no entry");
        }
        read
    }

    async fn arrived(&self, feed: &FeedId) -> Result<(), StoreError> {
        if self.is_own(feed) {
            let turn = self.turn(feed).await;
            self.take_home(feed).await?;
            drop(turn);
            if feed.lane == Lane::Directory {
                // It may bring the key that receipts were waiting for.
                for feed in self.index(|index| index.feeds(Lane::Report)).iter().filter(|feed| self.is_own(feed)) {
                    let _turn = self.turn(feed).await;
                    self.take_home(feed).await?;
                }
            }
        }
        // What members said counts once its receipt is there.
        Ok(())
    }

    /// Own feeds first: they say who may speak, and what was receipted.
    async fn settle(&self, lane: Lane) -> Result<(), StoreError> {
        let (own, others): (Vec<_>, Vec<_>) =
            self.index(|index| index.feeds(lane)).into_iter().partition(|feed| self.is_own(feed));
        for feed in own {
            let _turn = self.turn(&feed).await;
            self.take_home(&feed).await?;
            self.bring_back(&feed).await?;
        }
        if lane == Lane::Report {
            self.learn_receipted()?;
        }
        for feed in others {
            let _turn = self.turn(&feed).await;
            if let Err(error) = self.receipt_end(&feed).await {
                // One feed that must wait, for this process's key or for others, keeps the lane from nobody else.
                self.connection.check()?;
                tracing::warn!(%feed, %error, "the end of a feed has no receipt yet");
            }
            self.tell_missing(&feed)?;
        }
        Ok(())
    }

    /// Hears what other processes were asked for and do not have: the origin may call this one.
    pub(super) async fn hear_wants(
        self: Arc<Self>,
        mut words: async_nats::Subscriber,
        mut closing: watch::Receiver<bool>,
    ) {
        let hear = async {
            while let Some(word) = words.next().await {
                if let Err(error) = self.hear_want(&word.payload).await {
                    tracing::debug!(%error, "what another process wants cannot be looked at");
                }
            }
        };
        tokio::select! {
            () = hear => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }

    async fn hear_want(&self, payload: &[u8]) -> Result<(), StoreError> {
        let want = (payload.len() <= MAX_WANT_BYTES).then(|| wire::Want::decode(payload).ok()).flatten();
        let Some(want) = want else { return Ok(()) };
        let feed = want.feed.as_ref().and_then(|feed| FeedId::from_wire(feed).ok());
        let Some(feed) = feed.filter(|feed| !self.is_own(feed)) else { return Ok(()) };
        // Looking for it here, too, finds out whether it is missing.
        let next = want.after.saturating_add(1);
        if let Some(place) = self.index(|index| index.place(&feed, next)) {
            self.find(&feed, next, place).await?;
        }
        if let Some(until) = self.index(|index| index.missing_until(&feed, want.after)) {
            self.want(MissingEntries { feed, after: want.after, until: until.min(want.until) });
        }
        Ok(())
    }

    /// Tells the other processes what is missing.
    pub(super) async fn tell_want(&self, feed: &FeedId, after: u64, until: u64) {
        let want = wire::Want { feed: Some(feed.to_wire()), after, until };
        let subject = subject::wants(&self.settings.prefix);
        if let Err(error) = self.connection.client().publish(subject, want.encode_to_vec().into()).await {
            tracing::debug!(%error, "other processes cannot be told what is missing");
        }
    }
}
