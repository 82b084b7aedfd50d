//! What a revoked key signed and its owner had not sent yet: read from a file that the member made, judged by what the
//! exchange holds, and admitted by an operator who knows who brought it. No I/O.
//!
//! ```text
//! a file of feeds ─► Reading ─► Admission, shown to the operator ─► decided ─► BatchesAdmitted in NDXP→*/directory
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest, Directory, FeedId, Fingerprint, Head, Lane, Member, UnverifiedBatch, parse};
use httt_log::{FeedHead, NewEvent};
use httt_wire::directory as pb;

use super::Refusal;
use super::decide::said;

/// Digests in one event: 17 KiB of the 48 KiB that an event may have.
pub const MAX_DIGESTS_PER_EVENT: usize = 512;
/// Batches that may be admitted of one member in all: 45 days of a batch a minute. Every member keeps them for ever, 34
/// bytes each in the directory feed, and about 80 in memory.
pub const MAX_ADMITTED: usize = 65_536;

/// Batches of a member that only its revoked key keeps out, as they continue what the exchange holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    member: AgencyCode,
    feeds: Vec<KeptOut>,
}

/// Those of one feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOut {
    /// The feed.
    pub feed: FeedId,
    /// What the exchange held of it when the file was read.
    pub held: Option<Head>,
    /// The batches, in order.
    pub batches: Vec<Head>,
    /// The revoked key of the last one.
    pub key: Fingerprint,
    /// When, by the member's clock, the first and the last one were sealed, Unix ms.
    pub sealed_ms: (i64, i64),
    /// Batches in the file that follow them by a key that the directory does not know.
    pub unknown_key: u64,
}

impl Admission {
    #[cfg(test)]
    pub(super) fn none_of(member: AgencyCode) -> Self {
        Self { member, feeds: Vec::new() }
    }

    /// Whose batches they are.
    pub fn member(&self) -> &AgencyCode {
        &self.member
    }

    /// Feed by feed.
    pub fn feeds(&self) -> &[KeptOut] {
        &self.feeds
    }

