//! What the service does so that a gateway on an old disk does not contradict itself; the rule is in [`crate::own`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use httt_feed::{AgencyCode, Directory, FeedId, Head, Lane};
use httt_wire::exchange as wire;

use super::{Receipts, Service};
use crate::own::{MAX_HELD, NotYet, here_of};
use crate::refusal::unavailable;
use crate::{StoreError, head_from_wire};

impl Service {
    /// Why nothing is said or taken yet, if so: members are asked first what they hold of this node's own feeds.
    pub fn waits(&self) -> Option<NotYet> {
        self.own.waits(&self.directory.get(), self.store.origin(), self.clock.now_ms(), &self.here())
    }

    /// Last sequences of own feeds.
    fn here(&self) -> impl Fn(&FeedId) -> u64 + '_ {
        here_of(self.store.as_ref(), &self.stopped)
    }

    pub(super) fn is_whole(&self) -> Result<(), wire::Refusal> {
        self.waits().map_or(Ok(()), |waits| Err(unavailable(waits.to_string())))
    }

    pub(super) fn may_take(&self, caller: &AgencyCode, origin: &AgencyCode) -> Result<(), wire::Refusal> {
        let taken = self.own.may_take(&self.directory.get(), caller, origin, self.clock.now_ms(), &self.here());
        taken.map_err(|not_yet| unavailable(not_yet.to_string()))
    }

    /// Whether something may be said to everybody.
    pub(super) fn speaks(&self) -> Result<(), StoreError> {
        let waits = self.waits().map_or(Ok(()), Err);
        let (directory, now_ms) = (self.directory.get(), self.clock.now_ms());
        let speaks = waits.and_then(|()| self.own.may_revise(&directory, now_ms, &self.here()));
        speaks.map_err(|not_yet| StoreError::Unavailable(not_yet.to_string()))
    }

    /// A caller that asks for all heads tells what it holds of this node's own feeds.
    pub(super) async fn hear(&self, caller: &AgencyCode, request: &wire::HeadsRequest) {
        if !self.own.asks() || !request.log_id.is_empty() {
            return;
        }
        let own = |(feed, _): &(FeedId, Head)| feed.origin == *self.store.origin() && feed.lane != Lane::Local;
        let held: BTreeMap<_, _> = request.held.iter().take(MAX_HELD).filter_map(head_from_wire).filter(own).collect();
        let mut others = Vec::new();
        for (feed, head) in &held {
            let here = self.store.digest(feed, head.sequence).await.ok().flatten();
            if here.is_some_and(|here| here != head.digest) {
                others.push((feed.clone(), head.sequence));
            }
        }
        for (feed, sequence) in self.own.hear(caller, held, others) {
            tracing::error!(%caller, %feed, sequence, "holds another batch of ours than we do");
        }
    }

    /// What a caller is to bring back of this node's own feeds.
    pub(super) fn own_wants(&self, caller: &AgencyCode) -> Vec<wire::Want> {
        let wanted = self.own.wanted_of(caller, &self.here()).into_iter();
        wanted.map(|(feed, after, until)| wire::Want { feed: Some(feed.to_wire()), after, until }).collect()
    }

    /// Takes back what this node said itself and does not hold. That it did say so its own signature shows, so anybody may
    /// bring it.
    pub(super) async fn take_back(
        &self,
        caller: &AgencyCode,
        directory: Arc<Directory>,
        feed: FeedId,
        entries: Vec<Bytes>,
    ) -> wire::PushResponse {
        let before = self.store.head(&feed).map_or(0, |head| head.sequence);
        let answer = self.take(caller, directory, feed.clone(), entries, Receipts::None).await;
        let until = self.store.head(&feed).map_or(0, |head| head.sequence);
        if until > before {
            self.own.came(caller, &feed);
            self.evidence().keep_went_back(&feed, before, until, caller.as_str()).await;
        }
        answer
    }
}
