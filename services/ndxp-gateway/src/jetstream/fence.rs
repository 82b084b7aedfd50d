//! Fences: what keeps a revocation exact while several processes give receipts.
//!
//! A revocation names what was received before it, and what was received is what has a receipt. The receipts for all that
//! one member says are in one feed, and each message of it is published under the guard of the one before. So who is
//! about to revoke says there first that what follows is decided with the directory that is to come. Whatever receipt is
//! there before is known, and named. Whoever wants to give one after it finds that word, waits for the directory, and
//! looks again whether the batch is still good.
//!
//! A key of the gateway itself is revoked in the same way, behind a fence in each of its feeds of receipts: after it
//! nobody seals there with a key that is about to go. In the directory the revocation itself is the fence.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use httt_exchange::{StoreError, derived_id};
use httt_feed::{AgencyCode, Audience, FeedId, Head, Lane, Refusal, VerifiedBatch};
use httt_log::{Direction, NewEvent};
use httt_wire::Message as _;
use httt_wire::directory as pb;
use tokio::time::Instant;

use super::connect::away;
use super::own::Second;
use super::shared::{READ_AHEAD, Shared};

/// Pause between two looks at the directory that a fence waits for.
const PAUSE: Duration = Duration::from_millis(100);
/// Who says these events.
const ACTOR: &str = "gateway";

/// The stream of a feed's fences.
fn stream(audience: &Audience) -> String {
    format!("directory-awaited/{audience}")
}

impl Shared {
    /// Puts up the fences before keys of `members` are revoked by the directory that follows `seen`.
    pub(super) async fn hold(&self, members: &BTreeSet<AgencyCode>, seen: Option<Head>) -> Result<(), StoreError> {
        let sequence = seen.map_or(0, |head| head.sequence) + 1;
        // All at once: whoever waits at the first one waits for the last one, too.
        let fences = self.fenced(members).into_iter().map(|feed| async move {
            let id = derived_id(&[b"directory awaited\0", feed.to_string().as_bytes(), &sequence.to_be_bytes()]);
            let word = pb::DirectoryAwaited { sequence };
            let event = NewEvent::of(feed.audience.clone(), feed.lane, stream(&feed.audience), &word);
            let event = event.with_id(id).with_actor(ACTOR);
            self.say_in(&feed, || Ok(vec![event.clone()]), Second::Insist).await
        });
        let mut fences = futures_util::stream::iter(fences).buffer_unordered(READ_AHEAD);
        while let Some(stands) = fences.next().await {
            stands?;
        }
        Ok(())
    }

    /// Whether the fences stand that a revocation of keys of `members` needs.
    pub(super) fn holds(&self, members: &BTreeSet<AgencyCode>, seen: Option<Head>) -> Result<bool, StoreError> {
        let needed = seen.map_or(0, |head| head.sequence) + 1;
        for feed in self.fenced(members) {
            if self.awaited(&feed)? < needed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Feeds of receipts that say what was received of these members; of the gateway's own: all of them.
    fn fenced(&self, members: &BTreeSet<AgencyCode>) -> Vec<FeedId> {
        let own = self.own.log.origin();
        let directory = self.own.directory.get();
        let all = directory
            .members()
            .map(|member| &member.code)
            .filter(|code| members.contains(own) || members.contains(code));
        let others = all.filter(|code| *code != own);
        others.map(|code| FeedId::new(own.clone(), Audience::One(code.clone()), Lane::Report)).collect()
    }

    /// The sequence of the directory that the feed's latest fence asks for; 0: none does.
    fn awaited(&self, feed: &FeedId) -> Result<u64, StoreError> {
        let log = &self.own.log;
        let last = log.read_stream(log.origin(), &stream(&feed.audience), u64::MAX, Direction::Backward, 1)?.pop();
        let word = last.and_then(|event| pb::DirectoryAwaited::decode(event.event.data).ok());
        Ok(word.map_or(0, |word| word.sequence))
    }

    /// Whether the directory in this log is the one that the feed's latest fence asks for.
    pub(super) fn is_past_fence(&self, feed: &FeedId) -> Result<bool, StoreError> {
        let directory = FeedId::directory(self.own.log.origin());
        if *feed == directory {
            return Ok(true);
        }
        Ok(self.awaited(feed)? <= self.own.log.head(&directory).map_or(0, |head| head.sequence))
    }

    /// Waits for the directory that the feed's latest fence asks for. Who put that up may have ended, or changed its
    /// mind: then this process says that nothing was changed, after which the other one cannot change it any more.
    pub(super) async fn await_directory(&self, feed: &FeedId) -> Result<(), StoreError> {
        let until = Instant::now() + self.settings.fence_patience;
        loop {
            self.directory_home().await?;
            if self.is_past_fence(feed)? {
                return Ok(());
            }
            if Instant::now() >= until {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let own = self.own.log.origin();
        let directory = FeedId::directory(own);
        let seen = self.own.log.head(&directory);
        tracing::warn!(%feed, "a change of the directory was begun and is not made; it is given up");
        let revised = pb::MemberRevised {
            member: own.to_string(),
            reason: "một thay đổi đã bắt đầu mà không hoàn tất (a change was begun and not completed)".to_owned(),
        };
        let event = NewEvent::of(Audience::All, Lane::Directory, format!("member/{own}"), &revised).with_actor(ACTOR);
        // If somebody says something else first, that is as good.
        Box::pin(self.say_in(&directory, || Ok(vec![event.clone()]), Second::GiveUp(seen)))
            .await
            .or_else(|error| if self.is_past_fence(feed)? { Ok(()) } else { Err(error) })
    }

    /// Takes in what the directory says at this moment.
    pub(super) async fn directory_home(&self) -> Result<(), StoreError> {
        let directory = FeedId::directory(self.own.log.origin());
        let _turn = self.turn(&directory).await;
        self.sync(&directory).await?;
        self.take_home(&directory).await
    }

    /// Whether a batch is good by the directory in this log: it was when it was verified, and only its key can have
    /// been revoked since.
    pub(super) fn still_good(&self, batch: &VerifiedBatch) -> Result<(), Refusal> {
        let directory = self.own.directory.get();
        let member = directory.member(&batch.feed().origin);
        if member.is_some_and(|member| member.keys().any(|key| key.id() == batch.key())) {
            return Ok(());
        }
        directory.verify(httt_feed::parse(batch.bytes().clone())?).map(drop)
    }

    /// Why this process may not seal: the directory does not know the key that it has, or revoked it.
    pub(super) fn sealing_fault(&self) -> Option<String> {
        let (directory, key) = (self.own.directory.get(), self.own.log.public_key());
        let own = directory.member(self.own.log.origin())?;
        let good = own.keys().any(|good| good.id() == key.id());
        (!good).then(|| {
            format!(
                "khoá {} của tiến trình này đã bị thu hồi: hãy đặt khoá mà các tiến trình khác của cổng đang dùng vào tệp \
                 có đuôi .next cạnh signing_key (the key of this process was revoked: put the one that the gateway's other \
                 processes use beside signing_key, in a file ending in .next)",
                key.fingerprint()
            )
        })
    }

    /// Refuses to seal with a key that nobody would believe.
    pub(super) fn may_seal(&self) -> Result<(), StoreError> {
        self.sealing_fault().map_or(Ok(()), |fault| Err(away(fault)))
    }
}
