//! An S3-compatible bucket keeps complete files; the folder is its cache.
//!
//! A bucket is believed nothing but that it stores bytes: what comes back is verified as a whole against its name before
//! the first byte of it is served, and an object that is gone, short or altered counts as lost, is told, and has to come
//! from its origin again.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::http::Uri;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use httt_exchange::BoxFuture;
use httt_feed::Digest;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{BackoffConfig, MultipartUpload, ObjectStoreExt as _, PutPayload, RetryConfig};

use super::connector::Connector;
use super::error::io_error;
use super::files::{self, Incoming, Verified};
use super::ledger::{Ledger, Pinned};
use super::store::{Folder, Store};
use super::{MediaStoreError, S3Config, blocking, detached};
use crate::client::{ClientLimits, HttpClient};
use crate::tls;

/// Larger files are sent in parts of so many bytes; one part is in memory at a time. Buckets take no smaller parts.
const PART_BYTES: usize = 8 << 20;
/// Bytes of an object that are gathered before they are written to the folder.
const WRITE_BYTES: usize = 1 << 20;
/// How often a request is tried again by itself.
const RETRIES: usize = 5;
/// For how long it is.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
/// First and longest pause between tries.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pause after a bucket did not answer for what the folder held at the start.
const SETTLE_PAUSE: Duration = Duration::from_secs(30);

/// The bucket and its cache. Clones are the same.
#[derive(Clone)]
pub(super) struct Bucket(Arc<Inner>);

struct Inner {
    client: AmazonS3,
    prefix: String,
    folder: PathBuf,
    ledger: Arc<Ledger>,
    cache: Folder,
    objects: Mutex<Objects>,
    /// Fetches under way, by digest.
    fetches: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

/// What is known of the bucket's objects, since the start.
#[derive(Default)]
struct Objects {
    /// Those that are there, as the bucket said, and their sizes.
    there: HashMap<Digest, u64>,
    /// Those that have other bytes than they should.
    spoilt: HashSet<Digest>,
}

impl Bucket {
    /// The bucket that `config` names. What the folder holds already is brought there in the background. Blocking, and
    /// inside a runtime.
    pub(super) fn open(config: &S3Config, folder: PathBuf, ledger: Arc<Ledger>) -> Result<Self, MediaStoreError> {
        let client = connect(config).map_err(|cause| MediaStoreError::Config { key: "s3", cause })?;
        let cache = Folder::new(folder.clone(), Arc::clone(&ledger));
        let prefix = config.prefix.trim_matches('/').to_owned();
        let (objects, fetches) = (Mutex::default(), Mutex::default());
        let bucket = Self(Arc::new(Inner { client, prefix, folder, ledger, cache, objects, fetches }));
        let weak = Arc::downgrade(&bucket.0);
        // What the bucket is not known to have stays in the folder.
        bucket.0.ledger.pin(move || match weak.upgrade() {
            Some(inner) => Pinned::AllBut(inner.objects().there.keys().copied().collect()),
            None => Pinned::All,
        });
        let held = bucket.0.ledger.files();
        tokio::spawn(settle(Arc::downgrade(&bucket.0), held));
        Ok(bucket)
    }

    fn key(&self, digest: &Digest) -> Key {
        match self.0.prefix.as_str() {
            "" => Key::from(digest.to_string()),
            prefix => Key::from(format!("{prefix}/{digest}")),
        }
    }

    fn failed(&self, digest: &Digest, error: &object_store::Error) -> MediaStoreError {
        MediaStoreError::Bucket { object: self.key(digest).to_string(), cause: error.to_string() }
    }

    /// The size of the object, as far as the bucket says.
    async fn size(&self, digest: Digest) -> Result<Option<u64>, MediaStoreError> {
        {
            let objects = self.0.objects();
            if let Some(size) = objects.there.get(&digest) {
                return Ok(Some(*size));
            }
            if objects.spoilt.contains(&digest) {
                return Ok(None);
            }
        }
        match self.0.client.head(&self.key(&digest)).await {
            Ok(meta) => {
                self.0.objects().there.insert(digest, meta.size);
                Ok(Some(meta.size))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&digest, &error)),
        }
    }

