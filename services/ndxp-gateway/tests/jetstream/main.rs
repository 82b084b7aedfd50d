//! The gateway on NATS JetStream: real servers, deleted messages, wiped nodes.
#![allow(unreachable_pub, reason = "one program")]

mod byhand;
mod cluster;
mod exchange;
mod following;
mod losses;
mod nats;
mod proxy;
mod revoking;
mod secure;
mod several;
mod start;
mod taking;
