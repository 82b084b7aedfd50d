//! What goes into a file: which feeds, from where, how much of them, and which media.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest, Directory, FeedId, Head, Lane, MemberKind, body_digest, parse};
use httt_wire::bulletin::BulletinPublished;
use httt_wire::{Message as _, Name as _};

use super::export::{ExportError, Exporter, Selection};
use super::format::{FRAMING_BYTES, pack};
use super::{Away, MAX_CARRIED_FEEDS, MAX_CARRIED_MEDIA, MIN_ROOM_BYTES, Manifest, MediaPart, Range};
use crate::{MAX_CALL_BYTES, MAX_ENTRIES_PER_PUSH, MAX_MEDIA_RANGE, Store, StoreError};

/// What a frame's message takes beside its bytes: a feed's or a digest's name, lengths.
const MESSAGE_BYTES: u64 = 160;
/// What a pack takes beside its entries when nothing of them can be made smaller.
const INCOMPRESSIBLE_BYTES: u64 = 1_024;
/// What a media file takes in the manifest.
const NAMED_MEDIA_BYTES: u64 = 64;

/// One frame of entries to be written: `count` entries of `feed` after sequence `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) feed: FeedId,
    pub(super) after: u64,
    pub(super) count: usize,
}

/// What is written, in this order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) manifest: Manifest,
    pub(super) packs: Vec<Packed>,
}

/// Whether `feed` is something that `own` may hand to `reader`: to the gateway what `own` says or carries, to others what
/// they may read.
fn goes(directory: &Directory, own: &AgencyCode, reader: &AgencyCode, feed: &FeedId) -> bool {
    let to_gateway = directory.member(reader).is_some_and(|member| member.kind == MemberKind::Gateway);
    feed.lane != Lane::Local
        && if to_gateway {
            directory.speaks_for(own).any(|member| *member == feed.origin)
        } else {
            directory.may_read(reader, feed).is_ok()
        }
}

/// What an earlier file tells of the reader.
#[derive(Debug, Default)]
struct Known {
    heads: BTreeMap<FeedId, Head>,
    media: Vec<MediaPart>,
}

impl Known {
    fn from(earlier: Option<&Manifest>, own: &AgencyCode, reader: &AgencyCode) -> Result<Self, ExportError> {
        let Some(earlier) = earlier else { return Ok(Self::default()) };
        let begin_after = |part: &MediaPart| MediaPart { from: part.until, ..*part };
        if earlier.maker == *reader {
            let media = earlier.wanted.iter().map(begin_after).collect();
            return Ok(Self { heads: earlier.held.iter().cloned().collect(), media });
        }
        if earlier.maker == *own && earlier.reader == *reader {
            let media = earlier.media.iter().filter(|part| !part.ends()).map(begin_after).collect();
            return Ok(Self { heads: earlier.reached.iter().cloned().collect(), media });
        }
        let (maker, made_for) = (earlier.maker.clone(), earlier.reader.clone());
        Err(ExportError::OtherFile { maker, made_for, own: own.clone(), reader: reader.clone() })
    }
}

/// Counts what is left of the room.
struct Room {
    left: u64,
    limited: bool,
}

impl Room {
    fn take(&mut self, bytes: u64) -> bool {
        if self.limited && bytes > self.left {
            return false;
        }
        self.left = self.left.saturating_sub(bytes);
        true
    }
}

