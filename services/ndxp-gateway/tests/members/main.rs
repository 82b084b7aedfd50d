//! Members of the gateway: files, rules, the API by which operators change them, and what they get of old entries.

mod admission;
mod common;
mod files;
mod member;
#[path = "../jetstream/nats.rs"]
#[allow(dead_code, unreachable_pub, reason = "the other tests use the rest")]
mod nats;
mod orders;
mod restored;
mod retention;
mod rotation;
mod rules;
mod shared;
mod stolen;
