//! The wire contract: types generated from `proto/httt/…`, and their descriptors.
//!
//! Nothing here decides anything. The one helper is [`to_json`], which shows any event to a person,
//! because the descriptors travel with the program.

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
pub use prost::{Message, Name, bytes::Bytes};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

/// Every message of `proto/`, as an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/httt.descriptors"));

/// Why an event could not be shown as JSON.
#[derive(Debug, thiserror::Error)]
pub enum ToJsonError {
    /// The type is of a later version of the contract, or of somebody else.
    #[error("this program does not know the message type {0}")]
    UnknownType(String),
    /// The bytes are not such a message.
    #[error("the bytes are not a {0}: {1}")]
    Undecodable(String, prost::DecodeError),
    /// JSON refused the value.
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The protobuf JSON form of `data`, a message whose full name is `type_name`, with the field names of the
/// `.proto` files and every field present.
pub fn to_json(type_name: &str, data: &[u8]) -> Result<serde_json::Value, ToJsonError> {
    static POOL: std::sync::LazyLock<Option<DescriptorPool>> =
        std::sync::LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).ok());
    let descriptor = POOL
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(type_name))
        .ok_or_else(|| ToJsonError::UnknownType(type_name.to_owned()))?;
    let message = DynamicMessage::decode(descriptor, data)
        .map_err(|error| ToJsonError::Undecodable(type_name.to_owned(), error))?;
    let options =
        SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false).stringify_64_bit_integers(false);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_as_json_by_its_type_name() {
        let event = bulletin::BulletinWithdrawn { bulletin: "b1".into(), reason: "sai nội dung".into() };
        let json = to_json(&bulletin::BulletinWithdrawn::full_name(), &event.encode_to_vec()).expect("json");
        assert_eq!(json, serde_json::json!({"bulletin": "b1", "reason": "sai nội dung"}));
        assert!(matches!(to_json("nobody.v1.Knows", &[]), Err(ToJsonError::UnknownType(_))));
        assert!(matches!(
            to_json(&bulletin::BulletinWithdrawn::full_name(), &[0xff]),
            Err(ToJsonError::Undecodable(..))
        ));
    }
}
