//! Takes a file into a store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest, Directory, FeedId, Lane, Refusal, VerifiedBatch};
use httt_log::{Clock, SystemClock};

use super::report::BrokenReport;
use super::{
    Decoder, FeedReport, FormatError, ImportReport, Manifest, MediaOutcome, MediaPiece, MediaReport, Outcome, Part,
};
use crate::admit::Admission;
use crate::evidence::{Evidence, two_stories};
use crate::founding::Beginning;
use crate::own::here_of;
use crate::{
    Alarm, Gate, Media, MediaError, OwnFeeds, Receipts, SharedDirectory, StoppedFeeds, Store, StoreError, Tally, admit,
};

/// Bytes handed to the decoder at a time: what it may hold beside one frame.
const SLICE_BYTES: usize = 64 << 10;

/// Under what name evidence is counted. Who made a file it says itself, so that names nobody for sure.
const BY_HAND: &str = "by hand";

/// What importing needs of a node.
#[derive(Clone)]
pub struct Importer {
    store: Arc<dyn Store>,
    directory: SharedDirectory,
    media: Arc<dyn Media>,
    stopped: StoppedFeeds,
    gate: Gate,
    own: OwnFeeds,
    clock: Arc<dyn Clock>,
    tally: Tally,
}

impl Importer {
    /// Imports into `store` and `media`, through the `gate` that whatever else takes entries into it goes through.
    pub fn new(
        store: Arc<dyn Store>,
        directory: SharedDirectory,
        media: Arc<dyn Media>,
        stopped: StoppedFeeds,
        gate: Gate,
    ) -> Self {
        Self {
            store,
            directory,
            media,
            stopped,
            gate,
            own: OwnFeeds::default(),
            clock: Arc::new(SystemClock),
            tally: Tally::default(),
        }
    }

    /// Tells the time by `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Counts what cannot be right together with the rest of the node.
    #[must_use]
    pub fn with_tally(mut self, tally: Tally) -> Self {
        self.tally = tally;
        self
    }

    /// Takes what gets a receipt only when this node has back what it had said itself, as for a push.
    #[must_use]
    pub fn with_own_feeds(mut self, own: OwnFeeds) -> Self {
        self.own = own;
        self
    }

    /// Begins to take a file: push its bytes, then finish.
    pub fn begin(self) -> Import {
        Import {
            node: self,
            decoder: Decoder::default(),
            manifest: None,
            feeds: BTreeMap::new(),
            beginning: Beginning::default(),
            media: BTreeMap::new(),
            broken: None,
        }
    }

    /// Whether a feed may enter here. The exchange stores what anybody says to anybody; others what they may read, and
    /// the directory before they are known themselves.
    fn concerns(&self, directory: &Directory, feed: &FeedId) -> Result<(), Outcome> {
        let own = self.store.origin();
        let gateway = directory.gateway();
        if feed.lane == Lane::Local {
            return Err(Outcome::NotForThisNode);
        }
        if feed.lane == Lane::Directory && gateway.is_none_or(|gateway| *gateway == feed.origin) {
            return Ok(());
        }
        if gateway == Some(own) && feed.origin != *own {
            // As for a push.
            let (here, now_ms) = (here_of(self.store.as_ref(), &self.stopped), self.clock.now_ms());
            let waits = self.own.waits(directory, own, now_ms, &here);
            if let Some(not_yet) = waits.or_else(|| self.own.misses(directory, &feed.origin, now_ms, &here)) {
                return Err(Outcome::Unavailable(not_yet.to_string()));
            }
            return directory.admits(&feed.origin).map_err(|refusal| match refusal {
                Refusal::NotAMember(_) => Outcome::Unknown(refusal),
                refusal => Outcome::Refused(refusal),
            });
        }
        match directory.may_read(own, feed) {
            Ok(()) => Ok(()),
            Err(refusal @ Refusal::NotAMember(_)) => Err(Outcome::Unknown(refusal)),
            Err(_) => Err(Outcome::NotForThisNode),
        }
    }

    fn is_exchange(&self) -> bool {
        self.directory.get().gateway() == Some(self.store.origin())
    }

    /// Whether a newer directory may make it good. The exchange's own is never behind.
    fn may_become_good(&self, refusal: &Refusal) -> bool {
        match refusal {
            Refusal::NotAMember(_) | Refusal::UnknownKey { .. } => true,
            Refusal::RevokedKey { .. } => !self.is_exchange(),
            _ => false,
        }
    }

    /// What is told of a feed that ended so.
    fn outcome_of(&self, feed: &FeedId, refusal: Refusal) -> Outcome {
        if let Some(sequence) = two_stories(&refusal) {
            return Outcome::Forked { sequence: Some(sequence) };
        }
        match refusal {
            Refusal::Gap { expected, got, .. } => Outcome::Gap { expected, got },
            Refusal::UnknownKey { .. } if feed.lane == Lane::Directory => Outcome::OtherExchange,
            refusal if self.may_become_good(&refusal) => Outcome::Unknown(refusal),
            refusal => Outcome::Refused(refusal),
        }
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence::new(self.store.as_ref(), &self.stopped)
    }

