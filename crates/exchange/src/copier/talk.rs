//! What a copier is told and what it wants done, and how a peer's answers read.

use std::sync::Arc;

use bytes::Bytes;
use httt_feed::{Digest, Directory, FeedId, Head, Refusal, VerifiedBatch};
use httt_wire::exchange::{self as wire, RefusalCode};

use crate::refusal::refused;

/// What a [`Copier`](super::Copier) is told.
#[derive(Debug)]
pub enum Input {
    /// The head of a feed in this node's log (changed).
    LocalHead(FeedId, Head),
    /// The directory (changed).
    Directory(Arc<Directory>),
    /// Answer to [`Action::AskHeads`].
    Heads {
        /// As in the question.
        call: u64,
        /// Identity of the peer's log.
        log_id: Vec<u8>,
        /// Where that log stands.
        position: u64,
        /// Feeds that changed.
        heads: Vec<(FeedId, Head)>,
        /// Heads were left out: they are asked for at once.
        more: bool,
        /// What the peer let go or lost: (feed, after this sequence, up to that one).
        wants: Vec<(FeedId, u64, u64)>,
    },
    /// The peer answered [`Action::AskHeads`] with a refusal.
    HeadsRefused {
        /// As in the question.
        call: u64,
        /// Why, and when to come back (ms).
        refused: (RefusalCode, u32),
        /// What the peer had said itself and lost: (feed, after this sequence, up to that one).
        wants: Vec<(FeedId, u64, u64)>,
    },
    /// Answer to [`Action::Ask`].
    Entries {
        /// As in the question.
        call: u64,
        /// The feed asked for.
        feed: FeedId,
        /// What came, in order.
        entries: Vec<Bytes>,
        /// The peer's refusal and when to come back (ms), if it refused.
        refused: Option<(RefusalCode, u32)>,
    },
    /// Outcome of [`Action::Store`]: on disk, or why not.
    Stored {
        /// The feed.
        feed: FeedId,
        /// The feed's head now; `Err(Some)`: the log refused the batches; `Err(None)`: the log could not write.
        result: Result<Head, Option<Refusal>>,
    },
    /// Answer to [`Action::Push`].
    Pushed {
        /// As in the question.
        call: u64,
        /// The feed.
        feed: FeedId,
        /// Where it stands at the peer now.
        head: Option<Head>,
        /// The peer's refusal and when to come back (ms), if it refused.
        refused: Option<(RefusalCode, u32)>,
    },
    /// Outcome of [`Action::PushAgain`].
    PushedAgain {
        /// As in the question.
        call: u64,
        /// The feed.
        feed: FeedId,
        /// The last sequence that was sent.
        last: u64,
        /// The peer's refusal and when to come back (ms), if it refused. [`RefusalCode::NotFound`]: nothing was sent, for
        /// this node does not have it, and the peer was told so.
        refused: Option<(RefusalCode, u32)>,
    },
    /// This call for heads got no answer.
    HeadsFailed(u64),
    /// A call about a feed got no answer.
    CallFailed {
        /// Which.
        call: u64,
        /// The feed.
        feed: FeedId,
    },
    /// The log says that this feed forked: it stands still until an operator decides.
    Stopped(FeedId),
    /// Time passed.
    Tick,
}

impl Input {
    /// The answer to a call for heads; what in it makes no sense is left out.
    pub fn of_heads(call: u64, answer: wire::HeadsResponse) -> Self {
        let wants = answer.wants.iter().filter_map(want_from_wire).collect();
        match &answer.refusal {
            Some(refusal) => Self::HeadsRefused { call, refused: refused(refusal), wants },
            None => Self::Heads {
                call,
                heads: answer.heads.iter().filter_map(head_from_wire).collect(),
                wants,
                log_id: answer.log_id,
                position: answer.position,
                more: answer.more,
            },
        }
    }

