//! Judges batches in the order of the log: chain, signature, stream versions.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use httt_feed::{
    AgencyCode, Digest, Directory, FeedId, Fingerprint, Head, KeyId, Lane, PublicKey, Refusal, UnverifiedBatch,
};
use httt_wire::{Message as _, Name as _, directory as pb, feed};

use super::{GatewayKey, feed_head};
use crate::entry::FeedHead;
use crate::thin::GoneEntry;
use crate::tlog::node_of;

/// What is known at some position of the log.
pub(super) struct Judge {
    pub(super) log_id: Option<[u8; 16]>,
    pub(super) own_key: Option<PublicKey>,
    pub(super) unchecked_own: u64,
    /// Whose log it is: as the first event says, else as the checkpoint does.
    own: Option<AgencyCode>,
    trusted: Option<Fingerprint>,
    /// Trusted by whoever audits; it has vouched for nothing yet.
    unvouched: Option<Fingerprint>,
    /// Where the directory begins.
    founded_at: u64,
    taken_from_log: bool,
    directory: Directory,
    heads: BTreeMap<FeedId, (Head, u64)>,
    /// Feeds, so that a stream need only keep a number.
    feeds: HashMap<FeedId, u32>,
    streams: HashMap<(AgencyCode, String), (u64, u32)>,
    /// Own batches sealed after their key was known to be revoked, and where they are: good if they are admitted.
    kept_out: Vec<(u64, FeedId, Head)>,
    /// Feeds taken up at a restatement: of their streams, the first event here may have any version.
    taken_up: HashSet<FeedId>,
    /// Feeds of which entries went by retention: versions of their streams may be missing.
    thinned: HashSet<FeedId>,
}

fn directory(trusted: Option<Fingerprint>, own: Option<(&AgencyCode, &PublicKey)>) -> Directory {
    // No key has the fingerprint of zeros: without a trusted one nothing is believed yet.
    let directory = Directory::trusting(trusted.unwrap_or(Digest([0; 32])));
    match own {
        Some((origin, key)) => directory.knowing_own(origin.clone(), key.clone()),
        None => directory,
    }
}

