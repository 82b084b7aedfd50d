//! Messages as JSON.
//!
//! [`to_json`] shows any event to a person. [`encode`] and [`decode`] are the JSON mapping of proto3, for peers that
//! speak no protobuf: `bytes` in base64, so that what they carry comes back the same.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{
    Cardinality, DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor,
    SerializeOptions,
};
use serde_json::{Value, json};

use crate::DESCRIPTORS;

/// Why a message could not be shown as JSON.
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

/// Why JSON is not the message it should be. The text names line, column and field.
#[derive(Debug, thiserror::Error)]
#[error("not the JSON form of {message}: {cause}")]
pub struct FromJsonError {
    message: String,
    cause: String,
}

/// What [`encode`] writes and [`decode`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Written: every field. Taken: known fields only, since a misspelt one would be lost in silence.
    Whole,
    /// Written: what differs from its default. Taken: fields of later versions, which are left out.
    Brief,
}

/// The protobuf JSON form of `data`, a message whose full name is `type_name`, with the field names of the
/// `.proto` files and every field present.
pub fn to_json(type_name: &str, data: &[u8]) -> Result<Value, ToJsonError> {
    let message = dynamic(type_name, data)?;
    let options =
        SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false).stringify_64_bit_integers(false);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// `message` in the JSON mapping of proto3: names in lowerCamelCase, 64-bit numbers as text, bytes in base64.
///
/// # Errors
/// None for messages of `proto/`.
pub fn encode<T: Message + Name>(message: &T, strictness: Strictness) -> Result<Vec<u8>, ToJsonError> {
    let message = dynamic(&T::full_name(), &message.encode_to_vec())?;
    let options = SerializeOptions::new().skip_default_fields(strictness == Strictness::Brief);
    let mut out = Vec::new();
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut out), &options)?;
    Ok(out)
}

/// Reads what [`encode`] writes; names as in the `.proto` files and plain numbers are taken, too. Limit the size before.
///
/// # Errors
/// It is no JSON, or not of this message.
pub fn decode<T: Message + Name + Default>(text: &[u8], strictness: Strictness) -> Result<T, FromJsonError> {
    let wrong = |cause: String| FromJsonError { message: T::full_name(), cause };
    let descriptor = descriptor(&T::full_name()).ok_or_else(|| wrong("unknown message type".into()))?;
    let options = DeserializeOptions::new().deny_unknown_fields(strictness == Strictness::Whole);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let message = DynamicMessage::deserialize_with_options(descriptor, &mut reader, &options)
        .and_then(|message| reader.end().map(|()| message))
        .map_err(|error| wrong(error.to_string()))?;
    message.transcode_to().map_err(|error| wrong(error.to_string()))
}

/// The JSON schemas of the messages named `names` and of those they are made of, by full name, for API descriptions.
/// References begin with `prefix`.
pub fn schemas(names: &[String], prefix: &str) -> serde_json::Map<String, Value> {
    let mut schemas = serde_json::Map::new();
    let mut open: Vec<MessageDescriptor> = names.iter().filter_map(|name| descriptor(name)).collect();
    while let Some(message) = open.pop() {
        if schemas.contains_key(message.full_name()) {
            continue;
        }
        let properties: serde_json::Map<String, Value> = message
            .fields()
            .map(|field| {
                if let Kind::Message(of) = field.kind() {
                    open.push(of);
                }
                (field.json_name().to_owned(), schema(&field, prefix))
            })
            .collect();
        let described = json!({ "type": "object", "properties": properties });
        schemas.insert(message.full_name().to_owned(), described);
    }
    schemas
}

fn schema(field: &FieldDescriptor, prefix: &str) -> Value {
    let one = match field.kind() {
        Kind::Message(of) => json!({ "$ref": format!("{prefix}{}", of.full_name()) }),
        Kind::Enum(of) => {
            let values: Vec<String> = of.values().map(|value| value.name().to_owned()).collect();
            json!({ "type": "string", "enum": values })
        }
        Kind::String => json!({ "type": "string" }),
        Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Double | Kind::Float => json!({ "type": "number" }),
        Kind::Int32 | Kind::Uint32 | Kind::Sint32 | Kind::Fixed32 | Kind::Sfixed32 => json!({ "type": "integer" }),
        Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => {
            json!({ "type": "string", "pattern": "^-?[0-9]+$" })
        }
    };
    if field.cardinality() == Cardinality::Repeated { json!({ "type": "array", "items": one }) } else { one }
}

