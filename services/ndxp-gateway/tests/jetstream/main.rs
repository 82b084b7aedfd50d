//! The gateway on NATS JetStream: real servers, deleted messages, wiped nodes.
#![allow(clippy::expect_used, reason = "tests")]

mod cluster;
mod exchange;
mod losses;
mod nats;
mod secure;
mod several;
mod start;
mod taking;