impl Exporter {
    /// Reads what would be written, so that the manifest can say it first.
    pub(super) async fn plan(
        &self,
        selection: &Selection,
        earlier: Option<&Manifest>,
        now_ms: i64,
    ) -> Result<Plan, ExportError> {
        let (own, reader, directory) = (self.store.origin(), &selection.reader, self.directory.get());
        if directory.gateway().is_none() {
            return Err(ExportError::NoDirectory);
        }
        if own == reader || directory.member(reader).is_none() {
            return Err(ExportError::NotAReader(reader.clone()));
        }
        if selection.after.is_some() && selection.feeds.len() != 1 {
            return Err(ExportError::AfterNeedsOneFeed);
        }
        let mut known = Known::from(earlier, own, reader)?;
        // Else old wishes that nobody can fulfil would leave no place for what is new.
        known.media.truncate(MAX_CARRIED_MEDIA / 2);
        let gateway = directory.member(reader).is_some_and(|member| member.kind == MemberKind::Gateway);
        let all: BTreeMap<FeedId, Head> = self.store.heads(0).into_iter().map(|head| (head.feed, head.head)).collect();
        let shown = |feed: &FeedId| feed.lane != Lane::Local && (gateway || directory.may_read(reader, feed).is_ok());
        let wanted = self.wanted(all.keys().cloned().collect()).await?;
        let mut manifest = Manifest {
            maker: own.clone(),
            reader: reader.clone(),
            made_at_ms: now_ms,
            log_id: self.store.id(),
            position: *self.store.watch().borrow(),
            ranges: Vec::new(),
            held: all.iter().filter(|(feed, _)| shown(feed)).map(|(feed, head)| (feed.clone(), *head)).collect(),
            reached: known.heads.iter().map(|(feed, head)| (feed.clone(), *head)).collect(),
            media: Vec::new(),
            wanted,
            more: false,
            away: Vec::new(),
        };
        let goes = |feed: &FeedId| goes(&directory, own, reader, feed) && selection.takes(feed);
        let feeds: Vec<(FeedId, Head)> = ordered(all.into_iter().filter(|(feed, _)| goes(feed)));
        let mut starts = Vec::with_capacity(feeds.len());
        for (feed, head) in &feeds {
            starts.push(self.start(feed, *head, known.heads.get(feed), selection.after).await?);
        }

        let named = manifest.held.len().max(feeds.len() + manifest.reached.len());
        if named > MAX_CARRIED_FEEDS {
            return Err(ExportError::TooManyFeeds { feeds: named });
        }
        // The manifest as it would be if everything went in, with each feed among the ranges, those reached, and those away.
        let framing = |count: usize| count as u64 * 3 * MESSAGE_BYTES;
        let base = manifest.to_wire().encoded_len() as u64 + framing(feeds.len()) + 4 * FRAMING_BYTES;
        let mut room = Room { left: selection.max_bytes.unwrap_or(u64::MAX), limited: selection.max_bytes.is_some() };
        if selection.max_bytes.is_some_and(|most| most < base + MIN_ROOM_BYTES) || !room.take(base) {
            return Err(ExportError::NoRoom { needed: base + MIN_ROOM_BYTES });
        }
        let mut media = Named::new(if selection.media { known.media } else { Vec::new() }, &mut room);
        let mut packs = Vec::new();
        for ((feed, head), start) in feeds.into_iter().zip(starts) {
            let Packing { start, last, away } =
                self.pack_feed(&feed, head, start, selection, &mut room, &mut media, &mut packs).await?;
            if let Some(last) = last {
                manifest.ranges.push(Range { feed: feed.clone(), first: start + 1, last });
                if known.heads.get(&feed).map_or(0, |head| head.sequence) >= start {
                    manifest.reached.retain(|(known, _)| *known != feed);
                    manifest.reached.push((feed.clone(), last));
                }
            }
            if let Some(until) = away {
                // Nobody knows when it comes back: it keeps no other feed waiting.
                manifest.away.push(Away { after: last.map_or(start, |last| last.sequence), feed, until });
            } else if last.map_or(start, |last| last.sequence) < head.sequence {
                // What follows waits too: a later lane must not overtake an earlier one.
                manifest.more = true;
                break;
            }
        }
        manifest.media = self.place(media.parts, &mut room).await?;
        Ok(Plan { manifest, packs })
    }

    /// After which sequence to begin. Where the reader's batch is not the one held here, that one goes along: the reader
    /// then sees both, which is the proof that its origin told two stories.
    async fn start(
        &self,
        feed: &FeedId,
        head: Head,
        known: Option<&Head>,
        after: Option<u64>,
    ) -> Result<u64, ExportError> {
        if let Some(after) = after {
            return Ok(after.min(head.sequence));
        }
        let Some(known) = known.filter(|known| known.sequence <= head.sequence) else {
            return Ok(if known.is_some() { head.sequence } else { 0 });
        };
        // What is away shows nothing; whoever takes the next batch finds out by its `previous`.
        let held = self.store.digest(feed, known.sequence).await?;
        let same = held.is_none_or(|digest| digest == known.digest);
        Ok(if same { known.sequence } else { known.sequence - 1 })
    }