    async fn admit(&self, feed: &FeedId, entries: Vec<Bytes>) -> Admission {
        let (directory, head, feed) = (self.directory.get(), self.store.head(feed), feed.clone());
        // Verifying a pack is work for a thread that may be busy.
        tokio::task::spawn_blocking(move || admit(&directory, &feed, head, &entries)).await.unwrap_or_default()
    }

    /// As for a push; the origin gets its receipts with the next file back.
    fn receipts(&self, feed: &FeedId) -> Receipts {
        let own = self.store.origin();
        let gateway = self.directory.get().gateway() == Some(own);
        if gateway && feed.origin != *own { Receipts::Issue } else { Receipts::None }
    }

    fn head(&self, feed: &FeedId) -> u64 {
        self.store.head(feed).map_or(0, |head| head.sequence)
    }
}

#[derive(Debug, Default)]
struct Progress {
    taken: u64,
    held: u64,
    /// Set when nothing more of the feed can be taken from this file.
    ended: Option<Outcome>,
}

/// A file that is being taken.
pub struct Import {
    node: Importer,
    decoder: Decoder,
    manifest: Option<Box<Manifest>>,
    feeds: BTreeMap<FeedId, Progress>,
    /// Of the directory, until the gateway is known.
    beginning: Beginning,
    media: BTreeMap<Digest, (MediaOutcome, u64)>,
    broken: Option<FormatError>,
}

impl Import {
    /// Takes the file's next bytes, and into the store whatever they complete. When it returns, what was taken is durable.
    /// `false`: the file is broken, and the rest of it need not be read.
    pub async fn push(&mut self, bytes: &[u8]) -> bool {
        for slice in bytes.chunks(SLICE_BYTES) {
            if self.broken.is_some() {
                return false;
            }
            self.decoder.push(slice);
            loop {
                match self.decoder.next_part() {
                    Ok(Some(part)) => self.take(part).await,
                    Ok(None) => break,
                    Err(error) => {
                        self.broken = Some(error);
                        return false;
                    }
                }
            }
        }
        self.broken.is_none()
    }

