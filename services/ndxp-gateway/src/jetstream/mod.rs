//! The gateway's store on NATS JetStream, for several gateway processes on one cluster.
//!
//! ```text
//!  stream httt-content ── subject httt.TW.all.content ── message: Httt-Sequence 7, Httt-Digest …, body: sealed batch
//! ```
//!
//! JetStream is transport, not truth. Each message is one sealed batch, untouched, one stream a lane; what is read is
//! verified again. Batches are published with the expected latest message of their subject, so of two processes that
//! take the same feed at once one is first, the other looks again. What was taken is what has a receipt: nothing else is
//! told or served, and a revocation names exactly that. What JetStream lost is found by sequence and digest and
//! asked of its origin (`StoreError::Away`, wants); the gateway's own feeds are whole in each process's log.
//! `docs/jetstream.md` says what follows from that for operators.

mod config;
mod connect;
mod durable;
mod fence;
mod fit;
mod follow;
mod headers;
mod index;
mod own;
mod shared;
mod status;
mod store;
mod subject;

use httt_exchange::StoreError;

pub use config::{JetStreamConfig, NatsTls, Settings};
pub use connect::Connection;
pub use shared::{MissingEntries, Own};
pub use status::{StoreStatus, StreamStatus};
pub use store::JetStreamStore;

/// Why the store does not start.
#[derive(Debug, thiserror::Error)]
pub enum JetStreamError {
    /// The configuration.
    #[error("[exchange.store.jetstream] {0}")]
    Config(String),
    /// The servers.
    #[error("NATS at {servers}: {cause}")]
    Connect {
        /// Those configured.
        servers: String,
        /// What is wrong.
        cause: String,
    },
    /// The servers may lose what they acknowledged.
    #[error(
        "máy chủ NATS không hứa giữ những gì đã xác nhận: {0}. Hãy dùng NATS từ 2.10 với `jetstream {{ sync_interval: \
         always }}` trên mọi máy chủ và ghi `monitors` đủ từng máy, hoặc đặt `allow_volatile = true` nếu chấp nhận mất \
         dữ liệu khi mất điện. (The NATS servers do not promise to keep what they acknowledge: {0}. Use NATS 2.10 or \
         later with `jetstream {{ sync_interval: always }}` on every server and name each in `monitors`, or set \
         `allow_volatile = true` to accept that a power cut loses entries.)"
    )]
    Volatile(String),
    /// A stream that is there would lose entries.
    #[error(
        "luồng {stream} trên máy chủ NATS không dùng được: {vi}. Hãy sửa luồng bằng `nats stream edit {stream}`, hoặc \
         xóa luồng: cổng sẽ tạo lại và hỏi lại các nguồn những gì luồng đã giữ. (Stream {stream} on the NATS servers \
         cannot be used: {en}. Change it with `nats stream edit {stream}`, or delete it: the gateway makes it anew and \
         asks the origins for what it held.)"
    )]
    Stream {
        /// Its name.
        stream: String,
        /// What is wrong, Vietnamese.
        vi: String,
        /// What is wrong, English.
        en: String,
    },
    /// What the streams have cannot be taken in.
    #[error("the streams cannot be taken in: {0}")]
    Start(#[from] StoreError),
}
