//! A bucket that does what it should, and one that does not.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{Method, StatusCode};

use super::s3::{ACCESS, Fault, S3};
use super::*;
use crate::config::{ConfigPath, Secret};
use crate::http::{self as node_http, ServeLimits};
use crate::shutdown::Shutdown;
use crate::tls::{self, ClientAuth};

const CUT: Fault = Fault::CutAfter(100_000);
const BROKEN: Fault = Fault::Status(StatusCode::INTERNAL_SERVER_ERROR);
const SLOW_DOWN: Fault = Fault::Status(StatusCode::SERVICE_UNAVAILABLE);

/// Nodes' folders around one bucket.
struct Bench {
    s3: S3,
    dir: tempfile::TempDir,
    config: MediaConfig,
}

fn secret(dir: &tempfile::TempDir, name: &str, text: &str) -> Secret {
    let path = dir.path().join(name);
    std::fs::write(&path, text).expect("write");
    Secret::in_file(path)
}

impl Bench {
    async fn new() -> Self {
        let s3 = S3::start().await;
        let endpoint = format!("http://{}", s3.address);
        Self::at(s3, &endpoint, None)
    }

    fn at(s3: S3, endpoint: &str, ca: Option<ConfigPath>) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let bucket = S3Config {
            endpoint: endpoint.to_owned(),
            bucket: "httt".into(),
            prefix: "node/media".into(),
            region: "vn-test".into(),
            access_key: secret(&dir, "access", ACCESS),
            secret_key: secret(&dir, "secret", "s3cret"),
            ca,
        };
        let config = MediaConfig { store: StoreKind::S3, s3: Some(bucket), ..MediaConfig::folder(64 << 20, 128 << 20) };
        Self { s3, dir, config }
    }

    /// A store with this folder as its cache.
    fn open(&self, folder: &str) -> MediaStore {
        MediaStore::open(self.dir.path().join(folder), &self.config).expect("opens")
    }

    fn object(digest: Digest) -> String {
        format!("node/media/{digest}")
    }

    /// A file that is in the bucket, and a store that has it nowhere else.
    async fn kept(&self, data: &Bytes) -> (Digest, MediaStore) {
        let digest = self.open("writer").put_bytes(data.clone()).await.expect("put");
        let fresh = self.open("reader");
        assert!(fresh.stat(digest).await.expect("asked").complete);
        assert!(!fresh.path(digest).exists());
        (digest, fresh)
    }
}

async fn whole(store: &MediaStore, digest: Digest) -> Result<Bytes, MediaStoreError> {
    let mut all = Vec::new();
    loop {
        let (piece, size) = store.read_range(digest, all.len() as u64, u64::MAX).await?;
        all.extend_from_slice(&piece);
        if all.len() as u64 == size {
            return Ok(all.into());
        }
    }
}

#[tokio::test]
async fn a_file_is_kept_in_the_bucket_and_read_through_the_folder() {
    let bench = Bench::new().await;
    let data = sound(50_000);
    let (digest, store) = bench.kept(&data).await;
    assert_eq!(bench.s3.held().objects[&Bench::object(digest)], data);
    assert_eq!(store.read_range(digest, 49_990, 100).await.expect("tail"), (data.slice(49_990..), 50_000));
    assert_eq!(whole(&store, digest).await.expect("whole"), data);
    assert!(matches!(store.read_range(digest, 50_001, 1).await, Err(MediaStoreError::Range { size: 50_000, .. })));
    assert_eq!(bench.s3.count("GET"), 1, "once in the folder it is read there");
}

#[tokio::test]
async fn a_file_that_arrives_in_pieces_is_put_when_it_is_whole() {
    let bench = Bench::new().await;
    let store = bench.open("writer");
    let data = sound(3_000);
    let digest = Digest::of(&data);
    store.write_for("H24", digest, 3_000, 0, data.slice(..2_000)).await.expect("first");
    assert_eq!(bench.s3.count("PUT"), 0);
    assert!(store.write_for("H24", digest, 3_000, 2_000, data.slice(2_000..)).await.expect("last").complete);
    assert_eq!(bench.s3.count("PUT"), 1);
    assert!(store.write_for("H55", digest, 3_000, 0, data.slice(..10)).await.expect("held already").complete);
    assert_eq!(bench.s3.count("PUT"), 1);
}

#[tokio::test]
async fn a_large_file_goes_in_parts() {
    let bench = Bench::new().await;
    let data = sound(20 << 20);
    let (digest, store) = bench.kept(&data).await;
    assert!(bench.s3.count("PUT") >= 3);
    assert_eq!(Digest::of(&whole(&store, digest).await.expect("whole")), digest);
    assert!(bench.s3.held().uploads.is_empty());
}