    /// What the file says of itself, once that much of it was pushed.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_deref()
    }

    /// All of the file was pushed: what became of it.
    pub fn finish(mut self) -> ImportReport {
        if self.broken.is_none() {
            self.broken = self.decoder.finish().err();
        }
        let broken = self.broken.as_ref().map(BrokenReport::from);
        let Some(manifest) = self.manifest.take() else {
            return ImportReport {
                ok: false,
                maker: None,
                reader: None,
                made_at_ms: None,
                for_somebody_else: false,
                more: false,
                feeds: Vec::new(),
                media: Vec::new(),
                broken,
            };
        };
        let mut ok = broken.is_none();
        let feeds = manifest.ranges.iter().map(|range| {
            let progress = self.feeds.remove(&range.feed).unwrap_or_default();
            let outcome = progress.ended.unwrap_or(match (progress.taken, progress.held) {
                (0, 0) => Outcome::Missing,
                (0, _) => Outcome::Held,
                _ => Outcome::Taken,
            });
            ok &= outcome.is_good();
            let head = self.node.head(&range.feed);
            FeedReport::new(&manifest, &range.feed, (progress.taken, progress.held, head), &outcome)
        });
        let feeds = feeds.collect();
        let media = manifest.media.iter().map(|part| {
            let (outcome, held) = self.media.remove(&part.digest).unwrap_or((MediaOutcome::Absent, 0));
            ok &= outcome.is_good();
            MediaReport::new(part, held, &outcome)
        });
        let media = media.collect();
        ImportReport {
            ok,
            maker: Some(manifest.maker.to_string()),
            reader: Some(manifest.reader.to_string()),
            made_at_ms: Some(manifest.made_at_ms),
            for_somebody_else: manifest.reader != *self.node.store.origin(),
            more: manifest.more,
            feeds,
            media,
            broken,
        }
    }

    async fn take(&mut self, part: Part) {
        match part {
            Part::Manifest(manifest) => {
                // What is held already is told even if its piece is not in this file.
                let named: Vec<Digest> = manifest.media.iter().map(|part| part.digest).collect();
                for digest in named {
                    if let Ok(stat) = self.node.media.stat(self.node.store.origin(), digest, false).await {
                        let outcome = if stat.complete { MediaOutcome::Complete } else { MediaOutcome::Absent };
                        self.media.insert(digest, (outcome, stat.held));
                    }
                }
                self.manifest = Some(manifest);
            }
            Part::Entries { feed, entries } => self.take_entries(feed, entries).await,
            Part::Media(piece) => self.take_media(piece).await,
            Part::End => {}
        }
    }

    async fn take_entries(&mut self, feed: FeedId, entries: Vec<Bytes>) {
        let progress = self.feeds.entry(feed.clone()).or_default();
        if progress.ended.is_some() {
            return;
        }
        let gate = self.node.gate.clone();
        let _open = gate.pass(feed.lane).await;
        if let Err(outcome) = self.node.concerns(&self.node.directory.get(), &feed) {
            progress.ended = Some(outcome);
            return;
        }
        if self.node.stopped.contains(&feed) {
            progress.ended = Some(Outcome::Forked { sequence: None });
            return;
        }
        let ranges = self.manifest.iter().flat_map(|manifest| &manifest.ranges);
        let last = ranges.filter(|range| range.feed == feed).map(|range| range.last.sequence).max().unwrap_or(0);
        let Some(entries) = self.gather(&feed, entries, last).await else { return };
        let Some(progress) = self.feeds.get_mut(&feed) else { return };
        let maker = self.manifest.as_ref().map(|manifest| manifest.maker.clone());
        let Admission { batches, refused } = self.node.admit(&feed, entries).await;
        if !batches.is_empty() {
            let before = self.node.head(&feed);
            let outcome = self.node.store.take(batches.clone(), self.node.receipts(&feed)).await;
            // Of a store that takes one batch after the other some may be in, whatever became of the rest.
            let now = if outcome.is_ok() { u64::MAX } else { self.node.head(&feed) };
            let (held, new): (Vec<u64>, Vec<u64>) =
                batches.iter().map(VerifiedBatch::sequence).partition(|sequence| *sequence <= before);
            progress.held += held.len() as u64;
            progress.taken += new.iter().filter(|sequence| **sequence <= now).count() as u64;
            match outcome {
                Ok(_) => {}
                Err(StoreError::Refused(refusal)) => {
                    self.node.evidence().keep_from(&feed, &refusal, &batches).await;
                    progress.ended = Some(self.node.outcome_of(&feed, refusal));
                    return;
                }
                Err(error) => {
                    tracing::error!(%feed, %error, "the store does not take what was brought by hand");
                    progress.ended = Some(Outcome::Unavailable(error.to_string()));
                    return;
                }
            }
        }
        if let Some((bytes, refusal)) = refused {
            tell(&self.node, maker.as_ref(), &feed, &refusal, bytes).await;
            progress.ended = Some(self.node.outcome_of(&feed, refusal));
        }
    }

    /// What is to be judged together; see [`Beginning::take`].
    async fn gather(&mut self, feed: &FeedId, entries: Vec<Bytes>, last: u64) -> Option<Vec<Bytes>> {
        let (directory, feed, mut beginning) =
            (self.node.directory.get(), feed.clone(), std::mem::take(&mut self.beginning));
        let gathering = tokio::task::spawn_blocking(move || {
            let judged = beginning.take(&directory, &feed, entries, last);
            (beginning, judged)
        });
        let (beginning, judged) = gathering.await.unwrap_or_default();
        self.beginning = beginning;
        judged
    }

    async fn take_media(&mut self, piece: MediaPiece) {
        let (own, digest) = (self.node.store.origin(), piece.digest);
        let before = match self.node.media.stat(own, digest, false).await {
            Ok(stat) => stat,
            Err(error) => {
                self.media.insert(digest, (MediaOutcome::Refused(error.to_string()), 0));
                return;
            }
        };
        let end = piece.offset + piece.data.len() as u64;
        let told = if before.complete {
            (MediaOutcome::Complete, before.held)
        } else if end <= before.held {
            (MediaOutcome::Part, before.held)
        } else if piece.offset > before.held {
            (MediaOutcome::Gap, before.held)
        } else {
            let fresh = piece.data.slice((before.held - piece.offset) as usize..);
            match self.node.media.write(own, digest, piece.size, before.held, fresh, false).await {
                Ok(stat) if stat.complete => (MediaOutcome::Complete, stat.held),
                Ok(stat) => (MediaOutcome::Part, stat.held),
                Err(MediaError::Refused(why)) => (MediaOutcome::Refused(why), 0),
                Err(error) => (MediaOutcome::Refused(error.to_string()), before.held),
            }
        };
        // A refusal stays told, whatever the pieces after it do.
        if !matches!(self.media.get(&digest), Some((MediaOutcome::Refused(_), _))) {
            self.media.insert(digest, told);
        }
    }
}

/// Keeps what honest people do not make, as when it comes over the wire. A gap is no such thing, nor is what a newer directory
/// may make good.
async fn tell(node: &Importer, maker: Option<&AgencyCode>, feed: &FeedId, refusal: &Refusal, bytes: Bytes) {
    match refusal {
        Refusal::Gap { .. } => {}
        refusal if node.may_become_good(refusal) => {}
        refusal => {
            let alarm = Alarm { feed: feed.clone(), refusal: refusal.clone(), evidence: Some(bytes) };
            tracing::error!(%feed, maker = maker.map_or("nobody", AgencyCode::as_str), "brought by hand");
            let noted = node.tally.note(BY_HAND, &alarm);
            node.evidence().keep_noted(&node.tally, noted, BY_HAND, alarm).await;
            // Where nothing else looks for counts, the next file does.
            node.evidence().tell_counts(&node.tally, false).await;
        }
    }
}
