//! Takes a file into a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest, Directory, FeedId, Lane, Refusal};
use httt_log::{CommitError, Log, Transaction};

use super::report::BrokenReport;
use super::{
    Decoder, FeedReport, FormatError, ImportReport, Manifest, MediaOutcome, MediaPiece, MediaReport, Outcome, Part,
};
use crate::admit::Admission;
use crate::evidence::{Evidence, two_stories};
use crate::store::commit_with_receipts;
use crate::{Alarm, Gate, LogStore, Media, MediaError, OwnFeeds, SharedDirectory, StoppedFeeds, admit};

/// Bytes handed to the decoder at a time: what it may hold beside one frame.
const SLICE_BYTES: usize = 64 << 10;

/// What importing needs of a node.
#[derive(Clone)]
pub struct Importer {
    log: Log,
    /// The same log, as evidence is kept in.
    store: LogStore,
    directory: SharedDirectory,
    media: Arc<dyn Media>,
    stopped: StoppedFeeds,
    gate: Gate,
    own: OwnFeeds,
}

impl Importer {
    /// Imports into `log` and `media`, through the `gate` that whatever else takes entries into this log goes through.
    pub fn new(log: Log, directory: SharedDirectory, media: Arc<dyn Media>, stopped: StoppedFeeds, gate: Gate) -> Self {
        let (store, own) = (LogStore::new(log.clone()), OwnFeeds::default());
        Self { store, log, directory, media, stopped, gate, own }
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
            media: BTreeMap::new(),
            broken: None,
        }
    }

    /// Whether a feed may enter here. The exchange stores what anybody says to anybody; others what they may read, and
    /// the directory before they are known themselves.
    fn concerns(&self, directory: &Directory, feed: &FeedId) -> Result<(), Outcome> {
        let own = self.log.origin();
        let gateway = directory.gateway();
        if feed.lane == Lane::Local {
            return Err(Outcome::NotForThisNode);
        }
        if feed.lane == Lane::Directory && gateway.is_none_or(|gateway| *gateway == feed.origin) {
            return Ok(());
        }
        if gateway == Some(own) && feed.origin != *own {
            // As for a push.
            let here = |feed: &FeedId| self.log.head(feed).map_or(0, |head| head.sequence);
            if let Some(not_yet) =
                self.own.waits(directory, own, &here).or(self.own.misses(directory, &feed.origin, &here))
            {
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

    fn evidence(&self) -> Evidence<'_> {
        Evidence::new(&self.store, &self.stopped)
    }

    async fn admit(&self, feed: &FeedId, entries: Vec<Bytes>) -> Admission {
        let (directory, head, feed) = (self.directory.get(), self.log.head(feed), feed.clone());
        // Verifying a pack is work for a thread that may be busy.
        tokio::task::spawn_blocking(move || admit(&directory, &feed, head, &entries)).await.unwrap_or_default()
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
    media: BTreeMap<Digest, (MediaOutcome, u64)>,
    broken: Option<FormatError>,
}

impl Import {
    /// Takes the file's next bytes, and into the log whatever they complete. When it returns, what was taken is on disk.
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
            let head = self.node.log.head(&range.feed).map_or(0, |head| head.sequence);
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
            for_somebody_else: manifest.reader != *self.node.log.origin(),
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
                    if let Ok(stat) = self.node.media.stat(self.node.log.origin(), digest, false).await {
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
        let maker = self.manifest.as_ref().map(|manifest| manifest.maker.clone());
        let Admission { batches, refused } = self.node.admit(&feed, entries).await;
        if !batches.is_empty() {
            let gateway = self.node.directory.get().gateway() == Some(self.node.log.origin());
            // As for a push; the origin gets its receipts with the next file back.
            let committed = if gateway && feed.origin != *self.node.log.origin() {
                commit_with_receipts(&self.node.log, batches.clone()).await
            } else {
                self.node.log.commit(Transaction::copy(batches.clone())).await
            };
            match committed {
                Ok(committed) => {
                    let held = committed.copied.iter().filter(|placed| placed.duplicate).count() as u64;
                    progress.held += held;
                    progress.taken += committed.copied.len() as u64 - held;
                }
                Err(CommitError::Refused(refusal)) => {
                    self.node.evidence().keep_from(&feed, &refusal, &batches).await;
                    progress.ended = Some(outcome_of(&feed, refusal));
                    return;
                }
                Err(error) => {
                    tracing::error!(%feed, %error, "the log does not take what was brought by hand");
                    progress.ended = Some(Outcome::Unavailable(error.to_string()));
                    return;
                }
            }
        }
        if let Some((bytes, refusal)) = refused {
            tell(&self.node, maker.as_ref(), &feed, &refusal, bytes).await;
            progress.ended = Some(outcome_of(&feed, refusal));
        }
    }

    async fn take_media(&mut self, piece: MediaPiece) {
        let (own, digest) = (self.node.log.origin(), piece.digest);
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

fn outcome_of(feed: &FeedId, refusal: Refusal) -> Outcome {
    if let Some(sequence) = two_stories(&refusal) {
        return Outcome::Forked { sequence: Some(sequence) };
    }
    match refusal {
        Refusal::Gap { expected, got, .. } => Outcome::Gap { expected, got },
        Refusal::UnknownKey { .. } if feed.lane == Lane::Directory => Outcome::OtherExchange,
        Refusal::NotAMember(_) | Refusal::UnknownKey { .. } => Outcome::Unknown(refusal),
        other => Outcome::Refused(other),
    }
}

/// Keeps what honest people do not make, as when it comes over the wire. A gap or a key not known yet is no such thing.
async fn tell(node: &Importer, maker: Option<&AgencyCode>, feed: &FeedId, refusal: &Refusal, bytes: Bytes) {
    let by_hand = format!("by hand from {}", maker.map_or("nobody", AgencyCode::as_str));
    match refusal {
        Refusal::Gap { .. } | Refusal::NotAMember(_) | Refusal::UnknownKey { .. } => {}
        refusal => {
            let alarm = Alarm { feed: feed.clone(), refusal: refusal.clone(), evidence: Some(bytes) };
            node.evidence().keep_alarm(&by_hand, alarm).await;
        }
    }
}