    /// Puts a file of the folder into the bucket.
    async fn upload(&self, digest: Digest, size: u64, path: PathBuf) -> Result<(), MediaStoreError> {
        let key = self.key(&digest);
        let failed = |error| self.failed(&digest, &error);
        let mut file = blocking({
            let path = path.clone();
            move || File::open(&path).map_err(|source| io_error(&path, source))
        })
        .await?;
        if size <= PART_BYTES as u64 {
            let (data, _) = next_part(file, &path).await?;
            self.0.client.put(&key, PutPayload::from(data)).await.map_err(failed)?;
        } else {
            let mut upload = self.0.client.put_multipart(&key).await.map_err(failed)?;
            let parts = async {
                let mut left = size;
                while left > 0 {
                    let data;
                    (data, file) = next_part(file, &path).await?;
                    if data.is_empty() {
                        return Err(MediaStoreError::NotFound(digest));
                    }
                    left = left.saturating_sub(data.len() as u64);
                    upload.put_part(PutPayload::from(data)).await.map_err(failed)?;
                }
                upload.complete().await.map(drop).map_err(failed)
            };
            let sent = parts.await;
            if sent.is_err() {
                abort(upload, &key).await;
            }
            sent?;
        }
        let mut objects = self.0.objects();
        objects.spoilt.remove(&digest);
        objects.there.insert(digest, size);
        Ok(())
    }

    /// Brings an object into the cache, once, whoever waits for it.
    async fn fetch(self, digest: Digest) -> Result<(), MediaStoreError> {
        let turn = self.0.turn(digest);
        let _turn = turn.lock().await;
        if self.0.cache.known(&digest).is_some() {
            return Ok(());
        }
        if self.0.objects().spoilt.contains(&digest) {
            return Err(MediaStoreError::NotFound(digest));
        }
        // Bytes may have been spoilt on the way alone, so it is looked at twice.
        let mut copy = self.download(digest).await?;
        if copy.verified().digest != digest {
            copy = self.download(digest).await?;
        }
        let verified = copy.verified();
        if verified.digest == digest {
            self.0.objects().there.insert(digest, verified.size);
            return self.0.cache.take(verified).await;
        }
        // It stays in the bucket for whoever looks into it, until the file is brought again.
        {
            let mut objects = self.0.objects();
            objects.there.remove(&digest);
            objects.spoilt.insert(digest);
        }
        let (size, actual) = (verified.size, verified.digest);
        self.0.ledger.lost(&digest, &format!("its object in the bucket has {size} bytes that are {actual}"));
        Err(MediaStoreError::NotFound(digest))
    }

    /// An object as the bucket gives it, not verified.
    async fn download(&self, digest: Digest) -> Result<Incoming, MediaStoreError> {
        let object = match self.0.client.get(&self.key(&digest)).await {
            Ok(object) => object,
            Err(object_store::Error::NotFound { .. }) => {
                if self.0.objects().there.remove(&digest).is_some() {
                    self.0.ledger.lost(&digest, "the bucket no longer has its object");
                }
                return Err(MediaStoreError::NotFound(digest));
            }
            Err(error) => return Err(self.failed(&digest, &error)),
        };
        let wrong = |cause| MediaStoreError::Bucket { object: self.key(&digest).to_string(), cause };
        let (announced, limit) = (object.meta.size, self.0.ledger.limits().max_file_bytes);
        if announced > limit {
            return Err(wrong(format!("it has {announced} bytes, and {limit} are allowed")));
        }
        let (folder, ledger) = (self.0.folder.clone(), Arc::clone(&self.0.ledger));
        let mut incoming = blocking(move || Incoming::create(&folder, &ledger)).await?;
        let mut pieces = object.into_stream();
        let mut gathered = BytesMut::new();
        loop {
            let piece = pieces.next().await.transpose().map_err(|error| self.failed(&digest, &error))?;
            let ended = piece.is_none();
            gathered.extend_from_slice(&piece.unwrap_or_default());
            if incoming.size() + gathered.len() as u64 > announced {
                return Err(wrong(format!("more came than the {announced} bytes announced")));
            }
            if ended || gathered.len() >= WRITE_BYTES {
                let data = gathered.split().freeze();
                incoming = blocking(move || incoming.write(&data).map(|()| incoming)).await?;
            }
            if ended {
                break;
            }
        }
        if incoming.size() < announced {
            return Err(wrong(format!("it broke off at {} of {announced} bytes", incoming.size())));
        }
        Ok(incoming)
    }
}

impl Inner {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        fetches.retain(|_, turn| turn.strong_count() > 0);
        let held = fetches.get(&digest).and_then(Weak::upgrade);
        held.unwrap_or_else(|| {
            let turn = Arc::default();
            fetches.insert(digest, Arc::downgrade(&turn));
            turn
        })
    }
}

