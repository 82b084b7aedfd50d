//! The gateway on NATS JetStream: real servers, deleted messages, wiped nodes.
#![allow(unreachable_pub, reason = "one program")]

mod cluster;
mod exchange;
mod losses;
mod nats;
mod secure;
mod several;
mod start;
mod taking;
