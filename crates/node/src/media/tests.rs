mod bucket;
mod limits;
mod moving;
mod s3;

use super::*;
use futures_util::stream;
use std::convert::Infallible;

const LIMIT: u64 = 1 << 20;

fn config() -> MediaConfig {
    MediaConfig::folder(LIMIT, 1 << 30)
}

fn store() -> (tempfile::TempDir, MediaStore) {
    let folder = tempfile::tempdir().expect("folder");
    let store = MediaStore::open(folder.path().join("media"), &config()).expect("opens");
    (folder, store)
}

fn sound(length: usize) -> Bytes {
    (0..length).map(|index| u8::try_from(index % 251).expect("small")).collect::<Vec<_>>().into()
}

fn part_of(store: &MediaStore, digest: Digest) -> PathBuf {
    store.path(digest).with_extension("own.part")
}

#[tokio::test]
async fn a_file_arrives_in_pieces() {
    let (folder, store) = store();
    let data = sound(10_000);
    let digest = Digest::of(&data);
    assert_eq!(store.stat(digest).await.expect("stat"), MediaStat { held: 0, complete: false });
    store.write_at(digest, 10_000, 0, data.slice(..4_000)).await.expect("first");
    assert!(matches!(store.read_range(digest, 0, 10).await, Err(MediaStoreError::NotFound(_))));

    // Another process run, hours later.
    let store = MediaStore::open(folder.path().join("media"), &config()).expect("opens");
    assert_eq!(store.stat(digest).await.expect("stat"), MediaStat { held: 4_000, complete: false });
    for offset in [0, 3_999, 4_001] {
        let refused = store.write_at(digest, 10_000, offset, data.slice(..10)).await;
        assert!(matches!(refused, Err(MediaStoreError::OutOfStep { held: 4_000, .. })), "{offset}");
    }
    let refused = store.write_at(digest, 4_001, 4_000, data.slice(..10)).await;
    assert!(matches!(refused, Err(MediaStoreError::PastEnd { end: 4_010, total: 4_001, .. })));
    let stat = store.write_at(digest, 10_000, 4_000, data.slice(4_000..)).await.expect("rest");
    assert_eq!(stat, MediaStat { held: 10_000, complete: true });
    assert!(!part_of(&store, digest).exists());
    assert_eq!(std::fs::read(store.path(digest)).expect("file"), data);

    // Said again, it is still there.
    assert!(store.write_at(digest, 10_000, 0, data.slice(..10)).await.expect("again").complete);
    assert_eq!(store.read_range(digest, 9_990, 100).await.expect("tail"), (data.slice(9_990..), 10_000));
    assert!(store.read_range(digest, 10_000, 100).await.expect("end").0.is_empty());
    assert!(matches!(store.read_range(digest, 10_001, 1).await, Err(MediaStoreError::Range { size: 10_000, .. })));
}

#[tokio::test]
async fn wrong_bytes_are_discarded() {
    let (_folder, store) = store();
    let data = sound(100);
    let digest = Digest::of(b"something else");
    let refused = store.write_at(digest, 100, 0, data.clone()).await;
    assert!(matches!(refused, Err(MediaStoreError::Mismatch { .. })));
    assert_eq!(store.stat(digest).await.expect("stat"), MediaStat { held: 0, complete: false });

    // A liar announced more than there is; an honest sender starts afresh.
    let digest = Digest::of(&data[..50]);
    store.write_at(digest, 1_000, 0, data.clone()).await.expect("part");
    let told = store.write_at(digest, 50, 50, Bytes::new()).await;
    assert!(matches!(told, Err(MediaStoreError::OutOfStep { held: 0, .. })));
    assert!(store.write_at(digest, 50, 0, data.slice(..50)).await.expect("whole").complete);
}

#[tokio::test]
async fn a_part_that_was_whole_before_a_crash_is_completed() {
    let (_folder, store) = store();
    let data = sound(100);
    let digest = Digest::of(&data);
    store.write_at(digest, 100, 0, data.slice(..99)).await.expect("part");
    std::fs::write(part_of(&store, digest), &data).expect("the crash came before the rename");
    assert!(store.write_at(digest, 100, 100, Bytes::new()).await.expect("completed").complete);

    let nothing = Digest::of(b"");
    assert!(store.write_at(nothing, 0, 0, Bytes::new()).await.expect("empty file").complete);
}

