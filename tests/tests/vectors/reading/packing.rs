//! Packed entries, unpacked as a stream.

use std::io::Read as _;

use httt_wire::Message as _;
use httt_wire::exchange::Entries;
use serde_json::Value;

use super::{MALFORMED, bytes_of, list, sha256, text, unhex};

fn unpacked(dictionary: &[u8], most: u64, plain: Vec<Vec<u8>>, packed: &[u8]) -> Result<Vec<Vec<u8>>, i64> {
    if packed.is_empty() {
        return Ok(plain);
    }
    if !plain.is_empty() {
        return Err(MALFORMED);
    }
    let decoder = zstd::stream::Decoder::with_dictionary(packed, dictionary).map_err(|_| MALFORMED)?;
    let mut message = Vec::new();
    let read = decoder.take(most + 1).read_to_end(&mut message).map_err(|_| MALFORMED)?;
    if read as u64 > most {
        return Err(MALFORMED);
    }
    let message = Entries::decode(&message[..]).map_err(|_| MALFORMED)?;
    Ok(message.entries.into_iter().map(Into::into).collect())
}

pub(crate) fn packings(vectors: &Value) {
    let dictionary = unhex(&vectors["dictionary"]["bytes"]);
    assert_eq!(hex::encode(sha256(&dictionary)), text(&vectors["dictionary"]["sha256"]));
    let most = vectors["max_unpacked_bytes"].as_u64().expect("a limit");
    assert_eq!(most, 1_114_112, "as the description says");
    for case in list(&vectors["cases"]) {
        let name = text(&case["name"]);
        let plain = list(&case["entries"]).iter().map(bytes_of).collect();
        let packed = bytes_of(&case["packed"]);
        let given = unpacked(&dictionary, most, plain, &packed);
        assert_eq!(case["expected"]["number"].as_i64(), Some(given.as_ref().err().copied().unwrap_or(0)), "{name}");
        let expected = case["unpacked"].as_array().map(|entries| entries.iter().map(bytes_of).collect::<Vec<_>>());
        assert!(given.ok() == expected, "{name}");
        // A member that forgot the dictionary is to notice it here.
        if name == "with-dictionary" {
            assert!(unpacked(&[], most, vec![], &packed).ok() != expected, "{name}: it needs the dictionary");
        }
    }
}
