//! Long-polls: who waits for news, and who is woken by what.
//!
//! A batch wakes those who may read its feed and nobody else, so that thousands who wait cost nothing while others
//! talk. One task looks at what came in; the wait of each caller is one entry in a table.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};

use httt_feed::{AgencyCode, Directory, FeedId, Lane};
use tokio::sync::Notify;

use crate::{SharedDirectory, Store};

/// What there is to wait for, and who waits.
pub(crate) struct News {
    store: Arc<dyn Store>,
    directory: SharedDirectory,
    /// Long-polls of one member under way at once.
    most: usize,
    waiting: Mutex<HashMap<AgencyCode, VecDeque<Arc<Waiter>>>>,
    listening: Once,
}

#[derive(Debug, Default)]
struct Waiter {
    woken: Notify,
    ended: AtomicBool,
}

/// One long-poll. Whatever comes after it was made wakes it.
pub(crate) struct Poll<'a> {
    news: &'a News,
    caller: AgencyCode,
    waiter: Arc<Waiter>,
}

impl News {
    pub(crate) fn new(store: Arc<dyn Store>, directory: SharedDirectory, most: usize) -> Self {
        let waiting = Mutex::default();
        Self { store, directory, most: most.max(1), waiting, listening: Once::new() }
    }

    /// Begins a long-poll of `caller`; if it has too many, the oldest ends.
    pub(crate) fn poll(self: &Arc<Self>, caller: &AgencyCode) -> Poll<'_> {
        self.listening.call_once(|| {
            // Not kept alive by the task: the log's folder is to be free when the service is gone.
            let (news, mut length) = (Arc::downgrade(self), self.store.watch());
            let mut since = *length.borrow_and_update();
            tokio::spawn(async move {
                while length.changed().await.is_ok() {
                    let now = *length.borrow_and_update();
                    let Some(news) = Weak::upgrade(&news) else { return };
                    news.tell(since);
                    since = now;
                }
            });
        });
        let waiter = Arc::new(Waiter::default());
        let mut waiting = self.waiting();
        let polls = waiting.entry(caller.clone()).or_default();
        polls.push_back(Arc::clone(&waiter));
        if polls.len() > self.most
            && let Some(oldest) = polls.pop_front()
        {
            oldest.ended.store(true, Ordering::Release);
            oldest.woken.notify_one();
        }
        drop(waiting);
        Poll { news: self, caller: caller.clone(), waiter }
    }

    /// Long-polls under way.
    pub(crate) fn count(&self) -> usize {
        self.waiting().values().map(VecDeque::len).sum()
    }

    /// Wakes whom the feeds concern that changed at or after `since`.
    fn tell(&self, since: u64) {
        let changed = self.store.heads(since);
        let directory = self.directory.get();
        // The directory gives and takes rights: each must look for itself.
        let all = changed.iter().any(|head| head.feed.lane == Lane::Directory);
        if all || changed.iter().any(|head| directory.readers(&head.feed).is_none()) {
            self.waiting().values().flatten().for_each(|waiter| waiter.woken.notify_one());
            return;
        }
        for head in changed {
            self.wake(directory.readers(&head.feed).unwrap_or_default());
        }
    }

    /// Wakes those who may push `feed`.
    pub(crate) fn tell_pushers(&self, directory: &Directory, feed: &FeedId) {
        let carriers = directory.member(&feed.origin).into_iter().flat_map(|member| member.carriers());
        self.wake(carriers.chain([&feed.origin]));
    }

    fn wake<'a>(&self, members: impl IntoIterator<Item = &'a AgencyCode>) {
        let waiting = self.waiting();
        members
            .into_iter()
            .filter_map(|member| waiting.get(member))
            .flatten()
            .for_each(|waiter| waiter.woken.notify_one());
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<AgencyCode, VecDeque<Arc<Waiter>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poll<'_> {
    /// Waits for something that may be news to the caller; false: the poll is over, since the caller has too many.
    pub(crate) async fn woken(&self) -> bool {
        self.waiter.woken.notified().await;
        !self.waiter.ended.load(Ordering::Acquire)
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        let mut waiting = self.news.waiting();
        if let Some(polls) = waiting.get_mut(&self.caller) {
            polls.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
            if polls.is_empty() {
                waiting.remove(&self.caller);
            }
        }
    }
}
