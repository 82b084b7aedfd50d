//! Members of the gateway: files, rules, and the API by which operators change them.

mod common;
mod files;
#[path = "../jetstream/nats.rs"]
#[allow(dead_code, unreachable_pub, reason = "the other tests use the rest")]
mod nats;
mod orders;
mod rotation;
mod rules;
mod shared;