    /// How many batches there are.
    pub fn len(&self) -> usize {
        self.feeds.iter().map(|feed| feed.batches.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names exactly these batches after exactly what was held.
    pub fn id(&self) -> Digest {
        let mut text = format!("httt admission\n{}\n", self.member);
        for KeptOut { feed, held, batches, .. } in &self.feeds {
            let held = held.map_or_else(String::new, |held| held.digest.to_string());
            text += &format!("{feed} {held}\n");
            for batch in batches {
                text += &format!("{} {}\n", batch.sequence, batch.digest);
            }
        }
        Digest::of(text.as_bytes())
    }

    /// The events that admit them, if everything still is as it was when the file was read.
    ///
    /// # Errors
    /// [`Refusal::ExchangeMoved`], [`Refusal::OtherAdmitted`], [`Refusal::TooManyAdmitted`],
    /// [`Refusal::AdmittedAlready`].
    pub(super) fn decided(&self, member: &Member, heads: &[FeedHead], reason: &str) -> Result<Vec<NewEvent>, Refusal> {
        let (mut events, mut more) = (Vec::new(), 0);
        for KeptOut { feed, held, batches, .. } in &self.feeds {
            let now = heads.iter().find(|head| head.feed == *feed).map(|head| head.head);
            if now != *held {
                return Err(Refusal::ExchangeMoved { feed: feed.clone() });
            }
            let mut fresh = Vec::new();
            for batch in batches {
                if !is_admitted(member, feed, batch)? {
                    fresh.push(*batch);
                }
            }
            more += fresh.len();
            for run in fresh.chunk_by(|one, next| one.sequence + 1 == next.sequence) {
                events.extend(run.chunks(MAX_DIGESTS_PER_EVENT).map(|run| self.event(feed, run, reason)));
            }
        }
        within_limit(member, more)?;
        if events.is_empty() { Err(Refusal::AdmittedAlready) } else { Ok(events) }
    }

    fn event(&self, feed: &FeedId, run: &[Head], reason: &str) -> NewEvent {
        let admitted = pb::BatchesAdmitted {
            member: self.member.to_string(),
            audience: feed.audience.to_string(),
            lane: feed.lane.to_wire(),
            first_sequence: run.first().map_or(0, |first| first.sequence),
            digests: run.iter().map(|head| head.digest.0.to_vec()).collect(),
            reason: reason.to_owned(),
        };
        said(&self.member, &admitted)
    }
}

/// Whether this very batch is admitted. Another one at its place would be a second history.
fn is_admitted(member: &Member, feed: &FeedId, batch: &Head) -> Result<bool, Refusal> {
    let mut known = member.admitted(&feed.audience, feed.lane, batch.sequence).peekable();
    if known.peek().is_none() {
        return Ok(false);
    }
    if known.any(|digest| digest == batch.digest) {
        return Ok(true);
    }
    Err(Refusal::OtherAdmitted { feed: feed.clone(), sequence: batch.sequence })
}

fn within_limit(member: &Member, more: usize) -> Result<(), Refusal> {
    let given = member.admitted_count() + more;
    if given > MAX_ADMITTED { Err(Refusal::TooManyAdmitted { given, max: MAX_ADMITTED }) } else { Ok(()) }
}

/// A file that is being read.
#[derive(Debug)]
pub struct Reading {
    directory: Arc<Directory>,
    member: AgencyCode,
    heads: BTreeMap<FeedId, Head>,
    feeds: BTreeMap<FeedId, Progress>,
    found: usize,
}

#[derive(Debug)]
struct Progress {
    /// The last batch read.
    last: Head,
    found: Option<KeptOut>,
    unknown_key: u64,
}

impl Reading {
    /// Reads what `member` says, as it continues `heads`, what the exchange `own` holds.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`], [`Refusal::OwnBatches`].
    pub fn new(own: &AgencyCode, member: &str, directory: Arc<Directory>, heads: &[FeedHead]) -> Result<Self, Refusal> {
        let member = super::decide::code("member", member)?;
        if directory.member(&member).is_none() {
            return Err(Refusal::NotAMember { field: "member", given: member });
        }
        if member == *own {
            return Err(Refusal::OwnBatches);
        }
        let of_member = heads.iter().filter(|head| head.feed.origin == member);
        let heads = of_member.map(|head| (head.feed.clone(), head.head)).collect();
        Ok(Self { directory, member, heads, feeds: BTreeMap::new(), found: 0 })
    }

    /// Reads entries of a feed, in the file's order. Feeds of others are passed over.
    ///
    /// # Errors
    /// The first thing that is wrong with them; nothing of such a file is admitted.
    pub fn entries(&mut self, feed: &FeedId, entries: &[Bytes]) -> Result<(), Refusal> {
        if feed.origin != self.member || feed.lane == Lane::Local {
            return Ok(());
        }
        for bytes in entries {
            let refused = |cause| Refusal::BadEntry { feed: feed.clone(), cause };
            let batch = parse(bytes.clone()).map_err(refused)?;
            if batch.feed() != feed {
                let what = format!("it belongs to {}, not to {feed}", batch.feed());
                return Err(refused(httt_feed::Refusal::Malformed(what)));
            }
            self.batch(&batch)?;
        }
        Ok(())
    }

    fn batch(&mut self, batch: &UnverifiedBatch) -> Result<(), Refusal> {
        let (feed, head) = (batch.feed(), Head { sequence: batch.sequence(), digest: batch.digest() });
        let held = self.heads.get(feed).copied();
        self.links(batch, held)?;
        let progress = self.feeds.entry(feed.clone()).or_insert(Progress { last: head, found: None, unknown_key: 0 });
        progress.last = head;
        match held {
            Some(held) if head.sequence < held.sequence => return Ok(()),
            Some(held) if head.sequence == held.sequence => {
                let same = head.digest == held.digest;
                return if same { Ok(()) } else { Err(other_received(feed, head.sequence)) };
            }
            _ => {}
        }
        // What follows one by an unknown key is not to be had yet.
        let standing = if progress.unknown_key > 0 { None } else { Some(self.directory.kept_out_by(batch)) };
        let key = match standing {
            None | Some(Err(httt_feed::Refusal::UnknownKey { .. })) => {
                progress.unknown_key += 1;
                return Ok(());
            }
            Some(Err(cause)) => return Err(Refusal::BadEntry { feed: feed.clone(), cause }),
            Some(Ok(None)) => return Ok(()),
            Some(Ok(Some(key))) => key,
        };
        let member = self.directory.member(&self.member).ok_or(Refusal::AdmissionUnknown)?;
        is_admitted(member, feed, &head)?;
        self.found += 1;
        within_limit(member, self.found)?;
        let sealed_ms = batch.batch().sealed_at_ms;
        let found = progress.found.get_or_insert_with(|| KeptOut {
            feed: feed.clone(),
            held,
            batches: Vec::new(),
            key,
            sealed_ms: (sealed_ms, sealed_ms),
            unknown_key: 0,
        });
        found.batches.push(head);
        (found.key, found.sealed_ms.1) = (key, sealed_ms);
        Ok(())
    }

    /// Each batch follows the one before it in the file, and the first one what is held.
    fn links(&self, batch: &UnverifiedBatch, held: Option<Head>) -> Result<(), Refusal> {
        let (feed, sequence) = (batch.feed(), batch.sequence());
        if let Some(progress) = self.feeds.get(feed) {
            let last = progress.last;
            let follows = sequence == last.sequence + 1 && batch.previous() == Some(last.digest);
            return if follows { Ok(()) } else { Err(Refusal::NotAChain { feed: feed.clone(), sequence }) };
        }
        let expected = held.map_or(1, |held| held.sequence + 1);
        let begins = held.is_none() && batch.batch().restates;
        match held {
            _ if sequence > expected && !begins => {
                Err(Refusal::FileGap { feed: feed.clone(), expected, got: sequence })
            }
            Some(held) if sequence == expected && batch.previous() != Some(held.digest) => {
                Err(other_received(feed, held.sequence))
            }
            _ => Ok(()),
        }
    }

    /// The last batch of each feed that the file leaves off before what the exchange holds: it must be the one received.
    pub fn received(&self) -> impl Iterator<Item = (&FeedId, Head)> {
        let before =
            |feed: &FeedId, last: &Head| self.heads.get(feed).is_some_and(|held| last.sequence < held.sequence);
        self.feeds.iter().map(|(feed, progress)| (feed, progress.last)).filter(move |(feed, last)| before(feed, last))
    }

    /// The file was read to its end.
    ///
    /// # Errors
    /// [`Refusal::NothingInFile`], [`Refusal::NothingKeptOut`].
    pub fn finish(self) -> Result<Admission, Refusal> {
        if self.feeds.is_empty() {
            return Err(Refusal::NothingInFile(self.member));
        }
        let found = self.feeds.into_values();
        let found = found.filter_map(|Progress { found, unknown_key, .. }| Some(KeptOut { unknown_key, ..found? }));
        let admission = Admission { member: self.member, feeds: found.collect() };
        if admission.is_empty() { Err(Refusal::NothingKeptOut(admission.member)) } else { Ok(admission) }
    }
}

/// The exchange holds another batch than the file: somebody else wrote there first.
pub(super) fn other_received(feed: &FeedId, sequence: u64) -> Refusal {
    Refusal::OtherReceived { feed: feed.clone(), sequence }
}
