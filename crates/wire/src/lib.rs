//! The wire contract: types generated from `proto/httt/…`, and their descriptors.
//!
//! Nothing here decides anything. The one helper is [`json`], because the descriptors travel with the program.

pub mod json;

/// The packages as `proto/` nests them; use the short names below.
mod httt {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    pub mod feed {
        pub mod v1 {
            tonic::include_proto!("httt.feed.v1");
        }
    }
    pub mod exchange {
        pub mod v1 {
            tonic::include_proto!("httt.exchange.v1");
        }
    }
    pub mod directory {
        pub mod v1 {
            tonic::include_proto!("httt.directory.v1");
        }
    }
    pub mod bulletin {
        pub mod v1 {
            tonic::include_proto!("httt.bulletin.v1");
        }
    }
    pub mod cluster {
        pub mod v1 {
            tonic::include_proto!("httt.cluster.v1");
        }
    }
    pub mod report {
        pub mod v1 {
            tonic::include_proto!("httt.report.v1");
        }
    }
    pub mod carry {
        pub mod v1 {
            tonic::include_proto!("httt.carry.v1");
        }
    }
}

#[doc(inline)]
/// Bulletins and their delivery (`httt.bulletin.v1`).
pub use httt::bulletin::v1 as bulletin;
#[doc(inline)]
/// Feeds carried by hand (`httt.carry.v1`).
pub use httt::carry::v1 as carry;
#[doc(inline)]
/// Clusters, schedules, playback (`httt.cluster.v1`).
pub use httt::cluster::v1 as cluster;
#[doc(inline)]
/// Members, keys and rights (`httt.directory.v1`).
pub use httt::directory::v1 as directory;
#[doc(inline)]
/// The copying protocol (`httt.exchange.v1`).
pub use httt::exchange::v1 as exchange;
#[doc(inline)]
/// Sealed batches (`httt.feed.v1`).
pub use httt::feed::v1 as feed;
#[doc(inline)]
/// Statistics (`httt.report.v1`).
pub use httt::report::v1 as report;
pub use json::{ToJsonError, to_json};
pub use prost::{Message, Name, bytes::Bytes};

/// Every message of `proto/`, as an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/httt.descriptors"));
