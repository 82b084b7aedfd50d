//! What the folder holds, counted: how much room there is, and what goes when there is none.
//!
//! Complete files that need not stay are dropped, least recently used first, when something else needs the room.
//! Unfinished files count too; they are dropped when nobody continued them for a day.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, Metadata};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use httt_feed::Digest;
use tokio::sync::watch;

use super::{MediaConfig, MediaStoreError, OWN, files};
use crate::clock::Clock;

/// How long an unfinished file waits for who brought it.
pub(super) const PART_IDLE: Duration = Duration::from_secs(24 * 3_600);
/// A file's last use is written beside it at most so often: it decides what goes first after a restart, no more.
const USE_GRAIN: Duration = Duration::from_secs(3_600);
/// When room is made, this part of the limit is freed besides, so that not every piece has to look for the oldest file.
const SPARE: u64 = 32;

/// Which complete files must stay in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinned {
    /// All of them: nobody else must have them.
    All,
    /// These; others can be fetched again.
    These(HashSet<Digest>),
    /// All but these, which can be fetched again.
    AllBut(HashSet<Digest>),
}

impl Pinned {
    /// None of them: everything here is a copy.
    pub fn nothing() -> Self {
        Self::These(HashSet::new())
    }

    fn has(&self, digest: &Digest) -> bool {
        match self {
            Self::All => true,
            Self::These(digests) => digests.contains(digest),
            Self::AllBut(digests) => !digests.contains(digest),
        }
    }
}

type AskPinned = Arc<dyn Fn() -> Pinned + Send + Sync>;

/// How much the folder holds and may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaUsage {
    /// Complete files.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
    /// Unfinished files.
    pub parts: u64,
    /// Their bytes, and those of uploads under way.
    pub part_bytes: u64,
    /// Complete files dropped since the start, to make room.
    pub dropped: u64,
    /// Complete files found lost or spoilt since the start.
    pub lost: u64,
    /// Unfinished files and their bytes, by the member that brings them.
    pub members: BTreeMap<String, (u64, u64)>,
}

struct Kept {
    size: u64,
    /// Unix ms, and a count that tells uses within one ms apart.
    used: (i64, u64),
    /// The last use that is written beside the file.
    written_ms: i64,
}

struct Part {
    bytes: u64,
    touched_ms: i64,
}

type PartKey = (String, Digest);

#[derive(Default)]
struct State {
    files: HashMap<Digest, Kept>,
    file_bytes: u64,
    parts: HashMap<PartKey, Part>,
    part_bytes: u64,
    upload_bytes: u64,
    uses: u64,
    dropped: u64,
}

impl State {
    fn used(&self) -> u64 {
        self.file_bytes + self.part_bytes + self.upload_bytes
    }

    fn forget_file(&mut self, digest: &Digest) -> bool {
        let kept = self.files.remove(digest);
        self.file_bytes -= kept.as_ref().map_or(0, |kept| kept.size);
        kept.is_some()
    }

    fn forget_part(&mut self, key: &PartKey) {
        self.part_bytes -= self.parts.remove(key).map_or(0, |part| part.bytes);
    }

    fn set_part(&mut self, key: PartKey, bytes: u64, touched_ms: i64) {
        self.forget_part(&key);
        self.part_bytes += bytes;
        self.parts.insert(key, Part { bytes, touched_ms });
    }

    fn of_member(&self, writer: &str) -> (usize, u64) {
        let own = self.parts.iter().filter(|((whose, _), _)| whose == writer);
        own.fold((0, 0), |(count, bytes), (_, part)| (count + 1, bytes + part.bytes))
    }
}

pub(super) struct Ledger {
    folder: PathBuf,
    limits: MediaConfig,
    clock: Clock,
    pinned: RwLock<AskPinned>,
    /// Never held while `pinned` is asked: that may wait for locks of others.
    state: Mutex<State>,
    losses: watch::Sender<u64>,
}

impl Ledger {
    /// Until somebody says otherwise, every complete file must stay.
    pub(super) fn new(folder: PathBuf, limits: MediaConfig, clock: Clock) -> Self {
        let pinned: AskPinned = Arc::new(|| Pinned::All);
        let (losses, _) = watch::channel(0);
        Self { folder, limits, clock, pinned: RwLock::new(pinned), state: Mutex::default(), losses }
    }