#[tokio::test]
async fn limits_hold() {
    let (_folder, store) = store();
    let digest = Digest::of(b"");
    let refused = store.write_at(digest, LIMIT + 1, 0, Bytes::new()).await;
    assert!(matches!(refused, Err(MediaStoreError::TooLarge { .. })));
    let big = sound(usize::try_from(LIMIT).expect("fits") + 1);
    assert!(matches!(store.put_bytes(big.clone()).await, Err(MediaStoreError::TooLarge { .. })));
    let pieces = stream::iter([Ok::<_, Infallible>(big.slice(..600_000)), Ok(big.slice(600_000..))]);
    assert!(matches!(store.put_stream(pieces).await, Err(MediaStoreError::TooLarge { .. })));
    assert_eq!(unfinished(&store), 0);
}

fn unfinished(store: &MediaStore) -> usize {
    std::fs::read_dir(store.0.folder.join("incoming")).expect("folder").count()
}

#[tokio::test]
async fn uploads_get_their_digest() {
    let (folder, store) = store();
    let data = sound(5_000);
    let pieces = stream::iter(data.chunks(700).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))));
    let (digest, size) = store.put_stream(pieces).await.expect("stored");
    assert_eq!((digest, size), (Digest::of(&data), 5_000));
    assert_eq!(store.put_bytes(data.clone()).await.expect("again"), digest);
    assert_eq!(store.read_range(digest, 0, u64::MAX).await.expect("whole").0, data);

    let broken = stream::iter([Ok(data.slice(..100)), Err("line dropped")]);
    assert!(matches!(store.put_stream(broken).await, Err(MediaStoreError::Upload(_))));
    assert_eq!(unfinished(&store), 0);

    std::fs::write(store.0.folder.join("incoming/left-by-a-crash"), "x").expect("write");
    let store = MediaStore::open(folder.path().join("media"), &config()).expect("opens");
    assert_eq!(unfinished(&store), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_one_file_take_turns() {
    let (_folder, store) = store();
    let data = sound(64_000);
    let digest = Digest::of(&data);
    let writers = (0..8).map(|_| {
        let (store, data) = (store.clone(), data.clone());
        tokio::spawn(async move {
            loop {
                let stat = store.stat(digest).await.expect("stat");
                if stat.complete {
                    return;
                }
                let start = usize::try_from(stat.held).expect("fits");
                let piece = data.slice(start..(start + 1_000).min(data.len()));
                match store.write_at(digest, 64_000, stat.held, piece).await {
                    Ok(_) | Err(MediaStoreError::OutOfStep { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("writes");
    }
    assert_eq!(store.read_range(digest, 0, u64::MAX).await.expect("whole").0, data);
    drop(store.turn(Digest::of(b"another")).await);
    assert!(store.0.writers.lock().expect("lock").len() <= 1, "ended writers are forgotten");
}

#[tokio::test]
async fn nobody_can_spoil_what_another_brings() {
    let dir = tempfile::tempdir().expect("dir");
    let store = MediaStore::open(dir.path(), &config()).expect("store");
    let data = Bytes::from(vec![7; 1_000]);
    let digest = Digest::of(&data);
    store.write_for("TW", digest, 1_000, 0, data.slice(..600)).await.expect("first");
    // Somebody who knows the digest announces another size, and rubbish.
    let rubbish = store.write_for("X9", digest, 1, 0, Bytes::from_static(b"!")).await;
    assert!(matches!(rubbish, Err(MediaStoreError::Mismatch { .. })));
    assert_eq!(store.stat_for("TW", digest).await.expect("stat"), MediaStat { held: 600, complete: false });
    assert!(store.write_for("TW", digest, 1_000, 600, data.slice(600..)).await.expect("rest").complete);
    assert!(store.stat_for("X9", digest).await.expect("stat").complete);
}