impl Store for Bucket {
    fn known(&self, digest: &Digest) -> Option<u64> {
        self.0.cache.known(digest).or_else(|| self.0.objects().there.get(digest).copied())
    }

    fn find(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>, MediaStoreError>> {
        Box::pin(async move {
            match self.0.cache.find(digest).await? {
                Some(size) => Ok(Some(size)),
                None => self.size(digest).await,
            }
        })
    }

    fn read(&self, digest: Digest, offset: u64, max: u64) -> BoxFuture<'_, Result<(Bytes, u64), MediaStoreError>> {
        Box::pin(async move {
            match self.0.cache.read(digest, offset, max).await {
                Err(MediaStoreError::NotFound(_)) => {
                    detached(self.clone().fetch(digest)).await?;
                    self.0.cache.read(digest, offset, max).await
                }
                held => held,
            }
        })
    }

    fn take(&self, verified: Verified) -> BoxFuture<'_, Result<(), MediaStoreError>> {
        Box::pin(async move {
            self.upload(verified.digest, verified.size, verified.path.clone()).await?;
            self.0.cache.take(verified).await
        })
    }
}

/// Brings to the bucket what the folder held at the start and the bucket does not have: it may have been down, or the
/// folder may have been all there was. Until then such a file stays in the folder.
async fn settle(bucket: Weak<Inner>, held: Vec<(Digest, u64)>) {
    for (digest, size) in held {
        loop {
            let Some(inner) = bucket.upgrade() else { return };
            let bucket = Bucket(inner);
            let path = files::path(&bucket.0.folder, &digest);
            let settled = match bucket.size(digest).await {
                Ok(Some(there)) if there == size => Ok(()),
                Ok(_) => bucket.upload(digest, size, path).await,
                Err(error) => Err(error),
            };
            match settled {
                Err(error @ MediaStoreError::Bucket { .. }) => {
                    tracing::warn!(sha256 = %digest, %error, "a file of the folder is not in the bucket yet");
                    drop(bucket);
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
                Err(error) => {
                    tracing::warn!(sha256 = %digest, %error, "a file of the folder cannot be brought to the bucket");
                    break;
                }
                Ok(()) => break,
            }
        }
    }
}

/// Up to [`PART_BYTES`] more of a file.
async fn next_part(file: File, path: &std::path::Path) -> Result<(Bytes, File), MediaStoreError> {
    let path = path.to_owned();
    blocking(move || {
        let mut data = Vec::new();
        (&file).take(PART_BYTES as u64).read_to_end(&mut data).map_err(|source| io_error(&path, source))?;
        Ok((data.into(), file))
    })
    .await
}

async fn abort(mut upload: Box<dyn MultipartUpload>, key: &Key) {
    if let Err(error) = upload.abort().await {
        tracing::warn!(%key, %error, "parts of an upload that failed stay in the bucket");
    }
}

fn connect(config: &S3Config) -> Result<AmazonS3, String> {
    let endpoint: Uri = config.endpoint.parse().map_err(|error| format!("endpoint: {error}"))?;
    let host = endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let (tls, allow_plain_http) = match (endpoint.scheme_str(), &config.ca) {
        (Some("https"), Some(ca)) => (tls::anonymous_client_config(ca), false),
        (Some("https"), None) => return Err("ca is missing: the authorities of the endpoint's certificate".to_owned()),
        (Some("http"), _) if loopback => (tls::trustless_client_config(), true),
        (Some("http"), _) => return Err("endpoint: http is for loopback addresses alone; use https".to_owned()),
        _ => return Err("endpoint: it must begin with https://".to_owned()),
    };
    let tls = tls.map_err(|error| error.to_string())?;
    let limits = ClientLimits { allow_plain_http, ..ClientLimits::default() };
    let read = |key: &str, secret: &crate::config::Secret| secret.read().map_err(|error| format!("{key}: {error}"));
    let (init_backoff, max_backoff) = RETRY_PAUSES;
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff, max_backoff, base: 2.0 },
        max_retries: RETRIES,
        retry_timeout: RETRY_TIMEOUT,
    };
    AmazonS3Builder::new()
        .with_endpoint(config.endpoint.trim_end_matches('/'))
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_access_key_id(read("access_key", &config.access_key)?.expose())
        .with_secret_access_key(read("secret_key", &config.secret_key)?.expose())
        .with_allow_http(allow_plain_http)
        .with_retry(retry)
        .with_http_connector(Connector(HttpClient::with_limits(tls, limits)))
        .build()
        .map_err(|error| error.to_string())
}
