//! A disk as the store of the real service.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use httt_exchange::{Receipts, Store, StoreError, receipt_events, receipt_id};
use httt_feed::{AgencyCode, Audience, Digest, FeedId, Head, Lane, VerifiedBatch};
use httt_log::{FeedHead, NewEvent, Placed, Transaction};
use httt_wire::{Message as _, exchange as wire};
use tokio::sync::watch;

use crate::disk::{Disk, Done, Work};

impl Store for Disk {
    fn origin(&self) -> &AgencyCode {
        &self.origin
    }

    fn id(&self) -> Vec<u8> {
        self.origin.as_str().as_bytes().to_vec()
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.length.subscribe()
    }

    fn heads(&self, after: u64) -> Vec<FeedHead> {
        self.heads_since(after)
    }

    fn head(&self, feed: &FeedId) -> Option<Head> {
        self.head_of(feed)
    }

    fn digest<'a>(&'a self, feed: &'a FeedId, sequence: u64) -> BoxFuture<'a, Result<Option<Digest>, StoreError>> {
        let digest = self.batch(feed, sequence).map(|batch| batch.digest());
        Box::pin(async move { Ok(digest) })
    }

    fn read<'a>(
        &'a self,
        feed: &'a FeedId,
        after: u64,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>> {
        let away = self.away(feed);
        let head = Store::head(self, feed).map_or(0, |head| head.sequence);
        if after < away && after < head {
            let feed = feed.clone();
            return Box::pin(async move { Err(StoreError::Away { feed, after, until: away }) });
        }
        let mut bytes = 0;
        let entries = self.some(feed, after, u64::MAX, usize::MAX).into_iter().map(|batch| batch.bytes().clone());
        let fitting = entries.enumerate().take_while(|(at, entry)| {
            bytes += entry.len();
            *at == 0 || bytes <= max_bytes
        });
        let entries: Vec<Bytes> = fitting.map(|(_, entry)| entry).collect();
        Box::pin(async move { Ok(entries) })
    }

    fn take(
        &self,
        batches: Vec<VerifiedBatch>,
        receipts: Receipts,
    ) -> BoxFuture<'_, Result<Vec<wire::Receipt>, StoreError>> {
        let mut transaction = Transaction::copy(batches);
        if receipts == Receipts::Issue {
            transaction = transaction.deriving(receipt_events);
        }
        let ticket = self.enqueue(Work::Commit(transaction));
        Box::pin(async move {
            let placed = Waiting { disk: self, ticket }.await?;
            Ok(match receipts {
                Receipts::Issue => placed.iter().filter_map(|placed| self.receipt_of(placed)).collect(),
                Receipts::None => Vec::new(),
            })
        })
    }

    fn take_again(&self, batches: Vec<VerifiedBatch>) -> BoxFuture<'_, Result<(), StoreError>> {
        let ticket = self.enqueue(Work::Again(batches));
        Box::pin(async move { Waiting { disk: self, ticket }.await.map(|_| ()) })
    }

    fn say(&self, events: Vec<NewEvent>) -> BoxFuture<'_, Result<(), StoreError>> {
        let ticket = self.enqueue(Work::Commit(Transaction::append(events)));
        Box::pin(async move { Waiting { disk: self, ticket }.await.map(|_| ()) })
    }
}

impl Disk {
    fn receipt_of(&self, placed: &Placed) -> Option<wire::Receipt> {
        let id = receipt_id(&placed.feed, placed.head);
        let feed = FeedId::new(self.origin.clone(), Audience::One(placed.feed.origin.clone()), Lane::Report);
        let batches = self.feed(&feed);
        let events = batches.iter().rev().flat_map(|batch| batch.batch().events.iter());
        let event = events.into_iter().find(|event| event.id == id.as_bytes())?;
        wire::Receipt::decode(event.data.clone()).ok()
    }
}

struct Waiting<'a> {
    disk: &'a Disk,
    ticket: u64,
}

impl Future for Waiting<'_> {
    type Output = Done;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Done> {
        self.disk.poll_done(self.ticket)
    }
}