    /// Plans the packs of one feed.
    #[allow(clippy::too_many_arguments, reason = "one step of a fold with three accumulators")]
    async fn pack_feed(
        &self,
        feed: &FeedId,
        head: Head,
        mut start: u64,
        selection: &Selection,
        room: &mut Room,
        media: &mut Named,
        packs: &mut Vec<Packed>,
    ) -> Result<Packing, ExportError> {
        let (mut after, mut last) = (start, None);
        while after < head.sequence {
            // As much as fits, even if nothing of it can be made smaller.
            let most = room.left.saturating_sub(INCOMPRESSIBLE_BYTES).min(MAX_CALL_BYTES as u64);
            let entries = match read_pack(self.store.as_ref(), feed, after, most as usize, head.sequence).await {
                Ok(entries) => entries,
                Err(error @ (StoreError::Away { .. } | StoreError::BeginsLater(_))) => {
                    // Who holds nothing may begin where the feed was said again.
                    let anew = after == 0 && selection.after.is_none();
                    if let Some(restated) = if anew { self.restated(feed).await? } else { None } {
                        (start, after) = (restated - 1, restated - 1);
                        continue;
                    }
                    let until = if let StoreError::Away { until, .. } = error { until } else { head.sequence };
                    return Ok(Packing { start, last, away: Some(until) });
                }
                Err(error) => return Err(error.into()),
            };
            let Some(end) = end_of(feed, after, &entries)? else { break };
            let packed = if room.limited { pack(entries.clone())?.len() as u64 } else { 0 };
            let named = if selection.media { media.among(feed, &entries) } else { Vec::new() };
            let takes = packed + MESSAGE_BYTES + FRAMING_BYTES + named.len() as u64 * NAMED_MEDIA_BYTES;
            if media.parts.len() + named.len() > MAX_CARRIED_MEDIA || !room.take(takes) {
                break;
            }
            media.take(named);
            packs.push(Packed { feed: feed.clone(), after, count: entries.len() });
            (after, last) = (end.sequence, Some(end));
        }
        Ok(Packing { start, last, away: None })
    }

    /// Where a feed was said again from its beginning on, if that is not its first batch.
    async fn restated(&self, feed: &FeedId) -> Result<Option<u64>, ExportError> {
        Ok(self.store.restated(feed).await?.filter(|restated| *restated > 1))
    }

    /// Says which part of each media file goes in.
    async fn place(&self, named: Vec<MediaPart>, room: &mut Room) -> Result<Vec<MediaPart>, ExportError> {
        let mut parts = Vec::with_capacity(named.len());
        for part in named {
            let stat = self.media.stat(self.store.origin(), part.digest, false).await?;
            let from = part.from;
            if !stat.complete || from >= stat.size {
                parts.push(MediaPart { until: from, ..part });
                continue;
            }
            let mut until = from;
            while until < stat.size {
                let whole = (stat.size - until).min(MAX_MEDIA_RANGE as u64);
                let beside = MESSAGE_BYTES + FRAMING_BYTES;
                // The last piece fills the room up: the next file goes on in the middle.
                let piece = if room.limited { whole.min(room.left.saturating_sub(beside)) } else { whole };
                if piece == 0 || !room.take(piece + beside) {
                    break;
                }
                until += piece;
            }
            parts.push(MediaPart { size: stat.size, until, ..part });
        }
        Ok(parts)
    }