fn decode<M: httt_wire::Message + httt_wire::Name + Default>(event: &feed::Event) -> Option<M> {
    (event.r#type == M::full_name()).then(|| M::decode(event.data.clone()).ok()).flatten()
}

impl Judge {
    pub(super) fn new(trusted: Option<Fingerprint>, checkpoint_origin: Option<String>) -> Self {
        let own = checkpoint_origin.and_then(|line| node_of(&line));
        Self {
            log_id: None,
            own_key: None,
            unchecked_own: 0,
            own,
            trusted,
            unvouched: None,
            founded_at: 0,
            taken_from_log: false,
            directory: directory(trusted, None),
            heads: BTreeMap::new(),
            feeds: HashMap::new(),
            streams: HashMap::new(),
            kept_out: Vec::new(),
            taken_up: HashSet::new(),
            thinned: HashSet::new(),
        }
    }

    /// Judges the entry at `position`; gives the number of its events.
    pub(super) fn entry(&mut self, position: u64, bytes: Bytes, findings: &mut Vec<String>) -> u64 {
        let body = feed::SealedBatch::decode(bytes.clone()).map(|sealed| Digest::of(&sealed.body));
        let (batch, digest) = match (httt_feed::parse(bytes), body) {
            (Ok(batch), Ok(digest)) => (batch, digest),
            (Err(refusal), _) => {
                findings.push(refusal.to_string());
                return 0;
            }
            (_, Err(error)) => {
                findings.push(format!("not a sealed batch: {error}"));
                return 0;
            }
        };
        if batch.feed().lane == Lane::Directory && self.directory.gateway().is_none() {
            self.founded_at = position;
        }
        if position == 0 {
            self.learn_own_key(&batch, findings);
        }
        let message = batch.batch().clone();
        let feed = batch.feed().clone();
        self.chain(position, &batch, digest, findings);
        // What is not the origin's says nothing about the origin's streams.
        if self.signature(position, &batch, digest, findings) {
            self.stream_versions(&feed, &message.events, findings);
        }
        message.events.len() as u64
    }

    /// Judges what is left of an entry that went by retention.
    pub(super) fn gone(&mut self, gone: &GoneEntry, findings: &mut Vec<String>) {
        let feed = &gone.feed;
        if matches!(feed.lane, Lane::Directory | Lane::Local) || self.own.as_ref() == Some(&feed.origin) {
            findings.push(format!(
                "{feed}: sequence {} is said to have gone by retention, which lets none of this feed go",
                gone.sequence
            ));
        }
        let head = self.heads.get(feed).map(|(head, _)| *head);
        let expected = head.map_or(1, |head| head.sequence.saturating_add(1));
        if head.is_none() && feed.lane == Lane::Status && gone.restates {
            self.taken_up.insert(feed.clone());
        } else if gone.sequence != expected {
            findings.push(format!("{feed}: sequence {} came where {expected} is next", gone.sequence));
        }
        self.heads.insert(feed.clone(), (Head { sequence: gone.sequence, digest: gone.digest }, gone.position));
        self.thinned.insert(feed.clone());
    }

    fn learn_own_key(&mut self, batch: &UnverifiedBatch, findings: &mut Vec<String>) {
        let opened = batch.batch().events.first().and_then(decode::<pb::LogOpened>);
        let opened = opened.filter(|_| *batch.feed() == FeedId::local(&batch.feed().origin));
        let Some(opened) = opened else {
            findings.push(format!(
                "the log does not begin with {} on its lane local: its own batches cannot be checked unless the \
                 directory names their key",
                pb::LogOpened::full_name()
            ));
            return;
        };
        if opened.member != batch.feed().origin.as_str() {
            findings.push(format!("the first event speaks of {} in a feed of {}", opened.member, batch.feed().origin));
            return;
        }
        if self.log_id.is_some_and(|id| id[..] != opened.log_id[..]) {
            findings.push("the first event names another log id than the chunks".into());
        }
        match opened.key.as_ref().map(PublicKey::from_wire) {
            Some(Ok(key)) => {
                let own = batch.feed().origin.clone();
                self.directory = directory(self.trusted, Some((&own, &key)));
                self.own_key = Some(key);
                self.own = Some(own);
            }
            Some(Err(error)) => findings.push(format!("the first event's key: {error}")),
            None => findings.push("the first event names no key".into()),
        }
    }

    /// The same rule as `httt_feed::follow`, kept apart from it on purpose: an audit should not share its subject's
    /// mistakes. After a finding the batch is taken as the new head, so that one gap is one finding.
    fn chain(&mut self, position: u64, batch: &UnverifiedBatch, digest: Digest, findings: &mut Vec<String>) {
        let feed = batch.feed();
        let (sequence, head) = (batch.sequence(), self.heads.get(feed).map(|(head, _)| *head));
        // The feed was taken up where it says again all that it stands for; what came before was never here.
        let taken_up = head.is_none() && feed.lane == Lane::Status && batch.batch().restates;
        let expected = head.map_or(1, |head| head.sequence.saturating_add(1));
        let previous = Digest::from_slice(&batch.batch().previous);
        if taken_up {
            self.taken_up.insert(feed.clone());
        } else if sequence != expected {
            findings.push(format!("{feed}: sequence {sequence} came where {expected} is next"));
        } else if previous != head.map(|head| head.digest) {
            findings.push(format!("{feed}: sequence {sequence} does not name the batch before it"));
        }
        self.heads.insert(feed.clone(), (Head { sequence, digest }, position));
    }

    /// Whether the batch is its origin's, as far as can be told.
    fn signature(
        &mut self,
        position: u64,
        batch: &UnverifiedBatch,
        digest: Digest,
        findings: &mut Vec<String>,
    ) -> bool {
        let (feed, sequence) = (batch.feed().clone(), batch.sequence());
        if feed.lane == Lane::Directory && self.directory.gateway().is_none() {
            self.trust_first_use(batch);
        }
        let is_own = self.own.as_ref() == Some(&feed.origin);
        match self.directory.kept_out_by(batch) {
            Ok(None) => {
                self.directory.apply(&feed, &batch.batch().events);
                if feed.lane == Lane::Directory && self.signed_by_trusted(batch.key(), &feed.origin) {
                    self.unvouched = None;
                }
                true
            }
            // A node whose key was revoked goes on until it has another one, and the gateway may admit what it said.
            Ok(Some(_)) if is_own => {
                self.kept_out.push((position, feed, Head { sequence, digest }));
                true
            }
            Ok(Some(_)) => {
                let (origin, key) = (feed.origin.clone(), batch.key());
                findings.push(Refusal::RevokedKey { origin, key, feed, sequence }.to_string());
                false
            }
            Err(Refusal::NotAMember(_) | Refusal::UnknownKey { .. }) if self.own_key.is_none() && is_own => {
                self.unchecked_own += 1;
                true
            }
            Err(refusal) => {
                findings.push(refusal.to_string());
                false
            }
        }
    }

    /// Own batches that nobody will take unless they are admitted later: where they are, and what is to be told.
    pub(super) fn not_admitted(&self) -> impl Iterator<Item = (u64, String)> {
        let admitted = |feed: &FeedId, head: &Head| {
            let member = self.directory.member(&feed.origin);
            let mut known = member.into_iter().flat_map(|one| one.admitted(&feed.audience, feed.lane, head.sequence));
            known.any(|digest| digest == head.digest)
        };
        self.kept_out.iter().filter(move |(_, feed, head)| !admitted(feed, head)).map(|(position, feed, head)| {
            let what = "was sealed with a key that had been revoked, and is not admitted: nobody will take it";
            (*position, format!("{feed}: sequence {} {what}", head.sequence))
        })
    }

    fn signed_by_trusted(&self, key: KeyId, origin: &AgencyCode) -> bool {
        let member = self.directory.member(origin);
        let signer = member.and_then(|member| member.all_keys().map(|(key, _)| key).find(|known| known.id() == key));
        signer.is_some_and(|key| Some(key.fingerprint()) == self.unvouched)
    }

    /// The key that is trusted, if it vouched for nothing in this log, and where the directory begins.
    pub(super) fn unvouched(&self) -> Option<(Fingerprint, u64)> {
        self.unvouched.map(|key| (key, self.founded_at))
    }

    /// Takes the key that the first directory batch gives its own origin. Where another key is trusted, as after the
    /// gateway changed its key, a later batch by that one must vouch for it, as `Directory::founded_by` demands.
    fn trust_first_use(&mut self, batch: &UnverifiedBatch) {
        let origin = batch.feed().origin.as_str();
        let key = batch
            .batch()
            .events
            .iter()
            .filter_map(decode::<pb::KeyAdded>)
            .filter(|added| added.member == origin)
            .filter_map(|added| PublicKey::from_wire(&added.key?).ok())
            .find(|key| key.id() == batch.key());
        if let Some(key) = key.filter(|key| Some(key.fingerprint()) != self.trusted) {
            self.taken_from_log = self.trusted.is_none();
            self.unvouched = self.trusted;
            self.trusted = Some(key.fingerprint());
            // Nothing was folded yet, since nothing of a directory was believed before.
            self.directory = directory(self.trusted, self.own.as_ref().zip(self.own_key.as_ref()));
        }
    }

    fn stream_versions(&mut self, feed: &FeedId, events: &[feed::Event], findings: &mut Vec<String>) {
        let next = self.feeds.len() as u32;
        let number = *self.feeds.entry(feed.clone()).or_insert(next);
        // Versions before these were never here, or went.
        let thinned = self.thinned.contains(feed);
        let begins_later = self.taken_up.contains(feed) || thinned;
        for event in events {
            let before = if begins_later { event.version.saturating_sub(1) } else { 0 };
            let stream = (feed.origin.clone(), event.stream.clone());
            let latest = self.streams.entry(stream).or_insert((before, number));
            let skips = thinned && event.version > latest.0;
            if event.version != latest.0.saturating_add(1) && !skips {
                findings.push(format!(
                    "{}: stream {} has version {} where {} is next",
                    feed.origin,
                    event.stream,
                    event.version,
                    latest.0.saturating_add(1)
                ));
            }
            if latest.1 != number {
                findings.push(format!("{}: stream {} is in more than one feed", feed.origin, event.stream));
            }
            *latest = (event.version, number);
        }
    }

    pub(super) fn heads(&self) -> Vec<FeedHead> {
        self.heads.iter().map(|(feed, head)| feed_head(feed, head)).collect()
    }

    pub(super) fn gateway_key(&self) -> Option<GatewayKey> {
        let fingerprint = self.trusted?;
        self.directory.gateway()?;
        Some(GatewayKey { fingerprint, taken_from_log: self.taken_from_log })
    }

    /// Keys that may have signed a checkpoint of this node.
    pub(super) fn own_keys(&self) -> Vec<PublicKey> {
        let listed = self.own.as_ref().and_then(|own| self.directory.member(own));
        let listed = listed.into_iter().flat_map(|member| member.all_keys().map(|(key, _)| key.clone()));
        self.own_key.iter().cloned().chain(listed).collect()
    }
}