#[tokio::test]
async fn requests_that_fail_in_passing_are_asked_again() {
    let bench = Bench::new().await;
    bench.s3.fail(Method::PUT, &[BROKEN, SLOW_DOWN]);
    let data = sound(500_000);
    let (digest, store) = bench.kept(&data).await;
    bench.s3.fail(Method::GET, &[SLOW_DOWN, BROKEN, CUT, CUT]);
    assert_eq!(whole(&store, digest).await.expect("whole"), data);
    assert_eq!(store.usage().await.expect("usage").lost, 0);
}

#[tokio::test]
async fn a_large_file_survives_failing_parts() {
    let bench = Bench::new().await;
    bench.s3.fail(Method::POST, &[SLOW_DOWN]);
    bench.s3.fail(Method::PUT, &[BROKEN, SLOW_DOWN, BROKEN]);
    let data = sound(20 << 20);
    let (digest, _) = bench.kept(&data).await;
    assert_eq!(Digest::of(&bench.s3.held().objects[&Bench::object(digest)]), digest);
}

#[tokio::test]
async fn a_bucket_that_refuses_costs_nothing_but_time() {
    let bench = Bench::new().await;
    let store = bench.open("writer");
    let data = sound(3_000);
    let digest = Digest::of(&data);
    store.write_for("H24", digest, 3_000, 0, data.slice(..2_000)).await.expect("first");
    bench.s3.held().closed = true;
    let refused = store.write_for("H24", digest, 3_000, 2_000, data.slice(2_000..)).await.expect_err("refused");
    assert!(matches!(&refused, MediaStoreError::Bucket { .. }), "{refused}");
    assert!(refused.to_string().contains(&digest.to_string()), "{refused}");
    assert_eq!(store.stat_for("H24", digest).await.expect("stat"), MediaStat { held: 3_000, complete: false });
    assert!(matches!(store.read_range(digest, 0, 1).await, Err(MediaStoreError::Bucket { .. })));
    bench.s3.held().closed = false;
    assert!(store.write_for("H24", digest, 3_000, 3_000, Bytes::new()).await.expect("now").complete);
    assert_eq!(whole(&store, digest).await.expect("whole"), data);
}

/// What a bucket does to an object behind everybody's back.
async fn harmed(harm: impl FnOnce(&mut BTreeMap<String, Bytes>, String)) {
    let bench = Bench::new().await;
    let data = sound(300_000);
    let (digest, store) = bench.kept(&data).await;
    let mut losses = store.losses();
    harm(&mut bench.s3.held().objects, Bench::object(digest));
    let read = store.read_range(digest, 0, 10).await;
    assert!(matches!(read, Err(MediaStoreError::NotFound(_))), "{read:?}");
    losses.changed().await.expect("told");
    assert_eq!(store.usage().await.expect("usage").lost, 1);
    // It is not offered any more, nor asked for again.
    assert!(!store.knows(digest));
    assert_eq!(store.stat(digest).await.expect("stat"), MediaStat { held: 0, complete: false });
    assert!(matches!(store.read_range(digest, 0, 10).await, Err(MediaStoreError::NotFound(_))));
    // The origin brings it again.
    assert!(store.write_at(digest, 300_000, 0, data.clone()).await.expect("brought again").complete);
    assert_eq!(whole(&store, digest).await.expect("whole"), data);
    let fresh = bench.open("another");
    assert_eq!(whole(&fresh, digest).await.expect("whole"), data);
}

#[tokio::test]
async fn an_altered_object_is_told_and_never_served() {
    harmed(|objects, key| {
        let mut data = objects[&key].to_vec();
        data[299_999] ^= 1;
        objects.insert(key, data.into());
    })
    .await;
}

#[tokio::test]
async fn a_truncated_object_is_told_and_never_served() {
    harmed(|objects, key| {
        let data = objects[&key].slice(..200_000);
        objects.insert(key, data);
    })
    .await;
}

#[tokio::test]
async fn an_object_that_grew_is_told_and_never_served() {
    harmed(|objects, key| {
        let mut data = objects[&key].to_vec();
        data.push(0);
        objects.insert(key, data.into());
    })
    .await;
}

#[tokio::test]
async fn a_lost_object_is_told() {
    harmed(|objects, key| drop(objects.remove(&key))).await;
}

#[tokio::test]
async fn bytes_that_are_spoilt_on_the_way_once_are_asked_for_again() {
    let bench = Bench::new().await;
    let data = sound(300_000);
    let (digest, store) = bench.kept(&data).await;
    bench.s3.fail(Method::GET, &[Fault::EndAfter(100_000)]);
    assert_eq!(whole(&store, digest).await.expect("whole"), data);
    assert_eq!((bench.s3.count("GET"), store.usage().await.expect("usage").lost), (2, 0));
}

#[tokio::test]
async fn many_readers_fetch_an_object_once() {
    let bench = Bench::new().await;
    let data = sound(200_000);
    let (digest, store) = bench.kept(&data).await;
    let readers = (0..16).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { whole(&store, digest).await })
    });
    for reader in readers.collect::<Vec<_>>() {
        assert_eq!(reader.await.expect("reads").expect("whole"), data);
    }
    assert_eq!(bench.s3.count("GET"), 1);
}

