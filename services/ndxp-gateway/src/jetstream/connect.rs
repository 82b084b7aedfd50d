//! The connection to the servers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{Context, consumer, stream};
use async_nats::{Client, ConnectOptions, Event};
use bytes::Bytes;
use futures_util::StreamExt as _;
use httt_exchange::StoreError;
use httt_feed::{FeedId, Lane, MAX_SEALED_BYTES, VerifiedBatch};
use httt_node::client::{ClientLimits, HttpClient};
use httt_node::tls;
use tokio::sync::watch;

use super::config::{JetStreamConfig, Settings};
use super::fit::{self, Fault};
use super::{JetStreamError, durable, subject};

/// How long the servers may take to answer, or to write a message.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause before a server is tried again.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(2);
/// Bytes that a message has beside its batch: subject and headers.
const FRAMING_BYTES: usize = 2 * 1024;
/// How often a message that no stream heard is sent, and the pause between.
const MAX_UNHEARD: usize = 10;
const UNHEARD_PAUSE: Duration = Duration::from_millis(100);
/// How long a follower's consumer outlives it.
const CONSUMER_LEFT: Duration = Duration::from_secs(60);

/// A connection, and what the servers promise.
#[derive(Debug, Clone)]
pub struct Connection {
    context: Context,
    /// Counts how often the connection was cut.
    cuts: watch::Receiver<u64>,
    /// Whether servers and streams that may lose acknowledged messages are taken.
    allow_volatile: bool,
    /// Why acknowledged messages may be lost, if they may: what was found first.
    volatile: Arc<OnceLock<String>>,
}

impl Connection {
    /// Connects, and looks whether the servers keep what they acknowledge.
    ///
    /// # Errors
    /// [`JetStreamError`]; [`JetStreamError::Volatile`] unless the configuration allows it.
    pub async fn open(config: &JetStreamConfig, name: &str) -> Result<Self, JetStreamError> {
        config.settings().map_err(JetStreamError::Config)?;
        let failed = |cause: String| JetStreamError::Connect { servers: config.servers.join(", "), cause };
        let cuts = watch::Sender::new(0);
        let heard = cuts.subscribe();
        let options = options(config, name).await?.event_callback(move |event| {
            if matches!(event, Event::Disconnected) {
                cuts.send_modify(|cuts| *cuts += 1);
            }
            std::future::ready(())
        });
        let client = options.connect(&config.servers).await.map_err(|error| failed(error.to_string()))?;
        let info = client.server_info();
        if !info.jetstream {
            return Err(failed(
                "JetStream is not enabled there; add `jetstream {}` to the server's configuration".into(),
            ));
        }
        if info.max_payload < MAX_SEALED_BYTES + FRAMING_BYTES {
            let need = MAX_SEALED_BYTES + FRAMING_BYTES;
            return Err(failed(format!("max_payload is {}; batches need {need}", info.max_payload)));
        }
        let volatile = durable::doubt(&info.version, &config.monitors, &monitor_client(config)?).await;
        match &volatile {
            Some(why) if !config.allow_volatile => return Err(JetStreamError::Volatile(why.clone())),
            Some(why) => tracing::warn!(why, "allow_volatile: acknowledged entries may be lost by the NATS servers"),
            None => {}
        }
        let context = ContextBuilder::new().timeout(ANSWER_TIMEOUT).ack_timeout(ANSWER_TIMEOUT).build(client);
        let volatile = Arc::new(volatile.map_or_else(OnceLock::new, OnceLock::from));
        Ok(Self { context, cuts: heard, allow_volatile: config.allow_volatile, volatile })
    }

    /// Why acknowledged messages may be lost; `None`: the servers promise to keep them.
    pub fn volatile(&self) -> Option<&str> {
        self.volatile.get().map(String::as_str)
    }

    pub(super) fn client(&self) -> Client {
        self.context.client()
    }

    /// Changes when the connection is cut from now on.
    pub(super) fn cuts(&self) -> watch::Receiver<u64> {
        let mut cuts = self.cuts.clone();
        cuts.mark_unchanged();
        cuts
    }

