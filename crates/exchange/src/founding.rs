//! The beginning of the gateway's directory feed, gathered until a batch vouches for it: a new member is configured with the
//! gateway's present key, and years may lie between that and the first batch.
//!
//! Nothing of it is good before, so nothing of it is stored: it waits in memory, verified as it comes, and is stored as
//! one. A crash in between begins anew.

use bytes::Bytes;
use httt_feed::{Directory, FeedId, Founding, Lane, UnverifiedBatch, parse};
use httt_log::{MAX_TRANSACTION_BYTES, MAX_TRANSACTION_ITEMS};

use crate::MAX_CALL_BYTES;

/// Most bytes of a directory before the answer that vouches for it, and most entries: some ten thousand changes.
pub(crate) const MAX_FOUNDING_BYTES: usize = 6 * 1024 * 1024;
const MAX_FOUNDING_ENTRIES: usize = 50_000;
/// Least bytes of an entry: its signature and digests alone are more.
const MIN_ENTRY_BYTES: usize = 100;
// With that answer it is one transaction.
const _: () = assert!(MAX_FOUNDING_BYTES + MAX_CALL_BYTES + MAX_CALL_BYTES / 2 <= MAX_TRANSACTION_BYTES);
const _: () = assert!(MAX_FOUNDING_ENTRIES + MAX_CALL_BYTES / MIN_ENTRY_BYTES <= MAX_TRANSACTION_ITEMS);

/// What was gathered, of one feed at a time.
#[derive(Debug, Default)]
pub(crate) struct Beginning(Option<Gathered>);

#[derive(Debug)]
struct Gathered {
    feed: FeedId,
    founding: Founding,
    entries: Vec<Bytes>,
    bytes: usize,
}

impl Beginning {
    /// After which sequence to go on with `feed`, if some of it was gathered.
    pub(crate) fn after(&self, feed: &FeedId) -> Option<u64> {
        let gathered = self.0.as_ref().filter(|gathered| gathered.feed == *feed)?;
        gathered.founding.head().map(|head| head.sequence)
    }

    /// Gives up what was gathered of a feed of which `last` says that there is not more: nothing follows it.
    pub(crate) fn give_up(&mut self, last: impl Fn(&FeedId) -> Option<u64>) {
        self.0.take_if(|gathered| {
            let last = last(&gathered.feed);
            last.is_some_and(|last| gathered.founding.head().is_none_or(|head| head.sequence >= last))
        });
    }

    /// Takes the next entries of a feed of which there are `last` in all, as far as is known. Gives what is to be judged
    /// together; `None`: they are good so far, and what follows them is needed first.
    pub(crate) fn take(
        &mut self,
        directory: &Directory,
        feed: &FeedId,
        entries: Vec<Bytes>,
        last: u64,
    ) -> Option<Vec<Bytes>> {
        if feed.lane != Lane::Directory || directory.gateway().is_some() {
            return Some(entries);
        }
        let Some(mut gathered) =
            self.0.take().filter(|gathered| gathered.feed == *feed).or_else(|| begin(directory, feed, &entries))
        else {
            return Some(entries);
        };
        let fresh = entries.len();
        gathered.bytes += entries.iter().map(Bytes::len).sum::<usize>();
        gathered.entries.extend(entries);
        let begins = gathered.entries.len() - fresh;
        let all = |gathered: Gathered| Some(gathered.entries);
        for index in begins..gathered.entries.len() {
            let batch = parse(gathered.entries[index].clone());
            match batch.and_then(|batch| gathered.founding.next(&batch, directory)) {
                Ok(None) => {}
                // Vouched for, or of no use: whoever judges them all finds out the same.
                Ok(Some(_)) | Err(_) => return all(gathered),
            }
        }
        let is_all = gathered.founding.head().is_none_or(|head| head.sequence >= last);
        if is_all || gathered.bytes > MAX_FOUNDING_BYTES || gathered.entries.len() > MAX_FOUNDING_ENTRIES {
            tracing::warn!(%feed, bytes = gathered.bytes, "nothing in the directory is by the configured gateway_fingerprint");
            return all(gathered);
        }
        self.0 = Some(gathered);
        None
    }
}

/// Whether these entries begin a feed that must be vouched for.
fn begin(directory: &Directory, feed: &FeedId, entries: &[Bytes]) -> Option<Gathered> {
    let first: UnverifiedBatch = parse(entries.first()?.clone()).ok().filter(|first| first.feed() == feed)?;
    // The configured key signed it itself.
    if directory.verify(first.clone()).is_ok() {
        return None;
    }
    let founding = directory.founding(&first)?;
    Some(Gathered { feed: feed.clone(), founding, entries: Vec::new(), bytes: 0 })
}

#[cfg(test)]
mod tests {
    use httt_feed::{AgencyCode, Digest, MemberKind, Sealer, SigningKey};
    use httt_wire::{directory as pb, feed as feed_pb};