fn descriptor(type_name: &str) -> Option<MessageDescriptor> {
    static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).ok());
    POOL.as_ref().and_then(|pool| pool.get_message_by_name(type_name))
}

fn dynamic(type_name: &str, data: &[u8]) -> Result<DynamicMessage, ToJsonError> {
    let descriptor = descriptor(type_name).ok_or_else(|| ToJsonError::UnknownType(type_name.to_owned()))?;
    DynamicMessage::decode(descriptor, data).map_err(|error| ToJsonError::Undecodable(type_name.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bulletin, exchange};

    #[test]
    fn an_event_reads_as_json_by_its_type_name() {
        let event = bulletin::BulletinWithdrawn { bulletin: "b1".into(), reason: "sai nội dung".into() };
        let json = to_json(&bulletin::BulletinWithdrawn::full_name(), &event.encode_to_vec()).expect("json");
        assert_eq!(json, json!({"bulletin": "b1", "reason": "sai nội dung"}));
        assert!(matches!(to_json("nobody.v1.Knows", &[]), Err(ToJsonError::UnknownType(_))));
        assert!(matches!(
            to_json(&bulletin::BulletinWithdrawn::full_name(), &[0xff]),
            Err(ToJsonError::Undecodable(..))
        ));
    }

    fn push() -> exchange::PushRequest {
        let feed = exchange::FeedId { origin: "H24".into(), audience: "*".into(), lane: 1 };
        let entries = vec![vec![0_u8, 255, 10, 34].into(), vec![].into()];
        exchange::PushRequest { feed: Some(feed), entries, ..Default::default() }
    }

    #[test]
    fn bytes_come_back_from_json_untouched() {
        for strictness in [Strictness::Whole, Strictness::Brief] {
            let text = encode(&push(), strictness).expect("json");
            assert_eq!(decode::<exchange::PushRequest>(&text, strictness).expect("message"), push());
        }
        let brief: Value = serde_json::from_slice(&encode(&push(), Strictness::Brief).expect("json")).expect("json");
        assert_eq!(brief["entries"], json!(["AP8KIg==", ""]));
        assert_eq!(brief.get("again"), None);
    }

    #[test]
    fn a_misspelt_field_is_told_to_whoever_wrote_it_and_one_of_a_later_version_is_left_out() {
        let text = br#"{"entires": []}"#;
        let told = decode::<exchange::PushRequest>(text, Strictness::Whole).expect_err("misspelt").to_string();
        assert!(told.contains("entires") && told.contains("line 1"), "{told}");
        assert!(decode::<exchange::PushRequest>(text, Strictness::Brief).is_ok());
    }

    #[test]
    fn names_of_the_proto_files_and_plain_numbers_are_taken() {
        let text = br#"{"feed": {"origin": "H24"}, "sequence": 7}"#;
        assert_eq!(decode::<exchange::Head>(text, Strictness::Whole).expect("head").sequence, 7);
        let text = br#"{"log_id": "AQI=", "wait_ms": 5, "after": "9"}"#;
        let heads: exchange::HeadsRequest = decode(text, Strictness::Whole).expect("request");
        assert_eq!((heads.log_id, heads.wait_ms, heads.after), (vec![1, 2], 5, 9));
    }

    #[test]
    fn schemas_name_everything_they_refer_to() {
        let schemas = schemas(&[exchange::PushRequest::full_name()], "#/");
        let text = Value::Object(schemas.clone()).to_string();
        assert!(text.contains("base64") && schemas.contains_key("httt.exchange.v1.FeedId"));
        for reference in text.split(r#""$ref":"#).skip(1) {
            let name = reference.trim_matches('"').split('"').next().expect("a name").trim_start_matches("#/");
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