#[tokio::test]
async fn the_folder_keeps_to_its_limit_and_the_bucket_has_the_rest() {
    let mut bench = Bench::new().await;
    (bench.config.max_file_bytes, bench.config.max_store_bytes) = (100_000, 250_000);
    let store = bench.open("writer");
    // A service may say so; what the bucket has may leave the folder all the same.
    store.pin(|| Pinned::All);
    let files: Vec<Bytes> = (0..6).map(|number: u8| vec![number; 100_000].into()).collect();
    for file in &files {
        store.put_bytes(file.clone()).await.expect("put");
    }
    for file in files.iter().chain(&files) {
        assert_eq!(whole(&store, Digest::of(file)).await.expect("whole"), *file);
        let usage = store.usage().await.expect("usage");
        assert!(usage.file_bytes + usage.part_bytes <= 250_000, "{usage:?}");
    }
    assert_eq!(bench.s3.held().objects.len(), 6);
}

#[tokio::test]
async fn what_the_folder_held_before_is_brought_to_the_bucket_and_stays_until_then() {
    let mut bench = Bench::new().await;
    (bench.config.max_file_bytes, bench.config.max_store_bytes) = (100_000, 250_000);
    let alone = MediaConfig::folder(100_000, 250_000);
    let before = MediaStore::open(bench.dir.path().join("media"), &alone).expect("opens");
    let mut digests = BTreeSet::new();
    for number in 0..2_u8 {
        digests.insert(before.put_bytes(vec![number; 100_000].into()).await.expect("put"));
    }
    drop(before);

    // The bucket is away at first: nothing is dropped, and what does not fit is refused.
    bench.s3.held().closed = true;
    let store = bench.open("media");
    assert!(matches!(store.put_bytes(vec![9; 100_000].into()).await, Err(MediaStoreError::Full { .. })));
    drop(store);
    bench.s3.held().closed = false;
    let store = bench.open("media");
    let there = async {
        while bench.s3.held().objects.len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), there).await.expect("brought to the bucket");
    for digest in digests {
        assert_eq!(Digest::of(&bench.s3.held().objects[&Bench::object(digest)]), digest);
    }
    let fits = async {
        while store.put_bytes(vec![9; 100_000].into()).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), fits).await.expect("there is room now");
}

#[tokio::test]
async fn a_bucket_is_spoken_to_by_tls_with_the_configured_authority_alone() {
    let pki = tls::testing::Pki::new();
    let (_, identity) = pki.issue("s3", &[]);
    let (s3, listener, router) = S3::prepare().await;
    let server = tls::server_config(&identity, ClientAuth::None).expect("server");
    let shutdown = Shutdown::new();
    tokio::spawn(node_http::serve_with(listener, Some(server), router, shutdown.clone(), ServeLimits::default()));
    let endpoint = format!("https://{}", s3.address);
    let bench = Bench::at(s3.clone(), &endpoint, identity.ca.clone());
    let data = sound(9 << 20);
    let (digest, store) = bench.kept(&data).await;
    assert_eq!(Digest::of(&whole(&store, digest).await.expect("whole")), digest);

    let stranger = tls::testing::Pki::new();
    let suspicious = Bench::at(s3, &endpoint, Some(ConfigPath::new(stranger.ca())));
    let refused = suspicious.open("reader").stat(digest).await.expect_err("not trusted");
    assert!(matches!(&refused, MediaStoreError::Bucket { .. }), "{refused}");
    shutdown.trigger();
}

#[tokio::test]
async fn another_access_key_is_refused_by_the_bucket_and_told() {
    let mut bench = Bench::new().await;
    let other = secret(&bench.dir, "other", "AKIDOTHER");
    bench.config.s3.as_mut().expect("a bucket").access_key = other;
    let refused = bench.open("writer").put_bytes(sound(10)).await.expect_err("refused").to_string();
    assert!(refused.contains("403 Forbidden") && !refused.contains("s3cret"), "{refused}");
}

#[tokio::test]
async fn buckets_that_make_no_sense_are_refused_at_the_start() {
    let bench = Bench::new().await;
    let refusal = |change: &dyn Fn(&mut S3Config)| {
        let mut config = bench.config.clone();
        change(config.s3.as_mut().expect("a bucket"));
        MediaStore::open(bench.dir.path().join("x"), &config).expect_err("refused").to_string()
    };
    for (endpoint, why) in [
        ("http://s3.example.vn", "loopback"),
        ("https://s3.example.vn", "ca is missing"),
        ("s3.example.vn", "https://"),
        ("ftp://s3.example.vn", "https://"),
    ] {
        let said = refusal(&|bucket| bucket.endpoint = endpoint.to_owned());
        assert!(said.contains("[node.media] s3") && said.contains(why), "{endpoint}: {said}");
    }
    let said = refusal(&|bucket| bucket.secret_key = Secret::in_file(bench.dir.path().join("absent")));
    assert!(said.contains("secret_key") && said.contains("absent"), "{said}");
}