    /// Media that bulletins held here name and that are not here, or not all of them.
    async fn wanted(&self, mut feeds: Vec<FeedId>) -> Result<Vec<MediaPart>, ExportError> {
        let mut room = Room { left: u64::MAX, limited: false };
        let mut named = Named::new(Vec::new(), &mut room);
        feeds.retain(|feed| feed.origin != *self.store.origin() && names_media(feed.lane));
        for feed in &feeds {
            let mut after = 0;
            loop {
                match self.store.read(feed, after, MAX_CALL_BYTES).await {
                    Ok(entries) if entries.is_empty() => break,
                    Ok(entries) => {
                        after += entries.len() as u64;
                        let found = named.among(feed, &entries);
                        named.take(found);
                    }
                    // What they name is asked for once they are here again.
                    Err(StoreError::Away { until, .. }) => after = until,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut wanted = Vec::new();
        for part in named.parts {
            let stat = self.media.stat(self.store.origin(), part.digest, false).await?;
            if !stat.complete && wanted.len() < MAX_CARRIED_MEDIA {
                // What is held of it may be more than this bulletin says the file has.
                wanted.push(MediaPart { until: stat.held.min(part.size), ..part });
            }
        }
        Ok(wanted)
    }
}

/// What of one feed goes into the file.
struct Packing {
    /// After this sequence,
    start: u64,
    /// up to this batch, if anything does.
    last: Option<Head>,
    /// What follows is not held up to here.
    away: Option<u64>,
}

/// Entries of a feed, bounded as a pack is, none after `last`.
pub(super) async fn read_pack(
    store: &dyn Store,
    feed: &FeedId,
    after: u64,
    most: usize,
    last: u64,
) -> Result<Vec<Bytes>, StoreError> {
    let mut entries = store.read(feed, after, most.max(1)).await?;
    let left = usize::try_from(last.saturating_sub(after)).unwrap_or(usize::MAX);
    entries.truncate(left.min(MAX_ENTRIES_PER_PUSH));
    Ok(entries)
}

/// The last of the entries that follow `after` without a gap.
fn end_of(feed: &FeedId, after: u64, entries: &[Bytes]) -> Result<Option<Head>, ExportError> {
    let Some(bytes) = entries.last() else { return Ok(None) };
    let digest = body_digest(bytes).ok_or_else(|| ExportError::Changed(feed.to_string()))?;
    Ok(Some(Head { sequence: after + entries.len() as u64, digest }))
}

/// In the order in which lanes are served: what others are verified by, then what is urgent.
fn ordered(feeds: impl Iterator<Item = (FeedId, Head)>) -> Vec<(FeedId, Head)> {
    let mut feeds: Vec<_> = feeds.collect();
    feeds.sort_by(|(one, _), (other, _)| (one.lane, one).cmp(&(other.lane, other)));
    feeds
}

fn names_media(lane: Lane) -> bool {
    matches!(lane, Lane::Emergency | Lane::Content)
}

/// Media files named so far, each once, in the order of their bulletins.
struct Named {
    parts: Vec<MediaPart>,
    known: HashSet<Digest>,
}

impl Named {
    fn new(parts: Vec<MediaPart>, room: &mut Room) -> Self {
        let known = parts.iter().map(|part| part.digest).collect();
        room.left = room.left.saturating_sub(parts.len() as u64 * NAMED_MEDIA_BYTES);
        Self { parts, known }
    }

    /// Media that these entries name and that are not on the list.
    fn among(&self, feed: &FeedId, entries: &[Bytes]) -> Vec<MediaPart> {
        let mut found: Vec<MediaPart> = Vec::new();
        let entries = entries.iter().filter(|_| names_media(feed.lane));
        let batches: Vec<_> = entries.filter_map(|bytes| parse(bytes.clone()).ok()).collect();
        for event in batches.iter().flat_map(|batch| &batch.batch().events) {
            if event.r#type != BulletinPublished::full_name() {
                continue;
            }
            let published = BulletinPublished::decode(event.data.clone()).ok();
            let media = published.and_then(|published| published.content?.media);
            let part = media.and_then(|media| Some((Digest::from_slice(&media.sha256)?, media.size)));
            if let Some((digest, size)) = part
                && !self.known.contains(&digest)
                && found.iter().all(|part| part.digest != digest)
            {
                found.push(MediaPart { digest, size, from: 0, until: 0 });
            }
        }
        found
    }

    fn take(&mut self, found: Vec<MediaPart>) {
        self.known.extend(found.iter().map(|part| part.digest));
        self.parts.extend(found);
    }
}