    pub(super) fn limits(&self) -> &MediaConfig {
        &self.limits
    }

    pub(super) fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    pub(super) fn pin(&self, pinned: impl Fn() -> Pinned + Send + Sync + 'static) {
        *self.pinned.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pinned);
    }

    /// Counts the losses; changes are told.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }

    /// The size of a complete file, as far as is known.
    pub(super) fn known(&self, digest: &Digest) -> Option<u64> {
        self.state().files.get(digest).map(|kept| kept.size)
    }

    /// Complete files and their sizes.
    pub(super) fn files(&self) -> Vec<(Digest, u64)> {
        self.state().files.iter().map(|(digest, kept)| (*digest, kept.size)).collect()
    }

    /// A complete file is there, just now.
    pub(super) fn keep(&self, digest: Digest, size: u64) {
        self.keep_since(digest, size, self.now_ms());
    }

    /// A complete file is there, last used at `used_ms`.
    fn keep_since(&self, digest: Digest, size: u64, used_ms: i64) {
        let mut state = self.state();
        state.forget_file(&digest);
        state.uses += 1;
        let used = (used_ms, state.uses);
        state.file_bytes += size;
        state.files.insert(digest, Kept { size, used, written_ms: used_ms });
    }

    /// A complete file was read.
    pub(super) fn touch(&self, digest: &Digest, file: &File) {
        let now = self.now_ms();
        let mut state = self.state();
        state.uses += 1;
        let used = (now, state.uses);
        let Some(kept) = state.files.get_mut(digest) else { return };
        kept.used = used;
        if now - kept.written_ms < millis(USE_GRAIN) {
            return;
        }
        kept.written_ms = now;
        drop(state);
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(now).unwrap_or_default());
        // Not worth a word: after a restart the file counts as older than it is.
        let _ = file.set_modified(at);
    }

    /// A complete file that should be there is not, or has other bytes.
    pub(super) fn lost(&self, digest: &Digest, why: &str) {
        self.state().forget_file(digest);
        tracing::error!(sha256 = %digest, why, "a media file was lost; it has to be brought or fetched again");
        self.losses.send_modify(|losses| *losses += 1);
    }

    /// An unfinished file has so many bytes; `None`: it is gone.
    pub(super) fn part(&self, writer: &str, digest: Digest, bytes: Option<u64>) {
        let (key, now) = ((writer.to_owned(), digest), self.now_ms());
        match bytes {
            Some(bytes) => self.state().set_part(key, bytes, now),
            None => self.state().forget_part(&key),
        }
    }

    /// Whether `writer` has an unfinished file of this digest.
    pub(super) fn has_part(&self, writer: &str, digest: Digest) -> bool {
        self.state().parts.contains_key(&(writer.to_owned(), digest))
    }

    /// Somebody continues an unfinished file, if there is one: it does not go meanwhile.
    pub(super) fn continues(&self, writer: &str, digest: Digest) {
        let now = self.now_ms();
        if let Some(part) = self.state().parts.get_mut(&(writer.to_owned(), digest)) {
            part.touched_ms = now;
        }
    }

    /// Takes room for an unfinished file that grows to `end` bytes. Blocking.
    pub(super) fn grow_part(&self, writer: &str, digest: Digest, end: u64) -> Result<(), MediaStoreError> {
        let now = self.now_ms();
        self.sweep(now)?;
        let key = (writer.to_owned(), digest);
        let before = {
            let state = self.state();
            let before = state.parts.get(&key).map(|part| part.bytes);
            if writer != OWN {
                self.check_quota(&state, writer, before, end)?;
            }
            before
        };
        self.with_room(end.saturating_sub(before.unwrap_or(0)))?.set_part(key, end, now);
        Ok(())
    }

    fn check_quota(&self, state: &State, writer: &str, before: Option<u64>, end: u64) -> Result<(), MediaStoreError> {
        let (parts, bytes) = state.of_member(writer);
        let (max_parts, max_bytes) = (self.limits.max_member_parts, self.limits.max_member_part_bytes);
        let one_more = usize::from(before.is_none());
        let more = end.saturating_sub(before.unwrap_or(0));
        if parts + one_more > max_parts || bytes.saturating_add(more) > max_bytes {
            return Err(MediaStoreError::Quota { writer: writer.to_owned(), parts, bytes, max_parts, max_bytes });
        }
        Ok(())
    }

    /// Takes room for an upload or a fetched copy. Blocking.
    pub(super) fn grow_upload(&self, bytes: u64) -> Result<(), MediaStoreError> {
        self.sweep(self.now_ms())?;
        self.with_room(bytes)?.upload_bytes += bytes;
        Ok(())
    }

    /// An upload ended, whatever became of it.
    pub(super) fn end_upload(&self, bytes: u64) {
        self.state().upload_bytes -= bytes;
    }

    pub(super) fn usage(&self) -> MediaUsage {
        let state = self.state();
        let mut members: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for ((writer, _), part) in state.parts.iter().filter(|((writer, _), _)| writer != OWN) {
            let member = members.entry(writer.clone()).or_default();
            *member = (member.0 + 1, member.1 + part.bytes);
        }
        MediaUsage {
            files: state.files.len() as u64,
            file_bytes: state.file_bytes,
            parts: state.parts.len() as u64,
            part_bytes: state.part_bytes + state.upload_bytes,
            dropped: state.dropped,
            lost: *self.losses.borrow(),
            members,
        }
    }

    /// Drops unfinished files that nobody has continued for [`PART_IDLE`]. Blocking.
    pub(super) fn sweep(&self, now_ms: i64) -> Result<(), MediaStoreError> {
        let mut state = self.state();
        let idle = |part: &Part| now_ms - part.touched_ms > millis(PART_IDLE);
        let stale: Vec<PartKey> =
            state.parts.iter().filter(|(_, part)| idle(part)).map(|(key, _)| key.clone()).collect();
        for key in stale {
            let path = files::part(&files::path(&self.folder, &key.1), &key.0);
            tracing::info!(path = %path.display(), "removing an unfinished file nobody continues");
            files::discard(&path)?;
            state.forget_part(&key);
        }
        Ok(())
    }

    /// The state, with room for `needed` more bytes. Drops what need not stay, oldest first; nothing when that would not
    /// be enough.
    fn with_room(&self, needed: u64) -> Result<MutexGuard<'_, State>, MediaStoreError> {
        let limit = self.limits.max_store_bytes;
        let state = self.state();
        if state.used().saturating_add(needed) <= limit {
            return Ok(state);
        }
        drop(state);
        let ask = Arc::clone(&self.pinned.read().unwrap_or_else(PoisonError::into_inner));
        let pinned = ask();
        let mut state = self.state();
        let mut loose: Vec<(Digest, u64, (i64, u64))> = state
            .files
            .iter()
            .filter(|(digest, _)| !pinned.has(digest))
            .map(|(digest, kept)| (*digest, kept.size, kept.used))
            .collect();
        let may_go: u64 = loose.iter().map(|(_, size, _)| size).sum();
        let stays = state.used() - may_go;
        if stays.saturating_add(needed) > limit {
            return Err(MediaStoreError::Full { used: stays, limit, needed });
        }
        loose.sort_by_key(|(_, _, used)| *used);
        for (digest, ..) in loose {
            if state.used().saturating_add(needed) <= limit - limit / SPARE {
                break;
            }
            let path = files::path(&self.folder, &digest);
            tracing::info!(path = %path.display(), "dropping a media file to make room; it can be fetched again");
            files::discard(&path)?;
            state.forget_file(&digest);
            state.dropped += 1;
        }
        Ok(state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what is in the folder when the store opens. Blocking.
    pub(super) fn count(&self) -> Result<(), MediaStoreError> {
        files::walk(&self.folder, &mut |name: &str, metadata: &Metadata| {
            let changed = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let changed_ms = changed.map_or(0, millis);
            match files::read_name(name) {
                Some((digest, None)) => self.keep_since(digest, metadata.len(), changed_ms),
                Some((digest, Some(writer))) => {
                    self.state().set_part((writer.to_owned(), digest), metadata.len(), changed_ms);
                }
                None => {}
            }
        })?;
        self.sweep(self.now_ms())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