    /// Which call about which feed this answers, if any.
    pub(crate) fn answers(&self) -> Option<(u64, &FeedId)> {
        match self {
            Self::Entries { call, feed, .. }
            | Self::Pushed { call, feed, .. }
            | Self::PushedAgain { call, feed, .. }
            | Self::CallFailed { call, feed } => Some((*call, feed)),
            _ => None,
        }
    }

    /// The answer to a push of `feed`.
    pub fn of_push(call: u64, feed: FeedId, answer: &wire::PushResponse) -> Self {
        let head = answer.head.as_ref().and_then(head_from_wire).map(|(_, head)| head);
        Self::Pushed { call, feed, head, refused: answer.refusal.as_ref().map(refused) }
    }

    /// The answer to a push of what was wanted of `feed`, up to `last`.
    pub fn of_push_again(call: u64, feed: FeedId, last: u64, answer: &wire::PushResponse) -> Self {
        Self::PushedAgain { call, feed, last, refused: answer.refusal.as_ref().map(refused) }
    }
}

/// What a [`Copier`](super::Copier) wants done. Each is answered by one input; should the answer to a call come again, it
/// tells nothing.
#[derive(Debug)]
pub enum Action {
    /// Ask the peer for heads.
    AskHeads {
        /// Names the call.
        call: u64,
        /// Of this log; empty at first.
        log_id: Vec<u8>,
        /// That changed at or after this position.
        after: u64,
        /// Whether the answer may wait for something new.
        wait: bool,
        /// What is held here of the gateway's own feeds, where all heads are asked for.
        held: Vec<(FeedId, Head)>,
    },
    /// Ask the peer for entries.
    Ask {
        /// Names the call.
        call: u64,
        /// Of this feed.
        feed: FeedId,
        /// After this sequence.
        after: u64,
        /// At most so many bytes.
        max_bytes: usize,
        /// Nothing of it is held, and it may be taken up where it last restates.
        from_restated: bool,
    },
    /// Append verified batches to the log.
    Store {
        /// The feed.
        feed: FeedId,
        /// In sequence.
        batches: Vec<VerifiedBatch>,
    },
    /// Push entries of this log.
    Push {
        /// Names the call.
        call: u64,
        /// Of this feed.
        feed: FeedId,
        /// After this sequence.
        after: u64,
        /// At most so many bytes.
        max_bytes: usize,
    },
    /// Push entries that the peer had and wants again.
    PushAgain {
        /// Names the call.
        call: u64,
        /// Of this feed.
        feed: FeedId,
        /// After this sequence,
        after: u64,
        /// up to this one.
        until: u64,
        /// At most so many bytes.
        max_bytes: usize,
    },
    /// Tell an operator. Needs no answer.
    Alarm(Alarm),
}

/// Something that honest parties do not do.
#[derive(Debug, Clone)]
pub struct Alarm {
    /// The feed.
    pub feed: FeedId,
    /// What is wrong.
    pub refusal: Refusal,
    /// The entry that shows it, where there is one.
    pub evidence: Option<Bytes>,
}

/// The head a peer's message names, or `None` when it makes no sense.
pub fn head_from_wire(head: &wire::Head) -> Option<(FeedId, Head)> {
    let feed = FeedId::from_wire(head.feed.as_ref()?).ok()?;
    let digest = Digest::from_slice(&head.digest)?;
    (head.sequence > 0).then_some((feed, Head { sequence: head.sequence, digest }))
}

/// The message form of a head.
pub fn head_to_wire(feed: &FeedId, head: Head) -> wire::Head {
    wire::Head { feed: Some(feed.to_wire()), sequence: head.sequence, digest: head.digest.0.to_vec() }
}

/// What a peer wants again, or `None` when it makes no sense.
fn want_from_wire(want: &wire::Want) -> Option<(FeedId, u64, u64)> {
    Some((FeedId::from_wire(want.feed.as_ref()?).ok()?, want.after, want.until))
}
