//! What a file says of itself.

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest, FeedId, Head};
use httt_wire::{carry as pb, exchange as wire};

use super::{MAX_CARRIED_FEEDS, MAX_CARRIED_MEDIA};
use crate::copier::head_from_wire;

/// What a file says of itself. Not signed: it explains, and decides nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The node that made it.
    pub maker: AgencyCode,
    /// The member it was made for.
    pub reader: AgencyCode,
    /// When, Unix ms by the maker's clock.
    pub made_at_ms: i64,
    /// The history it was made from: the maker's log, or its store.
    pub log_id: Vec<u8>,
    /// How long that was.
    pub position: u64,
    /// What is in the file, in its order.
    pub ranges: Vec<Range>,
    /// What the maker holds of feeds that the reader may read or bring: the reader's next file can begin after it.
    pub held: Vec<(FeedId, Head)>,
    /// What the reader holds once it took this file and those it builds on: the maker's next file can begin after it.
    pub reached: Vec<(FeedId, Head)>,
    /// Media that bulletins name, and which part of each is in the file.
    pub media: Vec<MediaPart>,
    /// Media that the maker lacks; before `until` it holds them.
    pub wanted: Vec<MediaPart>,
    /// Entries were left out: there was no room.
    pub more: bool,
    /// Entries that would have gone in, and that the maker lacks at this time.
    pub away: Vec<Away>,
}

/// Entries of a feed that are in an archive, were let go, or got lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// The feed.
    pub feed: FeedId,
    /// They begin after this sequence,
    pub after: u64,
    /// and end with this one.
    pub until: u64,
}

/// Entries `first` to `last` of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The feed.
    pub feed: FeedId,
    /// First sequence in the file.
    pub first: u64,
    /// Last one, and its digest.
    pub last: Head,
}

/// Bytes `from` to (without) `until` of a media file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaPart {
    /// The file's SHA-256.
    pub digest: Digest,
    /// Bytes of the whole file.
    pub size: u64,
    /// Where the part begins.
    pub from: u64,
    /// Where it ends.
    pub until: u64,
}

impl MediaPart {
    /// Whether nothing is missing after it.
    pub fn ends(&self) -> bool {
        self.until >= self.size
    }
}

/// A piece of a media file as it is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPiece {
    /// The file's SHA-256.
    pub digest: Digest,
    /// Bytes of the whole file.
    pub size: u64,
    /// Where the piece begins.
    pub offset: u64,
    /// Its bytes.
    pub data: Bytes,
}

impl Manifest {
    /// The message form.
    pub(super) fn to_wire(&self) -> pb::Manifest {
        let head = |(feed, head): &(FeedId, Head)| wire::Head {
            feed: Some(feed.to_wire()),
            sequence: head.sequence,
            digest: head.digest.0.to_vec(),
        };
        let range = |range: &Range| pb::Range {
            feed: Some(range.feed.to_wire()),
            first: range.first,
            last: range.last.sequence,
            digest: range.last.digest.0.to_vec(),
        };
        let media = |part: &MediaPart| pb::MediaPart {
            sha256: part.digest.0.to_vec(),
            size: part.size,
            from: part.from,
            until: part.until,
        };
        let away = |away: &Away| wire::Want { feed: Some(away.feed.to_wire()), after: away.after, until: away.until };
        pb::Manifest {
            maker: self.maker.to_string(),
            reader: self.reader.to_string(),
            made_at_ms: self.made_at_ms,
            log_id: self.log_id.clone(),
            position: self.position,
            ranges: self.ranges.iter().map(range).collect(),
            held: self.held.iter().map(head).collect(),
            reached: self.reached.iter().map(head).collect(),
            media: self.media.iter().map(media).collect(),
            wanted: self.wanted.iter().map(media).collect(),
            more: self.more,
            away: self.away.iter().map(away).collect(),
        }
    }

    /// From the message form; what is wrong with it otherwise.
    pub(super) fn from_wire(message: pb::Manifest) -> Result<Self, String> {
        let code = |what: &str, text: &str| AgencyCode::new(text).map_err(|error| format!("{what}: {error}"));
        let heads = |what: &str, heads: &[wire::Head]| {
            limited(what, heads.len(), MAX_CARRIED_FEEDS)?;
            heads
                .iter()
                .map(|head| head_from_wire(head).ok_or_else(|| format!("{what}: not a head")))
                .collect::<Result<_, _>>()
        };
        let media = |what: &str, parts: &[pb::MediaPart]| {
            limited(what, parts.len(), MAX_CARRIED_MEDIA)?;
            parts
                .iter()
                .map(|part| media_part(part).ok_or_else(|| format!("{what}: not a part")))
                .collect::<Result<_, _>>()
        };
        limited("ranges", message.ranges.len(), MAX_CARRIED_FEEDS)?;
        limited("away", message.away.len(), MAX_CARRIED_FEEDS)?;
        let away = message.away.iter().map(|want| away_of(want).ok_or_else(|| "away: not a range".to_owned()));
        let ranges = message.ranges.iter().map(|range| range_of(range).ok_or_else(|| "ranges: not a range".to_owned()));
        if message.log_id.len() != 16 {
            return Err("log_id: it has not 16 bytes".to_owned());
        }
        Ok(Self {
            maker: code("maker", &message.maker)?,
            reader: code("reader", &message.reader)?,
            made_at_ms: message.made_at_ms,
            position: message.position,
            ranges: ranges.collect::<Result<_, _>>()?,
            held: heads("held", &message.held)?,
            reached: heads("reached", &message.reached)?,
            media: media("media", &message.media)?,
            wanted: media("wanted", &message.wanted)?,
            more: message.more,
            away: away.collect::<Result<_, _>>()?,
            log_id: message.log_id,
        })
    }
}

fn limited(what: &str, count: usize, limit: usize) -> Result<(), String> {
    if count > limit { Err(format!("{what}: {count} are more than the {limit} allowed")) } else { Ok(()) }
}

fn range_of(message: &pb::Range) -> Option<Range> {
    let feed = FeedId::from_wire(message.feed.as_ref()?).ok()?;
    let last = Head { sequence: message.last, digest: Digest::from_slice(&message.digest)? };
    (1..=message.last).contains(&message.first).then_some(Range { feed, first: message.first, last })
}

fn away_of(message: &wire::Want) -> Option<Away> {
    let feed = FeedId::from_wire(message.feed.as_ref()?).ok()?;
    (message.after < message.until).then_some(Away { feed, after: message.after, until: message.until })
}

fn media_part(message: &pb::MediaPart) -> Option<MediaPart> {
    let pb::MediaPart { sha256, size, from, until } = message;
    let digest = Digest::from_slice(sha256)?;
    (from <= until && until <= size).then_some(MediaPart { digest, size: *size, from: *from, until: *until })
}
