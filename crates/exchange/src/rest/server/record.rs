//! What is kept of every call: who, what, how much, with what result, how long. No secret and no payload.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Status of a call whose caller went away before it was answered, as proxies write it.
pub const CUT: u16 = 499;

/// One call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallRecord {
    /// When it came, Unix ms.
    pub at_ms: i64,
    /// The client; empty when it is not known who called.
    pub client: String,
    /// The member it speaks for; empty likewise.
    pub member: String,
    /// Where it came from; behind a proxy, the proxy.
    pub address: String,
    /// HTTP method.
    pub method: String,
    /// The route, with names in the place of its parts.
    pub route: String,
    /// The feed it was about, `H24→TW/status`; empty for others.
    pub feed: String,
    /// Bytes of the body it brought.
    pub bytes_in: u64,
    /// Bytes of the body it was answered with.
    pub bytes_out: u64,
    /// HTTP status; [`CUT`]: the caller went away.
    pub status: u16,
    /// The refusal in the answer, `GAP`; empty for none.
    pub refusal: String,
    /// Time taken, waiting for news included, ms.
    pub duration_ms: u64,
}

/// Where records go. Called when a call ends; must not block.
pub type CallSink = Arc<dyn Fn(CallRecord) + Send + Sync>;

/// Hands the record over when the call ends, however it ends.
pub(super) struct Recording {
    pub(super) record: CallRecord,
    began: tokio::time::Instant,
    sink: CallSink,
}

impl Recording {
    pub(super) fn begin(record: CallRecord, sink: CallSink) -> Self {
        Self { record: CallRecord { status: CUT, ..record }, began: tokio::time::Instant::now(), sink }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.record.duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        (self.sink)(std::mem::take(&mut self.record));
    }
}