    /// Whether the servers can be asked at all. What is published without them would wait in memory.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.context.client().connection_state() {
            State::Connected => Ok(()),
            _ => Err(away("no server is connected")),
        }
    }

    /// Makes the lane's stream, or takes the one that is there if it keeps entries as that would.
    ///
    /// # Errors
    /// [`JetStreamError::Start`]: not now; [`JetStreamError::Stream`]: not this stream.
    pub(super) async fn ensure(&self, settings: &Settings, lane: Lane) -> Result<stream::Stream, JetStreamError> {
        self.check()?;
        let max_age = settings.max_age.get(&lane).copied().unwrap_or_default();
        let wanted = stream::Config {
            name: subject::stream(&settings.prefix, lane),
            subjects: vec![subject::subjects(&settings.prefix, lane)],
            retention: stream::RetentionPolicy::Limits,
            discard: stream::DiscardPolicy::New,
            storage: stream::StorageType::File,
            num_replicas: settings.replicas,
            max_age,
            ..stream::Config::default()
        };
        let stream = self.context.get_or_create_stream(wanted.clone()).await.map_err(away)?;
        let known = &stream.cached_info().config;
        let volatile = fit::check(known, &wanted, self.allow_volatile);
        let volatile =
            volatile.map_err(|Fault { vi, en }| JetStreamError::Stream { stream: wanted.name.clone(), vi, en })?;
        if let Some(Fault { en, .. }) = volatile
            && self.volatile.set(format!("stream {}: {en}", wanted.name)).is_ok()
        {
            tracing::warn!(stream = wanted.name, en, "allow_volatile: acknowledged entries may be lost");
        }
        if known.max_age != max_age || known.num_replicas != settings.replicas {
            tracing::info!(stream = wanted.name, ?max_age, replicas = settings.replicas, "the stream is changed");
            let changed = stream::Config { storage: known.storage, ..wanted };
            self.context.update_stream(&changed).await.map_err(away)?;
        }
        Ok(stream)
    }

    /// Tells headers of all messages of a stream, the old ones first.
    pub(super) async fn headers(&self, stream: &stream::Stream) -> Result<HeadersConsumer, StoreError> {
        let config = consumer::pull::Config {
            deliver_policy: consumer::DeliverPolicy::All,
            ack_policy: consumer::AckPolicy::None,
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: CONSUMER_LEFT,
            ..consumer::pull::Config::default()
        };
        stream.create_consumer(config).await.map_err(away)
    }

    /// Appends a batch to its subject, if `expected` still is its latest message (0: none). `None`: it is not.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; the message may be there all the same.
    pub(super) async fn publish(
        &self,
        prefix: &str,
        batch: &VerifiedBatch,
        expected: u64,
    ) -> Result<Option<u64>, StoreError> {
        let guarded = message(batch).expected_last_subject_sequence(expected);
        let named = guarded.clone().message_id(batch.digest().to_string());
        match self.send_guarded(prefix, batch.feed(), named).await? {
            // The servers remember ids of messages that they no longer have.
            Some(acknowledged)
                if acknowledged.duplicate
                    && self.get(prefix, batch.feed().lane, acknowledged.sequence).await?.as_ref()
                        != Some(batch.bytes()) =>
            {
                let again = self.send_guarded(prefix, batch.feed(), guarded).await?;
                Ok(again.map(|acknowledged| acknowledged.sequence))
            }
            acknowledged => Ok(acknowledged.map(|acknowledged| acknowledged.sequence)),
        }
    }

    /// `None`: the guard does not hold.
    async fn send_guarded(
        &self,
        prefix: &str,
        feed: &FeedId,
        message: PublishMessage,
    ) -> Result<Option<PublishAck>, StoreError> {
        match self.send(prefix, feed, message).await {
            Ok(acknowledged) => Ok(Some(acknowledged)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
            Err(error) => Err(away(error)),
        }
    }

    /// Appends a batch that was lost, wherever its subject stands. Without a message id, which they may remember.
    pub(super) async fn publish_again(&self, prefix: &str, batch: &VerifiedBatch) -> Result<u64, StoreError> {
        self.check()?;
        let acknowledged = self.send(prefix, batch.feed(), message(batch)).await.map_err(away)?;
        Ok(acknowledged.sequence)
    }

    async fn send(&self, prefix: &str, feed: &FeedId, message: PublishMessage) -> Result<PublishAck, PublishError> {
        let (subject, mut attempts) = (subject::of(prefix, feed), 1);
        loop {
            match self.context.send_publish(subject.clone(), message.clone()).await?.await {
                Ok(acknowledged) => return Ok(acknowledged),
                // Nobody heard it: a stream that was just made, or is choosing another leader.
                Err(error) if error.kind() == PublishErrorKind::StreamNotFound && attempts < MAX_UNHEARD => {
                    attempts += 1;
                    tokio::time::sleep(UNHEARD_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One message's body; `None`: the stream does not have it.
    pub(super) async fn get(&self, prefix: &str, lane: Lane, at: u64) -> Result<Option<Bytes>, StoreError> {
        use async_nats::jetstream::stream::RawMessageErrorKind;
        self.check()?;
        let stream = self.context.get_stream_no_info(subject::stream(prefix, lane)).await.map_err(away)?;
        match stream.get_raw_message(at).await {
            Ok(message) => Ok(Some(message.payload)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(away(error)),
        }
    }

    /// Deletes one message; it may be gone already.
    pub(super) async fn delete(&self, prefix: &str, lane: Lane, at: u64) -> Result<(), StoreError> {
        self.check()?;
        let stream = self.context.get_stream_no_info(subject::stream(prefix, lane)).await.map_err(away)?;
        stream.delete_message(at).await.map(drop).map_err(away)
    }

    /// The subject's first message at or after `from`, as its headers claim it; `None`: there is none.
    pub(super) async fn next(&self, prefix: &str, feed: &FeedId, from: u64) -> Result<Option<Message>, StoreError> {
        use async_nats::jetstream::stream::RawMessageErrorKind;
        self.check()?;
        let stream = self.context.get_stream_no_info(subject::stream(prefix, feed.lane)).await.map_err(away)?;
        match stream.get_first_raw_message_by_subject(subject::of(prefix, feed), from).await {
            Ok(message) => {
                let sequence = sequence(&message.headers);
                Ok(Some(Message { at: message.sequence, sequence, bytes: message.payload.len() }))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(away(error)),
        }
    }

    /// The feeds that the lane's stream has messages of.
    pub(super) async fn feeds(&self, prefix: &str, lane: Lane) -> Result<Vec<FeedId>, StoreError> {
        self.check()?;
        let stream = self.context.get_stream_no_info(subject::stream(prefix, lane)).await.map_err(away)?;
        let mut subjects = stream.info_with_subjects(subject::subjects(prefix, lane)).await.map_err(away)?;
        let mut feeds = Vec::new();
        while let Some(subject) = subjects.next().await {
            let (subject, _) = subject.map_err(away)?;
            feeds.extend(subject::feed(prefix, &subject).filter(|feed| feed.lane == lane));
        }
        Ok(feeds)
    }

    /// The subject's latest message, 0: none.
    pub(super) async fn last(&self, prefix: &str, feed: &FeedId) -> Result<u64, StoreError> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind;
        self.check()?;
        let stream = self.context.get_stream_no_info(subject::stream(prefix, feed.lane)).await.map_err(away)?;
        match stream.get_last_raw_message_by_subject(&subject::of(prefix, feed)).await {
            Ok(message) => Ok(message.sequence),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
            Err(error) => Err(away(error)),
        }
    }
}

/// Gives headers of messages.
pub(super) type HeadersConsumer = consumer::Consumer<consumer::pull::Config>;

/// A message of a subject.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub(super) at: u64,
    pub(super) sequence: Option<u64>,
    pub(super) bytes: usize,
}

/// What a message's header says of its batch's sequence.
pub(super) fn sequence(headers: &async_nats::HeaderMap) -> Option<u64> {
    headers.get(subject::SEQUENCE)?.as_str().parse().ok().filter(|sequence| *sequence > 0)
}

fn message(batch: &VerifiedBatch) -> PublishMessage {
    PublishMessage::build()
        .payload(batch.bytes().clone())
        .header(subject::SEQUENCE, batch.sequence().to_string().as_str())
        .header(subject::DIGEST, batch.digest().to_string().as_str())
}

/// The servers behind the store do not do what they are asked to, now.
pub(super) fn away(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("NATS JetStream: {error}"))
}

async fn options(config: &JetStreamConfig, name: &str) -> Result<ConnectOptions, JetStreamError> {
    let secret = |secret: &httt_node::config::Secret| {
        secret.read().map(|text| text.expose().to_owned()).map_err(|error| JetStreamError::Config(error.to_string()))
    };
    let mut options = ConnectOptions::new()
        .name(name)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(ANSWER_TIMEOUT))
        .reconnect_delay_callback(|attempts| {
            MAX_RECONNECT_PAUSE.min(Duration::from_millis(50 * u64::try_from(attempts).unwrap_or(u64::MAX).min(40)))
        });
    if let (Some(user), Some(password)) = (&config.user, &config.password) {
        options = options.user_and_password(user.clone(), secret(password)?);
    }
    if let Some(seed) = &config.nkey {
        options = options.nkey(secret(seed)?);
    }
    if let Some(file) = &config.credentials {
        let read = options.credentials_file(file).await;
        options = read.map_err(|error| JetStreamError::Config(format!("credentials: {error}")))?;
    }
    if let Some(tls) = &config.tls {
        options = options.require_tls(true).add_root_certificates(tls.ca.to_path_buf());
        if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
            options = options.add_client_certificate(certificate.to_path_buf(), key.to_path_buf());
        }
    }
    Ok(options)
}

/// Asks the servers' monitoring: plain HTTP, as NATS offers it on the machine itself, or HTTPS by the same authority.
fn monitor_client(config: &JetStreamConfig) -> Result<HttpClient, JetStreamError> {
    let limits = ClientLimits { allow_plain_http: true, ..ClientLimits::default() };
    let tls = match &config.tls {
        Some(tls) => tls::anonymous_client_config(&tls.ca),
        None => tls::trustless_client_config(),
    };
    Ok(HttpClient::with_limits(tls.map_err(|error| JetStreamError::Config(error.to_string()))?, limits))
}
