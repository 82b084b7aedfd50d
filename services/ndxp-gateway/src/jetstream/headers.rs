//! Headers of a stream's messages, one after the other, without a gap.
//!
//! The client asks again by itself when its connection was cut, and the servers do not tell a second time what they
//! told into a dead connection. So whoever reads hears of every cut and of every number that is left out, and begins
//! anew.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt as _;
use httt_exchange::StoreError;
use tokio::sync::watch;

use super::connect::{Connection, HeadersConsumer, away};

/// Headers asked for at once.
const HEADERS_AHEAD: usize = 2_000;
/// How often a server says that there is nothing new.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long one request for headers stands.
const EXPIRES: Duration = Duration::from_secs(10);
/// How long the next header is waited for before it is counted again how many there are.
const STALLED: Duration = Duration::from_secs(1);

/// A stream's headers from its first message on.
pub(super) struct Headers {
    stream: stream::Stream,
    consumer: HeadersConsumer,
    messages: pull::Stream,
    /// Changes when the connection is cut.
    cuts: watch::Receiver<u64>,
    /// How many were read.
    read: u64,
}

impl Headers {
    pub(super) async fn open(connection: &Connection, stream: stream::Stream) -> Result<Self, StoreError> {
        // Before the consumer is made: a cut from then on is one that it may have told into.
        let cuts = connection.cuts();
        let consumer = connection.headers(&stream).await?;
        let messages = consumer.stream().max_messages_per_batch(HEADERS_AHEAD).heartbeat(HEARTBEAT).expires(EXPIRES);
        let messages = messages.messages().await.map_err(away)?;
        Ok(Self { stream, consumer, messages, cuts, read: 0 })
    }

    /// The next one, whenever it comes. May be dropped while it waits.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: some may have been missed; it is to be begun anew.
    pub(super) async fn next(&mut self) -> Result<jetstream::Message, StoreError> {
        let message = tokio::select! {
            message = self.messages.next() => message,
            _ = self.cuts.changed() => return Err(away("the connection was cut")),
        };
        let message = message.ok_or_else(|| away("the stream's consumer ended"))?.map_err(away)?;
        let (number, expected) = (message.info().map_err(away)?.consumer_sequence, self.read + 1);
        if number != expected {
            return Err(away(format!("header {expected} was lost on the way; number {number} came")));
        }
        self.read = number;
        Ok(message)
    }

    /// Reads as many as there are by now. Gives up when nothing comes `most_stalls` times in a row though something
    /// should.
    ///
    /// # Errors
    /// As [`Headers::next`].
    pub(super) async fn read_rest(
        &mut self,
        most_stalls: usize,
        mut read: impl FnMut(&jetstream::Message),
    ) -> Result<(), StoreError> {
        let (mut total, mut stalls) = (self.told().await?, 0);
        while self.read < total {
            match tokio::time::timeout(STALLED, self.next()).await {
                Ok(message) => {
                    read(&message?);
                    stalls = 0;
                }
                Err(_) => {
                    // Messages that were deleted meanwhile are not told.
                    total = self.told().await?;
                    stalls += 1;
                    if self.read < total && stalls >= most_stalls {
                        return Err(away(format!("there are {total} headers, and none comes after {}", self.read)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the reading. If it cannot be told to the server, that ends it by itself after a while.
    pub(super) async fn close(self) {
        let _left = self.stream.delete_consumer(&self.consumer.cached_info().name).await;
    }

    /// How many have been told or are about to be.
    async fn told(&self) -> Result<u64, StoreError> {
        // The consumer may be with a server that is behind the stream's leader: it would end before the stream does.
        let there = self.stream.get_info().await.map_err(away)?.state.messages;
        let info = self.consumer.get_info().await.map_err(away)?;
        Ok(there.max(info.delivered.consumer_sequence + info.num_pending))
    }
}