    use super::*;

    fn key(name: &str) -> SigningKey {
        SigningKey::from_seed(&Digest::of(name.as_bytes()).0).expect("key")
    }

    fn gateway() -> AgencyCode {
        AgencyCode::new("NDXP").expect("code")
    }

    fn event<M: httt_wire::Message + httt_wire::Name>(number: u64, message: &M) -> feed_pb::Event {
        filler(number, M::full_name(), message.encode_to_vec())
    }

    fn filler(number: u64, r#type: String, data: Vec<u8>) -> feed_pb::Event {
        let id = Digest::of(&number.to_be_bytes()).0[..16].to_vec();
        feed_pb::Event { id, stream: format!("s{number}"), version: 1, r#type, data: data.into(), ..Default::default() }
    }

    /// A directory whose gateway changed its key after `before` large batches, and `after` more.
    fn directory(before: u64, after: u64) -> (FeedId, Vec<Bytes>) {
        let feed = FeedId::directory(&gateway());
        let kind = MemberKind::Gateway.into();
        let enrolled = pb::MemberEnrolled { member: "NDXP".into(), kind, ..Default::default() };
        let added = |name: &str| pb::KeyAdded { member: "NDXP".into(), key: Some(key(name).public().to_wire()) };
        let (mut entries, mut head, mut number) = (Vec::new(), None, 1_000);
        let mut say = |signer: &str, mut events: Vec<feed_pb::Event>| {
            number += 1;
            events.push(filler(number, "a.later.Version".into(), vec![7; 40_000]));
            let batch = Sealer::new(gateway(), key(signer)).seal(&feed, head.as_ref(), 0, events).expect("seals");
            head = Some(batch.head());
            entries.push(batch.bytes().clone());
        };
        say("old", vec![event(1, &enrolled), event(2, &added("old"))]);
        (1..before).for_each(|_| say("old", vec![]));
        say("old", vec![event(3, &added("new"))]);
        (0..after).for_each(|_| say("new", vec![]));
        (feed, entries)
    }

    fn trusting(name: &str) -> Directory {
        Directory::trusting(key(name).public().fingerprint())
    }

    /// What is judged together of entries that come in pieces, and how many pieces were asked for.
    fn gather(known: &Directory, feed: &FeedId, entries: &[Bytes], last: u64) -> (Option<Vec<Bytes>>, usize) {
        let mut beginning = Beginning::default();
        for (count, some) in entries.chunks(10).enumerate() {
            assert_eq!(beginning.after(feed).unwrap_or(0), count as u64 * 10);
            if let Some(all) = beginning.take(known, feed, some.to_vec(), last) {
                assert_eq!(beginning.after(feed), None, "nothing is kept");
                return (Some(all), count + 1);
            }
        }
        (None, entries.len().div_ceil(10))
    }

    #[test]
    fn a_beginning_is_gathered_until_it_is_vouched_for() {
        let (feed, entries) = directory(55, 30);
        let known = trusting("new");
        let (all, pieces) = gather(&known, &feed, &entries, entries.len() as u64);
        assert_eq!((all.as_deref(), pieces), (Some(&entries[..60]), 6), "the 57th is the first by the new key");
        let admission = crate::admit(&known, &feed, None, &all.expect("gathered"));
        assert_eq!((admission.batches.len(), admission.refused.is_none()), (60, true));
    }

    #[test]
    fn what_the_configured_key_began_is_not_gathered() {
        let (feed, entries) = directory(20, 0);
        assert_eq!(gather(&trusting("old"), &feed, &entries, 21).0.as_deref(), Some(&entries[..10]));
    }

    #[test]
    fn what_ends_without_being_vouched_for_is_judged_as_it_is() {
        let (feed, entries) = directory(35, 0);
        let known = trusting("nobody");
        let (all, pieces) = gather(&known, &feed, &entries, entries.len() as u64);
        assert_eq!((all.as_deref(), pieces), (Some(&entries[..]), 4));
        let admission = crate::admit(&known, &feed, None, &all.expect("gathered"));
        assert!(admission.batches.is_empty() && admission.refused.is_some());
    }

    #[test]
    fn what_does_not_follow_ends_the_gathering() {
        let (feed, mut entries) = directory(55, 30);
        entries.remove(25);
        assert_eq!(gather(&trusting("new"), &feed, &entries, 100).1, 3);
    }

    #[test]
    fn a_directory_without_end_takes_bounded_memory() {
        let (feed, entries) = directory(200, 0);
        let (all, _) = gather(&trusting("new"), &feed, &entries, u64::MAX);
        let bytes: usize = all.expect("given up").iter().map(Bytes::len).sum();
        assert!((MAX_FOUNDING_BYTES..MAX_FOUNDING_BYTES + MAX_CALL_BYTES).contains(&bytes), "{bytes}");
    }
}
